"""A ROS 2 node on Cyclone DDS: it shows in the graph, publishes and subscribes."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from cyclonedds.core import DDSException, GuardCondition, ReadCondition, WaitSet
from cyclonedds.domain import DomainParticipant
from cyclonedds.pub import DataWriter
from cyclonedds.qos import Policy, Qos
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from cyclonedds.util import duration

from zgs_ros.dds import domains, raw
from zgs_ros.dds.network import Network
from zgs_ros.dds.raw import DdsError
from zgs_ros.dds.service import Handler, Service, service_id
from zgs_ros.dds.types import TypeSupport
from zgs_ros.streaming.throttle import ThrottledLog
from zgs_ros.texts import printable

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ENTITIES = "rmw_dds_common/msg/ParticipantEntitiesInfo"
_BLOCKING_SECONDS = 0.1
_SAMPLES_PER_TAKE = 8


@dataclass(frozen=True)
class QosProfile:
    """Quality of service of a topic.

    Attributes:
        reliable: Whether lost samples are sent again. A subscription that is not reliable matches
            every publisher; a reliable one only reliable publishers.
        depth: Samples that are kept for a slow side.
        transient_local: Whether who subscribes late gets the last samples.
    """

    reliable: bool = True
    depth: int = 1
    transient_local: bool = False

    def to_dds(self, type_hash: str, user_data: str = "") -> Qos:
        """The QoS of an endpoint whose type has the given hash, with further user data."""
        return Qos(
            Policy.Reliability.Reliable(duration(seconds=_BLOCKING_SECONDS))
            if self.reliable
            else Policy.Reliability.BestEffort,
            Policy.History.KeepLast(self.depth),
            Policy.Durability.TransientLocal
            if self.transient_local
            else Policy.Durability.Volatile,
            Policy.DataRepresentation(
                use_cdrv0_representation=True, use_xcdrv2_representation=False
            ),
            Policy.Userdata(f"{user_data}typehash={type_hash};".encode()),
        )


SENSOR = QosProfile(reliable=False)
"""For subscriptions to cameras: the newest sample, from any kind of publisher."""

RELIABLE = QosProfile()
"""For publishers: the newest sample arrives."""

SERVICE = QosProfile(depth=10)
"""For services: those that wait for their answer."""


class Publisher:
    """A topic to write to; made by `Node.create_publisher`."""

    def __init__(self, topic: str, types: TypeSupport, writer: DataWriter) -> None:
        self.topic = topic
        self._types = types
        self._writer = writer
        self._log = ThrottledLog(logger)

    def publish(self, message: Any) -> None:
        """Sends a message; gives up on it after a short while when the network takes nothing.

        Raises:
            DdsError: If the node is closed.
        """
        if not raw.write(self._writer, self._types.serialize(message)):
            self._log.log(
                logging.WARNING,
                "timeout",
                f"{self.topic}: a message was left out, the network is full",
            )

    def subscription_count(self) -> int:
        """How many subscriptions are matched now."""
        return len(self._writer.get_matched_subscriptions())


class Subscription:
    """A topic that is read; made by `Node.create_subscription`.

    Attributes:
        topic: Its full name.
        type_name: Of its messages.
        malformed: Messages that came, but are none of their type.
    """

    def __init__(
        self,
        topic: str,
        type_name: str,
        types: TypeSupport,
        reader: DataReader,
        callback: Callable[[Any], None],
    ) -> None:
        self.topic = topic
        self.type_name = type_name
        self.malformed = 0
        self._types = types
        self._reader = reader
        self._callback = callback
        self._log = ThrottledLog(logger)

    def publisher_count(self) -> int:
        """How many publishers are matched now."""
        return len(self._reader.get_matched_publications())

    @property
    def lost(self) -> int:
        """Messages that DDS knows to have been sent, and that did not come."""
        return raw.lost(self._reader)

    def deliver(self) -> None:
        """Hands the next samples to the callback; an exception costs its sample."""
        for cdr in raw.take(self._reader, _SAMPLES_PER_TAKE):
            try:
                message = self._types.deserialize(cdr, self.type_name)
            except Exception as error:  # of NumPy, of rosbags, of a decoder of texts
                self.malformed += 1
                reason = printable(str(error) or type(error).__name__)
                self._log.log(
                    logging.WARNING,
                    "malformed",
                    f"{self.topic}: {len(cdr)} bytes are no {self.type_name}: {reason}",
                )
                continue
            try:
                self._callback(message)
            except Exception as error:
                text = f"{self.topic}: a message is left out: {error}"
                self._log.log(logging.ERROR, "callback", text, exc_info=True)


class Node:
    """A node of the ROS 2 graph. One thread reads all subscriptions and calls their callbacks.

    Args:
        name: Node name.
        namespace: Such as ``"/front"``; "" or "/" is the root.
        network: What to join; by default what the ROS environment variables say.
        distro: ROS distribution of the other nodes, see `TypeSupport`.
        remappings: Other names of topics and services: ``{"~/segments": "/labels"}``.

    Raises:
        ValueError: If a name, the namespace or the distribution is not valid.
        DdsError: If the domain can't be joined.
    """

    def __init__(
        self,
        name: str,
        namespace: str = "",
        *,
        network: Network | None = None,
        distro: str | None = None,
        remappings: Mapping[str, str] | None = None,
    ) -> None:
        self.name = _valid_name("node name", name)
        tokens = [token for token in namespace.split("/") if token]
        self.namespace = "/" + "/".join(_valid_name("namespace", token) for token in tokens)
        self._remappings = {
            self._absolute(name): self._absolute(other)
            for name, other in (remappings or {}).items()
        }
        self.network = network or Network.from_environment()
        self.types = TypeSupport(distro)
        # Readers and writers hold their topics.
        self._topics: WeakValueDictionary[tuple[str, str], Topic[Any]] = WeakValueDictionary()
        self._subscriptions: list[Subscription | Service] = []
        self._writers: list[DataWriter] = []
        self._readers: list[DataReader] = []
        self._conditions: list[ReadCondition] = []
        self._lock = threading.Lock()
        self._leaving: list[Subscription] = []
        self._closed = False
        domains.join(self.network)
        try:
            self._participant = DomainParticipant(
                self.network.domain, qos=Qos(Policy.Userdata(b"enclave=/;"))
            )
        except DDSException as error:
            domains.leave(self.network.domain)
            raise DdsError(
                f"no place left on domain {self.network.domain} of this machine, or no network: {error}"
            ) from error
        entities_qos = QosProfile(transient_local=True).to_dds(self.types.type_hash(_ENTITIES))
        topic = self._topic("ros_discovery_info", _ENTITIES)
        self._presence = DataWriter(self._participant, topic, qos=entities_qos)
        self._waitset = WaitSet(self._participant)
        self._wake = GuardCondition(self._participant)
        self._waitset.attach(self._wake)
        self._announce()
        self._thread = threading.Thread(target=self._read, name="zgs-dds", daemon=True)
        self._thread.start()

    @property
    def full_name(self) -> str:
        """Name with namespace, ``"/front/zgs"``."""
        return f"{self.namespace.rstrip('/')}/{self.name}"

    def resolve(self, topic: str) -> str:
        """The absolute name of a topic: ``~/x`` is the node's own, ``x`` its namespace's.

        It is the one that the topic is remapped to, where it is.

        Raises:
            ValueError: If it is not a valid topic name.
        """
        name = self._absolute(topic)
        return self._remappings.get(name, name)

    def _absolute(self, topic: str) -> str:
        if topic.startswith("~/"):
            topic = f"{self.full_name}/{topic[2:]}"
        elif not topic.startswith("/"):
            topic = f"{self.namespace.rstrip('/')}/{topic}"
        for token in topic[1:].split("/"):
            _valid_name(f"topic {topic!r}:", token)
        return topic

    def create_publisher(self, topic: str, type_name: str, qos: QosProfile = RELIABLE) -> Publisher:
        """A publisher of a topic, see `resolve`, with a type such as ``"sensor_msgs/msg/Image"``."""
        topic = self.resolve(topic)
        writer = DataWriter(
            self._participant,
            self._topic(f"rt{topic}", type_name),
            qos=qos.to_dds(self.types.type_hash(type_name)),
        )
        publisher = Publisher(topic, self.types, writer)
        with self._lock:
            self._writers.append(writer)
            self._announce()
        return publisher

    def create_subscription(
        self,
        topic: str,
        type_name: str,
        callback: Callable[[Any], None],
        qos: QosProfile = SENSOR,
    ) -> Subscription:
        """Subscribes to a topic, see `resolve`; the callback runs on the node's thread.

        The message's arrays are read-only; the callback may keep it.
        """
        topic = self.resolve(topic)
        reader = DataReader(
            self._participant,
            self._topic(f"rt{topic}", type_name),
            qos=qos.to_dds(self.types.type_hash(type_name)),
        )
        subscription = Subscription(topic, type_name, self.types, reader, callback)
        condition = ReadCondition(reader, raw.ANY_STATE)
        with self._lock:
            self._readers.append(reader)
            self._subscriptions.append(subscription)
            self._conditions.append(condition)
            self._announce()
        self._waitset.attach(condition)
        return subscription

    def remove_subscription(self, subscription: Subscription) -> None:
        """Ends a subscription; its callback may run once more."""
        with self._lock:
            self._leaving.append(subscription)
        self._wake.set(True)

    def create_service(self, name: str, type_name: str, handler: Handler) -> Service:
        """A service for clients that use rmw_cyclonedds_cpp; the handler runs on the node's thread.

        Args:
            name: See `resolve`.
            type_name: Such as ``"zgs_ros/srv/QuerySegments"``.
            handler: Answers requests; it may do so later.
        """
        name, user_data = self.resolve(name), service_id()
        topics, qos = [], []
        for topic, kind in ((f"rq{name}Request", "Request"), (f"rr{name}Reply", "Response")):
            kind = f"{type_name}_{kind}"
            topics.append(self._topic(topic, kind))
            qos.append(SERVICE.to_dds(self.types.type_hash(kind), user_data))
        writer = DataWriter(self._participant, topics[1], qos=qos[1])
        reader = DataReader(self._participant, topics[0], qos=qos[0])
        service = Service(name, type_name, self.types, reader, writer, handler)
        condition = ReadCondition(reader, raw.ANY_STATE)
        with self._lock:
            self._writers.append(writer)
            self._readers.append(reader)
            self._subscriptions.append(service)
            self._conditions.append(condition)
            self._announce()
        self._waitset.attach(condition)
        return service

    def close(self) -> None:
        """Leaves the graph; no callback runs afterwards. May be called again."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._wake.set(True)
        self._thread.join()
        raw.delete(self._participant)
        domains.leave(self.network.domain)

    def __enter__(self) -> Node:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _topic(self, name: str, type_name: str) -> Topic[Any]:
        key = (name, type_name)
        topic = self._topics.get(key)
        if topic is None:
            topic = self._topics[key] = domains.create_topic(
                self.network.domain,
                self._participant,
                name,
                self.types.type_hash(type_name),
                lambda: self.types.idl_type(type_name),
            )
        return topic

    def _announce(self) -> None:
        """Tells the graph which endpoints belong to this node."""
        create = self.types.create
        node = create(
            "rmw_dds_common/msg/NodeEntitiesInfo",
            node_namespace=self.namespace,
            node_name=self.name,
            reader_gid_seq=[self._gid(reader) for reader in self._readers],
            writer_gid_seq=[self._gid(writer) for writer in self._writers],
        )
        info = create(_ENTITIES, gid=self._gid(self._participant), node_entities_info_seq=[node])
        raw.write(self._presence, self.types.serialize(info))

    def _gid(self, entity: DomainParticipant | DataReader | DataWriter) -> Any:
        length = self.types.array_length("rmw_dds_common/msg/Gid", "data")  # 24 on Humble, else 16
        data = np.frombuffer(entity.guid.bytes.ljust(length, b"\0"), np.uint8)
        return self.types.create("rmw_dds_common/msg/Gid", data=data)

    def _read(self) -> None:
        while True:
            self._waitset.wait(duration(seconds=1))
            if self._closed:
                return
            self._wake.take()
            with self._lock:
                while self._leaving:
                    self._end(self._leaving.pop())
                subscriptions = list(self._subscriptions)
            for subscription in subscriptions:
                subscription.deliver()

    def _end(self, subscription: Subscription) -> None:
        """Deletes a subscription's reader; on the thread that reads, which then can't be reading it."""
        place = self._subscriptions.index(subscription)
        del self._subscriptions[place]
        reader, condition = self._readers.pop(place), self._conditions.pop(place)
        self._waitset.detach(condition)
        raw.delete(reader)
        self._announce()


def _valid_name(what: str, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{what} {name!r} must be letters, digits and underscores, and not begin with a digit"
        )
    return name
