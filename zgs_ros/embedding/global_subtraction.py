"""Attention masking with global subtraction, the heart of zero-guidance segmentation.

Formulas and names follow Rewatbowornwong et al., "Zero-guidance Segmentation Using Zero Segment
Labels", ICCV 2023. Per head, with A = softmax(q k^T / sqrt(d)) and the token mask mu (mu_0 = 1 for
the class token, mu_j = share of patch j that the segment covers):

    M_ij  = A_ij mu_j / sum_j A_ij mu_j
    c     = mean over heads and query rows of cos(M_i, A_i)
    w     = exp(-(c + 1)^2 / sigma)
    M'_ij = M_ij - w A_0j

Nothing here materialises a (tokens, tokens) matrix; three identities turn it all into fused attention:

    M V  = attention with the additive key bias log mu
    M' V = M V - w (A_0 V), and A_0 V is attention of the class token's query alone
    c_i  = S1 / sqrt(S2) with S_n = sum_j P_ij mu_j^n and P = softmax(2 q k^T / sqrt(d)),
           since the rows' normalisation cancels in the cosine: a second attention with values (mu, mu^2)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor
from torch.nn import functional

from zgs_ros.embedding.blocks import Heads, finish_block, project_heads


def subtraction_weight(saliency: Tensor, sigma: float) -> Tensor:
    """How much of the global context is taken away: w = exp(-(c + 1)^2 / sigma).

    Args:
        saliency: c, any shape, in [-1, 1]. A segment that the global caption ignores has a low one.
        sigma: Strength; more takes away more.

    Returns:
        w in (0, 1), the shape of `saliency`.
    """
    return torch.exp(-((saliency + 1.0) ** 2) / sigma)


def token_mask(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """Mask over tokens: 1 for the class token, then the covered share of each patch.

    Args:
        masks: (segments, height, width) in [0, 1], of the image as the model sees it or any scale of it.
        grid: (rows, columns) of patches.

    Returns:
        float32 (segments, 1 + rows * columns).
    """
    covered = functional.interpolate(masks[:, None].float(), size=grid, mode="area").flatten(1)
    return functional.pad(covered, (1, 0), value=1.0)


def masked_blocks(
    blocks: Sequence[ResidualAttentionBlock],
    tokens: Tensor,
    image_of_segment: Tensor,
    mu: Tensor,
    sigma: float | None,
) -> Tensor:
    """Runs the last blocks of a ViT once per segment, with masked attention and global subtraction.

    The first of these blocks sees the same tokens for all segments of an image, so its queries, keys,
    values and A_0 V are computed once per image. Behind the last block only the class token is used, so
    there the other rows stop at the attention, where they still feed the saliency.

    Args:
        blocks: The masked blocks, at least one.
        tokens: (images, tokens, width), the output of the blocks before them.
        image_of_segment: int64 (segments,), the image that each segment belongs to.
        mu: (segments, tokens), see `token_mask`.
        sigma: Strength of global subtraction; None masks only (w = 0).

    Returns:
        (segments, width): the class token behind the last block.
    """
    *inner, last = blocks
    key_bias = mu.log().to(tokens.dtype)[:, None, None]  # (segments, 1, 1, tokens), -inf outside
    states = tokens[image_of_segment]  # (segments, tokens, width)
    for number, block in enumerate(inner):
        heads, class_context = _attention_inputs(
            block, tokens, image_of_segment, number == 0, states
        )
        attended = _subtracted_attention(heads, class_context, key_bias, mu, sigma, rows=None)
        states = finish_block(block, states, attended)
    heads, class_context = _attention_inputs(last, tokens, image_of_segment, not inner, states)
    attended = _subtracted_attention(heads, class_context, key_bias, mu, sigma, rows=1)
    return finish_block(last, states[:, :1], attended)[:, 0]


def _attention_inputs(
    block: ResidualAttentionBlock,
    tokens: Tensor,
    image_of_segment: Tensor,
    shared: bool,
    states: Tensor,
) -> tuple[Heads, Tensor]:
    """q, k, v and A_0 V per segment; where the input is `shared`, computed once per image."""
    heads = project_heads(block, tokens if shared else states)
    queries, keys, values = heads
    class_context = functional.scaled_dot_product_attention(queries[:, :, :1], keys, values)
    if shared:
        heads = (queries[image_of_segment], keys[image_of_segment], values[image_of_segment])
        class_context = class_context[image_of_segment]
    return heads, class_context


def _subtracted_attention(
    heads: Heads,
    class_context: Tensor,
    key_bias: Tensor,
    mu: Tensor,
    sigma: float | None,
    rows: int | None,
) -> Tensor:
    """M' V of the first `rows` query rows (None: all), (segments, rows, width)."""
    queries, keys, values = heads
    masked = functional.scaled_dot_product_attention(
        queries[:, :, :rows], keys, values, attn_mask=key_bias
    )
    if sigma is not None:
        weight = subtraction_weight(saliency(queries, keys, mu), sigma)
        masked = masked - weight.to(masked.dtype)[:, None, None, None] * class_context
    return masked.transpose(1, 2).flatten(2)


def saliency(queries: Tensor, keys: Tensor, mu: Tensor) -> Tensor:
    """c = mean over heads and query rows of cos(M_i, A_i), without forming M or A.

    Args:
        queries: (segments, heads, tokens, head width).
        keys: Same shape.
        mu: float32 (segments, tokens).

    Returns:
        float32 (segments,), in [0, 1].
    """
    width = queries.shape[-1]
    # Values of the queries' own width keep the fused kernels usable; only two columns are needed.
    powers = mu.new_zeros(*mu.shape, width)
    powers[..., 0] = mu
    powers[..., 1] = mu * mu
    values = powers.to(queries.dtype)[:, None].expand(-1, queries.shape[1], -1, -1)
    moments = functional.scaled_dot_product_attention(queries, keys, values, scale=2.0 / width**0.5)
    first, second = moments[..., 0].float(), moments[..., 1].float()
    # The class token (mu = 1) keeps both moments above zero; the bound guards their underflow.
    cosines = first / second.clamp_min(torch.finfo(torch.float32).tiny).sqrt()
    return cosines.mean(dim=(1, 2))
