"""Colours and surface patterns of things."""

from __future__ import annotations

import colorsys

import numpy as np

from zgs_ros.synthetic.primitives import Colour

# sRGB in 0..1. Far enough apart to stay unmistakable in light and in shadow.
COLOURS: dict[str, Colour] = {
    "red": (0.84, 0.09, 0.09),
    "orange": (0.98, 0.48, 0.04),
    "yellow": (0.97, 0.85, 0.10),
    "green": (0.13, 0.62, 0.20),
    "cyan": (0.13, 0.78, 0.82),
    "blue": (0.10, 0.26, 0.84),
    "purple": (0.48, 0.14, 0.68),
    "pink": (0.98, 0.56, 0.74),
    "brown": (0.43, 0.24, 0.11),
    "black": (0.07, 0.07, 0.08),
    "white": (0.95, 0.95, 0.93),
    "gray": (0.50, 0.51, 0.52),
}

PATTERNS: tuple[str, ...] = ("plain", "striped", "dotted", "checkered")

# How far hue, saturation and value of a colour may wander. Hues that border on another named
# colour (red-orange-yellow, cyan-blue) get less room.
_HUE_RANGE = {"orange": 0.010, "yellow": 0.012, "red": 0.010, "cyan": 0.012, "brown": 0.012}
_GRAYISH = ("black", "white", "gray")


def vary_colour(name: str, rng: np.random.Generator) -> Colour:
    """A random variation of a named colour, sRGB in 0..1.

    Raises:
        ValueError: `name` is not in COLOURS.
    """
    if name not in COLOURS:
        raise ValueError(f"unknown colour {name!r}; known are {', '.join(COLOURS)}")
    hue, saturation, value = colorsys.rgb_to_hsv(*COLOURS[name])
    wander = _HUE_RANGE.get(name, 0.018)
    hue = (hue + rng.uniform(-wander, wander)) % 1.0
    if name in _GRAYISH:
        value = float(np.clip(value + rng.uniform(-0.03, 0.03), 0.04, 0.97))
    else:
        saturation = float(np.clip(saturation * rng.uniform(0.92, 1.06), 0, 1))
        value = float(np.clip(value * rng.uniform(0.92, 1.05), 0, 1))
    return colorsys.hsv_to_rgb(hue, saturation, value)


def second_colour(colour: Colour, rng: np.random.Generator) -> Colour:
    """A companion for patterns: white, or a lighter or darker variant of the colour itself."""
    main = np.asarray(colour)
    luminance = float(main @ (0.3, 0.59, 0.11))
    if luminance > 0.85:  # on white only something darker shows
        mixed = main * 0.72
    elif rng.random() < 0.55:
        mixed = main * 0.15 + 0.85 * np.array([0.97, 0.96, 0.93])
    elif luminance > 0.45:
        mixed = main * 0.55
    else:
        mixed = main * 0.5 + 0.5
    return (float(mixed[0]), float(mixed[1]), float(mixed[2]))
