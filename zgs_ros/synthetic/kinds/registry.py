"""The table of kinds: noun -> function that builds the thing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from zgs_ros.synthetic.primitives import Builder, Colour

BuildFunction = Callable[[Builder, np.random.Generator], None]

# Colours of fixed accents, sRGB.
DARK: Colour = (0.10, 0.10, 0.11)
METAL: Colour = (0.68, 0.70, 0.73)
WOOD: Colour = (0.55, 0.36, 0.18)
BARK: Colour = (0.36, 0.23, 0.13)
GLASS: Colour = (0.62, 0.80, 0.90)
CREAM: Colour = (0.94, 0.90, 0.80)
GOLD: Colour = (0.90, 0.68, 0.20)
SKIN: Colour = (0.95, 0.60, 0.15)
LEAF: Colour = (0.25, 0.52, 0.18)


@dataclass(frozen=True)
class Kind:
    """How a kind of thing is built and how it may rest on the ground.

    Attributes:
        build: Adds the primitives to a builder.
        lying: Probability that the thing lies on its side.
        facing: Half range of the yaw about the best view in degrees; 180 allows all.
        size: Factor on the sampled size, for kinds that need more room to be recognised.
    """

    build: BuildFunction
    lying: float = 0.0
    facing: float = 180.0
    size: float = 1.0


REGISTRY: dict[str, Kind] = {}


def kind(
    noun: str, *, lying: float = 0.0, facing: float = 180.0, size: float = 1.0
) -> Callable[[BuildFunction], BuildFunction]:
    """Registers a build function under a noun."""

    def register(build: BuildFunction) -> BuildFunction:
        REGISTRY[noun] = Kind(build, lying, facing, size)
        return build

    return register
