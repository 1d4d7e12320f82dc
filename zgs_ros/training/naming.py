"""The names of the synthetic world, and where the mini CLIP puts them in its embedding space."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from zgs_ros.synthetic import BACKDROPS, COLOURS, GROUNDS, KINDS, phrases

PHRASES = phrases()
NOUNS = [*KINDS, *GROUNDS, *BACKDROPS]
TEMPLATES = ("Image of a {}.", "Image of a {}.", "{}", "a {}", "a photo of a {}")
FIRST_STUFF = len(PHRASES) - len(GROUNDS) - len(BACKDROPS)
"""PHRASES from here on name grounds and backdrops."""
COLOUR_WEIGHT = 0.7
"""Length of the colour's direction in a phrase, where the noun's is 1."""


def _noun(phrase: str) -> str:
    return phrase if phrase in NOUNS else phrase.split(" ", 1)[1]


NOUN_OF_PHRASE = torch.tensor([NOUNS.index(_noun(phrase)) for phrase in PHRASES])


@dataclass(frozen=True, eq=False)
class Directions:
    """Unit vectors that texts are drawn to: one for each noun and one for each colour, all orthogonal.

    A text tower that starts at random gives all texts nearly the same embedding, and the image tower
    hardly learns before they have drifted apart. Giving every noun and every colour a direction of its
    own avoids that, and lets colours and nouns combine.

    Attributes:
        noun: float32 (nouns, dimensions).
        phrase: float32 (phrases, dimensions), colour and noun added.
    """

    noun: Tensor
    phrase: Tensor

    @classmethod
    def make(cls, dimensions: int, seed: int) -> Directions:
        """Orthogonal directions; the same for the same arguments."""
        generator = torch.Generator().manual_seed(seed)
        random = torch.randn(dimensions, len(NOUNS) + len(COLOURS), generator=generator)
        basis = torch.linalg.qr(random).Q.T.contiguous()
        noun, colour = basis[: len(NOUNS)], basis[len(NOUNS) :]
        order = list(COLOURS)
        tint = torch.stack(
            [
                colour[order.index(phrase.split(" ", 1)[0])]
                if phrase not in NOUNS
                else torch.zeros(dimensions)
                for phrase in PHRASES
            ]
        )
        phrase = functional.normalize(noun[NOUN_OF_PHRASE] + COLOUR_WEIGHT * tint, dim=-1)
        return cls(noun, phrase)

    def to(self, device: torch.device) -> Directions:
        """The same on a device."""
        return Directions(self.noun.to(device), self.phrase.to(device))

    def caption(self, caption: str) -> Tensor:
        """Direction of a caption: the mean of the things that it mentions; (dimensions,)."""
        mentioned = list(_mentioned(caption))
        rows = [
            self.phrase[PHRASES.index(text)]
            if text in _PHRASE_SET
            else self.noun[NOUNS.index(text)]
            for text in mentioned
        ]
        return functional.normalize(torch.stack(rows).mean(0), dim=-1)


_PHRASE_SET = frozenset(PHRASES)
_COLOUR = "|".join(COLOURS)
_NAME = "|".join(sorted(NOUNS, key=len, reverse=True))
_MENTION = re.compile(rf"\b(?:(?:{_COLOUR}) )?(?:{_NAME})\b")


def _mentioned(caption: str) -> Iterable[str]:
    for match in _MENTION.finditer(caption):
        text = match.group()
        yield text if text in _PHRASE_SET or text in NOUNS else text.split(" ", 1)[1]
