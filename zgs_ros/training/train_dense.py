"""Second stage of the mini DINO's training: every patch learns what belongs together with it.

The first stage trains what the class token says of a whole view; the over-segmentation clusters the keys
of single patches. Here a student assigns the key of every patch to prototypes, and learns from the
assignments that its moving average (the teacher) makes at the same place of another view (as SwAV and
DINO do with whole views). The teacher's assignments are balanced over the batch, and mixed with those of
the patches of both views that look alike, so that the patches of a thing agree. No label is used.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from zgs_ros.oversegmentation.features import DinoFeatures
from zgs_ros.training.common import TrainingLog, follow, load_state, save_state
from zgs_ros.training.pool import ScenePool, shuffled
from zgs_ros.training.views import View, random_view, stack

SINKHORN_STEPS = 3


@dataclass(frozen=True)
class DenseTraining:
    """How the keys are trained.

    Attributes:
        affinity_temperature: Softness of the look-alikes that a patch shares its assignment with.
        shared: Share of an assignment that comes from look-alikes.
    """

    steps: int = 1_600
    batch: int = 24
    size: int = 96
    areas: tuple[float, float] = (0.2, 0.9)
    noise: float = 6.0
    rate: float = 1e-3
    warmup: int = 50
    weight_decay: float = 0.05
    prototypes: int = 512
    student_temperature: float = 0.1
    teacher_temperature: float = 0.05
    teacher_momentum: float = 0.99
    affinity_temperature: float = 0.05
    shared: float = 0.5
    seed: int = 0


class _Assigner(nn.Module):
    """Keys of patches, and their cosines with prototypes."""

    def __init__(self, features: DinoFeatures, prototypes: int) -> None:
        super().__init__()
        self.features = features
        self.prototypes = nn.Parameter(torch.randn(prototypes, features.model.embed_dim))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(views, 3, size, size) to (views, patches, width) and (views, patches, prototypes)."""
        keys = self.features.keys(pixels).flatten(1, 2)
        return keys, keys @ functional.normalize(self.prototypes, dim=-1).T


class DenseTrainer:
    """Holds student, teacher, optimiser and their state on disk.

    Args:
        backbone: A timm VisionTransformer from the first stage; changed in place.
        pool: Rendered scenes.
        out: Folder for the log and the resumable state.
        training: How to train.
    """

    def __init__(
        self, backbone: nn.Module, pool: ScenePool, out: Path, training: DenseTraining
    ) -> None:
        torch.manual_seed(training.seed)
        self._training = training
        self._pool = pool
        self._state_file = out / "dense.pt"
        self._log = TrainingLog(out / "dense.jsonl")
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        features = DinoFeatures(backbone, training.size)
        features.stride = features.patch  # no overlap: every patch is trained once
        self._patches = training.size // features.patch
        self._student = _Assigner(features, training.prototypes).to(self._device)
        self._student.requires_grad_(True)
        self._teacher = copy.deepcopy(self._student).requires_grad_(False)
        self._optimizer = torch.optim.AdamW(
            self._student.parameters(), lr=training.rate, weight_decay=training.weight_decay
        )
        self.step = 0
        if state := load_state(self._state_file, self._device):
            self._student.load_state_dict(state["student"])
            self._teacher.load_state_dict(state["teacher"])
            self._optimizer.load_state_dict(state["optimizer"])
            self.step = state["step"]

    @property
    def model(self) -> nn.Module:
        """The teacher's backbone, which is what training is for."""
        model = self._teacher.features.model
        assert isinstance(model, nn.Module)
        return model

    def run(self, save_every: int = 200) -> None:
        """Trains to the last step."""
        training = self._training
        rng = np.random.default_rng([training.seed, 1, self.step])
        order = shuffled(len(self._pool), rng)
        while self.step < training.steps:
            started = time.monotonic()
            values = self._train_step(*self._views(order, rng))
            self.step += 1
            self._log.add(self.step, {**values, "seconds_per_step": time.monotonic() - started})
            if self.step % save_every == 0 or self.step == training.steps:
                state = {
                    "student": self._student.state_dict(),
                    "teacher": self._teacher.state_dict(),
                    "optimizer": self._optimizer.state_dict(),
                    "step": self.step,
                }
                save_state(self._state_file, state)

    def _views(
        self, order: Iterator[int], rng: np.random.Generator
    ) -> tuple[Tensor, NDArray[np.float32]]:
        """Two views of every scene, (2 * batch, 3, size, size), and where each lies in the other."""
        training = self._training
        pairs: list[tuple[View, View]] = []
        for _ in range(training.batch):
            scene = self._pool[next(order)].rgb
            first, second = (
                random_view(scene, training.size, training.areas, rng, training.noise)
                for _ in range(2)
            )
            pairs.append((first, second))
        views = [first for first, _ in pairs] + [second for _, second in pairs]
        others = [second for _, second in pairs] + [first for first, _ in pairs]
        places = [
            view.locate(other, self._patches) for view, other in zip(views, others, strict=True)
        ]
        return stack(views), np.stack(places)

    def _train_step(self, pixels: Tensor, places: NDArray[np.float32]) -> dict[str, float]:
        training = self._training
        for group in self._optimizer.param_groups:
            group["lr"] = training.rate * self._schedule()
        pixels = pixels.to(self._device)
        grid = torch.from_numpy(places).to(self._device)
        targets = self._targets(pixels)
        _, logits = self._student(pixels)
        predictions = (logits / training.student_temperature).log_softmax(-1)
        own = -(targets * predictions).sum(-1).mean()
        seen = (grid.abs() <= 1.0).all(-1).flatten(1)
        across = functional.grid_sample(
            targets.roll(training.batch, 0).mT.unflatten(2, (self._patches, self._patches)),
            grid,
            padding_mode="border",
            align_corners=False,
        )
        other = -(across.flatten(2).mT * predictions).sum(-1)[seen].mean()
        loss = 0.5 * own + other
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._student.parameters(), 3.0)
        self._optimizer.step()
        settled = self.step >= 0.7 * training.steps
        change = (1.0 - training.teacher_momentum) * (0.5 if settled else 1.0)
        follow(self._teacher, self._student, change)
        return {"own": float(own.detach()), "other": float(other.detach())}

    @torch.no_grad()
    def _targets(self, pixels: Tensor) -> Tensor:
        """The teacher's assignments, (2 * batch, patches, prototypes)."""
        training = self._training
        keys, logits = self._teacher(pixels)
        assigned = _balanced(logits.flatten(0, 1), training.teacher_temperature).view_as(logits)
        # Both views of a scene side by side: a patch's look-alikes may be in either.
        keys = torch.cat(keys.split(training.batch), dim=1)
        assigned = torch.cat(assigned.split(training.batch), dim=1)
        affinity = (keys @ keys.mT / training.affinity_temperature).softmax(-1)
        assigned = assigned.lerp(affinity @ assigned, training.shared)
        return torch.cat(assigned.chunk(2, dim=1))

    def _schedule(self) -> float:
        training = self._training
        decay = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * self.step / training.steps))
        return min(1.0, (self.step + 1) / training.warmup) * decay


def _balanced(logits: Tensor, temperature: float) -> Tensor:
    """Soft assignments that use all prototypes alike: Sinkhorn-Knopp, as in SwAV (Caron et al., 2020).

    Args:
        logits: (patches, prototypes).
        temperature: Softness.

    Returns:
        (patches, prototypes), rows summing to 1.
    """
    shares = ((logits - logits.max()) / temperature).exp()
    for _ in range(SINKHORN_STEPS):
        shares = shares / shares.sum(0, keepdim=True)
        shares = shares / shares.sum(1, keepdim=True)
    return shares
