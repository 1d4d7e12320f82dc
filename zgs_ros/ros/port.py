"""An rclpy node as the port of a `zgs_ros.streaming.node.SegmentationNode`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.time import Time

from zgs_ros.ros.convert import (
    InvalidHandle,
    RCLError,
    RclpyMessages,
    message_class,
    read_message,
)
from zgs_ros.ros.events import SubscriptionEventCallbacks, UnsupportedEventTypeError
from zgs_ros.ros.transitions import finished
from zgs_ros.streaming.pairing import QUEUE_LENGTH
from zgs_ros.streaming.port import RELIABLE, SENSOR, Callback, Handler, Offer, QosProfile
from zgs_ros.streaming.throttle import ThrottledLog
from zgs_ros.texts import printable

logger = logging.getLogger(__name__)

BEGINNING = Time(clock_type=ClockType.ROS_TIME)
END = Time(nanoseconds=2**63 - 1, clock_type=ClockType.ROS_TIME)
"""Of what a stamp can say."""


class RclpyPort:
    """What an rclpy node has of the graph; a `zgs_ros.streaming.port.Port`.

    Args:
        node: Whose topics and services they are.
    """

    lost = 0
    """No middleware tells it."""

    def __init__(self, node: Node) -> None:
        self.factory = RclpyMessages()
        self.clock = RosClock(node)
        self._node = node
        # Of their own: a request that waits for the stream must not hold up the node, and further
        # ones wait in the middleware's bounded queue.
        self._services = MutuallyExclusiveCallbackGroup()

    @property
    def full_name(self) -> str:
        """Name with namespace, ``"/front/zgs"``."""
        return str(self._node.get_fully_qualified_name())

    def resolve(self, topic: str) -> str:
        """The full name of a topic, remapped where it is."""
        return str(self._node.resolve_topic_name(topic))

    def create_publisher(
        self, topic: str, type_name: str, qos: QosProfile = RELIABLE
    ) -> RclpyPublisher:
        """A publisher of a topic."""
        return RclpyPublisher(self._node, topic, type_name, qos)

    def create_subscription(
        self, topic: str, type_name: str, callback: Callback, qos: QosProfile = SENSOR
    ) -> RclpySubscription:
        """Subscribes to a topic."""
        return RclpySubscription(self._node, topic, type_name, callback, qos)

    def create_service(self, name: str, type_name: str, handler: Handler) -> _Closing:
        """Offers a service."""

        async def answer(request: Any, response: Any) -> Any:
            answered: Future[dict[str, Any]] = Future()
            handler(request, answered.set_result)
            await finished(answered, self._node)
            for field, value in answered.result().items():
                setattr(response, field, value)
            return response

        made = self._node.create_service(
            message_class(type_name), name, answer, callback_group=self._services
        )
        return _Closing(lambda: self._node.destroy_service(made))

    def offers(self, topic: str) -> list[Offer]:
        """The publishers of a topic that the graph knows now; none during shutdown."""
        try:
            found = self._node.get_publishers_info_by_topic(self.resolve(topic))
        except (RCLError, InvalidHandle):
            if self._node.context.ok():
                raise
            return []
        return [Offer(str(info.topic_type), _offered(info.qos_profile)) for info in found]


class RclpyPublisher:
    """A topic to write to.

    Args:
        node: That publishes.
        topic: As the node resolves it.
        type_name: Such as ``"sensor_msgs/msg/Image"``.
        qos: Of the publisher.
    """

    def __init__(self, node: Node, topic: str, type_name: str, qos: QosProfile) -> None:
        self._node = node
        self._publisher = node.create_publisher(message_class(type_name), topic, _profile(qos))
        self._closed = False

    def publish(self, message: Any) -> None:
        """Sends a message."""
        try:
            self._publisher.publish(message)
        except (RCLError, InvalidHandle):
            if self._is_alive():
                raise

    def subscription_count(self) -> int:
        """How many subscriptions are matched now; none during shutdown and once it is closed."""
        try:
            return int(self._publisher.get_subscription_count())
        except (RCLError, InvalidHandle):
            if self._is_alive():
                raise
            return 0

    def close(self) -> None:
        """Takes the topic from the graph; what other threads still publish goes nowhere."""
        if not self._closed:
            self._closed = True
            self._node.destroy_publisher(self._publisher)

    def _is_alive(self) -> bool:
        return self._node.context.ok() and not self._closed


class RclpySubscription:
    """A topic that is read; an exception of the callback costs its message, not the node.

    Samples come in as bytes and are read here: of one that is no message the middleware would hand
    over what it had read until then, under Cyclone DDS with an array as long as the sample claims
    to have, which are gigabytes.

    Args:
        node: That subscribes.
        topic: As the node resolves it.
        type_name: Such as ``"sensor_msgs/msg/Image"``.
        callback: Takes the messages.
        qos: Of the subscription.
    """

    def __init__(
        self, node: Node, topic: str, type_name: str, callback: Callback, qos: QosProfile
    ) -> None:
        self._never_came = self._malformed = 0
        self._node = node
        self._topic = topic
        self._type_name = type_name
        self._callback = callback
        self._log = ThrottledLog(logger)
        kind, profile = message_class(type_name), _profile(qos)
        subscribe = partial(node.create_subscription, kind, topic, self._take, profile, raw=True)
        try:
            lost = SubscriptionEventCallbacks(message_lost=self._count_lost)
            self._subscription = subscribe(event_callbacks=lost)
        except UnsupportedEventTypeError:  # of a middleware that does not tell
            self._subscription = subscribe()
        self._closed = False

    @property
    def lost(self) -> int:
        """Messages that the middleware knows to be lost, or that are malformed."""
        return self._never_came + self._malformed

    def close(self) -> None:
        """Takes it from the graph."""
        if not self._closed:
            self._closed = True
            self._node.destroy_subscription(self._subscription)

    def _take(self, cdr: bytes) -> None:
        try:
            message = read_message(cdr, self._type_name)
        except Exception as error:
            self._malformed += 1
            text = (
                f"{self._topic}: {len(cdr)} bytes are no {self._type_name}: {printable(str(error))}"
            )
            self._log.log(logging.WARNING, "malformed", text)
            return
        try:
            self._callback(message)
        except Exception as error:  # else it would end the executor, and the node with it
            text = f"{self._topic}: a message is left out: {error}"
            self._log.log(logging.ERROR, "callback", text, exc_info=True)

    def _count_lost(self, event: Any) -> None:
        self._never_came = int(event.total_count)


class RosClock:
    """A node's clock, which may be simulated, as a `zgs_ros.streaming.clock.Clock`."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def now_ns(self) -> int:
        """Nanoseconds of ROS time."""
        return int(self._node.get_clock().now().nanoseconds)


class RecentDepth:
    """The newest depth images in a cache of message_filters, as `RecentMessages`."""

    def __init__(self) -> None:
        from message_filters import Cache, SimpleFilter  # only needed with depth

        self._cache = Cache(SimpleFilter(), QUEUE_LENGTH)

    def add(self, message: Any) -> None:
        """Takes in a message; the oldest one goes where there are too many.

        Those of before 1970, which no time of rclpy is, are passed over: they belong to no image.
        """
        if message.header.stamp.sec >= 0:
            self._cache.add(message)

    def __iter__(self) -> Iterator[Any]:
        # Not from the cache's oldest to its latest time: those are of the first and last to come in,
        # whatever their order, and the latter's method has another name up to Jazzy.
        return iter(self._cache.getInterval(BEGINNING, END))


class _Closing:
    """Something that can be taken from the graph once."""

    def __init__(self, close: Callable[[], object]) -> None:
        self._close: Callable[[], object] | None = close

    def close(self) -> None:
        close, self._close = self._close, None
        if close:
            close()


def _profile(qos: QosProfile) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=qos.depth,
        reliability=ReliabilityPolicy.RELIABLE if qos.reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL
        if qos.transient_local
        else DurabilityPolicy.VOLATILE,
    )


def _offered(profile: QoSProfile) -> QosProfile:
    return QosProfile(
        reliable=profile.reliability == ReliabilityPolicy.RELIABLE,
        depth=0,
        transient_local=profile.durability == DurabilityPolicy.TRANSIENT_LOCAL,
    )
