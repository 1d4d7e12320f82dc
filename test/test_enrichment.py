"""What results get beyond their own picture, camera by camera."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from zgs_ros.classes.classifier import Classifier
from zgs_ros.classes.groups import ClassGroup
from zgs_ros.classes.registry import ClassRegistry
from zgs_ros.config import NodeSettings, make_settings
from zgs_ros.segmentation import Label, Roi, Segment, Segmentation
from zgs_ros.streaming.enrichment import Enrichment
from zgs_ros.streaming.stream import Result


class StepClock:
    """A clock that moves on by a tenth of a second whenever it is read."""

    def __init__(self) -> None:
        self._now = 0

    def now_ns(self) -> int:
        self._now += 100_000_000
        return self._now


def result(camera: str = "front", seconds: float = 1.0, label: str = "mug") -> Result:
    stamp = SimpleNamespace(sec=int(seconds), nanosec=round(seconds % 1 * 1e9))
    other = "cup" if label == "mug" else "mug"
    seen = Segment(
        id=1,
        labels=(Label(label, 0.31), Label(other, 0.3)),
        roi=Roi(0, 0, 8, 6),
        area=48,
        centroid=(3.5, 2.5),
        embedding=np.array([1.0, 0.0], np.float32),
    )
    segmentation = Segmentation(np.ones((6, 8), np.uint16), (seen,), "flat", {"dino": 0.1})
    header = SimpleNamespace(stamp=stamp, frame_id=camera)
    return Result(camera, header, np.zeros((6, 8, 3), np.uint8), segmentation, 0.0)


def enrichment(**settings: Any) -> Enrichment:
    return Enrichment(make_settings(NodeSettings, settings), StepClock())


def ids(made: Enrichment, *results: Result) -> list[int]:
    return [made(given).segmentation.segments[0].track_id for given in results]


def test_each_camera_has_its_own_tracks() -> None:
    made = enrichment()
    frames = [result("front", 1.0), result("left", 5.0), result("front", 1.1), result("left", 5.1)]
    assert ids(made, *frames) == [1, 1, 1, 1]
    assert ids(made, result("front", 0.5), result("left", 5.2)) == [2, 1], "only one jumped back"


def test_images_without_a_stamp_are_tracked_on_the_clock() -> None:
    made = enrichment(**{"tracking.max_age": 1.0})
    assert ids(made, *[result(seconds=0.0) for _ in range(4)]) == [1] * 4


def test_tracking_takes_its_place_among_the_stages() -> None:
    times = enrichment()(result()).segmentation.stage_times
    assert list(times) == ["dino", "tracking"]
    assert times["tracking"] > 0


def test_switched_off_everything_stays_as_it_was() -> None:
    given = result()
    assert enrichment(**{"tracking.enabled": False})(given) is given


@pytest.mark.parametrize(("smoothing", "shown"), [(2.0, "mug"), (0.0, "cup")])
def test_settings_change_while_running(smoothing: float, shown: str) -> None:
    made = enrichment(**{"tracking.smoothing": 30.0})
    for number in range(3):
        made(result(seconds=1.0 + 0.1 * number))
    tracking = replace_section(made.settings, smoothing=smoothing)
    made.settings = tracking
    [segment] = made(result(seconds=1.4, label="cup")).segmentation.segments
    assert (segment.label, segment.track_id) == (shown, 1)


def replace_section(settings: NodeSettings, **changes: Any) -> NodeSettings:
    tracking = settings.tracking.model_copy(update=changes)
    return settings.model_copy(update={"tracking": tracking})


def test_everything_else_of_a_result_goes_through() -> None:
    given = result()
    made = enrichment()(given)
    assert replace(made, segmentation=given.segmentation).__dict__ == given.__dict__


def test_phrases_of_groups_are_smoothed_over_a_track_like_labels() -> None:
    registry = ClassRegistry()
    vectors = {"forklift": (0.8, 0.6)}
    classifier = Classifier(
        registry,
        lambda texts: np.array([vectors.get(text, (-1, 0)) for text in texts], np.float32),
        [ClassGroup(9, "vehicle", ("forklift",))],
    )
    classifier.embed_some()
    made = Enrichment(
        make_settings(NodeSettings, {"tracking.smoothing": 30.0}),
        StepClock(),
        classifier=classifier,
    )
    seen = made(result(seconds=1.0)).segmentation
    assert [(s.label, s.class_id) for s in seen.segments] == [("forklift", 9)]
    vectors.clear()
    classifier._rows = np.array([[-1.0, 0.0]], np.float32).repeat(2, 0)  # it fits no more
    later = [made(result(seconds=1.0 + 0.1 * n)).segmentation.segments[0] for n in (1, 2, 3)]
    assert [segment.class_id for segment in later] == [9, 9, 9]
    assert list(seen.stage_times) == ["dino", "classes", "tracking"]


def test_class_ids_are_those_of_smoothed_labels() -> None:
    classifier = Classifier(ClassRegistry(), lambda texts: np.zeros((0, 2), np.float32))
    made = Enrichment(
        make_settings(NodeSettings, {"tracking.smoothing": 30.0}),
        StepClock(),
        classifier=classifier,
    )
    labels = ["mug", "mug", "mug", "cup", "mug"]
    ids = [
        made(result(seconds=1.0 + 0.1 * n, label=label)).segmentation.segments[0].class_id
        for n, label in enumerate(labels)
    ]
    assert ids == [1] * 5
    assert classifier.registry.names == {1: "mug", 255: "other"}
