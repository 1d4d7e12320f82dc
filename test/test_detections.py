"""Segments as vision_msgs: what the detections say, and who gets them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from dds_support import DOMAIN, HalvesSegmenter, Peer

from zgs_ros.config import NodeSettings, make_settings
from zgs_ros.dds.network import Network
from zgs_ros.dds.node import DdsNode
from zgs_ros.dds.peer import PeerOptions
from zgs_ros.dds.types import TypeSupport
from zgs_ros.segmentation import Label, Placement, Roi, Segment, Segmentation
from zgs_ros.streaming import messages
from zgs_ros.streaming.detections import detection2d_array, detection3d_array
from zgs_ros.streaming.outputs import OUTPUTS, output_topic
from zgs_ros.streaming.port import QosProfile

TYPES = TypeSupport("jazzy")
HEADER = messages.header(TYPES, 1_700_000_000_123_456_789, "camera")
PLACE = Placement((0.1, -0.2, 2.5), (0.3, 0.4, 0.05))
LABELS = (Label("red mug", 0.31, 0.5), Label("cup", 0.25, 0.125))


def over_the_wire(message: Any) -> Any:
    return TYPES.deserialize(bytes(TYPES.serialize(message)), message.__msgtype__)


def seen(*segments: tuple[int, tuple[Label, ...], Roi, int, Placement | None]) -> Segmentation:
    return Segmentation(
        np.zeros((48, 64), np.uint16),
        tuple(
            Segment(number, labels, roi, 1, (0.0, 0.0), np.ones(1, np.float32), track, place)
            for number, labels, roi, track, place in segments
        ),
    )


BOTH = seen(
    (1, LABELS, Roi(10, 20, 5, 8), 12, PLACE),
    (7, (), Roi(0, 0, 64, 48), 0, None),
)


def test_boxes_are_the_segments_regions_of_interest() -> None:
    message = over_the_wire(detection2d_array(TYPES, HEADER, BOTH))
    mug, rest = message.detections
    assert message.header == mug.header == HEADER
    box = mug.bbox
    assert (box.center.position.x, box.center.position.y) == (12.5, 24.0)
    assert (box.size_x, box.size_y, box.center.theta) == (5.0, 8.0, 0.0)
    assert box.center.position.x - box.size_x / 2 == 10, "the left edge is the x_offset"
    assert [(r.hypothesis.class_id, r.hypothesis.score) for r in mug.results] == [
        ("red mug", 0.5),
        ("cup", 0.125),
    ], "scores of vision_msgs are probabilities"
    assert (mug.id, rest.id, list(rest.results)) == ("12", "", [])


@pytest.mark.parametrize(("cosine", "score"), [(0.25, 0.25), (-0.1, 0.0), (1.0000001, 1.0)])
def test_scores_without_a_probability_are_cosines_within_bounds(
    cosine: float, score: float
) -> None:
    labels = (Label("mug", cosine),)
    found = detection2d_array(TYPES, HEADER, seen((1, labels, Roi(0, 0, 1, 1), 0, None)))
    assert found.detections[0].results[0].hypothesis.score == score


def test_boxes_in_space_are_those_of_segments_that_have_a_place() -> None:
    message = over_the_wire(detection3d_array(TYPES, HEADER, BOTH))
    [mug] = message.detections
    for pose in (mug.bbox.center, mug.results[1].pose.pose):
        assert (pose.position.x, pose.position.y, pose.position.z) == PLACE.position
        assert pose.orientation.w == 1.0
    assert (mug.bbox.size.x, mug.bbox.size.y, mug.bbox.size.z) == PLACE.size
    assert (mug.id, mug.results[0].hypothesis.class_id) == ("12", "red mug")
    assert not mug.results[0].pose.covariance.any()


def test_no_segments_are_no_detections() -> None:
    for make in (detection2d_array, detection3d_array):
        assert list(over_the_wire(make(TYPES, HEADER, seen())).detections) == []


OFF, ON = {}, {"publish_detections": True}
EXTRA = [
    (OFF, []),
    ({"depth.enabled": True}, []),
    (ON, ["~/detections"]),
    ({**ON, "depth.enabled": True}, ["~/detections", "~/detections_3d"]),
]


@pytest.mark.parametrize(("values", "extra"), EXTRA)
def test_they_are_offered_where_they_are_wanted(values: dict[str, Any], extra: list[str]) -> None:
    settings = make_settings(NodeSettings, values)
    offered = [output_topic("", row.topic) for row in OUTPUTS if row.exists(settings)]
    assert [topic for topic in offered if "detections" in topic] == extra


def test_the_node_without_ros_publishes_them(eventually: Callable[..., None]) -> None:
    network = Network(DOMAIN, loopback_only=True)
    settings = make_settings(NodeSettings, {**ON, "max_rate": 1000.0})
    got: list[Any] = []
    peer = Peer(HalvesSegmenter(), settings, PeerOptions(network))
    try:
        with DdsNode("listener", network=network) as listener:
            kind = "vision_msgs/msg/Detection2DArray"
            listener.create_subscription("/zgs/detections", kind, got.append, QosProfile(depth=10))
            camera = listener.create_publisher("/camera/image_raw", "sensor_msgs/msg/Image")
            eventually(
                lambda: peer.node.diagnose().wanted, "the listener is enough for the node to work"
            )
            eventually(camera.subscription_count, "the node listens to the camera")
            picture = np.full((48, 64, 3), 90, np.uint8)
            camera.publish(messages.rgb_image(listener.types, HEADER, picture))
            eventually(lambda: got, "detections")
    finally:
        peer.close()
    [message] = got
    assert message.header == HEADER
    assert [d.results[0].hypothesis.class_id for d in message.detections] == ["left", "right"]
    assert [d.bbox.size_x for d in message.detections] == [32.0, 32.0]
