"""A ROS 2 node without ROS: a participant on the DDS network, from a plain Python environment."""

try:
    import cyclonedds
    import rosbags
except ImportError as error:
    raise ImportError(
        f"zgs_ros.dds needs the packages cyclonedds and rosbags ({error}): pip install 'zgs_ros[dds]'. "
        "cyclonedds has no wheel for aarch64; build it against the library of a ROS install: "
        "CYCLONEDDS_HOME=/opt/ros/<distro> pip install --no-binary cyclonedds cyclonedds==0.10.5"
    ) from error

__all__ = ["cyclonedds", "rosbags"]
