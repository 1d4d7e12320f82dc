"""Typed, validated settings: one list that serves ROS parameters, the peer, the CLI and Python.

`schema` says what they are, `profiles` are named sets of values, `settings` makes and lists them, and
`files` reads them, from YAML as ROS has it (`rcl_yaml`).
"""

from zgs_ros.config.files import (
    ROS_PARAMETERS,
    NodeName,
    load_settings,
    read_parameters,
    read_value,
    without_ros_parameters,
)
from zgs_ros.config.schema import (
    CaptionSettings,
    ClassesSettings,
    ClipSettings,
    ClusteringSettings,
    DepthSettings,
    DiagnosticsSettings,
    DinoSettings,
    LabelingSettings,
    MergingSettings,
    NodeSettings,
    RefinementSettings,
    SegmenterSettings,
    TrackingSettings,
)
from zgs_ros.config.settings import (
    RENAMED,
    Setting,
    SettingsError,
    flag_values,
    flatten,
    list_settings,
    make_settings,
    shown,
    use_current_names,
)
from zgs_ros.profiles import PROFILES

__all__ = [
    "PROFILES",
    "RENAMED",
    "ROS_PARAMETERS",
    "CaptionSettings",
    "ClassesSettings",
    "ClipSettings",
    "ClusteringSettings",
    "DepthSettings",
    "DiagnosticsSettings",
    "DinoSettings",
    "LabelingSettings",
    "MergingSettings",
    "NodeName",
    "NodeSettings",
    "RefinementSettings",
    "SegmenterSettings",
    "Setting",
    "SettingsError",
    "TrackingSettings",
    "flag_values",
    "flatten",
    "list_settings",
    "load_settings",
    "make_settings",
    "read_parameters",
    "read_value",
    "shown",
    "use_current_names",
    "without_ros_parameters",
]
