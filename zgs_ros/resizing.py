"""Images resized for a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional


def resize_images(
    images: Sequence[NDArray[np.uint8]],
    size: tuple[int, int],
    mode: Literal["bilinear", "bicubic"],
    device: torch.device,
) -> Tensor:
    """Resizes images of one size, with antialiasing.

    Args:
        images: uint8 RGB (height, width, 3) each, all of the same size.
        size: (height, width) of the result; the image is squashed to it, not cropped.
        mode: Interpolation.
        device: Where the result is wanted.

    Returns:
        float32 (images, 3, *size) in [0, 1].
    """
    pixels = torch.from_numpy(np.stack(images)).to(device).permute(0, 3, 1, 2)
    if device.type != "cpu":  # where bytes can't be resized
        pixels = pixels.float()
    # On bytes this is several times faster, and rounds as the image libraries do that models are
    # trained with.
    resized = functional.interpolate(
        pixels, size=size, mode=mode, align_corners=False, antialias=True
    )
    return (resized.float() / 255.0).clamp(0.0, 1.0)
