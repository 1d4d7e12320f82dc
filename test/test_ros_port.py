"""What rclpy's node makes of its middleware, where that differs from what the port promises."""

from __future__ import annotations

import json
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
    "before 1970": [3, -1, 4],
}
DEPTH = """
import json, sys
from sensor_msgs.msg import Image
from zgs_ros.ros.port import RecentDepth

def kept(seconds):
    recent = RecentDepth()
    for second in seconds:
        message = Image()
        message.header.stamp.sec = second
        recent.add(message)
    return [message.header.stamp.sec for message in recent]

orders = json.loads(sys.argv[1])
print(json.dumps({order: kept(seconds) for order, seconds in orders.items()}))
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

MALFORMED = """
import resource
import struct
import time
import rclpy
from rclpy.serialization import serialize_message
from zgs_ros.ros.port import RclpyPort
from zgs_ros.streaming.port import QosProfile

IMAGE = "sensor_msgs/msg/Image"
LENGTH = 123
CLAIMED = 300_000_000
TIMES = 3

rclpy.init()
node, got = rclpy.create_node("test_ros_port"), []
port = RclpyPort(node)
many = QosProfile(depth=50)
publisher = port.create_publisher("~/odd", IMAGE, many)
heard = port.create_subscription("~/odd", IMAGE, got.append, many)
good = serialize_message(port.factory.create(IMAGE, encoding="rgb8", data=bytes(LENGTH)))
samples = [good.replace(struct.pack("<I", LENGTH), struct.pack("<I", CLAIMED)), good[:20]]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
end = time.monotonic() + 30
while not publisher.subscription_count() and time.monotonic() < end:
    time.sleep(0.01)
for sample in TIMES * samples + [good]:
    publisher.publish(sample)
while not (got and heard.lost) and time.monotonic() < end:
    rclpy.spin_once(node, timeout_sec=0.1)
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(len(got), heard.lost, sum(len(message.data) for message in got), used < CLAIMED // 1024 // 2)
"""
LEAVING = """
import sys
import threading
import time
import rclpy
from rclpy.executors import SingleThreadedExecutor
from zgs_ros.ros.main import _spin
from zgs_ros.ros.port import RclpyPort

HEADER = "std_msgs/msg/Header"

rclpy.init()
node, got = rclpy.create_node("test_ros_port"), []
port = RclpyPort(node)
port.create_subscription("~/stays", HEADER, got.append)
stays = port.create_publisher("~/stays", HEADER)
executor = SingleThreadedExecutor()
executor.add_node(node)

def come_and_go():
    end = time.monotonic() + 5
    while time.monotonic() < end:
        leaving = [port.create_subscription("~/leaves", HEADER, print) for _ in range(10)]
        stays.publish(port.factory.create(HEADER))  # for the executor to look at all topics anew
        for subscription in leaving:
            subscription.close()
    got.clear()
    end = time.monotonic() + 30
    while not got and time.monotonic() < end:
        stays.publish(port.factory.create(HEADER))
        time.sleep(0.1)
    rclpy.shutdown()

threading.Thread(target=come_and_go).start()
try:
    _spin(executor)
except rclpy.executors.ExternalShutdownException:
    print("hears" if got else "deaf")
"""

CLOCK = """
import sys
import time
import rclpy
from rclpy.parameter import Parameter
from builtin_interfaces.msg import Time
from rosgraph_msgs.msg import Clock
from zgs_ros.ros.time import pass_over_impossible_times

rclpy.init()
simulated = [Parameter("use_sim_time", value=sys.argv[1] == "from the start")]
node = rclpy.create_node("test_ros_time", parameter_overrides=simulated)
pass_over_impossible_times(node)
node.set_parameters([Parameter("use_sim_time", value=True)])
publisher = node.create_publisher(Clock, "/clock", 10)
end = time.monotonic() + 30
while node.get_clock().now().nanoseconds != 7 and time.monotonic() < end:
    for seconds, nanoseconds in ((-1, 0), (-(2**31), 2**32 - 1), (0, 7)):
        publisher.publish(Clock(clock=Time(sec=seconds, nanosec=nanoseconds)))
        rclpy.spin_once(node, timeout_sec=0.1)
print(node.get_clock().now().nanoseconds)
"""


def run(
    script: str, *arguments: str, rmw: str = ros_support.RMWS[0]
) -> subprocess.CompletedProcess[str]:
    with ros_support.own_domain() as domain:
        return subprocess.run(
            [sys.executable, "-c", script, *arguments],
            env={**ros_support.ros_environment(rmw=rmw), "ROS_DOMAIN_ID": str(domain)},
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            check=True,
        )


@pytest.fixture(scope="module")
def kept_depth() -> dict[str, list[int]]:
    """Stamps of the depth that is kept of each of the orders."""
    kept: dict[str, list[int]] = json.loads(run(DEPTH, json.dumps(ORDERS)).stdout)
    return kept


@pytest.mark.parametrize("order", ORDERS)
def test_the_newest_depth_is_kept_in_whatever_order_it_comes(
    kept_depth: dict[str, list[int]], order: str
) -> None:
    """But for that of before 1970, which no time of rclpy is."""
    assert kept_depth[order] == [second for second in ORDERS[order] if second >= 0][-10:]


def test_a_callback_that_fails_costs_its_message_alone() -> None:
    done = run(CALLBACK)
    assert done.stdout.strip() == "2"
    assert "a message is left out: an odd message" in done.stderr


def test_subscriptions_may_leave_while_the_executor_waits() -> None:
    done = run(LEAVING)
    assert done.stdout.strip() == "hears"
    assert not done.stderr


@pytest.mark.parametrize("rmw", ros_support.RMWS)
def test_what_is_no_message_is_counted_and_not_handed_over(rmw: str) -> None:
    """Whatever length it claims to have: that costs no memory."""
    done = run(MALFORMED, rmw=rmw)
    assert done.stdout.split() == ["1", "6", "123", "True"], done.stderr
    assert done.stderr.count("bytes are no sensor_msgs/msg/Image: ") == 1


@pytest.mark.parametrize("simulated", ["from the start", "later"])
def test_a_time_that_is_none_is_passed_over(simulated: str) -> None:
    assert run(CLOCK, simulated).stdout.split() == ["7"]
