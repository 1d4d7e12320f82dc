"""Results as ROS messages and back, and what is published for whom."""

from __future__ import annotations

import io
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from zgs_ros.classes.classifier import Classifier
from zgs_ros.classes.registry import ClassRegistry
from zgs_ros.clouds import Surface
from zgs_ros.config import NodeSettings, make_settings
from zgs_ros.dds.types import TypeSupport
from zgs_ros.geometry import CameraModel
from zgs_ros.segmentation import Label, Placement, Roi, Segment, Segmentation
from zgs_ros.streaming import messages
from zgs_ros.streaming.markers import ADD, CUBE, DELETE_ALL, TEXT, marker_array
from zgs_ros.streaming.outputs import OUTPUTS, output_topic
from zgs_ros.streaming.pairing import DepthFeed
from zgs_ros.streaming.publishing import Outputs, Publishers
from zgs_ros.streaming.stream import Result
from zgs_ros.transforms import Transform

TYPES = TypeSupport("jazzy")
HEADER = messages.header(TYPES, 1_700_000_000_123_456_789, "camera")


def segmentation(height: int = 4, width: int = 6) -> Segmentation:
    label_map = np.zeros((height, width), np.uint16)
    label_map[:, : width // 2] = 7
    label_map[0, 0] = 40000
    embedding = np.array([0.6, 0.8], np.float32)
    return Segmentation(
        label_map,
        (
            Segment(
                7,
                (Label("red mug", 0.5), Label("cup", 0.25)),
                Roi(0, 0, width // 2, height),
                height * (width // 2) - 1,
                (1.5, 2.0),
                embedding,
                track_id=3,
                class_id=65535,
                placement=Placement((0.1, -0.2, 2.5), (0.3, 0.4, 0.05)),
            ),
            Segment(40000, (), Roi(0, 0, 1, 1), 1, (0.0, 0.0), embedding[::-1].copy()),
        ),
        model="ViT-L-14-336/openai",
        stage_times={"dino": 0.2},
    )


def over_the_wire(message: Any) -> Any:
    return TYPES.deserialize(bytes(TYPES.serialize(message)), message.__msgtype__)


def test_a_segment_array_carries_everything_over_the_wire() -> None:
    message = over_the_wire(messages.segment_array(TYPES, HEADER, segmentation(), 0.25))
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (1_700_000_000, 123_456_789)
    assert message.header.frame_id == message.label_image.header.frame_id == "camera"
    assert message.model == "ViT-L-14-336/openai"
    assert (message.processing_time.sec, message.processing_time.nanosec) == (0, 250_000_000)
    mug, other = message.segments
    assert (mug.id, mug.track_id, mug.label, mug.score) == (7, 3, "red mug", 0.5)
    assert mug.class_id == 65535
    assert [(label.text, label.score) for label in mug.alternatives] == [("cup", 0.25)]
    assert (mug.roi.x_offset, mug.roi.y_offset, mug.roi.width, mug.roi.height) == (0, 0, 3, 4)
    assert (mug.area, mug.centroid_x, mug.centroid_y) == (11, 1.5, 2.0)
    assert mug.embedding.tolist() == pytest.approx([0.6, 0.8])
    assert mug.position_valid
    assert (mug.position.x, mug.position.y, mug.position.z) == (0.1, -0.2, 2.5)
    assert (mug.size.x, mug.size.y, mug.size.z) == (0.3, 0.4, 0.05)
    assert (other.position_valid, other.position.z, other.size.z) == (False, 0.0, 0.0)
    assert (other.label, other.score, other.alternatives) == ("", 0.0, [])


def test_the_label_image_is_mono16_of_the_image_size() -> None:
    message = over_the_wire(messages.label_image(TYPES, HEADER, segmentation()))
    assert (message.encoding, message.width, message.height, message.step) == ("mono16", 6, 4, 12)
    pixels = message.data.view("<u2").reshape(4, 6)
    assert pixels[0].tolist() == [40000, 7, 7, 0, 0, 0]


def test_embeddings_can_be_left_out() -> None:
    message = messages.segment_array(TYPES, HEADER, segmentation(), 0.25, embeddings=False)
    assert [len(segment.embedding) for segment in over_the_wire(message).segments] == [0, 0]


def test_an_image_without_segments_is_a_valid_result() -> None:
    empty = Segmentation(np.zeros((1, 1), np.uint16), ())
    message = over_the_wire(messages.segment_array(TYPES, HEADER, empty, 0.0))
    assert message.segments == []
    assert messages.parse_segment_array(message).size == (1, 1)


@st.composite
def segmentations(draw: st.DrawFn) -> Segmentation:
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    ids = sorted(draw(st.sets(st.integers(1, 65535), max_size=5)))
    texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)
    scores = st.floats(-1, 1, width=32)
    labels = st.lists(st.builds(Label, texts, scores), max_size=3)
    label_map = np.zeros((height, width), np.uint16)
    for number, segment_id in enumerate(ids):
        label_map.flat[number % label_map.size] = segment_id
    return Segmentation(
        label_map,
        tuple(
            Segment(
                segment_id,
                tuple(draw(labels)),
                Roi(*draw(st.tuples(*[st.integers(0, 2**32 - 1)] * 4))),
                draw(st.integers(0, 2**32 - 1)),
                (draw(scores), draw(scores)),
                np.array(draw(st.lists(scores, max_size=4)), np.float32),
                draw(st.integers(0, 2**32 - 1)),
                draw(
                    st.none()
                    | st.builds(Placement, st.tuples(*3 * [scores]), st.tuples(*3 * [scores]))
                ),
                draw(st.integers(0, 65535)),
            )
            for segment_id in ids
        ),
        draw(texts),
    )


@settings(max_examples=50, deadline=None)
@given(segmentations())
def test_parsing_gives_back_what_was_sent(sent: Segmentation) -> None:
    message = over_the_wire(messages.segment_array(TYPES, HEADER, sent, 1.0))
    got = messages.parse_segment_array(message)
    assert np.array_equal(got.label_map, sent.label_map)
    assert got.to_dict(embeddings=True) == {**sent.to_dict(embeddings=True), "stage_times": {}}


def test_parsing_understands_padding_and_the_other_byte_order() -> None:
    message = messages.segment_array(TYPES, HEADER, segmentation(), 0.0)
    picture = message.label_image
    rows = picture.data.reshape(4, 12).view("<u2").astype(">u2").view(np.uint8)
    picture.data = np.hstack([rows, np.full((4, 5), 9, np.uint8)]).reshape(-1)
    picture.step, picture.is_bigendian = 17, 1
    got = messages.parse_segment_array(message)
    assert np.array_equal(got.label_map, segmentation().label_map)


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [("encoding", "mono8", "mono16, got 'mono8'"), ("step", 3, "step 3"), ("width", 0, "width 0")],
)
def test_a_broken_label_image_is_refused(field: str, value: Any, text: str) -> None:
    message = messages.segment_array(TYPES, HEADER, segmentation(), 0.0)
    setattr(message.label_image, field, value)
    with pytest.raises(ValueError, match=text):
        messages.parse_segment_array(message)


def test_images_carry_their_pixels() -> None:
    rgb = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    message = over_the_wire(messages.rgb_image(TYPES, HEADER, rgb))
    assert (message.encoding, message.width, message.height, message.step) == ("rgb8", 4, 2, 12)
    assert message.data.tolist() == list(range(24))
    depth = np.array([[1.5, np.inf]], np.float32)
    message = over_the_wire(messages.depth_image(TYPES, HEADER, depth))
    assert (message.encoding, message.step) == ("32FC1", 8)
    assert message.data.view("<f4").tolist() == [1.5, np.inf]


def test_compressed_images_are_jpeg_in_the_right_colours() -> None:
    rgb = np.zeros((16, 16, 3), np.uint8)
    rgb[..., 0] = 250
    message = over_the_wire(messages.jpeg_image(TYPES, HEADER, rgb, 90))
    assert message.format == "rgb8; jpeg compressed bgr8"
    pixels = np.asarray(Pillow.open(io.BytesIO(bytes(message.data))))
    assert np.abs(pixels.astype(int) - rgb).max() < 8


class Topic:
    """A publisher that keeps what it is given."""

    def __init__(self, subscribers: int) -> None:
        self.subscribers = subscribers
        self.sent: list[Any] = []

    def publish(self, message: Any) -> None:
        self.sent.append(message)

    def subscription_count(self) -> int:
        return self.subscribers


NAMES = tuple(row.topic for row in OUTPUTS)
LATCHED_NAMES = {"label_info", "label_info_16"}
NODE_SETTINGS = make_settings(NodeSettings, {})


def topics(*subscribed: str) -> Publishers:
    return {name: Topic(name in subscribed) for name in NAMES}


def outputs(*subscribed: str) -> tuple[Outputs, Publishers]:
    made = topics(*subscribed)
    classifier = Classifier(
        ClassRegistry(), lambda phrases: np.zeros((len(phrases), 2), np.float32)
    )
    return Outputs(TYPES, {"front": made}, NODE_SETTINGS, classifier), made


PIXELS = np.zeros((4, 6, 3), np.uint8)
TICKET = DepthFeed(0.1).expect(HEADER)
CAMERA = CameraModel(np.array([[6.0, 0, 2.5], [0, 6.0, 1.5], [0, 0, 1]]), (4, 6))
SURFACE = Surface(np.full((4, 6), 2, np.float32), CAMERA, "camera", Transform.identity(), False)
RESULT = Result("front", HEADER, PIXELS, segmentation(), 0.25, TICKET, SURFACE)


@pytest.mark.parametrize(
    "subscribed",
    [(), *((name,) for name in NAMES), NAMES],
    ids=str,
)
def test_only_what_somebody_listens_to_is_made(
    subscribed: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(
        "zgs_ros.streaming.showing.draw_overlay",
        lambda image, *_: drawn.append(image) or np.zeros_like(image),
    )
    maker, made = outputs(*subscribed)
    maker.publish(RESULT)
    sent = {name for name in NAMES if made[name].sent}
    assert sent == {*subscribed, *LATCHED_NAMES}, "names are there for those who come late"
    assert len(drawn) == int(bool(sent & {"overlay", "overlay/compressed"})), "drawn once or never"
    assert maker.wanted() == bool({*subscribed} - LATCHED_NAMES)


def test_without_depth_there_are_no_markers() -> None:
    maker, made = outputs(*NAMES)
    maker.publish(Result("front", HEADER, PIXELS, segmentation(), 0.25))
    missing = [name for name in NAMES if not made[name].sent]
    assert missing == ["markers", "points", "labelled_points"]


def test_each_camera_has_its_own_topics_and_listeners() -> None:
    cameras = {"front": topics(), "left": topics("segments")}
    maker = Outputs(TYPES, cameras, NODE_SETTINGS)
    assert (maker.wanted("front"), maker.wanted("left"), maker.wanted()) == (False, True, True)
    for name in cameras:
        maker.publish(Result(name, HEADER, PIXELS, segmentation(), 0.25))
    assert [len(made["segments"].sent) for made in cameras.values()] == [0, 1]


@pytest.mark.parametrize(("camera", "prefix"), [("", "~/"), ("left", "~/left/")])
def test_topics_are_named_after_their_camera(camera: str, prefix: str) -> None:
    names = ("segments", "label_image", "overlay", "overlay/compressed", "label_info")
    assert [output_topic(camera, name) for name in names] == [prefix + name for name in names]


def test_headers_go_out_verbatim() -> None:
    maker, made = outputs(*NAMES)
    maker.publish(RESULT)
    for name in set(NAMES) - {"markers"}:
        assert made[name].sent[0].header is HEADER
    assert all(marker.header is HEADER for marker in made["markers"].sent[0].markers)


def test_markers_show_what_has_a_place_and_replace_those_before() -> None:
    message = over_the_wire(marker_array(TYPES, HEADER, segmentation()))
    clear, box, label = message.markers
    assert clear.action == DELETE_ALL
    assert (box.ns, box.id, box.type, box.action) == ("boxes", 7, CUBE, ADD)
    assert (box.pose.position.x, box.pose.position.y, box.pose.position.z) == (0.1, -0.2, 2.5)
    assert (box.scale.x, box.scale.y, box.scale.z) == (0.3, 0.4, 0.05)
    assert 0 < box.color.a < 1
    assert (label.ns, label.type, label.text) == ("labels", TEXT, "red mug")
    assert label.pose.position.y < -0.2 - 0.4 / 2, "above the box: y points down"
    assert label.lifetime.sec > 0


def test_with_a_target_frame_what_is_in_space_names_it_and_keeps_the_stamp() -> None:
    moved = Transform.of_quaternion((1.0, 2.0, 3.0), (0.0, 0.0, 0.0, 1.0))
    surface = replace(SURFACE, frame="map", transform=moved, upright=True)
    maker, made = outputs(*NAMES)
    maker.publish(replace(RESULT, surface=surface, target_frame="map"))
    segments = made["segments"].sent[0]
    assert (segments.header, segments.position_frame) == (HEADER, "map")
    headers = [made[n].sent[0].header for n in ("points", "labelled_points", "detections_3d")]
    headers += [marker.header for marker in made["markers"].sent[0].markers]
    assert {header.frame_id for header in headers} == {"map"}
    assert {messages.stamp_ns(header) for header in headers} == {messages.stamp_ns(HEADER)}
    _, box, label = made["markers"].sent[0].markers
    assert label.pose.position.z > box.pose.position.z + 0.05 / 2, "above the box: z points up"
    assert made["label_image"].sent[0].header is HEADER


def test_clouds_go_out_as_their_readers_expect_them() -> None:
    pixels = np.full((4, 6, 3), (255, 128, 1), np.uint8)
    depth = SURFACE.depth.copy()
    depth[0, 0] = 0
    maker, made = outputs("points", "labelled_points")
    maker.publish(replace(RESULT, image=pixels, surface=replace(SURFACE, depth=depth)))
    whole = over_the_wire(made["points"].sent[0])
    assert (whole.height, whole.width, whole.is_dense, whole.is_bigendian) == (4, 6, False, False)
    described = [(f.name, f.offset, f.datatype, f.count) for f in whole.fields]
    floats = [(name, 4 * number, 7, 1) for number, name in enumerate(("x", "y", "z", "rgb"))]
    assert described == [*floats, ("label", 16, 6, 1), ("instance", 20, 6, 1)]
    assert (whole.point_step, whole.row_step, len(whole.data)) == (24, 144, 576)
    words = whole.data.view("<u4").reshape(4, 6, 6)
    assert words[1, 1].tolist()[3:] == [0xFF8001, 65535, 7]
    assert np.isnan(words.view("<f4")[0, 0, :3]).all()
    known = over_the_wire(made["labelled_points"].sent[0])
    assert (known.height, known.width, known.is_dense, known.row_step) == (1, 23, True, 552)
    assert np.array_equal(known.data, whole.data[24:])


def test_a_picture_too_large_for_a_cloud_costs_the_clouds_alone() -> None:
    large = Segmentation(np.zeros((2161, 3840), np.uint16), ())
    maker, made = outputs("segments", "points", "labelled_points")
    maker.publish(replace(RESULT, segmentation=large))
    assert [len(made[name].sent) for name in ("segments", "points", "labelled_points")] == [1, 0, 0]
    assert maker.facts() == {"left out: points": "1", "left out: labelled_points": "1"}


def test_settings_can_be_replaced_while_running() -> None:
    maker, made = outputs("segments")
    maker.settings = make_settings(NodeSettings, {"publish_embeddings": False})
    maker.publish(RESULT)
    assert len(made["segments"].sent[0].segments[0].embedding) == 0


def test_a_foreign_message_class_works_as_well() -> None:
    class Factory(TypeSupport):
        def __init__(self) -> None:
            pass

        def create(self, type_name: str, **fields: Any) -> Any:
            return SimpleNamespace(type_name=type_name, **fields)

    message = messages.segment_array(Factory(), HEADER, segmentation(), 0.5)
    assert message.type_name == "zgs_ros/msg/SegmentArray"
    assert messages.parse_segment_array(message).segments[0].label == "red mug"
