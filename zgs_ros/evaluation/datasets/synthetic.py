"""The synthetic world as a data set: scenes whose seeds no training has seen."""

from __future__ import annotations

import numpy as np

from zgs_ros.evaluation.datasets.base import Category, DatasetError, Region, Sample
from zgs_ros.synthetic.catalogue import BACKDROPS, GROUNDS, HELD_OUT_KINDS, KINDS

FIRST_SEED = 2_000_000_000
"""Seeds of held-out scenes start here; training stays below 1,000,000,000."""
MAX_SEED = 1_000_000_000
MIN_SHARE = 0.0005
"""Things of which less than this share of the image is visible are not asked for by name."""


class SyntheticDataset:
    """Held-out scenes of the synthetic world.

    Its classes are nouns: the kinds of objects, the grounds, the backdrops. Every pixel has one.

    Args:
        scenes: Number of scenes.
        height: Rows of a picture.
        width: Columns of a picture.
        seed: Number of the first scene. Other ranges are other scenes: what is chosen on some is
            reported on others.
        new_kinds: Whether objects are of the kinds that the mini models have never seen, instead of those
            that they were trained on.

    Raises:
        DatasetError: If a number is out of range.
    """

    def __init__(
        self,
        scenes: int = 200,
        height: int = 480,
        width: int = 640,
        seed: int = 0,
        new_kinds: bool = False,
    ) -> None:
        if scenes < 1:
            raise DatasetError(f"the number of scenes must be at least 1, got {scenes}")
        if min(height, width) < 32:
            raise DatasetError(f"pictures must be at least 32 x 32, got {height} x {width}")
        if not 0 <= seed <= MAX_SEED:
            raise DatasetError(f"the seed must lie within 0 .. {MAX_SEED}, got {seed}")
        begin = f" from {seed} on" if seed else ""
        kinds = " of new kinds" if new_kinds else ""
        self.title = f"synthetic world, {scenes} held-out scenes{begin}{kinds} at {width}x{height}"
        self._kinds = HELD_OUT_KINDS if new_kinds else KINDS
        self.categories = tuple(Category(n, (n,)) for n in (*self._kinds, *GROUNDS, *BACKDROPS))
        self.names = tuple(f"scene-{number:05d}" for number in range(seed, seed + scenes))
        self.missing: tuple[str, ...] = ()
        self._number = {name: number for number, name in enumerate(self.names, start=seed)}
        self._category = {category.name: i for i, category in enumerate(self.categories)}
        self._size = (height, width)

    def load(self, name: str) -> Sample:
        """Renders one scene."""
        from zgs_ros.synthetic import render, sample_scene

        height, width = self._size
        seed = FIRST_SEED + self._number[name]
        scene = sample_scene(seed, aspect=width / height, kinds=self._kinds)
        frame = render(scene, height, width)
        classes = np.full(self._size, -1, np.int32)
        for thing in frame.things.values():
            classes[frame.instances == thing.id] = self._category[thing.noun]
        pixels = np.bincount(frame.instances.ravel())
        regions = tuple(
            Region(thing.id, self._category[thing.noun], thing.phrase, _group(thing.noun))
            for thing in frame.things.values()
            if pixels[thing.id] >= MIN_SHARE * classes.size
        )
        return Sample(name, frame.rgb, classes, frame.instances.astype(np.int32), regions)


def _group(noun: str) -> str:
    if noun in GROUNDS:
        return "ground"
    return "backdrop" if noun in BACKDROPS else "object"
