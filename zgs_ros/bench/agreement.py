"""How near a faster way to compute comes to PyTorch in float32, on the same weights and scenes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from zgs_ros.bench.models import Bench, make_bench
from zgs_ros.config import SettingsError, flatten, make_settings
from zgs_ros.evaluation.datasets.synthetic import SyntheticDataset
from zgs_ros.evaluation.metrics import adjusted_rand
from zgs_ros.segmentation import Segmentation

Image = NDArray[np.uint8]
LEAST_LIKE = 5
"""Percentile of the cosines that is reported beside their mean."""


@dataclass(frozen=True)
class Agreement:
    """Shares in [0, 1], means over scenes; 1 where nothing differs.

    Attributes:
        scenes: Number of scenes.
        segments: Segments of the exact run whose masks were embedded and named both ways.
        partition: Adjusted Rand index of the segments' pixels, before names.
        pixels: Share of pixels with the same label, all stages together.
        labels: Share of those masks with the same label.
        cosine: Mean cosine of their embeddings.
        low_cosine: 5th percentile of it.
    """

    scenes: int
    segments: int
    partition: float
    pixels: float
    labels: float
    cosine: float
    low_cosine: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return dict(vars(self))


def scenes(count: int, size: tuple[int, int]) -> Iterator[Image]:
    """Held-out scenes of the synthetic world, uint8 RGB (height, width, 3).

    Args:
        count: Number of scenes.
        size: (width, height) in pixels.
    """
    dataset = SyntheticDataset(count, size[1], size[0])
    for name in dataset.names:
        yield dataset.load(name).image


def agree(bench: Bench, count: int, size: tuple[int, int]) -> Agreement:
    """Runs scenes through a segmenter and through the same in float32.

    Args:
        bench: With segments as they are found.
        count: Number of scenes.
        size: (width, height) of them in pixels.

    Raises:
        SettingsError: If segments are given, or it computes in float32 itself.
    """
    if bench.segments:
        raise SettingsError(
            "segments: --compare float32 needs them as they are found, --segments 0"
        )
    if bench.precision == torch.float32 and not bench.engines:
        raise SettingsError("precision: is float32 already; --compare float32 needs another")
    values = {**flatten(bench.settings), "precision": "float32", "backend": "torch"}
    exact = make_bench(make_settings(type(bench.settings), values), 0)
    partitions, pixels = [], []
    same: list[bool] = []
    cosines: list[float] = []
    for image in scenes(count, size):
        theirs, ours = (each.segmenter.segment(image) for each in (exact, bench))
        parts = [each.segmenter.over_segment(image).ravel() for each in (exact, bench)]
        partitions.append(adjusted_rand(*parts))
        pixels.append(float(np.mean(_texts(theirs) == _texts(ours))))
        masks = np.stack([theirs.mask(segment.id) for segment in theirs.segments])
        pairs = zip(
            *(each.segmenter.describe_masks(image, masks) for each in (exact, bench)), strict=True
        )
        for left, right in pairs:
            same.append(left.labels[0].text == right.labels[0].text)
            cosines.append(float(left.embedding @ right.embedding))
    return Agreement(
        count,
        len(same),
        float(np.mean(partitions)),
        float(np.mean(pixels)),
        float(np.mean(same)),
        float(np.mean(cosines)),
        float(np.percentile(cosines, LEAST_LIKE)),
    )


def _texts(found: Segmentation) -> NDArray[np.str_]:
    """The label of each pixel, (height, width)."""
    names = [""] * (1 + max((segment.id for segment in found.segments), default=0))
    for segment in found.segments:
        names[segment.id] = segment.label
    return np.asarray(names)[found.label_map]
