"""The zgs node without ROS: the same topics, types, QoS and parameters as the rclpy node."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from zgs_ros import __version__
from zgs_ros.config import NodeSettings
from zgs_ros.dds.network import Network, socket_buffer_warning
from zgs_ros.dds.node import Node, QosProfile, Subscription
from zgs_ros.streaming.cameras import CameraInput
from zgs_ros.streaming.clock import SimulatedClock, SystemClock
from zgs_ros.streaming.depth import DepthFeed
from zgs_ros.streaming.diagnostics import Diagnosis
from zgs_ros.streaming.enrichment import Enrichment
from zgs_ros.streaming.images import decode
from zgs_ros.streaming.memory import memory_facts
from zgs_ros.streaming.outputs import Outputs, make_publishers
from zgs_ros.streaming.services import (
    QueryTopic,
    ServiceError,
    Services,
    TextSegmenter,
    outcome,
    submit,
)
from zgs_ros.streaming.statistics import Snapshot
from zgs_ros.streaming.stream import Result, SegmentationStream, StreamSettings
from zgs_ros.streaming.topics import InputTopics, input_topics

NODE_NAME = "zgs"
QUERY, SEGMENT_IMAGE = "zgs_ros/srv/QuerySegments", "zgs_ros/srv/SegmentImage"
DIAGNOSTICS_SECONDS = 1.0
STATUS_SECONDS = 5.0

logger = logging.getLogger(__name__)


class PeerSegmenter(TextSegmenter, Protocol):
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
        network: The network to join.
        image_topic: Topic of the camera, or with ``{camera}`` of each one; with compressed
            transport ``/compressed`` is appended. See `input_topics` for this and its default.
        name: Node name.
        namespace: Namespace of the node.
        distro: ROS distribution of the other nodes, by default ROS_DISTRO.
        depth_topic: Topic of the registered depth, as `image_topic`.
        camera_info_topic: Topic of the camera_info, as `image_topic`.
        remappings: Other names of topics and services: ``{"~/segments": "/labels"}``.
        use_sim_time: Whether time is what ``/clock`` tells, as ``ros2 bag play --clock`` publishes.
    """

    network: Network
    image_topic: str = ""
    name: str = NODE_NAME
    namespace: str = ""
    distro: str | None = None
    depth_topic: str = ""
    camera_info_topic: str = ""
    remappings: Mapping[str, str] = field(default_factory=dict)
    use_sim_time: bool = False


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
        topics = input_topics(
            settings.cameras, options.image_topic, options.depth_topic, options.camera_info_topic
        )
        self._segmenter = segmenter
        self._settings = settings
        self._clock = SimulatedClock() if options.use_sim_time else SystemClock()
        self.node = Node(
            options.name,
            options.namespace,
            network=options.network,
            distro=options.distro,
            remappings=options.remappings,
        )
        try:
            self._outputs = _outputs(self.node, settings)
            limited = partial(decode, max_pixels=settings.max_pixels)
            self._services = Services(segmenter, self.node.types, limited)
            self._enrichment = Enrichment(settings, self._clock)
            self.stream = SegmentationStream(
                segmenter,
                self._publish,
                wanted=self._outputs.wanted,
                clock=self._clock,
                settings=StreamSettings(settings.max_rate, settings.lazy),
                decode=limited,
                enrich=self._enrichment,
            )
            self.stream.start()
            if isinstance(self._clock, SimulatedClock):
                self.node.create_subscription(
                    "/clock", "rosgraph_msgs/msg/Clock", self._clock.offer
                )
            self._answer_queries()
            services = self._services
            self._offer_service("~/query", QUERY, services.respond_to_query)
            self._offer_service("~/segment_image", SEGMENT_IMAGE, services.respond_to_image)
            self._images = [self._subscribe(name, topics[name]) for name in settings.cameras]
        except BaseException:
            self.close()
            raise

    @property
    def image_topics(self) -> list[str]:
        """Full names of the topics that images come from."""
        return [images.topic for images in self._images]

    def publish_diagnostics(self) -> None:
        """Publishes the state once; to be called about once a second."""
        facts = {
            "version": __version__,
            "model": self._segmenter.model,
            "device": str(self._segmenter.device),
            "profile": self._settings.profile,
            "image topic": ", ".join(self.image_topics),
            "image publishers": str(sum(images.publisher_count() for images in self._images)),
            "result subscribers": "yes" if self._outputs.wanted() else "no",
            **self._enrichment.facts(),
            **memory_facts(self._segmenter.device),
        }
        diagnosis = Diagnosis(
            self.stream.statistics.snapshot(),
            self._settings.cameras,
            self._outputs.wanted(),
            facts,
            self._enrichment.problems(),
        )
        self._outputs.publish_diagnostics(self._clock.now_ns(), self.node.full_name, diagnosis)

    def status(self) -> str:
        """One line for the log."""
        silent = [images.topic for images in self._images if not images.publisher_count()]
        if len(silent) == len(self._images):
            return f"waiting for a camera: nobody publishes {', '.join(silent)}"
        return describe(self.stream.statistics.snapshot(), self._outputs.wanted())

    def close(self) -> None:
        """Finishes and publishes the frame in work, then leaves the graph."""
        if hasattr(self, "stream"):
            self.stream.stop()
        self.node.close()

    def _publish(self, result: Result) -> None:
        self._services.remember(result)
        self._outputs.publish(result)

    def _answer_queries(self) -> None:
        result = self.node.create_publisher("~/query/result", "zgs_ros/msg/QueryResult")
        answer = QueryTopic(self.stream, self._services, result)
        self.node.create_subscription(
            "~/query/request", "zgs_ros/msg/Query", answer, QosProfile(depth=10)
        )

    def _offer_service(
        self, name: str, kind: str, respond: Callable[[Any], dict[str, Any]]
    ) -> None:
        """A service whose answers are made on the stream's thread."""

        def handle(request: Any, reply: Callable[[Any], None]) -> None:
            def finish(done: Future[dict[str, Any]]) -> None:
                try:
                    answer: dict[str, Any] = outcome(done)
                    fields = {"success": True, **answer}
                except ServiceError as error:
                    fields = {"message": str(error)}
                reply(self.node.types.create_partly(f"{kind}_Response", **fields))

            submit(self.stream, lambda: respond(request)).add_done_callback(finish)

        self.node.create_service(name, kind, handle)

    def _subscribe(self, name: str, topics: InputTopics) -> Subscription:
        """Subscribes to all that comes from a camera; returns the subscription to its images."""
        image, subscribe = "sensor_msgs/msg/Image", self.node.create_subscription
        feed = None
        if self._settings.depth.enabled:
            simulated = self._clock if isinstance(self._clock, SimulatedClock) else None
            feed = DepthFeed(self._settings.depth.slop, simulated)
        if feed:
            subscribe(topics.depth, image, feed.offer)
            subscribe(topics.camera_info, "sensor_msgs/msg/CameraInfo", feed.offer_info)
        camera = CameraInput(name, self.stream, feed)
        if self._settings.image_transport == "compressed":
            compressed = "sensor_msgs/msg/CompressedImage"
            return subscribe(f"{topics.image}/compressed", compressed, camera.offer)
        return subscribe(topics.image, image, camera.offer)


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
        "images from %s, results on %s/...",
        ", ".join(peer.image_topics),
        node.full_name,
    )
    shown = ""
    next_status = 0.0
    while True:
        peer.publish_diagnostics()
        if time.monotonic() >= next_status and (status := peer.status()) != shown:
            logger.info(status)
            shown, next_status = status, time.monotonic() + STATUS_SECONDS
        time.sleep(DIAGNOSTICS_SECONDS)


def _outputs(node: Node, settings: NodeSettings) -> Outputs:
    cameras = {
        name: make_publishers(name, node.create_publisher, settings) for name in settings.cameras
    }
    diagnostics = node.create_publisher(
        "/diagnostics", "diagnostic_msgs/msg/DiagnosticArray", QosProfile(depth=10)
    )
    return Outputs(node.types, cameras, diagnostics, settings)
