"""What a node reads from each of its cameras: one table, and the subscriptions that follow from it."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from zgs_ros.config import NodeSettings
from zgs_ros.streaming.pairing import QUEUE_LENGTH, DepthFeed, RecentMessages
from zgs_ros.streaming.port import Offer, Port, QosProfile, Subscription
from zgs_ros.streaming.stream import SegmentationStream

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
TRANSPORTS = {"raw": (IMAGE, ""), "compressed": (COMPRESSED_IMAGE, "/compressed")}
"""Type of the image topic, and what its name ends in, by `NodeSettings.image_transport`."""

DEPTH_TRANSPORTS = {**TRANSPORTS, "compressedDepth": (COMPRESSED_IMAGE, "/compressedDepth")}
"""Likewise of the depth topic, by `DepthSettings.transport`."""

FIRST_WAIT = 2.0
LONGEST_WAIT = 60.0
"""Seconds of silence of a topic that somebody publishes after which it is subscribed to anew: at first,
and at most, since each time in vain doubles them. A topic whose messages are further apart gets longer."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Input:
    """A topic that is read from a camera.

    Attributes:
        name: Of the topic in the node's namespace, after the camera's; to be remapped.
        meaning: What is in it; for the reference.
        type_name: Of its messages, by the node's settings.
        exists: Whether a node with these settings reads it.
        ending: What is appended to the (remapped) name, by the node's settings.
        depth: Messages that wait at most, see `QosProfile`.
        keeps_coming: Whether its silence is odd: camera_info may be published once.
    """

    name: str
    meaning: str
    type_name: Callable[[NodeSettings], str]
    exists: Callable[[NodeSettings], bool] = lambda settings: True
    ending: Callable[[NodeSettings], str] = lambda settings: ""
    depth: int = 1
    keeps_coming: bool = True


INPUTS = (
    Input(
        "image",
        "Colour images; of several that wait the newest is taken. With image_transport "
        "'compressed' image/compressed is read instead, a CompressedImage.",
        lambda settings: TRANSPORTS[settings.image_transport][0],
        ending=lambda settings: TRANSPORTS[settings.image_transport][1],
    ),
    Input(
        "depth",
        "Depth registered to the image: 32FC1 in metres, or 16UC1 in millimetres. With "
        "depth.transport 'compressed' or 'compressedDepth' depth/compressed or depth/compressedDepth "
        "is read instead, a CompressedImage. With depth.enabled.",
        lambda settings: DEPTH_TRANSPORTS[settings.depth.transport][0],
        lambda settings: settings.depth.enabled,
        lambda settings: DEPTH_TRANSPORTS[settings.depth.transport][1],
        depth=QUEUE_LENGTH,
    ),
    Input(
        "camera_info",
        "Calibration of the image. With depth.enabled, and for classes with mask_topic.",
        lambda settings: CAMERA_INFO,
        lambda settings: settings.depth.enabled,
        keeps_coming=False,
    ),
)
"""All of them."""


def input_topic(camera: str, row: Input) -> str:
    """Topic of a camera's input before it is remapped: ``image``, or ``front/image``."""
    return f"{camera}/{row.name}" if camera else row.name


def full_topic(port: Port, camera: str, row: Input, settings: NodeSettings) -> str:
    """Where a camera's messages come from: the remapped topic, and as image_transport names it."""
    topic = port.resolve(input_topic(camera, row))
    return topic.removesuffix(row.ending(settings)) + row.ending(settings)


def image_topic(port: Port, camera: str, settings: NodeSettings) -> str:
    """Where a camera's images come from."""
    return full_topic(port, camera, INPUTS[0], settings)


class CameraInputs:
    """The subscriptions to one camera, until they are closed.

    Args:
        port: That subscribes.
        camera: The camera's name, "" for the only one.
        stream: Where its images go.
        settings: Transport, reliability and depth.
        recent: Keeps depth images, see `DepthFeed`.
        wants_info: Whether camera_info is read also without depth.

    Attributes:
        info: The latest camera_info, None if none came yet.
    """

    def __init__(
        self,
        port: Port,
        camera: str,
        stream: SegmentationStream,
        settings: NodeSettings,
        recent: Callable[[], RecentMessages],
        wants_info: bool = False,
    ) -> None:
        self.info: Any = None
        self._camera = camera
        self._stream = stream
        self.feed = DepthFeed(settings.depth.slop, recent) if settings.depth.enabled else None
        takers: dict[str, Callable[[Any], None]] = {"image": self._take_image}
        if self.feed:
            takers["depth"] = self.feed.offer
        if self.feed or wants_info:
            takers["camera_info"] = self._take_info
        self._subscriptions: dict[str, FollowingSubscription] = {}
        with ExitStack[None]() as undo:
            for row in INPUTS:
                if row.name in takers:
                    self._subscriptions[row.name] = made = FollowingSubscription(
                        port,
                        full_topic(port, camera, row, settings),
                        row.type_name(settings),
                        takers[row.name],
                        row.depth,
                        settings.image_reliability,
                        first_wait=FIRST_WAIT if row.keeps_coming else math.inf,
                    )
                    undo.callback(made.close)
            undo.pop_all()

    @property
    def image(self) -> FollowingSubscription:
        """The subscription to the images."""
        return self._subscriptions["image"]

    @property
    def renewals(self) -> int:
        """How often a silent topic of the camera was subscribed to anew."""
        return sum(subscription.renewals for subscription in self._subscriptions.values())

    @property
    def lost(self) -> int:
        """Messages of the camera that are known to be lost before they came in."""
        return sum(subscription.lost for subscription in self._subscriptions.values())

    def problems(self) -> list[str]:
        """What is wrong with the camera's topics, as far as the graph shows it."""
        return [text for s in self._subscriptions.values() if (text := s.problem())]

    def look(self) -> None:
        """Follows what the publishers offer; to be called about once a second."""
        for subscription in self._subscriptions.values():
            subscription.look()

    def close(self) -> None:
        """Unsubscribes."""
        for subscription in self._subscriptions.values():
            subscription.close()

    def _take_info(self, message: Any) -> None:
        self.info = message
        if self.feed:
            self.feed.offer_info(message)

    def _take_image(self, message: Any) -> None:
        ticket = self.feed.expect(message.header) if self.feed else None
        self._stream.offer(self._camera, message.header, message, ticket)


class FollowingSubscription:
    """A subscription with the QoS that the topic's publishers offer, which is kept alive.

    A best-effort subscription fits every publisher, but one to a reliable publisher of large images
    can go deaf for good once its process was stalled (Cyclone DDS 0.10). So it is reliable where all
    publishers are, and made anew where a topic that somebody publishes is silent for long. Where all
    publishers keep their last message for those who come late, it is asked for.

    Args:
        port: That subscribes.
        topic: Full name.
        type_name: Such as ``"sensor_msgs/msg/Image"``.
        callback: Takes the messages.
        depth: Messages that wait at most, see `QosProfile`.
        reliability: ``auto`` follows the publishers; ``reliable`` and ``best_effort`` don't.
        first_wait: Seconds of silence after which it is made anew at first.
    """

    def __init__(
        self,
        port: Port,
        topic: str,
        type_name: str,
        callback: Callable[[Any], None],
        depth: int = 1,
        reliability: str = "auto",
        first_wait: float = FIRST_WAIT,
    ) -> None:
        self.topic = topic
        self.renewals = 0
        self._lost_before = 0
        self._port = port
        self._type_name = type_name
        self._callback = callback
        self._depth = depth
        self._reliability = reliability
        self._offers: list[Offer] = port.offers(topic)
        self._qos = self._fitting_qos()
        self._first_wait = self._wait = first_wait
        self._silent_since = self._heard = time.monotonic()
        self._gap = 0.0  # between the latest two messages [s]
        self._lock = threading.Lock()  # held while the subscription is exchanged or closed
        self._closed = False
        self._subscription = self._subscribe(self._qos)

    @property
    def reliable(self) -> bool:
        """Whether lost messages are sent again."""
        return self._qos.reliable

    @property
    def lost(self) -> int:
        """Messages that were sent and did not come, or could not be read, as far as is known."""
        return self._lost_before + self._subscription.lost

    def publisher_count(self) -> int:
        """Publishers of the topic that have its type, as of the latest look."""
        return len(self._fitting())

    def problem(self) -> str:
        """What is wrong with the publishers, "" if nothing."""
        others = sorted({offer.type_name for offer in self._offers} - {self._type_name})
        if others and not self._fitting():
            return f"{self.topic} is published as {', '.join(others)}, not as {self._type_name}"
        if self._reliability == "reliable" and not all(o.qos.reliable for o in self._fitting()):
            return (
                f"{self.topic} is published best effort, which image_reliability 'reliable' does not "
                "hear; choose auto or best_effort"
            )
        return ""

    def look(self) -> None:
        """Looks at the publishers, and subscribes anew where that is due; not once it is closed."""
        self._offers = self._port.offers(self.topic)
        with self._lock:
            if not self._closed:
                self._follow()

    def close(self) -> None:
        """Unsubscribes."""
        with self._lock:
            self._closed = True
            self._subscription.close()

    def _follow(self) -> None:
        now = time.monotonic()
        if not self._fitting():
            self._silent_since = now
        wanted = self._fitting_qos() if self._fitting() else self._qos
        silent = now - self._silent_since
        if wanted == self._qos and silent < self._wait:
            return
        if wanted == self._qos:
            self.renewals += 1
            self._wait = min(2 * self._wait, LONGEST_WAIT)
            logger.warning(
                "%s is silent for %.0f s though it is published; subscribing anew",
                self.topic,
                silent,
            )
        before, self._subscription = self._subscription, self._subscribe(wanted)
        self._qos = wanted
        self._silent_since = now
        self._lost_before += before.lost
        before.close()

    def _fitting(self) -> list[Offer]:
        return [offer for offer in self._offers if offer.type_name == self._type_name]

    def _fitting_qos(self) -> QosProfile:
        offers = [offer.qos for offer in self._fitting()]
        if not offers:
            return QosProfile(reliable=self._reliability == "reliable", depth=self._depth)
        latched = all(offer.transient_local for offer in offers)
        reliable = {
            "auto": all(offer.reliable for offer in offers),
            "reliable": True,
            "best_effort": False,
        }[self._reliability]
        return QosProfile(reliable, self._depth, latched and reliable)

    def _subscribe(self, qos: QosProfile) -> Subscription:
        return self._port.create_subscription(self.topic, self._type_name, self._take, qos)

    def _take(self, message: Any) -> None:
        if self._closed:
            return  # a message that was taken before the subscription went
        now = time.monotonic()
        gap, self._heard, self._silent_since = now - self._heard, now, now
        # A camera may be slow; of two gaps the shorter one tells, since the other may be a stall.
        self._wait = max(self._first_wait, min(2 * min(gap, self._gap), LONGEST_WAIT))
        self._gap = gap
        self._callback(message)
