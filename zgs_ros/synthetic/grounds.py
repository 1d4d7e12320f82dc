"""Textures of the grounds, seen from above."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np

from zgs_ros.synthetic.textures import TILE, Image, Rng, Tile, cells, clouds, mix, noise
from zgs_ros.synthetic.textures import wrapped_copies as copies

VARIANTS = 3


def _grass(rng: Rng) -> Image:
    image = mix((0.10, 0.22, 0.05), (0.20, 0.36, 0.09), clouds(rng, 6))
    for k in range(5200):
        x, y = rng.random(2) * TILE
        angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(12, 30)
        bright = 0.55 + 0.5 * k / 5200  # later blades lie on top and catch more light
        tint = (rng.uniform(0.22, 0.42) * bright, rng.uniform(0.50, 0.68) * bright, 0.12 * bright)
        dx, dy = length * np.cos(angle), length * np.sin(angle)
        for a, b in copies(x, y, 34):
            cv2.line(image, (int(a), int(b)), (int(a + dx), int(b + dy)), tint, 1 + k % 2)
    return image


def _sand(rng: Rng) -> Image:
    warp = clouds(rng, 3)
    y = np.linspace(0, 1, TILE, endpoint=False, dtype=np.float32)[:, None]
    ripple = 0.5 + 0.5 * np.sin(2 * np.pi * (9 * y + 1.3 * warp))
    image = mix((0.72, 0.57, 0.36), (0.93, 0.80, 0.57), 0.25 + 0.6 * ripple**1.5)
    return image + 0.10 * (rng.random((TILE, TILE, 1)) - 0.5).astype(np.float32)


def _water(rng: Rng) -> Image:
    # Caustics: bright where two warped noises cross their middle.
    first, second = clouds(rng, 5, 2), clouds(rng, 7, 2)
    web = np.exp(-np.abs(first - 0.5) * 16) + np.exp(-np.abs(second - 0.5) * 16)
    image = mix((0.03, 0.27, 0.45), (0.10, 0.48, 0.62), clouds(rng, 3))
    return mix(image, (0.66, 0.92, 0.96), np.clip(web * 0.55, 0, 0.85))


def wood(rng: Rng, light: tuple[float, ...], dark: tuple[float, ...], planks: int) -> Image:
    """Planks along the rows, with grain, joints and a tone of their own."""
    image = np.empty((TILE, TILE, 3), np.float32)
    step = TILE // planks
    grain = 0.6 * noise(rng, (128, 4)) + 0.4 * noise(rng, (256, 9))
    waves = noise(rng, (24, 3))
    rings = 0.5 + 0.5 * np.sin(26 * waves)
    for k in range(planks):
        rows = slice(k * step, (k + 1) * step)
        shift = int(rng.integers(TILE))
        weight = np.roll(0.45 * grain[rows] + 0.35 * rings[rows], shift, axis=1) + 0.1
        weight = np.clip(weight + rng.uniform(-0.22, 0.22), 0, 1)
        image[rows] = mix(light, dark, weight)
        for joint in (shift, (shift + TILE // 2 + int(rng.integers(-40, 40))) % TILE):
            image[rows, joint : joint + 3] *= 0.45
        image[rows.start : rows.start + 3] *= 0.45
        image[rows.start + 3 : rows.start + 5] *= 1.1
    return image


def _wood_floor(rng: Rng) -> Image:
    return wood(rng, (0.83, 0.60, 0.34), (0.52, 0.31, 0.14), 8)


def _concrete(rng: Rng) -> Image:
    stain = np.clip(clouds(rng, 3, 5) * 1.6 - 0.3, 0, 1)
    image = mix((0.72, 0.71, 0.68), (0.56, 0.56, 0.55), stain)
    image += 0.05 * (rng.random((TILE, TILE, 1)) - 0.5).astype(np.float32)
    for _ in range(90):  # pores
        x, y = rng.integers(4, TILE - 4, 2)
        cv2.circle(image, (int(x), int(y)), int(rng.integers(1, 3)), (0.45, 0.45, 0.44), -1)
    _crack(image, rng, (0.38, 0.38, 0.38), 2)
    image[:7] *= 0.52  # joints between the slabs
    image[:, :7] *= 0.52
    return image


def _crack(image: Image, rng: Rng, colour: tuple[float, ...], thickness: int) -> None:
    x, y, angle = *rng.uniform(0.2, 0.5, 2) * TILE, rng.uniform(0, 2 * np.pi)
    for _ in range(26):
        angle += rng.normal() * 0.45
        to = (x + 11 * np.cos(angle), y + 11 * np.sin(angle))
        for shift_x in (-TILE, 0, TILE):
            for shift_y in (-TILE, 0, TILE):
                start = (int(x + shift_x), int(y + shift_y))
                end = (int(to[0] + shift_x), int(to[1] + shift_y))
                cv2.line(image, start, end, colour, thickness, cv2.LINE_AA)
        x, y = to


def _carpet(rng: Rng) -> Image:
    schemes = (
        ((0.52, 0.08, 0.12), (0.85, 0.66, 0.36), (0.14, 0.14, 0.32)),
        ((0.14, 0.20, 0.42), (0.86, 0.78, 0.60), (0.60, 0.16, 0.16)),
        ((0.10, 0.33, 0.30), (0.88, 0.74, 0.46), (0.45, 0.10, 0.16)),
    )
    base, gold, accent = (np.array(c, np.float32) for c in schemes[int(rng.integers(3))])
    at = (np.arange(TILE, dtype=np.float32) + 0.5) / TILE * 2
    x, y = np.abs(at % 1 - 0.5)[None, :], np.abs(at % 1 - 0.5)[:, None]
    diamond, corner = x + y, 1 - x - y
    image = np.broadcast_to(base, (TILE, TILE, 3)).copy()
    for distance, order in ((diamond, (gold, accent, gold)), (corner, (accent, gold, base))):
        for limit, colour in zip((0.36, 0.31, 0.12), order, strict=True):
            image[distance < limit] = colour
    image[(np.abs(x - y) < 0.02) & (diamond > 0.4) & (corner > 0.4)] = gold
    weave = 0.5 + 0.5 * np.sin(np.arange(TILE) * 2 * np.pi / 8)
    shade = 0.78 + 0.16 * weave[:, None] * weave[None, :] + 0.22 * (noise(rng, (256, 256)) - 0.5)
    return np.asarray(image * shade[..., None], np.float32)


def _tiles(rng: Rng) -> Image:
    pairs = (
        ((0.93, 0.93, 0.91), (0.55, 0.72, 0.78)),
        ((0.92, 0.89, 0.83), (0.74, 0.46, 0.36)),
        ((0.95, 0.95, 0.95), (0.30, 0.34, 0.38)),
    )
    pair = pairs[int(rng.integers(len(pairs)))]
    image = np.empty((TILE, TILE, 3), np.float32)
    step = TILE // 4
    for row in range(4):
        for column in range(4):
            tone = np.array(pair[(row + column) % 2]) + rng.uniform(-0.025, 0.025)
            at = (slice(row * step, (row + 1) * step), slice(column * step, (column + 1) * step))
            image[at] = tone
    image += 0.05 * (clouds(rng, 8)[..., None] - 0.5)
    at_edge = np.minimum(np.arange(TILE) % step, step - 1 - np.arange(TILE) % step)
    near = np.minimum(at_edge[:, None], at_edge[None, :])
    image[near < 8] *= 0.93  # bevel
    image[near < 4] = (0.50, 0.48, 0.45)
    return image


def _asphalt(rng: Rng) -> Image:
    _, _, owner = cells(rng, 110)
    tone = rng.random(110 * 110).astype(np.float32) ** 4
    image = mix((0.13, 0.13, 0.14), (0.40, 0.40, 0.41), tone[owner] * 0.9)
    image *= 0.85 + 0.3 * clouds(rng, 3)[..., None]
    _crack(image, rng, (0.05, 0.05, 0.05), 4)
    rough = rng.random((TILE, TILE)) * 0.5 + clouds(rng, 12) * 0.5
    stripe = np.zeros((TILE, TILE), bool)
    stripe[40:330, 30:76] = True  # a dash of the road marking
    image[stripe & (rough > 0.28)] = (0.88, 0.87, 0.82)
    return image


def _gravel(rng: Rng) -> Image:
    distance, gap, owner = cells(rng, 22)
    palette = np.array(
        [(0.62, 0.60, 0.58), (0.47, 0.45, 0.44), (0.72, 0.66, 0.58), (0.55, 0.44, 0.36)],
        np.float32,
    )
    stones = palette[rng.integers(len(palette), size=22 * 22)] * rng.uniform(0.8, 1.2, (22 * 22, 1))
    image = stones.astype(np.float32)[owner]
    dome = np.clip(1.15 - 0.75 * distance, 0.3, 1.1) * np.clip(gap * 4.5, 0.18, 1)
    light = cv2.Sobel(dome.astype(np.float32), cv2.CV_32F, 1, 1, ksize=3)
    relief = dome + np.clip(light, -0.2, 0.2)
    return np.asarray(image * relief[..., None], np.float32)


def _snow(rng: Rng) -> Image:
    drift = clouds(rng, 4, 3)
    image = mix((0.80, 0.87, 0.97), (0.99, 0.992, 1.0), np.clip(drift * 1.5 - 0.1, 0, 1))
    sparkle = rng.random((TILE, TILE)) > 0.997
    image *= 0.97 + 0.03 * noise(rng, (200, 200))[..., None]
    image[sparkle] = 1.0
    return image


def _soil(rng: Rng) -> Image:
    _, gap, owner = cells(rng, 40)
    tone = 0.6 * clouds(rng, 8, 5) + 0.4 * rng.random(1600).astype(np.float32)[owner]
    image = mix((0.17, 0.10, 0.06), (0.42, 0.27, 0.17), tone)
    image *= np.clip(0.6 + gap * 1.6, 0.55, 1.05)[..., None]
    for _ in range(60):  # pebbles and twigs
        x, y = rng.random(2) * TILE
        tint = rng.uniform(0.4, 0.62)
        for a, b in copies(x, y, 20):
            at = (int(a), int(b))
            if rng.random() < 0.6:
                cv2.ellipse(image, at, (7, 5), 30, 0, 360, (tint, tint * 0.9, tint * 0.78), -1)
            else:
                end = (at[0] + 16, at[1] + int(rng.integers(-14, 14)))
                cv2.line(image, at, end, (0.45, 0.33, 0.2), 2)
    return image


# Texture and edge length of a tile in metres.
_BAKERS: dict[str, tuple[Callable[[Rng], Image], float]] = {
    "grass": (_grass, 0.9),
    "sand": (_sand, 1.3),
    "water": (_water, 1.6),
    "wood floor": (_wood_floor, 1.5),
    "concrete": (_concrete, 1.5),
    "carpet": (_carpet, 1.1),
    "tiles": (_tiles, 1.3),
    "asphalt": (_asphalt, 1.5),
    "gravel": (_gravel, 1.1),
    "snow": (_snow, 1.8),
    "soil": (_soil, 1.2),
}


@lru_cache(maxsize=len(_BAKERS) * VARIANTS)
def ground_tile(name: str, variant: int) -> Tile:
    """Texture of a ground; baked on first use.

    Raises:
        ValueError: `name` is not a ground.
    """
    if name not in _BAKERS:
        raise ValueError(f"unknown ground {name!r}; known are {', '.join(_BAKERS)}")
    bake, metres = _BAKERS[name]
    return Tile.from_image(bake(np.random.default_rng(1000 + variant % VARIANTS)), metres)
