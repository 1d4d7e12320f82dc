"""What the training of all mini models shares: loss of names, learning-rate schedule, log and state."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from zgs_ros.training.examples import Examples
from zgs_ros.training.naming import FIRST_STUFF, NOUN_OF_PHRASE, Directions

logger = logging.getLogger(__name__)


def ramp(step: int, steps: int, warmup: int, decay: float) -> float:
    """Share of the full learning rate: linear warm-up, level, linear decay over the last `decay`."""
    return max(0.0, min(1.0, (step + 1) / warmup, (steps - step) / (steps * decay)))


def naming_loss(
    rows: Tensor, targets: Tensor, nouns_only: Tensor, texts: Directions, scale: float
) -> Tensor:
    """Contrasts embeddings with all phrases, and with all bare nouns.

    Every step so holds the same-colour and the same-noun hard negatives of every row.

    Args:
        rows: (rows, dimensions), unit norm.
        targets: int64 (rows,), index into PHRASES.
        nouns_only: bool (rows,): the colour of these is not as their phrase says.
        texts: Embedded phrases and nouns.
        scale: Inverse temperature.
    """
    nouns = NOUN_OF_PHRASE.to(rows.device)[targets]
    by_noun = functional.cross_entropy(scale * rows @ texts.noun.T, nouns)
    by_phrase = functional.cross_entropy(scale * rows @ texts.phrase.T, targets, reduction="none")
    return by_noun + (by_phrase * ~nouns_only).mean()


def patch_loss(patches: Tensor, examples: Examples, texts: Directions, scale: float) -> Tensor:
    """`naming_loss` of patch embeddings (pictures, patches, dimensions).

    Grounds and backdrops cover most patches; they are thinned out to half as many as objects have.
    """
    wanted = examples.patches.to(patches.device)
    nouns_only = examples.recoloured.to(patches.device)[:, None].expand_as(wanted).flatten()
    rows, wanted = patches.flatten(0, 1), wanted.flatten()
    objects = torch.nonzero((wanted >= 0) & (wanted < FIRST_STUFF)).flatten()
    stuff = torch.nonzero(wanted >= FIRST_STUFF).flatten()
    thinned = stuff[torch.randperm(len(stuff), device=stuff.device)[: max(32, len(objects) // 2)]]
    chosen = torch.cat([objects, thinned])
    return naming_loss(rows[chosen], wanted[chosen], nouns_only[chosen], texts, scale)


@torch.no_grad()
def follow(mean: nn.Module, model: nn.Module, change: float) -> None:
    """Moves the weights of a moving average by this share towards a model's."""
    for kept, value in zip(mean.parameters(), model.parameters(), strict=True):
        kept.lerp_(value, change)


class TrainingLog:
    """Means of what is measured, every `every` steps, to the log and to a file of JSON lines."""

    def __init__(self, file: Path, every: int = 50) -> None:
        self._file = file
        self._every = every
        self._values: dict[str, list[float]] = {}

    def add(self, step: int, values: dict[str, float]) -> None:
        """Keeps the values of one step."""
        for name, value in values.items():
            self._values.setdefault(name, []).append(value)
        if step % self._every == 0:
            means = {name: round(float(np.mean(kept)), 3) for name, kept in self._values.items()}
            self.write({"step": step, **means})
            self._values = {}

    def write(self, entry: dict[str, float]) -> None:
        """Writes one entry at once."""
        logger.info("%s", entry)
        with self._file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(entry) + "\n")


def save_state(file: Path, state: dict[str, Any]) -> None:
    """Writes a resumable state; a killed run never leaves half a file."""
    temporary = file.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(file)


def load_state(file: Path, device: torch.device) -> dict[str, Any] | None:
    """What `save_state` wrote, or None."""
    if not file.exists():
        return None
    state: dict[str, Any] = torch.load(file, weights_only=True, map_location=device)
    return state
