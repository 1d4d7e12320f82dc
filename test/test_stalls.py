"""A node whose process stood still goes on receiving: images of a reliable camera."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import ros_support
from dds_support import DOMAIN, peer, process

from zgs_ros.dds.network import Network
from zgs_ros.dds.node import DdsNode
from zgs_ros.streaming.interface import DIAGNOSTICS
from zgs_ros.streaming.port import QUEUED

TALKER = Path(__file__).with_name("image_talker.py")
HALVES = Path(__file__).with_name("ros_halves_node.py")
STALLS = {"once": [12.0], "again and again": [0.35] * 35}
"""Seconds that the process stands still: longer than the lease after which Cyclone DDS gives a participant
up, and as on a machine that has hardly any time for it, so that no image comes together."""
BETWEEN_SECONDS = 0.02
LARGE, SMALL = ("1280", "720"), ("160", "120")
"""Of images; the small ones for Fast DDS, which seldom puts larger ones of Cyclone DDS together."""
RECOVERY_SECONDS = 3.0

ADAPTERS = [
    "dds",
    *(pytest.param(rmw, marks=pytest.mark.ros) for rmw in ros_support.RMWS),
]
Signal = Callable[[int], None]


@contextmanager
def without_ros() -> Iterator[tuple[Signal, int]]:
    with process(peer(lazy="false", max_rate=1000)) as node:
        yield node.send_signal, DOMAIN


@contextmanager
def with_ros(workspace: Path, rmw: str, folder: Path) -> Iterator[tuple[Signal, int]]:
    ros = ros_support.Ros(workspace, rmw, folder)
    if not ros.has_middleware:
        pytest.skip(f"{rmw} is not installed")
    arguments = ("--autostart", "--ros-args", "-r", "image:=/camera/image_raw", "-p", "lazy:=false")
    with ros, ros.process(sys.executable, str(HALVES), *arguments) as node:
        node.wait_for("listens to")
        yield node.send, int(ros.env["ROS_DOMAIN_ID"])


@pytest.mark.slow
@pytest.mark.parametrize("stalls", STALLS)
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_node_that_stood_still_receives_again(
    adapter: str, stalls: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        if adapter == "dds":
            send, domain = stack.enter_context(without_ros())
        else:
            workspace = request.getfixturevalue("ros_workspace")
            send, domain = stack.enter_context(with_ros(workspace, adapter, tmp_path))
        observer = stack.enter_context(
            DdsNode("observer", network=Network(domain, loopback_only=True))
        )
        received: list[tuple[float, int]] = []

        def count(message: Any) -> None:
            for status in message.status:
                values = {pair.key: pair.value for pair in status.values}
                if "received" in values:
                    received.append((time.monotonic(), int(values["received"])))

        observer.create_subscription(DIAGNOSTICS.name, DIAGNOSTICS.type_name, count, QUEUED)
        size = SMALL if adapter == "rmw_fastrtps_cpp" else LARGE
        stack.enter_context(process([sys.executable, str(TALKER), str(domain), *size]))
        wait(lambda: received and received[-1][1] > 20, "images are received", 60)
        for seconds in STALLS[stalls]:
            send(signal.SIGSTOP)
            time.sleep(seconds)
            before = received[-1][1]
            send(signal.SIGCONT)
            time.sleep(BETWEEN_SECONDS)
        went_on = time.monotonic()
        # Some are still there from before; those beyond them were sent afterwards.
        wait(lambda: received[-1][1] > before + 5, "images are received again", 60)
        took = received[-1][0] - went_on
        print(f"{adapter}: received again {took:.1f} s after it went on")
        assert took < RECOVERY_SECONDS + 1.2, f"{took:.1f} s; a second is between two diagnoses"
        again = received[-1][1]
        wait(lambda: received[-1][1] > again + 30, "and it stays so", 20)


def wait(condition: Callable[[], Any], what: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.01)
