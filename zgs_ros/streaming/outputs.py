"""What a node publishes, and when: both front ends only create the publishers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from zgs_ros.config import NodeSettings
from zgs_ros.drawing import draw_overlay
from zgs_ros.streaming import messages
from zgs_ros.streaming.detections import detection2d_array, detection3d_array
from zgs_ros.streaming.diagnostics import Diagnosis, diagnostic_array
from zgs_ros.streaming.markers import marker_array
from zgs_ros.streaming.messages import MessageFactory
from zgs_ros.streaming.stream import Result


class Publisher(Protocol):
    """A topic to write to."""

    def publish(self, message: Any) -> None:
        """Sends a message; must not wait for slow subscribers."""
        ...

    def subscription_count(self) -> int:
        """How many subscriptions are matched now."""
        ...


@dataclass(frozen=True)
class Publishers:
    """The topics of a camera's results, see `TOPICS`."""

    segments: Publisher
    label_image: Publisher
    overlay: Publisher
    overlay_compressed: Publisher
    markers: Publisher
    detections: Publisher | None = None
    detections_3d: Publisher | None = None

    def subscription_count(self) -> int:
        """How many subscriptions are matched now, on all of them."""
        topics = (getattr(self, name) for name in (*TOPICS, *DETECTION_TOPICS))
        return sum(topic.subscription_count() for topic in topics if topic)


TOPICS = {
    "segments": ("segments", "zgs_ros/msg/SegmentArray"),
    "label_image": ("label_image", "sensor_msgs/msg/Image"),
    "overlay": ("overlay", "sensor_msgs/msg/Image"),
    "overlay_compressed": ("overlay/compressed", "sensor_msgs/msg/CompressedImage"),
    "markers": ("markers", "visualization_msgs/msg/MarkerArray"),
}
"""Topic and type of each publisher, by its name in `Publishers`."""


DETECTION_TOPICS = {
    "detections": ("detections", "vision_msgs/msg/Detection2DArray"),
    "detections_3d": ("detections_3d", "vision_msgs/msg/Detection3DArray"),
}
"""Likewise, of those that there are with `NodeSettings.publish_detections`; the second with depth."""


def make_publishers(
    camera: str, create: Callable[[str, str], Publisher], settings: NodeSettings
) -> Publishers:
    """The publishers of a camera's results.

    Args:
        camera: Its name, "" for the only one: ``~/segments``, or ``~/front/segments``.
        create: Makes one of a topic's name and type.
        settings: Tell which are wanted.
    """
    prefix = f"~/{camera}" if camera else "~"
    topics = dict(TOPICS)
    if settings.publish_detections:
        topics.update(DETECTION_TOPICS)
        if not settings.depth.enabled:
            del topics["detections_3d"]
    return Publishers(
        **{name: create(f"{prefix}/{topic}", kind) for name, (topic, kind) in topics.items()}
    )


class Outputs:
    """Turns results into messages for those who listen; nothing is made for nobody.

    Args:
        factory: Makes the messages.
        cameras: Where each camera's go, by its name.
        diagnostics: Where the node's state goes.
        settings: Embeddings, opacity, JPEG quality and thresholds; replace `settings` to change them.
    """

    def __init__(
        self,
        factory: MessageFactory,
        cameras: Mapping[str, Publishers],
        diagnostics: Publisher,
        settings: NodeSettings,
    ) -> None:
        self.settings = settings
        self._factory = factory
        self._cameras = cameras
        self._diagnostics = diagnostics

    def wanted(self, camera: str | None = None) -> bool:
        """Whether anybody listens to results of a camera, or of any; diagnostics don't count."""
        cameras = self._cameras.values() if camera is None else [self._cameras[camera]]
        return any(publishers.subscription_count() for publishers in cameras)

    def publish(self, result: Result) -> None:
        """Publishes a result on every topic that somebody listens to, with the input's header."""
        to, factory, settings = self._cameras[result.camera], self._factory, self.settings
        header, segmentation = result.header, result.segmentation
        if to.segments.subscription_count():
            to.segments.publish(
                messages.segment_array(
                    factory,
                    header,
                    segmentation,
                    result.processing_time,
                    settings.publish_embeddings,
                )
            )
        if to.label_image.subscription_count():
            to.label_image.publish(messages.label_image(factory, header, segmentation))
        if result.depth and to.markers.subscription_count():
            to.markers.publish(marker_array(factory, header, segmentation))
        if to.detections and to.detections.subscription_count():
            to.detections.publish(detection2d_array(factory, header, segmentation))
        if to.detections_3d and to.detections_3d.subscription_count():
            to.detections_3d.publish(detection3d_array(factory, header, segmentation))
        raw, compressed = (
            to.overlay.subscription_count(),
            to.overlay_compressed.subscription_count(),
        )
        if not raw and not compressed:
            return
        overlay = draw_overlay(result.image, segmentation, settings.overlay_opacity)
        if raw:
            to.overlay.publish(messages.rgb_image(factory, header, overlay))
        if compressed:
            to.overlay_compressed.publish(
                messages.jpeg_image(factory, header, overlay, settings.jpeg_quality)
            )

    def publish_diagnostics(self, stamp_ns: int, name: str, diagnosis: Diagnosis) -> None:
        """Publishes the state of the node; see `diagnostics.diagnostic_array`."""
        thresholds = self.settings.diagnostics
        self._diagnostics.publish(
            diagnostic_array(self._factory, stamp_ns, name, diagnosis, thresholds)
        )
