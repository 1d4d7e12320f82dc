"""The texts that a caption could go on to, and how near CLIP finds them to a segment."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

EmbedContinuations = Callable[[Sequence[str], Sequence[int]], Tensor]
"""Texts and their groups to float32 (texts, dimensions); see `ClipEmbedder.embed_continuations`."""


class Candidates:
    """Cosines of segments with their texts so far, continued by one token.

    A continuation is embedded once, however often rows that share its beginning ask for it.

    Args:
        embed: CLIP's text tower.
        endings: Text of each token of the vocabulary.
        beginnings: Text so far, of each row.
        segments: float32 (rows, dimensions), unit norm, embedding of the segment of each row.

    Attributes:
        embedded: Number of texts that were embedded so far.
    """

    def __init__(
        self,
        embed: EmbedContinuations,
        endings: Sequence[str],
        beginnings: Sequence[str],
        segments: Tensor,
    ) -> None:
        self._embed = embed
        self._endings = endings
        self._beginnings = list(dict.fromkeys(beginnings))
        numbers = {text: number for number, text in enumerate(self._beginnings)}
        device = segments.device
        self._beginning = torch.tensor([numbers[text] for text in beginnings], device=device)
        self._segments = segments
        self._slots = torch.full((len(numbers), len(endings)), -1, device=device)
        self._rows = segments.new_empty(0, segments.shape[1])

    @property
    def embedded(self) -> int:
        return len(self._rows)

    def cosines(self, tokens: Tensor) -> Tensor:
        """Cosine of each row's segment with its text continued by these tokens.

        Args:
            tokens: int64 (rows, candidates).

        Returns:
            float32 (rows, candidates).
        """
        beginnings = self._beginning[:, None].expand_as(tokens)
        self._embed_new(beginnings, tokens)
        embedded = self._rows[self._slots[beginnings, tokens]]  # (rows, candidates, dimensions)
        return torch.einsum("rcd,rd->rc", embedded, self._segments)

    def _embed_new(self, beginnings: Tensor, tokens: Tensor) -> None:
        new = self._slots[beginnings, tokens] < 0
        if not new.any():
            return
        codes = torch.unique(beginnings[new] * len(self._endings) + tokens[new])
        owner = torch.div(codes, len(self._endings), rounding_mode="floor")
        ending = codes % len(self._endings)
        texts = [
            self._beginnings[b] + self._endings[e]
            for b, e in zip(owner.tolist(), ending.tolist(), strict=True)
        ]
        groups = torch.unique(owner, return_inverse=True)[1].tolist()
        self._slots[owner, ending] = torch.arange(len(codes), device=codes.device) + len(self._rows)
        self._rows = torch.cat([self._rows, self._embed(texts, groups).to(self._rows)])
