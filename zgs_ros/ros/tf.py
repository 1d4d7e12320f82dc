"""tf2's buffer as what keeps a node's transforms."""

from __future__ import annotations

import re
from typing import Any

from geometry_msgs.msg import TransformStamped
from rclpy.duration import Duration
from rclpy.time import Time

from zgs_ros.transforms import CACHE_SECONDS, Sample, Transform

_PARENT = re.compile(r"^(.+): *\n  parent: '(.*)'$", re.MULTILINE)
"""A frame and its parent in the description that tf2 gives of all frames."""


class Tf2Store:
    """A `zgs_ros.transforms.TransformStore`. Safe for threads, as tf2 is."""

    def __init__(self) -> None:
        import tf2_py  # only needed with target_frame

        self._tf2: Any = tf2_py
        self._buffer = tf2_py.BufferCore(Duration(seconds=CACHE_SECONDS))

    def add(self, child: str, sample: Sample, static: bool) -> None:
        """Takes in where a frame is."""
        message = TransformStamped()
        message.header.stamp = Time(nanoseconds=sample.stamp).to_msg()
        message.header.frame_id, message.child_frame_id = sample.parent, child
        moved, turned = message.transform.translation, message.transform.rotation
        moved.x, moved.y, moved.z = sample.translation
        turned.x, turned.y, turned.z, turned.w = sample.quaternion
        add = self._buffer.set_transform_static if static else self._buffer.set_transform
        add(message, "zgs")

    def lookup(self, target: str, source: str, stamp: int) -> Transform | None:
        """From a source frame to a target frame at a time [ns], None where that is not known."""
        try:
            found = self._buffer.lookup_transform_core(target, source, Time(nanoseconds=stamp))
        except self._tf2.TransformException:
            return None
        moved, turned = found.transform.translation, found.transform.rotation
        return Transform.of_quaternion(
            (moved.x, moved.y, moved.z), (turned.x, turned.y, turned.z, turned.w)
        )

    def latest(self, target: str, source: str) -> int | None:
        """The newest time [ns] at which all between two frames is known."""
        try:
            return int(self._buffer.get_latest_common_time(target, source).nanoseconds)
        except self._tf2.TransformException:
            return None

    def parents(self) -> dict[str, str]:
        """The newest parent of every frame that has one."""
        return dict(_PARENT.findall(self._buffer.all_frames_as_yaml()))

    def clear(self) -> None:
        """Forgets all that is not for good."""
        self._buffer.clear()
