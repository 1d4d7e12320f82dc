"""The node without ROS among real ROS 2 nodes, over both middlewares that Jazzy ships."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from dds_support import cli, peer
from PIL import Image as Pillow
from ros_process import Process
from ros_support import Ros

from zgs_ros.dds.types import TypeSupport

pytestmark = [pytest.mark.ros, pytest.mark.timeout(1800)]

READY = "node /zgs on domain"
ECHO = ("topic", "echo", "--no-daemon", "--once")


@pytest.fixture(scope="module")
def node(ros: Ros) -> Iterator[Process]:
    """The node without ROS, on the domain of the ROS nodes."""
    with started(ros) as process:
        yield process


@pytest.fixture(scope="module")
def camera(ros: Ros, node: Process) -> Iterator[Process]:
    with ros.camera() as process:
        yield process


@contextmanager
def started(ros: Ros, **settings: object) -> Iterator[Process]:
    command = peer(domain=ros.env["ROS_DOMAIN_ID"], range="LOCALHOST", max_rate=50, **settings)
    with ros.process(*command) as process:
        process.wait_for(READY)
        yield process


def test_the_node_is_listed(ros: Ros, node: Process) -> None:
    assert ros.shows({"/zgs\n"}, "node", "list")


def test_its_topics_are_listed_with_their_types(ros: Ros, node: Process) -> None:
    entries = {
        "/camera/image_raw [sensor_msgs/msg/Image]",
        "/diagnostics [diagnostic_msgs/msg/DiagnosticArray]",
        "/zgs/label_image [sensor_msgs/msg/Image]",
        "/zgs/overlay [sensor_msgs/msg/Image]",
        "/zgs/overlay/compressed [sensor_msgs/msg/CompressedImage]",
        "/zgs/segments [zgs_ros/msg/SegmentArray]",
    }
    assert ros.shows(entries, "topic", "list", "-t")


def test_topic_info_tells_node_hash_and_quality_of_service(ros: Ros, node: Process) -> None:
    texts = {
        "Publisher count: 1",
        "Node name: zgs",
        "Topic type: zgs_ros/msg/SegmentArray",
        f"Topic type hash: {TypeSupport('jazzy').type_hash('zgs_ros/msg/SegmentArray')}",
        "Reliability: RELIABLE",
        "Durability: VOLATILE",
    }
    assert ros.shows(texts, "topic", "info", "-v", "/zgs/segments")


@pytest.mark.parametrize("best_effort", [True, False], ids=["best effort", "reliable"])
def test_the_camera_subscription_is_as_reliable_as_the_camera(
    ros: Ros, node: Process, best_effort: bool
) -> None:
    wanted = f"Reliability: {'BEST_EFFORT' if best_effort else 'RELIABLE'}"
    with ros.camera(best_effort=best_effort):
        ros.until(lambda: wanted in ros.endpoint("/camera/image_raw", "zgs"), wanted)


def test_images_of_a_ros_camera_come_back_as_segments(ros: Ros, node: Process) -> None:
    [*_, last] = ros.ask("watch", topics=["segments"], results=3)["segments"]
    assert last["frame_id"] == "camera_optical_frame"
    assert 0 <= last["age"] < 30
    assert (last["size"], last["encoding"]) == ([96, 128], "mono16")
    assert last["ids"] == last["ids_in_image"] == [1, 2]
    assert last["labels"] == ["left", "right"]
    assert last["norms"] == pytest.approx([1.0, 1.0])


def test_best_effort_cameras_are_heard(ros: Ros, node: Process) -> None:
    assert len(ros.ask("watch", best_effort=True, results=2)["segments"]) >= 2


def test_pictures_and_diagnostics_arrive(ros: Ros, node: Process) -> None:
    topics = ["label_image", "overlay", "overlay/compressed"]
    seen = ros.ask("watch", topics=[*topics, "/diagnostics"], results=2)
    assert [seen[topic][0]["size"] for topic in topics] == [[96, 128]] * 3
    assert seen["/diagnostics"][-1]["name"] == "zgs: stream"
    assert int(seen["/diagnostics"][-1]["received"]) > 0


def test_compressed_images_are_heard(ros: Ros) -> None:
    with started(ros, image_transport="compressed"):
        seen = ros.ask("watch", compressed=True, results=2)["segments"]
    assert seen[-1]["labels"] == ["left", "right"]


def test_broken_images_are_survived(ros: Ros, node: Process) -> None:
    last = ros.ask("flood", frames=500)
    assert int(last["processed"]) > 0
    assert int(last["rejected"]) > 0
    node.wait_for("bad image")


def test_echo_shows_segments(ros: Ros, camera: Process) -> None:
    texts = {"frame_id: camera_optical_frame", "zgs_ros/msg/Segment"}
    assert ros.shows(texts, "topic", "echo", "--once", "/zgs/segments", "--no-arr")


def test_hz_shows_the_rate(ros: Ros, camera: Process) -> None:
    with ros.process("ros2", "topic", "hz", "/zgs/segments") as hz:
        hz.wait_for("average rate")


def test_the_camera_without_ros_is_seen_by_ros(ros: Ros, tmp_path: Path) -> None:
    Pillow.fromarray(np.full((48, 64, 3), 90, np.uint8)).save(tmp_path / "0.png")
    command = cli("camera", tmp_path, "--topic", "/other/image_raw", "--frame-id", "optical")
    command = command[: command.index("--local")] + ["--domain", ros.env["ROS_DOMAIN_ID"]]
    echo = ("topic", "echo", "--once")
    with ros.process(*command) as process:
        process.wait_for("/other/image_raw at 10 Hz")
        texts = {"frame_id: optical", "encoding: rgb8"}
        assert ros.shows(texts, *echo, "/other/image_raw", "--no-arr")
        assert ros.shows({"distortion_model: plumb_bob"}, *echo, "/other/camera_info")


def test_a_node_that_has_gone_leaves_the_graph(ros: Ros) -> None:
    topic = "/camera/image_raw/compressed"
    with started(ros, image_transport="compressed"):
        assert ros.shows({topic}, "topic", "list")
    assert ros.shows({"/rosout"}, "topic", "list", without=topic)
