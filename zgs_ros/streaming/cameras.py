"""What comes in from the cameras of a node."""

from __future__ import annotations

from typing import Any

from zgs_ros.streaming.depth import DepthFeed
from zgs_ros.streaming.stream import SegmentationStream


class CameraInput:
    """Takes in a camera's messages; the methods are the callbacks of its subscriptions.

    Args:
        name: The camera's name, "" for the only one.
        stream: Where images go.
        depth: Where depth goes, None if it is not wanted.
    """

    def __init__(
        self, name: str, stream: SegmentationStream, depth: DepthFeed | None = None
    ) -> None:
        self.name = name
        self.depth = depth
        self._stream = stream

    def offer(self, message: Any) -> None:
        """Takes in a sensor_msgs Image or CompressedImage."""
        ticket = self.depth.expect(message.header) if self.depth else None
        self._stream.offer(self.name, message.header, message, ticket)
