"""The cameras of a node: names, topics, and what comes in from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zgs_ros.streaming.depth import DepthFeed
from zgs_ros.streaming.stream import SegmentationStream

PLACE = "{camera}"
"""Stands for the camera's name in a topic."""


@dataclass(frozen=True)
class InputTopics:
    """Where a camera's messages come from.

    Attributes:
        image: With compressed transport, ``/compressed`` is appended.
        depth: Registered to the image.
        camera_info: Of the image.
    """

    image: str
    depth: str
    camera_info: str


def input_topics(
    cameras: Sequence[str], image: str = "", depth: str = "", camera_info: str = ""
) -> dict[str, InputTopics]:
    """The topics of each camera by its name.

    Args:
        cameras: Names; ``[""]`` is a single one without a name.
        image: Topic, with ``{camera}`` for the name; by default ``/{camera}/image_raw``, and
            ``/camera/image_raw`` for the one without a name.
        depth: Likewise; by default ``depth/image_raw`` beside the image.
        camera_info: Likewise; by default ``camera_info`` beside the image.

    Raises:
        ValueError: If several cameras would have the same topic.
    """
    for what, topic in (("image", image), ("depth", depth), ("camera_info", camera_info)):
        if topic and PLACE not in topic and len(cameras) > 1:
            raise ValueError(
                f"{what} topic {topic!r} would be that of {len(cameras)} cameras; it needs "
                f"{PLACE} in the place of their names"
            )
    topics = {}
    for camera in cameras:
        name = camera or "camera"
        seen = (image or f"/{PLACE}/image_raw").replace(PLACE, name)
        beside = seen[: seen.rfind("/") + 1]
        topics[camera] = InputTopics(
            seen,
            depth.replace(PLACE, name) or f"{beside}depth/image_raw",
            camera_info.replace(PLACE, name) or f"{beside}camera_info",
        )
    return topics


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
