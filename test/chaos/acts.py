"""What befalls a node in its life: one table, of which seeds make a day."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import dds_support
from hostile import Hostile
from live import CAMERAS, Finding, LiveNode, steady
from wire import wire_of

from zgs_ros.dds.node import DdsNode
from zgs_ros.streaming.inputs import CAMERA_INFO, IMAGE
from zgs_ros.streaming.outputs import OUTPUTS
from zgs_ros.streaming.port import QUEUED, SENSOR, QosProfile

Act = Callable[[LiveNode, Random], None]


@dataclass(frozen=True)
class Row:
    """An act.

    Attributes:
        name: Of the act.
        play: Does it, and puts back what it changed.
        needs_ros: Whether only the rclpy node has it.
    """

    name: str
    play: Act
    needs_ros: bool = False


def quiet(node: LiveNode, random: Random) -> None:
    """Nothing happens."""
    time.sleep(random.uniform(5, 15))


def subscribers(node: LiveNode, random: Random) -> None:
    """Others subscribe to everything, each from a place of its own, and leave one by one."""
    with ExitStack() as stack:
        for number in range(random.randrange(1, 4)):
            other = stack.enter_context(DdsNode(f"other_{number}", network=node.network))
            for camera in CAMERAS:
                for row in OUTPUTS:
                    if random.random() < 0.7 and not row.topic.startswith("detections"):
                        topic = f"/zgs/{camera}/{row.topic}"
                        qos = QosProfile(random.random() < 0.5, random.choice((1, 10)))
                        other.create_subscription(topic, row.type_name, lambda _: None, qos)
            time.sleep(random.uniform(1, 5))


@contextmanager
def _watching(node: LiveNode) -> Any:
    command = [sys.executable, "-m", "zgs_ros", "watch", "--local", "--node", "zgs"]
    command += ["--domain", str(node.network.domain)]
    with dds_support.process(command) as watch:
        yield watch


def killed_subscriber(node: LiveNode, random: Random) -> None:
    """A process that subscribes is killed where it is."""
    with _watching(node):
        time.sleep(random.uniform(2, 12))


def stopped_subscriber(node: LiveNode, random: Random) -> None:
    """A process that subscribes stands still, goes on, and is killed."""
    with _watching(node) as watch:
        time.sleep(random.uniform(3, 8))
        watch.send_signal(signal.SIGSTOP)
        node.wait_for_results()
        time.sleep(random.uniform(1, 12))
        node.wait_for_results()
        watch.send_signal(signal.SIGCONT)
        time.sleep(random.uniform(0, 5))


def bad_messages(node: LiveNode, random: Random) -> None:
    """Instead of a camera somebody else publishes hostile images, depth and calibrations."""
    name = random.choice(CAMERAS)
    node.stop_camera(name)
    with DdsNode("attacker", network=node.network) as attacker:
        hostile = Hostile(attacker.factory, random.randrange(2**32))
        makers = (
            ("image_raw", IMAGE, hostile.image),
            ("image_raw", IMAGE, hostile.image),
            ("depth/image_raw", IMAGE, hostile.depth),
            ("camera_info", CAMERA_INFO, hostile.camera_info),
        )
        publishers = [
            (attacker.create_publisher(f"/{name}/{topic}", kind, QUEUED), make)
            for topic, kind, make in makers
        ]
        node.wait(lambda: all(p.subscription_count() for p, _ in publishers), "subscriptions")
        for _ in range(random.randrange(20, 80)):
            publisher, make = random.choice(publishers)
            publisher.publish(make(time.time_ns()))
            time.sleep(random.choice((0.001, 0.1, 0.6)))
    node.start_camera(name)


def malformed_samples(node: LiveNode, random: Random) -> None:
    """Somebody sends bytes on the cameras' topics that are no messages."""
    name, before = random.choice(CAMERAS), node.ledger.lost
    with DdsNode("attacker", network=node.network) as attacker, ExitStack() as stack:
        hostile = Hostile(attacker.factory, random.randrange(2**32))
        goods = {
            "image_raw": (IMAGE, hostile.image),
            "depth/image_raw": (IMAGE, hostile.depth),
            "camera_info": (CAMERA_INFO, hostile.camera_info),
        }
        wires = []
        for topic, (kind, make) in goods.items():
            publisher = attacker.create_publisher(f"/{name}/{topic}", kind, SENSOR)
            good = bytes(attacker.types.serialize(make(time.time_ns())))
            node.wait(publisher.subscription_count, "a subscription")
            wires.append((wire_of(publisher, node.network.domain), good))
            stack.callback(wires[-1][0].close)
        for _ in range(random.randrange(100, 1000)):
            wire, good = random.choice(wires)
            wire.send(hostile.cdr(good))
            time.sleep(random.choice((0.0, 0.001, 0.01)))
        node.wait(lambda: node.ledger.lost > before, "a count of malformed samples", 30)


def queries(node: LiveNode, random: Random) -> None:
    """Somebody asks for texts, one after the other; each is answered."""
    hostile = Hostile(node.observer.factory, random.randrange(2**32))
    for _ in range(random.randrange(3, 12)):
        before = len(node.answers)
        _ask(node, hostile.text(), random)
        node.wait(lambda before=before: len(node.answers) > before, "the answer to a query")
        if before >= 900:
            node.answers.clear()


def query_flood(node: LiveNode, random: Random) -> None:
    """More is asked than can be answered; frames go on being processed meanwhile."""
    before = node.ledger.totals["processed"]
    for number in range(1000):
        _ask(node, f"a mug {number}", random)
        time.sleep(0.002)
    node.wait(lambda: node.ledger.totals["processed"] > before, "a result during a flood")
    node.answers.clear()


def _ask(node: LiveNode, text: str, random: Random) -> None:
    query = node.observer.factory.create(
        "zgs_ros/msg/Query",
        text=text,
        max_results=random.choice((0, 1, 2**32 - 1)),
        camera=random.choice(("", *CAMERAS, "nowhere")),
    )
    node.queries.publish(query)


def camera_restart(node: LiveNode, random: Random) -> None:
    """A camera goes and comes back."""
    name = random.choice(CAMERAS)
    node.stop_camera(name)
    time.sleep(random.uniform(0, 8))
    node.start_camera(name)


def both_cameras_restart(node: LiveNode, random: Random) -> None:
    """All cameras go and come back: nothing is published meanwhile."""
    for name in CAMERAS:
        node.stop_camera(name)
    time.sleep(random.uniform(2, 10))
    for name in CAMERAS:
        node.start_camera(name)


def stall(node: LiveNode, random: Random) -> None:
    """The node stands still, longer than its place on the network is kept at most."""
    node.process.freeze()
    time.sleep(random.choice((1.0, 5.0, 12.0, 25.0)))
    node.process.send(signal.SIGCONT)


ROUNDS = (
    ["deactivate", "activate"],
    ["deactivate", "cleanup", "configure", "activate"],
    ["activate", "deactivate", "deactivate", "cleanup", "configure", "activate"],
)


def lifecycle(node: LiveNode, random: Random) -> None:
    """Somebody sends the node through its states, and through transitions that it does not have."""
    assert node.ros is not None
    names = random.choice(ROUNDS)
    node.cleanups += names.count("cleanup")
    done = node.ros.ask("transitions", names=names)["success"]
    if not done[-1]:
        raise Finding(f"the node could not be activated again: {done}")


def segment_image(node: LiveNode, random: Random) -> None:
    """Somebody has images segmented on demand, good ones and bad ones."""
    assert node.ros is not None
    for changes in ({}, {"encoding": "rgb7"}, {"height": 0}, {"step": 1}):
        answer = node.ros.ask("segment_image", changes=changes)
        if answer["success"] == bool(changes):
            raise Finding(f"segment_image with {changes}: {answer}")


ACTS = (
    Row("quiet", quiet),
    Row("subscribers come and go", subscribers),
    Row("subscriber killed", killed_subscriber),
    Row("subscriber stopped", stopped_subscriber),
    Row("hostile messages", bad_messages),
    Row("malformed samples", malformed_samples),
    Row("queries", queries),
    Row("flood of queries", query_flood),
    Row("camera restarts", camera_restart),
    Row("all cameras restart", both_cameras_restart),
    Row("node stopped", stall),
    Row("lifecycle", lifecycle, needs_ros=True),
    Row("segment_image", segment_image, needs_ros=True),
)
"""All of them."""

CLOCKS: dict[str, Callable[[Random], tuple[int, int]]] = {
    "jumps": lambda random: (random.randrange(0, 2**31), random.randrange(10**9)),
    "back": lambda random: (random.randrange(0, 1000), 0),
    "stands still": lambda random: (5, 0),
    "before 1970": lambda random: (random.randrange(-(2**31), 0), 0),
    "impossible nanoseconds": lambda random: (random.randrange(0, 2**31), 2**32 - 1),
    "the end of time": lambda random: (2**31 - 1, 2**32 - 1),
}
"""What ``/clock`` may tell, for a while."""


def clock(node: LiveNode, random: Random, kind: str) -> None:
    """``/clock`` tells one of `CLOCKS`, and then the time again."""
    assert node.time is not None
    node.time.now = lambda: CLOCKS[kind](random)
    time.sleep(random.uniform(1, 4))
    node.time.now = steady
