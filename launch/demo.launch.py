"""To try it without a camera or a network: the synthetic camera and the bundled models."""

from __future__ import annotations

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir
from launch_ros.substitutions import ExecutableInPackage


def generate_launch_description() -> LaunchDescription:
    rviz = DeclareLaunchArgument(
        "rviz",
        default_value="false",
        choices=["true", "false"],
        description="Whether to look at it in RViz, which must be installed.",
    )
    camera = ExecuteProcess(
        cmd=[ExecutableInPackage(executable="zgs", package="zgs_ros"), "camera", "--depth"],
        name="camera",
        output="screen",
    )
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(
            PathJoinSubstitution([ThisLaunchFileDir(), "segment.launch.py"])
        ),
        launch_arguments={
            "profile": "mini",
            "image_topic": "/camera/image_raw",
            "depth": "true",
            "rviz": LaunchConfiguration("rviz"),
        }.items(),
    )
    return LaunchDescription([rviz, camera, node])
