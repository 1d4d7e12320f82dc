"""The rclpy node beside others: namespaces, remapping, detections, and the viewers that need no ROS."""

from __future__ import annotations

import json
import re
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from dds_support import cli, peer
from ros_process import PATIENCE, Process, wait_until
from ros_support import Ros

from zgs_ros.config import NodeSettings, make_settings
from zgs_ros.dds.types import TypeSupport
from zgs_ros.streaming.outputs import OUTPUTS

pytestmark = [pytest.mark.ros, pytest.mark.timeout(1800)]

ECHO = ("topic", "echo", "--once")

OPTIONS = {"cameras": [""], "depth": 2.0, "count": 1_000_000, "seconds": PATIENCE}
CLIENT = Path(__file__).with_name("ros_cameras_client.py")
DEPTH_CAMERA = (sys.executable, str(CLIENT), json.dumps(OPTIONS))
"""A camera with depth that publishes until it is ended."""


@contextmanager
def started(ros: Ros, *arguments: str, **parameters: str) -> Iterator[Process]:
    """The node as `ros2 run` starts it."""
    given = {"profile": "mini", "device": "cpu", "max_rate": "20.0", **parameters}
    options = [part for name, value in given.items() for part in ("-p", f"{name}:={value}")]
    command = ["ros2", "run", "zgs_ros", "zgs_node", "--autostart", "--ros-args", *options]
    with ros.process(*command, *arguments) as process:
        process.wait_for("listens to ")
        yield process


def test_nodes_side_by_side_with_namespaces_and_remappings(ros: Ros) -> None:
    with ExitStack() as stack:
        stack.enter_context(started(ros, "-r", "__ns:=/front"))
        rules = ["__node:=eyes", "image:=/rear/image_raw", "~/segments:=/labels/segments"]
        rear = [part for rule in rules for part in ("-r", rule)]
        stack.enter_context(started(ros, *rear))
        assert ros.shows({"/front/zgs\n", "/eyes\n"}, "node", "list")
        entries = {
            "/front/zgs/segments [zgs_ros/msg/SegmentArray]",
            "/front/image [sensor_msgs/msg/Image]",
            "/rear/image_raw [sensor_msgs/msg/Image]",
            "/labels/segments [zgs_ros/msg/SegmentArray]",
            "/eyes/overlay [sensor_msgs/msg/Image]",
        }
        assert ros.shows(entries, "topic", "list", "-t", without="/eyes/segments")
        for topic, node in (("/front/image", "/front/zgs"), ("/rear/image_raw", "/labels")):
            assert len(ros.ask("watch", topic=topic, node=node, results=2)["segments"]) >= 2


WITH_DETECTIONS = {"publish_detections": True, "depth.enabled": True}


@contextmanager
def peer_with_detections(ros: Ros) -> Iterator[Process]:
    domain = ros.env["ROS_DOMAIN_ID"]
    command = peer(domain=domain, range="LOCALHOST", max_rate=20, **WITH_DETECTIONS)
    with ros.process(*command) as process:
        process.wait_for("node /zgs on domain")
        yield process


@contextmanager
def node_with_detections(ros: Ros) -> Iterator[Process]:
    arguments = {"detections": "true", "depth": "true", "profile": "mini", "device": "cpu"}
    with ros.launched(**arguments) as process:
        process.wait_for("listens to ")
        yield process


@pytest.mark.parametrize(
    "start", [node_with_detections, peer_with_detections], ids=["rclpy", "peer"]
)
def test_detections_are_what_other_programs_know(ros: Ros, start: Any) -> None:
    types = TypeSupport("jazzy")
    settings = make_settings(NodeSettings, WITH_DETECTIONS)
    with start(ros), ros.process(*DEPTH_CAMERA):
        for row in filter(lambda row: row.exists(settings), OUTPUTS):
            info = ("topic", "info", "-v", f"/zgs/{row.topic}")
            kind = row.type_name
            assert ros.shows({f"Topic type: {kind}", types.type_hash(kind)}, *info)
        shown = ros.shows({"class_id: ", "size_x: "}, *ECHO, "/zgs/detections")
        assert re.search(r"score: 0\.\d+", shown)
        # At first depth may be missed, and segments without a place are no detections in space.
        assert ros.shows({"class_id: ", "id: '"}, *ECHO, "/zgs/detections_3d")


def test_the_page_shows_the_rclpy_node(ros: Ros) -> None:
    command = cli("view", "--port", "0")
    command = [*command[: command.index("--local")], "--domain", ros.env["ROS_DOMAIN_ID"]]
    with (
        started(ros, "-r", "image:=/camera/image_raw"),
        ros.camera(),
        ros.process(*command) as view,
    ):
        view.wait_for("open http://")
        found = re.search(r"open (http://\S+)/", view.text)
        assert found is not None

        def get(path: str, body: bytes | None = None) -> bytes:
            request = urllib.request.Request(found[1] + path, body)
            request.add_header("Content-Type", "application/json")
            with urllib.request.urlopen(request, timeout=60) as answer:
                return bytes(answer.read())

        def state() -> Any:
            return json.loads(get("/state"))

        wait_until(lambda: bool(state()["frame"] and state()["health"]), view)
        assert all(segment["label"] for segment in state()["frame"]["segments"])
        assert state()["health"]["values"]["profile"] == "mini"
        assert get("/overlay.jpg")[:2] == b"\xff\xd8"
        answer = json.loads(get("/query", b'{"text": "a red box"}'))
        assert len(answer["segments"]) == len(state()["frame"]["segments"])
