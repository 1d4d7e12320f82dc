"""Training examples for names: crops around objects, and whole pictures, of a pool of scenes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zgs_ros.training.naming import PHRASES
from zgs_ros.training.pool import PooledScene, ScenePool

MIN_SHARE = 0.004
"""Things below this share of the picture are too small to learn a name from."""
Rng = np.random.Generator


@dataclass(frozen=True, eq=False)
class Examples:
    """Pictures with named regions.

    Attributes:
        pixels: float32 (pictures, 3, size, size), normalised.
        positions: int64 (pictures, patches), where each patch lies in CLIP's input picture.
        owners: int64 (regions,), picture of each region.
        masks: float32 (regions, patches), covered share of each patch.
        targets: int64 (regions,), index into PHRASES.
        patches: int64 (pictures, patches), index into PHRASES of the thing that covers most of a
            patch, -1 where it is mixed.
        recoloured: bool (pictures,), whether colours were exchanged, so that only nouns are right.
        captions: One per picture.
    """

    pixels: Tensor
    positions: Tensor
    owners: Tensor
    masks: Tensor
    targets: Tensor
    patches: Tensor
    recoloured: Tensor
    captions: list[str]


@dataclass(frozen=True)
class Grid:
    """CLIP's input: `side` x `side` patches of `patch` pixels."""

    side: int
    patch: int


class ObjectCrops:
    """Crops around single objects, as large in them as objects are in CLIP's input picture.

    Args:
        pool: Rendered scenes.
        grid: Of the model.
        window: Patches per side of a crop.
        recolour: Share of crops whose colour channels are exchanged: the same shapes in other colours.
    """

    def __init__(self, pool: ScenePool, grid: Grid, window: int, recolour: float) -> None:
        self._pool = pool
        self._grid = grid
        self._window = window
        self._recolour = recolour
        self._objects = [
            (number, thing.id, _box(scene.instances == thing.id))
            for number, scene in enumerate(pool[n] for n in range(len(pool)))
            for thing in scene.things.values()
            if not thing.is_stuff and (scene.instances == thing.id).mean() >= MIN_SHARE
        ]

    def sample(self, count: int, rng: Rng) -> Examples:
        """`count` random crops."""
        window, patch = self._window, self._grid.patch
        rgbs, masks, targets, patches, positions, recoloured = [], [], [], [], [], []
        for choice in rng.integers(len(self._objects), size=count):
            number, id_, box = self._objects[choice]
            scene = self._pool[number]
            rgb, ids = _cut(scene, _around(box, scene.instances.shape, rng), window * patch, rng)
            recoloured.append(rng.random() < self._recolour)
            if recoloured[-1]:
                rgb = np.ascontiguousarray(rgb[:, :, rng.permutation(3)])
            rgbs.append(_disturb(rgb, rng))
            masks.append(_covered(ids == id_, window))
            names = _names(scene)
            targets.append(int(names[id_]))
            patches.append(_patch_targets(ids, window, names))
            top, left = rng.integers(self._grid.side - window + 1, size=2)
            rows, columns = top + np.arange(window), left + np.arange(window)
            positions.append((rows[:, None] * self._grid.side + columns).ravel())
        return Examples(
            pixels=_normalised(rgbs),
            positions=torch.from_numpy(np.stack(positions)),
            owners=torch.arange(count),
            masks=torch.from_numpy(np.stack(masks)),
            targets=torch.tensor(targets),
            patches=torch.from_numpy(np.stack(patches)),
            recoloured=torch.tensor(recoloured),
            captions=[],
        )


class WholePictures:
    """Whole scenes, or most of one, squashed to a square as CLIP's input is, with their regions.

    Args:
        pool: Rendered scenes.
        grid: Of the model.
        regions: Regions per picture, at most.
    """

    def __init__(self, pool: ScenePool, grid: Grid, regions: int) -> None:
        self._pool = pool
        self._grid = grid
        self._regions = regions

    def sample(self, count: int, rng: Rng) -> Examples:
        """`count` random pictures."""
        side = self._grid.side
        rgbs, captions, owners, masks, targets, patches = [], [], [], [], [], []
        for row, number in enumerate(rng.integers(len(self._pool), size=count)):
            scene = self._pool[int(number)]
            height, width = scene.instances.shape
            share = 1.0 if rng.random() < 0.5 else float(rng.uniform(0.6, 1.0))
            h, w = int(height * share), int(width * share)
            box = (int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w)
            rgb, ids = _cut(scene, box, side * self._grid.patch, rng)
            rgbs.append(_disturb(rgb, rng))
            captions.append(str(rng.choice(scene.captions)))
            names = _names(scene)
            patches.append(_patch_targets(ids, side, names))
            for mask, id_ in _sample_regions(scene, ids, self._regions, rng):
                owners.append(row)
                masks.append(_covered(mask, side))
                targets.append(int(names[id_]))
        return Examples(
            pixels=_normalised(rgbs),
            positions=torch.arange(side * side).expand(count, -1),
            owners=torch.tensor(owners),
            masks=torch.from_numpy(np.stack(masks)),
            targets=torch.tensor(targets),
            patches=torch.from_numpy(np.stack(patches)),
            recoloured=torch.zeros(count, dtype=torch.bool),
            captions=captions,
        )


def _box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """(top, left, height, width) of a mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (
        int(rows[0]),
        int(columns[0]),
        int(rows[-1] - rows[0] + 1),
        int(columns[-1] - columns[0] + 1),
    )


def _around(
    box: tuple[int, int, int, int], shape: tuple[int, ...], rng: Rng
) -> tuple[int, int, int, int]:
    """A box around an object's, which fills 0.45 to 1.0 of it; wider, as CLIP's input is squashed."""
    top, left, height, width = box
    extent = max(height, width * 0.75, 8.0) / rng.uniform(0.45, 1.0)
    h = min(shape[0], int(extent) + 1)
    w = min(shape[1], int(extent * 4 / 3 * rng.uniform(0.9, 1.1)) + 1)
    y = top - (h - height) * rng.uniform(0.1, 0.9)
    x = left - (w - width) * rng.uniform(0.1, 0.9)
    return int(np.clip(y, 0, shape[0] - h)), int(np.clip(x, 0, shape[1] - w)), h, w


def _cut(
    scene: PooledScene, box: tuple[int, int, int, int], size: int, rng: Rng
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Colours and ids of a box of the scene, (size, size, ...), mirrored half of the time."""
    top, left, height, width = box
    inside = np.s_[top : top + height, left : left + width]
    rgb = cv2.resize(
        np.ascontiguousarray(scene.rgb[inside]), (size, size), interpolation=cv2.INTER_AREA
    )
    ids = cv2.resize(
        np.ascontiguousarray(scene.instances[inside]), (size, size), interpolation=cv2.INTER_NEAREST
    )
    if rng.random() < 0.5:
        rgb, ids = rgb[:, ::-1], ids[:, ::-1]
    return np.ascontiguousarray(rgb, np.uint8), np.ascontiguousarray(ids, np.uint8)


def _disturb(rgb: NDArray[np.uint8], rng: Rng) -> NDArray[np.uint8]:
    """Small changes of exposure and contrast, and noise; colours must stay nameable."""
    gain, lift = rng.uniform(0.9, 1.1), rng.uniform(-8, 8)
    values = (rgb.astype(np.float32) - 128.0) * gain + 128.0 + lift
    if rng.random() < 0.3:
        values += rng.normal(0.0, rng.uniform(1.0, 6.0), values.shape).astype(np.float32)
    return np.clip(values, 0, 255).astype(np.uint8)


def _normalised(rgbs: list[NDArray[np.uint8]]) -> Tensor:
    return (torch.from_numpy(np.stack(rgbs)).permute(0, 3, 1, 2).float() / 255.0 - 0.5) / 0.25


def _covered(mask: NDArray[np.bool_] | NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    """Covered share of each patch, (side * side,)."""
    share = cv2.resize(mask.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(share, np.float32).ravel()


def _names(scene: PooledScene) -> NDArray[np.int64]:
    """Index into PHRASES by id."""
    names = np.full(256, -1, np.int64)
    for thing in scene.things.values():
        names[thing.id] = _PHRASE_INDEX[thing.phrase]
    return names


_PHRASE_INDEX = {phrase: index for index, phrase in enumerate(PHRASES)}


def _patch_targets(
    ids: NDArray[np.uint8], side: int, names: NDArray[np.int64]
) -> NDArray[np.int64]:
    size = ids.shape[0] // side
    cells = ids.reshape(side, size, side, size).transpose(0, 2, 1, 3).reshape(side * side, -1)
    cells = np.sort(cells, axis=1)
    middle = cells[:, cells.shape[1] // 2]  # the majority, where there is one
    covered = (cells == middle[:, None]).mean(axis=1)
    return np.where(covered > 0.6, names[middle], -1)


def _sample_regions(
    scene: PooledScene, ids: NDArray[np.uint8], count: int, rng: Rng
) -> list[tuple[NDArray[np.uint8], int]]:
    """Up to `count` masks with their ids: objects first, sometimes imprecise or only a part."""
    areas = np.bincount(ids.ravel(), minlength=256) / ids.size
    seen = [t for t in scene.things.values() if areas[t.id] >= MIN_SHARE]
    order = sorted(seen, key=lambda thing: (thing.is_stuff and rng.random() < 0.6, rng.random()))
    found = []
    for thing in order[:count]:
        mask = (ids == thing.id).astype(np.uint8)
        if rng.random() < 0.4:
            kernel = np.ones((3, 3), np.uint8)
            change = cv2.dilate if rng.random() < 0.5 else cv2.erode
            changed = change(mask, kernel, iterations=int(rng.integers(1, 4))).astype(np.uint8)
            mask = changed if changed.any() else mask
        if rng.random() < 0.15:
            mask = _part(mask, rng)
        found.append((mask, thing.id))
    return found


def _part(mask: NDArray[np.uint8], rng: Rng) -> NDArray[np.uint8]:
    """One side of the mask along a random line through its middle, as an over-segmentation cuts it."""
    rows, columns = np.nonzero(mask)
    angle = rng.uniform(0, 2 * math.pi)
    yy, xx = np.indices(mask.shape)
    side = (xx - columns.mean()) * math.cos(angle) + (yy - rows.mean()) * math.sin(angle) > 0
    part = mask * side.astype(np.uint8)
    return part if part.sum() > 0.3 * mask.sum() else mask
