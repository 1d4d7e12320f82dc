"""What the synthetic camera delivers: a picture with complete ground truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Thing:
    """Something visible: an object, the ground or the backdrop.

    Attributes:
        id: Value in `Frame.instances`, >= 1; the same in all frames of one scene.
        noun: Kind of object, or name of the ground or backdrop.
        colour: Name of the main colour; None for ground and backdrop.
        pattern: Name of the surface pattern; "plain" for ground and backdrop.
        phrase: Label phrase, for example "red mug" or "grass".
        is_stuff: Whether it is the ground or the backdrop.
    """

    id: int
    noun: str
    colour: str | None
    pattern: str
    phrase: str
    is_stuff: bool


@dataclass(frozen=True, eq=False)
class Frame:
    """One rendered picture.

    Attributes:
        rgb: (H, W, 3) uint8, sRGB.
        instances: Id of the thing at every pixel, (H, W) uint16; never 0.
        things: The visible things by id.
        depth: Distance along the optical axis in metres, (H, W) float32; inf for sky.
        intrinsics: Camera matrix K, (3, 3) float64; pixel centres have integer coordinates.
        pose: Camera optical frame (x right, y down, z forward) to world (z up), (4, 4) float64.
    """

    rgb: NDArray[np.uint8]
    instances: NDArray[np.uint16]
    things: dict[int, Thing]
    depth: NDArray[np.float32]
    intrinsics: NDArray[np.float64]
    pose: NDArray[np.float64]
