"""The rclpy node in real processes, over both middlewares that Jazzy ships."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator

import pytest
from ros_process import Process
from ros_support import Ros

from zgs_ros.config import NodeSettings, list_settings

pytestmark = [pytest.mark.ros, pytest.mark.timeout(1800)]

READY = "listens to /camera/image_raw"
CONFIGURE = 1
"""Its id in lifecycle_msgs/msg/Transition, by which C++ nodes ask for it."""

SIGMA = ("clip.sigma", "2.0")
RELOAD = "read when the models are loaded: deactivate, clean up, set it, configure again"


@pytest.fixture(scope="module")
def node(ros: Ros, ros_models: dict[str, str]) -> Iterator[Process]:
    """The node as the launch file starts it, active."""
    with ros.launched(device="cpu", max_rate="20.0", **ros_models) as process:
        process.wait_for(READY)
        yield process


@pytest.fixture(scope="module")
def camera(ros: Ros, node: Process) -> Iterator[Process]:
    with ros.camera() as process:
        yield process


def test_segments_arrive_with_the_images_header(ros: Ros, node: Process) -> None:
    [*_, last] = ros.ask("watch", topics=["segments"], results=3)["segments"]
    assert last["frame_id"] == "camera_optical_frame"
    assert 0 <= last["age"] < 30
    assert (last["size"], last["encoding"]) == ([96, 128], "mono16")
    assert last["ids"] == last["ids_in_image"] != []
    assert all(last["labels"])
    assert last["model"]
    assert last["norms"] == pytest.approx([1.0] * len(last["ids"]), abs=1e-3)


def test_pictures_arrive_where_somebody_subscribes(ros: Ros, node: Process) -> None:
    topics = ["label_image", "overlay", "overlay/compressed"]
    seen = ros.ask("watch", topics=topics, results=1)
    assert [seen[topic][0]["size"] for topic in topics] == [[96, 128]] * 3
    assert seen["label_image"][0]["encoding"] == "mono16"
    assert seen["overlay"][0]["encoding"] == "rgb8"
    assert "jpeg" in seen["overlay/compressed"][0]["format"]


def test_best_effort_cameras_are_heard(ros: Ros, node: Process) -> None:
    assert len(ros.ask("watch", best_effort=True, results=2)["segments"]) >= 2


def test_echo_shows_segments(ros: Ros, camera: Process) -> None:
    texts = {"frame_id: camera_optical_frame", "zgs_ros/msg/Segment"}
    assert ros.shows(texts, "topic", "echo", "--once", "/zgs/segments", "--no-arr")


def test_hz_shows_the_rate(ros: Ros, camera: Process) -> None:
    with ros.process("ros2", "topic", "hz", "/zgs/segments") as hz:
        hz.wait_for("average rate")
    rate = re.search(r"average rate: ([\d.]+)", hz.text)
    assert rate
    assert float(rate[1]) < 30


def test_topics_have_their_types(ros: Ros, node: Process) -> None:
    entries = {
        "/zgs/segments [zgs_ros/msg/SegmentArray]",
        "/zgs/label_image [sensor_msgs/msg/Image]",
        "/zgs/overlay [sensor_msgs/msg/Image]",
        "/zgs/overlay/compressed [sensor_msgs/msg/CompressedImage]",
        "/camera/image_raw [sensor_msgs/msg/Image]",
        "/diagnostics [diagnostic_msgs/msg/DiagnosticArray]",
    }
    assert ros.shows(entries, "topic", "list", "-t")


def test_results_are_reliable(ros: Ros, node: Process) -> None:
    assert ros.shows({"Reliability: RELIABLE"}, "topic", "info", "/zgs/segments", "-v")


@pytest.mark.parametrize("best_effort", [True, False], ids=["best effort", "reliable"])
def test_the_camera_subscription_is_as_reliable_as_the_camera(
    ros: Ros, node: Process, best_effort: bool
) -> None:
    wanted = f"Reliability: {'BEST_EFFORT' if best_effort else 'RELIABLE'}"
    with ros.camera(best_effort=best_effort):
        ros.until(lambda: wanted in ros.endpoint("/camera/image_raw", "zgs"), wanted)


def test_node_is_listed_and_active(ros: Ros, node: Process) -> None:
    assert ros.shows({"/zgs\n"}, "node", "list")
    assert ros.shows({"active [3]"}, "lifecycle", "get", "/zgs")


def test_parameters_are_the_settings(ros: Ros, node: Process) -> None:
    expected = {setting.path for setting in list_settings(NodeSettings)}
    listed = ros.shows(expected, "param", "list", "/zgs").split()
    assert set(listed) - expected <= {"use_sim_time", "start_type_description_service"}


@pytest.mark.one_middleware
def test_parameters_are_described(ros: Ros, node: Process) -> None:
    texts = {
        "Type: double",
        "Strength of global subtraction",
        "Max value: 1000.0",
        "Greater than 0.",
    }
    assert ros.shows(texts, "param", "describe", "/zgs", "clip.sigma")


@pytest.mark.one_middleware
def test_parameters_are_set_in_a_terminal(ros: Ros, node: Process) -> None:
    change = ("param", "set", "/zgs")
    assert ros.shows({"Set parameter successful"}, *change, "max_rate", "15.0")
    assert ros.shows({f"Setting parameter failed: clip.sigma is {RELOAD}"}, *change, *SIGMA)


@pytest.mark.one_middleware
@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("max_rate", "7.5", ""),
        ("max_rate", "20", ""),
        ("max_rate", "0.0", "0 < max_rate <= 1000"),
        ("max_rate", "-1.0", "Max: 1000.0, value: -1.0"),
        ("max_rate", "often", "must be a number"),
        ("jpeg_quality", "101", "Max: 100"),
        ("lazy", "true", ""),
        ("clip.sigma", "2.0", f"clip.sigma is {RELOAD}"),
        ("image_transport", "compressed", f"image_transport is {RELOAD}"),
        ("profile", "paper", "read when the node starts"),
        ("sigma", "2.0", "undeclared parameter"),
    ],
)
def test_parameters_are_set_or_refused_with_a_reason(
    ros: Ros, node: Process, name: str, value: str, reason: str
) -> None:
    answer = ros.ask("set_parameter", name=name, value=value)
    assert reason in answer
    assert bool(reason) == bool(answer)


@pytest.mark.one_middleware
def test_a_whole_number_leaves_a_parameter_a_double(ros: Ros, node: Process) -> None:
    assert ros.ask("set_parameter", name="max_rate", value="20") == ""
    value = ros.ask("get_parameters", names=["max_rate"])["max_rate"]
    assert (value, type(value)) == (20.0, float)
    assert "Double value is: 20.0" in ros.ros2("param", "get", "/zgs", "max_rate")


def test_max_rate_takes_effect_while_running(ros: Ros, node: Process) -> None:
    """At 0.01 Hz four results would take five minutes."""
    assert ros.ask("set_parameter", name="max_rate", value="0.01") == ""
    assert len(ros.ask("watch", results=4, seconds=5.0)["segments"]) <= 2
    assert ros.ask("set_parameter", name="max_rate", value="20.0") == ""
    assert len(ros.ask("watch", results=4)["segments"]) >= 4


def test_max_rate_counts_on_the_ros_clock(ros: Ros, node: Process) -> None:
    """At 0.01 Hz of real time four results would take five minutes."""
    for name, value in (("max_rate", "0.01"), ("use_sim_time", "true")):
        assert ros.ask("set_parameter", name=name, value=value) == ""
    assert len(ros.ask("simulated", speed=200.0, results=4)["segments"]) >= 4
    for name, value in (("use_sim_time", "false"), ("max_rate", "20.0")):
        assert ros.ask("set_parameter", name=name, value=value) == ""


def test_a_flood_of_good_and_broken_frames_is_accounted_for(ros: Ros, node: Process) -> None:
    assert ros.ask("watch", results=1)["segments"]
    before = node.memory
    last = ros.ask("flood", frames=500)
    count = {part: int(last[part]) for part in ("received", "processed", "dropped", "rejected")}
    assert count["received"] == count["processed"] + count["dropped"] + count["rejected"] >= 500
    assert last["name"] == "zgs: stream"
    assert count["processed"] > 0
    assert count["rejected"] > 0
    assert (last["device"], last["profile"] != "", last["model"] != "") == ("cpu", True, True)
    assert "is rejected, bad image: " in node.text
    assert node.text.count("is rejected") < 40  # rate-limited
    assert node.memory - before < 200e6
    assert len(ros.ask("watch")["segments"]) >= 3


def test_segment_image_answers_with_segments(ros: Ros, node: Process) -> None:
    answer = ros.ask("segment_image")
    assert (answer["success"], answer["frame_id"]) == (True, "camera_optical_frame")
    assert answer["segments"] > 0


@pytest.mark.one_middleware
def test_segment_image_says_what_is_wrong_with_an_image(ros: Ros, node: Process) -> None:
    answer = ros.ask("segment_image", changes={"encoding": "rgb565"})
    assert not answer["success"]
    assert "rgb565" in answer["message"]
    assert "bgr8" in answer["message"]


def test_query_ranks_the_latest_segments(ros: Ros, node: Process) -> None:
    ros.ask("watch", results=1)
    answer = ros.ask("query", text="something red")
    assert answer["success"], answer["message"]
    assert answer["frame_id"] == "camera_optical_frame"
    assert answer["scores"] == sorted(answer["scores"], reverse=True) != []
    assert len(ros.ask("query", text="something red", max_results=1)["scores"]) == 1


@pytest.mark.one_middleware
def test_query_without_a_text_says_so(ros: Ros, node: Process) -> None:
    answer = ros.ask("query", text=" ")
    assert not answer["success"]
    assert "text is empty" in answer["message"]


def test_killing_the_camera_and_starting_another_changes_nothing(ros: Ros, node: Process) -> None:
    with ros.camera() as first:
        first.kill()
    assert len(ros.ask("watch", results=2)["segments"]) >= 2


@pytest.mark.parametrize("transition", ["configure", CONFIGURE])
def test_an_impossible_transition_is_refused(
    ros: Ros, node: Process, transition: str | int
) -> None:
    assert ros.ask("transitions", names=[transition])["success"] == [False]
    assert ros.shows({"active [3]"}, "lifecycle", "get", "/zgs")


def test_lifecycle_goes_round_and_round(ros: Ros, node: Process) -> None:
    """Last of this module's shared node: it is taken down and up again."""

    def go(*names: str) -> None:
        assert ros.ask("transitions", names=names)["success"] == [True] * len(names)

    go("deactivate")
    assert ros.ask("watch", seconds=3.0)["segments"] == []
    assert ros.ask("segment_image")["success"]
    go("activate")
    assert len(ros.ask("watch")["segments"]) >= 3
    go("deactivate", "cleanup")
    refused = ros.ask("segment_image")
    assert not refused["success"]
    assert "ros2 lifecycle set /zgs configure" in refused["message"]
    assert ros.ask("set_parameter", name="clip.sigma", value="2.0") == ""
    go("configure", "activate", "deactivate", "cleanup", "configure", "activate")
    assert len(ros.ask("watch")["segments"]) >= 3
    assert RELOAD in ros.ask("set_parameter", name="clip.sigma", value="3.0")
    go("shutdown")


@pytest.mark.parametrize("moment", ["loading the models", READY])
def test_ctrl_c_ends_it_quietly(ros: Ros, ros_models: dict[str, str], moment: str) -> None:
    """Twice in a row, as `ros2 launch` hands on what the terminal sent already."""
    parameters = [f"-p {name}:={value}" for name, value in ros_models.items()]
    given = " ".join(["--ros-args", *parameters, "-r image:=/camera/image_raw"]).split()
    command = ["ros2", "run", "zgs_ros", "zgs_node", "--autostart", *given]
    with ros.process(*command) as process, ros.camera():
        process.wait_for(moment)
        if moment == READY:
            ros.ask("watch", rate=0.01, results=1)
        process.interrupt()
        time.sleep(0.1)
        # The second may find `ros2 run` itself at its very end, where nothing handles it any more;
        # of a node that died of it `ros2 run` would return 254.
        assert process.stop() in (0, -signal.SIGINT), process.text
    assert "Traceback" not in process.text
    assert "publish error" not in process.text
