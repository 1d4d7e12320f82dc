"""Global subtraction written straight from its formulas: slow, plain, in float64.

The package's own path (shared prefix, batched, fused) is held against this in the tests.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


def masked_attention(attention: Tensor, mu: Tensor) -> Tensor:
    """M_ij = A_ij mu_j / sum_j A_ij mu_j for A (heads, tokens, tokens) and mu (tokens,)."""
    masked = attention * mu
    return masked / masked.sum(dim=-1, keepdim=True)


def subtracted(attention: Tensor, mu: Tensor, sigma: float | None) -> tuple[Tensor, float, float]:
    """M', c and w; sigma None leaves w = 0."""
    masked = masked_attention(attention, mu)
    cosines = torch.cosine_similarity(masked, attention, dim=-1)
    saliency = float(cosines.mean())
    weight = 0.0 if sigma is None else math.exp(-((saliency + 1) ** 2) / sigma)
    return masked - weight * attention[:, :1], saliency, weight


def segment_embedding(
    visual: torch.nn.Module, pixels: Tensor, patches: Tensor, blocks: int, sigma: float | None
) -> Tensor:
    """Embedding (not normalised) of one segment of one image, through all blocks.

    Args:
        visual: Image tower in float64: open_clip's own ViT, or one of timm's that it wraps.
        pixels: float64 (1, 3, height, width), normalised.
        patches: float64 (patches,), covered share of each patch.
        blocks: Number of last blocks with masked attention.
        sigma: Strength of global subtraction, None for none.
    """
    mu = torch.cat([torch.ones(1, dtype=torch.float64), patches])
    trunk = getattr(visual, "trunk", None)
    if trunk is None:
        states, blocks_of_model = visual._embeds(pixels)[0], list(visual.transformer.resblocks)
    else:
        patches_and_class = trunk._pos_embed(trunk.patch_embed(pixels))
        states, blocks_of_model = trunk.norm_pre(patches_and_class)[0], list(trunk.blocks)
    for number, block in enumerate(blocks_of_model):
        if number < len(blocks_of_model) - blocks:
            states = block(states[None])[0]
            continue
        layers = _layers(block)
        projected = layers.first_norm(states) @ layers.weight.T + layers.bias
        width = layers.weight.shape[1] // layers.heads
        queries, keys, values = (
            part.view(len(states), layers.heads, width).transpose(0, 1)
            for part in projected.chunk(3, dim=-1)
        )
        attention = (queries @ keys.transpose(1, 2) / math.sqrt(width)).softmax(dim=-1)
        weights, _, _ = subtracted(attention, mu, sigma)
        attended = (weights @ values).transpose(0, 1).reshape(len(states), -1)
        states = states + layers.out(attended)
        states = states + block.mlp(layers.second_norm(states))
    if trunk is None:
        return visual.ln_post(states[0]) @ visual.proj
    return trunk.head(trunk.norm(states[0]))


class _Layers(NamedTuple):
    first_norm: torch.nn.Module
    weight: Tensor
    bias: Tensor
    heads: int
    out: torch.nn.Module
    second_norm: torch.nn.Module


def _layers(block: torch.nn.Module) -> _Layers:
    attention = block.attn
    if hasattr(attention, "qkv"):  # timm
        weight, bias = attention.qkv.weight, attention.qkv.bias
        return _Layers(block.norm1, weight, bias, attention.num_heads, attention.proj, block.norm2)
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    return _Layers(block.ln_1, weight, bias, attention.num_heads, attention.out_proj, block.ln_2)
