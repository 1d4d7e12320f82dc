"""A pool of rendered scenes on disk: rendering once and training many times from it."""

from __future__ import annotations

import json
import logging
import multiprocessing
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zgs_ros.synthetic.frame import Thing

SHARD = 250
CAPTIONS = 4
HEIGHT, WIDTH = 192, 256

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class PooledScene:
    """One scene of the pool.

    Attributes:
        rgb: uint8 (height, width, 3).
        instances: uint8 (height, width), ids of `things`.
        things: By id.
        captions: A few different captions of the scene.
    """

    rgb: NDArray[np.uint8]
    instances: NDArray[np.uint8]
    things: dict[int, Thing]
    captions: list[str]


class ScenePool:
    """Reads a pool; the arrays stay on disk until they are used.

    Args:
        folder: Where `render_pool` wrote.

    Raises:
        FileNotFoundError: If there is no finished shard.
    """

    def __init__(self, folder: Path) -> None:
        self._shards = [
            (np.load(path.with_suffix(".rgb.npy"), mmap_mode="r"),
             np.load(path.with_suffix(".ids.npy"), mmap_mode="r"),
             json.loads(path.read_text(encoding="utf-8")))
            for path in sorted(folder.glob("*.json"))
        ]  # fmt: skip
        if not self._shards:
            raise FileNotFoundError(f"{folder} has no rendered scenes; render_pool makes them")
        self._index = [(s, i) for s, shard in enumerate(self._shards) for i in range(len(shard[0]))]

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, number: int) -> PooledScene:
        shard, row = self._index[number]
        rgb, instances, described = self._shards[shard]
        entry = described[row]
        things = {thing["id"]: Thing(**thing) for thing in entry["things"]}
        return PooledScene(rgb[row], instances[row], things, entry["captions"])


def render_pool(folder: Path, scenes: int, first_seed: int = 0, workers: int = 2) -> None:
    """Renders the scenes of consecutive seeds; shards that are there already are kept.

    Args:
        folder: Where to write.
        scenes: Number of scenes, rounded up to whole shards.
        first_seed: Seed of the first scene.
        workers: Processes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    starts = [first_seed + offset for offset in range(0, scenes, SHARD)]
    missing = [start for start in starts if not (folder / f"{start:010d}.json").exists()]
    with multiprocessing.get_context("spawn").Pool(workers) as processes:
        for done, start in enumerate(
            processes.imap_unordered(partial(_render_shard, folder), missing), start=1
        ):
            logger.info("rendered shard %d (%d of %d)", start, done, len(missing))


def _render_shard(folder: Path, start: int) -> int:
    import torch

    from zgs_ros.synthetic import captions, render, sample_scene

    torch.set_num_threads(1)
    rgb = np.empty((SHARD, HEIGHT, WIDTH, 3), np.uint8)
    ids = np.empty((SHARD, HEIGHT, WIDTH), np.uint8)
    described = []
    for row in range(SHARD):
        scene = sample_scene(start + row, aspect=WIDTH / HEIGHT)
        frame = render(scene, HEIGHT, WIDTH)
        rng = np.random.default_rng(start + row)
        rgb[row], ids[row] = frame.rgb, frame.instances
        described.append(
            {
                "things": [asdict(thing) for thing in frame.things.values()],
                "captions": [captions(frame, rng) for _ in range(CAPTIONS)],
            }
        )
    path = folder / f"{start:010d}.json"
    np.save(path.with_suffix(".rgb.npy"), rgb)
    np.save(path.with_suffix(".ids.npy"), ids)
    path.write_text(json.dumps(described), encoding="utf-8")  # last: it marks the shard as finished
    return start


def shuffled(length: int, rng: np.random.Generator) -> Iterator[int]:
    """Endless random order, every number once per round."""
    while True:
        yield from (int(number) for number in rng.permutation(length))
