"""Subscriptions to cameras, on a bus in memory: what follows the publishers, and what is left behind."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any

import pytest
from conformance import made
from dds_support import HalvesSegmenter

from zgs_ros.message_types import MessageTypes
from zgs_ros.streaming import inputs
from zgs_ros.streaming.bus import Bus, BusPort, BusSubscription
from zgs_ros.streaming.inputs import IMAGE, FollowingSubscription
from zgs_ros.streaming.interface import DIAGNOSTICS
from zgs_ros.streaming.node import SegmentationNode

TOPIC = "/image"


class OddPort(BusPort):
    """A node whose next subscription, or look at the graph, meets with what a test wants."""

    def __init__(self, bus: Bus, name: str = "zgs") -> None:
        super().__init__(bus, name, factory=MessageTypes())
        self.before: Callable[[str], object] = lambda topic: None
        self.graph: Callable[[], object] = lambda: None

    def create_subscription(self, topic: str, *rest: Any, **more: Any) -> BusSubscription:
        self.before(topic)
        return super().create_subscription(topic, *rest, **more)

    def offers(self, topic: str) -> Any:
        self.graph()
        return super().offers(topic)


def listened(bus: Bus) -> set[str]:
    return {topic for topic, ends in bus._subscriptions.items() if ends}


def fail(*_: object) -> None:
    raise OSError("no room in the graph")


def test_a_subscription_that_is_closed_stays_so() -> None:
    bus = Bus()
    port = OddPort(bus)
    subscription = FollowingSubscription(port, TOPIC, IMAGE, print)
    subscription.close()
    port.create_publisher(TOPIC, IMAGE)
    subscription.look()  # which would be reliable now
    assert not listened(bus)


def test_closing_while_it_subscribes_anew_leaves_nothing_behind() -> None:
    bus = Bus()
    port = OddPort(bus)
    subscription = FollowingSubscription(port, TOPIC, IMAGE, print)
    closing = Thread(target=subscription.close)

    def close_meanwhile(topic: str) -> None:
        closing.start()
        closing.join(0.05)

    port.create_publisher(TOPIC, IMAGE)
    port.before = close_meanwhile
    subscription.look()
    closing.join()
    assert not listened(bus)


def test_a_failure_to_subscribe_anew_leaves_what_there_is_and_is_tried_again() -> None:
    bus, got = Bus(), []
    port = OddPort(bus)
    subscription = FollowingSubscription(port, TOPIC, IMAGE, got.append)
    publisher = port.create_publisher(TOPIC, IMAGE)
    port.before = fail
    with pytest.raises(OSError, match="no room"):
        subscription.look()
    publisher.publish("heard")
    port.before = lambda topic: None
    subscription.look()
    assert (got, subscription.reliable) == (["heard"], True)
    assert len(bus._subscriptions[TOPIC]) == 1


SILENCES: list[tuple[str, list[float], int, int]] = [
    ("a camera at work", [0.1] * 100, 2, 0),
    ("a camera with ten seconds between its images", [10.0] * 20, 12, 0),
    ("one that stops", [0.1] * 100, 12, 2),
    ("one whose reader stood still for long", [0.1] * 100 + [12.0], 3, 1),
]


@pytest.mark.parametrize(
    ("what", "gaps", "silent", "renewals"), SILENCES, ids=[case[0] for case in SILENCES]
)
def test_what_is_silent_for_longer_than_usual_is_subscribed_to_anew(
    what: str, gaps: list[float], silent: int, renewals: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(inputs.time, "monotonic", lambda: now)
    port = OddPort(Bus())
    publisher = port.create_publisher(TOPIC, IMAGE)
    subscription = FollowingSubscription(port, TOPIC, IMAGE, str)
    for gap in gaps:
        now += gap
        publisher.publish("an image")
    for _ in range(silent):
        subscription.look()
        now += 1.0
    assert subscription.renewals == renewals


@pytest.mark.parametrize("failing", ["front/image", "rear/image", "rear/depth"])
def test_activating_subscribes_to_everything_or_nothing(failing: str) -> None:
    bus = Bus()
    port = OddPort(bus)
    settings = made({"cameras": ["front", "rear"], "depth__enabled": True})
    node = SegmentationNode(port, settings, lambda _: HalvesSegmenter())
    node.configure()
    before = listened(bus)
    port.before = lambda topic: fail() if topic == f"/{failing}" else None
    with pytest.raises(OSError, match="no room"):
        node.activate()
    assert (listened(bus), node.cameras) == (before, ())
    port.before = lambda topic: None
    node.activate()
    assert len(listened(bus) - before) == 6
    node.close()


def test_diagnostics_go_on_whatever_the_graph_does(caplog: pytest.LogCaptureFixture) -> None:
    port, got = OddPort(Bus()), []
    node = SegmentationNode(port, made({}), lambda _: HalvesSegmenter())
    port.create_subscription(DIAGNOSTICS.name, DIAGNOSTICS.type_name, got.append)
    node.configure()
    node.activate()
    port.graph = fail
    node.look()
    node.look()
    assert len(got) == 2
    assert [r.getMessage() for r in caplog.records if r.levelname == "ERROR"] == [
        "looking after the node failed: no room in the graph"
    ]
    node.close()
