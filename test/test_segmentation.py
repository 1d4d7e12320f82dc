"""The value types hold together, or say why not."""

from __future__ import annotations

import json

import numpy as np
import pytest

from zgs_ros.runs import Runs
from zgs_ros.segmentation import Label, Roi, Segment, Segmentation, find_extents


def make_segment(number: int) -> Segment:
    embedding = np.eye(4, dtype=np.float32)[number % 4]
    labels = (Label("red mug", 0.5), Label("cup", 0.25))
    return Segment(number, labels, Roi(1, 2, 3, 4), 12, (2.0, 3.5), embedding)


def test_a_segment_knows_its_best_label_and_the_others() -> None:
    segment = make_segment(1)
    assert (segment.label, segment.score) == ("red mug", 0.5)
    assert segment.alternatives == (Label("cup", 0.25),)


def test_a_segment_without_labels_has_an_empty_one() -> None:
    segment = Segment(1, (), Roi(0, 0, 1, 1), 1, (0.0, 0.0), np.ones(1, np.float32))
    assert (segment.label, segment.score, segment.alternatives) == ("", 0.0, ())


@pytest.mark.parametrize("ids", [[2, 1], [1, 1], [0], [70000]])
def test_ids_rise_within_16_bits(ids: list[int]) -> None:
    with pytest.raises(ValueError, match="segment ids"):
        Segmentation(np.zeros((2, 2), np.uint16), tuple(make_segment(i) for i in ids))


@pytest.mark.parametrize("label_map", [np.zeros((2, 2), np.uint8), np.zeros(4, np.uint16)])
def test_the_label_map_is_a_16_bit_image(label_map: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint16"):
        Segmentation(label_map, ())


def test_masks_by_id() -> None:
    label_map = np.array([[0, 1], [2, 2]], np.uint16)
    segmentation = Segmentation(label_map, (make_segment(1), make_segment(2)))
    assert segmentation.mask(2).tolist() == [[False, False], [True, True]]
    with pytest.raises(KeyError, match="no segment 3"):
        segmentation.mask(3)


def test_an_image_without_segments_is_a_valid_result() -> None:
    segmentation = Segmentation(np.zeros((3, 4), np.uint16), ())
    assert segmentation.size == (3, 4)
    assert segmentation.embeddings.shape == (0, 0)
    assert segmentation.to_dict()["segments"] == []


def test_the_description_is_json_with_embeddings_on_request() -> None:
    segmentation = Segmentation(np.ones((2, 2), np.uint16), (make_segment(1),), "model")
    plain = json.loads(json.dumps(segmentation.to_dict()))
    assert plain["segments"][0]["label"] == "red mug"
    assert plain["segments"][0]["alternatives"] == [{"label": "cup", "score": 0.25}]
    assert "embedding" not in plain["segments"][0]
    full = json.loads(json.dumps(segmentation.to_dict(embeddings=True)))
    assert full["segments"][0]["embedding"] == [0.0, 1.0, 0.0, 0.0]


def test_extents_are_those_of_the_masks() -> None:
    label_map = np.random.default_rng(0).integers(0, 4, (7, 9)).astype(np.uint16)
    label_map[label_map == 3] = 0
    label_map[2, 4] = 3  # a single pixel
    for number, found in enumerate(find_extents(Runs.of(label_map), 3), start=1):
        rows, columns = np.nonzero(label_map == number)
        sides = [int(np.ptp(places)) + 1 for places in (columns, rows)]
        assert found.roi == Roi(int(columns.min()), int(rows.min()), *sides)
        assert found.area == len(rows)
        assert found.centroid == pytest.approx((columns.mean(), rows.mean()))
    assert found.roi == Roi(4, 2, 1, 1)
