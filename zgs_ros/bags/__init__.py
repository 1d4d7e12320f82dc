"""Recorded bags, without ROS: what is in them, labelling their images, and writing the results."""

try:
    import rosbags
except ImportError as error:
    raise ImportError(
        f"zgs_ros.bags needs the package rosbags ({error}): pip install 'zgs_ros[bags]'"
    ) from error

__all__ = ["rosbags"]
