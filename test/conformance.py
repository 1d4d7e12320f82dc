"""The node under each adapter, and somebody who looks at it from outside, for one set of tests.

A `World` starts the node, with a segmenter that sees two halves and needs no models, and has a port of
its own on the same middleware: whatever a test does and sees, it does and sees through that.
"""

from __future__ import annotations

import itertools
import sys
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from dds_support import DOMAIN, HalvesSegmenter, ServiceClient
from depth_support import compressed_depth
from numpy.typing import NDArray
from ros_support import Ros

from zgs_ros.config import NodeSettings, make_settings
from zgs_ros.dds.network import Network
from zgs_ros.dds.node import DdsNode
from zgs_ros.dds.peer import PeerOptions, open_peer
from zgs_ros.message_types import MessageTypes
from zgs_ros.streaming import messages
from zgs_ros.streaming.bus import Bus, BusPort
from zgs_ros.streaming.inputs import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE
from zgs_ros.streaming.interface import DIAGNOSTICS
from zgs_ros.streaming.node import SegmentationNode
from zgs_ros.streaming.port import QosProfile

HEIGHT, WIDTH = 12, 16
NODE = Path(__file__).with_name("ros_halves_node.py")
PATIENCE = 60.0
KEPT = QosProfile(depth=50)


class World(ABC):
    """A node under test and an observer; for a `with` block.

    Attributes:
        port: The observer's.
        got: What it received, by topic.
    """

    port: Any
    period = 0.1
    """Seconds of waiting after which one passes for the node."""
    settling = 0.0
    """Seconds that the node may take to see a publisher after that has seen the node."""

    def __init__(self) -> None:
        self.got: dict[str, list[Any]] = defaultdict(list)
        self._open = ExitStack()
        self._stamps: Iterator[int] | None = None
        self._publishers: dict[tuple[str, QosProfile], Any] = {}

    def __enter__(self) -> World:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    @abstractmethod
    def start(self, **settings: Any) -> None:
        """Starts the node with settings, whose dots are double underscores, and activates it."""

    @abstractmethod
    def look(self) -> None:
        """Lets a second pass for the node."""

    @property
    def types(self) -> MessageTypes:
        """Makes messages."""
        return self.port.factory

    def listen(self, topic: str, kind: str, qos: QosProfile = KEPT) -> list[Any]:
        """Subscribes; returns the list that messages go to."""
        got = self.got[topic]
        self._open.callback(self.port.create_subscription(topic, kind, got.append, qos).close)
        return got

    def publisher(self, topic: str, kind: str, qos: QosProfile = KEPT) -> Any:
        """A publisher that the node listens to by the time this returns."""
        key = (topic, qos)
        if key not in self._publishers:
            self._publishers[key] = made = self.port.create_publisher(topic, kind, qos)
            self._open.callback(made.close)
            self.until(made.subscription_count, f"the node listens to {topic}")
            if self.settling:
                time.sleep(self.settling)
                self.look()  # which may subscribe anew, as the publisher offers it
                time.sleep(self.settling)
        return self._publishers[key]

    def header(self) -> Any:
        """A header with a stamp of its own, a second after the one before."""
        # From the first one on: a node may take longer to start than diagnostics let images lag.
        self._stamps = self._stamps or itertools.count(time.time_ns(), 1_000_000_000)
        return messages.header(self.types, next(self._stamps), "optical")

    def image(self, header: Any, topic: str = "/camera/image_raw", **changes: Any) -> None:
        """Publishes an image; changed fields may break it."""
        message = messages.rgb_image(self.types, header, np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
        for name, value in changes.items():
            setattr(message, name, value)
        self.publisher(topic, IMAGE).publish(message)

    def depth(
        self, header: Any, metres: float = 2.0, topic: str = "/camera/depth/image_raw"
    ) -> None:
        """Publishes a depth image."""
        values: NDArray[np.float32] = np.full((HEIGHT, WIDTH), metres, np.float32)
        message = messages.depth_image(self.types, header, values)
        self.publisher(topic, IMAGE).publish(message)

    def compressed_depth(self, header: Any, metres: float, kind: str, topic: str) -> None:
        """Publishes a depth image as a transport compresses it, see `depth_support.COMPRESSED`."""
        values: NDArray[np.float32] = np.full((HEIGHT, WIDTH), metres, np.float32)
        message = compressed_depth(self.types, header, values, kind)
        self.publisher(topic, COMPRESSED_IMAGE).publish(message)

    def camera_info(self, qos: QosProfile = KEPT, topic: str = "/camera/camera_info") -> None:
        """Publishes a calibration."""
        matrix = np.array([20.0, 0.0, 7.5, 0.0, 20.0, 5.5, 0.0, 0.0, 1.0])
        message = self.types.create_partly(
            CAMERA_INFO, height=HEIGHT, width=WIDTH, distortion_model="plumb_bob", k=matrix
        )
        if qos.transient_local:  # nobody has to be there yet
            made = self.port.create_publisher(topic, CAMERA_INFO, qos)
            self._open.callback(made.close)
            made.publish(message)
        else:
            self.publisher(topic, CAMERA_INFO, qos).publish(message)

    def transform(
        self, header: Any, parent: str, child: str, x: float, static: bool = False
    ) -> None:
        """Publishes a transform that moves along x."""
        stamp = messages.stamp_ns(header)
        moved = messages.transform_stamped(self.types, stamp, parent, child, (x, 0.0, 0.0))
        topic = "/tf_static" if static else "/tf"
        qos = QosProfile(depth=50, transient_local=static)
        message = self.types.create("tf2_msgs/msg/TFMessage", transforms=[moved])
        self.publisher(topic, "tf2_msgs/msg/TFMessage", qos).publish(message)

    def ask(self, text: str, camera: str = "") -> Any:
        """The answer to a query by topic."""
        query = self.types.create("zgs_ros/msg/Query", text=text, max_results=0, camera=camera)
        return self.request("query", query, "zgs_ros/msg/QueryResult")

    def request(self, service: str, request: Any, result_type: str) -> Any:
        """The answer to a request by topic."""
        topic = f"/zgs/{service}"
        if f"{topic}/result" not in self.got:
            self.listen(f"{topic}/result", result_type)
            self.until(lambda: self.port.offers(f"{topic}/result"), "answers are offered")
        got = self.got[f"{topic}/result"]
        asked = self.publisher(f"{topic}/request", request.__msgtype__)

        def answered() -> Any:
            asked.publish(request)  # again: the first may come before the answers can be heard
            self.until(lambda: got, "an answer", 2.0, strict=False)
            return got

        self.until(answered, f"an answer to {request}")
        answer = got[-1]
        got.clear()
        return answer

    def call(self, service: str, type_name: str, **fields: Any) -> Any:
        """The response of a service, here as Cyclone DDS carries it."""
        client = ServiceClient(self.port, f"/zgs/{service}", type_name)
        self.until(client.writer.get_matched_subscriptions, f"{service} is seen")
        self.until(client.reader.get_matched_publications, f"{service} can be heard")
        time.sleep(0.2)  # until it sees who asks, which nobody can see from here
        client.ask(1, **fields)
        got: list[Any] = []
        self.until(lambda: got.extend(client.answers()) or got, f"an answer of {service}")
        return got[-1][1]

    def diagnosis(self) -> SimpleNamespace:
        """The newest state of the stream: ``level``, ``message`` and ``values``."""
        got = self.got[DIAGNOSTICS.name]
        if not got:
            self.listen(DIAGNOSTICS.name, DIAGNOSTICS.type_name)
        got.clear()

        def come() -> list[Any]:
            self.look()
            return [s for m in got for s in m.status if s.name == "zgs: stream"]

        self.until(come, "diagnostics")
        status = come()[-1]
        level = status.level if isinstance(status.level, int) else status.level[0]
        values = {pair.key: pair.value for pair in status.values}
        return SimpleNamespace(level=level, message=status.message, values=values)

    def diagnosed(self, what: Callable[[SimpleNamespace], Any]) -> SimpleNamespace:
        """The state of the stream as soon as it is so."""
        end = time.monotonic() + PATIENCE
        while not what(seen := self.diagnosis()):
            assert time.monotonic() < end, f"diagnostics never were so: {seen}"
        return seen

    def until(
        self,
        condition: Callable[[], Any],
        what: str,
        seconds: float = PATIENCE,
        strict: bool = True,
    ) -> None:
        """Waits until a condition holds, while time passes for the node."""
        end, next_look = time.monotonic() + seconds, time.monotonic() + self.period
        while not condition():
            if time.monotonic() >= end:
                assert not strict, f"not within {seconds:g} s: {what}"
                return
            if time.monotonic() >= next_look:
                self.look()
                next_look = time.monotonic() + self.period
            time.sleep(0.002)


class MemoryWorld(World):
    """The node on a bus inside of this process."""

    period = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.bus, factory = Bus(), MessageTypes()
        self.port = BusPort(self.bus, "observer", factory=factory)

    def start(self, **settings: Any) -> None:
        given = made(settings)
        options = PeerOptions(Network())
        port = BusPort(self.bus, "zgs", factory=self.types, remappings=options.names(given))
        self.node = SegmentationNode(port, given, lambda _: HalvesSegmenter())
        self._open.callback(self.node.close)
        self.node.configure()
        self.node.activate()

    def look(self) -> None:
        self.node.look()

    def call(self, service: str, type_name: str, **fields: Any) -> Any:
        request = self.types.create_partly(f"{type_name}_Request", **fields)
        done = self.bus.call(f"/zgs/{service}", request)
        self.until(done.done, f"an answer of {service}")
        return self.types.create_partly(f"{type_name}_Response", **done.result())


class DdsWorld(World):
    """The node without ROS, on the network of this machine."""

    settling = 0.1

    def __init__(self) -> None:
        super().__init__()
        self._network = Network(DOMAIN, loopback_only=True)
        self.port = self._open.enter_context(DdsNode("observer", network=self._network))

    def start(self, **settings: Any) -> None:
        opened = open_peer(made(settings), PeerOptions(self._network), lambda _: HalvesSegmenter())
        _, self.node = self._open.enter_context(opened)
        self.node.configure()
        self.node.activate()

    def look(self) -> None:
        self.node.look()


class RosWorld(World):
    """The rclpy node as a process of its own; the observer is on the network without ROS.

    Only services are asked by a client with ROS: each middleware has its own way to carry them.
    """

    settling = 0.5

    def __init__(self, ros: Ros) -> None:
        super().__init__()
        self._ros = ros
        network = Network.from_environment(environment=ros.env)
        self.port = self._open.enter_context(DdsNode("observer", network=network, distro="jazzy"))

    def start(self, **settings: Any) -> None:
        given = [
            f"{key.replace('__', '.')}:={yaml_value(value)}" for key, value in settings.items()
        ]
        cameras = settings.get("cameras", [""])
        names = PeerOptions(Network()).names(made({"cameras": cameras}))
        rules = [f"{old}:={new}" for old, new in names.items()]
        arguments = itertools.chain.from_iterable(
            [*(("-p", rule) for rule in given), *(("-r", rule) for rule in rules)]
        )
        command = [sys.executable, str(NODE), "--autostart", "--ros-args", *arguments]
        process = self._open.enter_context(self._ros.process(*command))
        process.wait_for("listens to")

    def look(self) -> None:
        time.sleep(0.1)  # the node looks by itself

    def call(self, service: str, type_name: str, **fields: Any) -> Any:
        asked = {"name": f"/zgs/{service}", "type": type_name, "fields": fields}
        response = bytes.fromhex(self._ros.ask("service", **asked))
        return self.types.deserialize(response, f"{type_name}_Response")


def made(settings: dict[str, Any]) -> NodeSettings:
    """Settings of keywords."""
    return make_settings(NodeSettings, {k.replace("__", "."): v for k, v in settings.items()})


def yaml_value(value: Any) -> str:
    """A value as ``-p NAME:=VALUE`` has it."""
    return str(value).lower() if isinstance(value, (bool, float, int)) else str(value) or "''"
