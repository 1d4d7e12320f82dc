"""The camera: any source becomes images on the network, and what can't be read is reported."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from dds_support import DOMAIN, cli, process
from PIL import Image as Pillow

from zgs_ros.dds.network import Network
from zgs_ros.dds.node import DdsNode
from zgs_ros.tools import camera, sources
from zgs_ros.tools.camera import CameraOptions, CameraPublishers
from zgs_ros.tools.sources import Picture, SourceError, SourceOptions, open_source, parse_size

Eventually = Callable[..., None]
NETWORK = Network(DOMAIN, loopback_only=True)
IMAGE = "sensor_msgs/msg/Image"


def picture(value: int, width: int = 8, height: int = 6) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for value in (10, 20, 30):
        Pillow.fromarray(picture(value)).save(tmp_path / f"{value}.png")
    (tmp_path / "15.png").write_bytes(b"this is no picture")
    (tmp_path / "25.jpg").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("not an image either")
    return tmp_path


def values(source: object, count: int = 100, **options: Any) -> list[int]:
    pictures = islice(open_source(str(source), SourceOptions(**options)), count)
    return [int(picture.rgb[0, 0, 0]) for picture in pictures]


def test_a_folder_is_read_in_order_and_unreadable_files_are_skipped_and_counted(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert values(folder, loop=False) == [10, 20, 30]
    text = caplog.text
    assert "15.png is skipped: is not an image" in text
    assert "25.jpg is skipped: is empty" in text
    assert "2 of 5 files were skipped" in text


def test_a_folder_begins_again_with_loop(folder: Path) -> None:
    assert values(folder, 7, loop=True) == [10, 20, 30, 10, 20, 30, 10]


def test_a_single_image_is_a_source(folder: Path) -> None:
    assert values(folder / "20.png", 3, loop=True) == [20, 20, 20]


def test_a_video_is_read_and_begins_again(tmp_path: Path) -> None:
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for value in (50, 100, 150):
        writer.write(picture(value, 64, 48))
    writer.release()
    once = values(path, loop=False)
    assert np.abs(np.array(once) - [50, 100, 150]).max() <= 3
    assert len(values(path, 7, loop=True)) == 7


def test_pictures_are_scaled_to_the_size(folder: Path) -> None:
    for size in ((4, 3), (16, 12), (8, 6)):
        first = next(open_source(str(folder), SourceOptions(size=size)))
        assert first.rgb.shape == (size[1], size[0], 3)
        assert (first.rgb == 10).all()


BAD_SOURCES = [
    ("nowhere", {}, "source 'nowhere' does not exist; give a folder of images"),
    ("98", {}, "webcam 98 can't be opened"),
    ("/dev/null", {}, "webcam /dev/null can't be opened; is it a camera"),
    ("9" * 12, {}, "does not exist"),
    ("\u00b2", {}, "does not exist"),
    ("/dev/ptmx", {}, "webcam /dev/ptmx can't be opened; is it a camera"),
    ("FOLDER/pipe.mp4", {}, "is no file, folder or camera; give a folder"),
    ("FOLDER/empty", {}, "no images in"),
    ("FOLDER/15.png", {}, "has no readable picture"),
    ("FOLDER/notes.txt", {}, "is not a video that OpenCV can read"),
    ("FOLDER", {"depth": True}, "has no depth; leave --depth out"),
]


@pytest.mark.parametrize(("source", "options", "text"), BAD_SOURCES)
def test_a_source_that_gives_nothing_says_why(
    folder: Path, source: str, options: dict[str, Any], text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "empty").mkdir()
    os.mkfifo(folder / "pipe.mp4")
    with pytest.raises(SourceError) as caught:
        values(source.replace("FOLDER", str(folder)), **options)
    assert text in str(caught.value)
    assert capfd.readouterr().err == "", "a library's warning"


@pytest.mark.parametrize(("text", "size"), [(None, None), ("640x480", (640, 480)), ("1X1", (1, 1))])
def test_sizes_are_read(text: str | None, size: tuple[int, int] | None) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "640", "x480", "640x", "0x10", "-1x5", "axb", "\u00b2x3", "1x" + "9" * 20]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(SourceError, match="must be WxH in pixels"):
        parse_size(text)


@pytest.mark.parametrize("text", ["100000x100000", "1x65536"])
def test_sizes_that_no_image_may_have_are_refused(text: str) -> None:
    with pytest.raises(SourceError, match=f"size '{text}': width .* height"):
        parse_size(text)


def test_the_synthetic_world_is_rendered_once_and_then_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sources, "SCENES", 2)
    monkeypatch.setattr(sources, "SCENE_FRAMES", 3)
    options = SourceOptions(size=(32, 24), depth=True)
    pictures = list(islice(open_source("synthetic", options), 12))
    # Two scenes of three frames, each forth and back, and then the same objects again.
    assert [pictures.index(p) for p in pictures] == [0, 1, 2, 1, 4, 5, 6, 5, 0, 1, 2, 1]
    first = pictures[0]
    assert first.rgb.shape == (24, 32, 3)
    assert first.depth is not None
    assert first.depth.shape == (24, 32)
    assert first.intrinsics is not None
    assert not np.array_equal(first.rgb, pictures[4].rgb), "the scenes differ"
    again = next(open_source("synthetic", options))
    assert np.array_equal(again.rgb, first.rgb), "the seed decides the pictures"


def test_without_loop_the_synthetic_world_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "SCENES", 1)
    monkeypatch.setattr(sources, "SCENE_FRAMES", 2)
    options = SourceOptions(size=(16, 12), loop=False)
    pictures = list(open_source("synthetic", options))
    assert len(pictures) == 2
    assert pictures[0].depth is None


@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_a_picture_goes_out_with_camera_info_and_depth_under_one_header(
    eventually: Eventually, transport: str
) -> None:
    options = CameraOptions(
        NETWORK,
        reading=SourceOptions(depth=True),
        topic="/robot/front/image_raw",
        frame_id="optical",
        transport=transport,
    )
    got: dict[str, Any] = {}
    kind = "sensor_msgs/msg/CompressedImage" if transport == "compressed" else IMAGE
    suffix = "/compressed" if transport == "compressed" else ""
    topics = {
        f"image_raw{suffix}": kind,
        "camera_info": "sensor_msgs/msg/CameraInfo",
        "depth/image_raw": IMAGE,
    }
    with DdsNode("camera", network=NETWORK) as node, DdsNode("viewer", network=NETWORK) as viewer:
        publishers = CameraPublishers(node, options)
        for topic, kind in topics.items():
            viewer.create_subscription(
                f"/robot/front/{topic}", kind, lambda m, t=topic: got.update({t: m})
            )
        parts = (publishers.images, publishers._info, publishers._depth)
        eventually(
            lambda: all(part and part.subscription_count() for part in parts), "all listened to"
        )
        intrinsics = np.array([[100.0, 0, 3.5], [0, 100.0, 2.5], [0, 0, 1]])
        depth = np.full((6, 8), 1.5, np.float32)
        publishers.publish(Picture(picture(90), depth, intrinsics), 7 * 10**9)
        eventually(lambda: len(got) == 3, "all three messages")
    assert {m.header.stamp.sec for m in got.values()} == {7}
    assert {m.header.frame_id for m in got.values()} == {"optical"}
    info = got["camera_info"]
    assert (info.width, info.height, info.distortion_model) == (8, 6, "plumb_bob")
    assert info.k.reshape(3, 3).tolist() == intrinsics.tolist()
    assert info.p.reshape(3, 4)[:, :3].tolist() == intrinsics.tolist()
    assert got["depth/image_raw"].encoding == "32FC1"
    image = got[f"image_raw{suffix}"]
    if transport == "raw":
        assert (image.encoding, image.width, image.step) == ("rgb8", 8, 24)
    else:
        assert image.format == "rgb8; jpeg compressed bgr8"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"rate": 0.0}, "rate 0 Hz must be in 0 < rate <= 1000"),
        ({"rate": float("nan")}, "rate nan Hz"),
        ({"transport": "theora"}, "transport 'theora' must be raw or compressed"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        CameraOptions(NETWORK, **options)


def test_pictures_keep_their_rate_and_do_not_hurry_after_a_late_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(camera.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(camera.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    delays = iter([0.0, 0.0, 1.0, 0.0, 0.0, 0.0])

    def pictures() -> Any:
        for delay in delays:
            now[0] += delay
            yield delay

    moments = [now[0] for _ in camera.paced(pictures(), rate=10.0)]
    assert moments == pytest.approx([0.0, 0.1, 1.1, 1.1, 1.2, 1.3])


def test_the_command_ends_with_its_source_and_reports_what_it_skipped(folder: Path) -> None:
    with process(cli("camera", folder, "--no-loop", "--rate", 50)) as child:
        text, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    assert "15.png is skipped" in text
    assert "stopped after 3 pictures" in text


def test_the_command_fails_for_a_source_that_is_not_there() -> None:
    with process(cli("camera", "nowhere")) as child:
        text, _ = child.communicate(timeout=60)
    assert child.returncode == 2
    assert "zgs: source 'nowhere' does not exist" in text
    assert "Traceback" not in text


def test_frames_are_played_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (1, 2, 9, 10, 11, 100):
        Pillow.new("RGB", (4, 3), (number, 0, 0)).save(tmp_path / f"{number}.png")
    played = open_source(str(tmp_path), SourceOptions(loop=False))
    assert [int(picture.rgb[0, 0, 0]) for picture in played] == [1, 2, 9, 10, 11, 100]
