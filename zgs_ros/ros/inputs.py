"""Subscriptions to a camera: images, and depth that message_filters pairs with them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from zgs_ros.config import NodeSettings
from zgs_ros.streaming.cameras import CameraInput
from zgs_ros.streaming.depth import DepthFeed, stamp_ns
from zgs_ros.streaming.stream import SegmentationStream

CAMERA_QOS = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.BEST_EFFORT,
    durability=DurabilityPolicy.VOLATILE,
)
"""Matches reliable and best-effort cameras; only the newest frame is worth having."""

QUEUE_SIZE = 10
"""Images (their headers) and depth images that wait for each other."""


class CameraSubscriptions:
    """What the node reads from one camera, until it is closed.

    Args:
        node: That subscribes. Topics are ``image``, ``depth`` and ``camera_info``, of a camera with
            a name ``NAME/image`` and so on, to be remapped.
        name: The camera's name, "" for the only one.
        stream: Where its frames go.
        settings: Transport and depth.
    """

    def __init__(
        self, node: Node, name: str, stream: SegmentationStream, settings: NodeSettings
    ) -> None:
        self._node = node
        self._prefix = f"{name}/" if name else ""
        self._pairing = _Pairing(settings.depth.slop, node) if settings.depth.enabled else None
        feed = self._pairing.feed if self._pairing else None
        self._camera = CameraInput(name, stream, feed)
        self._subscriptions: list[Any] = []
        compressed = settings.image_transport == "compressed"
        # As image_transport names it: the remapped topic, then the transport.
        self.topic = self._resolve("image") + ("/compressed" if compressed else "")
        self._subscribe(CompressedImage if compressed else Image, self.topic, self._offer)
        if self._pairing:
            self._subscribe(Image, self._resolve("depth"), self._pairing.offer_depth)
            self._subscribe(CameraInfo, self._resolve("camera_info"), self._pairing.feed.offer_info)

    def set_slop(self, seconds: float) -> None:
        """Changes by how much the stamps of an image and its depth may differ."""
        if self._pairing:
            self._pairing.set_slop(seconds)

    def close(self) -> None:
        """Unsubscribes."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()

    def _resolve(self, topic: str) -> str:
        return str(self._node.resolve_topic_name(f"{self._prefix}{topic}"))

    def _subscribe(self, kind: Any, topic: str, callback: Any) -> None:
        subscription = self._node.create_subscription(kind, topic, callback, CAMERA_QOS)
        self._subscriptions.append(subscription)

    def _offer(self, message: Any) -> None:
        if not self._subscriptions:
            return  # a message that was taken before the subscription went
        self._camera.offer(message)
        if self._pairing:
            self._pairing.offer_image(message.header)


class _RosClock:
    """A node's clock, which may be simulated, as a `zgs_ros.streaming.clock.Clock`."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def now_ns(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)


class _Pairing:
    """Finds the depth of each image with message_filters. Images don't wait for it: only their
    headers are held, and depth that is found goes after its image, see `DepthFeed`."""

    def __init__(self, slop: float, node: Node) -> None:
        import message_filters  # only needed with depth

        self.feed = DepthFeed(slop, _RosClock(node))
        self._headers = message_filters.SimpleFilter()
        self._depths = message_filters.SimpleFilter()
        self._filter = message_filters.ApproximateTimeSynchronizer(
            [self._headers, self._depths], QUEUE_SIZE, slop
        )
        self._filter.registerCallback(
            lambda image, depth: self.feed.offer(depth, stamp_ns(image.header))
        )
        self.set_slop(slop)
        self._last = 0

    def set_slop(self, seconds: float) -> None:
        self.feed.slop = seconds
        # The filter wants less than its slop, which is to be allowed itself.
        self._filter.slop = Duration(nanoseconds=round(seconds * 1e9) + 1)

    def offer_image(self, header: Any) -> None:
        stamp = stamp_ns(header)
        if stamp < self._last:  # a bag began again: the filter would only know the newest stamps
            for queue in self._filter.queues:
                queue.clear()
        self._last = stamp
        self._headers.signalMessage(SimpleNamespace(header=header))

    def offer_depth(self, message: Any) -> None:
        self._depths.signalMessage(message)
