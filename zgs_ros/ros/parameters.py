"""Settings as ROS parameters: declared with descriptors, and checked when they are changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from zgs_ros.config import (
    ROS_PARAMETERS,
    NodeSettings,
    Setting,
    SettingsError,
    flatten,
    list_settings,
    make_settings,
)
from zgs_ros.streaming.interface import check_cameras

DOUBLES = frozenset(s.path for s in list_settings(NodeSettings) if s.kind is float)


def declare_settings(node: Node) -> NodeSettings:
    """Declares a parameter per setting; what the user gave wins over the profile's defaults.

    Args:
        node: Was made with ``automatically_declare_parameters_from_overrides=True``, so that
            parameters that the user gave but misspelt are seen.

    Raises:
        SettingsError: If the user gave an unknown parameter or an impossible value.
    """
    given = {
        name: parameter.value
        for name, parameter in node.get_parameters_by_prefix("").items()
        if not name.startswith(ROS_PARAMETERS)
    }
    settings = make_settings(NodeSettings, given)
    check_cameras(settings)
    for name in given:
        node.undeclare_parameter(name)
    values = flatten(settings)
    for setting in list_settings(NodeSettings, settings.profile):
        value = list(values[setting.path]) if setting.kind is tuple else values[setting.path]
        node.declare_parameter(setting.path, value, descriptor(setting), ignore_override=True)
    return settings


def descriptor(setting: Setting) -> ParameterDescriptor:
    """What `ros2 param describe` and rqt show of a setting."""
    constraints = []
    if setting.choices:
        constraints.append(f"One of: {', '.join(setting.choices)}.")
    if setting.exclusive_minimum:
        constraints.append(f"Greater than {setting.minimum:g}.")
    if setting.path == "profile":
        constraints.append("Read when the node starts.")
    elif not setting.live:
        constraints.append("Read when the models are loaded.")
    result = ParameterDescriptor(
        name=setting.path,
        description=setting.description,
        additional_constraints=" ".join(constraints),
        dynamic_typing=setting.kind is float,  # else `ros2 param set /zgs max_rate 5` is refused
    )
    if setting.minimum is not None and setting.maximum is not None:
        if setting.kind is int:
            result.integer_range = [
                IntegerRange(from_value=int(setting.minimum), to_value=int(setting.maximum), step=1)
            ]
        else:
            result.floating_point_range = [
                FloatingPointRange(
                    from_value=float(setting.minimum), to_value=float(setting.maximum)
                )
            ]
    return result


def kept_types(changes: Sequence[Parameter]) -> list[Parameter]:
    """Changes with integers made doubles where a parameter is one: ``ros2 param set /zgs max_rate 5``."""
    return [
        Parameter(change.name, Parameter.Type.DOUBLE, float(change.value))
        if change.name in DOUBLES and change.type_ == Parameter.Type.INTEGER
        else change
        for change in changes
    ]


def change_settings(
    settings: NodeSettings, changes: Sequence[Parameter], loaded: bool
) -> NodeSettings:
    """The settings with some parameters changed.

    Args:
        settings: As they are.
        changes: Parameters that the user sets; those that belong to rclpy are passed over.
        loaded: Whether the models are loaded, so that only live settings can change.

    Raises:
        SettingsError: If a value is impossible or can't change now; the message says what to do.
    """
    known = {setting.path: setting for setting in list_settings(NodeSettings)}
    values = flatten(settings)
    given: dict[str, Any] = {p.name: p.value for p in changes if p.name in known}
    for path, value in given.items():
        if known[path].kind is float and (
            isinstance(value, bool) or not isinstance(value, (int, float))
        ):
            raise SettingsError(f"{path}: must be a number, got {value!r}")
    changed = make_settings(NodeSettings, {**values, **given})
    check_cameras(changed)
    for path, value in flatten(changed).items():
        if value != values[path]:
            _check_time(known[path], value, loaded)
    return changed


def _check_time(setting: Setting, value: Any, loaded: bool) -> None:
    if setting.path == "profile":
        raise SettingsError(
            "profile decides the other parameters' defaults and is read when the node starts: "
            f"start it again with profile:={value} (launch) or -p profile:={value} (run)"
        )
    if loaded and not setting.live:
        raise SettingsError(
            f"{setting.path} is read when the models are loaded: "
            "deactivate, clean up, set it, configure again"
        )
