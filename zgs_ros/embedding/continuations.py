"""CLIP text embeddings of many texts that begin alike.

CLIP reads a text's embedding off its end token, and attention is causal, so nothing behind that token
matters, and tokens that texts share at their beginning need to be computed once. For candidates that
continue "Image of a" by a word, that leaves a few tokens each instead of the 77 of CLIP's context.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from zgs_ros.embedding.blocks import finish_block, project_heads

CHUNK = 1024
"""Texts that go through the text tower together."""


@dataclass(frozen=True, eq=False)
class _Beginnings:
    """What texts share: per layer keys and values (groups, heads, tokens, head width)."""

    keys: list[Tensor]
    values: list[Tensor]
    lengths: Tensor


def reads_end_token(text_tower: Any) -> bool:
    """Whether a text tower of open_clip is causal and pools its end token, as `embed_continuations` needs."""
    pool = getattr(text_tower, "text_pool_type", None) or getattr(text_tower, "pool_type", "")
    appended = getattr(text_tower, "cls_emb", None)
    return pool == "argmax" and text_tower.attn_mask is not None and appended is None


def embed_continuations(
    model: Any,
    tokenizer: Callable[[list[str]], Tensor],
    texts: Sequence[str],
    groups: Sequence[int],
) -> Tensor:
    """Embeds texts as the model's text tower does, up to rounding.

    Args:
        model: A text tower for which `reads_end_token` holds.
        tokenizer: Texts to int64 (texts, context length), the end token having the highest number.
        texts: At least one.
        groups: Number of each text's group, from 0 on without gaps; texts of a group begin alike.

    Returns:
        float32 (texts, dimensions), unit norm.
    """
    device = model.positional_embedding.device
    tokens = tokenizer(list(texts)).to(device)
    ends = tokens.argmax(1)
    owner = torch.tensor(list(groups), device=device)
    shared = _shared_lengths(tokens, ends, owner)
    beginnings = _encode_beginnings(model, tokens, owner, shared)
    # Texts of like length go together, which saves padding.
    lengths, order = torch.sort(ends - shared[owner], stable=True)
    rows = torch.cat(
        [
            _encode_endings(model, tokens[part], ends[part], owner[part], beginnings)
            for part in _batches(lengths, order)
        ]
    )
    return torch.empty_like(rows).index_copy_(0, order, rows)


def _batches(lengths: Tensor, order: Tensor) -> list[Tensor]:
    """Parts of `order` that go through the text tower together, at most `CHUNK` texts each.

    On a CPU they are of one length, for what is padded costs as much as a text's own tokens there. A
    GPU rather has few parts.
    """
    if order.device.type != "cpu":
        return list(order.split(CHUNK))
    counts = lengths.unique_consecutive(return_counts=True)[1]
    return [part for run in order.split(counts.tolist()) for part in run.split(CHUNK)]


def _shared_lengths(tokens: Tensor, ends: Tensor, owner: Tensor) -> Tensor:
    """(groups,) number of leading tokens that all texts of a group have, less their end token."""
    positions = torch.arange(tokens.shape[1], device=tokens.device)
    lengths = []
    for group in range(int(owner.max()) + 1):
        members = tokens[owner == group]
        equal = (members == members[:1]).all(0) & (positions < ends[owner == group].min())
        lengths.append(int(equal.long().cumprod(0).sum()))
    return torch.tensor(lengths, device=tokens.device)


def _encode_beginnings(model: Any, tokens: Tensor, owner: Tensor, lengths: Tensor) -> _Beginnings:
    # One text of each group stands for all.
    first = torch.stack([(owner == group).nonzero()[0, 0] for group in range(len(lengths))])
    places = torch.arange(int(lengths.max()), device=tokens.device)
    states = _embed_tokens(model, tokens[first][:, : len(places)], places)
    keys: list[Tensor] = []
    values: list[Tensor] = []
    for block in model.transformer.resblocks:
        heads = project_heads(block, states)
        keys.append(heads[1])
        values.append(heads[2])
        attended = functional.scaled_dot_product_attention(*heads, is_causal=True)
        states = finish_block(block, states, attended.transpose(1, 2).flatten(2))
    return _Beginnings(keys, values, lengths)


def _encode_endings(
    model: Any, tokens: Tensor, ends: Tensor, owner: Tensor, beginnings: _Beginnings
) -> Tensor:
    """Texts from where their group's beginning stops up to their end token."""
    starts = beginnings.lengths[owner]  # (texts,)
    own = ends - starts + 1
    steps = torch.arange(int(own.max()), device=tokens.device)
    places = (starts[:, None] + steps).clamp_max(tokens.shape[1] - 1)
    states = _embed_tokens(model, tokens.gather(1, places), places)
    before = torch.arange(beginnings.keys[0].shape[2], device=tokens.device)
    mask = torch.cat(
        [
            (before < starts[:, None])[:, None].expand(-1, len(steps), -1),
            (steps <= steps[:, None]).expand(len(tokens), -1, -1),
        ],
        dim=2,
    )[:, None]  # (texts, 1, own tokens, beginning and own tokens)
    layers = zip(model.transformer.resblocks, beginnings.keys, beginnings.values, strict=True)
    for block, keys, values in layers:
        queries, own_keys, own_values = project_heads(block, states)
        attended = functional.scaled_dot_product_attention(
            queries,
            torch.cat([keys[owner], own_keys], dim=2),
            torch.cat([values[owner], own_values], dim=2),
            attn_mask=mask,
        )
        states = finish_block(block, states, attended.transpose(1, 2).flatten(2))
    last = model.ln_final(states[torch.arange(len(tokens), device=tokens.device), own - 1])
    projection = model.text_projection
    embedded = projection(last) if isinstance(projection, torch.nn.Linear) else last @ projection
    return functional.normalize(embedded.float(), dim=-1)


def _embed_tokens(model: Any, tokens: Tensor, places: Tensor) -> Tensor:
    """Token and position embeddings of (texts, tokens) at these places of their texts."""
    dtype = model.transformer.get_cast_dtype()
    positions = model.positional_embedding[places]
    return model.token_embedding(tokens).to(dtype) + positions.to(dtype)
