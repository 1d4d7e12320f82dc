"""What a node publishes, and when: both front ends only create the publishers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from zgs_ros.config import NodeSettings
from zgs_ros.drawing import draw_overlay
from zgs_ros.streaming import messages
from zgs_ros.streaming.messages import MessageFactory
from zgs_ros.streaming.statistics import Snapshot
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
    """The topics of a node, named as in its private namespace."""

    segments: Publisher
    label_image: Publisher
    overlay: Publisher
    overlay_compressed: Publisher
    diagnostics: Publisher


class Outputs:
    """Turns results into messages for those who listen; nothing is made for nobody.

    Args:
        factory: Makes the messages.
        publishers: Where they go.
        settings: Embeddings, opacity and JPEG quality; replace `settings` to change them.
    """

    def __init__(
        self, factory: MessageFactory, publishers: Publishers, settings: NodeSettings
    ) -> None:
        self.settings = settings
        self._factory = factory
        self._publishers = publishers

    def wanted(self) -> bool:
        """Whether anybody listens to results; diagnostics don't count."""
        to = self._publishers
        topics = (to.segments, to.label_image, to.overlay, to.overlay_compressed)
        return any(topic.subscription_count() for topic in topics)

    def publish(self, result: Result) -> None:
        """Publishes a result on every topic that somebody listens to, with the input's header."""
        to, factory, settings = self._publishers, self._factory, self.settings
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

    def publish_diagnostics(
        self, stamp_ns: int, name: str, snapshot: Snapshot, facts: Mapping[str, str]
    ) -> None:
        """Publishes the state of the stream; see `messages.diagnostic_array`."""
        self._publishers.diagnostics.publish(
            messages.diagnostic_array(self._factory, stamp_ns, name, snapshot, facts)
        )
