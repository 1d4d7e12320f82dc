"""The rclpy node in real processes, over both middlewares that Jazzy ships."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ros_support import RMWS, Process, Ros

from zgs_ros.config import NodeSettings, list_settings

pytestmark = [pytest.mark.ros, pytest.mark.timeout(900)]

READY = "listens to /camera/image_raw"
RELOAD = "read when the models are loaded: deactivate, clean up, set it, configure again"


@pytest.fixture(scope="module", params=RMWS)
def ros(
    request: pytest.FixtureRequest,
    ros_workspace: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Ros:
    found = Ros(ros_workspace, request.param, tmp_path_factory.mktemp(request.param))
    if not found.has_middleware:
        pytest.skip(f"{request.param} is not installed")
    return found


@pytest.fixture(scope="module")
def node(ros: Ros, ros_models: dict[str, str]) -> Iterator[Process]:
    """The node as the launch file starts it, active."""
    with ros.launched(device="cpu", max_rate="20.0", **ros_models) as process:
        process.wait_for(READY)
        yield process


@pytest.fixture(scope="module")
def camera(ros: Ros, node: Process) -> Iterator[Process]:
    with ros.camera() as process:
        process.wait_for("publishing")
        yield process


def test_segments_arrive_with_the_images_header(ros: Ros, node: Process) -> None:
    [*_, last] = ros.client("watch", topics=["segments"], results=3)["segments"]
    assert last["frame_id"] == "camera_optical_frame"
    assert 0 <= last["age"] < 30
    assert (last["size"], last["encoding"]) == ([96, 128], "mono16")
    assert last["ids"] == last["ids_in_image"] != []
    assert all(last["labels"])
    assert last["model"]
    assert last["norms"] == pytest.approx([1.0] * len(last["ids"]), abs=1e-3)


def test_pictures_arrive_where_somebody_subscribes(ros: Ros, node: Process) -> None:
    topics = ["label_image", "overlay", "overlay/compressed"]
    seen = ros.client("watch", topics=topics, results=1)
    assert [seen[topic][0]["size"] for topic in topics] == [[96, 128]] * 3
    assert seen["label_image"][0]["encoding"] == "mono16"
    assert seen["overlay"][0]["encoding"] == "rgb8"
    assert "jpeg" in seen["overlay/compressed"][0]["format"]


def test_best_effort_cameras_are_heard(ros: Ros, node: Process) -> None:
    assert len(ros.client("watch", best_effort=True, results=2)["segments"]) >= 2


def test_echo_shows_segments(ros: Ros, camera: Process) -> None:
    shown = ros.ros2("topic", "echo", "--no-daemon", "--once", "/zgs/segments", "--no-arr")
    assert "frame_id: camera_optical_frame" in shown
    assert "zgs_ros/msg/Segment" in shown


def test_hz_shows_the_rate(ros: Ros, camera: Process) -> None:
    with ros.process("ros2", "topic", "hz", "/zgs/segments") as hz:
        hz.wait_for("average rate")
    rate = re.search(r"average rate: ([\d.]+)", hz.text)
    assert rate
    assert 0.1 < float(rate[1]) < 30


def test_topics_have_their_types_and_qos(ros: Ros, node: Process) -> None:
    listed = ros.ros2("topic", "list", "-t", "--no-daemon", "--spin-time", "2")
    for entry in (
        "/zgs/segments [zgs_ros/msg/SegmentArray]",
        "/zgs/label_image [sensor_msgs/msg/Image]",
        "/zgs/overlay [sensor_msgs/msg/Image]",
        "/zgs/overlay/compressed [sensor_msgs/msg/CompressedImage]",
        "/camera/image_raw [sensor_msgs/msg/Image]",
        "/diagnostics [diagnostic_msgs/msg/DiagnosticArray]",
    ):
        assert entry in listed
    arguments = ("--no-daemon", "--spin-time", "2", "-v")
    assert "Reliability: RELIABLE" in ros.ros2("topic", "info", "/zgs/segments", *arguments)
    assert "Reliability: BEST_EFFORT" in ros.ros2("topic", "info", "/camera/image_raw", *arguments)


def test_lifecycle_state_is_active(ros: Ros, node: Process) -> None:
    shown = ros.ros2("lifecycle", "get", "--no-daemon", "--spin-time", "2", "/zgs")
    assert shown.strip().endswith("active [3]")


def test_parameters_are_the_settings(ros: Ros, node: Process) -> None:
    listed = ros.ros2("param", "list", "--no-daemon", "--spin-time", "2", "/zgs").split()
    expected = {setting.path for setting in list_settings(NodeSettings)}
    assert set(listed) - expected <= {"use_sim_time", "start_type_description_service"}
    assert expected <= set(listed)


def test_parameters_are_described(ros: Ros, node: Process) -> None:
    shown = ros.ros2("param", "describe", "--no-daemon", "--spin-time", "2", "/zgs", "clip.sigma")
    for text in (
        "Type: double",
        "Strength of global subtraction",
        "Max value: 1000.0",
        "Greater than 0.",
    ):
        assert text in shown


@pytest.mark.parametrize(
    ("name", "value", "answer"),
    [
        ("max_rate", "7.5", "successful"),
        ("max_rate", "20", "successful"),
        ("max_rate", "0.0", "0 < max_rate <= 1000"),
        ("max_rate", "-1.0", "Max: 1000.0, value: -1.0"),
        ("max_rate", "often", "must be a number"),
        ("jpeg_quality", "101", "Max: 100"),
        ("lazy", "true", "successful"),
        ("clip.sigma", "2.0", f"clip.sigma is {RELOAD}"),
        ("image_transport", "compressed", f"image_transport is {RELOAD}"),
        ("profile", "paper", "read when the node starts"),
        ("sigma", "2.0", "undeclared parameter"),
    ],
)
def test_parameters_are_set_or_refused_with_a_reason(
    ros: Ros, node: Process, name: str, value: str, answer: str
) -> None:
    shown = ros.ros2("param", "set", "--no-daemon", "--spin-time", "2", "/zgs", name, value)
    assert answer in shown


def test_max_rate_takes_effect_while_running(ros: Ros, node: Process) -> None:
    """At 0.1 Hz four results would take half a minute."""
    set_rate = ("param", "set", "--no-daemon", "--spin-time", "2", "/zgs", "max_rate")
    ros.ros2(*set_rate, "0.1")
    assert len(ros.client("watch", results=4, seconds=8.0)["segments"]) <= 2
    ros.ros2(*set_rate, "20.0")
    assert len(ros.client("watch", results=4, seconds=25.0)["segments"]) == 4


def test_a_flood_of_good_and_broken_frames_is_accounted_for(ros: Ros, node: Process) -> None:
    ros.client("watch", results=1)
    before = node.memory
    topics = ["segments", "/diagnostics"]
    seen = ros.client("watch", topics=topics, broken=5, rate=100.0, results=6, seconds=120.0)
    last = {name: value for name, value in seen["/diagnostics"][-1].items() if value}
    parts = ("processed", "dropped", "rejected", "pending")
    assert last["name"] == "zgs: stream"
    assert int(last["received"]) == sum(int(last[part]) for part in parts) >= 300
    assert int(last["processed"]) >= 6
    assert int(last["rejected"]) > 0
    assert (last["device"], last["profile"] != "", last["model"] != "") == ("cpu", True, True)
    assert "is rejected, bad image: " in node.text
    assert node.text.count("is rejected") < 40  # rate-limited
    assert node.memory - before < 200e6


def test_segment_image_answers_with_segments(ros: Ros, node: Process) -> None:
    answer = ros.client("segment_image")
    assert (answer["success"], answer["frame_id"]) == (True, "camera_optical_frame")
    assert answer["segments"] > 0


def test_segment_image_says_what_is_wrong_with_an_image(ros: Ros, node: Process) -> None:
    answer = ros.client("segment_image", changes={"encoding": "rgb565"})
    assert not answer["success"]
    assert "rgb565" in answer["message"]
    assert "bgr8" in answer["message"]


def test_query_ranks_the_latest_segments(ros: Ros, node: Process) -> None:
    ros.client("watch", results=1)
    answer = ros.client("query", text="something red")
    assert answer["success"], answer["message"]
    assert answer["frame_id"] == "camera_optical_frame"
    assert answer["scores"] == sorted(answer["scores"], reverse=True) != []
    assert len(ros.client("query", text="something red", max_results=1)["scores"]) == 1


def test_query_without_a_text_says_so(ros: Ros, node: Process) -> None:
    answer = ros.client("query", text=" ")
    assert not answer["success"]
    assert "text is empty" in answer["message"]


def test_killing_the_camera_and_starting_another_changes_nothing(ros: Ros, node: Process) -> None:
    with ros.camera() as first:
        first.wait_for("publishing")
        first.kill()
    assert len(ros.client("watch", results=2)["segments"]) >= 2


def test_lifecycle_goes_round_and_round(ros: Ros, node: Process) -> None:
    """Last of this module's shared node: it is taken down and up again."""

    def go(*labels: str) -> None:
        assert ros.client("transitions", labels=labels)["success"] == [True] * len(labels)

    go("deactivate")
    assert ros.client("watch", seconds=3.0)["segments"] == []
    assert ros.client("segment_image")["success"]
    go("activate")
    assert len(ros.client("watch")["segments"]) >= 3
    go("deactivate", "cleanup")
    refused = ros.client("segment_image")
    assert not refused["success"]
    assert "ros2 lifecycle set /zgs configure" in refused["message"]
    set_sigma = ("param", "set", "--no-daemon", "--spin-time", "2", "/zgs", "clip.sigma")
    assert "successful" in ros.ros2(*set_sigma, "2.0")
    go("configure", "activate", "deactivate", "cleanup", "configure", "activate")
    assert len(ros.client("watch")["segments"]) >= 3
    assert RELOAD in ros.ros2(*set_sigma, "3.0")
    go("shutdown")


def test_ctrl_c_ends_it_quietly(ros: Ros, ros_models: dict[str, str]) -> None:
    """While it works, and twice in a row, as `ros2 launch` hands on what the terminal sent already."""
    parameters = [f"-p {name}:={value}" for name, value in ros_models.items()]
    given = " ".join(["--ros-args", *parameters, "-r image:=/camera/image_raw"]).split()
    command = ["ros2", "run", "zgs_ros", "zgs_node", "--autostart", *given]
    with ros.process(*command) as process, ros.camera() as camera:
        camera.wait_for("publishing")
        process.wait_for(READY)
        ros.client("watch", rate=0.01, results=1)
        process.interrupt()
        time.sleep(0.1)
        assert process.stop() == 0, process.text
    assert "Traceback" not in process.text
    assert "publish error" not in process.text


def test_results_follow_simulated_time(ros: Ros, ros_models: dict[str, str]) -> None:
    """At 0.1 Hz of real time four results would take half a minute."""
    with ros.launched(device="cpu", max_rate="0.1", use_sim_time="true", **ros_models) as process:
        process.wait_for(READY)
        seen = ros.client("simulated", speed=20.0, results=4, seconds=25.0)
        assert len(seen["segments"]) == 4
