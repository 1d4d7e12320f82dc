"""Parts of a segment that do not touch: two things that look alike are still two things."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


def split_components(masks: dict[int, Mask], min_area: float) -> dict[int, Mask]:
    """Makes the separate parts of every segment segments of their own.

    The clustering knows no places, so that everything of one look is one cluster. The parts become
    leaves below their segment in the tree, the smallest beside all the others and so on down, so that
    merging can join again what belongs together, the largest parts first.

    Args:
        masks: (height, width) boolean each, by heap number (children of i are 2i + 1 and 2i + 2).
        min_area: Parts below this share of the image stay with the largest part of their segment.

    Returns:
        As `masks`; together they cover the same pixels.
    """
    found: dict[int, Mask] = {}
    for number, mask in masks.items():
        parts = _parts(mask, min_area)
        while len(parts) > 1:
            found[2 * number + 1], number = parts.pop(), 2 * number + 2
        found[number] = parts[0]
    return dict(sorted(found.items()))


def _parts(mask: Mask, min_area: float) -> list[Mask]:
    """The connected parts, in falling order; what is too small to stand alone is with the largest."""
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=4
    )
    areas = statistics[1:, cv2.CC_STAT_AREA]
    order = [int(i) for i in np.argsort(-areas, kind="stable")]
    apart = [i for i in order[1:] if areas[i] >= min_area * mask.size]
    if not apart:
        return [mask]
    others = [labels == i + 1 for i in apart]
    return [mask & ~np.logical_or.reduce(others), *others]
