"""Positions in target_frame: what is waited for, what is counted, and that they are right."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from zgs_ros.clouds import make_cloud, places
from zgs_ros.config import NodeSettings, make_settings
from zgs_ros.evaluation.tracking import match_truth
from zgs_ros.message_types import MessageTypes
from zgs_ros.segmentation import Roi, Segment, Segmentation
from zgs_ros.streaming import frames, messages
from zgs_ros.streaming.bus import Bus, BusPort
from zgs_ros.streaming.clock import SimulatedClock
from zgs_ros.streaming.enrichment import Enrichment
from zgs_ros.streaming.frames import TF, TF_TYPE, Frames, TransformListener
from zgs_ros.streaming.pairing import DepthFeed
from zgs_ros.streaming.port import QosProfile
from zgs_ros.streaming.stream import Result
from zgs_ros.tools.camera import CameraOptions, CameraPublishers
from zgs_ros.tools.sources import Picture, SourceOptions
from zgs_ros.transforms import Transform, TransformBuffer

if TYPE_CHECKING:
    from zgs_ros.synthetic import Frame

SECOND = 1_000_000_000
TYPES = MessageTypes()


def tf(
    parent: str = "map",
    child: str = "camera",
    seconds: float = 1.0,
    x: float = 0.0,
    w: float = 1.0,
) -> Any:
    """A message with one transform."""
    stamp, turn = round(seconds * SECOND), (0.0, 0.0, 0.0, w)
    one = messages.transform_stamped(TYPES, stamp, parent, child, (x, 0.0, 0.0), turn)
    return TYPES.create(TF_TYPE, transforms=[one])


def find(known: Frames, seconds: float, wait: float = 0.0, source: str = "camera") -> Any:
    until = time.monotonic() + wait
    found = known.find("", "map", source, round(seconds * SECOND), until)
    return None if found is None else float(found.translation[0])


# Waiting


def test_a_transform_that_is_about_to_come_is_waited_for() -> None:
    known = Frames(TransformBuffer())
    known.offer(tf(seconds=1, x=1.0))
    later = threading.Timer(0.1, known.offer, [tf(seconds=3, x=3.0)])
    later.start()
    assert find(known, 2.0, wait=30.0) == pytest.approx(2.0)
    later.join()


def waits(known: Frames, seconds: float, source: str = "camera") -> bool:
    """Whether an image waits for its transform, in vain."""
    began = time.monotonic()
    assert find(known, seconds, 0.05, source) is None
    return time.monotonic() - began >= 0.05


def test_a_frame_that_never_comes_costs_one_wait() -> None:
    known = Frames(TransformBuffer())
    assert [waits(known, number, "nowhere") for number in range(1, 6)] == [True] + [False] * 4


def test_transforms_that_stopped_cost_one_wait_and_are_found_again() -> None:
    known = Frames(TransformBuffer())
    known.offer(tf(seconds=1))
    assert [waits(known, 2.0 + number) for number in range(4)] == [True, False, False, False]
    known.offer(tf(seconds=10))
    assert find(known, 9.0) == 0.0
    assert waits(known, 11.0), "after a success it is waited for again"


def test_transforms_that_are_always_too_late_cost_fewer_and_fewer_waits() -> None:
    known = Frames(TransformBuffer())
    waited = []
    for number in range(1, 40):
        known.offer(tf(seconds=float(number)))
        waited.append(waits(known, number + 0.5))
    assert [number for number, one in enumerate(waited) if one] == [0, 1, 3, 7, 15, 31]


def test_a_transform_that_is_too_old_to_come_is_not_waited_for() -> None:
    known = Frames(TransformBuffer())
    known.offer(tf(seconds=5))
    assert not waits(known, 4.0)


# Time that begins again


def test_a_clock_that_jumps_back_forgets_what_moves() -> None:
    clock = SimulatedClock()

    def tell(seconds: int) -> None:
        clock.offer(SimpleNamespace(clock=SimpleNamespace(sec=seconds, nanosec=0)))

    known = Frames(TransformBuffer(), clock.now_ns)
    tell(100)
    known.offer(tf("base", "lamp", x=7.0), static=True)
    known.offer(tf("map", "base", seconds=100, x=1.0))
    known.offer(tf("base", "camera", seconds=98))
    tell(97)
    known.offer(tf("base", "camera", seconds=97))
    assert find(known, 97.0) is None, "of the time before"
    known.offer(tf("map", "base", seconds=97, x=2.0))
    assert find(known, 97.0) == 2.0
    assert find(known, 97.0, source="lamp") == 9.0


def test_transforms_that_begin_again_without_a_clock_are_believed_after_a_while() -> None:
    known = Frames(TransformBuffer())
    known.offer(tf(seconds=1000, x=1.0))
    for number in range(frames.RESTART_COUNT):
        assert find(known, 5.0) is None
        known.offer(tf(seconds=5.0 + 0.1 * number, x=2.0))
    assert find(known, 5.9) == 2.0


def test_a_late_transform_now_and_then_does_not_begin_anew() -> None:
    known = Frames(TransformBuffer())
    for number in range(3 * frames.RESTART_COUNT):
        known.offer(tf(seconds=1000 + number))
        known.offer(tf(seconds=5))
    assert find(known, 1000 + number) == 0.0


# Bad input

BAD = {
    "not finite": tf(x=float("nan")),
    "quaternion of norm 0.5": tf(w=0.5),
    "'camera' is in itself": tf("camera"),
    "has 0 characters": tf(""),
    "has 300 characters": tf(child="x" * 300),
    "before 1970": tf(seconds=-5.0),
}


@pytest.mark.parametrize("text", BAD)
def test_bad_transforms_are_left_out_and_counted(
    text: str, caplog: pytest.LogCaptureFixture
) -> None:
    known = Frames(TransformBuffer())
    known.offer(BAD[text])
    assert text in caplog.text
    assert known.facts() == {"tf: bad transforms left out": "1"}
    known.offer(tf(x=1.0))
    assert find(known, 1.0) == 1.0


def test_no_more_frames_are_known_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_FRAMES", 3)
    known = Frames(TransformBuffer())
    for number in range(10):
        known.offer(tf(child=f"frame_{number}"))
    assert known.facts() == {"tf: bad transforms left out": "7"}
    known.offer(tf(child="frame_0", seconds=2, x=1.0))
    assert find(known, 2.0, source="frame_0") == 1.0


def test_a_slash_before_a_name_is_passed_over() -> None:
    known = Frames(TransformBuffer())
    known.offer(tf("/map", "/camera", x=1.0))
    assert find(known, 1.0) == 1.0


# Listening


def test_best_effort_and_latched_publishers_are_heard_whoever_comes_first() -> None:
    bus = Bus()
    robot, node = (BusPort(bus, name, factory=TYPES) for name in ("robot", "zgs"))
    latched = robot.create_publisher("/tf_static", TF_TYPE, QosProfile(transient_local=True))
    other = robot.create_publisher("/tf_static", TF_TYPE, QosProfile(transient_local=True))
    latched.publish(tf("base", "camera", x=1.0))
    other.publish(tf("base", "arm", x=5.0))
    moving = robot.create_publisher(TF, TF_TYPE, QosProfile(reliable=False))
    listener = TransformListener(node, TransformBuffer())
    moving.publish(tf("map", "base", x=10.0))
    assert find(listener.frames, 1.0) == 11.0
    assert find(listener.frames, 1.0, source="arm") == 15.0
    listener.close()
    moving.publish(tf("map", "base", seconds=2.0))
    assert find(listener.frames, 2.0) is None


# Positions

FAR = 100.0
"""What is farther away [m] is not what a depth camera sees; floats of the cloud are coarse there."""


def true_segmentation(instances: NDArray[np.uint16]) -> Segmentation:
    numbers = [int(number) for number in np.unique(instances)]
    nothing = np.empty(0, np.float32)
    segments = (
        Segment(n, (), Roi(0, 0, 1, 1), int((instances == n).sum()), (0.0, 0.0), nothing)
        for n in numbers
    )
    return Segmentation(instances, tuple(segments))


def enriched(rgb: Any, depth: Any, info: Any, header: Any, seen: Any, made: Enrichment) -> Result:
    feed = DepthFeed(0.05)
    feed.offer_info(info)
    feed.offer(messages.depth_image(TYPES, header, depth))
    return made(Result("", header, rgb, seen, 0.0, feed.expect(header)))


def test_a_camera_that_moves_sees_things_where_they_are_in_the_map() -> None:
    """True masks: half of the errors are below 3 % of the distance, clouds within a millimetre."""
    found = seen_on_the_move(lambda frame: true_segmentation(frame.instances), (3,), 96, 3)
    assert len(found.errors) > 12
    assert np.percentile(found.errors, 50) < 0.03
    assert found.gap < 1e-3


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_with_the_bundled_models_things_are_where_they_are_in_the_map() -> None:
    from zgs_ros.segmenter import load_segmenter

    segmenter = load_segmenter(make_settings(NodeSettings, {"profile": "mini"}))
    found = seen_on_the_move(lambda frame: segmenter.segment(frame.rgb), (1, 2, 3), 240, 20)
    assert len(found.errors) > 100
    assert np.percentile(found.errors, 50) < 0.03
    assert found.gap < 1e-3


class OnTheMove(NamedTuple):
    """Errors of things' positions in the map [share of the distance], and the largest gap between a
    cloud and the depth that it is of [m]."""

    errors: list[float]
    gap: float


def seen_on_the_move(
    see: Callable[[Frame], Segmentation], seeds: Sequence[int], height: int, count: int
) -> OnTheMove:
    """What a camera that moves through scenes makes of them with ``target_frame: map``.

    The camera's transforms are published by its own tool at 50 Hz, at other times than the images.
    """
    from zgs_ros.synthetic import SyntheticCamera

    bus = Bus()
    driver, node = (BusPort(bus, name, factory=TYPES) for name in ("camera", "zgs"))
    settings = {"depth.enabled": True, "target_frame": "map", "tracking.enabled": False}
    made = Enrichment(make_settings(NodeSettings, settings), node.clock)
    listener = TransformListener(node, TransformBuffer())
    made.frames = listener.frames
    options = CameraOptions(None, reading=SourceOptions(depth=True))  # type: ignore[arg-type]
    publishers = CameraPublishers(driver, options)
    infos: list[Any] = []
    node.create_subscription("/camera/camera_info", "sensor_msgs/msg/CameraInfo", infos.append)
    errors: list[float] = []
    gap = 0.0
    for place, seed in enumerate(seeds, start=1):
        fine = SyntheticCamera(seed, height, height * 4 // 3, rate_hz=100.0)
        coarse = SyntheticCamera(seed, height, height * 4 // 3, rate_hz=0.4)
        start = 1000 * place * SECOND
        for number in range(1, count + 1):
            frame = coarse.frame(number)
            for index in range(number * 250 - 5, number * 250 + 6, 2):
                # Its transforms alone matter here: between two of them lies the image.
                pose = fine.scene(index).camera.pose()
                picture = Picture(frame.rgb, frame.depth, frame.intrinsics, pose)
                publishers.publish(picture, start + index * SECOND // 100)
            header = messages.header(TYPES, start + round(number / 0.4 * SECOND), "camera")
            seen = see(frame)
            result = enriched(frame.rgb, frame.depth, infos[-1], header, seen, made)
            assert result.surface is not None, made.problems()
            known = np.isfinite(frame.depth)
            rays, depth = result.surface.camera.rays, np.where(known, frame.depth, 0)
            optical = np.concatenate([rays, np.ones_like(rays[..., :1])], -1) * depth[..., None]
            true = Transform.of(frame.pose).apply(optical)
            cloud = make_cloud(result.surface, frame.rgb, seen)
            near = known & (frame.depth < FAR)
            back = result.surface.transform.inverse().apply(places(cloud)[near])
            gap = max(gap, float(np.abs(back[:, 2] - frame.depth[near]).max()))
            for thing, segment in match_truth(frame.instances, result.segmentation).items():
                if segment.placement and thing in frame.things and not frame.things[thing].is_stuff:
                    surface = np.median(true[(frame.instances == thing) & known], axis=0)
                    distance = np.linalg.norm(surface - frame.pose[:3, 3])
                    off = np.linalg.norm(segment.placement.position - surface)
                    errors.append(float(off / distance))
    listener.close()
    p50, p95 = np.percentile(errors, [50, 95])
    print(f"{len(errors)} places: p50 {p50:.2%}, p95 {p95:.2%}; clouds within {gap * 1e3:.4f} mm")
    return OnTheMove(errors, gap)


def located(frame_id: str, target: str, *offers: Any) -> tuple[Result, Enrichment]:
    """An image at 2.0 s whose depth is 2 m everywhere."""
    settings = {"depth.enabled": True, "target_frame": target, "transform_timeout": 0.0}
    made = Enrichment(
        make_settings(NodeSettings, settings), BusPort(Bus(), "zgs", factory=TYPES).clock
    )
    made.frames = Frames(TransformBuffer())
    for message in offers:
        made.frames.offer(message)
    matrix = np.array([20.0, 0.0, 7.5, 0.0, 20.0, 5.5, 0.0, 0.0, 1.0])
    info = TYPES.create_partly(
        "sensor_msgs/msg/CameraInfo", height=12, width=16, distortion_model="plumb_bob", k=matrix
    )
    header = messages.header(TYPES, 2 * SECOND, frame_id)
    seen = true_segmentation(np.ones((12, 16), np.uint16))
    depth = np.full((12, 16), 2, np.float32)
    return enriched(np.zeros((12, 16, 3), np.uint8), depth, info, header, seen, made), made


MISSING: list[tuple[str, tuple[Any, ...], str]] = [
    ("camera", (), "nobody publishes a transform to or from 'camera'"),
    (
        "camera",
        (tf("base", "camera"), tf("map", "odom")),
        "'map' and 'camera' are in two trees: nobody publishes a transform between 'map' and 'base'",
    ),
    ("camera", (tf(seconds=1.5),), "from 'camera' to 'map' is 0.50 s older than the image"),
    ("camera", (tf(seconds=9.0),), "from 'camera' to 'map' is younger than the image"),
    ("", (tf(),), "its header.frame_id is empty"),
]


@pytest.mark.parametrize(("frame_id", "offers", "text"), MISSING, ids=[m[2] for m in MISSING])
def test_without_a_transform_there_are_no_positions_and_the_link_is_named(
    frame_id: str, offers: tuple[Any, ...], text: str
) -> None:
    result, made = located(frame_id, "map", *offers)
    [segment] = result.segmentation.segments
    assert (segment.placement, result.surface, result.position_frame) == (None, None, "map")
    assert made.facts()["depth: no transform to target_frame"] == "1"
    [problem] = made.problems()
    assert problem.startswith("the latest image has no transform to 'map' (target_frame): ")
    assert text in problem
    assert made.lost() == [
        "images without positions: 1, because: no transform to target_frame",
    ]


@pytest.mark.parametrize(
    ("target", "offers", "x"),
    [
        ("", (), 0.0),
        ("camera", (), 0.0),
        ("map", (tf(seconds=1.0, x=1.0), tf(seconds=3.0, x=3.0)), 2.0),
    ],
)
def test_positions_are_in_the_frame_that_is_asked_for(
    target: str, offers: tuple[Any, ...], x: float
) -> None:
    result, made = located("camera", target, *offers)
    [segment] = result.segmentation.segments
    assert segment.placement is not None
    assert segment.placement.position == pytest.approx((x, 0.0, 2.0), abs=1e-5)
    assert result.position_frame == (target or "camera")
    assert made.problems() == []
