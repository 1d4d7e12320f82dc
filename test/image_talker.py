"""Publishes images at 10 Hz, reliably, until it is ended: image_talker.py DOMAIN WIDTH HEIGHT."""

from __future__ import annotations

import sys
import time

import numpy as np

from zgs_ros.dds.network import Network
from zgs_ros.dds.node import DdsNode
from zgs_ros.streaming import messages
from zgs_ros.streaming.inputs import IMAGE

if __name__ == "__main__":
    domain, width, height = map(int, sys.argv[1:])
    with DdsNode("talker", network=Network(domain, loopback_only=True)) as node:
        publisher = node.create_publisher("/camera/image_raw", IMAGE)
        picture = np.full((height, width, 3), 90, np.uint8)
        print("publishing", flush=True)
        while True:
            stamp = messages.header(node.factory, time.time_ns(), "camera")
            publisher.publish(messages.rgb_image(node.factory, stamp, picture))
            time.sleep(0.1)
