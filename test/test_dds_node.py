"""Nodes on a real DDS network: names, graph presence, publishing and subscribing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dds_support import DOMAIN, cli, process
from wire import wire_of

from zgs_ros.dds import raw
from zgs_ros.dds.network import Network
from zgs_ros.dds.node import DdsNode
from zgs_ros.dds.raw import DdsError
from zgs_ros.streaming import messages
from zgs_ros.streaming.port import SENSOR, QosProfile

Eventually = Callable[..., None]
NETWORK = Network(DOMAIN, loopback_only=True)
IMAGE = "sensor_msgs/msg/Image"


@pytest.fixture
def node() -> Iterator[DdsNode]:
    with DdsNode("zgs", "/front", network=NETWORK) as made:
        yield made


@pytest.fixture
def other() -> Iterator[DdsNode]:
    with DdsNode("other", network=NETWORK) as made:
        yield made


def image(node: DdsNode, value: int = 0, width: int = 4, height: int = 3, stamp_ns: int = 5) -> Any:
    header = messages.header(node.types, stamp_ns, "camera")
    return messages.rgb_image(node.types, header, np.full((height, width, 3), value, np.uint8))


NAMES = [
    ("zgs", "", "/zgs", "~/segments", "/zgs/segments"),
    ("zgs", "/", "/zgs", "image", "/image"),
    ("zgs", "front", "/front/zgs", "~/overlay/compressed", "/front/zgs/overlay/compressed"),
    ("zgs", "/a/b/", "/a/b/zgs", "image", "/a/b/image"),
    ("eye", "/a", "/a/eye", "/camera/image_raw", "/camera/image_raw"),
]


@pytest.mark.parametrize(("name", "namespace", "full_name", "topic", "resolved"), NAMES)
def test_names_resolve_as_in_ros(
    name: str, namespace: str, full_name: str, topic: str, resolved: str
) -> None:
    with DdsNode(name, namespace, network=NETWORK) as node:
        assert node.full_name == full_name
        assert node.resolve(topic) == resolved


@pytest.mark.parametrize(
    ("name", "namespace", "text"),
    [
        ("", "", "node name ''"),
        ("my node", "", "node name 'my node' must be letters, digits and underscores"),
        ("1st", "", "node name '1st'"),
        ("zgs", "/a-b", "namespace 'a-b'"),
    ],
)
def test_impossible_names_are_refused(name: str, namespace: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        DdsNode(name, namespace, network=NETWORK)


@pytest.mark.parametrize("topic", ["", "/", "~", "~/", "a b", "/a//b", "/1a"])
def test_impossible_topics_are_refused(node: DdsNode, topic: str) -> None:
    with pytest.raises(ValueError, match="topic"):
        node.create_publisher(topic, IMAGE)


def test_a_message_arrives_as_it_was_sent(
    node: DdsNode, other: DdsNode, eventually: Eventually
) -> None:
    got: list[Any] = []
    subscription = node.create_subscription("/camera/image_raw", IMAGE, got.append)
    publisher = other.create_publisher("/camera/image_raw", IMAGE)
    assert publisher.topic == "/camera/image_raw"
    eventually(publisher.subscription_count, "the subscription is seen")
    eventually(subscription.publisher_count, "the publisher is seen")
    publisher.publish(image(other, 7, stamp_ns=1_700_000_000_000_000_001))
    eventually(lambda: got, "the message")
    [message] = got
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (1_700_000_000, 1)
    assert (message.header.frame_id, message.encoding) == ("camera", "rgb8")
    assert message.data.tolist() == [7] * 36
    assert not message.data.flags.writeable


def test_large_images_arrive_whole(node: DdsNode, other: DdsNode, eventually: Eventually) -> None:
    got: list[Any] = []
    node.create_subscription("/big", IMAGE, got.append, QosProfile())
    publisher = other.create_publisher("/big", IMAGE)
    eventually(publisher.subscription_count, "the subscription is seen")
    message = image(other, width=1920, height=1080)
    message.data = np.random.default_rng(0).integers(0, 256, message.data.size, np.uint8)
    publisher.publish(message)
    eventually(lambda: got, "the image")
    assert np.array_equal(got[0].data, message.data)


def test_subscription_counts_follow_who_comes_and_goes(
    node: DdsNode, eventually: Eventually
) -> None:
    publisher = node.create_publisher("~/segments", "zgs_ros/msg/SegmentArray")
    assert publisher.subscription_count() == 0
    with DdsNode("viewer", network=NETWORK) as viewer:
        viewer.create_subscription(publisher.topic, "zgs_ros/msg/SegmentArray", lambda _: None)
        eventually(lambda: publisher.subscription_count() == 1, "the viewer is seen")
        viewer.create_subscription(publisher.topic, "zgs_ros/msg/SegmentArray", lambda _: None)
        eventually(lambda: publisher.subscription_count() == 2, "its second subscription is seen")
    eventually(lambda: publisher.subscription_count() == 0, "the viewer has gone")


def test_other_types_on_the_same_topic_do_not_match(node: DdsNode, other: DdsNode) -> None:
    publisher = node.create_publisher("/mixed", IMAGE)
    other.create_subscription("/mixed", "zgs_ros/msg/SegmentArray", lambda _: None)
    time.sleep(0.3)
    assert publisher.subscription_count() == 0


def test_the_graph_lists_nodes_and_their_endpoints(
    node: DdsNode, other: DdsNode, eventually: Eventually
) -> None:
    graph: list[Any] = []
    # Not a ROS topic: the graph's own, without the prefix that ROS gives to topics.
    kind = "rmw_dds_common/msg/ParticipantEntitiesInfo"
    topic = other._topic("ros_discovery_info", kind)
    from cyclonedds.sub import DataReader

    from zgs_ros.dds import raw

    wanted = QosProfile(depth=100, transient_local=True)
    qos = raw.endpoint_qos(wanted, other.types.type_hash(kind))
    reader = DataReader(other._participant, topic, qos=qos)

    def latest() -> Any:
        graph.extend(other.types.deserialize(cdr, kind) for cdr in raw.take(reader, 100))
        mine = [info for info in graph if info.node_entities_info_seq[0].node_name == "zgs"]
        return mine[-1].node_entities_info_seq[0] if mine else None

    eventually(lambda: latest() is not None, "the node is announced")
    assert latest().node_namespace == "/front"
    node.create_publisher("~/segments", "zgs_ros/msg/SegmentArray")
    node.create_publisher("~/overlay", IMAGE)
    node.create_subscription("/camera/image_raw", IMAGE, lambda _: None)
    eventually(lambda: len(latest().writer_gid_seq) == 2, "both publishers are announced")
    eventually(lambda: len(latest().reader_gid_seq) == 1, "the subscription is announced")
    gids = {bytes(gid.data) for gid in latest().writer_gid_seq}
    assert gids == {writer.guid.bytes for writer in node._writers}


def test_an_exception_in_a_callback_costs_its_message_only(
    node: DdsNode, other: DdsNode, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[int] = []

    def callback(message: Any) -> None:
        if message.data[0] == 1:
            raise ValueError("a bad day")
        got.append(int(message.data[0]))

    node.create_subscription("/images", IMAGE, callback, QosProfile(depth=10))
    publisher = other.create_publisher("/images", IMAGE, QosProfile(depth=10))
    eventually(publisher.subscription_count, "the subscription is seen")
    for value in range(3):
        publisher.publish(image(other, value))
    eventually(lambda: got == [0, 2], "the other messages")
    assert any("/images: a message is left out: a bad day" in line for line in caplog.messages)


def test_a_failure_to_read_leaves_the_node_listening(
    node: DdsNode,
    other: DdsNode,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures = iter([DdsError("DDS could not read (return code -5)")])
    take = raw.take

    def take_later(*arguments: Any) -> list[bytes]:
        for failure in failures:
            raise failure
        return take(*arguments)

    got: list[Any] = []
    node.create_subscription("/images", IMAGE, got.append)
    publisher = other.create_publisher("/images", IMAGE)
    eventually(publisher.subscription_count, "the subscription is seen")
    monkeypatch.setattr(raw, "take", take_later)
    publisher.publish(image(other))
    eventually(lambda: got, "the message")
    assert "can't read: DDS could not read (return code -5)" in caplog.messages


def test_callbacks_run_on_one_thread(node: DdsNode, other: DdsNode, eventually: Eventually) -> None:
    threads: list[str] = []
    for topic in ("/a", "/b"):
        node.create_subscription(
            topic, IMAGE, lambda _: threads.append(threading.current_thread().name)
        )
    publishers = [other.create_publisher(topic, IMAGE) for topic in ("/a", "/b")]
    for publisher in publishers:
        eventually(publisher.subscription_count, "the subscription is seen")
        publisher.publish(image(other))
    eventually(lambda: len(threads) == 2, "both messages")
    assert set(threads) == {"zgs-dds"}


def test_a_closed_node_is_quiet(eventually: Eventually, other: DdsNode) -> None:
    got: list[Any] = []
    node = DdsNode("brief", network=NETWORK)
    node.create_subscription("/images", IMAGE, got.append)
    publisher = node.create_publisher("~/images", IMAGE)
    sender = other.create_publisher("/images", IMAGE)
    eventually(sender.subscription_count, "the subscription is seen")
    node.close()
    node.close()
    sender.publish(image(other))
    time.sleep(0.1)
    assert got == []
    assert "zgs-dds" not in {t.name for t in threading.enumerate() if t is not other._thread}
    with pytest.raises(DdsError, match="could not write"):
        publisher.publish(image(node))


def test_nodes_come_and_go_without_leaving_anything(eventually: Eventually) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    with DdsNode("warm_up", network=NETWORK):
        pass
    before = descriptors()
    for number in range(10):
        with DdsNode(f"node_{number}", network=NETWORK) as node:
            node.create_publisher("~/images", IMAGE)
            node.create_subscription("/images", IMAGE, lambda _: None)
    assert descriptors() == before


def test_a_stalled_subscriber_does_not_hold_up_the_others(
    node: DdsNode, eventually: Eventually
) -> None:
    topic, kind = "/zgs/segments", "zgs_ros/msg/SegmentArray"
    publisher = node.create_publisher(topic, kind)
    got: list[Any] = []
    with (
        process(cli("watch")) as stalled,
        DdsNode("awake", network=NETWORK) as awake,
    ):
        awake.create_subscription(topic, kind, got.append, QosProfile())
        eventually(lambda: publisher.subscription_count() == 2, "both subscribers", 60)
        stalled.send_signal(signal.SIGSTOP)
        array = _segments(node, height=720, width=1280)  # 1.8 MB
        slowest = 0.0
        for number in range(20):
            began = time.monotonic()
            publisher.publish(array)
            slowest = max(slowest, time.monotonic() - began)
            eventually(lambda n=number: len(got) > n, "the message at the subscriber that is awake")
        stalled.send_signal(signal.SIGCONT)
    assert slowest < 1.0


def _segments(node: DdsNode, height: int, width: int) -> Any:
    from zgs_ros.segmentation import Segmentation

    header = messages.header(node.types, 5, "camera")
    empty = Segmentation(np.zeros((height, width), np.uint16), ())
    return messages.segment_array(node.types, header, empty, 0.0)


MANY = """
import resource
import threading

from dds_support import DOMAIN
from zgs_ros.dds.network import Network
from zgs_ros.dds.node import DdsNode, QosProfile
from zgs_ros.streaming import messages
import numpy as np
import time

resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
network, kind = Network(DOMAIN, loopback_only=True), "sensor_msgs/msg/Image"
cameras = 45
got = [0] * cameras
publishers, is_over = [], threading.Event()

def publish(node):
    header = messages.header(node.types, 5, "camera")
    image = messages.rgb_image(node.types, header, np.zeros((3, 4, 3), np.uint8))
    while not is_over.is_set():
        for publisher in list(publishers):
            publisher.publish(image)

with DdsNode("eyes", network=network) as eyes, DdsNode("brain", network=network) as brain:
    sender = threading.Thread(target=publish, args=(eyes,))
    sender.start()
    for number in range(cameras):
        count = lambda _, number=number: got.__setitem__(number, got[number] + 1)
        brain.create_subscription(f"/camera_{number}", kind, count, QosProfile(depth=5))
        publishers.append(eyes.create_publisher(f"/camera_{number}", kind, QosProfile(depth=5)))
    end = time.monotonic() + 60
    while not all(got) and time.monotonic() < end:
        time.sleep(0.05)
    is_over.set()
    sender.join()
    assert all(got), got
    assert sum(listener.lost for listener, _ in brain._readers.values()) == 0
    for _ in range(40):
        with DdsNode("guest", network=network) as guest:
            guest.create_subscription("/camera_0", kind, lambda _: None)
"""


def test_any_number_of_topics_share_a_type_while_messages_flow() -> None:
    run_script(MANY)


def test_an_ended_subscription_leaves_nothing(
    node: DdsNode, other: DdsNode, eventually: Eventually
) -> None:
    got: list[Any] = []
    stays = node.create_subscription("/stays", IMAGE, got.append)
    publishers = [other.create_publisher(topic, IMAGE) for topic in ("/stays", "/goes")]
    for _ in range(20):
        goes = node.create_subscription("/goes", IMAGE, got.append)
        eventually(publishers[1].subscription_count, "the subscription is seen")
        goes.close()
        eventually(lambda: not publishers[1].subscription_count(), "it has gone")
    assert len(node._readers) == 1
    eventually(stays.publisher_count, "the publisher of the other topic is seen")
    publishers[0].publish(image(other))
    eventually(lambda: got, "a message of the other topic")


def test_what_is_no_message_is_counted_and_costs_one_line(
    node: DdsNode, other: DdsNode, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    from zgs_ros.dds import raw

    got: list[Any] = []
    subscription = node.create_subscription("/images", IMAGE, got.append, QosProfile(depth=50))
    publisher = other.create_publisher("/images", IMAGE, QosProfile(depth=50))
    eventually(publisher.subscription_count, "the subscription is seen")
    cdr = bytes(other.types.serialize(image(other)))
    for _ in range(30):  # DDS itself looks at the structure only
        raw.write(publisher._writer, memoryview(cdr.replace(b"rgb8", b"\xff\xff\xff\xff")))
    publisher.publish(image(other))
    eventually(lambda: got, "the message behind them")
    assert subscription.lost == 30
    lines = [line for line in caplog.messages if "are no sensor_msgs/msg/Image" in line]
    assert len(lines) == 1


EAR = """
import logging
import time
from dds_support import DOMAIN
from zgs_ros.dds.network import Network
from zgs_ros.dds.node import DdsNode
from zgs_ros.streaming.port import SENSOR, QosProfile

logging.basicConfig(format="%(message)s")
with DdsNode("ear", network=Network(DOMAIN, loopback_only=True)) as node:
    got = []
    qos = QosProfile(False, 100)
    ear = node.create_subscription("/images", "sensor_msgs/msg/Image", got.append, qos)
    other = node.create_subscription("/other", "sensor_msgs/msg/Image", got.append, qos)
    end = time.monotonic() + 20
    while not ear.publisher_count() and time.monotonic() < end:
        time.sleep(0.01)
    print("listens", flush=True)
    while len(got) < 10 and time.monotonic() < end:
        time.sleep(0.05)
    print("heard", len(got), "lost", ear.lost, other.lost, node.lost, flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Cyclone's lines are heard with glibc only")
def test_what_cyclone_refuses_is_counted_and_costs_one_line(
    other: DdsNode,
) -> None:
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here.parent}:{here}"}
    publisher = other.create_publisher("/images", IMAGE, SENSOR)
    good = bytes(other.types.serialize(image(other)))
    with (
        subprocess.Popen(
            [sys.executable, "-c", EAR],
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as ear,
        closing(wire_of(publisher, DOMAIN)) as wire,
    ):
        assert ear.stdout is not None
        assert ear.stdout.readline() == "listens\n"
        for _ in range(30):
            wire.send(good[:20])  # of which DDS says that it is no image
            wire.send(b"\0\xff" + good[2:])  # of which it does not even look at the topic
        for _ in range(10):
            wire.send(good)
        output, _ = ear.communicate(timeout=30)
    assert "heard 10 lost 30 0 30" in output, output
    assert output.count("/images: a message is left out") == 1
    assert output.count("a packet from the network is left out") == 1
    assert len(output.splitlines()) == 3, output


ROUNDS = """
from dds_support import DOMAIN
from zgs_ros.dds import node
from zgs_ros.dds.network import Network

types = node.TypeSupport("jazzy")  # once: reading them takes a while
node.TypeSupport = lambda distro: types
network = Network(DOMAIN, loopback_only=True)
for _ in range(25):
    with node.DdsNode("first", network=network):
        second = node.DdsNode("second", network=network)
    for _ in range(3):
        with node.DdsNode("third", network=network) as third:
            third.create_publisher("~/segments", "zgs_ros/msg/SegmentArray")
    second.close()
"""


@pytest.mark.slow
def test_a_process_survives_nodes_that_close_while_others_go_on() -> None:
    run_script(ROUNDS)


def run_script(script: str) -> None:
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", script],
        env={**os.environ, "PYTHONPATH": f"{here.parent}:{here}"},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
