"""Reading settings from a ROS 2 parameters file, without ROS but by its rules.

They are those of ``rcl_yaml_param_parser`` and rclpy: which blocks are a node's, what a scalar
means, and what is refused.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from zgs_ros.config.rcl_yaml import MAX_BYTES, Mapping, read_yaml
from zgs_ros.config.settings import (
    S,
    SettingsError,
    flag_values,
    make_settings,
    shown,
    use_current_names,
)

ROS_PARAMETERS = ("use_sim_time", "start_type_description_service", "qos_overrides.")
"""Beginnings of the parameters that every ROS node has, which are no settings."""

_KEY = "ros__parameters"
_NAME = re.compile(r"/?((\*\*?|[A-Za-z_]\w*)/)*(\*\*?|[A-Za-z_]\w*)", re.ASCII)
_PRECEDENCE = (bool, int, float, str, list)
"""Of a parameter that a block gives several times with different types, rcl takes the first of these."""

logger = logging.getLogger(__name__)


class NodeName(NamedTuple):
    """Where a node is in the ROS graph."""

    namespace: str = "/"
    name: str = "zgs"

    def __str__(self) -> str:
        return "/".join(["", *filter(None, self.namespace.split("/")), self.name])


def load_settings(
    schema: type[S],
    path: str | Path,
    node: tuple[str, str] = NodeName(),
    **overrides: Any,
) -> S:
    """Reads settings from a ROS 2 parameters file (or a plain YAML mapping).

    Args:
        schema: `SegmenterSettings` or `NodeSettings`.
        path: YAML file.
        node: Namespace and name of the node whose settings they are, see `read_parameters`.
        **overrides: Values that win over the file's; ``None`` means not given. A double underscore
            stands for the dot: ``clip__sigma=2.0``.

    Raises:
        SettingsError: If the file can't be read, is not YAML, or holds a wrong setting.
    """
    values = {**read_parameters(path, node), **use_current_names(flag_values(overrides))}
    try:
        return make_settings(schema, without_ros_parameters(values))
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from None


def without_ros_parameters(values: dict[str, Any]) -> dict[str, Any]:
    """Parameters without those that every ROS node has."""
    return {name: value for name, value in values.items() if not name.startswith(ROS_PARAMETERS)}


def read_parameters(
    path: str | Path,
    node: tuple[str, str] = NodeName(),
) -> dict[str, Any]:
    """The parameters that a ROS 2 parameters file has for a node, by dotted name.

    As for rclpy, the blocks apply in the order of the file whose name is the node's full name, with
    or without its first slash. In a name ``*`` stands for one part and ``**`` for any number of
    them; names may be nested. A file without ``ros__parameters`` is a mapping of settings, for any
    node.

    Args:
        path: YAML file.
        node: Namespace and name of the node, see `NodeName`.

    Raises:
        SettingsError: If the file can't be read, or rcl would refuse it.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(f"{path}: can't be read ({reason})") from None
    try:
        return use_current_names(_parameters(read_yaml(data), str(NodeName(*node)), path))
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from None


def read_value(text: str) -> Any:
    """What a text means as the value of a parameter, as in ``-p NAME:=TEXT``.

    Raises:
        SettingsError: If it is no YAML, or rcl would refuse it.
    """
    value = read_yaml(text.encode("utf-8", "surrogatepass"))
    if value is None:
        raise SettingsError("is missing; '' is an empty text")
    return _merge(value) if isinstance(value, Mapping) else value


def _parameters(document: Any, node: str, path: str | Path) -> dict[str, Any]:
    if document is None:
        return {}
    if not isinstance(document, Mapping):
        raise SettingsError(f"must be a mapping of settings, got {type(document).__name__}")
    if not _has_blocks(document):
        return _merge(document)
    blocks: dict[str, list[tuple[str, Any]]] = {}
    for name, block in _blocks(document):
        blocks.setdefault(name, []).extend(block.items)
    values: dict[str, Any] = {}
    used = [name for name in blocks if _is_for(name, node)]
    for name in used:
        values.update(_merge(Mapping(blocks[name])))
    if blocks and not used:
        names = ", ".join(map(shown, list(blocks)[:5])) + (", ..." if len(blocks) > 5 else "")
        logger.warning("%s: has nothing for %s, only for %s", path, node, names)
    return values


def _has_blocks(mapping: Mapping) -> bool:
    return any(
        key.startswith(_KEY) or (isinstance(value, Mapping) and _has_blocks(value))
        for key, value in mapping.items
    )


def _blocks(mapping: Mapping, name: str = "") -> Iterator[tuple[str, Mapping]]:
    """Names of nodes with their parameters."""
    for key, value in mapping.items:
        if not isinstance(value, Mapping):
            where = f"{shown(name)}: " if name else ""
            wanted = "holds parameters" if key.startswith(_KEY) else f"must be a node with {_KEY}"
            raise SettingsError(f"{where}{shown(key)} {wanted}, got {shown(value)}")
        if not key.startswith(_KEY):
            between = "" if not name or name.endswith("/") else "/"
            yield from _blocks(value, f"{name}{between}{key}")
            continue
        if not name:
            raise SettingsError(f"{_KEY} stands below the name of a node, such as /**")
        if not _NAME.fullmatch(name):
            raise SettingsError(
                f"{shown(name)} can't be the name of a node: letters, digits and underscores, "
                "* and ** between slashes"
            )
        yield name, value


def _is_for(block: str, node: str) -> bool:
    """Whether a block's name, which may hold wildcards, means a node with this full name."""
    pattern = "".join(
        {"**": r"(/\w+)*", "*": r"/\w+"}.get(part, f"/{part}")
        for part in block.removeprefix("/").split("/")
    )
    while (shorter := pattern.replace(r"(/\w+)*" * 2, r"(/\w+)*")) != pattern:
        pattern = shorter  # means the same, and is matched in little time
    return re.fullmatch(pattern, node, re.ASCII) is not None


def _merge(mapping: Mapping) -> dict[str, Any]:
    """Values by dotted name; of one that is given several times, what rcl makes of it."""
    given: dict[str, dict[type, Any]] = {}
    for name, value, is_nested in _values(mapping):
        if is_nested or name not in given:
            given[name] = {}
        given[name][type(value)] = value
    return {
        name: next(values[kind] for kind in _PRECEDENCE if kind in values)
        for name, values in given.items()
    }


def _values(mapping: Mapping, prefix: str = "") -> Iterator[tuple[str, Any, bool]]:
    for key, value in mapping.items:
        if isinstance(value, Mapping):
            yield from _values(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value, bool(prefix)
