"""What weights tell of themselves, whatever they were trained on."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from zgs_ros.tools.doctor.findings import Finding

SHUFFLES = 100
LEAST_ORDER = 4.0
"""Standard deviations by which neighbouring positions must be more alike than shuffled ones.

Of shuffled positions one in 30,000 gets that far. Trained ones are beyond 10: neighbours are alike in
every ViT that learned its positions (Dosovitskiy et al. 2021, figure 7)."""

ANOTHER_FILE = "fetch the weights anew (zgs models pull), or give the right file"


def check_training(room: str, model: nn.Module) -> Finding:
    """Whether every layer norm was trained: a new one multiplies by exactly 1 and adds exactly 0."""
    norms = [m for m in model.modules() if isinstance(m, nn.LayerNorm) and m.weight is not None]
    new = [m for m in norms if bool((m.weight == 1).all()) and _is_zero(m.bias)]
    if new:
        return Finding(
            room,
            "training",
            "error",
            f"{len(new)} of {len(norms)} layer norms are as new: these weights were never trained, or "
            "the file lacks a part of them",
            f"{room}.weights must name a file of trained weights; or {ANOTHER_FILE}",
        )
    values = (p for p in model.parameters() if p.is_floating_point())
    if not all(bool(torch.isfinite(value).all()) for value in values):
        return Finding(
            room, "training", "error", "some weights are infinite or no numbers", ANOTHER_FILE
        )
    return Finding(room, "training", "ok", f"all {len(norms)} layer norms were trained")


def check_positions(room: str, positions: Tensor, grid: tuple[int, int]) -> Finding:
    """Whether neighbouring positions are alike.

    Args:
        room: Of the finding.
        positions: Embeddings of the patches' positions at the end of the rows, (..., rows, width).
        grid: (rows, columns) of patches.
    """
    order = position_order(positions, grid)
    text = (
        f"embeddings of neighbouring positions are {order:.0f} standard deviations more alike than those "
        f"of shuffled ones (trained: above {LEAST_ORDER:g})"
    )
    if order < LEAST_ORDER:
        return Finding(
            room, "positions", "error", f"{text}: they are shuffled, or untrained", ANOTHER_FILE
        )
    return Finding(room, "positions", "ok", text)


def position_order(positions: Tensor, grid: tuple[int, int]) -> float:
    """By how many standard deviations neighbours are more alike than after random shuffling."""
    count = grid[0] * grid[1]
    rows = positions.detach().float().cpu().reshape(-1, positions.shape[-1])[-count:]
    rows = functional.normalize(rows - rows.mean(dim=0), dim=-1)
    generator = torch.Generator().manual_seed(0)
    shuffled = torch.tensor(
        [
            _likeness(rows[torch.randperm(count, generator=generator)].unflatten(0, grid))
            for _ in range(SHUFFLES)
        ]
    )
    own = _likeness(rows.unflatten(0, grid))
    return float((own - shuffled.mean()) / shuffled.std().clamp(min=1e-9))


def _likeness(map_: Tensor) -> float:
    """Mean cosine of neighbours in (rows, columns, width) of unit norm."""
    below = (map_[1:] * map_[:-1]).sum(-1).flatten()
    beside = (map_[:, 1:] * map_[:, :-1]).sum(-1).flatten()
    return float(torch.cat([below, beside]).mean())


def _is_zero(bias: Tensor | None) -> bool:
    return bias is None or bool((bias == 0).all())
