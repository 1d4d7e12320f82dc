"""Clouds: each pixel where its depth says, one object without its border, and the box around it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from zgs_ros import clouds
from zgs_ros.clouds import (
    Box,
    CloudTooLarge,
    Surface,
    known_points,
    make_cloud,
    object_cloud,
    oriented_box,
    places,
)
from zgs_ros.geometry import CameraModel
from zgs_ros.segmentation import Roi, Segment, Segmentation
from zgs_ros.transforms import Transform

HEIGHT, WIDTH = 48, 64
CAMERA = CameraModel(np.array([[60.0, 0, 31.5], [0, 60.0, 23.5], [0, 0, 1]]), (HEIGHT, WIDTH))
MOVED = Transform.of_quaternion((1.0, 2.0, 3.0), (0.5, 0.5, 0.5, 0.5))
RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def halves(height: int = HEIGHT, width: int = WIDTH) -> Segmentation:
    """None above, 1 (class 7) on the left, 9 (class 300) on the right."""
    labels = np.ones((height, width), np.uint16)
    labels[:, width // 2 :] = 9
    labels[: height // 4] = 0
    nothing = np.empty(0, np.float32)
    segments = [
        Segment(number, (), Roi(0, 0, 1, 1), 1, (0.0, 0.0), nothing, class_id=kind)
        for number, kind in ((1, 7), (9, 300))
    ]
    return Segmentation(labels, tuple(segments))


def surface(depth: NDArray[np.float32], transform: Transform = MOVED) -> Surface:
    height, width = depth.shape
    return Surface(depth, CAMERA.scaled((height, width)), "map", transform, upright=True)


def depths(height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.float32]:
    return RNG.uniform(0.5, 8.0, (height, width)).astype(np.float32)


@pytest.mark.parametrize("transform", [Transform.identity(), MOVED], ids=["camera", "map"])
@pytest.mark.parametrize("at_once", [1, 1000, 2**20], ids="{} pixels at once".format)
def test_every_pixel_is_where_its_depth_says(
    transform: Transform, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clouds, "PIXELS_AT_ONCE", at_once)
    depth, seen = depths(), halves()
    cloud = make_cloud(surface(depth, transform), IMAGE, seen)
    rays = np.concatenate([CAMERA.rays, np.ones((HEIGHT, WIDTH, 1), np.float32)], axis=-1)
    expected = transform.apply(rays * depth[..., None])
    assert np.abs(places(cloud) - expected).max() < 1e-5
    assert np.array_equal(cloud["instance"], seen.label_map)
    kinds = np.select([seen.label_map == 1, seen.label_map == 9], [7, 300])
    assert np.array_equal(cloud["label"], kinds)
    red, green, blue = IMAGE.astype(np.uint32).transpose(2, 0, 1)
    assert np.array_equal(cloud["rgb"].view(np.uint32), red << 16 | green << 8 | blue)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf, -np.inf])
def test_what_has_no_depth_is_nan_on_every_axis(value: float) -> None:
    depth = depths()
    depth[3, 4] = value
    cloud = make_cloud(surface(depth), IMAGE, halves())
    assert np.isnan(places(cloud[3, 4])).all()
    assert np.isfinite(places(cloud)).all(axis=-1).sum() == HEIGHT * WIDTH - 1
    known = known_points(cloud)
    assert (known.shape, np.isfinite(places(known)).all()) == ((HEIGHT * WIDTH - 1,), True)
    assert np.array_equal(known[:192], cloud.reshape(-1)[:192]), "in the order of the pixels"


def test_rays_that_are_not_finite_make_no_points() -> None:
    given = surface(depths(), Transform.identity())
    rays = given.camera.rays.copy()
    rays[5, 6], rays[5, 7] = (np.inf, 0.1), (0.1, np.nan)
    given.camera.__dict__["rays"] = rays
    try:
        cloud = make_cloud(given, IMAGE, halves())
        assert np.isnan(places(cloud[5, 6:8])).all()
        assert len(known_points(cloud)) == HEIGHT * WIDTH - 2
    finally:
        del given.camera.__dict__["rays"]


@pytest.mark.parametrize("factor", [0.25, 0.5, 2.0, 3.0])
def test_depth_of_another_resolution_gives_each_pixel_the_nearest_point(factor: float) -> None:
    depth = depths(round(HEIGHT * factor), round(WIDTH * factor))
    cloud = make_cloud(surface(depth, Transform.identity()), IMAGE, halves())
    assert cloud.shape == (HEIGHT, WIDTH)
    assert np.isin(cloud["z"], depth).all()
    # A pixel's own ray and its point's are at most half a pixel of the coarser grid apart.
    pixel = max(1.0, 1 / factor)
    ray = places(cloud)[..., :2] / cloud["z"][..., None]
    assert np.abs(ray - CAMERA.rays).max() * 60 <= pixel / 2 + 1e-3


def test_clouds_are_no_larger_than_4k() -> None:
    large = Segmentation(np.zeros((2161, 3840), np.uint16), ())
    with pytest.raises(CloudTooLarge, match=r"3840 x 2161 pixels is not made \(allowed: 8294400\)"):
        make_cloud(surface(depths()), np.zeros((1, 1, 3), np.uint8), large)


def board_scene() -> tuple[NDArray[np.float32], Segmentation]:
    """A board at 2 m before a wall at 5 m; between them flying pixels, as depth cameras see edges."""
    labels = np.ones((HEIGHT, WIDTH), np.uint16)
    labels[12:36, 20:44] = 2
    depth = np.where(labels == 2, 2.0, 5.0).astype(np.float32)
    depth[12, 20:44] = depth[35, 20:44] = depth[12:36, 20] = depth[12:36, 43] = 3.5
    nothing = np.empty(0, np.float32)
    segments = (Segment(n, (), Roi(0, 0, 1, 1), 1, (0.0, 0.0), nothing) for n in (1, 2))
    return depth, Segmentation(labels, tuple(segments))


@pytest.mark.parametrize("transform", [Transform.identity(), MOVED], ids=["camera", "map"])
def test_an_object_has_no_flying_pixels(transform: Transform) -> None:
    depth, seen = board_scene()
    points = object_cloud(surface(depth, transform), IMAGE, seen, seen.segments[1])
    assert set(points["instance"]) == {2}
    optical = transform.inverse().apply(places(points))
    assert np.abs(optical[:, 2] - 2.0).max() < 1e-4
    assert len(points) > 300


def test_of_a_thin_object_the_border_remains_and_without_depth_nothing() -> None:
    depth, seen = board_scene()
    seen.label_map[:, :] = 1
    seen.label_map[10:40, 30] = 2
    depth[10:40, 30] = 2.0
    given = surface(depth)
    assert len(object_cloud(given, IMAGE, seen, seen.segments[1])) == 30
    depth[10:40, 30] = 0
    assert len(object_cloud(given, IMAGE, seen, seen.segments[1])) == 0


def brick(turned: Rotation, size: tuple[float, float, float]) -> NDArray[np.float32]:
    points = RNG.uniform(-0.5, 0.5, (20_000, 3)) * size
    return np.asarray(turned.apply(points) + (100.0, -50.0, 0.8), np.float32)


@pytest.mark.parametrize("degrees", [0, 25, 45, 89, 130])
def test_a_standing_box_follows_the_thing_on_the_ground(degrees: float) -> None:
    box = oriented_box(brick(Rotation.from_euler("z", degrees, True), (0.6, 0.2, 0.4)), True)
    assert box.size == pytest.approx((0.6, 0.2, 0.4), abs=0.03)
    assert box.pose.translation == pytest.approx((100.0, -50.0, 0.8), abs=0.02)
    assert box.pose.rotation[:, 2] == pytest.approx((0, 0, 1))
    x, y, _ = box.pose.rotation[:, 0]
    off = (np.degrees(np.arctan2(y, x)) - degrees + 90) % 180 - 90
    assert abs(off) < 3
    check_axes(box)


def test_without_an_upright_frame_the_axes_are_the_principal_ones() -> None:
    turned = Rotation.from_euler("xyz", (30, 40, 50), degrees=True)
    box = oriented_box(brick(turned, (0.2, 0.9, 0.4)), False)
    assert box.size == pytest.approx((0.9, 0.4, 0.2), abs=0.03)
    assert abs(box.pose.rotation[:, 0] @ turned.as_matrix()[:, 1]) == pytest.approx(1, abs=1e-2)
    check_axes(box)


@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize("count", [1, 2, 8])
def test_a_few_points_have_a_box(count: int, upright: bool) -> None:
    points = np.array([[1.0, 2.0, 3.0]], np.float32).repeat(count, axis=0)
    points[:, 0] += np.arange(count, dtype=np.float32) / 10
    box = oriented_box(points, upright)
    assert np.isfinite([*box.size, *box.pose.translation]).all()
    check_axes(box)


def check_axes(box: Box) -> None:
    rotation = box.pose.rotation
    assert rotation @ rotation.T == pytest.approx(np.eye(3), abs=1e-6)
    assert np.linalg.det(rotation) == pytest.approx(1.0)
