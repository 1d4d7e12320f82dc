"""What rclpy's node makes of its middleware, where that differs from what the port promises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import ros_support

pytestmark = [pytest.mark.ros, pytest.mark.timeout(300)]

ORDERS = {
    "nothing": [],
    "in order": [1, 2, 3],
    "out of order": [5, 3, 4],
    "more than are kept": list(range(30)),
}
DEPTH = """
import sys
from sensor_msgs.msg import Image
from zgs_ros.ros.port import RecentDepth

recent = RecentDepth()
for second in sys.argv[1:]:
    message = Image()
    message.header.stamp.sec = int(second)
    recent.add(message)
print(*(message.header.stamp.sec for message in recent))
"""
CALLBACK = """
import time
import rclpy
from zgs_ros.ros.port import RclpyPort

def take(message):
    got.append(message)
    if len(got) == 1:
        raise ValueError("an odd message")

rclpy.init()
node, got = rclpy.create_node("test_ros_port"), []
port = RclpyPort(node)
publisher = port.create_publisher("~/odd", "std_msgs/msg/Header")
port.create_subscription("~/odd", "std_msgs/msg/Header", take)
end = time.monotonic() + 30
while len(got) < 2 and time.monotonic() < end:
    publisher.publish(port.factory.create("std_msgs/msg/Header"))
    rclpy.spin_once(node, timeout_sec=0.1)
print(len(got))
"""


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env=ros_support.ros_environment(),
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )


def test_depth_of_before_1970_which_no_time_of_rclpy_is_is_passed_over() -> None:
    assert run(DEPTH, 3, -1, 4).stdout.split() == ["3", "4"]


@pytest.mark.parametrize("order", ORDERS)
def test_the_newest_depth_is_kept_in_whatever_order_it_comes(order: str) -> None:
    assert run(DEPTH, *ORDERS[order]).stdout.split() == [str(n) for n in ORDERS[order][-10:]]


def test_a_callback_that_fails_costs_its_message_alone() -> None:
    done = run(CALLBACK)
    assert done.stdout.strip() == "2"
    assert "a message is left out: an odd message" in done.stderr
