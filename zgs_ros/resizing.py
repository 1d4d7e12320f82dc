"""Images resized for a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional


def resize_images(
    images: Sequence[Tensor], size: tuple[int, int], mode: Literal["bilinear", "bicubic"]
) -> Tensor:
    """Resizes images of one size, with antialiasing.

    Args:
        images: uint8 RGB (height, width, 3) each, all of the same size.
        size: (height, width) of the result; the image is squashed to it, not cropped.
        mode: Interpolation.

    Returns:
        float32 (images, 3, *size) in [0, 1].
    """
    pixels = torch.stack(list(images)).permute(0, 3, 1, 2)
    if pixels.device.type != "cpu":  # where bytes can't be resized
        pixels = pixels.float()
    # On bytes this is several times faster, and rounds as the image libraries do that models are
    # trained with.
    resized = functional.interpolate(
        pixels, size=size, mode=mode, align_corners=False, antialias=True
    )
    return (resized.float() / 255.0).clamp(0.0, 1.0)
