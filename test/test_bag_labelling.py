"""`zgs label` of bags: what is written, which topics, stopping and going on, and what is refused."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import bag_support as bags
import cv2
import numpy as np
import pytest
from bag_support import CAMERA, TYPES, BrightAndDark
from depth_support import compressed_depth
from rosbags.rosbag2 import Reader
from typer.testing import CliRunner

from zgs_ros.bags.bag import BagError
from zgs_ros.cli import app
from zgs_ros.cli import label_bag as command
from zgs_ros.cli.label_bag import BagRequest
from zgs_ros.config import NodeSettings, list_settings, make_settings
from zgs_ros.message_types import MessageTypes
from zgs_ros.streaming import messages
from zgs_ros.streaming.messages import parse_segment_array, stamp_ns

SEGMENTS, OVERLAY = "/zgs/segments", "/zgs/overlay/compressed"

Label = Callable[..., int]


@pytest.fixture
def label(monkeypatch: pytest.MonkeyPatch) -> Label:
    """`zgs label BAG --out OUT` with a small segmenter; returns the exit code."""

    def run(
        bag: Path,
        out: Path,
        segmenter: BrightAndDark | None = None,
        settings: dict[str, Any] | None = None,
        **options: Any,
    ) -> int:
        monkeypatch.setattr(command, "load_segmenter", lambda _: segmenter or BrightAndDark())
        values = {"profile": "mini", **(settings or {})}
        return command.run(BagRequest(bag, out, **options), make_settings(NodeSettings, values))

    return run


# What is written


@pytest.mark.parametrize(
    ("storage", "is_folder", "out"),
    [
        ("mcap", True, "labelled.mcap"),
        ("mcap", False, "labelled.db3"),
        ("sqlite3", True, "labelled"),
        ("sqlite3", False, "labelled.mcap"),
    ],
)
def test_a_bag_becomes_one_with_segments_and_overlay(
    tmp_path: Path, label: Label, storage: str, is_folder: bool, out: str
) -> None:
    bag = bags.record(tmp_path / "robot", [*bags.images(5), bags.text(0)], storage)
    bag = bag if is_folder else bags.bag_file(bag)
    assert label(bag, tmp_path / out) == 0
    found = bags.read(tmp_path / out)
    assert set(found) == {SEGMENTS, OVERLAY}
    recorded = [message.time for message in bags.images(5)]
    for topic in (SEGMENTS, OVERLAY):
        assert [time for time, _ in found[topic]] == recorded
        assert [stamp_ns(m.header) for _, m in found[topic]] == [bags.stamp(i) for i in range(5)]
        assert {message.header.frame_id for _, message in found[topic]} == {"camera_optical_frame"}
    for index, (_, message) in enumerate(found[SEGMENTS]):
        seen = parse_segment_array(message)
        assert [segment.label for segment in seen.segments] == ["ground", "box"]
        assert np.array_equal(seen.label_map == 2, bags.scene(index).mean(axis=2) > 127)
        assert message.model == "bright-and-dark"
    picture = cv2.imdecode(np.asarray(found[OVERLAY][0][1].data), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape == (48, 64, 3)
    assert [path.name for path in tmp_path.iterdir() if "unfinished" in path.name] == []


def test_types_are_described_in_the_bag(tmp_path: Path, label: Label) -> None:
    """So that programs that never heard of them, such as Foxglove, can read it."""
    label(bags.record(tmp_path / "robot", bags.images(1)), tmp_path / "out.mcap")
    with Reader(tmp_path / "out.mcap") as reader:
        described = {c.topic: c for c in reader.connections}
    segments = described[SEGMENTS]
    assert segments.msgtype == "zgs_ros/msg/SegmentArray"
    assert segments.msgdef.format.name == "MSG"
    for line in ("zgs_ros/Segment[] segments", "MSG: zgs_ros/Segment", "MSG: zgs_ros/Label"):
        assert line in segments.msgdef.data
    assert (tmp_path / "out.mcap").read_bytes().count(b"ros2msg") >= 2
    assert segments.ext.serialization_format == "cdr"


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "mono8", "jpeg"])
def test_images_are_read_as_the_node_reads_them(
    tmp_path: Path, label: Label, encoding: str
) -> None:
    bag = bags.record(tmp_path / "robot", bags.images(2, CAMERA, encoding))
    assert label(bag, tmp_path / "out.mcap") == 0
    [(_, first), _] = bags.read(tmp_path / "out.mcap")[SEGMENTS]
    assert [segment.label for segment in first.segments] == ["ground", "box"]


def test_outputs_can_be_chosen(tmp_path: Path, label: Label) -> None:
    bag = bags.record(tmp_path / "robot", bags.images(2))
    label(bag, tmp_path / "out.mcap", outputs=("label_image", "overlay", "detections"))
    found = bags.read(tmp_path / "out.mcap")
    assert set(found) == {"/zgs/label_image", "/zgs/overlay", "/zgs/detections"}
    assert [len(message.detections) for _, message in found["/zgs/detections"]] == [2, 2]
    assert found["/zgs/label_image"][0][1].encoding == "mono16"
    assert found["/zgs/overlay"][0][1].encoding == "rgb8"


def test_things_keep_their_track_ids_and_each_camera_has_its_own(
    tmp_path: Path, label: Label
) -> None:
    topics = ("/front/image_raw", "/rear/image_raw")
    bag = bags.record(tmp_path / "robot", [i for t in topics for i in bags.images(6, t)])
    assert label(bag, tmp_path / "out.mcap", topics=topics) == 0
    found = bags.read(tmp_path / "out.mcap")
    for camera in ("front", "rear"):
        ids = [
            [s.track_id for s in message.segments]
            for _, message in found[f"/zgs/{camera}/segments"]
        ]
        assert ids == [[1, 2]] * 6


@pytest.mark.parametrize(
    ("topics", "settings", "expected"),
    [
        (["/a/image_raw"], {}, {"/zgs/segments"}),
        (["/a/image_raw", "/b/image_raw"], {}, {"/zgs/a/segments", "/zgs/b/segments"}),
        (["/robot/a/image", "/robot/b/image"], {}, {"/zgs/a/segments", "/zgs/b/segments"}),
        (["/cam/left", "/cam/right"], {}, {"/zgs/left/segments", "/zgs/right/segments"}),
        (["/1/image", "/2/image"], {}, {"/zgs/camera_1/segments", "/zgs/camera_2/segments"}),
        (["/a/b", "/c/d"], {"cameras": ["x", "y"]}, {"/zgs/x/segments", "/zgs/y/segments"}),
    ],
)
def test_cameras_are_named_after_their_topics(
    tmp_path: Path, label: Label, topics: list[str], settings: dict[str, Any], expected: set[str]
) -> None:
    bag = bags.record(tmp_path / "robot", [i for t in topics for i in bags.images(1, t)])
    label(bag, tmp_path / "o.mcap", None, settings, topics=tuple(topics), outputs=("segments",))
    assert set(bags.read(tmp_path / "o.mcap")) == expected


@pytest.mark.parametrize(("rate", "expected"), [(0.0, 20), (5.0, 10), (3.0, 6)])
def test_rate_counts_on_the_time_of_recording(
    tmp_path: Path, label: Label, rate: float, expected: int
) -> None:
    segmenter = BrightAndDark()
    bag = bags.record(tmp_path / "robot", bags.images(20))  # two seconds
    assert label(bag, tmp_path / "out.mcap", segmenter, rate=rate) == 0
    assert len(bags.read(tmp_path / "out.mcap")[SEGMENTS]) == segmenter.seen == expected


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_the_recording_is_copied_along_when_asked_for(
    tmp_path: Path, label: Label, storage: str
) -> None:
    bag = bags.record(tmp_path / "robot", [*bags.images(3), *map(bags.text, range(3))], storage)
    assert label(bag, tmp_path / "out", copy=True) == 0
    both = bags.raw(tmp_path / "out")
    assert [message for message in both if not message[0].startswith("/zgs/")] == bags.raw(bag)
    assert len([message for message in both if message[0] == SEGMENTS]) == 3
    with Reader(tmp_path / "out") as after, Reader(bag) as before:
        kept = {c.topic: c.msgdef for c in after.connections}
        assert all(kept[c.topic] == c.msgdef for c in before.connections)


def test_what_nothing_describes_is_not_copied_and_all_the_rest_is(
    tmp_path: Path, label: Label, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = bags.record(tmp_path / "robot", [*bags.images(2), bags.text(0)], "sqlite3")
    with sqlite3.connect(bags.bag_file(bag)) as database:
        database.execute("UPDATE topics SET type = 'my/msg/Thing' WHERE name = '/chatter'")
    database.close()
    (bag / "metadata.yaml").unlink()
    assert label(bag, tmp_path / "out.mcap", copy=True) == 1
    assert set(bags.read(tmp_path / "out.mcap")) == {CAMERA, SEGMENTS, OVERLAY}
    assert "/chatter: is not copied, nothing describes my/msg/Thing" in capsys.readouterr().err


def test_earlier_results_are_replaced_not_copied(tmp_path: Path, label: Label) -> None:
    bag = bags.record(tmp_path / "robot", bags.images(3))
    label(bag, tmp_path / "once.mcap", copy=True)
    assert label(tmp_path / "once.mcap", tmp_path / "twice.mcap", copy=True, topics=(CAMERA,)) == 0
    topics = [
        [message[0] for message in bags.raw(tmp_path / f"{n}.mcap")] for n in ("once", "twice")
    ]
    assert topics[0] == topics[1]
    assert _without_times(tmp_path / "twice.mcap") == _without_times(tmp_path / "once.mcap")


def test_with_depth_segments_have_places_and_markers(tmp_path: Path, label: Label) -> None:
    recorded = bags.images(3)
    for index in range(3):
        header = messages.header(TYPES, bags.stamp(index) + 20_000_000, "camera_optical_frame")
        depth = messages.depth_image(TYPES, header, np.full((48, 64), 2.0, np.float32))
        late = bags.stamp(index) + 30_000_000  # behind its image
        recorded.append(bags.Message("/camera/depth/image_raw", late, depth))
        info = TYPES.create_partly(
            "sensor_msgs/msg/CameraInfo",
            header=header,
            height=48,
            width=64,
            distortion_model="plumb_bob",
            k=np.array([60.0, 0, 31.5, 0, 60, 23.5, 0, 0, 1]),
        )
        recorded.append(bags.Message("/camera/camera_info", bags.stamp(index), info))
    bag = bags.record(tmp_path / "robot", recorded)
    assert label(bag, tmp_path / "out.mcap", None, {"depth.enabled": True}) == 0
    found = bags.read(tmp_path / "out.mcap")
    assert len(found["/zgs/markers"]) == len(found[SEGMENTS]) == 3
    for _, message in found[SEGMENTS]:
        assert all(segment.position_valid for segment in message.segments)
        assert [segment.position.z for segment in message.segments] == pytest.approx([2.0, 2.0])


def with_depth(images: int, depths: Sequence[int], image_late: int = 0, late: int = 0) -> Any:
    """Images of a bag with the depths of some of them, recorded later by so many nanoseconds."""
    recorded = [message._replace(time=message.time + image_late) for message in bags.images(images)]
    for index in depths:
        header = messages.header(TYPES, bags.stamp(index), "camera_optical_frame")
        depth = messages.depth_image(TYPES, header, np.full((48, 64), 1.0 + index, np.float32))
        recorded.append(bags.Message("/camera/depth/image_raw", bags.stamp(index) + late, depth))
    info = TYPES.create_partly(
        "sensor_msgs/msg/CameraInfo",
        height=48,
        width=64,
        distortion_model="plumb_bob",
        k=np.array([60.0, 0, 31.5, 0, 60, 23.5, 0, 0, 1]),
    )
    recorded.append(bags.Message("/camera/camera_info", bags.stamp(2), info))
    return recorded


@pytest.mark.parametrize(
    ("image_late", "late"),
    [(0, 0), (0, 80_000_000), (120_000_000, 0), (0, 350_000_000)],
    ids=["together", "depth later", "images later", "depth three images later"],
)
def test_depth_is_found_however_much_later_it_was_recorded(
    image_late: int, late: int, tmp_path: Path, label: Label
) -> None:
    bag = bags.record(tmp_path / "robot", with_depth(5, range(5), image_late, late))
    assert label(bag, tmp_path / "out.mcap", None, {"depth.enabled": True}) == 0
    found = bags.read(tmp_path / "out.mcap")[SEGMENTS]
    metres = [{round(s.position.z, 3) for s in message.segments} for _, message in found]
    assert metres == [{1.0 + index} for index in range(5)]


def moved(parent: str, child: str, x: float, stamp: int, time: int, static: bool = False) -> Any:
    """A transform along x, and when it was recorded."""
    stamped = messages.transform_stamped(TYPES, stamp, parent, child, (x, 0.0, 0.0))
    message = TYPES.create("tf2_msgs/msg/TFMessage", transforms=[stamped])
    return bags.Message("/tf_static" if static else "/tf", time, message)


@pytest.mark.parametrize(
    ("late", "lost"),
    [(0, []), (bags.STEP // 2, []), (3 * bags.STEP, [0, 1, 2, 3, 4])],
    ids=["in time", "within transform_timeout", "later"],
)
def test_transforms_are_found_in_the_bag(
    tmp_path: Path, label: Label, late: int, lost: list[int]
) -> None:
    """Those that hold for good, too, which here come last."""
    recorded = with_depth(5, range(5))
    for index in range(-1, 10):
        stamp = bags.stamp(index) + bags.STEP // 2
        recorded.append(moved("map", "base_link", float(index), stamp, stamp + late))
    recorded.append(moved("base_link", "camera_optical_frame", 0.5, 0, bags.stamp(20), static=True))
    bag = bags.record(tmp_path / "robot", recorded)
    settings = {"depth.enabled": True, "target_frame": "map", "transform_timeout": 0.2}
    outputs = ("segments", "points")
    assert label(bag, tmp_path / "out.mcap", None, settings, outputs=outputs) == bool(lost)
    found = bags.read(tmp_path / "out.mcap")
    results = [message for _, message in found[SEGMENTS]]
    assert {message.position_frame for message in results} == {"map"}
    valid = [all(s.position_valid for s in message.segments) for message in results]
    assert valid == [index not in lost for index in range(5)]
    clouds = [message for _, message in found["/zgs/points"]]
    assert [stamp_ns(cloud.header) for cloud in clouds] == [
        bags.stamp(index) for index in range(5) if index not in lost
    ]
    for index, cloud in zip(range(5), clouds, strict=False):
        x = np.frombuffer(cloud.data, "<f4").reshape(48, 64, 6)[24, 32, 0]
        # Half way between two transforms, half a metre ahead; next to the optical axis.
        assert x == pytest.approx(index - 0.5 + 0.5, abs=0.1)


def test_images_that_stay_without_depth_are_reported(
    tmp_path: Path, label: Label, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = bags.record(tmp_path / "robot", with_depth(5, [0, 2, 4]))
    assert label(bag, tmp_path / "out.mcap", None, {"depth.enabled": True}) == 1
    assert "images without positions: 2, because: no depth image" in capsys.readouterr().err
    found = bags.read(tmp_path / "out.mcap")[SEGMENTS]
    valid = [all(segment.position_valid for segment in message.segments) for _, message in found]
    assert valid == [True, False, True, False, True]


@pytest.mark.parametrize(
    ("kind", "ending"), [("16UC1 png", "/compressedDepth"), ("png alone", "/compressed")]
)
def test_depth_that_was_recorded_compressed_is_found(
    kind: str, ending: str, tmp_path: Path, label: Label
) -> None:
    topic = "/camera/depth/image_raw"
    recorded = [
        message._replace(
            topic=topic + ending,
            value=compressed_depth(
                TYPES, message.value.header, np.full((48, 64), 2.0, np.float32), kind
            ),
        )
        if message.topic == topic
        else message
        for message in with_depth(2, range(2))
    ]
    bag = bags.record(tmp_path / "robot", recorded)
    assert label(bag, tmp_path / "out.mcap", None, {"depth.enabled": True}) == 0
    found = bags.read(tmp_path / "out.mcap")[SEGMENTS]
    assert {round(s.position.z, 2) for _, message in found for s in message.segments} == {2.0}


@pytest.mark.parametrize(
    ("option", "wanted"),
    [("depth_topic", "/camera/camera_info"), ("camera_info_topic", CAMERA)],
)
def test_topics_of_depth_that_hold_something_else_are_refused(
    option: str, wanted: str, tmp_path: Path, label: Label
) -> None:
    bag = bags.record(tmp_path / "robot", with_depth(1, [0]))
    problem = f"--{option.replace('_', '-')} {wanted}: holds sensor_msgs/msg/"
    with pytest.raises(BagError, match=problem):
        label(
            bag,
            tmp_path / "out.mcap",
            None,
            {"depth.enabled": True},
            topics=(CAMERA,),
            **{option: wanted},
        )


def test_cameras_that_are_turned_are_labelled_upright(tmp_path: Path, label: Label) -> None:
    topics = ("/front/image_raw", "/left/image_raw")
    recorded = [image for topic in topics for image in bags.images(2, topic)]
    bag = bags.record(tmp_path / "robot", recorded)
    options: dict[str, Any] = {"topics": topics}
    shown: list[tuple[int, ...]] = []

    class Looking(BrightAndDark):
        def segment_batch(self, images: Any) -> Any:
            shown.extend(image.shape[:2] for image in images)
            return super().segment_batch(images)

    assert label(bag, tmp_path / "out.mcap", Looking(), {"rotation": [0, 90]}, **options) == 0
    assert sorted(shown) == [(48, 64)] * 2 + [(64, 48)] * 2
    for name in ("front", "left"):
        found = bags.read(tmp_path / "out.mcap")[f"/zgs/{name}/segments"]
        for index, (_, message) in enumerate(found):
            seen = parse_segment_array(message)
            assert np.array_equal(seen.label_map == 2, bags.scene(index).mean(axis=2) > 127)
    with pytest.raises(ValueError, match=r"rotation has 3 values for 2 cameras \(front, left\)"):
        label(bag, tmp_path / "no.mcap", None, {"rotation": [0, 0, 0]}, **options)


# Stopping and going on


def test_ctrl_c_leaves_a_readable_bag_and_the_next_run_goes_on(
    tmp_path: Path, label: Label
) -> None:
    bag, out = bags.record(tmp_path / "robot", bags.images(10)), tmp_path / "out.mcap"
    assert label(bag, out, BrightAndDark(interrupt_at=4)) == 130
    assert not out.exists()
    [partial] = (tmp_path / "out.mcap.unfinished").rglob("*.mcap")
    assert len(bags.read(partial)[SEGMENTS]) == 4
    rest = BrightAndDark()
    assert label(bag, out, rest) == 0
    assert rest.seen == 6
    assert not partial.exists()
    label(bag, tmp_path / "at_once.mcap")
    assert _without_times(out) == _without_times(tmp_path / "at_once.mcap")


def _without_times(bag: Path) -> list[Any]:
    """Segments without the time that they took."""
    found = bags.read(bag)[SEGMENTS]
    zero = messages.duration(TYPES, 0.0)
    for _, message in found:
        message.processing_time = zero
    return [(time, bytes(TYPES.serialize(message))) for time, message in found]


KILLED = """
import os, sys
from pathlib import Path
import bag_support
from zgs_ros.cli import label_bag as command
from zgs_ros.config import NodeSettings, make_settings

class Dies(bag_support.BrightAndDark):
    def segment(self, image):
        if self.seen == 4:
            os.kill(os.getpid(), 9)
        return super().segment(image)

command.load_segmenter = lambda settings: Dies()
request = command.BagRequest(Path(sys.argv[1]), Path(sys.argv[2]))
command.run(request, make_settings(NodeSettings, {"profile": "mini"}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_killed_run_goes_on_where_it_was(tmp_path: Path, label: Label, storage: str) -> None:
    bag, out = bags.record(tmp_path / "robot", bags.images(10), storage), tmp_path / "out"
    here = str(Path(__file__).parent)
    path = f"{here}:{Path(here).parent}"
    arguments = [sys.executable, "-c", KILLED, str(bag), str(out)]
    done = subprocess.run(arguments, env={"PYTHONPATH": path}, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert not out.exists()
    rest = BrightAndDark()
    assert label(bag, out, rest) == 0
    assert rest.seen == 6
    assert len(bags.read(out)[SEGMENTS]) == 10


@pytest.mark.parametrize(
    ("changes", "seen"),
    [
        ({}, 4),
        ({"settings": {"tracking.enabled": False}}, 4),
        ({"settings": {"merging.threshold": 0.5}}, 6),
        ({"overwrite": True}, 6),
    ],
)
def test_what_other_settings_gave_is_not_gone_on_with(
    tmp_path: Path, label: Label, changes: dict[str, Any], seen: int
) -> None:
    bag, out = bags.record(tmp_path / "robot", bags.images(6)), tmp_path / "out.mcap"
    assert label(bag, out, BrightAndDark(interrupt_at=2)) == 130
    rest = BrightAndDark()
    assert label(bag, out, rest, **changes) == 0
    assert rest.seen == seen


def journal_of(out: Path) -> Path:
    return out.with_name(f"{out.name}.unfinished") / "segmented.sqlite3"


def damage_row(journal: Path) -> None:
    with closing(sqlite3.connect(journal, isolation_level=None)) as database:
        key, data = database.execute("SELECT key, data FROM results").fetchone()
        damaged = data[: len(data) // 2] + b"\xff\xff" + data[len(data) // 2 + 2 :]
        database.execute("UPDATE results SET data = ? WHERE key = ?", (damaged, key))


def of_other_columns(journal: Path) -> None:
    journal.unlink()
    with closing(sqlite3.connect(journal, isolation_level=None)) as database:
        database.execute("CREATE TABLE results (key BLOB PRIMARY KEY, other BLOB)")


def damage_page(journal: Path) -> None:
    data = journal.read_bytes()
    journal.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))


@pytest.mark.parametrize(
    ("damage", "seen"),
    [
        (lambda journal: None, 2),
        (damage_row, 3),
        (damage_page, 6),
        (of_other_columns, 6),
        (lambda journal: journal.write_bytes(b"nonsense" * 1000), 6),
        (lambda journal: journal.write_bytes(b""), 6),
        (lambda journal: journal.unlink(), 6),
    ],
    ids=["nothing", "row", "page", "columns", "file", "empty", "gone"],
)
def test_what_is_damaged_in_a_journal_is_segmented_again(
    tmp_path: Path, label: Label, damage: Callable[[Path], object], seen: int
) -> None:
    bag, out = bags.record(tmp_path / "robot", bags.images(6)), tmp_path / "out.mcap"
    assert label(bag, out, BrightAndDark(interrupt_at=4)) == 130
    damage(journal_of(out))
    rest = BrightAndDark()
    assert label(bag, out, rest) == 0
    assert rest.seen == seen
    assert len(bags.read(out)[SEGMENTS]) == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mcap", "robot"]


def test_segmentations_kept_as_another_message_are_made_again(
    tmp_path: Path, label: Label, monkeypatch: pytest.MonkeyPatch
) -> None:
    bag, out = bags.record(tmp_path / "robot", bags.images(4)), tmp_path / "out.mcap"
    with monkeypatch.context() as other:
        other.setattr(MessageTypes, "type_hash", lambda self, name: "RIHS01_of_another_definition")
        assert label(bag, out, BrightAndDark(interrupt_at=2)) == 130
    rest = BrightAndDark()
    assert label(bag, out, rest) == 0
    assert rest.seen == 4


def test_these_settings_and_no_others_do_not_matter_for_a_bag() -> None:
    """A setting that is missing here by mistake only costs time; one too much gives old results."""
    changes_nothing = {s.path for s in list_settings(NodeSettings) if s.operation}
    assert changes_nothing == {
        "cameras",
        "depth.transport",
        "image_transport",
        "image_reliability",
        "max_rate",
        "lazy",
        "keep_models",
        "diagnostics.silence_warn",
        "diagnostics.silence_error",
        "diagnostics.latency_warn",
        "diagnostics.latency_error",
        "diagnostics.min_rate",
        "diagnostics.rejection_hold",
        "diagnostics.stuck_error",
    }


@pytest.mark.parametrize(
    ("settings", "is_up_to_date"),
    [
        ({"keep_models": False, "max_rate": 1.0, "diagnostics.min_rate": 2.0}, True),
        ({"tracking.smoothing": 0.0}, False),
        ({"publish_embeddings": False}, False),
        ({"jpeg_quality": 50}, False),
    ],
)
def test_a_bag_is_up_to_date_where_only_settings_of_operation_changed(
    tmp_path: Path, label: Label, settings: dict[str, Any], is_up_to_date: bool
) -> None:
    bag, out = bags.record(tmp_path / "robot", bags.images(2)), tmp_path / "out.mcap"
    assert label(bag, out) == 0
    if is_up_to_date:
        assert label(bag, out, None, settings) == 0
    else:
        with pytest.raises(BagError, match="holds something else"):
            label(bag, out, None, settings)


@pytest.mark.parametrize("out", ["out.mcap", "out.db3", "out"])
def test_a_bag_that_is_up_to_date_is_not_made_again(
    tmp_path: Path, label: Label, out: str, capfd: pytest.CaptureFixture[str]
) -> None:
    bag = bags.record(tmp_path / "robot", bags.images(3))
    assert label(bag, tmp_path / out) == 0
    again = BrightAndDark()
    assert label(bag, tmp_path / out, again) == 0
    assert again.seen == 0
    assert "is up to date" in capfd.readouterr().err
    with pytest.raises(BagError, match=r"holds something else .* --overwrite replaces it"):
        label(bag, tmp_path / out, settings={"overlay_opacity": 0.9})
    assert label(bag, tmp_path / out, again, {"overlay_opacity": 0.9}, overwrite=True) == 0
    assert again.seen == 3


@pytest.mark.parametrize("overwrite", [False, True])
def test_two_runs_do_not_write_the_same_bag(tmp_path: Path, label: Label, overwrite: bool) -> None:
    bag, out = bags.record(tmp_path / "robot", bags.images(3)), tmp_path / "out.mcap"
    holder = rf"out\.mcap\.unfinished: another run works on it \(process {os.getpid()} on "

    class Second(BrightAndDark):
        def segment(self, image: Any) -> Any:
            with pytest.raises(BagError, match=holder):
                label(bag, out, overwrite=overwrite)
            return super().segment(image)

    segmenter = Second()
    assert label(bag, out, segmenter) == 0
    assert segmenter.seen == 3
    assert len(bags.read(out)[SEGMENTS]) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mcap", "robot"]


# What is not ours


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "thesis.txt").write_text("mine")


def _journal(path: Path) -> None:
    path.mkdir()
    (path / "segmented.sqlite3").write_text("mine")


def _linked(path: Path) -> None:
    (path.parent / "elsewhere").mkdir()
    path.symlink_to(path.parent / "elsewhere")


@pytest.mark.parametrize("make", [_folder, _journal, _linked])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_the_users_is_not_worked_in(
    tmp_path: Path, label: Label, make: Callable[[Path], None], overwrite: bool
) -> None:
    bag, out = bags.record(tmp_path / "robot", bags.images(2)), tmp_path / "out.mcap"
    make(tmp_path / "out.mcap.unfinished")
    before = _tree(tmp_path)
    with pytest.raises(BagError, match=r"out\.mcap\.unfinished"):
        label(bag, out, overwrite=overwrite)
    assert _tree(tmp_path) == before


def test_what_the_user_added_to_the_folder_stays(tmp_path: Path, label: Label) -> None:
    bag, out = bags.record(tmp_path / "robot", bags.images(4)), tmp_path / "out.mcap"
    assert label(bag, out, BrightAndDark(interrupt_at=2)) == 130
    workplace = tmp_path / "out.mcap.unfinished"
    (workplace / "notes.txt").write_text("mine")
    assert label(bag, out) == 0
    assert [path.name for path in workplace.iterdir()] == ["notes.txt"]


def _recording(path: Path) -> None:
    bags.record(path.with_suffix(""), bags.images(1)).rename(path)


def _recording_file(path: Path) -> None:
    bags.bag_file(bags.record(path.with_suffix(".made"), bags.images(1))).rename(path)


@pytest.mark.parametrize(
    ("out", "make"),
    [
        ("out", _recording),
        ("out.mcap", _recording_file),
        ("out.mcap", lambda path: path.write_text("a diary")),
        ("out.db3", lambda path: path.write_text("a diary")),
        ("out.mcap", lambda path: path.symlink_to(path.parent / "precious.mcap")),
    ],
)
def test_overwrite_replaces_results_only(
    tmp_path: Path, label: Label, out: str, make: Callable[[Path], object]
) -> None:
    bag = bags.record(tmp_path / "robot", bags.images(2))
    (tmp_path / "precious.mcap").write_text("precious")
    make(tmp_path / out)
    before = _tree(tmp_path)
    with pytest.raises(BagError, match=r"(has not written, which is not replaced|is a link)"):
        label(bag, tmp_path / out, overwrite=True)
    assert _tree(tmp_path) == before


def test_a_result_that_the_user_added_to_is_not_replaced(tmp_path: Path, label: Label) -> None:
    bag, out = bags.record(tmp_path / "robot", bags.images(2)), tmp_path / "out"
    assert label(bag, out) == 0
    assert label(bag, out, overwrite=True) == 0
    (out / "notes.txt").write_text("mine")
    with pytest.raises(BagError, match="which is not replaced"):
        label(bag, out, overwrite=True)
    assert (out / "notes.txt").read_text() == "mine"


def _tree(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


# What goes wrong


def _broken(index: int) -> Iterator[bags.Message]:
    """An image that can't be one."""
    message = bags.image(index)
    message.value.encoding = "rgb565"
    yield message


def test_images_that_cannot_be_decoded_cost_only_themselves(
    tmp_path: Path, label: Label, capfd: pytest.CaptureFixture[str]
) -> None:
    recorded = [*bags.images(5), *_broken(5), *_broken(6)]
    cut = bags.image(7, encoding="jpeg").value
    cut.data = cut.data[:100]
    recorded.append(bags.Message("/jpeg", bags.stamp(7), cut))
    bag = bags.record(tmp_path / "robot", recorded)
    assert label(bag, tmp_path / "out.mcap", topics=(CAMERA, "/jpeg")) == 1
    assert len(bags.read(tmp_path / "out.mcap")["/zgs/camera/segments"]) == 5
    told = capfd.readouterr().err
    assert "5 labelled, 3 failed" in told
    assert f"{CAMERA}: images without result: 2, because: encoding 'rgb565' is not supp" in told
    assert "/jpeg: images without result: 1, because: data (100 bytes" in told
    assert label(bag, tmp_path / "out.mcap", topics=(CAMERA, "/jpeg")) == 1  # up to date
    assert f"{CAMERA}: images without result: 2" in capfd.readouterr().err


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_damaged_bag_gives_what_can_be_read_and_says_what_is_lost(
    tmp_path: Path, label: Label, storage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    bag = bags.record(tmp_path / "robot", bags.images(200), storage)
    file = bags.bag_file(bag)
    data = bytearray(file.read_bytes())
    if storage == "mcap":  # its end
        file.write_bytes(data[: len(data) // 2])
    else:  # its middle, which only shows while it is read
        data[len(data) // 2 : len(data) // 2 + 9000] = b"x" * 9000
        file.write_bytes(data)
    segmenter = BrightAndDark()
    assert label(bag, tmp_path / "out.mcap", segmenter) == 1
    count = len(bags.read(tmp_path / "out.mcap")[SEGMENTS])
    assert count <= segmenter.seen
    assert 90 < count < 200
    told = capfd.readouterr().err
    assert f"{CAMERA}: {count} of 200 messages can be read" in told
    assert label(bag, tmp_path / "out.mcap") == 1
    assert f"{CAMERA}: {count} of 200 messages can be read" in capfd.readouterr().err


def test_where_no_image_can_be_labelled_nothing_is_written(tmp_path: Path, label: Label) -> None:
    bag = bags.record(tmp_path / "robot", _broken(0))
    assert label(bag, tmp_path / "out.mcap") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["robot"]


def test_an_error_of_the_models_costs_its_image(tmp_path: Path, label: Label) -> None:
    class Fails(BrightAndDark):
        def segment(self, image: Any) -> Any:
            if self.seen == 1:
                self.seen += 1
                raise RuntimeError("too bright")
            return super().segment(image)

    bag = bags.record(tmp_path / "robot", bags.images(4))
    assert label(bag, tmp_path / "out.mcap", Fails()) == 1
    assert len(bags.read(tmp_path / "out.mcap")[SEGMENTS]) == 3


@pytest.mark.parametrize(
    ("topics", "wanted", "problem"),
    [
        (
            [CAMERA],
            ["/x"],
            r"--topics /x: is not in the bag; it has images on /camera/image_raw \(",
        ),
        ([CAMERA], ["/chatter"], "/chatter: holds std_msgs/msg/String; it has images on"),
        (["/a/i", "/b/i"], [], "choose what to label by --topics: the bag has /a/i .*, /b/i "),
        ([], [], r"the bag has no images; its topics are /chatter \(std_msgs/msg/String, 1 mess"),
    ],
)
def test_a_wrong_topic_is_answered_with_those_that_there_are(
    tmp_path: Path, label: Label, topics: list[str], wanted: list[str], problem: str
) -> None:
    recorded = [image for topic in topics for image in bags.images(2, topic)]
    bag = bags.record(tmp_path / "robot", [*recorded, bags.text(0)])
    with pytest.raises(BagError, match=problem):
        label(bag, tmp_path / "out.mcap", topics=tuple(wanted))


def test_depth_is_no_choice_of_what_to_label(tmp_path: Path, label: Label) -> None:
    recorded = [*bags.images(2), *bags.images(2, "/camera/depth/image_raw")]
    assert label(bags.record(tmp_path / "robot", recorded), tmp_path / "out.mcap") == 0


def test_places_that_hold_something_else_are_refused(tmp_path: Path, label: Label) -> None:
    bag = bags.record(tmp_path / "robot", bags.images(1))
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "holiday.jpg").write_bytes(b"precious")
    other = bags.record(tmp_path / "other", bags.images(1))
    for out, problem in (
        (
            tmp_path / "pictures",
            "is a folder, but no bag; name the bag itself, for example .*robot_",
        ),
        (bag, "is in the recording itself"),
        (bag / "out.mcap", "is in the recording itself"),
        (bags.bag_file(other), "holds something else than this would write"),
        (other, "holds something else than this would write"),
    ):
        with pytest.raises(BagError, match=problem):
            label(bag, out)
    with pytest.raises(BagError, match="is a folder, but no bag"):
        label(bag, tmp_path / "pictures", overwrite=True)
    assert (tmp_path / "pictures" / "holiday.jpg").is_file()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["missing.mcap"], "missing.mcap: does not exist"),
        (["old.bag"], "old.bag: is a bag of ROS 1; rosbags-convert --src"),
        (["text.mcap"], "text.mcap: nothing can be read"),
        (["empty.db3"], "empty.db3: nothing can be read"),
        (["robot", "text.mcap"], "robot: is a bag; label it alone"),
        (["robot", "--outputs", "nonsense"], "--outputs nonsense: is unknown (allowed: segments"),
        (["robot", "--depth"], "/camera/depth/image_raw: is not in the bag, and depth needs it"),
        (["image.png", "--topics", "/x"], "--topics is for bags, and image.png is none"),
        (["image.png", "--copy"], "--copy is for bags, and image.png is none"),
    ],
)
def test_wrong_usage_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], problem: str
) -> None:
    monkeypatch.chdir(tmp_path)
    bags.record(Path("robot"), bags.images(1))
    Path("old.bag").write_bytes(b"#ROSBAG V2.0\n")
    Path("text.mcap").write_text("not a bag")
    Path("empty.db3").touch()
    done = CliRunner().invoke(app, ["label", *arguments, "--profile", "mini", "--out", "out.mcap"])
    assert done.exit_code == 2
    assert problem in done.stderr
    assert done.stderr.count("\n") <= 2


@pytest.mark.slow
def test_the_mini_models_label_a_bag(tmp_path: Path) -> None:
    from zgs_ros.synthetic import SyntheticCamera

    camera = SyntheticCamera(3, 120, 160, 10.0)
    recorded = []
    for index in range(3):
        header = messages.header(TYPES, bags.stamp(index), "camera")
        picture = messages.rgb_image(TYPES, header, camera.frame(index).rgb)
        recorded.append(bags.Message(CAMERA, bags.stamp(index), picture))
    bag, out = bags.record(tmp_path / "robot", recorded), tmp_path / "out.mcap"
    options = ["--topics", CAMERA, "--profile", "mini", "--device", "cpu", "--out", str(out)]
    done = CliRunner().invoke(app, ["label", str(bag), *options])
    assert done.exit_code == 0, done.stderr
    found = bags.read(out)[SEGMENTS]
    assert [time for time, _ in found] == [message.time for message in recorded]
    assert all(segment.label for _, message in found for segment in message.segments)


def test_class_images_have_the_ids_of_the_robots_file(
    label: Label, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROS_HOME", str(tmp_path / "home"))
    file = tmp_path / "home" / "zgs_ros" / "classes.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("classes: [{id: 5, name: floor, phrases: [ground]}]\nseen:\n  box: 9\n")
    bag = bags.record(tmp_path / "bag", bags.images(2))
    outputs = ("segments", "label_mask", "label_info")
    assert label(bag, tmp_path / "out", outputs=outputs) == 0
    found = bags.read(tmp_path / "out")
    [(at, info)] = found["/zgs/label_info"]
    assert at <= found["/zgs/label_mask"][0][0]
    names = {entry.class_id: entry.class_name for entry in info.class_map}
    assert names == {5: "floor", 9: "box", 255: "other"}
    for (_, result), (_, mask) in zip(
        found["/zgs/segments"], found["/zgs/label_mask"], strict=True
    ):
        ids = {segment.label: segment.class_id for segment in result.segments}
        assert ids == {"ground": 5, "box": 9}
        assert set(bytes(mask.data)) == {5, 9}
        assert mask.header == result.header
    with Reader(tmp_path / "out") as reader:
        [latched] = [c for c in reader.connections if c.topic == "/zgs/label_info"]
        assert latched.ext.offered_qos_profiles[0].durability.name == "TRANSIENT_LOCAL"
    file.write_text("seen: [")
    with pytest.raises(ValueError, match="is not valid YAML"):
        label(bag, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_class_with_a_mask_topic_has_masks_and_camera_info_in_the_bag(
    label: Label, tmp_path: Path
) -> None:
    classes = tmp_path / "classes.yaml"
    classes.write_text("classes: [{id: 5, name: box, phrases: [box], mask_topic: box_mask}]\n")
    settings = {"classes.file": str(classes)}
    bag = bags.record(tmp_path / "bag", with_depth(4, []))  # camera_info beside the third image
    outputs = ("segments", "box_mask/image", "box_mask/camera_info")
    assert label(bag, tmp_path / "out", None, settings, outputs=outputs) == 0
    found = bags.read(tmp_path / "out")
    results, masks, infos = ([message for _, message in found[f"/zgs/{name}"]] for name in outputs)
    assert [m.header for m in masks] == [m.header for m in infos] == [m.header for m in results]
    for index, (mask, info) in enumerate(zip(masks, infos, strict=True)):
        pixels = np.asarray(mask.data).reshape(48, 64)
        assert np.array_equal(pixels, 255 * (bags.scene(index).mean(axis=2) > 127))
        assert (mask.encoding, info.width, info.k[0]) == ("mono8", 64, 60.0)


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        (
            "box_mask/camera_info",
            "/camera/camera_info: is not in the bag, and box_mask/camera_info",
        ),
        ("cup_mask/image", "--outputs cup_mask/image: is unknown .*box_mask/image"),
    ],
)
def test_masks_that_a_bag_can_not_have_are_refused(
    output: str, problem: str, label: Label, tmp_path: Path
) -> None:
    classes = tmp_path / "classes.yaml"
    classes.write_text("classes: [{id: 5, name: box, phrases: [box], mask_topic: box_mask}]\n")
    bag = bags.record(tmp_path / "bag", bags.images(1))
    with pytest.raises(BagError, match=problem):
        label(bag, tmp_path / "out", None, {"classes.file": str(classes)}, outputs=(output,))
