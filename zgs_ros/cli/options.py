"""What the commands share: options, settings from them, and errors that become one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from zgs_ros.profiles import PROFILE_NAMES
from zgs_ros.texts import printable_lines

NETWORK, BAGS = "Network", "Bags"
Params = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="ROS 2 parameters file, for example config/segment.yaml."),
]
Profile = Annotated[
    str | None, typer.Option(help=f"Named set of models and settings: {PROFILE_NAMES}.")
]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any setting, such as clip.sigma=2."),
]
Domain = Annotated[
    int | None,
    typer.Option(help="DDS domain; by default ROS_DOMAIN_ID.", rich_help_panel=NETWORK),
]
Local = Annotated[
    bool, typer.Option("--local", help="Use 127.0.0.1 only.", rich_help_panel=NETWORK)
]
Distro = Annotated[
    str | None,
    typer.Option(
        help="ROS distribution of the other nodes; by default ROS_DISTRO, else jazzy.",
        rich_help_panel=NETWORK,
    ),
]


@contextmanager
def command(within: float | None = None) -> Iterator[None]:
    """Runs a command: Ctrl-C and SIGTERM end it cleanly, expected errors become one line.

    The exit code is 2 for what the user can correct in the command or a settings file, and 1 for
    what went wrong on the way.

    Args:
        within: Seconds after Ctrl-C in which it ends, whatever is still at work then.
    """
    from zgs_ros.cli.process import configure_logging, until_interrupted

    configure_logging()
    try:
        with until_interrupted(within):
            yield
    except ValueError as error:  # SettingsError, SourceError and invalid names among them
        _fail(error, 2)
    except (RuntimeError, ImportError, OSError) as error:
        _fail(error, 1)


def node_settings(
    params: Path | None,
    flags: dict[str, Any],
    pairs: list[str],
    node: tuple[str, str] | None = None,
) -> Any:
    """Settings of a node from a parameters file, options, and KEY=VALUE pairs, which win.

    Args:
        params: The file.
        flags: Options; those that are None are not given.
        pairs: As the user wrote them.
        node: Namespace and name of the node, by default ``/zgs``: its blocks of the file apply.

    Raises:
        zgs_ros.config.SettingsError: For anything unknown or impossible among them.
    """
    return node_parameters(params, flags, pairs, node)[0]


def node_parameters(
    params: Path | None,
    flags: dict[str, Any],
    pairs: list[str],
    node: tuple[str, str] | None = None,
) -> tuple[Any, bool]:
    """Settings of a node as `node_settings`, and whether its parameter ``use_sim_time`` is true.

    Raises:
        zgs_ros.config.SettingsError: For anything unknown or impossible among them.
    """
    from zgs_ros.config import (
        NodeName,
        NodeSettings,
        SettingsError,
        flag_values,
        make_settings,
        read_parameters,
        read_value,
        shown,
        use_current_names,
        without_ros_parameters,
    )
    from zgs_ros.streaming.interface import check_cameras

    values = read_parameters(params, node or NodeName()) if params else {}
    given = flag_values(flags)
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise SettingsError(
                f"--set needs KEY=VALUE, for example clip.sigma=2, got {shown(pair)}"
            )
        try:
            given[key.strip()] = read_value(text)
        except SettingsError as error:
            raise SettingsError(f"--set {shown(pair)}: the value {error}") from None
    values.update(use_current_names(given))
    is_simulated = values.get("use_sim_time", False)
    try:
        if not isinstance(is_simulated, bool):
            raise SettingsError(f"use_sim_time: must be true or false, got {is_simulated!r}")
        settings = make_settings(NodeSettings, without_ros_parameters(values))
        check_cameras(settings)
        return settings, is_simulated
    except SettingsError as error:
        raise SettingsError(f"{params}: {error}" if params else str(error)) from None


def split(values: list[str] | None) -> list[str]:
    """What was given several times, or once with commas."""
    return [part.strip() for value in values or [] for part in value.split(",") if part.strip()]


def read_remappings(rules: list[str]) -> dict[str, str]:
    """Topics and services with their other names, of FROM:=TO rules as ROS has them.

    Raises:
        ValueError: If a rule is no such one.
    """
    pairs = {}
    for rule in rules:
        name, sign, other = rule.partition(":=")
        if not (name and sign and other):
            raise ValueError(f"--remap needs FROM:=TO, such as ~/segments:=/labels, got {rule!r}")
        if name in ("__ns", "__node", "__name"):
            raise ValueError(f"--remap {rule}: use --namespace and --name for that")
        pairs[name] = other
    return pairs


def network_of(domain: int | None, local: bool) -> Any:
    from zgs_ros.dds.network import Network

    return Network.from_environment(domain, local)


def _fail(error: Exception, code: int) -> NoReturn:
    typer.secho(printable_lines(f"zgs: {error}"), fg=typer.colors.RED, err=True)
    raise SystemExit(code)


def image_size(text: str) -> tuple[int, int]:
    """(width, height) in pixels of WIDTHxHEIGHT.

    Raises:
        zgs_ros.config.SettingsError: If it is something else.
    """
    from zgs_ros.config import SettingsError
    from zgs_ros.texts import width_and_height

    size = width_and_height(text)
    if size is None or min(size) < 8:
        raise SettingsError(
            f"--size {text!r}: must be WIDTHxHEIGHT, at least 8x8, for example 640x480"
        )
    return size
