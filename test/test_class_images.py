"""Images of classes: which pixel gets which number, and what a byte and 16 bits can hold."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from zgs_ros.classes.classifier import Classifier
from zgs_ros.classes.groups import ClassGroup
from zgs_ros.classes.registry import OFTEN, ClassRegistry
from zgs_ros.config import NodeSettings, make_settings
from zgs_ros.message_types import MessageTypes
from zgs_ros.segmentation import Label, Roi, Segment, Segmentation
from zgs_ros.streaming import messages
from zgs_ros.streaming import showing as made_of
from zgs_ros.streaming.outputs import mask_outputs
from zgs_ros.streaming.publishing import Outputs
from zgs_ros.streaming.showing import Showing
from zgs_ros.streaming.stream import Result

TYPES = MessageTypes()
HEADER = messages.header(TYPES, 1_700_000_000_123_456_789, "optical")
SETTINGS = make_settings(NodeSettings, {})


def segment(number: int, class_id: int, probability: float | None = 0.5) -> Segment:
    labels = (Label(f"thing {number}", 0.25, probability),)
    embedding = np.array([1.0, 0.0], np.float32)
    return Segment(number, labels, Roi(0, 0, 1, 1), 1, (0, 0), embedding, class_id=class_id)


def showing(*segments: Segment, classifier: Classifier | None = None) -> Showing:
    """A column of pixels for each segment, the first one for none, one row."""
    label_map = np.array([[0, *(s.id for s in segments)]], np.uint16)
    result = Result("", HEADER, np.zeros((1, 1, 3)), Segmentation(label_map, segments), 0.0)
    made = classifier or Classifier(ClassRegistry(), lambda phrases: np.zeros((0, 2), np.float32))
    return Showing(TYPES, result, SETTINGS, made)


def pixels(message: Any) -> list[int]:
    kind = {"mono8": "u1", "mono16": "<u2", "32SC1": "<i4"}[message.encoding]
    assert message.step == message.width * np.dtype(kind).itemsize
    assert message.header is HEADER
    return list(message.data.view(kind))


SEEN = {
    "none": [],
    "few": [(1, 7), (2, 0), (3, 254)],
    "classes beyond a byte": [(1, 256), (2, 65534), (3, 32768)],
    "segments beyond a byte": [(1, 7), (300, 9), (65535, 300)],
}
EXPECTED = {
    "none": ([0], [0], [0]),
    "few": ([0, 7, 0, 254], [0, 7, 0, 254], [0, 7 << 16 | 1, 2, 254 << 16 | 3]),
    "classes beyond a byte": (
        [0, 255, 255, 255],
        [0, 256, 65534, 32768],
        [0, 256 << 16 | 1, (65534 << 16 | 2) - (1 << 32), (32768 << 16 | 3) - (1 << 32)],
    ),
    "segments beyond a byte": (
        [0, 7, 9, 255],
        [0, 7, 9, 300],
        [0, 7 << 16 | 1, 9 << 16 | 300, 300 << 16 | 65535],
    ),
}


@pytest.mark.parametrize("case", SEEN)
def test_each_pixel_has_the_number_of_its_segment(case: str) -> None:
    seen = showing(*(segment(*pair) for pair in SEEN[case]))
    made = [make(seen) for make in (made_of.label_mask, made_of.label_mask_16, made_of.instances)]
    assert [m.encoding for m in made] == ["mono8", "mono16", "32SC1"]
    assert tuple(pixels(message) for message in made) == EXPECTED[case]


@pytest.mark.parametrize(
    ("class_id", "probability", "expected"),
    [(7, 0.5, 128), (7, 1.0, 255), (7, 0.0, 0), (7, None, 64), (0, 1.0, 0)],
)
def test_confidence_is_the_probability_in_255ths(
    class_id: int, probability: float | None, expected: int
) -> None:
    seen = showing(segment(1, class_id, probability))
    assert pixels(made_of.confidence(seen)) == [0, expected]


def test_the_mask_of_a_class_is_all_or_nothing() -> None:
    groups = [ClassGroup(7, "person", ("thing 1",), "person_mask")]
    classifier = Classifier(ClassRegistry(), lambda phrases: np.zeros((0, 2)), groups)
    seen = showing(segment(1, 7), segment(2, 8), segment(3, 7), classifier=classifier)
    image, info = mask_outputs(groups)
    assert (image.topic, info.topic) == ("person_mask/image", "person_mask/camera_info")
    assert pixels(image.make(seen)) == [0, 255, 0, 255]
    assert info.make(seen) is None, "no camera_info is known"
    classifier.replace_groups([], True)
    assert pixels(image.make(seen)) == [0, 0, 0, 0], "the class is not in use any more"


class Listened:
    """A publisher that somebody listens to."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def publish(self, message: Any) -> None:
        self.sent.append(message)

    def subscription_count(self) -> int:
        return 1

    def close(self) -> None:
        pass


def test_each_mask_has_the_names_of_what_it_can_hold() -> None:
    """Who keeps a byte of an id would take 256 + 7 for 7."""
    registry = ClassRegistry()
    for number in range(300):
        for _ in range(OFTEN):
            registry.number([f"thing {number}"])
    classifier = Classifier(registry, lambda phrases: np.zeros((0, 2), np.float32))
    made = {topic: Listened() for topic in ("label_info", "label_info_16")}
    Outputs(TYPES, {"": made}, SETTINGS, classifier).publish_names(HEADER)
    ids = {
        topic: {c.class_id for c in listened.sent[0].class_map} for topic, listened in made.items()
    }
    assert ids == {"label_info": {*range(1, 256)}, "label_info_16": {*range(1, 302)}}


def test_names_are_published_before_the_first_mask_and_only_where_they_changed() -> None:
    registry = ClassRegistry()
    classifier = Classifier(registry, lambda phrases: np.zeros((0, 2), np.float32))
    listened: dict[str, dict[str, Any]] = {
        camera: {topic: Listened() for topic in ("label_mask", "label_info")}
        for camera in ("front", "left")
    }
    maker = Outputs(TYPES, listened, SETTINGS, classifier)
    maker.publish_names(HEADER)
    maker.publish_names(HEADER)
    for name in ("mug", "mug", "lamp"):
        registry.number([name])
        base = showing(segment(1, 1)).result
        maker.publish(SimpleNamespace(**{**base.__dict__, "camera": "left"}))
    told = {
        camera: [[c.class_name for c in m.class_map] for m in made["label_info"].sent]
        for camera, made in listened.items()
    }
    assert told == {
        "front": [["other"]],
        "left": [["other"], ["mug", "other"], ["mug", "lamp", "other"]],
    }
    assert len(listened["left"]["label_mask"].sent) == 3
