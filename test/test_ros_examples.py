"""The examples of the documentation, with the real node."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import ros_support
from ros_process import Process
from ros_support import Ros

from zgs_ros.dds.network import Network
from zgs_ros.dds.node import DdsNode
from zgs_ros.segmentation import Label, Placement, Roi, Segment, Segmentation
from zgs_ros.streaming import messages
from zgs_ros.streaming.detections import detection3d_array

pytestmark = [pytest.mark.ros, pytest.mark.timeout(1800)]

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"


@pytest.fixture(scope="module")
def node(ros: Ros, ros_models: dict[str, str]) -> Iterator[Process]:
    """The node with a camera, working as soon as somebody subscribes."""
    with ros.launched(device="cpu", max_rate="20.0", **ros_models) as process:
        process.wait_for("listens to ")
        with ros.camera():
            yield process


def test_the_python_subscriber_prints_what_is_seen(ros: Ros, node: Process) -> None:
    with ros.process(sys.executable, str(EXAMPLES / "subscriber.py")) as example:
        example.wait_for("of the image")
        assert example.stop() == 0
    assert "#1 " in example.text
    assert "Traceback" not in example.text


@pytest.mark.slow
def test_the_cpp_subscriber_is_built_and_prints_what_is_seen(
    ros: Ros, node: Process, tmp_path: Path
) -> None:
    if not (Path(ros.run("ros2", "pkg", "prefix", "rclcpp").stdout.strip()) / "include").is_dir():
        pytest.skip("rclcpp is not installed")
    for command in (
        [
            "cmake",
            "-S",
            str(EXAMPLES / "cpp"),
            "-B",
            str(tmp_path),
            "-DCMAKE_CXX_FLAGS=-Wall -Werror",
        ],
        ["cmake", "--build", str(tmp_path)],
    ):
        done = ros.run(*command, timeout=1200)
        assert done.returncode == 0, done.stdout
    with ros.process(str(tmp_path / "subscriber")) as example:
        example.wait_for("pixels")
    assert "no position" in example.text


MOVEIT = ros_support.find_overlay("moveit_msgs")


@pytest.mark.skipif(not MOVEIT, reason="moveit_msgs is not built in any /opt/NAME")
def test_moveit_gets_a_box_for_every_track_and_loses_it_again(
    ros_workspace: Path, tmp_path: Path
) -> None:
    rmw = ros_support.RMWS[0]
    with Ros(ros_workspace, rmw, tmp_path, MOVEIT) as ros:
        network = Network.from_environment(environment=ros.env)
        with DdsNode("zgs", network=network, distro="jazzy") as node:
            publisher = node.create_publisher("~/detections_3d", "vision_msgs/msg/Detection3DArray")

            def show(*tracks: int) -> None:
                header = messages.header(node.types, time.time_ns(), "base_link")
                publisher.publish(detection3d_array(node.types, header, seen(*tracks)))

            echo = ("ros2", "topic", "echo", "--no-daemon", "/collision_object", "--once")
            with ros.process(sys.executable, str(EXAMPLES / "moveit_boxes.py")) as example:
                ros.until(lambda: bool(publisher.subscription_count()), "the example listens")
                for tracks, wanted in (
                    ((7,), ["frame_id: base_link", "id: zgs_7", "- 0.5\n", r'operation: "\0"']),
                    ((), ["id: zgs_7", r'operation: "\x01"']),
                ):
                    with ros.process(*echo) as listener:
                        while not listener.has_ended():
                            show(*tracks)
                            time.sleep(0.2)
                    shown = listener.text
                    assert all(text in shown for text in wanted), shown
                assert "Traceback" not in example.text


def seen(*tracks: int) -> Segmentation:
    """A mug 0.5 m wide for every track, and a table."""
    place = Placement((1.0, 0.2, 0.3), (0.5, 0.25, 0.125))
    things = [*((number, "mug") for number in tracks), (99, "table")]
    segments = (
        Segment(i, (Label(name, 0.5),), Roi(0, 0, 1, 1), 1, (0, 0), np.ones(1), number, place)
        for i, (number, name) in enumerate(things, start=1)
    )
    return Segmentation(np.zeros((2, 2), np.uint16), tuple(segments))
