"""Builds the pip package; everything but the package data is declared in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=find_packages(include=["zgs_ros", "zgs_ros.*"]),
    package_data={
        "zgs_ros.labeling": ["vocabularies/*.txt"],
        "zgs_ros.models": ["mini/*", "mini/*/*"],
    },
    # The same places as in a ROS install space: found below the prefix of the environment.
    data_files=[
        ("share/zgs_ros/msg", ["msg/Label.msg", "msg/Segment.msg", "msg/SegmentArray.msg"]),
        ("share/zgs_ros/srv", ["srv/QuerySegments.srv", "srv/SegmentImage.srv"]),
        ("share/zgs_ros/config", ["config/segment.yaml"]),
    ],
)
