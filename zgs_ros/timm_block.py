"""timm's transformer blocks: what kind they are, and parts of what they compute."""

from __future__ import annotations

from typing import Any

from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional

QUERIES, KEYS, VALUES = range(3)
"""Places in the fused weights of a block's attention."""


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


def project(attention: Any, tokens: Tensor, part: int) -> Tensor:
    """Queries, keys or values, heads concatenated; the other two are not computed.

    Args:
        attention: Of a block, with fused weights.
        tokens: (batch, tokens, width), normalised.
        part: `QUERIES`, `KEYS` or `VALUES`.

    Returns:
        (batch, tokens, width).
    """
    qkv = attention.qkv
    rows = slice(part * qkv.in_features, (part + 1) * qkv.in_features)
    bias = None if qkv.bias is None else qkv.bias[rows]
    return functional.linear(tokens, qkv.weight[rows], bias)
