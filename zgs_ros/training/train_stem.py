"""First stage of the mini CLIP's training: its convolutions learn names from crops around objects.

Convolutions learn what a thing is from far fewer pictures than attention does. Here they stand alone,
with batch normalisation, which is folded into them afterwards; the blocks of the ViT come on top later.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from zgs_ros.models.mini_tower import WIDTH, Stem
from zgs_ros.training.common import (
    TrainingLog,
    load_state,
    naming_loss,
    patch_loss,
    save_state,
)
from zgs_ros.training.examples import Examples, ObjectCrops
from zgs_ros.training.naming import NOUN_OF_PHRASE, Directions


@dataclass(frozen=True)
class StemTraining:
    """How the convolutions are trained."""

    steps: int = 2_200
    batch: int = 64
    rate: float = 3e-3
    warmup: int = 60
    weight_decay: float = 0.02
    scale: float = 20.0
    seed: int = 0


class StemTrainer:
    """Holds the convolutions, a linear head on top, their optimiser and their state on disk.

    Args:
        crops: Training examples.
        texts: Where names lie in the embedding space.
        out: Folder for the log and the resumable state.
        training: How to train.
    """

    def __init__(
        self, crops: ObjectCrops, texts: Directions, out: Path, training: StemTraining
    ) -> None:
        torch.manual_seed(training.seed)
        self._training = training
        self._crops = crops
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._texts = texts.to(self._device)
        self._stem = Stem()
        _add_batch_norm(self._stem)
        self._head = nn.Linear(WIDTH, texts.noun.shape[1])
        self._network = nn.ModuleDict({"stem": self._stem, "head": self._head}).to(self._device)
        self._optimizer = torch.optim.AdamW(
            self._network.parameters(), lr=training.rate, weight_decay=training.weight_decay
        )
        self._state_file = out / "stem.pt"
        self._log = TrainingLog(out / "stem.jsonl")
        self.step = 0
        if state := load_state(self._state_file, self._device):
            self._network.load_state_dict(state["network"])
            self._optimizer.load_state_dict(state["optimizer"])
            self.step = state["step"]

    def run(self, save_every: int = 200) -> tuple[Stem, nn.Linear]:
        """Trains to the last step.

        Returns:
            The convolutions, without batch normalisation, and the head that names what they give.
        """
        rng = np.random.default_rng([self._training.seed, self.step])
        while self.step < self._training.steps:
            started = time.monotonic()
            values = self._train_step(self._crops.sample(self._training.batch, rng))
            self.step += 1
            self._log.add(self.step, {**values, "seconds": time.monotonic() - started})
            if self.step % save_every == 0 or self.step == self._training.steps:
                state = {
                    "network": self._network.state_dict(),
                    "optimizer": self._optimizer.state_dict(),
                    "step": self.step,
                }
                save_state(self._state_file, state)
        self._network.eval()
        _fold_batch_norm(self._stem)
        return self._stem, self._head

    def _train_step(self, examples: Examples) -> dict[str, float]:
        training = self._training
        progress = self.step / training.steps
        warm = min(1.0, (self.step + 1) / training.warmup)
        for group in self._optimizer.param_groups:
            group["lr"] = training.rate * warm * (0.51 + 0.49 * math.cos(math.pi * progress))
        self._network.train()
        states = self._stem(examples.pixels.to(self._device)).flatten(2).transpose(1, 2)
        patches: Tensor = self._head(states)
        masks, owners = examples.masks.to(self._device), examples.owners.to(self._device)
        regions = functional.normalize((patches[owners] * masks[..., None]).sum(1), dim=-1)
        targets = examples.targets.to(self._device)
        nouns_only = examples.recoloured.to(self._device)[owners]
        scale, unit = training.scale, functional.normalize(patches, dim=-1)
        loss = naming_loss(regions, targets, nouns_only, self._texts, scale)
        loss = loss + 0.5 * patch_loss(unit, examples, self._texts, scale)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        nouns = NOUN_OF_PHRASE.to(self._device)[targets]
        right = (regions.detach() @ self._texts.noun.T).argmax(1) == nouns
        return {"loss": float(loss.detach()), "noun": float(right.float().mean())}


def _add_batch_norm(module: nn.Module) -> None:
    """Puts batch normalisation behind every convolution inside the module."""
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d):
            module.register_module(name, nn.Sequential(child, nn.BatchNorm2d(child.out_channels)))
        else:
            _add_batch_norm(child)


def _fold_batch_norm(module: nn.Module) -> None:
    """Undoes `_add_batch_norm`, with weights that compute the same."""
    for name, child in module.named_children():
        last = child[-1] if isinstance(child, nn.Sequential) else None
        if isinstance(child, nn.Sequential) and isinstance(last, nn.BatchNorm2d):
            convolution = child[0]
            assert isinstance(convolution, nn.Conv2d)
            module.register_module(name, fuse_conv_bn_eval(convolution, last))
        else:
            _fold_batch_norm(child)
