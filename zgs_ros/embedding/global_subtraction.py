"""Attention masking with global subtraction, the heart of zero-guidance segmentation.

Formulas and names follow Rewatbowornwong et al., "Zero-guidance Segmentation Using Zero Segment
Labels", ICCV 2023. Per head, with A = softmax(q k^T / sqrt(d)) and the token mask mu (mu_0 = 1 for
the class token, mu_j = share of patch j that the segment covers):

    M_ij  = A_ij mu_j / sum_j A_ij mu_j
    c     = mean over heads and query rows of cos(M_i, A_i)
    w     = exp(-(c + 1)^2 / sigma)
    M'_ij = M_ij - w A_0j

No segment needs a (tokens, tokens) matrix of its own; three identities turn it all into fused attention:

    M V  = attention with the additive key bias log mu
    M' V = M V - w (A_0 V), and A_0 V is attention of the class token's query alone
    c_i  = S1 / sqrt(S2) with S_n = sum_j P_ij mu_j^n and P = softmax(2 q k^T / sqrt(d)),
           since the rows' normalisation cancels in the cosine: a second attention with values (mu, mu^2)

In the first masked block all segments of an image have the same P, so there it is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True, eq=False)
class SharedAttention:
    """What all segments of an image have in common in the first masked block.

    Attributes:
        states: (images, tokens, width), the output of the blocks before it.
        heads: Queries, keys and values, each (images, heads, tokens, head width).
        squares: P = softmax(2 q k^T / sqrt(d)), float32 (images, heads, tokens, tokens): the squares of
            attention, rows normalised. None without global subtraction.
    """

    states: Tensor
    heads: Heads
    squares: Tensor | None

    @classmethod
    def of(
        cls, block: ResidualAttentionBlock, states: Tensor, sigma: float | None
    ) -> SharedAttention:
        """Computes it from the first masked block and its input; `sigma` as in `masked_blocks`."""
        queries, keys, values = project_heads(block, states)
        squares = None
        if sigma is not None:
            scaled = queries.float() * (2.0 / queries.shape[-1] ** 0.5)
            squares = (scaled @ keys.float().transpose(-1, -2)).softmax(-1)
        return cls(states, (queries, keys, values), squares)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All that there is: states, queries, keys, values and, if any, squares."""
        squares = () if self.squares is None else (self.squares,)
        return (self.states, *self.heads, *squares)

    @classmethod
    def of_tensors(cls, tensors: Sequence[Tensor]) -> SharedAttention:
        """That of which these are the `tensors`."""
        states, queries, keys, values, *squares = tensors
        return cls(states, (queries, keys, values), squares[0] if squares else None)

    def image(self, index: int) -> SharedAttention:
        """That of one image, still with a first dimension of images."""
        return SharedAttention.of_tensors([part[index : index + 1] for part in self.tensors])


def masked_blocks(
    blocks: Sequence[ResidualAttentionBlock],
    shared: SharedAttention,
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
        shared: What the segments have in common in the first of them.
        counts: Segments of each image, at least one in all.
        mu: (segments, tokens), see `token_mask`; image by image.
        sigma: Strength of global subtraction; None masks only (w = 0).

    Returns:
        (segments, width): the class token behind the last block.
    """
    rows = 1 if len(blocks) == 1 else None
    attended = torch.cat(
        [
            _attend_in_common(shared.image(image), part, sigma, rows)
            for image, part in enumerate(mu.split(list(counts)))
            if len(part)
        ]
    )
    states = torch.cat(
        [
            part.expand(count, -1, -1)
            for part, count in zip(shared.states[:, :rows].split(1), counts, strict=True)
        ]
    )
    states = finish_block(blocks[0], states, attended)
    for number, block in enumerate(blocks[1:], start=2):
        rows = 1 if number == len(blocks) else None
        attended = _attend(project_heads(block, states), mu, sigma, rows)
        states = finish_block(block, states[:, :rows], attended)
    return states[:, 0]


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
        squares: float32 (heads, tokens, tokens), see `SharedAttention`.
        mu: float32 (segments, tokens).
    """
    rows = torch.cat([mu, mu * mu]) @ squares.flatten(0, 1).T
    return _mean_cosine(*rows.view(2, len(mu), *squares.shape[:2]))


def _attend_in_common(
    shared: SharedAttention, mu: Tensor, sigma: float | None, rows: int | None
) -> Tensor:
    """M' V of the first `rows` query rows (None: all) for segments of one image, which share the rest.

    Returns:
        (segments, rows, width).
    """
    segments = len(mu)
    queries, keys, values = (part.expand(segments, -1, -1, -1) for part in shared.heads)
    attended = _masked_attention((queries, keys, values), mu, rows)
    if sigma is not None:
        assert shared.squares is not None
        c = shared_saliency(shared.squares[0], mu)
        attended = attended - _subtrahend(shared.heads, c, sigma)
    return attended.transpose(1, 2).flatten(2)


def _attend(heads: Heads, mu: Tensor, sigma: float | None, rows: int | None) -> Tensor:
    """As `_attend_in_common`, for segments that have heads of their own."""
    attended = _masked_attention(heads, mu, rows)
    if sigma is not None:
        queries, keys, _ = heads
        attended = attended - _subtrahend(heads, saliency(queries, keys, mu), sigma)
    return attended.transpose(1, 2).flatten(2)


def _masked_attention(heads: Heads, mu: Tensor, rows: int | None) -> Tensor:
    """M V, (segments, heads, rows, head width)."""
    queries, keys, values = heads
    key_bias = mu.log().to(queries.dtype)[:, None, None]  # -inf outside of the segment
    return functional.scaled_dot_product_attention(
        queries[:, :, :rows], keys, values, attn_mask=key_bias
    )


def _subtrahend(heads: Heads, c: Tensor, sigma: float) -> Tensor:
    """w A_0 V, (segments, heads, 1, head width), of heads that may be shared."""
    queries, keys, values = heads
    context = functional.scaled_dot_product_attention(queries[:, :, :1], keys, values)
    return subtraction_weight(c, sigma).to(context.dtype)[:, None, None, None] * context


def _mean_cosine(first: Tensor, second: Tensor) -> Tensor:
    """S1 / sqrt(S2), each (segments, heads, tokens), averaged over heads and tokens."""
    # The class token (mu = 1) keeps both moments above zero; the bound guards their underflow.
    cosines = first / second.clamp_min(torch.finfo(torch.float32).tiny).sqrt()
    return cosines.mean(dim=(1, 2))
