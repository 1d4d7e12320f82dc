"""CLIP's transformer blocks, and their two halves around the attention."""

from __future__ import annotations

from typing import Any

import torch
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from torch import Tensor
from torch.nn import functional

QUICK_GELU = 1.702
"""QuickGELU is x * sigmoid(1.702 x) = SiLU(1.702 x) / 1.702."""

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
    return states + block.ls_2(_mlp(block.mlp, block.ln_2(states)))


def run_block(block: ResidualAttentionBlock, states: Tensor) -> Tensor:
    """The whole block without a mask, (batch, tokens, width) to the same."""
    attended = functional.scaled_dot_product_attention(*project_heads(block, states))
    return finish_block(block, states, attended.transpose(1, 2).flatten(2))


def _mlp(mlp: Any, states: Tensor) -> Tensor:
    """The block's MLP; with QuickGELU in one pass over its wide middle instead of three."""
    if not isinstance(getattr(mlp, "gelu", None), QuickGELU):
        output: Tensor = mlp(states)
        return output
    wide, narrow = mlp.c_fc, mlp.c_proj
    flat = states.flatten(0, -2)
    middle = torch.addmm(QUICK_GELU * wide.bias, flat, wide.weight.T, alpha=QUICK_GELU)
    middle = functional.silu(middle, inplace=not torch.is_grad_enabled())
    return torch.addmm(narrow.bias, middle, narrow.weight.T, alpha=1.0 / QUICK_GELU).view_as(states)
