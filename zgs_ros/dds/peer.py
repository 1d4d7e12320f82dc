"""The zgs node without ROS: the same topics, types, QoS and parameters as the rclpy node."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from zgs_ros import __version__
from zgs_ros.config import NodeSettings
from zgs_ros.dds.network import Network, socket_buffer_warning
from zgs_ros.dds.node import Node, QosProfile
from zgs_ros.streaming.clock import SystemClock
from zgs_ros.streaming.enrichment import Enrichment
from zgs_ros.streaming.outputs import Outputs, Publishers
from zgs_ros.streaming.statistics import Snapshot
from zgs_ros.streaming.stream import BatchSegmenter, SegmentationStream, StreamSettings

NODE_NAME = "zgs"
IMAGE_TOPIC = "/camera/image_raw"
DIAGNOSTICS_SECONDS = 1.0
STATUS_SECONDS = 5.0

logger = logging.getLogger(__name__)


class PeerSegmenter(BatchSegmenter, Protocol):
    """The part of the segmenter that the peer needs."""

    @property
    def model(self) -> str:
        """Name of the embedding space."""
        ...

    @property
    def device(self) -> str:
        """Where it runs."""
        ...

    def close(self) -> None:
        """Frees the models."""
        ...


@dataclass(frozen=True)
class PeerOptions:
    """What is not a setting of the node: its place in the graph and on the network.

    Attributes:
        image_topic: Topic of the camera; with compressed transport ``/compressed`` is appended.
        name: Node name.
        namespace: Namespace of the node.
        network: The network to join.
        distro: ROS distribution of the other nodes, by default ROS_DISTRO.
    """

    network: Network
    image_topic: str = IMAGE_TOPIC
    name: str = NODE_NAME
    namespace: str = ""
    distro: str | None = None


class Peer:
    """A running zgs node.

    Args:
        segmenter: Used on the stream's thread only; the caller closes it.
        settings: Of the node.
        options: Its place in the graph.

    Raises:
        ValueError: If a name or topic is not valid.
        zgs_ros.dds.raw.DdsError: If the network can't be joined.
    """

    def __init__(
        self, segmenter: PeerSegmenter, settings: NodeSettings, options: PeerOptions
    ) -> None:
        self._segmenter = segmenter
        self._clock = SystemClock()
        self.node = Node(
            options.name, options.namespace, network=options.network, distro=options.distro
        )
        try:
            self._outputs = Outputs(self.node.types, _publishers(self.node), settings)
            self.stream = SegmentationStream(
                segmenter,
                self._outputs.publish,
                wanted=self._outputs.wanted,
                clock=self._clock,
                settings=StreamSettings(settings.max_rate, settings.lazy),
                enrich=Enrichment(settings, self._clock),
            )
            self.stream.start()
            self._images = self._subscribe(options.image_topic, settings.image_transport)
        except BaseException:
            self.close()
            raise

    @property
    def image_topic(self) -> str:
        """Full name of the topic that images come from."""
        return self._images.topic

    def publish_diagnostics(self) -> None:
        """Publishes the state once; to be called about once a second."""
        facts = {
            "version": __version__,
            "model": self._segmenter.model,
            "device": str(self._segmenter.device),
            "image topic": self._images.topic,
            "image publishers": str(self._images.publisher_count()),
            "result subscribers": "yes" if self._outputs.wanted() else "no",
        }
        self._outputs.publish_diagnostics(
            self._clock.now_ns(), self.node.full_name, self.stream.statistics.snapshot(), facts
        )

    def status(self) -> str:
        """One line for the log."""
        if not self._images.publisher_count():
            return f"waiting for a camera: nobody publishes {self._images.topic}"
        return describe(self.stream.statistics.snapshot(), self._outputs.wanted())

    def close(self) -> None:
        """Finishes and publishes the frame in work, then leaves the graph."""
        if hasattr(self, "stream"):
            self.stream.stop()
        self.node.close()

    def _subscribe(self, topic: str, transport: str) -> Any:
        kind, topic = (
            ("CompressedImage", f"{topic}/compressed")
            if transport == "compressed"
            else ("Image", topic)
        )
        offer = self.stream.offer
        return self.node.create_subscription(
            topic, f"sensor_msgs/msg/{kind}", lambda message: offer(topic, message.header, message)
        )


def run(
    settings: NodeSettings,
    options: PeerOptions,
    load: Callable[[NodeSettings], PeerSegmenter],
) -> None:
    """Loads the models, joins the network and works until it is interrupted.

    Args:
        settings: Of the node.
        options: Its place in the graph.
        load: Makes the segmenter, `zgs_ros.segmenter.load_segmenter`.

    Raises:
        zgs_ros.models.ModelError: If the models can't be loaded.
        ValueError: If a name or topic is not valid.
        zgs_ros.dds.raw.DdsError: If the network can't be joined.
    """
    logger.info("loading models (profile %s)", settings.profile)
    began = time.monotonic()
    segmenter = load(settings)
    try:
        logger.info(
            "%s on %s, ready after %.1f s",
            segmenter.model,
            segmenter.device,
            time.monotonic() - began,
        )
        if warning := socket_buffer_warning():
            logger.warning(warning)
        peer = Peer(segmenter, settings, options)
        try:
            _spin(peer)
        finally:
            peer.close()
            logger.info("stopped: %s", describe(peer.stream.statistics.snapshot(), True))
    finally:
        segmenter.close()


def describe(snapshot: Snapshot, wanted: bool) -> str:
    """The statistics as one line."""
    if not snapshot.received:
        return "a camera is there, no image received yet"
    counts = (
        f"{snapshot.received} images, {snapshot.processed} processed, "
        f"{snapshot.drops} dropped, {snapshot.rejections} rejected"
    )
    if not wanted:
        return f"resting, nobody subscribes to results ({counts})"
    latency = f", latency {snapshot.latency.p50:.2f} s" if snapshot.latency else ""
    return f"{snapshot.rate:.1f} results/s, {snapshot.segments} segments{latency} ({counts})"


def _spin(peer: Peer) -> None:
    node = peer.node
    logger.info("node %s on domain %d", node.full_name, node.network.domain)
    logger.info(
        "images from %s, results on %s and %s",
        peer.image_topic,
        node.resolve("~/segments"),
        node.resolve("~/overlay/compressed"),
    )
    shown = ""
    next_status = 0.0
    while True:
        peer.publish_diagnostics()
        if time.monotonic() >= next_status and (status := peer.status()) != shown:
            logger.info(status)
            shown, next_status = status, time.monotonic() + STATUS_SECONDS
        time.sleep(DIAGNOSTICS_SECONDS)


def _publishers(node: Node) -> Publishers:
    image, diagnostics = "sensor_msgs/msg/Image", "diagnostic_msgs/msg/DiagnosticArray"
    return Publishers(
        segments=node.create_publisher("~/segments", "zgs_ros/msg/SegmentArray"),
        label_image=node.create_publisher("~/label_image", image),
        overlay=node.create_publisher("~/overlay", image),
        overlay_compressed=node.create_publisher(
            "~/overlay/compressed", "sensor_msgs/msg/CompressedImage"
        ),
        diagnostics=node.create_publisher("/diagnostics", diagnostics, QosProfile(depth=10)),
    )
