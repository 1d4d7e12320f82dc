"""Cameras that are mounted turned: the models see upright images, results are in the image's own pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from zgs_ros.segmentation import ImageSegmenter, Roi, Segment, Segmentation


def rotations(given: Sequence[int], cameras: Sequence[str]) -> dict[str, int]:
    """By how many degrees clockwise each camera's images are turned, by its name.

    Args:
        given: One value for all cameras, or one for each: `zgs_ros.config.NodeSettings.rotation`.
        cameras: Their names.

    Raises:
        ValueError: If it is neither.
    """
    if len(given) == 1:
        given = [given[0]] * len(cameras)
    if len(given) != len(cameras):
        raise ValueError(
            f"rotation has {len(given)} values for {len(cameras)} cameras "
            f"({', '.join(filter(None, cameras))}); give one for all, or one for each in their order"
        )
    return dict(zip(cameras, given, strict=True))


def segment_upright(
    segmenter: ImageSegmenter, images: Sequence[NDArray[np.uint8]], degrees: Sequence[int]
) -> list[Segmentation]:
    """Segments images that are not upright.

    Args:
        segmenter: Sees them upright.
        images: uint8 RGB (height, width, 3).
        degrees: By how many each of them is turned clockwise to be upright: 0, 90, 180 or 270.

    Returns:
        A segmentation of each image as it is: its label map, boxes and centroids are not turned.
    """
    upright = [turned(image, angle) for image, angle in zip(images, degrees, strict=True)]
    seen = segmenter.segment_batch(upright)
    return [turned_back(one, angle) for one, angle in zip(seen, degrees, strict=True)]


def turned(image: NDArray[np.uint8], degrees: int) -> NDArray[np.uint8]:
    """An image turned clockwise: what was its left side is on top at 90 degrees."""
    return np.ascontiguousarray(np.rot90(image, -degrees // 90)) if degrees else image


def turned_back(segmentation: Segmentation, degrees: int) -> Segmentation:
    """The segmentation of an image, of that of the image turned clockwise."""
    if not degrees:
        return segmentation
    label_map = np.ascontiguousarray(np.rot90(segmentation.label_map, degrees // 90))
    height, width = segmentation.size
    segments = tuple(_turned_back(s, degrees, height, width) for s in segmentation.segments)
    return replace(segmentation, label_map=label_map, segments=segments)


def _turned_back(segment: Segment, degrees: int, height: int, width: int) -> Segment:
    """A segment of an upright image of this height and width, as it is in the image before."""
    (x, y), box = segment.centroid, segment.roi
    right, below = width - box.x - box.width, height - box.y - box.height
    if degrees == 90:
        centroid, roi = (y, width - 1 - x), Roi(box.y, right, box.height, box.width)
    elif degrees == 180:
        centroid = width - 1 - x, height - 1 - y
        roi = Roi(right, below, box.width, box.height)
    else:
        centroid, roi = (height - 1 - y, x), Roi(below, box.x, box.height, box.width)
    return replace(segment, centroid=centroid, roi=roi)
