"""Segments as an imperfect segmenter would give them, made from true masks: for measuring what follows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zgs_ros.segmentation import Label, Roi, Segment, Segmentation

DIMENSIONS, PHRASES, REPORTED = 64, 200, 5

CLOSENESS = 1.25
"""Distance of a thing's embedding from the one that all have in common: cosines of about 0.4."""

SYNONYMS, SYNONYM = 2, 0.6
"""Phrases that name a thing, and their distance from its embedding."""


@dataclass(frozen=True)
class Noise:
    """What goes wrong with the segments of a perfect camera.

    Attributes:
        drop: Share of segments that are missing.
        split: Share that fall in two.
        merge: Share of frames in which two become one.
        embedding: Length of the error beside a unit embedding.
    """

    drop: float = 0.1
    split: float = 0.05
    merge: float = 0.05
    embedding: float = 0.35


class NoisyVision:
    """Sees true masks with errors; of two labels that fit about as well, now this one wins, now that.

    Args:
        things: Name of every true id.
        noise: The errors.
        seed: Decides embeddings and errors.
    """

    def __init__(
        self, things: Mapping[int, str], noise: Noise | None = None, seed: int = 0
    ) -> None:
        self._noise, self._random = noise or Noise(), np.random.default_rng(seed)
        common = self._direction()
        self._looks = {thing: self._near(common, CLOSENESS) for thing in things}
        self._texts = np.stack([self._near(common, CLOSENESS) for _ in range(PHRASES)])
        self._phrases = [f"phrase {number}" for number in range(PHRASES)]
        for row, thing in enumerate(things):
            for synonym in range(SYNONYMS):
                number = SYNONYMS * row + synonym
                self._texts[number] = self._near(self._looks[thing], SYNONYM)
                self._phrases[number] = f"{things[thing]} {synonym}"

    def see(self, instances: NDArray[np.uint16]) -> Segmentation:
        """What is made of a picture, given the true id at every pixel, uint16 (height, width)."""
        noise, random = self._noise, self._random
        regions = [
            (instances == thing, self._looks[int(thing)])
            for thing in np.unique(instances)
            if random.random() >= noise.drop
        ]
        if len(regions) > 2 and random.random() < noise.merge:
            (one, look), (other, other_look) = (
                regions.pop(int(random.integers(len(regions)))) for _ in range(2)
            )
            mixed = look * one.sum() + other_look * other.sum()
            regions.append((one | other, mixed / np.linalg.norm(mixed)))
        for mask, look in list(regions):
            if random.random() < noise.split:
                columns = np.nonzero(mask.any(0))[0]
                part = mask & (np.arange(mask.shape[1]) < np.quantile(columns, 0.3))
                if part.any():
                    mask &= ~part
                    regions.append((part, look))
        label_map = np.zeros(instances.shape, np.uint16)
        segments = []
        for number, index in enumerate(random.permutation(len(regions)), start=1):
            mask, look = regions[index]
            label_map[mask] = number
            embedding = self._near(look, noise.embedding)
            scores = self._texts @ embedding
            labels = [
                Label(self._phrases[i], float(scores[i])) for i in np.argsort(-scores)[:REPORTED]
            ]
            segments.append(_segment(number, mask, labels, embedding))
        return Segmentation(label_map, tuple(segments), "noisy")

    def _direction(self) -> NDArray[np.float64]:
        vector = self._random.standard_normal(DIMENSIONS)
        return np.asarray(vector / np.linalg.norm(vector), np.float64)

    def _near(self, vector: NDArray[Any], distance: float) -> NDArray[np.float64]:
        moved = vector + distance * self._direction()
        return np.asarray(moved / np.linalg.norm(moved), np.float64)


def _segment(
    number: int, mask: NDArray[np.bool_], labels: list[Label], embedding: NDArray[Any]
) -> Segment:
    rows, columns = np.nonzero(mask)
    left, top = int(columns.min()), int(rows.min())
    return Segment(
        id=number,
        labels=tuple(labels),
        roi=Roi(left, top, int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1),
        area=len(rows),
        centroid=(float(columns.mean()), float(rows.mean())),
        embedding=embedding.astype(np.float32),
    )
