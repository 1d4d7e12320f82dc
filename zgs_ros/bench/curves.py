"""How costs grow with the number of segments and of patch positions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zgs_ros.bench.given import tile
from zgs_ros.bench.models import Bench
from zgs_ros.bench.probes import WALL, Clock, timed
from zgs_ros.config import SettingsError
from zgs_ros.embedding.coverage import Tiling
from zgs_ros.gpu.upload import upload
from zgs_ros.oversegmentation.features import DinoFeatures
from zgs_ros.oversegmentation.tree import build_tree

Image = NDArray[np.uint8]

STRIDES = (6, 5, 4, 3, 2)
"""Beside the patch size itself, where they are below it."""


@dataclass(frozen=True)
class Curve:
    """Seconds of a stage at several sizes.

    Attributes:
        stage: What was timed.
        over: What the size counts.
        sizes: In rising order, at least two.
        seconds: Medians.
    """

    stage: str
    over: str
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]

    @property
    def exponent(self) -> float:
        """p of the best fit seconds ~ size^p: 1 is linear growth, less is slower growth."""
        return float(np.polyfit(np.log(self.sizes), np.log(self.seconds), 1)[0])

    @property
    def line(self) -> tuple[float, float]:
        """Seconds at size 0 and seconds per unit, of the straight line that fits best."""
        slope, offset = np.polyfit(self.sizes, self.seconds, 1)
        return float(offset), float(slope)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        offset, slope = self.line
        return {
            "stage": self.stage,
            "over": self.over,
            "sizes": list(self.sizes),
            "seconds": list(self.seconds),
            "exponent": self.exponent,
            "fixed_s": offset,
            "per_unit_s": slope,
        }


def segments_curve(bench: Bench, image: Image, repeats: int, clock: Clock = WALL) -> list[Curve]:
    """Time of embedding 1, 2, 4, ... segments of an image, up to those of the bench.

    Raises:
        SettingsError: If that are fewer than two.
    """
    counts = sorted({2**n for n in range(bench.segments.bit_length())} | {bench.segments})
    if bench.segments < 2:
        raise SettingsError(f"segments: --curve segments needs at least 2, got {bench.segments}")
    height, width, _ = image.shape
    encoded = bench.clip.encode([upload(image, bench.device)])

    def embed(labels: NDArray[np.integer], segments: int) -> object:
        # A new tiling each time, since what it covers is kept.
        return bench.clip.embed(encoded, [Tiling(labels, segments).alone()])

    steps: dict[int, Callable[[], object]] = {
        n: partial(embed, tile(height, width, n), n) for n in counts
    }
    return [_curve(bench, "embedding", "segments", steps, repeats, clock)]


def positions_curve(bench: Bench, image: Image, repeats: int, clock: Clock = WALL) -> list[Curve]:
    """Time of features and of clustering at strides from the patch size down to 2 pixels."""
    settings, clustering = bench.settings.dino, bench.settings.clustering
    frame = upload(image, bench.device)
    extract: dict[int, Callable[[], object]] = {}
    cluster: dict[int, Callable[[], object]] = {}
    for stride in (bench.dino.patch, *(s for s in STRIDES if s < bench.dino.patch)):
        dino = DinoFeatures(bench.dino.model, settings.short_side, stride, settings.attention)
        dino.to(device=bench.device, dtype=bench.precision)
        pixels = dino.resize([frame])
        features = dino(pixels)[0]
        positions = features.shape[0] * features.shape[1]
        extract[positions] = partial(dino, pixels)
        cluster[positions] = partial(
            build_tree,
            features,
            clustering.groups,
            clustering.splits,
            clustering.threshold,
        )
    return [
        _curve(bench, stage, "positions", steps, repeats, clock)
        for stage, steps in (("features", extract), ("clustering", cluster))
    ]


def _curve(
    bench: Bench,
    stage: str,
    over: str,
    steps: dict[int, Callable[[], object]],
    repeats: int,
    clock: Clock,
) -> Curve:
    """Medians; the sizes take turns, so that what else the machine does meets them all."""
    sizes = sorted(steps)
    for size in sizes:
        steps[size]()
    rounds = [
        [timed(steps[size], bench.device, clock)[0] for size in sizes] for _ in range(repeats)
    ]
    return Curve(stage, over, tuple(sizes), _medians(rounds))


def _medians(rounds: Sequence[Sequence[float]]) -> tuple[float, ...]:
    return tuple(float(value) for value in np.median(rounds, axis=0))
