"""camera_info to rays: whatever lens, region, binning and scale, known points are seen where they are."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from zgs_ros.geometry import CameraModel
from zgs_ros.streaming.depth import BadDepth, is_rectified, read_camera

SIZE = HEIGHT, WIDTH = 48, 64
K = np.array([[50.0, 0.0, 30.5], [0.0, 52.0, 24.0], [0.0, 0.0, 1.0]])
P = np.array([[44.0, 0.0, 33.0, -8.0], [0.0, 46.0, 22.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
PLUMB_BOB = (-0.25, 0.08, 0.001, -0.002, -0.01)
RATIONAL = (0.4, -0.3, 0.001, -0.0005, 0.1, 0.6, -0.2, 0.05)
THIN_PRISM = (*RATIONAL, 0.001, -0.002, 0.0005, 0.001)
FISHEYE = (0.02, -0.01, 0.003, -0.0005)


def info(**changes: Any) -> Any:
    roi = changes.pop("roi", (0, 0, 0, 0))
    fields: dict[str, Any] = {
        "k": K.ravel(),
        "d": PLUMB_BOB,
        "p": P.ravel(),
        "distortion_model": "plumb_bob",
        "height": HEIGHT,
        "width": WIDTH,
        "binning_x": 0,
        "binning_y": 0,
        "roi": SimpleNamespace(
            x_offset=roi[0], y_offset=roi[1], width=roi[2], height=roi[3], do_rectify=any(roi)
        ),
    }
    return SimpleNamespace(**{**fields, **changes})


def camera(size: tuple[int, int] = SIZE, rectified: bool = False, **changes: Any) -> CameraModel:
    return read_camera(info(**changes), size, rectified).camera


def seen_at(made: CameraModel, pixels: NDArray[Any]) -> NDArray[np.float64]:
    """Directions of pixels of the full image (n, 2), between pixels too."""
    columns, rows = pixels.T.astype(np.float32)
    return np.stack(
        [
            cv2.remap(np.ascontiguousarray(made.rays[..., axis]), columns, rows, cv2.INTER_LINEAR)
            for axis in (0, 1)
        ],
        -1,
    ).reshape(-1, 2)


LENSES: dict[str, tuple[str, tuple[float, ...]]] = {
    "none": ("plumb_bob", (0.0,) * 5),
    "none, of no model": ("none", ()),
    "plumb_bob": ("plumb_bob", PLUMB_BOB),
    "plumb_bob, many zeros": ("plumb_bob", (*PLUMB_BOB, *[0.0] * 40)),
    "not named": ("", PLUMB_BOB),
    "rational_polynomial": ("rational_polynomial", RATIONAL),
    "thin prism": ("rational_polynomial", THIN_PRISM),
    "tilted": ("rational_polynomial", (*THIN_PRISM, 0.02, -0.01)),
    "equidistant": ("equidistant", FISHEYE),
}


@pytest.mark.parametrize("lens", LENSES)
def test_points_come_back_from_the_pixels_that_they_are_projected_to(lens: str) -> None:
    """OpenCV projects them; 1e-3 of their distance is a twentieth of a pixel here."""
    model, distortion = LENSES[lens]
    points = np.array([[x, y, 1.0] for x in (-0.5, -0.2, 0.0, 0.55) for y in (-0.4, 0.1, 0.4)])
    none = np.zeros(3)
    if model == "equidistant":
        padded = np.resize([*distortion, 0.0, 0.0], 4)
        pixels, _ = cv2.fisheye.projectPoints(points[:, None], none, none, K, padded)
    else:
        known = np.array((*distortion, *[0.0] * 14)[: 14 if any(distortion[12:]) else 12])
        pixels, _ = cv2.projectPoints(points, none, none, K, known)
    found = seen_at(camera(d=distortion, distortion_model=model), pixels.reshape(-1, 2))
    assert found == pytest.approx(points[:, :2], abs=1e-3)


def test_what_a_fisheye_sees_beside_it_has_no_ray_and_everything_before_it_has() -> None:
    """A lens of 220 degrees: pixels are as far from the centre as their angle says."""
    focal, distortion = 12.0, (1e-6, 0.0, 0.0, 0.0)
    matrix = np.array([[focal, 0, 31.5], [0, focal, 23.5], [0, 0, 1]])
    made = camera(k=matrix.ravel(), d=distortion, distortion_model="equidistant")
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    angle = np.hypot(columns - 31.5, rows - 23.5) / focal
    known = np.isfinite(made.rays).all(axis=2)
    assert known[angle < np.radians(88)].all()
    assert not known[angle > np.radians(92)].any()
    slope = np.linalg.norm(made.rays, axis=2)
    assert slope[known] == pytest.approx(np.tan(angle[known]), rel=1e-2)


def test_where_distortion_can_not_be_undone_there_is_no_ray() -> None:
    """This polynomial folds at r = 0.86: nothing is seen further outside than at 0.57."""
    made = camera(d=(-0.45, 0.0, 0.0, 0.0, 0.0))
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    radius = np.hypot((columns - K[0, 2]) / K[0, 0], (rows - K[1, 2]) / K[1, 1])
    known = np.isfinite(made.rays).all(axis=2)
    assert known[radius < 0.5].all()
    assert not known[radius > 0.65].any()


ROI = (8, 6, 40, 24)  # left, top, width, height


def averaged(rays: NDArray[np.float32], across: int, down: int) -> NDArray[np.float32]:
    height, width = rays.shape[0] // down * down, rays.shape[1] // across * across
    cut = rays[:height, :width].reshape(height // down, down, width // across, across, 2)
    return np.asarray(cut.mean(axis=(1, 3)), np.float32)


REDUCED: dict[str, tuple[dict[str, Any], tuple[int, int], Any]] = {
    "full": ({}, SIZE, lambda rays: rays),
    "roi of the full image": ({"roi": (0, 0, WIDTH, HEIGHT)}, SIZE, lambda rays: rays),
    "roi": ({"roi": ROI}, (24, 40), lambda rays: rays[6:30, 8:48]),
    "binned": ({"binning_x": 2, "binning_y": 2}, (24, 32), lambda rays: averaged(rays, 2, 2)),
    "binned by three": (
        {"binning_x": 3, "binning_y": 1},
        (48, 21),
        lambda rays: averaged(rays, 3, 1),
    ),
    "roi, binned": (
        {"roi": ROI, "binning_x": 4, "binning_y": 2},
        (12, 10),
        lambda rays: averaged(rays[6:30, 8:48], 4, 2),
    ),
    "binned, and shown at full size": ({"binning_x": 2, "binning_y": 2}, SIZE, lambda rays: rays),
    "scaled by the driver": ({}, (24, 32), lambda rays: averaged(rays, 2, 2)),
    "roi, scaled by the driver": (
        {"roi": ROI},
        (12, 20),
        lambda rays: averaged(rays[6:30, 8:48], 2, 2),
    ),
}


@pytest.mark.parametrize("rectified", [False, True], ids=["raw", "rectified"])
@pytest.mark.parametrize("case", REDUCED)
def test_a_part_of_the_image_sees_what_it_sees_in_the_whole(case: str, rectified: bool) -> None:
    changes, size, part = REDUCED[case]
    whole, made = camera(rectified=rectified), camera(size, rectified, **changes)
    assert made.rays == pytest.approx(part(whole.rays), abs=2e-3)


def test_a_size_that_was_rounded_to_pixels_is_the_same_shape() -> None:
    larger = (np.diag([20.0, 20.0, 1.0]) @ K).ravel()
    made = camera((120, 213), d=(), height=720, width=1280, k=larger)
    assert made.matrix[0, 0] == pytest.approx(1000 * 213 / 1280)
    assert made.matrix[1, 1] == pytest.approx(1040 / 6)


def test_rectified_images_are_projected_by_p_and_else_by_k_without_distortion() -> None:
    x, y = camera(rectified=True).rays[10, 50]
    assert (x, y) == pytest.approx(((50 - 33) / 44, (10 - 22) / 46))
    x, y = camera(rectified=True, p=[0.0] * 12).rays[10, 50]
    assert (x, y) == pytest.approx(((50 - 30.5) / 50, (10 - 24) / 52))
    made = read_camera(info(distortion_model="made_up", d=[np.nan]), SIZE, rectified=True)
    assert made.source == "P of camera_info (rectified)"


@pytest.mark.parametrize(
    ("changes", "size", "text"),
    [
        ({"k": [0.0] * 9}, SIZE, "fx = 0, fy = 0; both must be above 0: calibrate the camera"),
        (
            {"k": [50.0, 0, 30, 0, 50, 24, 0, 0, 0]},
            SIZE,
            "last row (0.0, 0.0, 0.0), which must be 0 and (0.0, 0.0, 1.0): calibrate the camera",
        ),
        ({"width": 0}, SIZE, "must be at least 1 x 1"),
        ({"d": [0.1] * 15}, SIZE, "has 15 distortion coefficients (allowed: 0, 4, 5, 8, 12, 14)"),
        ({"d": [0.1, np.nan, 0, 0, 0]}, SIZE, "must be in -1e+06 .. 1e+06, got"),
        ({"d": [np.inf, 0, 0, 0]}, SIZE, "must be in -1e+06 .. 1e+06, got inf"),
        (
            {"d": [0.1] * 5, "distortion_model": "equidistant"},
            SIZE,
            "has 5 distortion coefficients (allowed: 4)",
        ),
        (
            {"distortion_model": "kannala"},
            SIZE,
            "distortion model 'kannala' is not known (allowed: plumb_bob, rational_polynomial, "
            "equidistant); rectify the images first",
        ),
        ({"roi": (50, 0, 40, 24)}, (24, 40), "roi of 40 x 24 at 50, 0 is not within its 64 x 48"),
        (
            {"binning_x": 2, "binning_y": 2},
            (48, 32),
            "is of images of 64 x 48, reduced to 32 x 24 by roi and binning, and the image is 32 x 48",
        ),
        ({}, (36, 64), "is of images of 64 x 48, and the image is 64 x 36: another shape"),
    ],
)
def test_a_camera_info_that_can_not_be_meant_is_refused(
    changes: dict[str, Any], size: tuple[int, int], text: str
) -> None:
    with pytest.raises(BadDepth) as caught:
        read_camera(info(**changes), size)
    assert str(caught.value).startswith("camera_info: ")
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("distortion", "used"),
    [
        ((0.0, 0.0), ()),
        (PLUMB_BOB, PLUMB_BOB),
        ((*PLUMB_BOB, 0.0), PLUMB_BOB),
        ((*PLUMB_BOB, *[0.0] * 20), (*PLUMB_BOB, *[0.0] * 9)),
    ],
)
def test_zeros_that_no_model_has_change_nothing(
    distortion: tuple[float, ...], used: tuple[float, ...]
) -> None:
    assert read_camera(info(d=distortion), SIZE).camera.distortion == used


@pytest.mark.parametrize("distortion", [(0.1, 0.2), (0.1, 0.2, 0.3), (*PLUMB_BOB, 0.1)])
def test_a_number_of_coefficients_that_no_model_has_gives_no_camera(
    distortion: tuple[float, ...],
) -> None:
    with pytest.raises(BadDepth, match=f"{len(distortion)} distortion coefficients"):
        read_camera(info(d=distortion), SIZE)


NAMES = {
    "/camera/image_raw": False,
    "/camera/image_rect": True,
    "/left/image_rect_color/compressed": True,
    "/left/image_rectified": True,
    "/zed/rgb/color/rect/image/compressed": True,
    "/zed/rgb/color/raw/image": False,
    "/correct/image_raw": False,
    "/rectangle/image": False,
    "/direct_camera/image": False,
    "": False,
}


@pytest.mark.parametrize("topic", NAMES)
def test_topics_say_whether_images_are_rectified(topic: str) -> None:
    assert is_rectified(topic) == NAMES[topic]
