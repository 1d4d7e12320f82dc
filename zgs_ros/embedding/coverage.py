"""Masks of pixels as masks of tokens: how much of each patch a segment covers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch.nn import functional

from zgs_ros.runs import run_starts


class Tiling:
    """Segments that tile an image.

    Args:
        labels: (height, width), the segment of each pixel, ``0 .. segments - 1``.
        segments: Number of segments.
    """

    def __init__(self, labels: NDArray[np.integer], segments: int) -> None:
        self.labels = labels
        self.segments = segments
        self._covered: dict[tuple[int, int], NDArray[np.float32]] = {}

    def cover(self, grid: tuple[int, int]) -> NDArray[np.float32]:
        """`cover_labels` of them, computed once for each grid, (segments, patches)."""
        if grid not in self._covered:
            shares = cover_labels(self.labels, self.segments, grid)
            self._covered[grid] = shares.reshape(self.segments, -1)
        return self._covered[grid]

    def alone(self) -> Unions:
        """Each segment by itself."""
        return Unions(self, [(segment,) for segment in range(self.segments)])


@dataclass(frozen=True, eq=False)
class Unions:
    """Segments of a tiling, or unions of some.

    Attributes:
        tiling: The segments.
        parts: Which of them make up each one.
    """

    tiling: Tiling
    parts: Sequence[tuple[int, ...]]

    def __len__(self) -> int:
        return len(self.parts)

    def cover(self, grid: tuple[int, int]) -> NDArray[np.float32]:
        """Covered share of each patch, float32 (unions, patches): the sum of those of the parts."""
        return self._members(np.float32) @ self.tiling.cover(grid)

    def masks(self) -> NDArray[np.bool_]:
        """Boolean (unions, height, width)."""
        return self._members(np.bool_)[:, self.tiling.labels]

    def _members(self, dtype: type[Any]) -> NDArray[Any]:
        members = np.zeros((len(self.parts), self.tiling.segments), dtype)
        for row, parts in enumerate(self.parts):
            members[row, list(parts)] = 1
        return members


def token_masks(masks: NDArray[Any], grid: tuple[int, int]) -> NDArray[np.float32]:
    """The masks mu over tokens: 1 for the class token, then the covered share of each patch.

    Args:
        masks: (segments, height, width), boolean or shares in [0, 1].
        grid: (rows, columns) of patches.

    Returns:
        float32 (segments, 1 + rows * columns).
    """
    return with_class_token(cover(masks, grid).reshape(len(masks), -1))


def with_class_token(shares: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shares of patches, (segments, patches), as masks mu: the class token, whose share is 1, is in front."""
    return np.pad(shares, ((0, 0), (1, 0)), constant_values=1.0)


def cover(masks: NDArray[Any], grid: tuple[int, int]) -> NDArray[np.float32]:
    """Covered share of each patch, exact where borders of patches cut through pixels.

    Args:
        masks: (segments, height, width), boolean or shares in [0, 1].
        grid: (rows, columns) of patches that the image is divided into.

    Returns:
        float32 (segments, rows, columns).
    """
    rows, columns = grid
    height, width = masks.shape[1:]
    bands = np.empty((len(masks), rows, width), np.float32)
    # Summing bands of whole rows is several times faster than a product over all pixels.
    for row, (top, bottom) in enumerate(pairwise(_edges(rows, height))):
        bands[:, row] = _sum_rows(masks, top, bottom)
    share: NDArray[np.float32] = bands @ _overlaps(columns, width).T
    return share * np.float32(rows * columns / (height * width))


def cover_labels(
    labels: NDArray[np.integer], segments: int, grid: tuple[int, int]
) -> NDArray[np.float32]:
    """As `cover`, for segments that tile an image, at a cost that does not grow with their number.

    Args:
        labels: (height, width), the segment of each pixel, ``0 .. segments - 1``.
        segments: Number of segments.
        grid: (rows, columns) of patches that the image is divided into.

    Returns:
        float32 (segments, rows, columns).
    """
    rows, columns = grid
    stripe, pixel, widths = _pieces(columns, labels.shape[1])
    cut = labels.take(pixel, axis=1)
    starts = run_starts(cut)
    starts[:, 1:] |= stripe[1:] != stripe[:-1]
    # Runs of pieces in one stripe: their places, and with them the areas that they add in their row.
    first = np.flatnonzero(starts)
    row, begin = np.divmod(first, len(pixel))
    end = np.append(first[1:], cut.size) - row * len(pixel)
    reached = np.append(0.0, widths.cumsum(dtype=np.float64))
    places = stripe[begin] * segments + cut.ravel()[first]
    row_starts = np.append(np.flatnonzero(begin == 0), len(first))
    shape = (len(cut), columns * segments)
    by_row = csr_array((reached[end] - reached[begin], places, row_starts), shape=shape)
    areas = (csr_array(_overlaps(rows, len(cut))) @ by_row).toarray()
    share = (areas * (rows * columns / labels.size)).astype(np.float32)
    return np.ascontiguousarray(share.reshape(rows, columns, segments).transpose(2, 0, 1))


def pool(masks: NDArray[Any], grid: tuple[int, int]) -> NDArray[np.float32]:
    """As `cover`, in the way of the authors' code: borders that cut through pixels take in all of these."""
    pixels = torch.from_numpy(np.asarray(masks, np.float32))
    return functional.interpolate(pixels[:, None], size=grid, mode="area")[:, 0].numpy()


def _edges(parts: int, length: int) -> list[float]:
    return [length * part / parts for part in range(parts + 1)]


def _sum_rows(masks: NDArray[Any], top: float, bottom: float) -> NDArray[np.float32]:
    """Sum of the rows from `top` to `bottom`, parts of rows counting in part, (segments, width)."""
    first, last = math.ceil(top), math.floor(bottom)
    if first > last:  # within one row
        return masks[:, last].astype(np.float32) * np.float32(bottom - top)
    exact = np.uint16 if masks.dtype == np.bool_ else np.float32
    total: NDArray[np.float32] = masks[:, first:last].sum(axis=1, dtype=exact).astype(np.float32)
    if first > top:
        total += masks[:, first - 1] * np.float32(first - top)
    if last < bottom:
        total += masks[:, last] * np.float32(bottom - last)
    return total


def _overlaps(parts: int, length: int) -> NDArray[np.float32]:
    """(parts, length): how much of each pixel lies in each part."""
    edges = np.array(_edges(parts, length))
    pixels = np.arange(length)
    above = np.minimum(pixels + 1, edges[1:, None])
    below = np.maximum(pixels, edges[:-1, None])
    return np.clip(above - below, 0.0, None).astype(np.float32)


def _pieces(
    parts: int, length: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Pixels cut where parts end: of each piece, in order, its part, its pixel and its length."""
    overlaps = _overlaps(parts, length)
    part, pixel = np.nonzero(overlaps)
    return part, pixel, overlaps[part, pixel]
