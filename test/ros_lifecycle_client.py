"""Sends the node round and round, for the tests: `ros_lifecycle_client.py OPTIONS_AS_JSON` prints JSON.

Options: names of the transitions of a round, rounds, and whether to see a result of each activation
(otherwise its frames are left behind in whatever state they are). Prints which of the last round's
transitions succeeded.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import rclpy
from lifecycle_msgs.srv import ChangeState
from rclpy.node import Node
from ros_client import connect_to_transitions, spin_until, start_camera

from zgs_ros.msg import SegmentArray


def main() -> None:
    options = json.loads(sys.argv[1])
    rclpy.init()
    node = Node("test_lifecycle")
    start_camera(node, {"rate": 20.0})
    results: list[Any] = []
    node.create_subscription(SegmentArray, "/zgs/segments", results.append, 1)
    change = connect_to_transitions(node)
    success: list[bool] = []
    for _ in range(options["rounds"]):
        success.clear()
        for name in options["names"]:
            request = ChangeState.Request()
            request.transition.label = name
            changed = change.call_async(request)
            spin_until(node, changed.done)
            assert changed.done(), f"{name} was not answered"
            success.append(changed.result().success)
            if name == "activate" and options.get("see", True):
                results.clear()
                spin_until(node, lambda: bool(results))
                assert results, "there was no result"
    print("found: " + json.dumps(success))
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
