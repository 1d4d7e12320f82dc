"""Prints what the zgs node sees, and where: python3 subscriber.py, with ROS 2 and zgs_ros sourced."""

from contextlib import suppress

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node

from zgs_ros.msg import SegmentArray


class Subscriber(Node):
    def __init__(self) -> None:
        super().__init__("zgs_subscriber")
        self.create_subscription(SegmentArray, "/zgs/segments", self.show, 10)

    def show(self, message: SegmentArray) -> None:
        image = message.label_image  # mono16: 0 = none, otherwise the id of the pixel's segment
        labels = np.frombuffer(image.data, np.uint16).reshape(image.height, image.width)
        for segment in message.segments:
            share = np.mean(labels == segment.id)
            text = (
                f"#{segment.track_id} {segment.label} {segment.score:.2f}, {share:.0%} of the image"
            )
            if segment.position_valid:  # with depth; metres in message.header.frame_id
                text += f", {segment.position.z:.2f} m ahead"
            self.get_logger().info(text)


rclpy.init()
with suppress(KeyboardInterrupt, ExternalShutdownException):
    rclpy.spin(Subscriber())
