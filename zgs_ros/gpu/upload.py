"""Arrays on their way to the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def upload(values: NDArray[Any], device: torch.device) -> Tensor:
    """Copies an array to a device; a GPU is not waited for.

    It copies from page-locked memory, which PyTorch does not hand out again before that is done.

    Args:
        values: Any array of a type that PyTorch has, read-only ones and views too.
        device: Where the copy is wanted.

    Returns:
        A tensor of the array's shape and type, which shares no memory with it.
    """
    dtype = torch.from_numpy(np.empty(0, values.dtype)).dtype
    copy = torch.empty(values.shape, dtype=dtype, pin_memory=device.type == "cuda")
    copy.numpy()[...] = values
    return copy.to(device, non_blocking=True)
