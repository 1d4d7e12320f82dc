"""The zgs node without ROS: the same topics, types, QoS and parameters as the rclpy node."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

from zgs_ros.config import NodeSettings
from zgs_ros.dds.network import Network, socket_buffer_warning
from zgs_ros.dds.node import DdsNode
from zgs_ros.segmentation import ImageSegmenter
from zgs_ros.streaming.diagnostics import Diagnosis
from zgs_ros.streaming.inputs import INPUTS, input_topic
from zgs_ros.streaming.node import PERIOD, SegmentationNode
from zgs_ros.streaming.topics import input_topics

NODE_NAME = "zgs"
STATUS_SECONDS = 5.0

logger = logging.getLogger(__name__)


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
        remappings: Other names of topics and services: ``{"~/segments": "/labels"}``. They win over
            the topics above: ``{"image": "/rear/image_raw"}``.
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

    def names(self, settings: NodeSettings) -> dict[str, str]:
        """All remappings: the topics of the cameras, and what was asked for.

        Raises:
            ValueError: If several cameras would have the same topic.
        """
        topics = input_topics(
            settings.cameras, self.image_topic, self.depth_topic, self.camera_info_topic
        )
        cameras = {
            input_topic(camera, row): getattr(topics[camera], row.name)
            for camera in settings.cameras
            for row in INPUTS
        }
        return {**cameras, **self.remappings}


@contextmanager
def open_peer(
    settings: NodeSettings,
    options: PeerOptions,
    load: Callable[[NodeSettings], ImageSegmenter],
) -> Iterator[tuple[DdsNode, SegmentationNode]]:
    """The node on the network, not configured yet, until the end of the block.

    Args:
        settings: Of the node.
        options: Its place in the graph.
        load: Makes the segmenter, `zgs_ros.segmenter.load_segmenter`.

    Raises:
        ValueError: If a name or topic is not valid.
        zgs_ros.dds.raw.DdsError: If the network can't be joined.
    """
    with DdsNode(
        options.name,
        options.namespace,
        network=options.network,
        distro=options.distro,
        remappings=options.names(settings),
        use_sim_time=options.use_sim_time,
    ) as port:
        kept = settings.model_copy(update={"keep_models": True})  # there is no lifecycle
        node = SegmentationNode(port, kept, load)
        try:
            yield port, node
        finally:
            node.close()


def run(
    settings: NodeSettings,
    options: PeerOptions,
    load: Callable[[NodeSettings], ImageSegmenter],
) -> None:
    """Joins the network, loads the models and works until it is interrupted.

    Args:
        settings: Of the node.
        options: Its place in the graph.
        load: Makes the segmenter, `zgs_ros.segmenter.load_segmenter`.

    Raises:
        zgs_ros.models.ModelError: If the models can't be loaded.
        ValueError: If a name or topic is not valid.
        zgs_ros.dds.raw.DdsError: If the network can't be joined.
    """
    if warning := socket_buffer_warning():
        logger.warning(warning)
    with open_peer(settings, options, load) as (port, node):
        logger.info("node %s on domain %d", port.full_name, port.network.domain)
        with _looking(node):
            began = time.monotonic()
            _in_background(node.configure)
            logger.info("ready after %.1f s", time.monotonic() - began)
            node.activate()
            for name in options.remappings:
                if not port.has(name):
                    logger.warning("--remap %s: nothing of the node is called so", name)
            logger.info("results on %s/...", port.full_name)
            try:
                _tell_status(node)
            finally:
                node.deactivate()
                logger.info("stopped: %s", describe(node.diagnose()))


def status(node: SegmentationNode) -> str:
    """One line for the log."""
    silent = [c.image for c in node.cameras if not c.image.publisher_count()]
    if problems := [problem for camera in node.cameras for problem in camera.problems()]:
        return f"waiting for a camera: {'; '.join(problems)}"
    if node.cameras and len(silent) == len(node.cameras):
        return f"waiting for a camera: nobody publishes {', '.join(s.topic for s in silent)}"
    return describe(node.diagnose())


def describe(diagnosis: Diagnosis) -> str:
    """The statistics as one line."""
    snapshot = diagnosis.snapshot
    if not snapshot.received:
        return "no image received yet"
    counts = (
        f"{snapshot.received} images, {snapshot.processed} processed, "
        f"{snapshot.drops} dropped, {snapshot.rejections} rejected"
    )
    if not diagnosis.wanted:
        return f"resting, nobody subscribes to results ({counts})"
    latency = f", latency {snapshot.latency.p50:.2f} s" if snapshot.latency else ""
    return f"{snapshot.rate:.1f} results/s, {snapshot.segments} segments{latency} ({counts})"


@contextmanager
def _looking(node: SegmentationNode) -> Iterator[None]:
    """Has the node look after itself once a second, also while its models are being loaded."""
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            node.look()
            over.wait(PERIOD)

    thread = threading.Thread(target=look, name="zgs-look", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _in_background(work: Callable[[], None]) -> None:
    """Does something on another thread and waits for it: this one then hears signals meanwhile."""
    done: Future[None] = Future()

    def do() -> None:
        try:
            work()
            done.set_result(None)
        except BaseException as error:  # belongs to whoever waits
            done.set_exception(error)

    threading.Thread(target=do, name="zgs-loading", daemon=True).start()
    done.result()


def _tell_status(node: SegmentationNode) -> None:
    """Logs how the node is whenever that changes, until it is interrupted."""
    shown = ""
    while True:
        if (now := status(node)) != shown:
            logger.info(now)
            shown = now
            time.sleep(STATUS_SECONDS - PERIOD)
        time.sleep(PERIOD)
