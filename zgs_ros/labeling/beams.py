"""Beam search for several texts at once."""

from __future__ import annotations

import torch
from torch import Tensor


class Beams:
    """The likeliest texts so far, of each of several segments.

    A beam's score is the mean log probability of its tokens. A beam that wrote the end token keeps its
    score and its place among the others, and costs nothing further.

    Args:
        segments: Number of searches.
        width: Beams of each.
        end: The end token.
        device: Where scores live.

    Attributes:
        tokens: int64 (segments, beams, length), what was written.
    """

    def __init__(self, segments: int, width: int, end: int, device: torch.device) -> None:
        self._width = width
        self._end = end
        self.tokens = torch.zeros(segments, 1, 0, dtype=torch.long, device=device)
        self._sums = torch.zeros(segments, 1, device=device)
        self._lengths = torch.zeros(segments, 1, dtype=torch.long, device=device)
        self._stopped = torch.zeros(segments, 1, dtype=torch.bool, device=device)

    @property
    def active(self) -> Tensor:
        """int64 (active,): the beams that go on, counted through all segments."""
        return (~self._stopped.flatten()).nonzero()[:, 0]

    @property
    def segments(self) -> Tensor:
        """int64 (active,): the segment of each beam that goes on."""
        return torch.div(self.active, self.tokens.shape[1], rounding_mode="floor")

    @property
    def written(self) -> Tensor:
        """int64 (active, length): tokens of the beams that go on."""
        return self.tokens.flatten(0, 1)[self.active]

    def normalise_together(self, scores: Tensor) -> Tensor:
        """Log probabilities over the tokens of all beams of a segment, as in the authors' code.

        They sum to 1 over a segment's beams instead of over each beam's tokens, so that every token of
        five beams costs about log 5 more, and shorter texts win. A beam that has stopped counts as 1.

        Args:
            scores: (active, vocabulary), logarithms of at most 1 in sum over each row.

        Returns:
            (active, vocabulary).
        """
        stopped = self._stopped.sum(1).to(scores)
        masses = stopped.index_add(0, self.segments, scores.exp().sum(1))
        return scores - masses.log()[self.segments, None]

    def grow(self, log_p: Tensor) -> Tensor:
        """Adds a token to every beam that goes on, and keeps the best beams of each segment.

        Args:
            log_p: float32 (active, vocabulary), log probability of each next token.

        Returns:
            int64 (now active,): for each beam that goes on now, the row of `log_p` that it came from.
        """
        segments, beams, length = self.tokens.shape
        vocabulary = log_p.shape[1]
        active = self.active
        steps = log_p.new_full((segments * beams, vocabulary), -torch.inf)
        steps[active] = log_p
        steps[self._stopped.flatten(), self._end] = 0.0
        sums = (self._sums[..., None] + steps.view(segments, beams, vocabulary)).flatten(1)
        lengths = self._lengths + (~self._stopped).long()
        means = sums / lengths.repeat_interleave(vocabulary, dim=1)
        best, places = means.topk(min(self._width, beams * vocabulary), dim=1)
        parents = torch.div(places, vocabulary, rounding_mode="floor")
        added = places % vocabulary
        self._sums = sums.gather(1, places)
        self._lengths = lengths.gather(1, parents)
        self._stopped = self._stopped.gather(1, parents) | (added == self._end) | best.isinf()
        before = self.tokens.gather(1, parents[..., None].expand(-1, -1, length))
        self.tokens = torch.cat([before, added[..., None]], dim=2)
        row_of = torch.full((segments * beams,), -1, device=log_p.device)
        row_of[active] = torch.arange(len(active), device=log_p.device)
        first = torch.arange(segments, device=log_p.device)[:, None] * beams
        return row_of[(first + parents).flatten()[~self._stopped.flatten()]]

    def texts(self, with_end: bool = False) -> list[list[list[int]]]:
        """Per segment its beams' tokens up to the end token, the likeliest first.

        Args:
            with_end: Whether the end token is among them.
        """
        found: list[list[list[int]]] = []
        for tokens, sums in zip(self.tokens.tolist(), self._sums.tolist(), strict=True):
            possible = [t for t, score in zip(tokens, sums, strict=True) if score > -float("inf")]
            found.append(
                [t[: t.index(self._end) + with_end] if self._end in t else t for t in possible]
            )
        return found
