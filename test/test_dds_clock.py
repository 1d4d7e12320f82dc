"""The node without ROS in simulated time, as a bag that is played tells it."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from dds_support import DOMAIN, HalvesSegmenter, Peer

from zgs_ros.config import NodeSettings, make_settings
from zgs_ros.dds.network import Network
from zgs_ros.dds.node import DdsNode
from zgs_ros.dds.peer import PeerOptions
from zgs_ros.streaming import messages
from zgs_ros.streaming.clock import SimulatedClock
from zgs_ros.streaming.messages import stamp_ns
from zgs_ros.streaming.port import QosProfile

NETWORK = Network(DOMAIN, loopback_only=True)
START = 1_700_000_000.0


@pytest.mark.parametrize(
    ("sec", "nanosec"),
    [(2**31 - 1, 2**32 - 1), (1, 10**9), (-1, 0), (-(2**31), 5), (2**31, 0)],
)
def test_what_is_no_time_is_left_out(sec: int, nanosec: int) -> None:
    clock = SimulatedClock()
    for told in ((7, 5), (sec, nanosec)):
        clock.offer(SimpleNamespace(clock=SimpleNamespace(sec=told[0], nanosec=told[1])))
    assert clock.now_ns() == 7_000_000_005


def test_rate_follows_the_simulated_clock_which_may_jump_back(
    eventually: Callable[..., None],
) -> None:
    """At a result per simulated second."""
    settings = make_settings(NodeSettings, {"max_rate": 1.0})
    options = PeerOptions(NETWORK, use_sim_time=True)
    peer, robot = Peer(HalvesSegmenter(), settings, options), DdsNode("robot", network=NETWORK)
    try:
        clock = robot.create_publisher("/clock", "rosgraph_msgs/msg/Clock")
        camera = robot.create_publisher("/camera/image_raw", "sensor_msgs/msg/Image")
        results: list[Any] = []
        robot.create_subscription(
            "/zgs/segments", "zgs_ros/msg/SegmentArray", results.append, QosProfile(depth=10)
        )
        eventually(clock.subscription_count, "the peer listens to the clock")
        eventually(camera.subscription_count, "the peer listens to the camera")
        eventually(peer.outputs.wanted, "the listener is seen")

        def tell(seconds: float) -> None:
            header = messages.header(robot.types, round((START + seconds) * 1e9))
            clock.publish(robot.types.create("rosgraph_msgs/msg/Clock", clock=header.stamp))
            eventually(lambda: peer.port.clock.now_ns() == stamp_ns(header), "the time is told")

        def show(seconds: float) -> None:
            header = messages.header(robot.types, round((START + seconds) * 1e9))
            camera.publish(messages.rgb_image(robot.types, header, np.zeros((48, 64, 3), np.uint8)))

        def seen() -> list[float]:
            return [round(stamp_ns(m.header) * 1e-9 - START, 3) for m in results]

        tell(10.0)
        show(10.0)
        eventually(lambda: seen() == [10.0], "the first result")
        show(10.5)
        tell(10.5)
        time.sleep(0.3)
        assert seen() == [10.0], "half a second is not enough, however long it takes"
        tell(11.5)
        eventually(lambda: seen() == [10.0, 10.5], "the second result")
        tell(2.0)
        show(2.0)
        eventually(lambda: seen() == [10.0, 10.5, 2.0], "a result after the bag began again")
        first, _, last = ({s.track_id for s in message.segments} for message in results)
        assert first.isdisjoint(last)
    finally:
        robot.close()
        peer.close()
