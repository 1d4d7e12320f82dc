"""A costmap that avoids what was named: the zgs node and Nav2's costmap with the semantic layer."""

from __future__ import annotations

from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    SetLaunchConfiguration,
)
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import (
    LaunchConfiguration,
    PathJoinSubstitution,
    PythonExpression,
    ThisLaunchFileDir,
)
from launch_ros.actions import LifecycleNode
from launch_ros.substitutions import ExecutableInPackage

CONFIG = PathJoinSubstitution([ThisLaunchFileDir(), "..", "config"])

OWN = (
    DeclareLaunchArgument(
        "demo",
        default_value="false",
        choices=["true", "false"],
        description="Whether the synthetic camera stands in for a robot's, with the bundled models "
        "(profile:=mini).",
    ),
    DeclareLaunchArgument(
        "global_frame",
        default_value=PythonExpression(
            ["'map' if '", LaunchConfiguration("demo"), "' == 'true' else 'odom'"]
        ),
        description="Frame of the costmap; odom, with demo:=true map.",
    ),
    DeclareLaunchArgument(
        "params_file",
        default_value=PathJoinSubstitution([CONFIG, "nav2_semantic_layer.yaml"]),
        description="YAML file with the parameters of the node and of the costmap.",
    ),
    DeclareLaunchArgument(
        "classes_file",
        default_value=PathJoinSubstitution([CONFIG, "nav2_classes.yaml"]),
        description="The classes that the costmap's parameters name.",
    ),
    DeclareLaunchArgument(
        "use_sim_time",
        default_value="false",
        choices=["true", "false"],
        description="Whether time comes from /clock, for simulation and bags.",
    ),
)

PASSED_ON = ("params_file", "classes_file", "use_sim_time")


def generate_launch_description() -> LaunchDescription:
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(
            PathJoinSubstitution([ThisLaunchFileDir(), "segment.launch.py"])
        ),
        launch_arguments={name: LaunchConfiguration(name) for name in PASSED_ON}.items(),
    )
    costmap = LifecycleNode(
        package="nav2_costmap_2d",
        executable="nav2_costmap_2d",
        name="local_costmap",
        namespace="local_costmap",
        parameters=[
            LaunchConfiguration("params_file"),
            {
                "global_frame": LaunchConfiguration("global_frame"),
                "use_sim_time": LaunchConfiguration("use_sim_time"),
            },
        ],
        autostart=True,
        output="screen",
    )
    is_demo = IfCondition(LaunchConfiguration("demo"))
    bundled = SetLaunchConfiguration("profile", "mini", condition=is_demo)
    camera = ExecuteProcess(
        cmd=[ExecutableInPackage(executable="zgs", package="zgs_ros"), "camera", "--depth"],
        name="camera",
        output="screen",
        condition=is_demo,
    )
    return LaunchDescription([*OWN, bundled, camera, node, costmap])
