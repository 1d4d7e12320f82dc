"""Attention masking with global subtraction, the heart of zero-guidance segmentation.

Formulas and names follow Rewatbowornwong et al., "Zero-guidance Segmentation Using Zero Segment
Labels", ICCV 2023. In the last blocks of CLIP's image tower, per head, with A = softmax(q k^T / sqrt(d)) and
the token mask mu (mu_0 = 1 for the class token, mu_j = share of patch j that the segment covers):

    M_ij  = A_ij mu_j / sum_j A_ij mu_j
    c     = mean over heads and query rows of cos(M_i, A_i)
    w     = exp(-(c + 1)^2 / sigma)
    M'_ij = M_ij - w A_0j

No segment needs a (tokens, tokens) matrix of its own; three identities turn it all into fused attention:

    M V  = attention with the additive key bias log mu
    M' V = M V - w (A_0 V), and A_0 V is attention of the class token's query alone
    c_i  = S1 / sqrt(S2) with S_n = sum_j P_ij mu_j^n and P = softmax(2 q k^T / sqrt(d)),
           since the rows' normalisation cancels in the cosine: a second attention with values (mu, mu^2)

In the order of the data: `encode_images` does once per image what no segment influences, up to queries, keys,
values and P of the first masked block, and `embed_segments` the rest for each segment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor
from torch.nn import functional

from zgs_ros.embedding.blocks import Heads, finish_block, project_heads, run_block
from zgs_ros.embedding.image_tower import ImageTower


class Shared(NamedTuple):
    """What all segments of an image have in common: the first masked block, up to the mask.

    Attributes:
        states: (images, tokens, width), the input of that block.
        queries: (images, heads, tokens, head width).
        keys: As `queries`.
        values: As `queries`.
        squares: P = softmax(2 q k^T / sqrt(d)), float32 (images, heads, tokens, tokens): the squares of
            attention, rows normalised. Empty without global subtraction.
    """

    states: Tensor
    queries: Tensor
    keys: Tensor
    values: Tensor
    squares: Tensor

    def image(self, index: int) -> Shared:
        """That of one image, still with a first dimension of images."""
        return Shared(*(part[index : index + 1] for part in self))


def encode_images(tower: ImageTower, blocks: int, sigma: float | None, pixels: Tensor) -> Shared:
    """Runs all that no segment influences: the blocks before the masked ones, and what these share.

    Args:
        tower: The image tower.
        blocks: Number of last blocks whose attention is masked, at least one.
        sigma: Strength of global subtraction; None masks only (w = 0).
        pixels: (images, 3, height, width), normalised, in the tower's size.
    """
    tokens = tower.embed(pixels)
    for block in tower.blocks[:-blocks]:
        tokens = run_block(block, tokens)
    return share_attention(tower.blocks[-blocks], tokens, sigma)


def share_attention(block: ResidualAttentionBlock, states: Tensor, sigma: float | None) -> Shared:
    """What segments share in the first masked block, of its input (images, tokens, width)."""
    queries, keys, values = project_heads(block, states)
    if sigma is None:
        return Shared(states, queries, keys, values, states.new_empty(len(states), 0))
    scaled = queries.float() * (2.0 / queries.shape[-1] ** 0.5)
    squares = (scaled @ keys.float().transpose(-1, -2)).softmax(-1)
    return Shared(states, queries, keys, values, squares)


def embed_segments(
    tower: ImageTower, blocks: int, sigma: float | None, shared: Shared, mu: Tensor
) -> Tensor:
    """Embeds segments of one image.

    Args:
        tower: As for `encode_images`.
        blocks: As there.
        sigma: As there.
        shared: Of this image.
        mu: float32 (segments, tokens), see `zgs_ros.embedding.coverage.token_masks`.

    Returns:
        (segments, dimensions), of any length.
    """
    return tower.project(masked_blocks(tower.blocks[-blocks:], sigma, shared, mu))


def masked_blocks(
    blocks: Sequence[ResidualAttentionBlock], sigma: float | None, shared: Shared, mu: Tensor
) -> Tensor:
    """Runs blocks with masked attention and global subtraction, once for each segment of an image.

    All segments enter the first block with the same tokens, so what comes before the mask there is
    shared. Behind the last block only the class token is used, so there the other rows stop at the
    attention, where they still feed the saliency.

    Args:
        blocks: The masked blocks, at least one.
        sigma: Strength of global subtraction; None masks only (w = 0).
        shared: Of the image, in the first of these blocks.
        mu: float32 (segments, tokens).

    Returns:
        (segments, width): the class token behind the last block.
    """
    states, queries, keys, values, squares = shared  # as of one segment, for all of them
    for number, block in enumerate(blocks):
        if number:
            queries, keys, values = project_heads(block, states)
        rows = 1 if block is blocks[-1] else None
        attended = masked_attention((queries, keys, values), mu, rows)
        if sigma is not None:
            c = saliency(queries, keys, mu) if number else shared_saliency(squares[0], mu)
            w = subtraction_weight(c, sigma).to(attended.dtype)[:, None, None, None]
            context = functional.scaled_dot_product_attention(queries[:, :, :1], keys, values)
            attended = attended - w * context  # M' V = M V - w (A_0 V)
        states = finish_block(block, states[:, :rows], attended.transpose(1, 2).flatten(2))
    return states[:, 0]


def masked_attention(heads: Heads, mu: Tensor, rows: int | None) -> Tensor:
    """M V of the first `rows` query rows (None: all), (segments, heads, rows, head width).

    Args:
        heads: Of each segment, or of one that stands for all.
        mu: float32 (segments, tokens).
    """
    queries, keys, values = (part.expand(len(mu), -1, -1, -1) for part in heads)
    key_bias = mu.log().to(queries.dtype)[:, None, None]  # -inf outside of the segment
    return functional.scaled_dot_product_attention(
        queries[:, :, :rows], keys, values, attn_mask=key_bias
    )


def subtraction_weight(saliency: Tensor, sigma: float) -> Tensor:
    """How much of the global context is taken away: w = exp(-(c + 1)^2 / sigma).

    Args:
        saliency: c, any shape, in [-1, 1]. A segment that the global caption ignores has a low one.
        sigma: Strength; more takes away more.

    Returns:
        w in (0, 1), the shape of `saliency`.
    """
    return torch.exp(-((saliency + 1.0) ** 2) / sigma)


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
    # Values of the queries' own width keep the fused kernels usable.
    powers = torch.stack([mu, mu * mu], dim=2)
    values = functional.pad(powers, (0, width - 2)).to(queries.dtype)
    moments = functional.scaled_dot_product_attention(
        queries,
        keys,
        values[:, None].expand_as(queries),
        scale=2.0 / width**0.5,
    )
    return _mean_cosine(*moments[..., :2].float().unbind(-1))


def shared_saliency(squares: Tensor, mu: Tensor) -> Tensor:
    """As `saliency`, where segments share the squares of attention.

    Args:
        squares: float32 (heads, tokens, tokens), see `Shared`.
        mu: float32 (segments, tokens).
    """
    rows = torch.cat([mu, mu * mu]) @ squares.flatten(0, 1).T
    return _mean_cosine(*rows.view(2, len(mu), *squares.shape[:2]))


def _mean_cosine(first: Tensor, second: Tensor) -> Tensor:
    """S1 / sqrt(S2), each (segments, heads, tokens), averaged over heads and tokens."""
    # The class token (mu = 1) keeps both moments above zero; the bound guards their underflow.
    cosines = first / second.clamp_min(torch.finfo(torch.float32).tiny).sqrt()
    return cosines.mean(dim=(1, 2))
