"""Plays a bag to the node, for the tests: `ros_bag_client.py OPTIONS_AS_JSON` prints JSON.

Options: play (arguments of `ros2 bag play`), seconds (how long to go on after the player ended),
jumps (instead, how often the results' stamps are to jump back before the player is ended).
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from itertools import pairwise
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from ros_client import describe
from ros_process import PATIENCE
from rosgraph_msgs.msg import Clock

from zgs_ros.msg import SegmentArray


def nanoseconds(stamp: Any) -> int:
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def play(node: Node, options: dict[str, Any]) -> dict[str, Any]:
    """What came of the bag: stamps and track ids of the results, times of the clock, diagnoses."""
    results: list[SegmentArray] = []
    clock: list[int] = []
    diagnoses: list[dict[str, Any]] = []
    node.create_subscription(SegmentArray, "/zgs/segments", results.append, 100)
    node.create_subscription(
        Clock, "/clock", lambda m: clock.append(nanoseconds(m.clock)), qos_profile_sensor_data
    )
    node.create_subscription(
        DiagnosticArray, "/diagnostics", lambda m: diagnoses.append(describe(m)), 100
    )
    ready = time.monotonic() + PATIENCE / 2
    while not node.count_publishers("/zgs/segments") and time.monotonic() < ready:
        rclpy.spin_once(node, timeout_sec=0.1)
    began = time.monotonic()
    player = subprocess.Popen(
        ["ros2", "bag", "play", "--disable-keyboard-controls", *options["play"]]
    )
    end = None
    try:
        while time.monotonic() < began + PATIENCE / 2:
            rclpy.spin_once(node, timeout_sec=0.1)
            stamps = [nanoseconds(result.header.stamp) for result in results]
            if "jumps" in options and backwards(stamps) >= options["jumps"]:
                break
            if player.poll() is not None:
                end = end or time.monotonic() + options.get("seconds", 2.0)
                if time.monotonic() > end:
                    break
    finally:
        player.send_signal(signal.SIGINT)
        player.wait(30)
    return {
        "stamps": [nanoseconds(result.header.stamp) for result in results],
        "frame_ids": sorted({result.header.frame_id for result in results}),
        "tracks": [[segment.track_id for segment in result.segments] for result in results],
        "clock_jumps": backwards(clock),
        "diagnoses": diagnoses,
    }


def backwards(times: list[int]) -> int:
    """How often a time is before the one that came before it."""
    return sum(after < before for before, after in pairwise(times))


def main() -> None:
    rclpy.init()
    node = Node("test_bag_client")
    print("found: " + json.dumps(play(node, json.loads(sys.argv[1]))), flush=True)
    node.destroy_node()
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
