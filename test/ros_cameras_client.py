"""Cameras with depth around the node, for the tests: `ros_cameras_client.py OPTIONS_AS_JSON` prints JSON.

Options: cameras (names, "" for one without), depth (metres, "nan", or null for none), depth_first
(whether depth comes before its image), count of results to wait for from each camera, seconds to
wait at most.
"""

from __future__ import annotations

import array
import json
import sys
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from ros_client import HEIGHT, WIDTH, describe, image_message, spin_until
from ros_process import PATIENCE
from sensor_msgs.msg import CameraInfo, Image
from visualization_msgs.msg import MarkerArray

from zgs_ros.msg import Query, QueryResult, SegmentArray


class Camera:
    """Publishes images with depth of one distance; collects what the node makes of them."""

    def __init__(self, node: Node, name: str, options: dict[str, Any]) -> None:
        self._node, self._name, self._options = node, name, options
        base = f"/{name or 'camera'}"
        self._image = node.create_publisher(Image, f"{base}/image_raw", 1)
        self._depth = node.create_publisher(Image, f"{base}/depth/image_raw", 1)
        self._info = node.create_publisher(CameraInfo, f"{base}/camera_info", 1)
        own = f"/zgs/{name}" if name else "/zgs"
        self.segments: list[Any] = []
        self.markers: list[Any] = []
        node.create_subscription(SegmentArray, f"{own}/segments", self.segments.append, 10)
        node.create_subscription(MarkerArray, f"{own}/markers", self.markers.append, 10)
        node.create_timer(0.1, self._publish)

    def _publish(self) -> None:
        image = image_message(self._node)
        image.header.frame_id = f"{self._name}_optical"
        metres = self._options.get("depth")
        if metres is None:
            self._image.publish(image)
            return
        values = np.full((HEIGHT, WIDTH), float(metres), np.float32)
        depth = Image(header=image.header, height=HEIGHT, width=WIDTH, step=WIDTH * 4)
        depth.encoding, depth.data = "32FC1", array.array("B", values.tobytes())
        info = CameraInfo(header=image.header, height=HEIGHT, width=WIDTH)
        info.k = [100.0, 0.0, 63.5, 0.0, 100.0, 47.5, 0.0, 0.0, 1.0]
        self._info.publish(info)
        for message, publisher in sorted(
            [(image, self._image), (depth, self._depth)],
            key=lambda pair: (pair[0] is image) == self._options.get("depth_first", True),
        ):
            publisher.publish(message)

    def seen(self) -> dict[str, Any]:
        segments = self.segments[-1].segments
        return {
            "frame_id": self.segments[-1].header.frame_id,
            "valid": [segment.position_valid for segment in segments],
            "z": [segment.position.z for segment in segments],
            "tracks": [[s.track_id for s in message.segments] for message in self.segments],
            "markers": len(self.markers[-1].markers) if self.markers else 0,
        }


def main() -> None:
    options = json.loads(sys.argv[1])
    rclpy.init()
    node = Node("test_cameras")
    cameras = {name: Camera(node, name, options) for name in options["cameras"]}
    answers: list[Any] = []
    node.create_subscription(QueryResult, "/zgs/query/result", answers.append, 10)
    ask = node.create_publisher(Query, "/zgs/query/request", 10)
    diagnoses: list[Any] = []
    node.create_subscription(DiagnosticArray, "/diagnostics", diagnoses.append, 10)
    wanted = options.get("count", 3)

    def enough() -> bool:
        # With depth that is good, until it has reached the results: at first it may be missed.
        good = isinstance(options.get("depth"), float)
        return all(
            len(camera.segments) >= wanted
            and (not good or any(s.position_valid for s in camera.segments[-1].segments))
            and (not good or camera.markers)
            for camera in cameras.values()
        )

    spin_until(node, enough, options.get("seconds", PATIENCE / 2))
    ask.publish(Query(text="left half"))
    spin_until(node, lambda: bool(answers))
    diagnoses.clear()
    spin_until(node, lambda: bool(diagnoses))
    found = {
        "cameras": {name: camera.seen() for name, camera in cameras.items()},
        "answer": {
            "text": answers[-1].query.text,
            "success": answers[-1].success,
            "camera": answers[-1].camera,
            "segments": len(answers[-1].segments),
        },
        "statuses": [status.name for status in diagnoses[-1].status],
        "diagnosis": describe(diagnoses[-1]),
    }
    print("found: " + json.dumps(found))
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
