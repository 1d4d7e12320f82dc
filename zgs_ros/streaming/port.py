"""What a node needs of a middleware: an adapter fills it in, and knows nothing of what goes through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from zgs_ros.streaming.clock import Clock
from zgs_ros.streaming.messages import MessageFactory

LEASE_SECONDS = 20
"""For which others keep a process in mind that they hear nothing of, as Fast DDS does. With Cyclone
DDS's 10 s one that stood still for longer was found again only up to half a minute after it went on."""


@dataclass(frozen=True)
class QosProfile:
    """Quality of service of an endpoint.

    Attributes:
        reliable: Whether lost samples are sent again. A subscription that is not reliable matches
            every publisher; a reliable one only reliable publishers.
        depth: Samples that are kept for a slow side.
        transient_local: Whether who subscribes late gets the last samples. A subscription that wants
            them matches only publishers that keep them.
    """

    reliable: bool = True
    depth: int = 1
    transient_local: bool = False


SENSOR = QosProfile(reliable=False)
"""For subscriptions to cameras: the newest sample, from any kind of publisher."""

RELIABLE = QosProfile()
"""For results: the newest sample arrives."""

LATCHED = QosProfile(transient_local=True)
"""For what seldom changes and everybody needs: who comes late gets the last one."""

QUEUED = QosProfile(depth=10)
"""For what must not be passed over: diagnostics, requests, answers."""


@dataclass(frozen=True)
class Offer:
    """What the graph knows of one publisher of a topic.

    Attributes:
        type_name: Such as ``"sensor_msgs/msg/Image"``.
        qos: What it offers; its depth is not known everywhere and then 0.
    """

    type_name: str
    qos: QosProfile


class Closable(Protocol):
    """A part of the node that can be taken from the graph."""

    def close(self) -> None:
        """Takes it from the graph; does nothing the second time."""
        ...


class Publisher(Closable, Protocol):
    """A topic to write to."""

    def publish(self, message: Any) -> None:
        """Sends a message; must not wait for slow subscribers, and does nothing once it is closed."""
        ...

    def subscription_count(self) -> int:
        """How many subscriptions are matched now."""
        ...


class Subscription(Closable, Protocol):
    """A topic that is read."""

    @property
    def lost(self) -> int:
        """Messages that were sent and did not come, or could not be read, as far as is known."""
        ...


Callback = Callable[[Any], None]
Reply = Callable[[dict[str, Any]], None]
"""Takes the fields of a response, once, on any thread."""
Handler = Callable[[Any, Reply], None]
"""Takes a request, and what is to be called with the answer to it; does not wait for it."""


class Port(Protocol):
    """A node of the graph, as `SegmentationNode` sees it.

    Topics and services are named as in ROS: ``~/x`` is the node's own, ``x`` its namespace's; both may
    be remapped. Callbacks run on the adapter's threads, and the methods may be called from any.

    Attributes:
        full_name: Of the node, such as ``"/front/zgs"``.
        clock: That image stamps are on.
        factory: Makes messages.
    """

    @property
    def full_name(self) -> str:
        """See above."""
        ...

    @property
    def clock(self) -> Clock:
        """See above."""
        ...

    @property
    def factory(self) -> MessageFactory:
        """See above."""
        ...

    @property
    def lost(self) -> int:
        """What came and could not even be told to belong to a topic, as far as is known."""
        ...

    def resolve(self, topic: str) -> str:
        """The full name of a topic, remapped where it is."""
        ...

    def create_publisher(self, topic: str, type_name: str, qos: QosProfile = RELIABLE) -> Publisher:
        """A publisher of a topic, with a type such as ``"sensor_msgs/msg/Image"``."""
        ...

    def create_subscription(
        self, topic: str, type_name: str, callback: Callback, qos: QosProfile = SENSOR
    ) -> Subscription:
        """Subscribes to a topic; once the subscription is closed, the callback is not called."""
        ...

    def create_service(self, name: str, type_name: str, handler: Handler) -> Closable:
        """Offers a service with a type such as ``"zgs_ros/srv/QuerySegments"``."""
        ...

    def offers(self, topic: str) -> list[Offer]:
        """The publishers of a topic that the graph knows now, of whatever type."""
        ...
