"""Depth: decoded, and turned into places."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from zgs_ros.config import NodeSettings, make_settings
from zgs_ros.segmentation import Label, Placement, Roi, Segment, Segmentation
from zgs_ros.streaming.clock import SystemClock
from zgs_ros.streaming.depth import BadDepth, decode_depth, read_camera
from zgs_ros.streaming.enrichment import Enrichment
from zgs_ros.streaming.pairing import DepthFeed
from zgs_ros.streaming.stream import Result
from zgs_ros.streaming.topics import InputTopics, input_topics

SIZE = HEIGHT, WIDTH = 12, 16
K = (20.0, 0.0, 7.5, 0.0, 20.0, 5.5, 0.0, 0.0, 1.0)


def header(seconds: float = 1.0) -> Any:
    nanoseconds = round(seconds * 1e9)
    stamp = SimpleNamespace(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)
    return SimpleNamespace(stamp=stamp, frame_id="optical")


def depth_message(values: NDArray[Any], seconds: float = 1.0, **changes: Any) -> Any:
    fields: dict[str, Any] = {
        "header": header(seconds),
        "encoding": {"f": "32FC1", "u": "16UC1"}[values.dtype.kind],
        "height": values.shape[0],
        "width": values.shape[1],
        "step": values.strides[0],
        "is_bigendian": 0,
        "data": values.tobytes(),
    }
    return SimpleNamespace(**{**fields, **changes})


def info(**changes: Any) -> Any:
    fields: dict[str, Any] = {
        "k": K,
        "d": (),
        "p": [0.0] * 12,
        "distortion_model": "plumb_bob",
        "height": HEIGHT,
        "width": WIDTH,
        "binning_x": 0,
        "binning_y": 0,
        "roi": SimpleNamespace(x_offset=0, y_offset=0, height=0, width=0, do_rectify=False),
    }
    return SimpleNamespace(**{**fields, **changes})


METRES = np.array([[0.5, 1.25], [np.nan, np.inf]], np.float32)


def test_metres_come_as_they_are() -> None:
    assert np.array_equal(decode_depth(depth_message(METRES)), METRES, equal_nan=True)


@pytest.mark.parametrize("encoding", ["16UC1", "mono16"])
def test_millimetres_become_metres(encoding: str) -> None:
    millimetres = np.array([[0, 1], [1500, 65535]], np.uint16)
    decoded = decode_depth(depth_message(millimetres, encoding=encoding))
    assert decoded.dtype == np.float32
    assert decoded == pytest.approx(np.array([[0, 0.001], [1.5, 65.535]]))


@pytest.mark.parametrize("values", [METRES, np.array([[1, 2], [300, 4]], np.uint16)])
def test_padding_and_the_other_byte_order_are_understood(values: NDArray[Any]) -> None:
    swapped = values.astype(values.dtype.newbyteorder(">")).view(np.uint8).reshape(2, -1)
    padded = np.hstack([swapped, np.full((2, 3), 7, np.uint8)])
    message = depth_message(values, step=padded.shape[1], is_bigendian=1, data=padded.tobytes())
    plain = decode_depth(depth_message(values))
    assert np.array_equal(decode_depth(message), plain, equal_nan=True)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"encoding": "rgb8"}, "depth encoding 'rgb8' is not supported (allowed: 16UC1, 32FC1"),
        ({"width": 0}, "width 0 must be at least 1"),
        ({"step": 3}, "step 3 is shorter than a row"),
        ({"data": b"12"}, "data has 2 bytes"),
        ({"width": 30_000, "step": 120_000}, "data has 16 bytes"),
    ],
)
def test_depth_that_is_none_is_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(BadDepth) as caught:
        decode_depth(depth_message(METRES, **changes))
    assert text in str(caught.value)


def test_a_camera_info_becomes_a_camera() -> None:
    camera = read_camera(info(d=[-0.1, 0.0, 0.0, 0.0, 0.0]), SIZE).camera
    assert camera.matrix[1].tolist() == [0.0, 20.0, 5.5]
    assert (camera.size, camera.distortion[0]) == ((HEIGHT, WIDTH), -0.1)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"k": [0.0] * 9}, "fx = 0, fy = 0"),
        ({"width": 0}, "must be at least 1 x 1"),
    ],
)
def test_a_camera_info_that_says_nothing_is_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(BadDepth, match=text):
        read_camera(info(**changes), SIZE)


def flat(metres: float, seconds: float = 1.0) -> Any:
    return depth_message(np.full((HEIGHT, WIDTH), metres, np.float32), seconds)


def result(ticket: Any, camera: str = "") -> Result:
    label_map = np.ones((HEIGHT, WIDTH), np.uint16)
    seen = Segment(
        1,
        (Label("wall", 0.5),),
        Roi(0, 0, WIDTH, HEIGHT),
        label_map.size,
        (7.5, 5.5),
        np.ones(1, np.float32),
    )
    segmentation = Segmentation(label_map, (seen,), "flat", {"dino": 0.1})
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    return Result(camera, header(), pixels, segmentation, 0.0, ticket)


def enrichment() -> Enrichment:
    settings = make_settings(NodeSettings, {"depth.enabled": True, "tracking.enabled": False})
    return Enrichment(settings, SystemClock())


def place(made: Enrichment, feed: DepthFeed, camera: str = "") -> Placement | None:
    return made(result(feed.expect(header()), camera)).segmentation.segments[0].placement


def test_depth_gives_segments_a_place() -> None:
    made, feed = enrichment(), DepthFeed(0.05, patience=0.1)
    feed.offer_info(info())
    feed.offer(flat(2.0))
    placement = place(made, feed)
    assert placement is not None
    assert placement.position == pytest.approx((0.0, 0.0, 2.0), abs=0.1)
    assert (made.facts(), made.problems()) == ({"depth: used": "1"}, [])
    times = made(result(feed.expect(header()))).segmentation.stage_times
    assert list(times) == ["dino", "localization"]


def _nothing(feed: DepthFeed) -> None:
    feed.offer_info(info())


def _no_info(feed: DepthFeed) -> None:
    feed.offer(flat(2.0))


def _late(feed: DepthFeed) -> None:
    feed.offer_info(info())
    feed.offer(flat(2.0, 0.5))


def _odd(feed: DepthFeed) -> None:
    feed.offer_info(info())
    feed.offer(depth_message(np.ones((HEIGHT, HEIGHT), np.float32)))


def _uncalibrated(feed: DepthFeed) -> None:
    feed.offer_info(info(k=[0.0] * 9))
    feed.offer(flat(2.0))


def _broken(feed: DepthFeed) -> None:
    feed.offer_info(info())
    feed.offer(depth_message(METRES, data=b""))


def _no_message(feed: DepthFeed) -> None:
    feed.offer_info(info())
    feed.offer(SimpleNamespace(header=header()))


def _holes(feed: DepthFeed) -> None:
    feed.offer_info(info())
    feed.offer(flat(np.nan))


TROUBLES = [
    (_nothing, "no depth image", "the latest image has no depth image (depth.slop 0.05 s)"),
    (_no_info, "no camera_info", "the latest image has no camera_info"),
    (_late, "no depth image", "the latest image has no depth image"),
    (_odd, "unusable depth or camera_info", "depth of 12 x 12 does not fit an image of 16 x 12"),
    (
        _uncalibrated,
        "unusable depth or camera_info",
        "camera_info: the camera matrix has focal lengths fx = 0",
    ),
    (_no_message, "unusable depth or camera_info", "AttributeError: "),
    (_broken, "unusable depth or camera_info", "depth: data has 0 bytes"),
    (_holes, "used", ""),
]


@pytest.mark.parametrize(("trouble", "counted", "text"), TROUBLES)
def test_without_usable_depth_segments_come_without_a_place(
    trouble: Any, counted: str, text: str
) -> None:
    made, feed = enrichment(), DepthFeed(0.05, patience=0.1)
    trouble(feed)
    assert place(made, feed) is None
    assert made.facts() == {f"depth: {counted}": "1"}
    assert text in "".join(made.problems())
    feed.offer_info(info())
    feed.offer(flat(2.0))
    assert place(made, feed) is not None, "the next one has it again"
    assert made.problems() == []


@pytest.mark.parametrize(
    ("calibration", "topic", "wide"),
    [
        ("auto", "/camera/image_raw", 2.0),
        ("auto", "/camera/image_rect", 4.0),
        ("raw", "/camera/image_rect", 2.0),
        ("rectified", "/camera/image_raw", 4.0),
    ],
)
def test_rectified_images_are_placed_by_the_projection_of_rectified_images(
    calibration: str, topic: str, wide: float
) -> None:
    given = {"depth.enabled": True, "depth.calibration": calibration}
    made = Enrichment(make_settings(NodeSettings, given), SystemClock(), {"": topic})
    feed = DepthFeed(0.05, patience=0.1)
    feed.offer_info(info(p=[10, 0, 7.5, 0, 0, 10, 5.5, 0, 0, 0, 1, 0]))  # half as long as in K
    feed.offer(flat(2.0))
    placement = place(made, feed)
    assert placement is not None
    assert placement.size[0] * 20 / (WIDTH - 1) == pytest.approx(wide, rel=0.05)


def test_a_camera_may_change_its_resolution() -> None:
    made, feed = enrichment(), DepthFeed(0.05, patience=0.1)
    feed.offer(flat(2.0))
    feed.offer_info(info())
    first = place(made, feed)
    matrix = np.diag([2.0, 2.0, 1.0]) @ np.array(K).reshape(3, 3)
    matrix[:2, 2] += 0.5  # the middle of the first pixel is half a pixel from the edge
    feed.offer_info(info(k=matrix.ravel(), height=2 * HEIGHT, width=2 * WIDTH))
    second = place(made, feed)
    assert first is not None
    assert second is not None
    assert second.size == pytest.approx(first.size)


def test_problems_name_the_camera() -> None:
    made, feed = enrichment(), DepthFeed(0.05, patience=0.1)
    place(made, feed, "left")
    [problem] = made.problems()
    assert problem.startswith("left: the latest image has no depth image")


NAMES: list[tuple[tuple[str, ...], dict[str, str], dict[str, InputTopics]]] = [
    (
        ("",),
        {},
        {"": InputTopics("/camera/image_raw", "/camera/depth/image_raw", "/camera/camera_info")},
    ),
    (("",), {"image": "image"}, {"": InputTopics("image", "depth/image_raw", "camera_info")}),
    (
        ("",),
        {"image": "/a/rgb", "depth": "/b/depth", "camera_info": "/c/info"},
        {"": InputTopics("/a/rgb", "/b/depth", "/c/info")},
    ),
    (
        ("front", "left"),
        {},
        {
            name: InputTopics(
                f"/{name}/image_raw", f"/{name}/depth/image_raw", f"/{name}/camera_info"
            )
            for name in ("front", "left")
        },
    ),
    (
        ("front",),
        {"image": "/robot/{camera}/color", "depth": "/robot/{camera}/aligned"},
        {
            "front": InputTopics(
                "/robot/front/color", "/robot/front/aligned", "/robot/front/camera_info"
            )
        },
    ),
]


@pytest.mark.parametrize(("cameras", "given", "expected"), NAMES)
def test_topics_follow_from_the_cameras_names(
    cameras: tuple[str, ...], given: dict[str, str], expected: dict[str, InputTopics]
) -> None:
    assert input_topics(cameras, **given) == expected


@pytest.mark.parametrize("what", ["image", "depth", "camera_info"])
def test_several_cameras_need_topics_of_their_own(what: str) -> None:
    with pytest.raises(ValueError, match=rf"{what} topic '/same' would be that of 2 cameras"):
        input_topics(("front", "left"), **{what: "/same"})
