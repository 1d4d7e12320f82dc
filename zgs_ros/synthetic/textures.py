"""Tileable textures: noise, and tiles with a mip pyramid that are sampled per pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Image = NDArray[np.float32]
Rng = np.random.Generator

TILE = 512


def noise(rng: Rng, cells: tuple[int, int], size: int = TILE) -> Image:
    """Smooth periodic noise in 0..1, (size, size); `cells` is the number of bumps (rows, columns).

    Different numbers in the two directions make streaks.
    """
    grid = rng.random(cells).astype(np.float32)
    pad = 3
    grid = np.pad(grid, pad, mode="wrap")
    scale_y, scale_x = size / cells[0], size / cells[1]
    x = (np.arange(size, dtype=np.float32) + 0.5) / scale_x - 0.5 + pad
    y = (np.arange(size, dtype=np.float32) + 0.5) / scale_y - 0.5 + pad
    map_x, map_y = np.meshgrid(x, y)
    smooth = cv2.remap(grid, map_x, map_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP)
    return np.asarray(np.clip(smooth, 0, 1), np.float32)


def clouds(rng: Rng, cells: int, octaves: int = 4, size: int = TILE) -> Image:
    """Fractal periodic noise with mean about 0.5 that spans most of 0..1, (size, size)."""
    total = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        n = min(cells * 2**octave, size)
        total += noise(rng, (n, n), size) * 0.5**octave
    total -= total.mean()
    return np.asarray(np.clip(0.5 + total / (5 * total.std() + 1e-6), 0, 1), np.float32)


def cells(rng: Rng, count: int, size: int = TILE) -> tuple[Image, Image, NDArray[np.int32]]:
    """Periodic Voronoi cells on a jittered count x count lattice.

    Returns:
        Distance to the nearest seed and gap to the second nearest (both in lattice steps), and
        the index of the nearest seed, each (size, size).
    """
    jitter = rng.random((count * count, 2)).astype(np.float32) * 0.9 + 0.05
    at = (np.arange(size, dtype=np.float32) + 0.5) * count / size
    whole = np.floor(at).astype(np.int32)
    first = np.full((size, size), 9.0, np.float32)
    second = first.copy()
    owner = np.zeros((size, size), np.int32)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            row, column = whole[:, None] + dy, whole[None, :] + dx
            index = (row % count) * count + column % count
            x = jitter[index, 0] + (column - at[None, :]).astype(np.float32)
            y = jitter[index, 1] + (row - at[:, None]).astype(np.float32)
            distance = x * x + y * y
            closer = distance < first
            second = np.where(closer, first, np.minimum(second, distance))
            owner = np.where(closer, index, owner)
            first = np.minimum(first, distance)
    nearest = np.sqrt(first)
    return nearest, np.sqrt(second) - nearest, owner


def mix(low: object, high: object, weight: NDArray[np.floating[Any]]) -> Image:
    """Blend two colours or images (..., 3) by a weight (H, W)."""
    a, b = np.asarray(low, np.float32), np.asarray(high, np.float32)
    return np.asarray(a + (b - a) * weight[..., None], np.float32)


def wrapped_copies(x: float, y: float, reach: float, size: int = TILE) -> list[tuple[float, float]]:
    """Positions at which a mark must be drawn so that the tile repeats without a seam."""
    xs = [x] + ([x + size] if x < reach else []) + ([x - size] if x > size - reach else [])
    ys = [y] + ([y + size] if y < reach else []) + ([y - size] if y > size - reach else [])
    return [(a, b) for a in xs for b in ys]


@dataclass(frozen=True, eq=False)
class Tile:
    """A square texture that repeats without a seam, with all coarser versions.

    Attributes:
        pixels: All levels of the pyramid one after the other, (texels,) int32; the three bytes
            of a texel are its sRGB channels. One gather then fetches all of them.
        metres: Edge length in the world.
        size: Edge length of the finest level in texels.
    """

    pixels: Tensor
    metres: float
    size: int

    @staticmethod
    def from_image(image: Image, metres: float) -> Tile:
        """Build the pyramid of a square image (S, S, 3) in 0..1 whose S is a power of two."""
        size = image.shape[0]
        level = np.clip(image, 0, 1)
        levels = []
        while True:
            texels = np.rint(level.reshape(-1, 3) * 255).astype(np.int32)
            levels.append(texels[:, 0] | texels[:, 1] << 8 | texels[:, 2] << 16)
            if level.shape[0] == 1:
                break
            level = level.reshape(level.shape[0] // 2, 2, level.shape[1] // 2, 2, 3).mean((1, 3))
        return Tile(torch.from_numpy(np.concatenate(levels)), metres, size)

    def sample(self, u: Tensor, v: Tensor, footprint: Tensor) -> Tensor:
        """Bilinear colours at positions in metres, (3, N) float32 in 0..1.

        Args:
            u: Position along the columns, (N,).
            v: Position along the rows, (N,).
            footprint: Extent of a pixel at each position in metres, (N,); the matching level of
                the pyramid is used, so that distant texture fades instead of flickering.
        """
        pixels = self.pixels.to(u.device)
        top = self.size.bit_length() - 1
        # The exponent of a float is its logarithm, rounded down; 0.75 sharpens by half a level.
        level = (footprint * (0.75 * self.size / self.metres)).view(torch.int32)
        level = (level >> 23).sub_(127).clamp_(0, top)
        edge = torch.full_like(level, self.size) >> level
        start = _level_starts(self.size).to(u.device).index_select(0, level)
        texels_per_metre = edge.float().mul_(1 / self.metres)
        x, y = u * texels_per_metre - 0.5, v * texels_per_metre - 0.5
        x0, y0 = x.floor(), y.floor()
        fx, fy = x - x0, y - y0
        left, upper = x0.int(), y0.int()
        mask = edge - 1
        right, lower = (left + 1) & mask, start + ((upper + 1) & mask) * edge
        left, upper = left & mask, start + (upper & mask) * edge
        corners = [
            pixels.index_select(0, at)
            for at in (upper + left, upper + right, lower + left, lower + right)
        ]
        channels = []
        for shift in (0, 8, 16):
            a, b, c, d = (((corner >> shift) & 255).float() for corner in corners)
            channels.append(torch.lerp(torch.lerp(a, b, fx), torch.lerp(c, d, fx), fy))
        return torch.stack(channels).mul_(1 / 255)


def _level_starts(size: int) -> Tensor:
    """Offset of every level in `Tile.pixels`."""
    areas = [(size >> k) ** 2 for k in range(size.bit_length())]
    return torch.tensor([0, *np.cumsum(areas)[:-1].tolist()], dtype=torch.int32)
