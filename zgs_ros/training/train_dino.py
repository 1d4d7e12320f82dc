"""First stage of the mini DINO's training on the synthetic world: self-distillation without any label.

A student learns to predict, from one view of a scene, what its own moving average (the teacher) says
of another view (Caron et al., "Emerging Properties in Self-Supervised Vision Transformers", ICCV 2021):
two large and several small crops, centring and sharpening of the teacher against collapse.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from zgs_ros.training.common import TrainingLog, follow, load_state, save_state
from zgs_ros.training.pool import ScenePool, shuffled
from zgs_ros.training.views import random_view, stack

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DinoTraining:
    """How the mini DINO is trained.

    Attributes:
        blocks: One more than are kept: the last serves what the class token has to say.
    """

    blocks: int = 4
    steps: int = 2_200
    batch: int = 32
    large: int = 96
    small: int = 48
    small_crops: int = 4
    rate: float = 1e-3
    warmup: int = 150
    weight_decay: float = 0.05
    prototypes: int = 1024
    student_temperature: float = 0.1
    teacher_temperature: float = 0.04
    teacher_momentum: float = 0.992
    seed: int = 0


class DinoHead(nn.Module):
    """Projects features onto prototypes: a three-layer MLP, a unit bottleneck, cosines to unit rows."""

    def __init__(
        self, width: int, prototypes: int, hidden: int = 384, bottleneck: int = 96
    ) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(),
            nn.Linear(hidden, bottleneck),
        )  # fmt: skip
        self.prototypes = nn.Parameter(torch.randn(prototypes, bottleneck) * 0.02)

    def forward(self, features: Tensor) -> Tensor:
        """(views, width) to (views, prototypes)."""
        unit = functional.normalize(self.mlp(features), dim=-1)
        return unit @ functional.normalize(self.prototypes, dim=-1).T


class DinoTrainer:
    """Holds student, teacher, optimiser and their state on disk.

    Args:
        config: Folder with timm's ``config.json``.
        pool: Rendered scenes.
        out: Folder for the log and the resumable state.
        training: How to train.
    """

    def __init__(self, config: Path, pool: ScenePool, out: Path, training: DinoTraining) -> None:
        torch.manual_seed(training.seed)
        self._training = training
        self._pool = pool
        self._state_file = out / "state.pt"
        self._log = TrainingLog(out / "log.jsonl")
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        backbone: Any = timm.create_model(
            f"local-dir:{config}", pretrained=False, num_classes=0, depth=training.blocks
        )
        head = DinoHead(backbone.num_features, training.prototypes)
        self._student = nn.ModuleDict({"backbone": backbone, "head": head}).to(self._device)
        self._teacher = copy.deepcopy(self._student).requires_grad_(False)
        self._center = torch.zeros(training.prototypes, device=self._device)
        self._optimizer = torch.optim.AdamW(
            self._student.parameters(), lr=training.rate, weight_decay=training.weight_decay
        )
        self.step = 0
        self._resume()

    @property
    def model(self) -> nn.Module:
        """The teacher's backbone, which is what training is for."""
        backbone = self._teacher["backbone"]
        assert isinstance(backbone, nn.Module)
        return backbone

    def _resume(self) -> None:
        if state := load_state(self._state_file, self._device):
            self._student.load_state_dict(state["student"])
            self._teacher.load_state_dict(state["teacher"])
            self._optimizer.load_state_dict(state["optimizer"])
            self._center = state["center"]
            self.step = state["step"]
            logger.info("resumed at step %d", self.step)

    def save(self) -> None:
        """Writes the resumable state."""
        state = {
            "student": self._student.state_dict(),
            "teacher": self._teacher.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "center": self._center,
            "step": self.step,
        }
        save_state(self._state_file, state)

    def run(self, save_every: int = 250) -> None:
        """Trains to the last step."""
        training = self._training
        rng = np.random.default_rng([training.seed, self.step])
        order = shuffled(len(self._pool), rng)
        while self.step < training.steps:
            started = time.monotonic()
            scenes = [self._pool[next(order)].rgb for _ in range(training.batch)]
            values = self._train_step(*_views(scenes, training, rng))
            self.step += 1
            self._log.add(self.step, {**values, "seconds": time.monotonic() - started})
            if self.step % save_every == 0 or self.step == training.steps:
                self.save()

    def _train_step(self, large: Tensor, small: Tensor) -> dict[str, float]:
        """One update from (2 * batch, 3, ...) large and (small_crops * batch, 3, ...) small views.

        Returns:
            Loss, and entropy of the mean teacher prediction (near 0 would mean collapse).
        """
        training = self._training
        for group in self._optimizer.param_groups:
            group["lr"] = training.rate * self._schedule()
        large, small = large.to(self._device), small.to(self._device)
        with torch.no_grad():
            logits = self._forward(self._teacher, large)
            targets = ((logits - self._center) / training.teacher_temperature).softmax(-1).chunk(2)
        predictions = [
            (part / training.student_temperature).log_softmax(-1)
            for views in (large, small)
            for part in self._forward(self._student, views).split(training.batch)
        ]
        terms = [
            -(target * prediction).sum(-1).mean()
            for i, target in enumerate(targets)
            for j, prediction in enumerate(predictions)
            if i != j
        ]
        loss = torch.stack(terms).mean()
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._student.parameters(), 3.0)
        self._optimizer.step()
        with torch.no_grad():
            self._center.lerp_(logits.mean(0), 0.1)
            progress = self.step / training.steps
            change = (1 - training.teacher_momentum) * (math.cos(math.pi * progress) + 1) / 2
            follow(self._teacher, self._student, change)
            mean_target = torch.cat(targets).mean(0)
            entropy = -(mean_target * mean_target.clamp_min(1e-9).log()).sum()
        return {"loss": float(loss.detach()), "teacher_entropy": float(entropy)}

    def _schedule(self) -> float:
        training = self._training
        if self.step < training.warmup:
            return (self.step + 1) / training.warmup
        progress = (self.step - training.warmup) / max(1, training.steps - training.warmup)
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress))

    def _forward(self, network: nn.ModuleDict, views: Tensor) -> Tensor:
        return network["head"](network["backbone"](views))


def _views(
    scenes: list[NDArray[np.uint8]], training: DinoTraining, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Large views, (2 * batch, 3, large, large), and small ones; view by view, not scene by scene."""
    large = [
        random_view(scene, training.large, (0.25, 0.9), rng) for _ in range(2) for scene in scenes
    ]
    small = [
        random_view(scene, training.small, (0.04, 0.25), rng)
        for _ in range(training.small_crops)
        for scene in scenes
    ]
    return (stack(large) - 0.5) / 0.25, (stack(small) - 0.5) / 0.25
