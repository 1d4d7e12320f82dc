"""The node without ROS among real ROS 2 nodes, over both middlewares that Jazzy ships."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from dds_support import cli, peer
from PIL import Image as Pillow
from ros_support import RMWS, Process, Ros

from zgs_ros.dds.types import TypeSupport

pytestmark = [pytest.mark.ros, pytest.mark.timeout(900)]

READY = "node /zgs on domain"
ECHO = ("topic", "echo", "--no-daemon", "--once")
LOOK = ("--no-daemon", "--spin-time", "5")


@pytest.fixture(scope="module", params=RMWS)
def ros(
    request: pytest.FixtureRequest, ros_workspace: Path, tmp_path_factory: pytest.TempPathFactory
) -> Ros:
    found = Ros(ros_workspace, request.param, tmp_path_factory.mktemp(request.param))
    if not found.has_middleware:
        pytest.skip(f"{request.param} is not installed")
    return found


@pytest.fixture(scope="module")
def node(ros: Ros) -> Iterator[Process]:
    """The node without ROS, on the domain of the ROS nodes."""
    with started(ros) as process:
        yield process


@pytest.fixture(scope="module")
def camera(ros: Ros, node: Process) -> Iterator[Process]:
    with ros.camera() as process:
        process.wait_for("publishing")
        yield process


@contextmanager
def started(ros: Ros, **settings: object) -> Iterator[Process]:
    command = peer(domain=ros.env["ROS_DOMAIN_ID"], range="LOCALHOST", max_rate=50, **settings)
    with ros.process(*command) as process:
        process.wait_for(READY)
        yield process


def looked_up(found: Callable[[], bool]) -> bool:
    """Whether something shows in the graph: ROS's tools look only once."""
    return any(found() for _ in range(3))


def test_the_node_is_listed(ros: Ros, node: Process) -> None:
    assert looked_up(lambda: "/zgs" in ros.ros2("node", "list", *LOOK).split())


def test_its_topics_are_listed_with_their_types(ros: Ros, node: Process) -> None:
    expected = {
        "/camera/image_raw [sensor_msgs/msg/Image]",
        "/diagnostics [diagnostic_msgs/msg/DiagnosticArray]",
        "/zgs/label_image [sensor_msgs/msg/Image]",
        "/zgs/overlay [sensor_msgs/msg/Image]",
        "/zgs/overlay/compressed [sensor_msgs/msg/CompressedImage]",
        "/zgs/segments [zgs_ros/msg/SegmentArray]",
    }
    listed = lambda: set(ros.ros2("topic", "list", "-t", *LOOK).splitlines())  # noqa: E731
    assert looked_up(lambda: expected <= listed())


def test_topic_info_tells_node_hash_and_quality_of_service(ros: Ros, node: Process) -> None:
    texts = {
        "Publisher count: 1",
        "Node name: zgs",
        "Topic type: zgs_ros/msg/SegmentArray",
        f"Topic type hash: {TypeSupport('jazzy').type_hash('zgs_ros/msg/SegmentArray')}",
        "Reliability: RELIABLE",
        "Durability: VOLATILE",
    }
    shown = lambda: ros.ros2("topic", "info", "-v", "/zgs/segments", *LOOK)  # noqa: E731
    assert looked_up(lambda: all(text in shown() for text in texts))


def test_the_camera_subscription_is_best_effort(ros: Ros, node: Process) -> None:
    shown = lambda: ros.ros2("topic", "info", "-v", "/camera/image_raw", *LOOK)  # noqa: E731
    assert looked_up(lambda: "Reliability: BEST_EFFORT" in shown())


def test_images_of_a_ros_camera_come_back_as_segments(ros: Ros, node: Process) -> None:
    [*_, last] = ros.client("watch", topics=["segments"], results=3)["segments"]
    assert last["frame_id"] == "camera_optical_frame"
    assert 0 <= last["age"] < 30
    assert (last["size"], last["encoding"]) == ([96, 128], "mono16")
    assert last["ids"] == last["ids_in_image"] == [1, 2]
    assert last["labels"] == ["left", "right"]
    assert last["norms"] == pytest.approx([1.0, 1.0])


def test_best_effort_cameras_are_heard(ros: Ros, node: Process) -> None:
    assert len(ros.client("watch", best_effort=True, results=2)["segments"]) >= 2


def test_pictures_and_diagnostics_arrive(ros: Ros, node: Process) -> None:
    topics = ["label_image", "overlay", "overlay/compressed"]
    seen = ros.client("watch", topics=[*topics, "/diagnostics"], results=2)
    assert [seen[topic][0]["size"] for topic in topics] == [[96, 128]] * 3
    assert seen["/diagnostics"][-1]["name"] == "zgs: stream"
    assert int(seen["/diagnostics"][-1]["received"]) > 0


def test_compressed_images_are_heard(ros: Ros) -> None:
    with started(ros, image_transport="compressed"):
        seen = ros.client("watch", compressed=True, results=2)["segments"]
    assert seen[-1]["labels"] == ["left", "right"]


def test_broken_images_are_survived(ros: Ros) -> None:
    with started(ros) as process:
        seen = ros.client("watch", rate=50.0, broken=2, results=10, seconds=60.0)["segments"]
        assert len(seen) >= 10
        process.wait_for("bad image")


def test_echo_shows_segments(ros: Ros, camera: Process) -> None:
    shown = ros.ros2(*ECHO, "/zgs/segments", "--no-arr")
    assert "frame_id: camera_optical_frame" in shown
    assert "zgs_ros/msg/Segment" in shown


def test_hz_shows_the_rate(ros: Ros, camera: Process) -> None:
    with ros.process("ros2", "topic", "hz", "/zgs/segments") as hz:
        hz.wait_for("average rate")


def test_the_camera_without_ros_is_seen_by_ros(ros: Ros, tmp_path: Path) -> None:
    Pillow.fromarray(np.full((48, 64, 3), 90, np.uint8)).save(tmp_path / "0.png")
    command = cli("camera", tmp_path, "--topic", "/other/image_raw", "--frame-id", "optical")
    command = command[: command.index("--local")] + ["--domain", ros.env["ROS_DOMAIN_ID"]]
    with ros.process(*command) as process:
        process.wait_for("/other/image_raw at 10 Hz")
        shown = ros.ros2(*ECHO, "/other/image_raw", "--no-arr")
        assert "frame_id: optical" in shown
        assert "encoding: rgb8" in shown
        assert "distortion_model: plumb_bob" in ros.ros2(*ECHO, "/other/camera_info")


def test_a_node_that_has_gone_leaves_the_graph(ros: Ros) -> None:
    with started(ros, image_transport="compressed"):
        pass
    time.sleep(1.0)
    shown = ros.ros2("topic", "list", *LOOK)
    assert "/camera/image_raw/compressed" not in shown
