"""Parts of a segment that do not touch: two things that look alike are still two things."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


def split_components(masks: dict[int, Mask], min_area: float) -> dict[int, Mask]:
    """Makes the separate parts of every segment segments of their own.

    The clustering knows no places, so that everything of one look is one cluster. The parts become
    leaves of a balanced tree below their segment, so that merging can join again what belongs together,
    in few rounds.

    Args:
        masks: (height, width) boolean each, by heap number (children of i are 2i + 1 and 2i + 2);
            they tile the image.
        min_area: Parts below this share of the image go to the nearest part that is larger, unless
            they are the largest of their segment.

    Returns:
        As `masks`.
    """
    found: dict[int, Mask] = {}
    for number, mask in masks.items():
        found.update(_leaves(_parts(mask, min_area), number))
    return _without_gaps(dict(sorted(found.items())))


def _leaves(parts: list[Mask], number: int) -> dict[int, Mask]:
    """The parts by heap number, as leaves below the node with this number; alone as the node itself."""
    if len(parts) == 1:
        return {number: parts[0]}
    return _leaves(parts[::2], 2 * number + 1) | _leaves(parts[1::2], 2 * number + 2)


def _parts(mask: Mask, min_area: float) -> list[Mask]:
    """The connected parts that can stand alone, in falling order; at least the largest."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    box = np.s_[top : top + height, left : left + width]
    count, labels = cv2.connectedComponents(mask[box].astype(np.uint8), connectivity=4)
    if count == 2:  # the background is one, too
        return [mask]
    areas = np.bincount(labels.ravel(), minlength=count)[1:]
    order = [int(i) for i in np.argsort(-areas, kind="stable")]
    kept = [i for i in order if areas[i] >= min_area * mask.size] or order[:1]
    parts = [np.zeros_like(mask) for _ in kept]
    for part, i in zip(parts, kept, strict=True):
        part[box] = labels == i + 1
    return parts


def _without_gaps(masks: dict[int, Mask]) -> dict[int, Mask]:
    """Gives every pixel that no mask covers to the mask that is nearest."""
    owner = np.zeros(next(iter(masks.values())).shape, np.int32)
    for index, mask in enumerate(masks.values(), start=1):
        owner[mask] = index
    gaps = owner == 0
    if not gaps.any():
        return masks
    _, nearest = cv2.distanceTransformWithLabels(
        gaps.astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    # `nearest` numbers the covered pixels; each leads to the pixel's owner.
    owner_of = np.zeros(int(nearest.max()) + 1, np.int32)
    owner_of[nearest[~gaps]] = owner[~gaps]
    filled = owner_of[nearest]
    return {number: filled == index for index, number in enumerate(masks, start=1)}
