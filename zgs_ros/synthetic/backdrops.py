"""Textures of the backdrops: walls are tiles, sky and mountains are a panorama."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np

from zgs_ros.synthetic.grounds import wood
from zgs_ros.synthetic.textures import TILE, Image, Rng, Tile, clouds, mix, noise
from zgs_ros.synthetic.textures import wrapped_copies as copies

VARIANTS = 3
DISTANT: tuple[str, ...] = ("sky", "mountains")

# Horizontal and vertical field covered by a panorama, in radians; it starts at the horizon.
PANORAMA_WIDTH = 2.4
PANORAMA_HEIGHT = 0.8


def _brick_wall(rng: Rng) -> Image:
    image = mix((0.74, 0.70, 0.64), (0.62, 0.58, 0.53), clouds(rng, 12))  # mortar
    rows, columns = 10, 4
    height, width = TILE / rows, TILE / columns
    rough = clouds(rng, 24)
    base = np.array(((0.62, 0.25, 0.17), (0.55, 0.22, 0.17), (0.66, 0.33, 0.22))[rng.integers(3)])
    for row in range(rows):
        y0, y1 = int(row * height) + 4, int((row + 1) * height) - 2
        for column in range(columns):
            x = (column + 0.5 * (row % 2)) * width
            tone = base * rng.uniform(0.72, 1.2) + rng.uniform(-0.02, 0.02, 3)
            xs = np.arange(int(x) + 4, int(x + width) - 3) % TILE
            image[y0:y1, xs] = tone * (0.8 + 0.4 * rough[y0:y1, xs, None])
            image[y0 : y0 + 3, xs] *= 1.15
            image[y1 - 3 : y1, xs] *= 0.75
    return image


def _wall(rng: Rng) -> Image:
    paints = ((0.90, 0.84, 0.70), (0.74, 0.83, 0.80), (0.86, 0.76, 0.72))
    paint = np.array(paints[int(rng.integers(len(paints)))])
    trowel = 0.6 * clouds(rng, 4) + 0.4 * noise(rng, (40, 64))
    return mix(paint * 0.95, np.minimum(paint * 1.04, 1), trowel)


def _wood_panel(rng: Rng) -> Image:
    # Vertical boards, darker and redder than the floor, with knots.
    image = wood(rng, (0.60, 0.36, 0.20), (0.30, 0.15, 0.08), 4)
    for _ in range(9):
        x, y = rng.random(2) * TILE
        for ring in range(4, 0, -1):
            tone = 0.16 + 0.05 * (ring % 2)
            for a, b in copies(x, y, 30):
                axes = (5 * ring, 3 * ring)
                cv2.ellipse(
                    image, (int(a), int(b)), axes, 0, 0, 360, (tone * 1.6, tone, tone / 2), 2
                )
    return np.ascontiguousarray(image.transpose(1, 0, 2))


def _hedge(rng: Rng) -> Image:
    image = np.full((TILE, TILE, 3), (0.03, 0.09, 0.03), np.float32)
    count = 2600
    for k in range(count):
        x, y = rng.random(2) * TILE
        depth = k / count
        tint = (0.05 + 0.15 * depth * rng.random(), 0.18 + 0.30 * depth, 0.06 + 0.05 * depth)
        axes = (int(rng.integers(10, 16)), int(rng.integers(5, 8)))
        angle = float(rng.uniform(0, 180))
        for a, b in copies(x, y, 18):
            cv2.ellipse(image, (int(a), int(b)), axes, angle, 0, 360, tint, -1)
            ridge = (int(a + axes[0] * 0.7 * np.cos(np.radians(angle))), int(b))
            cv2.line(image, (int(a), int(b)), ridge, tuple(1.25 * t for t in tint), 1)
    return image


def _curtain(rng: Rng) -> Image:
    dyes = ((0.62, 0.12, 0.20), (0.12, 0.36, 0.44), (0.80, 0.62, 0.24))
    dye = np.array(dyes[int(rng.integers(len(dyes)))])
    x = np.linspace(0, 1, TILE, endpoint=False, dtype=np.float32)
    wander = noise(rng, (2, 3)) * 0.5
    phase = 2 * np.pi * (7 * x[None, :] + wander)
    fold = 0.5 + 0.5 * np.sin(phase + 0.8 * np.sin(phase))
    weave = 0.96 + 0.08 * noise(rng, (256, 256))
    return mix(dye * 0.35, np.minimum(dye * 1.3, 1), fold) * weave[..., None]


def _sky(rng: Rng) -> Image:
    up = np.linspace(0, 1, TILE, dtype=np.float32)[:, None] * np.ones((1, TILE), np.float32)
    image = mix((0.80, 0.89, 0.96), (0.25, 0.52, 0.88), up**0.7)
    # Clouds are wider than high; their lower side is grayish.
    shape = 0.75 * noise(rng, (7, 5)) + 0.3 * noise(rng, (16, 12)) + 0.15 * noise(rng, (40, 30))
    body = np.clip((shape - 0.62) * 4.5, 0, 1) * np.clip(up * 7 - 0.3, 0, 1)
    below = np.roll(shape, -14, axis=0)
    shade = np.clip(0.5 + (shape - below) * 1.5, 0, 1)
    return mix(image, mix((1.0, 1.0, 1.0), (0.80, 0.84, 0.90), shade), body)


def _mountains(rng: Rng) -> Image:
    image = _sky(rng)
    up = np.linspace(0, 1, TILE, dtype=np.float32)[:, None]
    rock = clouds(rng, 10, 5)
    layers = (
        (0.11, 0.20, (0.60, 0.67, 0.78), True),
        (0.05, 0.10, (0.45, 0.55, 0.64), True),
        (0.00, 0.05, (0.30, 0.46, 0.34), False),
    )
    for base, rise, tint, snowy in layers:
        ridge = sum(noise(rng, (1, 5 * 2**k))[:1] * 0.55**k for k in range(5)) / 1.9
        height = base + rise * (2.2 * (ridge - 0.5) + 0.5)
        below = height - up  # positive inside the layer
        inside = below > 0
        face = np.clip(0.75 + 0.5 * (rock - 0.5) + 6 * np.gradient(height, axis=1), 0.72, 1.3)
        colour = np.array(tint, np.float32) * face[..., None]
        if snowy:
            cap = below + 0.06 * (rock - 0.5) < 0.45 * (height - base * 0.8)
            colour = np.where((cap & inside)[..., None], 0.9 * face[..., None] + 0.08, colour)
        image = np.where(inside[..., None], np.clip(colour, 0, 1), image).astype(np.float32)
    return image


_BAKERS: dict[str, tuple[Callable[[Rng], Image], float]] = {
    "sky": (_sky, 1.0),
    "brick wall": (_brick_wall, 1.3),
    "wall": (_wall, 1.6),
    "wood panel": (_wood_panel, 1.3),
    "hedge": (_hedge, 1.0),
    "curtain": (_curtain, 1.6),
    "mountains": (_mountains, 1.0),
}


@lru_cache(maxsize=len(_BAKERS) * VARIANTS)
def backdrop_tile(name: str, variant: int) -> Tile:
    """Texture of a backdrop; baked on first use. Panoramas have an edge of 1 instead of metres.

    Raises:
        ValueError: `name` is not a backdrop.
    """
    if name not in _BAKERS:
        raise ValueError(f"unknown backdrop {name!r}; known are {', '.join(_BAKERS)}")
    bake, metres = _BAKERS[name]
    return Tile.from_image(bake(np.random.default_rng(2000 + variant % VARIANTS)), metres)
