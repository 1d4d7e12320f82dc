"""Cameras that are mounted turned: models see upright images, results fit the images as they come."""

from __future__ import annotations

import json
from array import array
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bag_support import BrightAndDark
from numpy.typing import NDArray

from zgs_ros.cli import label_files as command
from zgs_ros.cli.label_files import LabelRequest
from zgs_ros.config import NodeSettings, SettingsError, make_settings
from zgs_ros.rotation import rotations, segment_upright, turned
from zgs_ros.segmentation import Segmentation
from zgs_ros.streaming.interface import check_cameras

ANGLES = (0, 90, 180, 270)


def settings(**given: Any) -> NodeSettings:
    return make_settings(NodeSettings, {"profile": "mini", **given})


def scene() -> NDArray[np.uint8]:
    """A bright thing, off every axis, in a dark image."""
    image = np.full((20, 30, 3), 20, np.uint8)
    image[3:8, 4:16] = 250
    image[8:12, 4:7] = 250
    return image


class Upright(BrightAndDark):
    """Keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[NDArray[np.uint8]] = []

    def segment_batch(self, images: Any) -> list[Segmentation]:
        self.shown += images
        return super().segment_batch(images)


def test_an_image_is_turned_clockwise() -> None:
    """What a camera sees that lies on its left side is upright when it is turned by 90 degrees."""
    image = np.zeros((2, 3, 3), np.uint8)
    image[0, 0] = 1  # top left
    assert [np.argwhere(turned(image, angle)[..., 0]).tolist()[0] for angle in ANGLES] == [
        [0, 0],
        [0, 1],
        [1, 2],
        [2, 0],
    ]
    clockwise = cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE)
    assert np.array_equal(turned(image, 90), clockwise)


@pytest.mark.parametrize("angle", ANGLES)
def test_results_are_in_the_pixels_of_the_image_as_it_came(angle: int) -> None:
    image = scene()
    segmenter = Upright()
    [seen] = segment_upright(segmenter, [image], [angle])
    assert np.array_equal(segmenter.shown[0], np.rot90(image, -angle // 90))
    assert seen.size == image.shape[:2]
    assert seen.label_map.flags.c_contiguous
    for segment in seen.segments:
        rows, columns = np.nonzero(seen.mask(segment.id))
        box = segment.roi
        assert (box.x, box.y) == (columns.min(), rows.min())
        assert (box.width, box.height) == (np.ptp(columns) + 1, np.ptp(rows) + 1)
        assert segment.centroid == pytest.approx((columns.mean(), rows.mean()))
        assert segment.area == len(rows)
    assert np.array_equal(seen.label_map == 2, image[..., 0] > 100)


def test_images_of_a_batch_are_turned_each_by_its_own() -> None:
    images = [scene(), scene()[:, :25], scene()]
    segmenter = Upright()
    seen = segment_upright(segmenter, images, [0, 90, 180])
    assert [one.size for one in seen] == [(20, 30), (20, 25), (20, 30)]
    assert [image.shape[:2] for image in segmenter.shown] == [(20, 30), (25, 20), (20, 30)]
    for image, one in zip(images, seen, strict=True):
        assert np.array_equal(one.label_map == 2, image[..., 0] > 100)


@pytest.mark.parametrize(
    ("given", "cameras", "expected"),
    [
        ((0,), ("",), {"": 0}),
        ((90,), ("front", "left"), {"front": 90, "left": 90}),
        ((0, 270), ("front", "left"), {"front": 0, "left": 270}),
    ],
)
def test_one_value_is_for_all_cameras_or_each_has_its_own(
    given: tuple[int, ...], cameras: tuple[str, ...], expected: dict[str, int]
) -> None:
    assert rotations(given, cameras) == expected


@pytest.mark.parametrize("given", [90, [90], (90,), "90", array("q", [90])])
def test_a_single_value_needs_no_list(given: Any) -> None:
    assert settings(rotation=given).rotation == (90,)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"rotation": 45}, "must be 0, 90, 180, 270, or a list of these"),
        ({"rotation": -90}, "must be 0, 90, 180, 270"),
        ({"rotation": []}, "must be 0, 90, 180, 270"),
        ({"rotation": ["up"]}, "rotation"),
        ({"rotation": [0, 90]}, "rotation has 2 values for 1 cameras"),
        (
            {"rotation": [0, 90, 0], "cameras": ["front", "left"]},
            "rotation has 3 values for 2 cameras (front, left); give one for all, or one for each",
        ),
    ],
)
def test_rotations_that_are_none_are_refused(given: dict[str, Any], text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        check_cameras(settings(**given))
    assert text in str(caught.value)


def test_files_are_labelled_upright_and_anew_where_the_rotation_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = Upright()
    monkeypatch.setattr(command, "load_segmenter", lambda _: segmenter)
    cv2.imwrite(str(tmp_path / "a.png"), scene())
    out = tmp_path / "out"

    def label(rotation: Any) -> int:
        return command.run(LabelRequest([tmp_path / "a.png"], out), settings(rotation=rotation))

    assert [label(90), label(90), label(0)] == [0, 0, 0]
    assert [image.shape[:2] for image in segmenter.shown] == [(30, 20), (20, 30)]
    labels = cv2.imread(str(out / "a.labels.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(labels == 2, scene()[..., 0] > 100)
    assert json.loads((out / "a.json").read_text())["width"] == 30
    with pytest.raises(ValueError, match="rotation has 2 values for 1 cameras"):
        label([0, 90])
