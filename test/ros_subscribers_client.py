"""Subscribers of the node, for the tests: `ros_subscribers_client.py OPTIONS_AS_JSON`.

Options: camera (rate in Hz, 0 = none), topics to listen to, pause (seconds that each message takes).
Prints "listening" when each topic brought a message, and after that every second how many messages
came on the first one.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from ros_client import CAMERA, OUTPUTS, image_message, picture
from sensor_msgs.msg import Image

from zgs_ros.ros.convert import RclpyMessages

SCALE = 3
"""Images are this many times as large as those of other tests, so that messages come in fragments."""


def main() -> None:
    options = json.loads(sys.argv[1])
    rclpy.init()
    node = Node("test_subscribers")
    topics: list[str] = options["topics"]
    seen: Counter[str] = Counter()

    def take(topic: str) -> None:
        seen[topic] += 1
        time.sleep(options.get("pause", 0.0))

    for topic in topics:
        node.create_subscription(
            OUTPUTS[topic], f"/zgs/{topic}", lambda _, topic=topic: take(topic), 10
        )
    if options.get("camera"):
        pixels = np.kron(picture(), np.ones((SCALE, SCALE, 1), np.uint8))
        height, width, _ = pixels.shape
        data = RclpyMessages().octets(pixels.ravel())
        size = {"height": height, "width": width, "step": width * 3}
        publisher = node.create_publisher(Image, CAMERA, 1)
        node.create_timer(
            1.0 / options["camera"],
            lambda: publisher.publish(image_message(node, data=data, **size)),
        )
    try:
        while not all(seen[topic] for topic in topics):
            rclpy.spin_once(node)
        print("listening", flush=True)
        while True:
            seen.clear()
            end = time.monotonic() + 1.0
            while time.monotonic() < end:
                rclpy.spin_once(node, timeout_sec=0.1)
            print(f"{seen[topics[0]]} in {time.monotonic() - end + 1.0:.3f} s", flush=True)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
