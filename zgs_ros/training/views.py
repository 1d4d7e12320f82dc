"""Views of scenes for self-distillation: crops that know where they were cut out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, eq=False)
class View:
    """A crop, resized to a square.

    Attributes:
        pixels: float32 (size, size, 3) in [0, 255].
        top: First row in the scene.
        left: First column in the scene.
        height: Rows of the scene that it shows.
        width: Columns of the scene that it shows.
        flipped: Whether left and right are swapped.
    """

    pixels: NDArray[np.float32]
    top: int
    left: int
    height: int
    width: int
    flipped: bool

    def centres(self, patches: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rows and columns in the scene of the centres of (patches, patches) patches."""
        shares = (np.arange(patches) + 0.5) / patches
        columns = self.left + shares * self.width
        return self.top + shares * self.height, columns[::-1] if self.flipped else columns

    def locate(self, other: View, patches: int) -> NDArray[np.float32]:
        """Where the patches of this view lie in another view of the same scene.

        Returns:
            float32 (patches, patches, 2), x and y as `torch.nn.functional.grid_sample` reads them: the
            other view spans -1 to 1.
        """
        rows, columns = self.centres(patches)
        y = (rows - other.top) / other.height * 2.0 - 1.0
        x = (columns - other.left) / other.width * 2.0 - 1.0
        grid = np.meshgrid(-x if other.flipped else x, y)
        return np.stack(grid, axis=-1).astype(np.float32)


def random_view(
    scene: NDArray[np.uint8],
    size: int,
    areas: tuple[float, float],
    rng: np.random.Generator,
    noise: float = 0.0,
) -> View:
    """Cuts out, resizes, and slightly blurs and lights a part of a scene.

    Colours are barely changed: here they tell things apart, and the over-segmentation needs that.

    Args:
        scene: uint8 (height, width, 3).
        size: Side of the view in pixels.
        areas: Range of its share of the scene's area.
        rng: Decides.
        noise: Highest standard deviation of noise that is added.
    """
    height, width, _ = scene.shape
    side = math.sqrt(height * width * rng.uniform(*areas))
    stretch = math.exp(rng.uniform(-0.2, 0.2))
    h, w = min(height, int(side * stretch)), min(width, int(side / stretch))
    top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
    crop = np.ascontiguousarray(scene[top : top + h, left : left + w])
    pixels: NDArray[Any] = cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA)
    pixels = pixels.astype(np.float32)
    flipped = bool(rng.random() < 0.5)
    if flipped:
        pixels = pixels[:, ::-1]
    if rng.random() < 0.3:
        pixels = cv2.GaussianBlur(pixels, (0, 0), float(rng.uniform(0.3, 1.2)))
    pixels = (pixels - 128.0) * rng.uniform(0.75, 1.25) + 128.0 + rng.uniform(-20.0, 20.0)
    if noise:
        pixels = pixels + rng.normal(0.0, rng.uniform(0.0, noise), pixels.shape)
    return View(np.clip(pixels, 0.0, 255.0).astype(np.float32), top, left, h, w, flipped)


def stack(views: Sequence[View]) -> Tensor:
    """float32 (views, 3, size, size) in [0, 1]."""
    return torch.from_numpy(np.stack([view.pixels for view in views])).permute(0, 3, 1, 2) / 255.0
