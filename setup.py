"""Builds the pip package; everything but the package data is declared in pyproject.toml."""

from glob import glob

from setuptools import find_packages, setup

setup(
    packages=find_packages(include=["zgs_ros", "zgs_ros.*"]),
    package_data={
        "zgs_ros.labeling": ["vocabularies/*.txt"],
        "zgs_ros.models": ["mini/*", "mini/*/*"],
        "zgs_ros.tools.doctor": ["answers.json"],
        "zgs_ros.tools.web": ["page.html"],
    },
    # The same places as in a ROS install space: found below the prefix of the environment.
    data_files=[
        ("share/zgs_ros/msg", sorted(glob("msg/*.msg"))),
        ("share/zgs_ros/srv", sorted(glob("srv/*.srv"))),
        ("share/zgs_ros/config", ["config/fastdds.xml", "config/segment.yaml"]),
    ],
)
