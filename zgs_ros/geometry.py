"""From depth to 3D: where segments are, and how large, in the camera's optical frame or another.

Axes of the camera as in ROS (REP 103): x right, y down, z forward; metres.
"""

from __future__ import annotations

import math
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

MAX_PIXELS = 2**22
"""Of larger depth every second, third, ... row and column is taken: eroding segments takes time that grows
faster than their pixels."""

MAX_POINTS = 20_000
"""Larger segments are sampled: medians don't get better with more."""

MAX_SAMPLES = 2000
"""Of larger segments so many points tell in which depths they lie."""

SLACK = 0.15
"""A segment's border may be nearer or farther than its inside by this share of its largest extent: of
thin things little but border is left. More lets in what is seen past masks that are a pixel too wide."""

FOCAL_RANGE = 1000
"""Focal lengths are within this times the image's side: beyond it lies no lens, but a mistake."""

MAX_DISTORTION = 1e6
"""Far above what calibrations give, and far below what overflows."""

DISTORTIONS = (0, 4, 5, 8, 12, 14)
"""Numbers of coefficients that OpenCV's model can have."""

FISHEYE_DISTORTIONS = (4,)
"""Numbers of coefficients that OpenCV's fisheye model can have."""

MAX_SLOPE = 100.0
"""Rays of distorted pixels are within this times the distance along the optical axis, 89.4 degrees:
what a fisheye lens sees beyond has no such distance."""

STRAIGHTENING = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, 50, 1e-4)
"""Distortion is undone to this many pixels, in as many steps at most."""

MAX_MISS = 0.5
"""A ray that is distorted again comes back to its pixel within this [pixels], or is none: outside of
where a lens was calibrated, its distortion may not be one that can be undone."""

CHECKED_STEP = 4
"""Only the rays of every so many rows and columns are checked, unless one of them is none."""

POINTS_AT_ONCE = 2**20
"""Pixels whose rays are computed together, so that large images need no multiple of their memory."""

EXTENT = (1.0, 99.0)
"""Percentiles of the coordinates between which a segment extends."""


@dataclass(frozen=True, eq=False)
class CameraModel:
    """How a camera projects.

    Attributes:
        matrix: K, float64 (3, 3); pixel centres have integer coordinates.
        size: (height, width) of the images that K is for.
        distortion: Coefficients of OpenCV's model (k1, k2, p1, p2, k3, ...), or of its fisheye model
            (k1, k2, k3, k4); () for a rectified image.
        fisheye: Whether the distortion is that of the fisheye model.

    Raises:
        ValueError: If K, the size or the distortion can't be those of a calibrated camera.
    """

    matrix: NDArray[np.float64]
    size: tuple[int, int]
    distortion: tuple[float, ...] = ()
    fisheye: bool = False

    def __post_init__(self) -> None:
        fx, fy = float(self.matrix[0, 0]), float(self.matrix[1, 1])
        if not (fx > 0 and fy > 0):
            raise ValueError(
                f"the camera matrix has focal lengths fx = {fx:g}, fy = {fy:g}; both must be above 0: "
                "calibrate the camera"
            )
        if not np.isfinite(self.matrix).all():
            raise ValueError("the camera matrix holds nan or inf: calibrate the camera")
        below, last = float(self.matrix[1, 0]), tuple(map(float, self.matrix[2]))
        if below or last != (0, 0, 1):
            raise ValueError(
                f"the camera matrix has {below:g} below fx and the last row {last}, which must be 0 and "
                "(0.0, 0.0, 1.0): calibrate the camera"
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
        counts = FISHEYE_DISTORTIONS if self.fisheye else DISTORTIONS
        if len(self.distortion) not in counts and any(self.distortion):
            raise ValueError(
                f"the camera has {len(self.distortion)} distortion coefficients (allowed: "
                f"{', '.join(map(str, counts))}): calibrate the camera"
            )
        if not all(abs(value) <= MAX_DISTORTION for value in self.distortion):
            raise ValueError(
                f"the camera's distortion coefficients must be in -{MAX_DISTORTION:g} .. "
                f"{MAX_DISTORTION:g}, got {max(self.distortion, key=abs):g}: calibrate the camera"
            )

    def scaled(self, size: tuple[int, int]) -> CameraModel:
        """The same camera with images of another (height, width)."""
        if size == self.size:
            return self
        down, across = size[0] / self.size[0], size[1] / self.size[1]
        # A pixel's outer edge, half a pixel before its centre, is what scales.
        to_edges = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
        scale = np.diag([across, down, 1.0])
        matrix = np.linalg.inv(to_edges) @ scale @ to_edges @ self.matrix
        return replace(self, matrix=matrix, size=size)

    def cropped(self, left: int, top: int, size: tuple[int, int]) -> CameraModel:
        """The same camera with the (height, width) of its images that begin at a column and row."""
        moved = np.array([[0, 0, left], [0, 0, top], [0, 0, 0]])
        return replace(self, matrix=self.matrix - moved, size=size)

    @cached_property
    def rays(self) -> NDArray[np.float32]:
        """(x, y) at depth 1 of what every pixel sees, float32 (height, width, 2).

        nan where that can't be told: past the edge of a fisheye lens, or of its calibration.
        """
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
                block[:] = self._straightened(pixels)
            else:
                y = (rows - cy) / fy
                block[..., 0], block[..., 1] = (columns - cx - skew * y) / fx, y
        return rays

    def _straightened(self, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Rays of distorted pixels, both (rows, columns, 2)."""
        points, distortion = pixels.reshape(-1, 1, 2), np.array(self.distortion)
        if self.fisheye:
            found = cv2.fisheye.undistortPoints(
                points, self.matrix, distortion, criteria=STRAIGHTENING
            )
        else:
            same = np.eye(3)
            found = cv2.undistortPointsIter(
                points, self.matrix, distortion, same, same, STRAIGHTENING
            )
        rays = np.asarray(found, np.float64).reshape(pixels.shape)
        rays[~(np.abs(rays) <= MAX_SLOPE).all(axis=2)] = np.nan
        height, width = pixels.shape[:2]
        rows = np.r_[0:height:CHECKED_STEP, height - 1]
        columns = np.r_[0:width:CHECKED_STEP, width - 1]
        sample = np.ix_(rows, columns)
        if self._is_missed(rays[sample], pixels[sample]).any():
            rays[self._is_missed(rays, pixels)] = np.nan
        return rays

    def _is_missed(
        self, rays: NDArray[np.float64], pixels: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Which rays (rows, columns, 2) are not seen at their pixels."""
        return ~(np.linalg.norm(self._distorted(rays) - pixels, axis=2) <= MAX_MISS)

    def _distorted(self, rays: NDArray[np.float64]) -> NDArray[np.float64]:
        """Pixels that rays are seen at, both (rows, columns, 2)."""
        points, distortion = rays.reshape(-1, 1, 2), np.array(self.distortion)
        if self.fisheye:
            seen = cv2.fisheye.distortPoints(points, self.matrix, distortion)
        else:
            ahead = cv2.convertPointsToHomogeneous(points)
            seen, _ = cv2.projectPoints(ahead, np.zeros(3), np.zeros(3), self.matrix, distortion)
        return np.asarray(seen, np.float64).reshape(rays.shape)


def fits(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether a (height, width) is another one scaled and rounded to pixels."""
    return abs(size[1] * other[0] - size[0] * other[1]) <= max(other)


def locate(
    segmentation: Segmentation,
    depth: NDArray[np.float32],
    camera: CameraModel,
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
    if not fits((height, width), (rows, columns)):
        raise ValueError(
            f"depth of {width} x {height} does not fit an image of {columns} x {rows}; "
            "it must be registered to the image (such as aligned_depth_to_color)"
        )
    rays = camera.scaled((height, width)).rays
    labels = segmentation.label_map
    if labels.shape != depth.shape:
        labels = np.asarray(
            cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST), np.uint16
        )
    step = math.ceil(math.sqrt(height * width / MAX_PIXELS))
    labels, depth, rays = labels[::step, ::step], depth[::step, ::step], rays[::step, ::step]
    valid = np.isfinite(depth) & (depth > 0) & np.isfinite(rays).all(axis=2)
    boxes = find_objects(labels.astype(np.int32))
    margin = 1 + round(EROSION * min(depth.shape))
    segments: list[Segment] = []
    for segment in segmentation.segments:
        box = boxes[segment.id - 1] if segment.id <= len(boxes) else None
        placement = None
        if box is not None:
            window = tuple(slice(max(s.start - margin, 0), s.stop + margin) for s in box)
            mask = labels[window] == segment.id
            placement = _place(mask, valid[window], depth[window], rays[window], margin, transform)
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
    few = points[:: 1 + len(points) // MAX_SAMPLES]
    low, high = np.percentile(few, EXTENT, axis=0)
    # The border counts for the size, but not what is seen past it.
    slack = SLACK * (high - low).max()
    near, far = low[2] - slack, high[2] + slack
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
