"""A given number of segments, whatever the models find.

With random weights neither segments nor labels mean anything, and their number decides the costs. So
every stage does its work, and the next one gets a tiling of the image instead of the result: cells
around seeded points, of which one sibling pair in every four segments is named alike, so that it merges.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zgs_ros.config import SegmenterSettings
from zgs_ros.embedding.clip import ClipEmbedder
from zgs_ros.engines.running import Engine
from zgs_ros.labeling.retrieval import RetrievalLabeler
from zgs_ros.oversegmentation.features import DinoFeatures
from zgs_ros.oversegmentation.tree import Node, SegmentTree
from zgs_ros.segmentation import Label
from zgs_ros.segmenter import Partition, Segmenter

SEGMENTS_PER_MERGE = 4


@lru_cache(maxsize=64)
def tile(height: int, width: int, cells: int) -> NDArray[np.int64]:
    """Divides an image among seeded points, to each what is nearest.

    Returns:
        int64 (height, width), the cell of every pixel, ``0 .. cells - 1``.

    Raises:
        ValueError: If there are more cells than pixels.
    """
    if not 1 <= cells <= height * width:
        raise ValueError(f"segments: {cells} don't fit an image of {width}x{height} pixels")
    points = np.random.default_rng(cells).choice(height * width, cells, replace=False)
    rows, columns = np.divmod(points, width)
    down = (np.arange(height)[:, None] - rows) ** 2  # (height, cells)
    across = (np.arange(width)[:, None] - columns) ** 2
    return np.stack([(row + across).argmin(1) for row in down])


def tile_masks(height: int, width: int, cells: int) -> dict[int, NDArray[np.bool_]]:
    """The cells of `tile` as masks, by heap number: the leaves of a complete binary tree."""
    owner = tile(height, width, cells)
    return {cells - 1 + cell: owner == cell for cell in range(cells)}


@dataclass(frozen=True, eq=False)
class _Tiling:
    """A tiling as the stages see it: features that differ from cell to cell, tree and pixels."""

    features: Tensor
    tree: SegmentTree
    partition: Partition


class GivenSegmenter(Segmenter):
    """A segmenter that finds the same segments in every image.

    Args:
        settings: All knobs.
        dino: Feature model of the over-segmentation.
        clip: Embeds segments and texts.
        labeler: Names embeddings.
        segments: Number of segments before merging.
        engines: As for `Segmenter`.
    """

    def __init__(
        self,
        settings: SegmenterSettings,
        dino: DinoFeatures,
        clip: ClipEmbedder,
        labeler: GivenLabels,
        segments: int,
        engines: Mapping[str, Engine] | None = None,
    ) -> None:
        super().__init__(settings, dino, clip, labeler, engines)
        self._segments = segments
        self._leaves = min(segments, settings.clustering.splits + 1)
        self._tilings: dict[tuple[int, ...], _Tiling] = {}

    def refine_given(self, frame: Tensor, pixels: Tensor, features: Tensor) -> Partition:
        """The stage refinement alone.

        Args:
            frame: uint8 RGB (height, width, 3), where the features are.
            pixels: float32 (3, height', width'), the image as the feature model sees it.
            features: float32 (rows, columns, width); given ones of this size take their place.
        """
        return self._refine(frame, pixels, features, self._tiling(frame, features).tree)

    def _refine(
        self, frame: Tensor, pixels: Tensor, features: Tensor, tree: SegmentTree
    ) -> Partition:
        tiling = self._tiling(frame, features)
        super()._refine(frame, pixels, tiling.features, tiling.tree)
        return replace(tiling.partition)  # without what was found out about the last one

    def _tiling(self, frame: Tensor, features: Tensor) -> _Tiling:
        key = (*frame.shape, *features.shape)
        if key not in self._tilings:
            self._tilings[key] = self._make_tiling(frame, features)
        return self._tilings[key]

    def _make_tiling(self, frame: Tensor, features: Tensor) -> _Tiling:
        height, image_width = frame.shape[:2]
        rows, columns, width = features.shape
        owner = tile(rows, columns, self._leaves)
        centroids = random_units(self._leaves, width)
        numbers = range(2 * self._leaves - 1)
        nodes = {n: Node(n, np.arange(0), centroids[0]) for n in numbers}
        for cell, centroid in enumerate(centroids):
            number = self._leaves - 1 + cell
            positions = np.flatnonzero(owner == cell)
            nodes[number] = replace(nodes[number], positions=positions, centroid=centroid)
        return _Tiling(
            torch.from_numpy(centroids[owner]).to(features),
            SegmentTree(nodes),
            Partition(
                tile(height, image_width, self._segments).astype(np.int32),
                tuple(range(self._segments - 1, 2 * self._segments - 1)),
            ),
        )


class GivenLabels:
    """Does the work of naming, and then names as given: some siblings alike, all others apart.

    Args:
        labeler: Whose work is done.
        segments: Number of segments of every image before merging.
        dimensions: Length of an embedding.
    """

    def __init__(self, labeler: RetrievalLabeler, segments: int, dimensions: int) -> None:
        self._labeler = labeler
        names = [f"thing {number}" for number in range(2 * segments)]
        self._texts = dict(zip(names, random_units(len(names), dimensions), strict=True))
        self._leaves, self._unions = names[:segments], names[segments:]
        for pair in range(segments // SEGMENTS_PER_MERGE):
            left = segments % 2 + 2 * pair  # leaves are numbered from segments - 1 on; left is odd
            self._leaves[left + 1] = self._leaves[left]

    def label(self, embeddings: NDArray[np.float32]) -> list[tuple[Label, ...]]:
        """Per embedding the labels found, of which the best has a given name."""
        found = self._labeler.label(embeddings)
        # Unions are fewer than the segments.
        names = self._leaves if len(embeddings) == len(self._leaves) else self._unions
        return [
            (Label(name, best.score), *others)
            for name, (best, *others) in zip(names, found, strict=False)
        ]

    def text_embedding(self, text: str) -> NDArray[np.float32]:
        """float32 (dimensions,), unit norm; those of different names have nothing in common."""
        return self._texts[text]


def random_units(rows: int, width: int) -> NDArray[np.float32]:
    """float32 (rows, width) of unit norm, in directions that have nothing to do with each other."""
    values = np.random.default_rng(0).standard_normal((rows, width), np.float32)
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True), np.float32)
