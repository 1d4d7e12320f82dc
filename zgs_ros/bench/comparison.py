"""The package's own path against the published steps, in one run and on the same weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zgs_ros.bench import literal
from zgs_ros.bench.given import GivenSegmenter, tile_masks
from zgs_ros.bench.models import Bench
from zgs_ros.bench.probes import WALL, Clock, timed
from zgs_ros.config import SettingsError, flatten, make_settings
from zgs_ros.embedding.image_tower import ImageTower
from zgs_ros.gpu.upload import upload
from zgs_ros.oversegmentation.tree import build_tree

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Ratio:
    """One step, both ways.

    Attributes:
        step: What is done.
        literal: Seconds as published.
        own: Seconds of this package, median.
    """

    step: str
    literal: float
    own: float

    @property
    def ratio(self) -> float:
        """How many times as fast the package is."""
        return self.literal / self.own


@dataclass(frozen=True)
class Comparison:
    """All steps, and how far the embeddings are apart.

    Attributes:
        ratios: Of each step.
        difference: Largest relative difference of an embedding, ``|own - literal| / |literal|``.
        positions: Patch positions that were clustered.
        segments: Segments that were embedded.
    """

    ratios: tuple[Ratio, ...]
    difference: float
    positions: int
    segments: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        steps = {
            r.step: {"literal_s": r.literal, "own_s": r.own, "ratio": r.ratio} for r in self.ratios
        }
        return {
            "steps": steps,
            "largest_relative_difference": self.difference,
            "positions": self.positions,
            "segments": self.segments,
        }


def compare(bench: Bench, image: Image, repeats: int, clock: Clock = WALL) -> Comparison:
    """Runs embedding, clustering and refinement both ways.

    Args:
        bench: With given segments.
        image: uint8 RGB (height, width, 3).
        repeats: Of the own path; half of them before the literal one, which runs once.
        clock: What time is.

    Raises:
        SettingsError: If segments are not given, or embedded in another mode than global subtraction.
    """
    segmenter, clip = bench.segmenter, bench.clip
    if not isinstance(segmenter, GivenSegmenter):
        raise SettingsError("segments: --compare needs at least 1")
    if bench.settings.clip.mode != "global_subtraction":
        raise SettingsError(
            f"clip.mode: {bench.settings.clip.mode!r} is not what was published; "
            "--compare needs global_subtraction"
        )
    frame = upload(image, bench.device)
    pixels = bench.dino.resize([frame])
    features = bench.dino(pixels)[0]
    height, width, _ = image.shape
    masks = np.stack(list(tile_masks(height, width, bench.segments).values()))
    clustering = bench.settings.clustering
    values = {**flatten(bench.settings), "refinement.method": "crf"}
    published = bench.with_settings(make_settings(type(bench.settings), values)).segmenter
    assert isinstance(published, GivenSegmenter)
    tower = bench.tower
    assert isinstance(tower, ImageTower)  # in this mode

    def time_both(
        step: str, literally: Callable[[], Any], own: Callable[[], Any]
    ) -> tuple[Ratio, Any, Any]:
        measured = partial(timed, device=bench.device, clock=clock)
        measured(own)  # warms up
        before = [measured(own) for _ in range((repeats + 1) // 2)]
        literal_seconds, literal_result = measured(literally)
        after = [measured(own) for _ in range(repeats // 2)]
        seconds = [value for value, _ in before + after]
        ratio = Ratio(step, literal_seconds, float(np.median(seconds)))
        return ratio, literal_result, before[0][1]

    embedding, theirs, ours = time_both(
        "encoding and embedding",
        lambda: (
            literal.embed_segments(
                tower,
                clip.prepare(frame),
                literal.cover(masks, tower.grid).to(bench.device),
                bench.settings.clip.masked_blocks,
                bench.settings.clip.sigma,
            )
            .cpu()
            .numpy()
        ),
        lambda: clip.embed_segments([image], [masks])[0],
    )
    wards, _, _ = time_both(
        "clustering",
        lambda: literal.cluster(features),
        lambda: build_tree(features, clustering.groups, clustering.splits, clustering.threshold),
    )
    borders, _, _ = time_both(
        "refinement",
        lambda: published.refine_given(frame, pixels[0], features),
        lambda: segmenter.refine_given(frame, pixels[0], features),
    )
    distances = np.linalg.norm(ours - theirs, axis=1) / np.linalg.norm(theirs, axis=1)
    return Comparison(
        (embedding, wards, borders),
        float(distances.max()),
        int(features.shape[0] * features.shape[1]),
        bench.segments,
    )
