"""Parts of a segment that do not touch are two things, though they look alike; and small ones are none."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from zgs_ros.runs import run_starts

GAP = -1
"""Where there is no segment yet."""

Labels = NDArray[np.int32]


def split_components(
    labels: NDArray[np.integer], numbers: Sequence[int], min_area: float, min_component: float
) -> tuple[Labels, list[int]]:
    """Makes the separate parts of every segment segments of their own.

    The clustering knows no places, so that everything of one look is one cluster. The parts become
    leaves of a balanced tree below their segment, so that merging can join again what belongs together,
    in few rounds.

    Args:
        labels: (height, width) index into `numbers` of every pixel's segment.
        numbers: Heap numbers of the segments (children of i are 2i + 1 and 2i + 2).
        min_area: Parts below this share of the image go to their neighbours, and with them segments
            that have no larger one; the largest part of all always stays.
        min_component: As `min_area`, for all parts but the largest of each segment.

    Returns:
        Labels and numbers of the parts, each of which is connected; segments without pixels have none.
    """
    run_lengths, part_of_run, segment_of_part = _find_parts(labels)
    areas = np.bincount(part_of_run, weights=run_lengths)
    largest_of_all = areas.argmax()
    owner_of_part = np.full(len(areas), GAP, np.int32)
    found: list[int] = []
    for segment, number in enumerate(numbers):
        parts = np.flatnonzero(segment_of_part == segment)
        parts = parts[np.argsort(-areas[parts], kind="stable")]
        limits = np.full(len(parts), max(min_area, min_component) * labels.size)
        limits[:1] = min_area * labels.size
        parts = parts[(areas[parts] >= limits) | (parts == largest_of_all)]
        if len(parts):
            owner_of_part[parts] = np.arange(len(found), len(found) + len(parts))
            found += _leaves(number, len(parts))
    owner = np.repeat(owner_of_part[part_of_run], run_lengths).reshape(labels.shape)
    return _fill_gaps(owner), found


def drop_small(labels: NDArray[np.integer], min_area: float) -> Labels:
    """Gives segments below a share of the image to their neighbours; the largest one always stays.

    Args:
        labels: (height, width) of every pixel's segment, from 0 on.
        min_area: Share of the image.
    """
    areas = np.bincount(labels.ravel())
    small = areas < min(min_area * labels.size, areas.max())
    return _fill_gaps(np.where(small[labels], GAP, labels).astype(np.int32))


def _find_parts(
    labels: NDArray[np.integer],
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.integer]]:
    """Connected pixels of one label, as runs of pixels within a row.

    Pixels touch at their sides. Working on runs takes a fraction of the time of finding the parts of one
    segment after another.

    Returns:
        Length of every run, in the order of rows; its part, from 0 on; and the label of every part.
    """
    starts = run_starts(labels)
    first = np.flatnonzero(starts)
    run = np.cumsum(starts.ravel(), dtype=np.int32).reshape(labels.shape) - 1
    # Where two runs begin to lie one above the other, at least one of them starts.
    touching = (labels[1:] == labels[:-1]) & (starts[1:] | starts[:-1])
    above, below = run[:-1][touching], run[1:][touching]
    links = coo_array((np.ones(len(above), bool), (above, below)), shape=(len(first), len(first)))
    count, part_of_run = connected_components(links, directed=False)
    label_of_part = np.zeros(count, labels.dtype)
    label_of_part[part_of_run] = labels.ravel()[first]
    return np.diff(first, append=labels.size), part_of_run, label_of_part


def _leaves(number: int, count: int) -> list[int]:
    """Numbers of so many leaves of a balanced tree below the node with this number; of one its own."""
    if count == 1:
        return [number]
    numbers = [0] * count
    numbers[::2] = _leaves(2 * number + 1, (count + 1) // 2)
    numbers[1::2] = _leaves(2 * number + 2, count // 2)
    return numbers


def _fill_gaps(owner: Labels) -> Labels:
    """Gives every pixel in a gap to the segment that is nearest, and of equally near ones to one beside it."""
    gaps = owner == GAP
    if not gaps.any():
        return owner
    filled = owner.copy()
    filled[gaps] = _nearest_owners(owner, gaps)
    # Where several are equally near, pixels may touch none of those that are theirs.
    cut_off = _find_cut_off(filled, gaps)
    return _grow_into(filled, cut_off) if cut_off.any() else filled


def _find_cut_off(owner: Labels, gaps: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of filled gaps that nothing of their owner joins to a pixel outside of the gaps."""
    padded = np.pad(owner, 1, constant_values=GAP)
    joined = np.pad(~gaps, 1).reshape(-1)
    flat, beside = padded.reshape(-1), _beside(padded)
    left = np.flatnonzero(np.pad(gaps, 1))
    while len(left):
        around = left[:, None] + beside
        reached = (joined[around] & (flat[around] == flat[left][:, None])).any(axis=1)
        if not reached.any():
            break
        joined[left[reached]] = True
        left = left[~reached]
    cut_off = np.zeros(padded.shape, bool)
    cut_off.reshape(-1)[left] = True
    return cut_off[1:-1, 1:-1]


def _nearest_owners(owner: Labels, gaps: NDArray[np.bool_]) -> Labels:
    """(pixels in gaps,) owner of the pixel outside of gaps that is nearest to each."""
    _, nearest = cv2.distanceTransformWithLabels(
        gaps.view(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    # `nearest` numbers the pixels outside of gaps; those that are nearest to a gap lead to the owner.
    nearest_to_gaps = nearest[gaps]
    wanted = np.zeros(int(nearest.max()) + 1, bool)
    wanted[nearest_to_gaps] = True
    sources = wanted[nearest] & ~gaps
    owner_of = np.zeros(len(wanted), np.int32)
    owner_of[nearest[sources]] = owner[sources]
    return owner_of[nearest_to_gaps]


def _grow_into(owner: Labels, gaps: NDArray[np.bool_]) -> Labels:
    """Fills few gaps step by step: each pixel takes the owner of one beside it."""
    padded = np.pad(np.where(gaps, GAP, owner), 1, constant_values=GAP)
    flat, beside = padded.reshape(-1), _beside(padded)
    left = np.flatnonzero(np.pad(gaps, 1))
    while len(left):
        owners = flat[left[:, None] + beside]
        reached = owners.max(axis=1) != GAP
        flat[left[reached]] = owners[reached].max(axis=1)
        left = left[~reached]
    return padded[1:-1, 1:-1]


def _beside(padded: Labels) -> NDArray[np.int64]:
    """From a pixel in the flat array to the four that it touches."""
    return np.array([-padded.shape[1], -1, 1, padded.shape[1]])
