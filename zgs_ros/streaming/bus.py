"""A middleware inside of one process: nodes on a bus, for tests and whoever needs no network."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from zgs_ros.streaming.clock import Clock, SystemClock
from zgs_ros.streaming.messages import MessageFactory
from zgs_ros.streaming.names import NodeNames
from zgs_ros.streaming.port import RELIABLE, SENSOR, Callback, Handler, Offer, QosProfile


class Bus:
    """Brings publishers, subscriptions and services of its nodes together.

    Messages are handed on as they are, on the thread of the publisher. Which endpoints match follows
    from types and QoS as on DDS; late subscriptions get what transient-local publishers kept.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._publishers: dict[str, list[BusPublisher]] = defaultdict(list)
        self._subscriptions: dict[str, list[BusSubscription]] = defaultdict(list)
        self._services: dict[str, BusService] = {}

    def call(self, name: str, request: Any) -> Future[dict[str, Any]]:
        """Fields of the response of a service.

        Raises:
            LookupError: If nobody offers it.
        """
        with self._lock:
            service = self._services.get(name)
        if service is None:
            raise LookupError(f"nobody offers the service {name}")
        answer: Future[dict[str, Any]] = Future()
        service.handler(request, answer.set_result)
        return answer

    def topics(self) -> dict[str, set[str]]:
        """Types of all topics that somebody publishes or subscribes to, by name."""
        found: dict[str, set[str]] = defaultdict(set)
        with self._lock:
            for ends in (self._publishers, self._subscriptions):
                for topic, members in ends.items():
                    found[topic].update(member.type_name for member in members)
        return {topic: types for topic, types in found.items() if types}


class BusPort:
    """A node on a bus; a `zgs_ros.streaming.port.Port`.

    Args:
        bus: What it is on.
        name: Node name.
        namespace: Such as ``"/front"``; "" or "/" is the root.
        factory: Makes messages.
        clock: That image stamps are on.
        remappings: Other names of topics and services: ``{"~/segments": "/labels"}``.

    Raises:
        ValueError: If a name is not valid.
    """

    lost = 0

    def __init__(
        self,
        bus: Bus,
        name: str,
        namespace: str = "",
        *,
        factory: MessageFactory,
        clock: Clock | None = None,
        remappings: Mapping[str, str] | None = None,
    ) -> None:
        self._names = NodeNames(name, namespace, remappings)
        self.full_name = self._names.full_name
        self.factory = factory
        self.clock = clock or SystemClock()
        self._bus = bus

    def resolve(self, topic: str) -> str:
        """The full name of a topic, remapped where it is."""
        return self._names.resolve(topic)

    def create_publisher(
        self, topic: str, type_name: str, qos: QosProfile = RELIABLE
    ) -> BusPublisher:
        """A publisher of a topic."""
        return BusPublisher(self._bus, self.resolve(topic), type_name, qos)

    def create_subscription(
        self, topic: str, type_name: str, callback: Callback, qos: QosProfile = SENSOR
    ) -> BusSubscription:
        """Subscribes to a topic."""
        return BusSubscription(self._bus, self.resolve(topic), type_name, callback, qos)

    def create_service(self, name: str, type_name: str, handler: Handler) -> BusService:
        """Offers a service."""
        return BusService(self._bus, self.resolve(name), type_name, handler)

    def offers(self, topic: str) -> list[Offer]:
        """The publishers of a topic."""
        with self._bus._lock:
            return [Offer(p.type_name, p.qos) for p in self._bus._publishers[self.resolve(topic)]]


@dataclass(eq=False)
class BusPublisher:
    """A topic to write to."""

    bus: Bus
    topic: str
    type_name: str
    qos: QosProfile
    kept: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        with self.bus._lock:
            self.bus._publishers[self.topic].append(self)

    def publish(self, message: Any) -> None:
        """Hands a message to all subscriptions that match."""
        with self.bus._lock:
            if self not in self.bus._publishers[self.topic]:
                return
            if self.qos.transient_local:
                self.kept = [*self.kept, message][-self.qos.depth :]
            listeners = self._matched()
        for subscription in listeners:
            subscription.callback(message)

    def subscription_count(self) -> int:
        """How many subscriptions match now."""
        with self.bus._lock:
            return len(self._matched())

    def close(self) -> None:
        """Takes the topic from the bus."""
        with self.bus._lock:
            if self in self.bus._publishers[self.topic]:
                self.bus._publishers[self.topic].remove(self)

    def _matched(self) -> list[BusSubscription]:
        return [s for s in self.bus._subscriptions[self.topic] if matches(self, s)]


@dataclass(eq=False)
class BusSubscription:
    """A topic that is read."""

    bus: Bus
    topic: str
    type_name: str
    callback: Callback
    qos: QosProfile
    lost: int = 0  # nothing ever is

    def __post_init__(self) -> None:
        with self.bus._lock:
            self.bus._subscriptions[self.topic].append(self)
            publishers = [p for p in self.bus._publishers[self.topic] if matches(p, self)]
        for publisher in publishers if self.qos.transient_local else ():
            for message in publisher.kept[-self.qos.depth :]:
                self.callback(message)

    def close(self) -> None:
        """Takes it from the bus."""
        with self.bus._lock:
            if self in self.bus._subscriptions[self.topic]:
                self.bus._subscriptions[self.topic].remove(self)


@dataclass(eq=False)
class BusService:
    """A service that is offered."""

    bus: Bus
    name: str
    type_name: str
    handler: Handler

    def __post_init__(self) -> None:
        with self.bus._lock:
            self.bus._services[self.name] = self

    def close(self) -> None:
        """Takes it from the bus."""
        with self.bus._lock:
            if self.bus._services.get(self.name) is self:
                del self.bus._services[self.name]


def matches(publisher: BusPublisher, subscription: BusSubscription) -> bool:
    """Whether what is offered is of the type and at least as good as what is asked for, as on DDS."""
    offered, asked = publisher.qos, subscription.qos
    return (
        publisher.type_name == subscription.type_name
        and offered.reliable >= asked.reliable
        and offered.transient_local >= asked.transient_local
    )
