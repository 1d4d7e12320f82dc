"""To try it without a camera or a network: the synthetic camera and the bundled models."""

from __future__ import annotations

from launch import LaunchDescription
from launch.actions import ExecuteProcess, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import PathJoinSubstitution, ThisLaunchFileDir
from launch_ros.substitutions import ExecutableInPackage


def generate_launch_description() -> LaunchDescription:
    camera = ExecuteProcess(
        cmd=[ExecutableInPackage(executable="zgs", package="zgs_ros"), "camera"],
        name="camera",
        output="screen",
    )
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(
            PathJoinSubstitution([ThisLaunchFileDir(), "segment.launch.py"])
        ),
        launch_arguments={"profile": "mini", "image_topic": "/camera/image_raw"}.items(),
    )
    return LaunchDescription([camera, node])
