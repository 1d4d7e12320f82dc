"""Global subtraction written straight from its formulas: slow, plain, in float64.

The package's own path (shared prefix, batched, fused) is held against this in the tests.
"""

from __future__ import annotations

import math

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
        visual: open_clip ViT in float64.
        pixels: float64 (1, 3, height, width), normalised.
        patches: float64 (patches,), covered share of each patch.
        blocks: Number of last blocks with masked attention.
        sigma: Strength of global subtraction, None for none.
    """
    mu = torch.cat([torch.ones(1, dtype=torch.float64), patches])
    states = visual._embeds(pixels)[0]
    resblocks = list(visual.transformer.resblocks)
    for number, block in enumerate(resblocks):
        if number < len(resblocks) - blocks:
            states = block(states[None])[0]
            continue
        heads, width = block.attn.num_heads, block.attn.head_dim
        projected = block.ln_1(states) @ block.attn.in_proj_weight.T + block.attn.in_proj_bias
        queries, keys, values = (
            part.view(len(states), heads, width).transpose(0, 1)
            for part in projected.chunk(3, dim=-1)
        )
        attention = (queries @ keys.transpose(1, 2) / math.sqrt(width)).softmax(dim=-1)
        weights, _, _ = subtracted(attention, mu, sigma)
        attended = (weights @ values).transpose(0, 1).reshape(len(states), -1)
        states = states + block.attn.out_proj(attended)
        states = states + block.mlp(block.ln_2(states))
    return visual.ln_post(states[0]) @ visual.proj
