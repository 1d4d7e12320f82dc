"""Topics of a node's cameras; launch files use it too, so that it needs nothing but Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
