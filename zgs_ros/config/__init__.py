"""Typed, validated settings: one list that serves ROS parameters, the peer, the CLI and Python.

`schema` says what they are, `profiles` are named sets of values, `settings` makes and lists them, and
`files` reads them.
"""

from zgs_ros.config.files import load_settings
from zgs_ros.config.profiles import PROFILES
from zgs_ros.config.schema import (
    LIVE,
    RESERVED,
    CaptionSettings,
    ClipSettings,
    ClusteringSettings,
    DepthSettings,
    DiagnosticsSettings,
    DinoSettings,
    LabelingSettings,
    MergingSettings,
    NodeSettings,
    Profile,
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
)

__all__ = [
    "LIVE",
    "PROFILES",
    "RENAMED",
    "RESERVED",
    "CaptionSettings",
    "ClipSettings",
    "ClusteringSettings",
    "DepthSettings",
    "DiagnosticsSettings",
    "DinoSettings",
    "LabelingSettings",
    "MergingSettings",
    "NodeSettings",
    "Profile",
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
]
