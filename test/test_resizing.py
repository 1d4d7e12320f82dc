"""Images resized for a model."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from torch.nn import functional

from zgs_ros.resizing import resize_images


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(24, 32), (60, 100), (48, 20)])
def test_bytes_give_what_numbers_give_up_to_rounding(
    mode: Literal["bilinear", "bicubic"], size: tuple[int, int]
) -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(80, 176, (2, 48, 64, 3), np.uint8))
    resized = resize_images(list(images), size, mode)
    numbers = images.permute(0, 3, 1, 2).double() / 255.0
    exact = functional.interpolate(
        numbers, size=size, mode=mode, align_corners=False, antialias=True
    ).clamp(0.0, 1.0)
    assert resized.shape == (2, 3, *size)
    assert resized.dtype == torch.float32
    # One step of a byte per direction: rows and columns are rounded one after the other.
    assert float((resized.double() - exact).abs().max()) <= 2.5 / 255.0


def test_an_image_of_one_colour_stays_that() -> None:
    image = torch.tensor([10, 128, 255], dtype=torch.uint8).expand(30, 40, 3)
    resized = resize_images([image], (17, 23), "bicubic")
    expected = torch.tensor([10, 128, 255]).view(1, 3, 1, 1) / 255.0
    torch.testing.assert_close(resized, expected.expand_as(resized))
