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
from ros_process import Process, wait_until
from ros_support import Ros

pytestmark = [pytest.mark.ros, pytest.mark.timeout(1800)]

CLIENT = Path(__file__).with_name("ros_subscribers_client.py")
PICTURES = ["label_image", "overlay"]

KEPT = 0.6
"""Share of the rate that is left at least; a node that waits for a subscriber keeps far less."""

SECONDS = 4
"""That a rate is averaged over."""


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


def subscriber(ros: Ros, *topics: str, **options: float) -> AbstractContextManager[Process]:
    given = json.dumps({"topics": topics, **options})
    return ros.process(sys.executable, str(CLIENT), given)


class Watch:
    """A subscriber, with the camera in the same process, that tells the rate of results."""

    def __init__(self, process: Process) -> None:
        process.wait_for("listening")
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
    with start(ros) as node, subscriber(ros, "segments", *PICTURES, camera=20.0) as first:
        watch = Watch(first)
        rate = watch.rate()
        with subscriber(ros, "segments", *PICTURES, pause=2.0) as slow:
            slow.wait_for("listening")  # that comes late
            watch.keeps(rate)
        with subscriber(ros, "segments", *PICTURES) as hanging:
            hanging.wait_for("listening")
            hanging.freeze()
            watch.keeps(rate)
            hanging.kill()
            watch.keeps(rate)
        assert not node.has_ended()
        assert "Traceback" not in node.text
