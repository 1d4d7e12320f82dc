"""What kind of transformer block timm made."""

from __future__ import annotations

from timm.models.vision_transformer import Block
from torch import nn


def is_plain(block: nn.Module) -> bool:
    """Whether a block is a pre-norm ViT's, with plain attention and nothing in between."""
    attention = getattr(block, "attn", None)
    return (
        type(block) is Block
        and getattr(attention, "gate", None) is None
        and all(
            isinstance(getattr(attention, part, nn.Identity()), nn.Identity)
            for part in ("q_norm", "k_norm", "norm")
        )
    )
