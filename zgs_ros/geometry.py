"""From depth to 3D: where segments are, and how large, in the camera's optical frame or another.

Axes of the camera as in ROS (REP 103): x right, y down, z forward; metres.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from zgs_ros.segmentation import Placement, Segment, Segmentation
from zgs_ros.transforms import Transform

MIN_PIXELS = 8
"""A place is told from at least this many pixels with depth ..."""

MIN_SHARE = 0.05
"""... and at least this share of the segment's pixels."""

EROSION = 0.006
"""What is cut off along a segment's border, where depth mixes near and far [short image sides]."""

MAX_POINTS = 20_000
"""Larger segments are sampled: medians don't get better with more."""

FOCAL_RANGE = 1000
"""Focal lengths are within this times the image's side: beyond it lies no lens, but a mistake."""

MAX_DISTORTION = 1e6
"""Far above what calibrations give, and far below what overflows."""

DISTORTIONS = (0, 4, 5, 8, 12, 14)
"""Numbers of coefficients that OpenCV's model can have."""

POINTS_AT_ONCE = 2**20
"""Pixels whose rays are computed together, so that large images need no multiple of their memory."""

EXTENT = (1.0, 99.0)
"""Percentiles of the coordinates between which a segment extends."""


@dataclass(frozen=True, eq=False)
class PinholeCamera:
    """How a camera projects.

    Attributes:
        matrix: K, float64 (3, 3); pixel centres have integer coordinates.
        size: (height, width) of the images that K is for.
        distortion: Coefficients of OpenCV's model (k1, k2, p1, p2, k3, ...), () for a rectified image.

    Raises:
        ValueError: If K, the size or the distortion can't be those of a calibrated camera.
    """

    matrix: NDArray[np.float64]
    size: tuple[int, int]
    distortion: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        fx, fy = float(self.matrix[0, 0]), float(self.matrix[1, 1])
        if not (np.isfinite(self.matrix).all() and fx > 0 and fy > 0):
            raise ValueError(
                f"the camera matrix has focal lengths fx = {fx:g}, fy = {fy:g}; both must be above 0: "
                "calibrate the camera"
            )
        if min(self.size) < 1:
            raise ValueError(f"the camera's image size {self.size} must be at least 1 x 1")
        for name, focal, side in (("fx", fx, self.size[1]), ("fy", fy, self.size[0])):
            if not side / FOCAL_RANGE <= focal <= side * FOCAL_RANGE:
                raise ValueError(
                    f"the camera matrix has focal length {name} = {focal:g}, with {side} pixels it must "
                    f"be in {side / FOCAL_RANGE:g} .. {side * FOCAL_RANGE}: calibrate the camera"
                )
        centre = np.abs(self.matrix[:2, 2])
        if (centre > FOCAL_RANGE * max(self.size)).any() or abs(self.matrix[0, 1]) > fx:
            raise ValueError(
                f"the camera matrix has its centre at {self.matrix[0, 2]:g}, {self.matrix[1, 2]:g} "
                f"and skew {self.matrix[0, 1]:g}, far outside the image: calibrate the camera"
            )
        if len(self.distortion) not in DISTORTIONS and any(self.distortion):
            raise ValueError(
                f"the camera has {len(self.distortion)} distortion coefficients (allowed: "
                f"{', '.join(map(str, DISTORTIONS))}): calibrate the camera"
            )
        if not all(abs(value) <= MAX_DISTORTION for value in self.distortion):
            raise ValueError(
                f"the camera's distortion coefficients must be in -{MAX_DISTORTION:g} .. "
                f"{MAX_DISTORTION:g}, got {max(self.distortion, key=abs):g}: calibrate the camera"
            )

    def scaled(self, size: tuple[int, int]) -> PinholeCamera:
        """The same camera with images of another (height, width)."""
        if size == self.size:
            return self
        down, across = size[0] / self.size[0], size[1] / self.size[1]
        # A pixel's outer edge, half a pixel before its centre, is what scales.
        to_edges = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
        scale = np.diag([across, down, 1.0])
        matrix = np.linalg.inv(to_edges) @ scale @ to_edges @ self.matrix
        return PinholeCamera(matrix, size, self.distortion)

    @cached_property
    def rays(self) -> NDArray[np.float32]:
        """(x, y) at depth 1 of what every pixel sees, float32 (height, width, 2)."""
        height, width = self.size
        rays = np.empty((height, width, 2), np.float32)
        (fx, skew, cx), (_, fy, cy) = self.matrix[:2]
        columns = np.arange(width)
        rows_at_once = max(1, POINTS_AT_ONCE // width)
        for start in range(0, height, rows_at_once):
            rows = np.arange(start, min(start + rows_at_once, height))[:, None]
            block = rays[start : start + rows_at_once]
            if any(self.distortion):
                pixels = np.stack(np.broadcast_arrays(columns, rows), -1).astype(np.float64)
                straight = cv2.undistortPoints(
                    pixels.reshape(-1, 1, 2), self.matrix, np.array(self.distortion)
                )
                block[:] = straight.reshape(block.shape)
            else:
                y = (rows - cy) / fy
                block[..., 0], block[..., 1] = (columns - cx - skew * y) / fx, y
        return rays


def locate(
    segmentation: Segmentation,
    depth: NDArray[np.float32],
    camera: PinholeCamera,
    transform: Transform | None = None,
) -> Segmentation:
    """Gives each segment its placement; those without enough valid depth have none.

    Args:
        segmentation: Of an image that the depth is registered to.
        depth: float32 (height, width), distance along the optical axis in metres; nan, inf and what
            is not above 0 are invalid. It may be of another resolution than the image.
        camera: Of the depth.
        transform: From the camera's optical frame to the one that places are wanted in, None for that
            of the camera. Sizes are along the axes of that frame.

    Raises:
        ValueError: If depth and image differ in aspect ratio: then they are not registered.
    """
    height, width = depth.shape
    rows, columns = segmentation.size
    if abs(width * rows - height * columns) > max(rows, columns):
        raise ValueError(
            f"depth of {width} x {height} does not fit an image of {columns} x {rows}; "
            "it must be registered to the image (such as aligned_depth_to_color)"
        )
    camera = camera.scaled((height, width))
    labels = segmentation.label_map
    if labels.shape != depth.shape:
        labels = np.asarray(
            cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST), np.uint16
        )
    valid = np.isfinite(depth) & (depth > 0) & np.isfinite(camera.rays).all(axis=2)
    boxes = find_objects(labels.astype(np.int32))
    margin = 1 + round(EROSION * min(height, width))
    segments: list[Segment] = []
    for segment in segmentation.segments:
        box = boxes[segment.id - 1] if segment.id <= len(boxes) else None
        placement = None
        if box is not None:
            window = tuple(slice(max(s.start - margin, 0), s.stop + margin) for s in box)
            mask = labels[window] == segment.id
            placement = _place(
                mask, valid[window], depth[window], camera.rays[window], margin, transform
            )
        segments.append(replace(segment, placement=placement))
    return replace(segmentation, segments=tuple(segments))


def _place(
    mask: NDArray[np.bool_],
    valid: NDArray[np.bool_],
    depth: NDArray[np.float32],
    rays: NDArray[np.float32],
    margin: int,
    transform: Transform | None,
) -> Placement | None:
    """Placement of one segment in a window around it, all arrays (rows, columns, ...)."""
    seen = mask & valid
    if seen.sum() < max(MIN_PIXELS, MIN_SHARE * mask.sum()):
        return None
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1, 2 * margin + 1))
    # At the image's border nothing is cut off: OpenCV counts what lies outside as the segment's.
    inner = cv2.erode(mask.astype(np.uint8), kernel).astype(np.bool_) & valid
    if inner.sum() < MIN_PIXELS:
        inner = seen
    points = _points(inner, depth, rays)
    near, far = np.percentile(points[:, 2], EXTENT)
    # The border counts for the size, but not what is seen past it.
    outline = _points(seen & (depth >= near) & (depth <= far), depth, rays)
    if transform:
        points, outline = transform.apply(points), transform.apply(outline)
    low, high = np.percentile(outline, EXTENT, axis=0)
    x, y, z = (float(value) for value in np.median(points, axis=0))
    across, down, deep = (float(value) for value in high - low)
    found = (x, y, z), (across, down, deep)
    return Placement(*found) if np.isfinite(found).all() else None  # a distortion beyond all bounds


def _points(
    mask: NDArray[np.bool_], depth: NDArray[np.float32], rays: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Points (n, 3) of the pixels of a mask."""
    index = np.flatnonzero(mask)
    index = index[:: 1 + len(index) // MAX_POINTS]
    z = depth.reshape(-1)[index]
    return np.concatenate([rays.reshape(-1, 2)[index] * z[:, None], z[:, None]], axis=1)
