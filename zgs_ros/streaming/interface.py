"""What a node looks like from outside: its topics and services, for the reference and its checks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from zgs_ros.config import NodeSettings
from zgs_ros.streaming.outputs import DETECTION_TOPICS, TOPICS

Direction = Literal["in", "out", "service"]

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED = "sensor_msgs/msg/CompressedImage"


@dataclass(frozen=True)
class Endpoint:
    """A topic or service.

    Attributes:
        name: As the node resolves it: ``~/x`` is its own, ``x`` its namespace's.
        kind: Type, such as ``"sensor_msgs/msg/Image"``.
        direction: Whether the node reads it, writes it, or answers it.
        meaning: What is in it, and when it comes.
    """

    name: str
    kind: str
    direction: Direction
    meaning: str


_OUTPUTS = {
    "segments": "Everything that was seen in an image, with the image's header.",
    "label_image": "mono16, the size of the input image: 0 = none, otherwise Segment.id. "
    "While subscribed.",
    "overlay": "rgb8: the image with segments tinted and named. Drawn while subscribed.",
    "overlay_compressed": "The overlay as JPEG. Drawn while subscribed.",
    "markers": "Boxes and labels in space, for RViz. With depth, while subscribed.",
    "detections": "Boxes in pixels, labels with scores, track_id as id. With publish_detections, "
    "while subscribed.",
    "detections_3d": "Boxes in metres. With publish_detections and depth, while subscribed.",
}


def camera_endpoints(camera: str, settings: NodeSettings) -> Iterator[Endpoint]:
    """What a node has for one of its cameras.

    Args:
        camera: Its name, "" for the only one.
        settings: Of the node.
    """
    prefix = f"{camera}/" if camera else ""
    compressed = settings.image_transport == "compressed"
    yield Endpoint(
        f"{prefix}image{'/compressed' if compressed else ''}",
        COMPRESSED if compressed else IMAGE,
        "in",
        "Colour images; of several that wait the newest is taken. With image_transport "
        "'compressed' image/compressed is read instead, a CompressedImage.",
    )
    if settings.depth.enabled:
        yield Endpoint(
            f"{prefix}depth",
            IMAGE,
            "in",
            "Depth registered to the image: 32FC1 in metres, or 16UC1 in millimetres. "
            "With depth.enabled.",
        )
        yield Endpoint(
            f"{prefix}camera_info",
            "sensor_msgs/msg/CameraInfo",
            "in",
            "Calibration of the image. With depth.enabled.",
        )
    topics = {**TOPICS, **(DETECTION_TOPICS if settings.publish_detections else {})}
    if not settings.depth.enabled:
        topics.pop("detections_3d", None)
    for name, (topic, kind) in topics.items():
        yield Endpoint(f"~/{prefix}{topic}", kind, "out", _OUTPUTS[name])


NODE_ENDPOINTS = (
    Endpoint(
        "/diagnostics",
        "diagnostic_msgs/msg/DiagnosticArray",
        "out",
        "How the node and its cameras are, once a second.",
    ),
    Endpoint(
        "~/query/request",
        "zgs_ros/msg/Query",
        "in",
        "Asks for the segments that fit a text; as the service, where services don't reach.",
    ),
    Endpoint("~/query/result", "zgs_ros/msg/QueryResult", "out", "The answers, with the query."),
    Endpoint(
        "~/query",
        "zgs_ros/srv/QuerySegments",
        "service",
        "Ranks the segments of the latest result by similarity to a text.",
    ),
    Endpoint(
        "~/segment_image",
        "zgs_ros/srv/SegmentImage",
        "service",
        "Segments one image on demand, also while the stream is inactive.",
    ),
)
"""What a node has once, whatever its cameras."""


def endpoints(settings: NodeSettings) -> list[Endpoint]:
    """All topics and services of a node with these settings."""
    cameras = [end for name in settings.cameras for end in camera_endpoints(name, settings)]
    return [*cameras, *NODE_ENDPOINTS]
