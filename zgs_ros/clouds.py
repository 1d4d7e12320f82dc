"""Clouds of points from a picture with depth: of all pixels, or of one object with a box around it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from zgs_ros.geometry import EROSION, EXTENT, MIN_PIXELS, CameraModel
from zgs_ros.segmentation import Segment, Segmentation
from zgs_ros.transforms import Transform

POINT = np.dtype(
    [(name, np.float32) for name in ("x", "y", "z", "rgb")]
    + [(name, np.uint32) for name in ("label", "instance")]
)
"""A point: place in metres, colour packed as PCL and RViz have it (0x00RRGGBB in a float's bits),
`Segment.class_id` and `Segment.id`, 0 = none."""

MAX_PIXELS = 3840 * 2160
"""Largest picture that a cloud is made of: 4K, 200 MB of points."""

PIXELS_AT_ONCE = 2**15
"""What is computed of a cloud together: little enough to stay in a core's cache."""


class CloudTooLarge(ValueError):
    """A picture with more pixels than a cloud may have; the text says what to do."""


@dataclass(frozen=True, eq=False)
class Surface:
    """What of a picture's surface is known in space.

    Attributes:
        depth: float32 (height, width) in metres along the optical axis, possibly of another resolution
            than the picture; what is not above 0 and finite is not known.
        camera: Of the depth, and of its size.
        frame: That positions are in.
        transform: From the camera's optical frame to `frame`.
        upright: Whether the z axis of `frame` points up.
    """

    depth: NDArray[np.float32]
    camera: CameraModel
    frame: str
    transform: Transform
    upright: bool


def make_cloud(
    surface: Surface, image: NDArray[np.uint8], segmentation: Segmentation
) -> NDArray[np.void]:
    """A `POINT` for every pixel of a picture, (height, width); nan where its place is not known.

    Where the depth has another resolution, a pixel has the point of the depth pixel nearest to it.

    Args:
        surface: Of the picture.
        image: uint8 RGB (height, width, 3).
        segmentation: Of the picture.

    Raises:
        CloudTooLarge: If the picture has more than `MAX_PIXELS`.
    """
    height, width = segmentation.size
    if height * width > MAX_PIXELS:
        raise CloudTooLarge(
            f"a cloud of {width} x {height} pixels is not made (allowed: {MAX_PIXELS}); "
            "use smaller images, such as those of image_proc's resize node"
        )
    rays, labels = surface.camera.rays, segmentation.label_map
    down, across = (
        _nearest(*sides) for sides in zip((height, width), surface.depth.shape, strict=True)
    )
    pose = np.empty((3, 4), np.float32)
    pose[:, :3], pose[:, 3] = surface.transform.rotation, surface.transform.translation
    classes = np.zeros(1 + int(labels.max(initial=0)), np.uint32)
    for segment in segmentation.segments:
        if segment.id < len(classes):
            classes[segment.id] = segment.class_id
    fields = len(POINT.names or ())
    cloud = np.empty((height, width, fields), np.float32)
    rows_at_once = max(1, PIXELS_AT_ONCE // width)
    # Both are written anew for each block of rows, and stay in the cache.
    seen = np.ones((4, rows_at_once * width), np.float32)  # x, y, z of the camera's frame, and 1
    planes = np.empty((fields, rows_at_once * width), np.float32)
    for start in range(0, height, rows_at_once):
        rows = slice(start, min(start + rows_at_once, height))
        ids = labels[rows]
        if surface.depth.shape == labels.shape:
            depth, ray = surface.depth[rows], rays[rows]
        else:
            depth, ray = (
                given.take(down[rows], axis=0).take(across, axis=1)
                for given in (surface.depth, rays)
            )
        x, y, z, _ = seen[:, : ids.size].reshape(-1, *ids.shape)
        block = planes[:, : ids.size].reshape(-1, *ids.shape)
        colour, label, instance = block[3:].view(np.uint32)
        np.copyto(z, depth)
        with np.errstate(invalid="ignore", over="ignore"):
            np.multiply(ray[..., 0], depth, out=x)
            np.multiply(ray[..., 1], depth, out=y)
            # Also where only a ray is not known, z is nan, and with it each axis of the other frame.
            np.putmask(z, ~((depth > 0) & np.isfinite(x + y)), np.nan)
            np.matmul(pose, seen[:, : ids.size], out=planes[:3, : ids.size])
        bgra = colour.view(np.uint8).reshape(*ids.shape, 4)
        cv2.cvtColor(image[rows], cv2.COLOR_RGB2BGRA, bgra)
        np.bitwise_and(colour, 0xFFFFFF, out=colour)
        np.take(classes, ids, out=label, mode="clip")  # no id is above; "raise" copies
        np.copyto(instance, ids)
        # OpenCV interleaves in half of the time that NumPy takes to fill the fields one by one.
        cv2.merge([*block], cloud[rows])
    return cloud.view(POINT)[..., 0]


def _nearest(count: int, known: int) -> NDArray[np.intp]:
    """For each of a number of pixels of a side the nearest of those that are known of it."""
    return (2 * np.arange(count) + 1) * known // (2 * count)


def known_points(cloud: NDArray[np.void]) -> NDArray[np.void]:
    """The points of a cloud whose place is known, `POINT` (n,)."""
    return cloud.reshape(-1).take(np.flatnonzero(np.isfinite(cloud["z"])))


def places(cloud: NDArray[np.void]) -> NDArray[np.float32]:
    """x, y and z of a cloud's points, float32 (n, 3)."""
    return np.stack([cloud[axis] for axis in "xyz"], axis=-1)


def object_cloud(
    surface: Surface, image: NDArray[np.uint8], segmentation: Segmentation, segment: Segment
) -> NDArray[np.void]:
    """The known points of one segment, `POINT` (n,), without those at its border.

    There depth mixes near and far. What remains of the depth is its middle, between the percentiles
    of `zgs_ros.geometry.EXTENT`; of thin things the border remains.

    Raises:
        CloudTooLarge: As `make_cloud`.
    """
    cloud = make_cloud(surface, image, segmentation)
    mask = (segmentation.label_map == segment.id).astype(np.uint8)
    margin = 1 + round(EROSION * min(mask.shape))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1, 2 * margin + 1))
    for inner in (cv2.erode(mask, kernel), mask):
        points = known_points(cloud[inner.astype(np.bool_)])
        if len(points) >= MIN_PIXELS:
            break
    if not len(points):
        return points
    # The camera's distance again, whatever frame the points are in.
    distance = places(points) - surface.transform.translation.astype(np.float32)
    distance = distance @ surface.transform.rotation[:, 2].astype(np.float32)
    near, far = np.percentile(distance, EXTENT)
    return points[(distance >= near) & (distance <= far)]


@dataclass(frozen=True, eq=False)
class Box:
    """A box in space.

    Attributes:
        pose: From the box's own axes, whose origin is its middle, to the frame of the points.
        size: Along its axes [m].
    """

    pose: Transform
    size: tuple[float, float, float]


def oriented_box(points: NDArray[np.float32], upright: bool) -> Box:
    """A tight box around points (n, 3), n >= 1.

    Args:
        points: Finite ones.
        upright: Whether the box stands on the ground, whose normal is z: then its x axis runs along
            the longer side of the smallest rectangle around what it covers there. Otherwise the axes
            are the principal ones, the longest first.
    """
    low, high = np.percentile(points, EXTENT, axis=0)
    inner = points[((points >= low) & (points <= high)).all(axis=1)]
    if not len(inner):
        inner = points
    axes = _standing_axes(inner) if upright else _principal_axes(inner)
    low, high = np.percentile(points @ axes, EXTENT, axis=0)
    middle = axes @ ((low + high) / 2)
    across, along, deep = (float(value) for value in high - low)
    return Box(Transform(axes, middle), (across, along, deep))


def _standing_axes(points: NDArray[np.float32]) -> NDArray[np.float64]:
    """Axes, one a column: z up, x along the longer side of the smallest rectangle (rotating calipers)."""
    flat = points[:, :2] - points[:, :2].mean(axis=0)  # float32 far from the origin is coarse
    _, (width, height), degrees = cv2.minAreaRect(np.ascontiguousarray(flat, np.float32))
    angle = np.radians(degrees if width >= height else degrees + 90)
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def _principal_axes(points: NDArray[np.float32]) -> NDArray[np.float64]:
    """Axes, one a column, right-handed, the direction of the largest variance first."""
    centred = (points - points.mean(axis=0)).astype(np.float64)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1]
    axes[:, 2] *= np.sign(np.linalg.det(axes))
    return axes
