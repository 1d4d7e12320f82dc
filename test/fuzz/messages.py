"""Serialized messages of every type that is subscribed to or served, and what is made of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest
from depth_support import compressed_depth
from rosbags.serde import SerdeError

from fuzz.engine import Refused, target
from zgs_ros.classes.classifier import Classifier
from zgs_ros.classes.registry import ClassRegistry
from zgs_ros.clouds import Surface
from zgs_ros.config import NodeSettings, make_settings
from zgs_ros.geometry import CameraModel, locate
from zgs_ros.message_types import MessageTypes
from zgs_ros.segmentation import Label, Placement, Roi, Segment, Segmentation
from zgs_ros.streaming import messages
from zgs_ros.streaming.answers import ServiceError, Services
from zgs_ros.streaming.clock import SimulatedClock
from zgs_ros.streaming.depth import BadDepth, decode_depth, read_camera
from zgs_ros.streaming.frames import TF_TYPE, Frames, frame_name
from zgs_ros.streaming.images import BadImage
from zgs_ros.streaming.interface import endpoints
from zgs_ros.streaming.pairing import DepthFeed
from zgs_ros.streaming.services import SERVICES
from zgs_ros.streaming.stream import Result
from zgs_ros.tools.following import FramePairs, node_statuses, status_values, stream_values
from zgs_ros.tools.web.board import Board, Health, Picture
from zgs_ros.transforms import Transform, TransformBuffer, chain

TYPES = MessageTypes("jazzy")


def _segmentation() -> Segmentation:
    labels = np.array([[1, 1, 2, 2], [1, 1, 0, 2], [1, 0, 0, 2]], np.uint16)
    embedding = np.array([0.6, 0.8], np.float32)
    segments = tuple(
        Segment(
            number,
            (Label(text, 0.5), Label("another", 0.25)),
            Roi(number, 0, 2, 3),
            4,
            (1.0, 1.5),
            embedding,
            number,
            Placement((0.1, 0.2, 2.0), (1.0, 1.0, 1.0)) if number == 1 else None,
        )
        for number, text in ((1, "mug"), (2, "table"))
    )
    return Segmentation(labels, segments, "model")


def _header(stamp: int = 1_700_000_000_123_456_789) -> Any:
    return messages.header(TYPES, stamp, "camera")


def _examples() -> dict[str, Any]:
    """A message of each type."""
    image = messages.rgb_image(TYPES, _header(), np.zeros((3, 4, 3), np.uint8))
    create = TYPES.create_partly
    query = create("zgs_ros/msg/Query", text="a mug", max_results=3)
    status = create(
        "diagnostic_msgs/msg/DiagnosticStatus",
        level=1,
        name="zgs: stream",
        message="ok",
        values=[create("diagnostic_msgs/msg/KeyValue", key="received", value="12")],
    )
    segments = [messages.segment(TYPES, one) for one in _segmentation().segments]
    groups = [create("zgs_ros/msg/ClassGroup", id=3, name="floor", phrases=["carpet", "tiles"])]
    watches = [create("zgs_ros/msg/Watch", phrase="a mug", threshold=0.25, margin=0.0)]
    requests: dict[str, dict[str, Any]] = {
        "zgs_ros/srv/ObjectCloud": {"segment_id": 1},
        "zgs_ros/srv/QuerySegments": {"text": "a mug"},
        "zgs_ros/srv/SegmentImage": {"image": image},
        "semantic_inference_msgs/srv/EncodeFeature": {"prompt": "a mug"},
        "zgs_ros/srv/SegmentMask": {"track_id": 1},
        "zgs_ros/srv/SetClasses": {"open": True, "groups": groups},
        "zgs_ros/srv/SetWatches": {"watches": watches},
        "std_srvs/srv/SetBool": {"data": True},
    }
    made = [
        image,
        messages.jpeg_image(TYPES, _header(), np.zeros((3, 4, 3), np.uint8), 80),
        create("sensor_msgs/msg/CameraInfo", header=_header(), k=K, d=np.array([0.1] * 5)),
        create(TF_TYPE, transforms=[_transform("base", "map"), _transform("camera", "base")]),
        messages.segment_array(TYPES, _header(), _segmentation(), 0.25),
        query,
        create("zgs_ros/msg/QueryResult", query=query, success=True, segments=segments),
        create("zgs_ros/msg/Classes", open=True, groups=groups),
        create("zgs_ros/msg/Watches", watches=watches),
        create("diagnostic_msgs/msg/DiagnosticArray", header=_header(), status=[status]),
        create("rosgraph_msgs/msg/Clock", clock=_header().stamp),
    ]
    made += [create(f"{row.type_name}_Request", **requests[row.type_name]) for row in SERVICES]
    found = {one.__msgtype__: one for one in made}
    for transport, with_depth in product(("raw", "compressed"), (False, True)):
        settings = make_settings(
            NodeSettings, {"image_transport": transport, "depth.enabled": with_depth}
        )
        read = {end.type_name for end in endpoints(settings) if end.direction == "in"}
        assert read <= found.keys(), read - found.keys()
    return found


def _transform(
    child: str,
    parent: str,
    stamp: int = 1_700_000_000_000_000_000,
    moved: float = 1.0,
    turned: tuple[float, ...] = (0.0, 0.0, 0.0, 1.0),
) -> Any:
    return messages.transform_stamped(TYPES, stamp, parent, child, (moved, 0.0, -moved), turned)


K = np.array([40.0, 0, 2, 0, 40, 1.5, 0, 0, 1])
EXAMPLES = _examples()
KINDS = tuple(EXAMPLES)


def _seeds() -> Iterator[bytes]:
    for number, example in enumerate(EXAMPLES.values()):
        yield bytes([number]) + bytes(TYPES.serialize(example))
    for kind in ("32FC1 png", "16UC1 rvl"):
        depth = compressed_depth(TYPES, _header(), np.full((3, 4), 2, np.float32), kind)
        yield bytes([KINDS.index(depth.__msgtype__)]) + bytes(TYPES.serialize(depth))


def _read_frames(message: Any) -> None:
    pairs = FramePairs(overlays=False)
    pairs.add_result(message, time.time_ns())
    frames = pairs.take()
    if not frames:
        raise Refused
    [frame] = frames
    json.dumps(frame.to_dict(), allow_nan=False)
    board = Board("/zgs")
    board.show_picture(
        "", Picture(frame.segmentation, b"", 1, frame.latency, frame.processing_time)
    )
    json.dumps(board.state(), allow_nan=False)


def _read_diagnostics(message: Any) -> None:
    stream_values(message, "/zgs")
    health = {
        name: Health(status.level, status.message, status_values(status))
        for name, status in node_statuses(message, "/zgs").items()
    }
    board = Board("/zgs")
    board.show_health(Health(0, ""), health)
    json.dumps(board.state(), allow_nan=False)


def _pair(message: Any) -> None:
    feed = DepthFeed(0.05, patience=0.0)
    feed.offer(message)
    ticket = feed.expect(message.header)
    feed.offer_info(message)
    assert ticket.wait() is None
    assert ticket.message is message


def _read_compressed_depth(message: Any) -> None:
    try:
        assert decode_depth(message, 2**20).dtype == np.float32
    except BadDepth:
        raise Refused from None


def _read_transforms(message: Any) -> None:
    frames = Frames(TransformBuffer())
    frames.offer(message)
    for one in message.transforms[:4]:
        _look_up(frames, one.header.frame_id, one.child_frame_id, messages.stamp_ns(one.header))


def _look_up(frames: Frames, to: str, source: str, stamp: int, is_tree: bool = False) -> None:
    """In a tree there and back is where it was; what is not known is explained."""
    to, source = frame_name(to), frame_name(source)
    there = frames.find("", to, source, stamp)
    if there is None:
        assert frames.explain(to, source, stamp)
        return
    assert there.rotation @ there.rotation.T == pytest.approx(np.eye(3), abs=1e-6)
    back = frames.find("", source, to, stamp) if is_tree else None
    if back is not None and (np.abs([there.translation, back.translation]) < 1e6).all():
        both = back @ there
        assert both.rotation == pytest.approx(np.eye(3), abs=1e-6)
        assert both.translation == pytest.approx(np.zeros(3), abs=1e-3)


CONSUMERS: dict[str, Callable[[Any], None]] = {
    "sensor_msgs/msg/CompressedImage": _read_compressed_depth,
    TF_TYPE: _read_transforms,
    "sensor_msgs/msg/Image": _pair,
    "zgs_ros/msg/SegmentArray": _read_frames,
    "diagnostic_msgs/msg/DiagnosticArray": _read_diagnostics,
    "rosgraph_msgs/msg/Clock": lambda message: SimulatedClock().offer(message),
}


@target(SerdeError, seeds=_seeds)
def cdr(data: bytes) -> None:
    """A message of the type that the first byte tells; one that is read can be written."""
    kind = KINDS[(data[0] if data else 0) % len(KINDS)]
    message = TYPES.deserialize(data[1:], kind)
    written = bytes(TYPES.serialize(message))
    assert bytes(TYPES.serialize(TYPES.deserialize(written, kind))) == written
    if kind in CONSUMERS:
        CONSUMERS[kind](message)


FRAMES = ("map", "odom", "base", "/base", "camera", "left", "right", "x" * 300, "", "\u00e9")
TURNS = (
    (0.0, 0.0, 0.0, 1.0),
    (0.0, 0.0, 0.0, -1.0),
    (0.5, -0.5, 0.5, -0.5),
    (1.0, 0.0, 0.0, 0.0),
    (0.0, 0.0, 0.6, 0.8),
    (0.0, 0.0, 0.0, 1.005),
    (0.0, 0.0, 0.0, 0.0),
    (float("nan"), 0.0, 0.0, 1.0),
    (1e200, 0.0, 0.0, 1e200),
)
MOVES = (0.0, 1.0, -2.5, 1e5, 1e18, 1e308, float("inf"), float("nan"))
TIMES = (0, 10**6, 10**7, 10**9, 2 * 10**9, 30 * 10**9, 2**62, -(10**9))
"""Steps from one transform to the next [ns]."""


@target(
    seeds=lambda: (
        bytes.fromhex("02000001" + "24000401" + "24030400" + "24030200" + step + "45010100")
        for step in ("24030000", "24070000", "42010000", "24050003", "24020900")
    ),
    longest=400,
)
def transforms(data: bytes) -> None:
    """What /tf and /tf_static may tell, in four bytes for each transform, and what is made of it."""
    now = [10**18]
    frames = Frames(TransformBuffer(), lambda: now[0])
    stamp, asked = now[0], []
    parents: dict[str, set[str]] = {}
    for start in range(0, len(data) - 3, 4):
        pair, step, turn, flags = data[start : start + 4]
        parent, child = FRAMES[(pair >> 4) % len(FRAMES)], FRAMES[(pair & 15) % len(FRAMES)]
        stamp = max(-(2**31), min(stamp + TIMES[step % len(TIMES)], 2**60))
        moved, turned = MOVES[turn // 16 % len(MOVES)], TURNS[turn % len(TURNS)]
        message = TYPES.create(
            TF_TYPE, transforms=[_transform(child, parent, stamp, moved, turned)]
        )
        now[0] += 10**8 if not flags & 2 else -(10**10)
        frames.offer(message, static=bool(flags & 1))
        asked.append((parent, child, stamp - 5 * 10**5 * (flags >> 4)))
        parents.setdefault(frame_name(child), set()).add(frame_name(parent))
    only = {child: next(iter(known)) for child, known in parents.items()}
    is_tree = all(len(known) == 1 for known in parents.values()) and not any(
        chain(only, frame)[-1] in only for frame in only
    )
    for to, source, when in [*asked[-3:], (asked[0][0], asked[-1][1], stamp)] if asked else ():
        for time_asked in {when, 0}:
            _look_up(frames, to, source, time_asked, is_tree)
    json.dumps(frames.facts())


def _camera_seeds() -> Iterator[bytes]:
    projection = np.array([40.0, 0, 2, -3, 0, 40, 1.5, 0, 0, 0, 1, 0])
    region = TYPES.create(
        "sensor_msgs/msg/RegionOfInterest",
        x_offset=2,
        y_offset=2,
        height=6,
        width=8,
        do_rectify=True,
    )
    for model, number in (
        ("plumb_bob", 5),
        ("rational_polynomial", 8),
        ("", 0),
        ("equidistant", 4),
    ):
        for first, fields in (
            (0, {"height": 3, "width": 4}),
            (1, {"height": 6, "width": 8, "binning_x": 2, "binning_y": 2}),
            (1, {"height": 12, "width": 16, "roi": region}),
            (0x80, {"height": 12, "width": 16, "roi": region, "binning_x": 2, "binning_y": 2}),
            (0x83, {"height": 3, "width": 4}),
        ):
            info = TYPES.create_partly(
                "sensor_msgs/msg/CameraInfo",
                header=_header(),
                distortion_model=model,
                d=np.array([0.01] * number),
                k=K,
                r=np.eye(3).reshape(9),
                p=projection,
                **fields,
            )
            yield bytes([first]) + bytes(TYPES.serialize(info))


@target(SerdeError, BadDepth, seeds=_camera_seeds)
def camera_info(data: bytes) -> None:
    """sensor_msgs/CameraInfo, with which depth becomes places.

    The first byte says how large the image is, and whether it is rectified.
    """
    first = data[0] if data else 0
    scale = 1 + first % 8
    info = TYPES.deserialize(data[1:], "sensor_msgs/msg/CameraInfo")
    calibration = read_camera(info, (3 * scale, 4 * scale), bool(first & 0x80))
    assert calibration.source
    depth = np.full((3 * scale, 4 * scale), 2, np.float32)
    for segment in locate(_segmentation(), depth, calibration.camera).segments:
        if segment.placement:
            assert np.isfinite([*segment.placement.position, *segment.placement.size]).all()


@cache
def _seen() -> tuple[Any, Result]:
    """A segmenter, and a result of it with depth."""
    from zgs_ros.segmenter import load_segmenter

    segmenter = load_segmenter(make_settings(NodeSettings, {"profile": "mini"}))
    image = np.zeros((48, 64, 3), np.uint8)
    image[:24] = 200
    depth = np.full((48, 64), 2, np.float32)
    depth[:, :9] = np.nan
    camera = CameraModel(np.array([[60.0, 0, 31.5], [0, 60, 23.5], [0, 0, 1]]), (48, 64))
    surface = Surface(depth, camera, "map", Transform.identity(), upright=True)
    return segmenter, Result(
        "front",
        _header(),
        image,
        segmenter.segment(image),
        0.0,
        surface=surface,
        target_frame="map",
    )


TEXTS = ("a mug", "something to sit on", "", " \n", "x" * 600, "\u00e9\U0001f600 &amp; <b>")


def _request_seeds() -> Iterator[bytes]:
    create = TYPES.create
    requests: list[Any] = []
    for text, camera in product(TEXTS, ("", "front", "rear")):
        requests += [
            create("zgs_ros/srv/QuerySegments_Request", text=text, max_results=2, camera=camera)
        ]
    for text in TEXTS:
        requests += [create("semantic_inference_msgs/srv/EncodeFeature_Request", prompt=text)]
        group = create("zgs_ros/msg/ClassGroup", id=0, name=text, phrases=[text, "mug"])
        floor = create("zgs_ros/msg/ClassGroup", id=7, name="floor", phrases=["carpet"])
        for groups in ([], [group], [group, floor], [floor, floor]):
            requests += [create("zgs_ros/srv/SetClasses_Request", open=True, groups=groups)]
        watches = [
            create("zgs_ros/msg/Watch", phrase=phrase, threshold=threshold, margin=0.0)
            for phrase, threshold in ((text, 0.2), ("table", 2.0 if text == "" else -1.0))
        ]
        requests += [create("zgs_ros/srv/SetWatches_Request", watches=watches)]
    for kind, (track, one) in product(("ObjectCloud", "SegmentMask"), ((0, 1), (1, 0), (0, 0))):
        requests += [
            create(f"zgs_ros/srv/{kind}_Request", track_id=track, segment_id=one, camera="front")
        ]
    requests += [create("std_srvs/srv/SetBool_Request", data=False)]
    requests += [one for kind, one in EXAMPLES.items() if kind.endswith("SegmentImage_Request")]
    numbers = {f"{row.type_name}_Request": number for number, row in enumerate(SERVICES)}
    for one in requests:
        yield bytes([numbers[one.__msgtype__]]) + bytes(TYPES.serialize(one))


@target(SerdeError, ServiceError, BadImage, seeds=_request_seeds, longest=8192)
def request(data: bytes) -> None:
    """A request of the service that the first byte tells, which has an answer or a reason.

    Both can be written, and texts in them are bounded; what was asked for stays in force after it.
    """
    row = SERVICES[(data[0] if data else 0) % len(SERVICES)]
    asked = TYPES.deserialize(data[1:], f"{row.type_name}_Request")
    segmenter, result = _seen()
    classifier = Classifier(ClassRegistry(), segmenter.embed_phrases)
    services = Services(segmenter, TYPES, classifier=classifier)
    services.remember(result)
    fields: dict[str, Any]
    try:
        fields = {"message": "", **row.respond(services, asked), "success": True}
    except (ServiceError, BadImage) as error:
        fields = {"message": str(error), "success": False}
    if row.explains:
        TYPES.serialize(TYPES.create_partly(f"{row.type_name}_Response", **fields))
    if row.by_topic:
        TYPES.serialize(row.by_topic.make(TYPES, asked, fields))
    if not fields["success"]:
        assert 0 < len(fields["message"]) < 4096
        raise Refused
    named = classifier.find_classes(result.segmentation)
    for alert in services.watcher.look("front", named, 0.0, 1.0):
        assert alert.active
