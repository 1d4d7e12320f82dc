"""Bags and simulated time with real ROS 2: the node under `ros2 bag play --clock`, and `zgs label`
with bags that `ros2 bag record` writes and `ros2 bag info` and `play` read."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bag_support as bags
import pytest
from bag_support import CAMERA, BrightAndDark
from ros_process import Process
from ros_support import Ros

from zgs_ros.cli import label_bag as command
from zgs_ros.cli.label_bag import BagRequest
from zgs_ros.config import NodeSettings, make_settings

pytestmark = [pytest.mark.ros, pytest.mark.timeout(1800)]

CLIENT = Path(__file__).with_name("ros_bag_client.py")
SECONDS = 40


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images at 10 Hz, from 2023."""
    return bags.record(tmp_path_factory.mktemp("bag") / "robot", bags.images(10 * SECONDS))


@pytest.fixture(scope="module")
def node(ros: Ros, ros_models: dict[str, str]) -> Iterator[Process]:
    """The node on simulated time."""
    given = {"device": "cpu", "use_sim_time": "true", **ros_models}
    with ros.launched(**given) as process:
        process.wait_for("listens to")
        yield process


def play(ros: Ros, *arguments: object, **options: Any) -> dict[str, Any]:
    """What the node makes of a bag that is played to it."""
    given = json.dumps({"play": ["--delay", "3", *map(str, arguments)], **options})
    done = ros.run(sys.executable, str(CLIENT), given)
    lines = [line for line in done.stdout.splitlines() if line.startswith("found: ")]
    assert lines, done.stdout
    found: dict[str, Any] = json.loads(lines[-1].removeprefix("found: "))
    return found


@pytest.mark.one_middleware
@pytest.mark.parametrize(
    ("rate", "max_rate", "seconds"), [(0.5, 0.5, 6), (1, 0.5, 6), (5, 0.1, SECONDS)]
)
def test_throttling_follows_the_clock_of_the_bag(
    ros: Ros, node: Process, recording: Path, rate: float, max_rate: float, seconds: int
) -> None:
    """On the wall clock it would be more at half speed, and less at five times the speed."""
    assert ros.ask("set_parameter", name="max_rate", value=str(max_rate)) == ""
    found = play(ros, recording, "--clock", "-r", rate, "--playback-duration", seconds)
    assert set(found["stamps"]) <= {bags.stamp(index) for index in range(10 * seconds + 1)}
    assert found["stamps"] == sorted(found["stamps"])
    assert found["frame_ids"] == ["camera_optical_frame"]
    on_the_wall_clock = seconds / rate * max_rate + 1
    assert len(found["stamps"]) <= seconds * max_rate + 2
    assert len(found["stamps"]) > (on_the_wall_clock if rate > 1 else 1)


@pytest.mark.one_middleware
def test_a_bag_that_is_played_again_and_again_stalls_nothing(
    ros: Ros, node: Process, tmp_path: Path
) -> None:
    assert ros.ask("set_parameter", name="max_rate", value="2.0") == ""
    short = bags.record(tmp_path / "short", bags.images(40))
    found = play(ros, short, "--clock", "--loop", jumps=3)
    assert found["clock_jumps"] >= 1
    stamps, tracks = found["stamps"], found["tracks"]
    assert len(stamps) >= 4
    assert set(stamps) <= {bags.stamp(index) for index in range(40)}
    for before, after, *ids in zip(stamps, stamps[1:], tracks, tracks[1:], strict=False):
        if after < before:  # nothing of the last round is held for something of this one
            assert set(ids[0]).isdisjoint(ids[1])
        else:
            assert set(ids[0]) & set(ids[1]), "the same box and ground"
    assert len(found["diagnoses"]) >= 3
    last = found["diagnoses"][-1]
    assert "no image" not in last["message"]
    assert int(last["processed"]) >= len(stamps)
    assert "Traceback" not in node.text


def label(bag: Path, out: Path, **options: Any) -> int:
    """`zgs label` with a small segmenter."""
    settings = make_settings(NodeSettings, {"profile": "mini"})
    return command.run(BagRequest(bag, out, **options), settings)


@pytest.fixture(autouse=True)
def small_segmenter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "load_segmenter", lambda _: BrightAndDark())


def recorded(ros: Ros, folder: Path, storage: str, is_killed: bool = False) -> Path:
    """A bag of a camera as `ros2 bag record` makes it."""
    arguments = ("-s", storage, "-o", str(folder), "--topics", CAMERA)
    with ros.camera(rate=20.0), ros.process("ros2", "bag", "record", *arguments) as recorder:
        recorder.wait_for(f"Subscribed to topic '{CAMERA}'")
        time.sleep(4.0)
        if is_killed:
            recorder.kill()
    return folder


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_recorded_bag_is_labelled_and_its_results_are_played(
    ros: Ros, tmp_path: Path, storage: str
) -> None:
    bag = recorded(ros, tmp_path / "robot", storage)
    suffix = "mcap" if storage == "mcap" else "db3"
    assert label(bag, tmp_path / f"labelled.{suffix}", copy=True) == 0
    before, after = bags.read(bag), bags.read(tmp_path / f"labelled.{suffix}")
    assert [time for time, _ in after["/zgs/segments"]] == [time for time, _ in before[CAMERA]]
    count = len(before[CAMERA])
    assert count > 5
    info = ros.ros2("bag", "info", str(tmp_path / f"labelled.{suffix}"))
    for topic, kind in (
        (CAMERA, "sensor_msgs/msg/Image"),
        ("/zgs/segments", "zgs_ros/msg/SegmentArray"),
        ("/zgs/overlay/compressed", "sensor_msgs/msg/CompressedImage"),
    ):
        assert f"Topic: {topic} | Type: {kind} | Count: {count} | Serialization Format: cdr" in info
    arguments = ["ros2", "bag", "play", str(tmp_path / f"labelled.{suffix}"), "--loop"]
    with ros.process(*arguments, "--disable-keyboard-controls"):
        topics = ["segments", "overlay/compressed"]
        seen = ros.ask("listen", topics=topics, results=3)
    assert seen["segments"][0]["ids"] == seen["segments"][0]["ids_in_image"] == [1, 2]
    assert seen["segments"][0]["frame_id"] == "camera_optical_frame"
    assert seen["overlay/compressed"][0]["size"] == [96, 128]


@pytest.mark.one_middleware
@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_what_a_killed_recorder_left_is_labelled(
    ros: Ros, tmp_path: Path, storage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    bag = recorded(ros, tmp_path / "robot", storage, is_killed=True)
    assert not (bag / "metadata.yaml").exists()
    code = label(bag, tmp_path / "labelled.mcap")
    told = capfd.readouterr().err
    if "no images" in told or "nothing can be read" in told:
        pytest.skip("the recorder had written nothing yet")
    assert code == (1 if "Lost:" in told else 0)
    assert f"Count: {len(bags.read(tmp_path / 'labelled.mcap')['/zgs/segments'])} |" in ros.ros2(
        "bag", "info", str(tmp_path / "labelled.mcap")
    )
