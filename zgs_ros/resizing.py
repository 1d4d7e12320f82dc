"""Images resized for a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional


def resize_images(
    images: Sequence[Tensor], size: tuple[int, int], mode: Literal["bilinear", "bicubic", "lanczos"]
) -> Tensor:
    """Resizes images of one size, with antialiasing.

    Args:
        images: uint8 RGB (height, width, 3) each, all of the same size.
        size: (height, width) of the result; the image is squashed to it, not cropped.
        mode: Interpolation; Lanczos is Pillow's, on the CPU.

    Returns:
        float32 (images, 3, *size) in [0, 1].
    """
    if mode == "lanczos":
        return torch.cat([_resize_by_lanczos(image, size) for image in images])
    pixels = torch.stack(list(images)).permute(0, 3, 1, 2)
    if pixels.device.type != "cpu":  # where bytes can't be resized
        pixels = pixels.float()
    # On bytes this is several times faster, and rounds as the image libraries do that models are
    # trained with.
    resized = functional.interpolate(
        pixels, size=size, mode=mode, align_corners=False, antialias=True
    )
    return (resized.float() / 255.0).clamp(0.0, 1.0)


def _resize_by_lanczos(image: Tensor, size: tuple[int, int]) -> Tensor:
    """(1, 3, *size) in [0, 1]."""
    picture = Image.fromarray(image.cpu().numpy())
    resized = np.array(picture.resize(size[::-1], Image.Resampling.LANCZOS))
    return torch.from_numpy(resized).permute(2, 0, 1)[None].to(image.device).float() / 255.0
