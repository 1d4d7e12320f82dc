"""What the commands share: options, settings from them, and errors that become one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from zgs_ros.texts import printable_lines

NETWORK, BAGS = "Network", "Bags"
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
def command() -> Iterator[None]:
    """Runs a command: Ctrl-C and SIGTERM end it cleanly, expected errors become one line.

    The exit code is 2 for what the user can correct in the command or a settings file, and 1 for
    what went wrong on the way.
    """
    from zgs_ros.cli.process import configure_logging, until_interrupted

    configure_logging()
    try:
        with until_interrupted():
            yield
    except ValueError as error:  # SettingsError, SourceError and invalid names among them
        _fail(error, 2)
    except (RuntimeError, ImportError, OSError) as error:
        _fail(error, 1)


def node_settings(params: Path | None, flags: dict[str, Any], pairs: list[str]) -> Any:
    """Settings of a node from a parameters file, options, and KEY=VALUE pairs, which win.

    Raises:
        zgs_ros.config.SettingsError: For anything unknown or impossible among them.
    """
    import yaml

    from zgs_ros.config import (
        NodeSettings,
        SettingsError,
        flag_values,
        load_settings,
        make_settings,
    )

    values = flag_values(flags)
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise SettingsError(f"--set needs KEY=VALUE, for example clip.sigma=2, got {pair!r}")
        try:
            values[key.strip()] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise SettingsError(f"--set {pair!r}: the value is not valid YAML: {error}") from None
    return (
        load_settings(NodeSettings, params, **values)
        if params
        else make_settings(NodeSettings, values)
    )


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
        pairs[name] = other
    return pairs


def network_of(domain: int | None, local: bool) -> Any:
    from zgs_ros.dds.network import Network

    return Network.from_environment(domain, local)


def _fail(error: Exception, code: int) -> NoReturn:
    typer.secho(printable_lines(f"zgs: {error}"), fg=typer.colors.RED, err=True)
    raise SystemExit(code)
