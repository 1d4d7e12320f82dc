"""Depth to 3D: where segments are and how large, whatever the depth camera does."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from zgs_ros import geometry
from zgs_ros.geometry import CameraModel, locate
from zgs_ros.segmentation import Placement, Roi, Segment, Segmentation
from zgs_ros.transforms import Transform

HEIGHT, WIDTH = 48, 64
MATRIX = np.array([[60.0, 0.0, 31.5], [0.0, 60.0, 23.5], [0.0, 0.0, 1.0]])
CAMERA = CameraModel(MATRIX, (HEIGHT, WIDTH))
NAN, INF = np.float32(np.nan), np.float32(np.inf)

Depth = NDArray[np.float32]


def segmentation(label_map: NDArray[np.uint16]) -> Segmentation:
    def segment(number: int) -> Segment:
        rows, columns = np.nonzero(label_map == number)
        roi = Roi(int(columns.min()), int(rows.min()), int(np.ptp(columns)), int(np.ptp(rows)))
        centroid = (float(columns.mean()), float(rows.mean()))
        return Segment(number, (), roi, len(rows), centroid, np.empty(0, np.float32))

    return Segmentation(label_map, tuple(segment(int(n)) for n in np.unique(label_map) if n))


def board(left: int = 32, top: int = 24, width: int = 20, height: int = 12) -> Segmentation:
    """A board before a wall."""
    label_map = np.ones((HEIGHT, WIDTH), np.uint16)
    label_map[top : top + height, left : left + width] = 2
    return segmentation(label_map)


def board_depth(seen: Segmentation, near: float = 2.0, far: float = 5.0) -> Depth:
    return np.where(seen.label_map == 2, near, far).astype(np.float32)


def placed(seen: Segmentation, depth: Depth, camera: CameraModel = CAMERA) -> Placement | None:
    return locate(seen, depth, camera).segments[1].placement


def test_a_flat_board_is_where_it_is_and_as_large_as_it_is() -> None:
    seen = board()
    placement = placed(seen, board_depth(seen))
    assert placement is not None
    # Its middle is 10 columns and 6 rows from the optical axis, at 60 pixels per metre and metre.
    assert placement.position == pytest.approx((10 / 60 * 2, 6 / 60 * 2, 2.0), abs=0.02)
    assert placement.size == pytest.approx((20 / 60 * 2, 12 / 60 * 2, 0.0), abs=0.05)


def test_places_can_be_wanted_in_another_frame_with_sizes_along_its_axes() -> None:
    seen = board()
    # As a robot that looks along its x axis: y points to the left, z up; the camera is 1 m above 0.
    forward = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    moved = Transform(forward, np.array([0.0, 0.0, 1.0]))
    placement = locate(seen, board_depth(seen), CAMERA, moved).segments[1].placement
    assert placement is not None
    assert placement.position == pytest.approx((2.0, -10 / 60 * 2, 1 - 6 / 60 * 2), abs=0.02)
    assert placement.size == pytest.approx((0.0, 20 / 60 * 2, 12 / 60 * 2), abs=0.05)


def _unreadable(value: np.float32) -> Callable[[Depth], None]:
    def spoil(depth: Depth) -> None:
        depth[::2] = value

    return spoil


def _flying(depth: Depth) -> None:
    depth[:] = cv2.blur(depth, (3, 3))  # between board and wall, as depth cameras see edges


def _outliers(depth: Depth) -> None:
    depth[::5, ::5] = 0.1


SPOILERS = {
    "nan": _unreadable(NAN),
    "inf": _unreadable(INF),
    "minus inf": _unreadable(-INF),
    "zero": _unreadable(np.float32(0)),
    "negative": _unreadable(np.float32(-1)),
    "flying pixels": _flying,
    "outliers": _outliers,
}


@pytest.mark.parametrize("spoil", SPOILERS.values(), ids=SPOILERS.keys())
def test_bad_pixels_do_not_move_it(spoil: Callable[[Depth], None]) -> None:
    seen = board()
    depth = board_depth(seen)
    spoil(depth)
    placement = placed(seen, depth)
    assert placement is not None
    assert placement.position == pytest.approx((1 / 3, 0.2, 2.0), abs=0.05)


def test_a_wide_border_of_flying_pixels_is_cut_off_in_large_images() -> None:
    """Blurred over 7 pixels, depth is right in 4 of 10 columns; there the board's distance is told from."""
    label_map = np.ones((480, 640), np.uint16)
    label_map[200:240, 300:310] = 2
    seen = segmentation(label_map)
    depth = cv2.blur(board_depth(seen), (7, 7))
    placement = placed(seen, depth, CAMERA.scaled((480, 640)))
    assert placement is not None
    assert placement.position[2] == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize("value", [NAN, INF, np.float32(0)])
def test_without_valid_depth_there_is_no_placement(value: np.float32) -> None:
    seen = board()
    depth = board_depth(seen)
    depth[seen.label_map == 2] = value
    wall, thing = locate(seen, depth, CAMERA).segments
    assert thing.placement is None
    assert wall.placement is not None


@pytest.mark.parametrize(("pixels", "valid"), [(0, False), (7, False), (12, True), (60, True)])
def test_a_few_stray_pixels_are_not_enough(pixels: int, valid: bool) -> None:
    seen = board()  # 240 pixels, of which 5 % must have depth
    depth = np.full((HEIGHT, WIDTH), NAN)
    depth[tuple(np.argwhere(seen.label_map == 2)[:pixels].T)] = 2.0
    assert (placed(seen, depth) is not None) == valid


def test_a_thin_thing_that_erosion_would_remove_has_a_placement() -> None:
    seen = board(width=1, height=20)
    placement = placed(seen, board_depth(seen))
    assert placement is not None
    assert placement.position[2] == pytest.approx(2.0)


def test_thin_parts_count_for_the_size_though_they_are_all_border() -> None:
    label_map = board().label_map.copy()
    label_map[29:31, 10:32] = 2  # a handle
    seen = segmentation(label_map)
    depth = board_depth(seen)
    depth[29:31, 10:32] = 2.05
    placement = placed(seen, depth)
    assert placement is not None
    assert placement.size == pytest.approx((42 / 60 * 2, 12 / 60 * 2, 0.05), abs=0.06)


def test_what_a_mask_that_is_too_wide_sees_past_a_thing_does_not_count() -> None:
    wide = board(left=31, top=23, width=22, height=14)
    placement = placed(wide, board_depth(board()))
    assert placement is not None
    assert placement.size == pytest.approx((20 / 60 * 2, 12 / 60 * 2, 0.0), abs=0.05)


def test_what_leaves_the_picture_is_not_cut_off_at_its_border() -> None:
    seen = board(left=0, top=0, width=3, height=HEIGHT)
    placement = placed(seen, board_depth(seen))
    assert placement is not None
    assert placement.position[0] == pytest.approx((0.5 - 31.5) / 60 * 2, abs=0.03)


def test_an_empty_segmentation_and_a_segment_without_pixels() -> None:
    empty = Segmentation(np.zeros((HEIGHT, WIDTH), np.uint16), ())
    depth = np.ones((HEIGHT, WIDTH), np.float32)
    assert locate(empty, depth, CAMERA).segments == ()
    ghost = replace(board().segments[1], id=9)
    with_ghost = replace(board(), segments=(*board().segments, ghost))
    assert locate(with_ghost, depth, CAMERA).segments[2].placement is None


@pytest.mark.parametrize("factor", [0.5, 2.0, 30.0], ids=["smaller", "larger", "thinned out"])
def test_depth_of_another_resolution_gives_the_same_place(factor: float) -> None:
    seen = board()
    size = (round(HEIGHT * factor), round(WIDTH * factor))
    depth = cv2.resize(board_depth(seen), size[::-1], interpolation=cv2.INTER_NEAREST)
    placement = placed(seen, np.asarray(depth, np.float32))
    assert placement is not None
    assert placement.position == pytest.approx((1 / 3, 0.2, 2.0), abs=0.03)


def test_scaling_a_camera_keeps_what_a_corner_sees() -> None:
    small = CAMERA.scaled((HEIGHT // 2, WIDTH // 2))
    # The outer edge of the picture is half a pixel before its first centre, at both sizes.
    edge = [
        (np.array([-0.5, -0.5]) - c.matrix[:2, 2]) / c.matrix[[0, 1], [0, 1]]
        for c in (CAMERA, small)
    ]
    assert edge[0] == pytest.approx(edge[1])


def test_depth_that_is_not_registered_is_refused() -> None:
    with pytest.raises(ValueError, match="depth of 48 x 48 does not fit an image of 64 x 48"):
        locate(board(), np.ones((48, 48), np.float32), CAMERA)


@pytest.mark.parametrize(
    ("matrix", "size", "text"),
    [
        (np.zeros((3, 3)), (4, 4), "fx = 0, fy = 0; both must be above 0"),
        (np.full((3, 3), np.nan), (4, 4), "fx = nan"),
        (-MATRIX, (4, 4), "fx = -60"),
        (np.array([[60, 0, np.inf], [0, 60, 0], [0, 0, 1]]), (4, 4), "holds nan or inf"),
        (np.diag([60, 60, 0]), (4, 4), r"last row \(0.0, 0.0, 0.0\), which must be"),
        (np.diag([60, 60, 2]), (4, 4), r"last row \(0.0, 0.0, 2.0\), which must be"),
        (np.array([[60, 0, 2], [0, 60, 2], [1e-9, 0, 1]]), (4, 4), "last row"),
        (np.array([[60, 0, 2], [5, 60, 2], [0, 0, 1]]), (4, 4), "has 5 below fx"),
        (MATRIX, (0, 4), "must be at least 1 x 1"),
        (
            np.diag([1e-300, 60, 1]),
            (4, 4),
            "fx = 1e-300, with 4 pixels it must be in 0.004 .. 4000",
        ),
        (np.diag([60, 1e300, 1]), (4, 4), r"fy = 1e\+300"),
        (np.array([[60, 0, 1e9], [0, 60, 0], [0, 0, 1]]), (4, 4), "far outside the image"),
    ],
)
def test_a_camera_that_is_not_calibrated_is_refused(
    matrix: NDArray[np.float64], size: tuple[int, int], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        CameraModel(matrix, size)


@pytest.mark.parametrize(
    ("distortion", "text"),
    [
        ((0.1,) * 2, "has 2 distortion coefficients (allowed: 0, 4, 5, 8, 12, 14)"),
        ((0.1,) * 100, "has 100 distortion coefficients"),
        ((1e300,) * 5, "must be in -1e+06 .. 1e+06, got 1e+300"),
        ((np.nan,) * 5, "must be in -1e+06 .. 1e+06, got nan"),
    ],
)
def test_distortion_that_no_lens_has_is_refused(distortion: tuple[float, ...], text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        CameraModel(MATRIX, (HEIGHT, WIDTH), distortion)


@pytest.mark.parametrize("count", [0, 2, 5, 7])
def test_distortion_of_zeros_is_none_whatever_its_length(count: int) -> None:
    camera = CameraModel(MATRIX, (HEIGHT, WIDTH), (0.0,) * count)
    assert np.array_equal(camera.rays, CameraModel(MATRIX, (HEIGHT, WIDTH)).rays)


@pytest.mark.parametrize("distortion", [(), (-0.3, 0.1, 0.001, -0.002, 0.0)])
def test_rays_of_a_large_image_are_those_of_its_parts(
    distortion: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    size = height, width = 2 * HEIGHT, 2 * WIDTH
    corner = CameraModel(MATRIX, (HEIGHT, WIDTH), distortion).rays
    monkeypatch.setattr(geometry, "POINTS_AT_ONCE", 7 * width)
    rays = CameraModel(MATRIX, size, distortion).rays
    assert np.allclose(rays[:HEIGHT, :WIDTH], corner, atol=1e-5)
    assert np.isfinite(rays).all()
    if not distortion:
        last = np.subtract((width - 1, height - 1), MATRIX[:2, 2]) / MATRIX[[0, 1], [0, 1]]
        assert np.allclose(rays[-1, -1], last)


def test_a_lens_that_distorts_is_straightened() -> None:
    camera = CameraModel(MATRIX, (HEIGHT, WIDTH), (-0.3, 0.1, 0.001, -0.002, 0.0))
    x, y = camera.rays[5, 60]
    point = np.array([[[float(x), float(y), 1.0]]])
    pixel, _ = cv2.projectPoints(
        point, np.zeros(3), np.zeros(3), MATRIX, np.array(camera.distortion)
    )
    assert pixel.ravel() == pytest.approx([60, 5], abs=0.05)
    assert np.linalg.norm(camera.rays[5, 60] - CAMERA.rays[5, 60]) > 0.01


@pytest.mark.parametrize("spoiled", [False, True], ids=["clean", "noisy"])
def test_things_of_the_synthetic_world_are_found_where_they_are(spoiled: bool) -> None:
    """True masks: the error is under 5 % of the distance for half of the things, and mostly.

    Half of the sizes are right within 15 cm, along the axis that is worst.
    """
    from zgs_ros.synthetic import SyntheticCamera

    random = np.random.default_rng(0)
    errors: list[float] = []
    misses: list[float] = []
    for seed in (1, 2, 3):
        frame = SyntheticCamera(seed, height=96, width=128).frame(5)
        camera = CameraModel(frame.intrinsics, (96, 128))
        depth = frame.depth.copy()
        if spoiled:
            depth *= 1 + 0.01 * random.standard_normal(depth.shape).astype(np.float32)
            depth[random.random(depth.shape) < 0.2] = NAN
        for segment in locate(segmentation(frame.instances), depth, camera).segments:
            if frame.things[segment.id].is_stuff:
                continue
            assert segment.placement is not None
            mask = frame.instances == segment.id
            surface = np.c_[camera.rays[mask], np.ones(mask.sum())] * frame.depth[mask][:, None]
            true = surface.mean(0)
            error = np.linalg.norm(np.subtract(segment.placement.position, true))
            errors.append(float(error / np.linalg.norm(true)))
            low, high = np.percentile(surface, (1, 99), axis=0)
            misses.append(float(np.abs(segment.placement.size - (high - low)).max()))
    assert len(errors) > 12
    assert np.percentile(misses, 50) < 0.15
    assert np.percentile(errors, 50) < 0.05
    assert np.percentile(errors, 90) < 0.08
