"""Subscribers come late, leave without a word, are slow or hang: the node and the others don't notice."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from dds_support import peer
from ros_process import PATIENCE, Process, wait_until
from ros_support import Ros

pytestmark = [pytest.mark.ros, pytest.mark.timeout(1800)]

CLIENT = Path(__file__).with_name("ros_subscribers_client.py")
PICTURES = ["label_image", "overlay"]

KEPT = 0.6
"""Share of the rate that is left at least; a node that waits for a subscriber keeps far less."""

SECONDS = 4
"""That a rate is averaged over."""

MIXED_STARTS = 5
"""That a subscriber on Fast DDS gets to hear a publisher on Cyclone DDS. In one of ten to twenty starts its
reader (2.14.6) holds a sample that is empty and never goes away, which it then takes for ever; in plain
rclpy too, without this package. What is tested here is the node, which does not notice."""

START_SECONDS = 60
"""After which a start is given up for another one."""


@contextmanager
def rclpy_node(ros: Ros) -> Iterator[Process]:
    with ros.launched(profile="mini", device="cpu", max_rate="20.0") as process:
        process.wait_for("listens to ")
        yield process


@contextmanager
def peer_node(ros: Ros) -> Iterator[Process]:
    command = peer(domain=ros.env["ROS_DOMAIN_ID"], range="LOCALHOST", max_rate=20)
    with ros.process(*command) as process:
        process.wait_for("node /zgs on domain")
        yield process


@contextmanager
def subscriber(ros: Ros, starts: int, *topics: str, **options: float) -> Iterator[Process]:
    """A subscriber that has heard the node on every topic, in one of so many starts."""
    given = json.dumps({"topics": topics, **options})
    for left in reversed(range(starts)):
        with ros.process(sys.executable, str(CLIENT), given) as process:
            try:
                process.wait_for("listening", START_SECONDS if left else PATIENCE)
            except AssertionError:
                process.kill()
                if not left:
                    raise
                continue
            yield process
            return


class Watch:
    """A subscriber, with the camera in the same process, that tells the rate of results."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def rate(self) -> float:
        """Results per second from now on."""
        begin = len(self._counts()) + 1  # the second that runs now began before
        wait_until(lambda: len(self._counts()) >= begin + SECONDS, self._process)
        counts = self._counts()[begin : begin + SECONDS]
        return sum(n for n, _ in counts) / sum(seconds for _, seconds in counts)

    def keeps(self, rate: float) -> None:
        """Waits until the rate is as before, which it never is again where the node is slowed down."""
        wait_until(lambda: self.rate() > KEPT * rate, self._process)

    def _counts(self) -> list[tuple[int, float]]:
        found = re.findall(r"^(\d+) in ([\d.]+) s$", self._process.text, re.M)
        return [(int(count), float(seconds)) for count, seconds in found]


@pytest.mark.parametrize("start", [rclpy_node, peer_node], ids=["rclpy", "peer"])
def test_subscribers_that_are_late_slow_hang_or_leave_slow_nobody_down(
    ros: Ros, start: type[AbstractContextManager[Process]]
) -> None:
    fast = ros.env["RMW_IMPLEMENTATION"] == "rmw_fastrtps_cpp"
    starts = MIXED_STARTS if fast and start is peer_node else 1
    with start(ros) as node, subscriber(ros, starts, "segments", *PICTURES, camera=20.0) as first:
        watch = Watch(first)
        rate = watch.rate()
        with subscriber(
            ros, starts, "segments", *PICTURES, pause=2.0
        ):  # that comes late and is slow
            watch.keeps(rate)
        with subscriber(ros, starts, "segments", *PICTURES) as hanging:
            hanging.freeze()
            watch.keeps(rate)
            hanging.kill()
            watch.keeps(rate)
        assert not node.has_ended()
        assert "Traceback" not in node.text
