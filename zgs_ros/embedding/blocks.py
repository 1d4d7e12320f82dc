"""The two halves of a CLIP transformer block around its attention."""

from __future__ import annotations

from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor
from torch.nn import functional

Heads = tuple[Tensor, Tensor, Tensor]
"""Queries, keys and values, each (batch, heads, tokens, head width)."""


def project_heads(block: ResidualAttentionBlock, states: Tensor) -> Heads:
    """Queries, keys and values of (batch, tokens, width)."""
    attention = block.attn
    projected = functional.linear(
        block.ln_1(states), attention.in_proj_weight, attention.in_proj_bias
    )
    batch, tokens, _ = states.shape
    shape = (batch, tokens, 3, attention.num_heads, attention.head_dim)
    queries, keys, values = projected.view(shape).permute(2, 0, 3, 1, 4)
    return queries, keys, values


def finish_block(block: ResidualAttentionBlock, states: Tensor, attended: Tensor) -> Tensor:
    """Output projection, residual and MLP, for (batch, tokens, width) with heads concatenated."""
    states = states + block.ls_1(block.attn.out_proj(attended))
    return states + block.ls_2(block.mlp(block.ln_2(states)))
