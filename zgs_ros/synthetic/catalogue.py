"""The vocabulary of the synthetic world: kinds of things, colours, patterns, surroundings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from zgs_ros.synthetic.kinds import REGISTRY
from zgs_ros.synthetic.palette import COLOURS, PATTERNS
from zgs_ros.synthetic.primitives import Builder, Primitive, rotation

# Kinds that no scene contains unless asked for: the bundled models have never seen them, so they
# tell how segmentation and embedding do on things outside of their training.
HELD_OUT_KINDS: tuple[str, ...] = (
    "arch",
    "bed",
    "cake",
    "candle",
    "castle",
    "drum",
    "dumbbell",
    "fence",
    "giraffe",
    "glasses",
    "helicopter",
    "ladder",
    "lighthouse",
    "spoon",
    "stool",
    "train",
    "trophy",
    "windmill",
)
KINDS: tuple[str, ...] = tuple(noun for noun in sorted(REGISTRY) if noun not in HELD_OUT_KINDS)
GROUNDS: tuple[str, ...] = (
    "grass",
    "sand",
    "water",
    "wood floor",
    "concrete",
    "carpet",
    "tiles",
    "asphalt",
    "gravel",
    "snow",
    "soil",
)
BACKDROPS: tuple[str, ...] = (
    "sky",
    "brick wall",
    "wall",
    "wood panel",
    "hedge",
    "curtain",
    "mountains",
)

__all__ = [
    "BACKDROPS",
    "COLOURS",
    "GROUNDS",
    "HELD_OUT_KINDS",
    "KINDS",
    "PATTERNS",
    "Solid",
    "build",
    "invert",
    "phrases",
]


@dataclass(frozen=True, eq=False)
class Solid:
    """A built thing of size one: its longest extent is 1, it stands on z = 0, centred on z.

    Attributes:
        inverse: Object to local coordinates of its primitives, (parts, 3, 4).
        corners: Corners of their bounding boxes in object coordinates, (parts, 8, 3).
        shapes: Their shape parameters, (parts, SHAPE_SIZE).
        families: Their families, (parts,).
        accents: Their fixed colours, sRGB, (parts, 3); nan where the thing's own colour goes.
        shades: Factors on their brightness, (parts,).
        radius: Largest distance of any part from the z axis.
        height: Extent along z.
    """

    inverse: NDArray[np.float64]
    corners: NDArray[np.float64]
    shapes: NDArray[np.float64]
    families: NDArray[np.int64]
    accents: NDArray[np.float64]
    shades: NDArray[np.float64]
    radius: float
    height: float


@lru_cache(maxsize=4096)
def build(kind: str, seed: int, lying: bool = False) -> Solid:
    """Build one thing of a kind; the seed decides its proportions.

    Raises:
        ValueError: `kind` is not in KINDS.
    """
    if kind not in REGISTRY:
        raise ValueError(f"unknown kind {kind!r}; known are {', '.join(sorted(REGISTRY))}")
    builder = Builder()
    REGISTRY[kind].build(builder, np.random.default_rng(seed))
    parts = builder.parts
    frames = np.stack([part.frame for part in parts])
    if lying:
        frames = rotation((0.0, 90.0, 0.0)) @ frames
    outline = np.concatenate(
        [_outline(part, frame) for part, frame in zip(parts, frames, strict=True)]
    )
    low, high = outline.min(axis=0), outline.max(axis=0)
    scale = 1.0 / float((high - low).max())
    shift = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
    frames[:, :, 3] -= shift
    frames *= scale
    outline = (outline - shift) * scale
    bounds = np.stack([part.bounds for part in parts])
    local = np.where(_CORNER_PICK, bounds[:, None, 1], bounds[:, None, 0])  # (parts, 8, 3)
    return Solid(
        inverse=invert(frames),
        corners=local @ frames[:, :, :3].transpose(0, 2, 1) + frames[:, None, :, 3],
        shapes=np.stack([part.shape for part in parts]),
        families=np.array([part.family for part in parts]),
        accents=np.array([part.colour or (np.nan,) * 3 for part in parts]),
        shades=np.array([part.shade for part in parts]),
        radius=float(np.hypot(outline[:, 0], outline[:, 1]).max()),
        height=float(outline[:, 2].max()),
    )


_CORNER_PICK = np.array([[(i >> k) & 1 for k in range(3)] for i in range(8)], bool)


def invert(frames: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse of affine maps (N, 3, 4)."""
    linear = np.linalg.inv(frames[:, :, :3])
    return np.concatenate([linear, -linear @ frames[:, :, 3:]], axis=2)


def _outline(part: Primitive, frame: NDArray[np.float64]) -> NDArray[np.float64]:
    """Extreme points of a primitive: bounding box corners, or exact for whole ellipsoids."""
    is_ellipsoid = part.family == 0 and part.shape[0] == 1.0 and tuple(part.shape[3:5]) == (-1, 1)
    if is_ellipsoid:
        reach = np.linalg.norm(frame[:, :3], axis=1)
        return np.stack([frame[:, 3] - reach, frame[:, 3] + reach])
    local = np.where(_CORNER_PICK, part.bounds[1], part.bounds[0])
    return np.asarray(local @ frame[:, :3].T + frame[:, 3])


def phrases() -> list[str]:
    """All label phrases of this world: every colour with every kind, grounds, backdrops."""
    return [f"{colour} {kind}" for kind in KINDS for colour in COLOURS] + [*GROUNDS, *BACKDROPS]
