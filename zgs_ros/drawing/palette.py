"""Colours for labels: evenly spread to the eye, the same for a label in all frames and processes."""

from __future__ import annotations

import functools
import hashlib
import math

import numpy as np

Colour = tuple[int, int, int]
"""Red, green, blue, each 0 .. 255."""

_HUES = 16
_LIGHTNESS = (0.57, 0.69, 0.81)
_CHROMA = 0.19


def colour_of(label: str) -> Colour:
    """The colour of a label: a function of its text alone, the same in all frames and processes."""
    # Not hash(): Python salts it anew in every process.
    digest = hashlib.sha256(label.encode("utf-8", "surrogatepass")).digest()
    colours = palette()
    return colours[int.from_bytes(digest[:8], "big") % len(colours)]


@functools.lru_cache(maxsize=256)
def shade(colour: Colour, lightness: float) -> Colour:
    """The same hue, paler in colour, at another OKLCH lightness (0 black .. 1 white)."""
    _, a, b = _srgb_to_oklab(colour)
    return _oklch_to_srgb(lightness, min(math.hypot(a, b), 0.06), math.atan2(b, a))


@functools.lru_cache(maxsize=1)
def palette() -> tuple[Colour, ...]:
    """All colours that `colour_of` chooses from.

    They lie on three rings of equal lightness in OKLCH, in which equal distances look equally
    different. The hues of neighbouring rings are staggered, which keeps the rings apart too.
    """
    return tuple(
        _oklch_to_srgb(lightness, _CHROMA, 2 * math.pi * (hue + ring / len(_LIGHTNESS)) / _HUES)
        for ring, lightness in enumerate(_LIGHTNESS)
        for hue in range(_HUES)
    )


# OKLab after B. Ottosson, "A perceptual color space for image processing", 2020.
_LMS_TO_LINEAR = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)
_LAB_TO_LMS = np.array(
    [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
)


def _oklch_to_srgb(lightness: float, chroma: float, hue: float) -> Colour:
    """Nearest displayable colour; chroma gives way where the screen can't show it."""
    for share in np.linspace(1.0, 0.0, 51):
        lab = np.array([lightness, share * chroma * math.cos(hue), share * chroma * math.sin(hue)])
        linear = _LMS_TO_LINEAR @ (_LAB_TO_LMS @ lab) ** 3
        if linear.min() >= -1e-4 and linear.max() <= 1.0001:
            break
    linear = linear.clip(0.0, 1.0)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    red, green, blue = np.rint(255 * encoded).astype(int).tolist()
    return red, green, blue


def _srgb_to_oklab(colour: Colour) -> tuple[float, float, float]:
    encoded = np.array(colour) / 255.0
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    lms = np.cbrt(np.linalg.solve(_LMS_TO_LINEAR, linear))
    lightness, a, b = np.linalg.solve(_LAB_TO_LMS, lms).tolist()
    return lightness, a, b
