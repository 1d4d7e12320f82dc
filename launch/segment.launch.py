"""Segments and names what a camera sees: starts the zgs node, with its models loaded."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ament_index_python.packages import (
    PackageNotFoundError,
    get_package_prefix,
    get_package_share_directory,
)
from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node

from zgs_ros.profiles import AUTO, PROFILES
from zgs_ros.streaming.topics import input_topics

NAME = "zgs"
SHOWN = ("overlay", "markers", "labelled_points")
"""What RViz shows of a camera's results."""

ASK = "if not given, the params file's, else the default"

ARGUMENTS = (
    DeclareLaunchArgument(
        "image_topic",
        default_value="",
        description="Camera topic, with {camera} for the name of each one of several; with "
        "image_transport:=compressed its /compressed is read. If not given, /camera/image_raw, "
        "or with several cameras /{camera}/image_raw.",
    ),
    DeclareLaunchArgument(
        "cameras",
        default_value="",
        description="Names of several cameras, for example front,left; if not given, a single one.",
    ),
    DeclareLaunchArgument(
        "depth",
        default_value="",
        choices=["", "true", "false"],
        description="Whether registered depth and camera_info are read, so that segments get "
        f"position and size; {ASK} (false).",
    ),
    DeclareLaunchArgument(
        "depth_topic",
        default_value="",
        description="As image_topic; if not given, depth/image_raw beside the image.",
    ),
    DeclareLaunchArgument(
        "camera_info_topic",
        default_value="",
        description="As image_topic; if not given, camera_info beside the image.",
    ),
    DeclareLaunchArgument(
        "target_frame",
        default_value="",
        description=f"Frame of positions, such as map or base_link; {ASK} (that of the image).",
    ),
    DeclareLaunchArgument(
        "image_transport",
        default_value="",
        choices=["", "raw", "compressed"],
        description=f"raw: Image, compressed: CompressedImage; {ASK} (raw).",
    ),
    DeclareLaunchArgument(
        "profile",
        default_value="",
        choices=["", *PROFILES, AUTO],
        description="Named set of defaults for the models, from most accurate to smallest; "
        f"mini is bundled and needs no network; {ASK} (balanced).",
    ),
    DeclareLaunchArgument(
        "device",
        default_value="",
        description=f"Where the models run: auto, cpu, cuda, cuda:N or mps; {ASK} (auto).",
    ),
    DeclareLaunchArgument(
        "max_rate", default_value="", description=f"Highest rate of results in Hz; {ASK} (5.0)."
    ),
    DeclareLaunchArgument(
        "params_file",
        default_value="",
        description="YAML file with parameters, for example a copy of config/segment.yaml; "
        "the arguments given here win over it.",
    ),
    DeclareLaunchArgument(
        "classes_file",
        default_value="",
        description="YAML file of classes, such as a copy of config/nav2_classes.yaml; "
        f"{ASK} ($ROS_HOME/zgs_ros/classes.yaml).",
    ),
    DeclareLaunchArgument(
        "namespace", default_value="", description="Namespace of the node, for example robot1."
    ),
    DeclareLaunchArgument(
        "log_level",
        default_value="info",
        choices=["debug", "info", "warn", "error", "fatal"],
        description="Least severe messages of the node that are shown.",
    ),
    DeclareLaunchArgument(
        "fastdds_profile",
        default_value="",
        description="XML profile that Fast DDS reads in the node's process: a file, or shipped for this "
        "package's config/fastdds.xml, with which no large image of the node is lost on this machine "
        "(those of a camera need it in the camera's process); if not given, that of the environment.",
    ),
    DeclareLaunchArgument(
        "autostart",
        default_value="true",
        choices=["true", "false"],
        description="Whether the node is configured (loads its models) and activated; "
        "otherwise it waits for 'ros2 lifecycle set'.",
    ),
    DeclareLaunchArgument(
        "use_sim_time",
        default_value="",
        choices=["", "true", "false"],
        description=f"Whether time comes from /clock, for simulation and bags; {ASK} (false).",
    ),
    DeclareLaunchArgument(
        "detections",
        default_value="",
        choices=["", "true", "false"],
        description=f"Whether results are published as vision_msgs too; {ASK} (false).",
    ),
    DeclareLaunchArgument(
        "rviz",
        default_value="false",
        choices=["true", "false"],
        description="Whether RViz, which must be installed, shows image, overlay and with depth "
        "markers and points; of several cameras those of the first.",
    ),
    DeclareLaunchArgument(
        "rviz_frame",
        default_value="",
        description="Fixed frame of RViz, for example camera_color_optical_frame: the frame_id of the "
        "images, or one that TF connects with it; if not given, camera.",
    ),
)


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[Action]:
    """The node, which brings itself to the active state where that is wanted.

    Lifecycle events from here would wait forever for a node that ended with an error.
    """
    values = {a.name: LaunchConfiguration(a.name).perform(context) for a in ARGUMENTS}
    namespace = values["namespace"].strip("/")
    node = LifecycleNode(
        package="zgs_ros",
        executable="zgs_node",
        name=NAME,
        namespace=namespace,
        parameters=parameters(values),
        remappings=remappings(values),
        arguments=["--autostart"] if values["autostart"] == "true" else [],
        ros_arguments=["--log-level", f"{logger_name(namespace)}:={values['log_level']}"],
        additional_env=fastdds(values["fastdds_profile"]),
        output="screen",
        emulate_tty=True,
    )
    return [node, *rviz(values)]


def parameters(values: dict[str, str]) -> list[Any]:
    """The params file, then what was given explicitly, which wins.

    Raises:
        RuntimeError: If the params file does not exist or max_rate is no number.
    """
    sources: list[Any] = []
    if values["params_file"]:
        if not Path(values["params_file"]).is_file():
            raise RuntimeError(f"params_file: there is no file {values['params_file']!r}")
        sources.append(values["params_file"])
    given: dict[str, Any] = {
        name: values[name]
        for name in ("image_transport", "profile", "device", "target_frame")
        if values[name]
    }
    if values["max_rate"]:
        try:
            given["max_rate"] = float(values["max_rate"])
        except ValueError:
            raise RuntimeError(f"max_rate: must be in Hz, got {values['max_rate']!r}") from None
    if values["cameras"]:
        given["cameras"] = values["cameras"].split(",")
    if values["classes_file"]:
        given["classes.file"] = values["classes_file"]
    if values["depth"]:
        given["depth.enabled"] = values["depth"] == "true"
    if values["detections"]:
        given["publish_detections"] = values["detections"] == "true"
    if values["use_sim_time"]:
        given["use_sim_time"] = values["use_sim_time"] == "true"
    return [*sources, given] if given else sources


def fastdds(profile: str) -> dict[str, str]:
    """Environment variables by which Fast DDS reads a profile: up to version 2, and from 3 on.

    Raises:
        RuntimeError: If there is no such file.
    """
    if not profile:
        return {}
    shipped = Path(get_package_share_directory("zgs_ros"), "config", "fastdds.xml")
    file = shipped if profile == "shipped" else Path(profile)
    if not file.is_file():
        raise RuntimeError(
            f"fastdds_profile: there is no file {str(file)!r}; shipped is always there"
        )
    names = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
    return dict.fromkeys(names, str(file.absolute()))


def remappings(values: dict[str, str]) -> list[tuple[str, str]]:
    """The topics that the node reads.

    Raises:
        RuntimeError: If several cameras would have the same topic.
    """
    names = values["cameras"].split(",") if values["cameras"] else [""]
    try:
        topics = input_topics(
            names, values["image_topic"], values["depth_topic"], values["camera_info_topic"]
        )
    except ValueError as error:
        raise RuntimeError(str(error)) from None
    return [
        (f"{name}/{topic}" if name else topic, other)
        for name, of_camera in topics.items()
        for topic, other in asdict(of_camera).items()
    ]


def rviz(values: dict[str, str]) -> list[Action]:
    """RViz with this package's configuration, where it is wanted.

    Raises:
        RuntimeError: If it is not installed.
    """
    if values["rviz"] != "true":
        return []
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError:
        distro = os.environ.get("ROS_DISTRO", "<distro>")
        raise RuntimeError(
            f"rviz:=true: rviz2 is not installed: sudo apt install ros-{distro}-rviz2; or look "
            "without it: zgs view"
        ) from None
    first = values["cameras"].split(",")[0]
    own = "/".join(filter(None, ["", values["namespace"].strip("/"), NAME, first]))
    image = dict(remappings(values))[f"{first}/image" if first else "image"]
    frame = ["--fixed-frame", values["rviz_frame"]] if values["rviz_frame"] else []
    config = Path(get_package_share_directory("zgs_ros"), "rviz", "zgs.rviz")
    return [
        Node(
            package="rviz2",
            executable="rviz2",
            name="rviz",
            arguments=["--display-config", str(config), *frame],
            parameters=[{"use_sim_time": values["use_sim_time"] == "true"}],
            remappings=[
                ("/camera/image_raw", image),
                *((f"/{NAME}/{topic}", f"/{own}/{topic}") for topic in SHOWN),
            ],
            output="log",
        )
    ]


def logger_name(namespace: str) -> str:
    return ".".join([*filter(None, namespace.split("/")), NAME])
