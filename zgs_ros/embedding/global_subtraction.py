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

from zgs_ros.embedding.blocks import finish_block, project_heads


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
    counts: Sequence[int],
    mu: Tensor,
    sigma: float | None,
) -> Tensor:
    """Runs the last blocks of a ViT once per segment, with masked attention and global subtraction.

    The first of these blocks sees the same tokens for all segments of an image, so there everything but
    the masked attention itself is computed once per image. Behind the last block only the class token
    is used, so there the other rows stop at the attention, where they still feed the saliency.

    Args:
        blocks: The masked blocks, at least one.
        tokens: (images, tokens, width), the output of the blocks before them.
        counts: Segments of each image, at least one in all.
        mu: (segments, tokens), see `token_mask`; image by image.
        sigma: Strength of global subtraction; None masks only (w = 0).

    Returns:
        (segments, width): the class token behind the last block.
    """
    images = [image for image, count in enumerate(counts) for _ in range(count)]
    states = tokens
    for number, block in enumerate(blocks):
        rows = 1 if number == len(blocks) - 1 else None
        if number == 0:
            shared = project_heads(block, states)
            states = states[:, :rows][images]  # (segments, tokens, width)
            attended = torch.cat(
                [
                    _subtracted_attention(heads, part, sigma, rows)
                    for *heads, part in zip(
                        *(part.split(1) for part in shared), mu.split(list(counts)), strict=True
                    )
                    if len(part)
                ]
            )
        else:
            attended = _subtracted_attention(project_heads(block, states), mu, sigma, rows)
        states = finish_block(block, states[:, :rows], attended)
    return states[:, 0]


def _subtracted_attention(
    heads: Sequence[Tensor], mu: Tensor, sigma: float | None, rows: int | None
) -> Tensor:
    """M' V of the first `rows` query rows (None: all), (segments, rows, width).

    Args:
        heads: Queries, keys and values, each of (segments, heads, tokens, head width), or of
            (1, heads, tokens, head width) where the segments share them.
        mu: (segments, tokens).
    """
    queries, keys, values = heads
    segments = len(mu)
    key_bias = mu.log().to(queries.dtype)[:, None, None]  # -inf outside of the segment
    masked = functional.scaled_dot_product_attention(
        queries[:, :, :rows].expand(segments, -1, -1, -1),
        keys.expand(segments, -1, -1, -1),
        values.expand(segments, -1, -1, -1),
        attn_mask=key_bias,
    )
    if sigma is not None:
        weight = subtraction_weight(saliency(queries, keys, mu), sigma).to(masked.dtype)
        context = functional.scaled_dot_product_attention(queries[:, :, :1], keys, values)  # A_0 V
        masked = masked - weight[:, None, None, None] * context
    return masked.transpose(1, 2).flatten(2)


def saliency(queries: Tensor, keys: Tensor, mu: Tensor) -> Tensor:
    """c = mean over heads and query rows of cos(M_i, A_i), without forming M or A.

    Args:
        queries: (segments, heads, tokens, head width), or (1, heads, tokens, head width) where the
            segments share them.
        keys: Same shape.
        mu: float32 (segments, tokens).

    Returns:
        float32 (segments,), in [0, 1].
    """
    segments, tokens = mu.shape
    width = queries.shape[-1]
    # Values of the queries' own width keep the fused kernels usable. Two columns serve one segment;
    # where segments share queries and keys, one pass serves as many as there is place for.
    per_pass = 1 if len(queries) == segments else width // 2
    passes = -(-segments // per_pass)
    powers = functional.pad(
        torch.stack([mu, mu * mu], dim=2), (0, 0, 0, 0, 0, passes * per_pass - segments)
    )
    columns = powers.view(passes, per_pass, tokens, 2).transpose(1, 2).flatten(2)
    values = functional.pad(columns, (0, width - columns.shape[2])).to(queries.dtype)
    heads = queries.shape[1]
    moments = functional.scaled_dot_product_attention(
        queries.expand(passes, -1, -1, -1),
        keys.expand(passes, -1, -1, -1),
        values[:, None].expand(-1, heads, -1, -1),
        scale=2.0 / width**0.5,
    )
    first, second = moments[..., : 2 * per_pass].float().unflatten(3, (per_pass, 2)).unbind(4)
    # The class token (mu = 1) keeps both moments above zero; the bound guards their underflow.
    cosines = first / second.clamp_min(torch.finfo(torch.float32).tiny).sqrt()
    return cosines.mean(dim=(1, 2)).flatten()[:segments]
