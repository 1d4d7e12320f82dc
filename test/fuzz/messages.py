"""Serialized messages of every type that is subscribed to or served, and what is made of them."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
from rosbags.serde import SerdeError

from fuzz.engine import Refused, target
from zgs_ros.config import NodeSettings, make_settings
from zgs_ros.geometry import locate
from zgs_ros.message_types import MessageTypes
from zgs_ros.segmentation import Label, Placement, Roi, Segment, Segmentation
from zgs_ros.streaming import messages
from zgs_ros.streaming.answers import Services
from zgs_ros.streaming.clock import SimulatedClock
from zgs_ros.streaming.depth import BadDepth, read_camera
from zgs_ros.streaming.inputs import INPUTS
from zgs_ros.streaming.pairing import DepthFeed
from zgs_ros.streaming.services import SERVICES
from zgs_ros.tools.following import FramePairs, node_statuses, status_values, stream_values
from zgs_ros.tools.web.board import Board, Health, Picture

TYPES = MessageTypes("jazzy")
logging.disable(logging.CRITICAL)


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
    made = [
        image,
        messages.jpeg_image(TYPES, _header(), np.zeros((3, 4, 3), np.uint8), 80),
        create("sensor_msgs/msg/CameraInfo", header=_header(), k=K, d=np.array([0.1] * 5)),
        messages.segment_array(TYPES, _header(), _segmentation(), 0.25),
        query,
        create("zgs_ros/msg/QueryResult", query=query, success=True, segments=segments),
        create("diagnostic_msgs/msg/DiagnosticArray", header=_header(), status=[status]),
        create("rosgraph_msgs/msg/Clock", clock=_header().stamp),
    ]
    requests = {
        "zgs_ros/srv/SegmentImage": {"image": image},
        "zgs_ros/srv/QuerySegments": {"text": "a mug"},
    }
    made += [create(f"{row.type_name}_Request", **requests[row.type_name]) for row in SERVICES]
    found = {one.__msgtype__: one for one in made}
    for transport in ("raw", "compressed"):
        settings = NodeSettings(image_transport=transport)
        assert {row.type_name(settings) for row in INPUTS} <= found.keys()
    return found


K = np.array([40.0, 0, 2, 0, 40, 1.5, 0, 0, 1])
EXAMPLES = _examples()
KINDS = tuple(EXAMPLES)


def _seeds() -> Iterator[bytes]:
    for number, example in enumerate(EXAMPLES.values()):
        yield bytes([number]) + bytes(TYPES.serialize(example))


def _read_frames(message: Any) -> None:
    pairs = FramePairs(overlays=False)
    pairs.add_result(message, time.time_ns())
    frames = pairs.take()
    if not frames:
        raise Refused
    [frame] = frames
    json.dumps(frame.to_dict())
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


CONSUMERS: dict[str, Callable[[Any], None]] = {
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


def _camera_seeds() -> Iterator[bytes]:
    for model, number in (
        ("plumb_bob", 5),
        ("rational_polynomial", 8),
        ("", 0),
        ("equidistant", 4),
    ):
        info = TYPES.create_partly(
            "sensor_msgs/msg/CameraInfo",
            header=_header(),
            height=3,
            width=4,
            distortion_model=model,
            d=np.array([0.01] * number),
            k=K,
            r=np.eye(3).reshape(9),
            p=np.array([40.0, 0, 2, 0, 0, 40, 1.5, 0, 0, 0, 1, 0]),
        )
        yield bytes(TYPES.serialize(info))


@target(SerdeError, BadDepth, ValueError, seeds=_camera_seeds)
def camera_info(data: bytes) -> None:
    """sensor_msgs/CameraInfo, with which depth becomes places."""
    camera = read_camera(TYPES.deserialize(data, "sensor_msgs/msg/CameraInfo"))
    depth = np.full((3, 4), 2, np.float32)
    for segment in locate(_segmentation(), depth, camera).segments:
        if segment.placement:
            assert np.isfinite([*segment.placement.position, *segment.placement.size]).all()


@cache
def _services() -> Services:
    from zgs_ros.segmenter import load_segmenter
    from zgs_ros.streaming.stream import Result

    segmenter = load_segmenter(make_settings(NodeSettings, {"profile": "mini"}))
    services = Services(segmenter, TYPES)
    image = np.zeros((48, 64, 3), np.uint8)
    image[:24] = 200
    services.remember(Result("front", _header(), image, segmenter.segment(image), 0.0))
    return services


def _query_seeds() -> Iterator[bytes]:
    for text in (
        "a mug",
        "something to sit on",
        "",
        " \n",
        "x" * 600,
        "\u00e9\U0001f600 &amp; <b>",
    ):
        for camera in ("", "front", "rear"):
            query = TYPES.create("zgs_ros/msg/Query", text=text, max_results=2, camera=camera)
            yield bytes(TYPES.serialize(query))


@target(SerdeError, seeds=_query_seeds, longest=8192)
def query(data: bytes) -> None:
    """zgs_ros/Query, which is always answered, by bounded texts."""
    asked = TYPES.deserialize(data, "zgs_ros/msg/Query")
    answer = _services().answer(asked)
    assert len(bytes(TYPES.serialize(answer))) < 65536
    if not answer.success:
        assert answer.message
        raise Refused
