"""A ROS 2 node on Cyclone DDS: it shows in the graph, publishes and subscribes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from cyclonedds.core import DDSException, Entity, GuardCondition, ReadCondition, WaitSet
from cyclonedds.domain import DomainParticipant
from cyclonedds.pub import DataWriter
from cyclonedds.qos import Policy, Qos
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from cyclonedds.util import duration

from zgs_ros.dds import domains, raw
from zgs_ros.dds.discovery import Discovery
from zgs_ros.dds.network import Network
from zgs_ros.dds.raw import DdsError
from zgs_ros.dds.service import Service, service_id
from zgs_ros.dds.types import TypeSupport
from zgs_ros.streaming.clock import Clock, SimulatedClock, SystemClock
from zgs_ros.streaming.names import NodeNames
from zgs_ros.streaming.port import RELIABLE, SENSOR, Callback, Handler, Offer, QosProfile
from zgs_ros.streaming.throttle import ThrottledLog
from zgs_ros.texts import printable

logger = logging.getLogger(__name__)

_ENTITIES = "rmw_dds_common/msg/ParticipantEntitiesInfo"
_SAMPLES_PER_TAKE = 8


SERVICE = QosProfile(depth=10)
"""For services: those that wait for their answer."""


class Publisher:
    """A topic to write to; made by `DdsNode.create_publisher`."""

    def __init__(
        self, topic: str, types: TypeSupport, writer: DataWriter, leave: Callable[[Entity], None]
    ) -> None:
        self.topic = topic
        self._leave = leave
        self._closed = False
        self._types = types
        self._writer = writer
        self._log = ThrottledLog(logger)

    def publish(self, message: Any) -> None:
        """Sends a message; gives up on it after a short while when the network takes nothing.

        Does nothing once it is closed.

        Raises:
            DdsError: If the node is closed.
        """
        if self._closed:
            return
        if not raw.write(self._writer, self._types.serialize(message)):
            self._log.log(
                logging.WARNING,
                "timeout",
                f"{self.topic}: a message was left out, the network is full",
            )

    def subscription_count(self) -> int:
        """How many subscriptions are matched now."""
        return 0 if self._closed else len(self._writer.get_matched_subscriptions())

    def close(self) -> None:
        """Takes the topic from the graph."""
        if not self._closed:
            self._closed = True
            self._leave(self._writer)


class Subscription:
    """A topic that is read; made by `DdsNode.create_subscription`.

    Attributes:
        topic: Its full name.
        type_name: Of its messages.
    """

    def __init__(
        self,
        topic: str,
        type_name: str,
        types: TypeSupport,
        reader: DataReader,
        callback: Callable[[Any], None],
        leave: Callable[[Entity], None],
        refused: Callable[[], int],
    ) -> None:
        self.topic = topic
        self._leave = leave
        self._closed = False
        self.type_name = type_name
        self._malformed = 0
        self._never_came = 0
        self._refused, self._refused_before = refused, refused()
        self._types = types
        self._reader = reader
        self._callback = callback
        self._log = ThrottledLog(logger)

    def publisher_count(self) -> int:
        """How many publishers are matched now."""
        return 0 if self._closed else len(self._reader.get_matched_publications())

    def close(self) -> None:
        """Takes it from the graph; the callback may be at work for a last time."""
        if not self._closed:
            self._closed = True
            self._leave(self._reader)

    @property
    def lost(self) -> int:
        """Messages that DDS knows to have been sent and that did not come, or that are malformed."""
        if not self._closed:
            refused = self._refused() - self._refused_before
            self._never_came = raw.lost(self._reader) + refused
        return self._never_came + self._malformed

    def deliver(self) -> None:
        """Hands the next samples to the callback; an exception costs its sample."""
        if self._closed:
            return
        for cdr in raw.take(self._reader, _SAMPLES_PER_TAKE):
            try:
                message = self._types.deserialize(cdr, self.type_name)
            except Exception as error:  # of NumPy, of rosbags, of a decoder of texts
                self._malformed += 1
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


class DdsNode:
    """A node of the ROS 2 graph; a `zgs_ros.streaming.port.Port`.

    One thread reads all subscriptions and calls their callbacks.

    Args:
        name: Node name.
        namespace: Such as ``"/front"``; "" or "/" is the root.
        network: What to join; by default what the ROS environment variables say.
        distro: ROS distribution of the other nodes, see `TypeSupport`.
        remappings: Other names of topics and services: ``{"~/segments": "/labels"}``.
        use_sim_time: Whether its clock shows what ``/clock`` tells.

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
        use_sim_time: bool = False,
    ) -> None:
        self.name = name
        self._names = NodeNames(name, namespace, remappings)
        self.full_name = self._names.full_name
        self.network = network or Network.from_environment()
        self.types = TypeSupport(distro)
        # Readers and writers hold their topics.
        self._topics: WeakValueDictionary[tuple[str, str], Topic[Any]] = WeakValueDictionary()
        self.factory = self.types
        self._writers: list[Entity] = []
        self._readers: dict[DataReader, tuple[Subscription | Service, ReadCondition]] = {}
        self._lock = threading.Lock()
        self._delivery = threading.RLock()  # held while samples are read: no reader goes meanwhile
        self._closed = False
        self._log = ThrottledLog(logger)
        self._complaints = domains.join(self.network)
        try:
            self._participant = DomainParticipant(
                self.network.domain, qos=Qos(Policy.Userdata(b"enclave=/;"))
            )
        except DDSException as error:
            domains.leave(self.network.domain)
            raise DdsError(
                f"no place left on domain {self.network.domain} of this machine, or no network: {error}"
            ) from error
        latched = QosProfile(transient_local=True)
        entities_qos = raw.endpoint_qos(latched, self.types.type_hash(_ENTITIES))
        topic = self._topic("ros_discovery_info", _ENTITIES)
        self._presence = DataWriter(self._participant, topic, qos=entities_qos)
        self._waitset = WaitSet(self._participant)
        self._wake = GuardCondition(self._participant)
        self._waitset.attach(self._wake)
        self._discovery = Discovery(self._participant)
        self._announce()
        self._thread = threading.Thread(target=self._read, name="zgs-dds", daemon=True)
        self._thread.start()
        self.clock: Clock = SystemClock()
        if use_sim_time:
            self.clock = simulated = SimulatedClock()
            self.create_subscription("/clock", "rosgraph_msgs/msg/Clock", simulated.offer)

    @property
    def namespace(self) -> str:
        """Such as ``"/front"``; ``"/"`` is the root."""
        return self.full_name.rpartition("/")[0] or "/"

    @property
    def lost(self) -> int:
        """Packets of the network that could not be read at all."""
        return self._complaints.unreadable

    def has(self, name: str) -> bool:
        """Whether a topic or service was called so before it was remapped."""
        return self._names.has(name)

    def resolve(self, topic: str) -> str:
        """The absolute name of a topic: ``~/x`` is the node's own, ``x`` its namespace's.

        It is the one that the topic is remapped to, where it is.

        Raises:
            ValueError: If it is not a valid topic name.
        """
        return self._names.resolve(topic)

    def offers(self, topic: str) -> list[Offer]:
        """The publishers of a topic, see `resolve`, that are known now."""
        return self._discovery.offers(f"rt{self.resolve(topic)}")

    def all_offers(self) -> dict[str, list[Offer]]:
        """The publishers of every ROS topic that are known now, the node's own among them."""
        found = self._discovery.all_offers()
        return {name[2:]: offers for name, offers in found.items() if name.startswith("rt/")}

    def create_publisher(self, topic: str, type_name: str, qos: QosProfile = RELIABLE) -> Publisher:
        """A publisher of a topic, see `resolve`, with a type such as ``"sensor_msgs/msg/Image"``."""
        topic = self.resolve(topic)
        writer = DataWriter(
            self._participant,
            self._topic(f"rt{topic}", type_name),
            qos=raw.endpoint_qos(qos, self.types.type_hash(type_name)),
        )
        publisher = Publisher(topic, self.types, writer, self._leave)
        with self._lock:
            self._writers.append(writer)
            self._announce()
        return publisher

    def create_subscription(
        self,
        topic: str,
        type_name: str,
        callback: Callback,
        qos: QosProfile = SENSOR,
    ) -> Subscription:
        """Subscribes to a topic, see `resolve`; the callback runs on the node's thread.

        The message's arrays are read-only; the callback may keep it.
        """
        topic = self.resolve(topic)
        reader = DataReader(
            self._participant,
            self._topic(f"rt{topic}", type_name),
            qos=raw.endpoint_qos(qos, self.types.type_hash(type_name)),
        )
        refused = partial(self._complaints.refused, f"rt{topic}")
        subscription = Subscription(
            topic, type_name, self.types, reader, callback, self._leave, refused
        )
        self._listen(reader, subscription)
        return subscription

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
            qos.append(raw.endpoint_qos(SERVICE, self.types.type_hash(kind), user_data))
        writer = DataWriter(self._participant, topics[1], qos=qos[1])
        reader = DataReader(self._participant, topics[0], qos=qos[0])
        service = Service(name, type_name, self.types, reader, writer, handler, self._leave)
        with self._lock:
            self._writers.append(writer)
        self._listen(reader, service)
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

    def __enter__(self) -> DdsNode:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _listen(self, reader: DataReader, to: Subscription | Service) -> None:
        condition = ReadCondition(reader, raw.ANY_STATE)
        with self._lock:
            self._readers[reader] = (to, condition)
            self._announce()
        self._waitset.attach(condition)

    def _leave(self, *entities: Entity) -> None:
        """Takes readers and writers from the graph."""
        with self._delivery, self._lock:
            if self._closed:
                return
            for entity in entities:
                if entity in self._readers:
                    _, condition = self._readers.pop(entity)
                    self._waitset.detach(condition)
                    raw.delete(condition)
                else:
                    self._writers.remove(entity)
                raw.delete(entity)
            self._announce()

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

    def _gid(self, entity: Entity) -> Any:
        length = self.types.array_length("rmw_dds_common/msg/Gid", "data")  # 24 on Humble, else 16
        data = np.frombuffer(entity.guid.bytes.ljust(length, b"\0"), np.uint8)
        return self.types.create("rmw_dds_common/msg/Gid", data=data)

    def _read(self) -> None:
        while True:
            self._waitset.wait(duration(seconds=1))
            if self._closed:
                return
            self._wake.take()
            self._complaints.read()
            with self._lock:
                listeners = [listener for listener, _ in self._readers.values()]
            for listener in listeners:
                try:
                    with self._delivery:
                        listener.deliver()
                except Exception as error:  # it must go on: the other listeners know nothing of it
                    self._log.log(logging.ERROR, "read", f"can't read: {error}", exc_info=True)
