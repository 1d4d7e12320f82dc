"""DINOv3's positions: queries and keys of a patch are turned by where it is, nothing is added to it.

Places are shares of the image, -1 at its one edge and 1 at the other (Simeoni et al., "DINOv3", 2025), so
that patches which overlap have theirs in between.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers.pos_embed_sincos import RotaryEmbeddingDinoV3
from timm.models.eva import Eva, EvaAttention, EvaBlock
from torch import Tensor, nn


def has_rotary_positions(model: nn.Module) -> bool:
    """Whether a ViT of timm is built like DINOv3: its positions are turns, and its keys are not normalised."""
    return (
        isinstance(model, Eva)
        and isinstance(model.rope, RotaryEmbeddingDinoV3)
        and model.pos_embed is None
        and all(type(block) is EvaBlock and _has_plain_keys(block.attn) for block in model.blocks)
    )


def _has_plain_keys(attention: nn.Module) -> bool:
    return (
        isinstance(attention, EvaAttention)
        and attention.qkv is not None
        and isinstance(attention.k_norm, nn.Identity)
    )


def turns(model: Any, rows: int, columns: int, patch: int, stride: int) -> Tensor:
    """Sines and cosines of all patches, (rows * columns, 2 * head width), as the model's blocks take them.

    Args:
        model: For which `has_rotary_positions` holds.
        rows: Patches from top to bottom.
        columns: Patches from left to right.
        patch: Pixels of a patch.
        stride: Pixels between neighbouring patches.
    """
    down, across = (_places(count, patch, stride) for count in (rows, columns))
    places = torch.stack(torch.meshgrid(down, across, indexing="ij"), dim=-1).flatten(0, 1)
    return torch.cat(model.rope._get_pos_embed_from_coords(places), dim=-1)


def _places(count: int, patch: int, stride: int) -> Tensor:
    """Centres of patches in a line, in [-1, 1]; without overlap timm's own."""
    pixels = (count - 1) * stride + patch
    centres = torch.arange(count, dtype=torch.float32) * stride + patch / 2
    return 2.0 * centres / pixels - 1.0
