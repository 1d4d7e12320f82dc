"""The viewer: shows and records whole results, and explains when there are none."""

from __future__ import annotations

import io
import json
import os
import re
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from dds_support import DOMAIN, HalvesSegmenter, Peer, cli, peer, process
from PIL import Image as Pillow
from rich.console import Console

from zgs_ros.dds.network import Network
from zgs_ros.dds.node import DdsNode
from zgs_ros.dds.types import TypeSupport
from zgs_ros.files.ownership import InUse
from zgs_ros.segmentation import Label, Placement, Roi, Segment, Segmentation
from zgs_ros.streaming import messages
from zgs_ros.tools.following import FramePairs, NodeState
from zgs_ros.tools.frames import Frame, FrameFolder
from zgs_ros.tools.table import Display
from zgs_ros.tools.watch import NoResult, WatchOptions, run

Eventually = Callable[..., None]
NETWORK = Network(DOMAIN, loopback_only=True)

UP = {"image topic": "/camera/image_raw", "image publishers": "1", "received": "9"}
COUNTS = {"processed": "0", "dropped": "3", "rejected": "6"}
SILENCES = [
    (NodeState("/zgs"), "the node /zgs never appeared on domain 7"),
    (NodeState("/zgs", 0, True, UP), "the node /zgs has gone"),
    (NodeState("/zgs", 1, True), "is up, but sends neither results nor diagnostics"),
    (NodeState("/zgs", 1, True, {"received": "0"}), "is up, but not active"),
    (
        NodeState("/zgs", 1, True, {**UP, "received": "0", "image publishers": "0"}),
        "is up, but no camera publishes /camera/image_raw",
    ),
    (
        NodeState("/zgs", 1, True, {**UP, "received": "0"}),
        "a camera publishes /camera/image_raw, but no image arrives; large images need a larger",
    ),
    (
        NodeState("/zgs", 1, True, {**UP, **COUNTS, "last error": "bad image: step 3"}),
        "no result came (9 received, 0 processed, 3 dropped, 6 rejected); its last error: bad image",
    ),
    (
        NodeState("/zgs", 1, True, {**UP, **COUNTS}),
        "no result came (9 received, 0 processed, 3 dropped, 6 rejected)",
    ),
]


@pytest.mark.parametrize(("state", "text"), SILENCES, ids=[row[1] for row in SILENCES])
def test_silence_is_explained(state: NodeState, text: str) -> None:
    assert text in state.explain_silence(7)


STEPS = [
    (NodeState("/zgs"), "the node /zgs on domain 7"),
    (NodeState("/zgs", 1, True), "the first result"),
    (NodeState("/zgs", 1, True, {"received": "0"}), "the node /zgs to be active"),
    (NodeState("/zgs", 1, True, {**UP, "image publishers": "0"}), "a camera on /camera/image_raw"),
    (NodeState("/zgs", 1, True, {**UP, "received": "0"}), "images on /camera/image_raw"),
    (NodeState("/zgs", 1, True, {**UP, **COUNTS}), "the first result"),
]


@pytest.mark.parametrize(("state", "step"), STEPS, ids=[row[1] for row in STEPS])
def test_the_viewer_says_what_it_waits_for(state: NodeState, step: str) -> None:
    assert state.next_step(7) == step


def frame(number: int = 1, overlay: bytes | None = None, segments: int = 2) -> Frame:
    embedding = np.array([1.0, 0.0], np.float32)
    seen = tuple(
        Segment(
            n,
            (Label(f"thing {n}", 0.5), Label("object", 0.1)),
            Roi(0, 0, 1, 1),
            n,
            (0, 0),
            embedding,
        )
        for n in range(1, segments + 1)
    )
    header = SimpleNamespace(stamp=SimpleNamespace(sec=5, nanosec=6), frame_id="camera")
    return Frame(
        number, header, Segmentation(np.zeros((4, 6), np.uint16), seen, "m"), 0.2, 0.3, overlay
    )


def test_a_recording_has_a_line_per_frame_whose_picture_exists(tmp_path: Path) -> None:
    recorder = FrameFolder(tmp_path / "new")
    recorder.write(frame(1, b"first"))
    recorder.write(frame(2, b"second"))
    lines = [
        json.loads(line) for line in (tmp_path / "new/segments.jsonl").read_text().splitlines()
    ]
    assert [line["frame"] for line in lines] == [1, 2]
    assert [(tmp_path / "new" / line["overlay"]).read_bytes() for line in lines] == [
        b"first",
        b"second",
    ]
    assert lines[0]["stamp"] == {"sec": 5, "nanosec": 6}
    assert (lines[0]["frame_id"], lines[0]["latency"]) == ("camera", 0.3)
    assert [segment["label"] for segment in lines[0]["segments"]] == ["thing 1", "thing 2"]


def record(folder: Path, *overlays: bytes) -> list[str]:
    """A recording; returns the names of its pictures."""
    with FrameFolder(folder) as recorder:
        for number, overlay in enumerate(overlays, 1):
            recorder.write(frame(number, overlay))
    lines = (folder / "segments.jsonl").read_text().splitlines()
    return [json.loads(line)["overlay"] for line in lines]


def test_a_recording_replaces_an_earlier_one_and_nothing_else(tmp_path: Path) -> None:
    assert record(tmp_path, b"one", b"two", b"three") == ["0001.jpg", "0002.jpg", "0003.jpg"]
    mine = {"20240815.jpg": b"holiday", "IMG_1.jpg": b"holiday", "node.log": b"", "0777.jpg": b"x"}
    mine["0002.jpg"] = b"TWO"  # changed since, in its size not even
    for name, data in mine.items():
        (tmp_path / name).write_bytes(data)
    assert record(tmp_path, b"new", b"newer") == ["0001.jpg", "0002-2.jpg"]
    expected = {**mine, "0001.jpg": b"new", "0002-2.jpg": b"newer"}
    for name, data in expected.items():
        assert (tmp_path / name).read_bytes() == data
    seen = {path.name for path in tmp_path.iterdir()}
    assert seen == {*expected, "segments.jsonl", ".zgs_recording"}


@pytest.mark.parametrize("name", ["segments.jsonl", ".zgs_recording", ".zgs_recording.lock"])
@pytest.mark.parametrize("is_link", [False, True])
def test_a_recording_is_refused_where_its_files_are_others(
    tmp_path: Path, name: str, is_link: bool
) -> None:
    (tmp_path / "precious").write_text("precious")
    folder = tmp_path / "out"
    folder.mkdir()
    if is_link:
        (folder / name).symlink_to(tmp_path / "precious")
    else:
        (folder / name).write_text("precious")
    (folder / "0001.jpg").write_text("holiday")
    with pytest.raises(OSError, match=re.escape(name)):
        FrameFolder(folder)
    assert (tmp_path / "precious").read_text() == (folder / name).read_text() == "precious"
    assert (folder / "0001.jpg").read_text() == "holiday"


def test_a_link_in_the_place_of_the_lines_of_an_earlier_recording_is_not_followed(
    tmp_path: Path,
) -> None:
    record(tmp_path, b"one")
    (tmp_path / "precious").write_text("precious")
    for name in ("segments.jsonl", "0001.jpg"):
        (tmp_path / name).unlink()
        (tmp_path / name).symlink_to("precious")
    with pytest.raises(FileExistsError, match=r"segments\.jsonl: is there, and not written"):
        FrameFolder(tmp_path)
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_list_of_impossible_size_is_not_read(tmp_path: Path) -> None:
    record(tmp_path, b"one")
    with (tmp_path / ".zgs_recording").open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(FileExistsError, match="has 1099511627776 bytes"):
        FrameFolder(tmp_path)
    assert (tmp_path / "0001.jpg").read_bytes() == b"one"


def test_a_line_without_end_costs_no_memory_and_no_other_line(tmp_path: Path) -> None:
    record(tmp_path, b"one")
    listed = tmp_path / ".zgs_recording"
    head, _, rest = listed.read_bytes().partition(b"\n")
    listed.write_bytes(head + b"\n" + b"x" * (1 << 24) + b"\n" + rest)
    tracemalloc.start()
    try:
        with FrameFolder(tmp_path):
            assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()
    assert not (tmp_path / "0001.jpg").exists()


def test_numbers_that_json_can_not_hold_are_null_in_a_recording(tmp_path: Path) -> None:
    whole = frame(1, None)
    nan, inf = float("nan"), float("inf")
    odd = replace(
        whole.segmentation.segments[0],
        labels=(Label("mug", nan), Label("cup", inf)),
        centroid=(nan, 1.0),
        placement=Placement((nan, 0.5, -inf), (1.0, 1.0, inf)),
    )
    with FrameFolder(tmp_path) as recorder:
        recorder.write(replace(whole, segmentation=replace(whole.segmentation, segments=(odd,))))

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no JSON")

    line = json.loads((tmp_path / "segments.jsonl").read_text(), parse_constant=refuse)
    [segment] = line["segments"]
    assert (segment["score"], segment["alternatives"][0]["score"]) == (None, None)
    assert segment["centroid"] == [None, 1.0]
    assert (segment["position"], segment["size"]) == ([None, 0.5, None], [1.0, 1.0, None])


def test_one_recording_at_a_time_goes_to_a_folder(tmp_path: Path) -> None:
    with FrameFolder(tmp_path), pytest.raises(InUse, match=rf"\(process {os.getpid()} on "):
        FrameFolder(tmp_path)
    with FrameFolder(tmp_path):
        pass


def shown(terminal: bool, frames: list[Frame], diagnostics: dict[str, str]) -> str:
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=100, color_system=None)
    with Display(console, "/zgs") as display:
        display.wait("a camera")
        display.wait("a camera")
        for one in frames:
            display.show(one, diagnostics)
    return output.getvalue()


def test_without_a_terminal_there_is_a_plain_line_per_frame() -> None:
    text = shown(False, [frame(1), frame(2, segments=0)], {"received": "9", "dropped": "4"})
    assert text.splitlines() == [
        "waiting for a camera",
        "frame 1: thing 2 0.50, thing 1 0.50 | 2 segments, latency 0.30 s, "
        "0 results/s, 9 images received, 4 dropped, ? rejected",
        "frame 2: no segments | 0 segments, latency 0.30 s, "
        "0 results/s, 9 images received, 4 dropped, ? rejected",
    ]


@pytest.mark.parametrize("terminal", [False, True])
def test_labels_give_no_orders_to_the_terminal(terminal: bool) -> None:
    one = frame(1)
    [first, *_] = one.segmentation.segments
    labels = (Label("\x1b]0;gone\x07mug", 0.5), Label("\x1b[31mred", 0.1))
    seen = replace(one.segmentation, segments=(replace(first, labels=labels),))
    text = shown(terminal, [replace(one, segmentation=seen)], {"received": "\x1b]0;x\x07"})
    assert "\x1b]" not in text
    assert "\x1b[31m" not in text
    assert r"\x1b]0;gone\x07mug" in text


ARRIVAL = 1_700_000_000_000_000_000
LATENCIES = [
    ((1_699_999_999, 750_000_000), 0.25),
    ((0, 0), None),
    ((5, 0), None),  # simulated time
    ((1_700_000_005, 0), None),
    ((1_699_996_399, 0), None),  # a recording
]


@pytest.mark.parametrize(("stamp", "latency"), LATENCIES)
def test_a_stamp_of_another_clock_gives_no_latency(
    stamp: tuple[int, int], latency: float | None
) -> None:
    pairs = FramePairs(overlays=False)
    pairs.add_result(segment_array(stamp=stamp), ARRIVAL)
    [one] = pairs.take()
    assert one.latency == (latency and pytest.approx(latency))
    assert one.to_dict(None)["latency"] == one.latency
    assert ("latency" in shown(False, [one], {})) == (latency is not None)


def segment_array(stamp: tuple[int, int] = (5, 6), **picture: Any) -> Any:
    types = TypeSupport("jazzy")
    header = messages.header(types, stamp[0] * 10**9 + stamp[1], "camera")
    message = messages.segment_array(types, header, frame().segmentation, 0.1)
    for name, value in picture.items():
        setattr(message.label_image, name, value)
    return message


@pytest.mark.parametrize(
    "picture",
    [{"encoding": "rgb8"}, {"height": 5}, {"width": 0, "height": 0}, {"step": 0}],
    ids=str,
)
def test_a_result_that_is_none_costs_itself(
    picture: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    pairs = FramePairs(overlays=False)
    pairs.add_result(segment_array(stamp=(5, 1)), ARRIVAL)
    pairs.add_result(segment_array(stamp=(5, 2), **picture), ARRIVAL)
    bad = segment_array(stamp=(5, 3))
    bad.segments[0].id = 0
    pairs.add_result(bad, ARRIVAL)
    pairs.add_result(segment_array(stamp=(5, 4)), ARRIVAL)
    assert [one.header.stamp.nanosec for one in pairs.take()] == [1, 4]
    [line] = caplog.messages
    assert line.startswith("a result is left out: ")


def test_a_terminal_shows_a_table_with_the_largest_segments_first() -> None:
    text = shown(True, [frame(3, segments=30)], {})
    assert "/zgs  frame 3" in text
    assert text.index("thing 30") < text.index("thing 29")
    assert "and 14 smaller ones" in text
    assert "thing 14 " not in text


@pytest.mark.parametrize("label", ["[red]", "a[/b]", "日本語", ""])
def test_labels_are_shown_as_they_are(label: str) -> None:
    odd = frame()
    segment = Segment(1, (Label(label, 0.5),), Roi(0, 0, 1, 1), 1, (0, 0), np.zeros(2, np.float32))
    one = Frame(1, odd.header, Segmentation(np.zeros((4, 6), np.uint16), (segment,), "m"), 0, 0)
    for terminal in (False, True):
        assert label in shown(terminal, [one], {})


def test_a_node_that_never_comes_is_told(tmp_path: Path) -> None:
    with pytest.raises(NoResult, match=r"no result within 0.3 s: the node /nobody never appeared"):
        run(WatchOptions(NETWORK, "/nobody", timeout=0.3), Console(file=io.StringIO()))


def test_the_node_may_be_given_another_time_to_come_up() -> None:
    options = WatchOptions(NETWORK, "/nobody", timeout=100.0, node_timeout=0.3)
    with pytest.raises(NoResult, match=r"no result within 0.3 s: the node /nobody never appeared"):
        run(options, Console(file=io.StringIO()))


def test_a_node_without_a_camera_is_told(eventually: Eventually) -> None:
    from zgs_ros.config import NodeSettings, make_settings
    from zgs_ros.dds.peer import PeerOptions

    running = Peer(HalvesSegmenter(), make_settings(NodeSettings, {}), PeerOptions(NETWORK))
    publish = running.node.look
    try:
        with DdsNode("noise", network=NETWORK):
            import threading

            stop = threading.Event()
            beat = threading.Thread(
                target=lambda: [publish() for _ in iter(lambda: stop.wait(0.1), True)]
            )
            beat.start()
            with pytest.raises(
                NoResult, match="the node /zgs is up, but no camera publishes /camera"
            ):
                run(WatchOptions(NETWORK, timeout=1.5), Console(file=io.StringIO()))
            stop.set()
            beat.join()
    finally:
        running.close()


def test_the_command_records_frames_and_ends(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Pillow.fromarray(np.full((48, 64, 3), 90, np.uint8)).save(pictures / "0.png")
    out = tmp_path / "out"
    watch = cli("watch", "--out", out, "--frames", 5, "--timeout", 60)
    with (
        process(cli("camera", pictures, "--rate", 20)),
        process(peer(max_rate=50)),
        process(watch) as viewer,
    ):
        text, _ = viewer.communicate(timeout=120)
    assert viewer.returncode == 0, text
    assert "frame 5: left 0.50, right 0.50 | 2 segments, latency" in text
    lines = [json.loads(line) for line in (out / "segments.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == [1, 2, 3, 4, 5]
    assert all(0 < line["latency"] < 60 for line in lines)
    for line in lines:
        with Pillow.open(out / line["overlay"]) as picture:
            assert picture.size == (64, 48)


def test_the_command_fails_with_the_reason() -> None:
    with process(cli("watch", "--timeout", 0.5)) as viewer:
        text, _ = viewer.communicate(timeout=60)
    assert viewer.returncode == 1
    assert "zgs: no result within 0.5 s: the node /zgs never appeared on domain" in text
    assert "Traceback" not in text


def test_settings_that_do_not_exist_fail_the_command_before_models_are_loaded() -> None:
    from zgs_ros.cli.options import node_settings
    from zgs_ros.config import SettingsError

    cases: list[tuple[Any, str]] = [
        (["clip.sigm=2"], "did you mean 'clip.sigma'"),
        (["clip.sigma"], "--set needs KEY=VALUE"),
        (["clip.sigma={"], "the value is not valid YAML"),
        (["max_rate=-1"], "max_rate"),
    ]
    for pairs, text in cases:
        with pytest.raises(SettingsError) as caught:
            node_settings(None, {}, pairs)
        assert text in str(caught.value)


def test_pairs_win_over_options_and_options_over_the_file(tmp_path: Path) -> None:
    from zgs_ros.cli.options import node_settings

    file = tmp_path / "params.yaml"
    file.write_text(
        "/**:\n  ros__parameters:\n    max_rate: 1.0\n    jpeg_quality: 50\n    lazy: false\n"
    )
    settings = node_settings(
        file, {"max_rate": 2.0, "device": None}, ["max_rate=3.0", "clip.sigma=2"]
    )
    assert (settings.max_rate, settings.jpeg_quality, settings.lazy) == (3.0, 50, False)
    assert settings.clip.sigma == 2.0
    assert node_settings(file, {"max_rate": 2.0}, []).max_rate == 2.0
