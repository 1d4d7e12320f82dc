"""Steering a language model by a few gradient steps on the keys and values of its context.

As in ZeroCap (Tewel et al., "ZeroCap: Zero-Shot Image-to-Text Generation for Visual-Semantic
Arithmetic", CVPR 2022), with one safeguard: a step that would raise a row's objective is taken back,
and the row's next one is half as long. So the objective never increases. The authors' code takes every
step.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from zgs_ros.models.language_model import Context

STEP_LENGTH = 0.3
NORM_POWER = 0.9


def steer(
    forward: Callable[[Context], Tensor],
    context: Context,
    objective: Callable[[Tensor], Tensor],
    steps: int,
    take_all: bool = False,
) -> tuple[Tensor, Tensor]:
    """Changes the context of each row so that the next token's distribution lowers an objective.

    Per tensor of the context and per row the step is ``-0.3 g / |g|^0.9``.

    Args:
        forward: Context to logits of the next token, float32 (rows, vocabulary).
        context: Where to start.
        objective: Logits to (rows,), differentiable.
        steps: Gradient steps; 0 leaves everything as it is.
        take_all: Whether steps that raise the objective are taken as well.

    Returns:
        The steered logits, and the objective before and after each step, float32 (steps + 1, rows).
    """

    def evaluate(place: Context, last: bool) -> tuple[Tensor, Tensor, Context]:
        with torch.enable_grad():
            leaves = [part.detach().requires_grad_(not last) for part in place]
            logits = forward(leaves)
            losses = objective(logits)
            gradients = [] if last else list(torch.autograd.grad(losses.sum(), leaves))
        return logits.detach(), losses.detach(), gradients

    logits, losses, gradients = evaluate(context, last=steps == 0)
    history = [losses]
    lengths = torch.full_like(losses, STEP_LENGTH)
    for step in range(1, steps + 1):
        place = [
            part - _rows(lengths, part) * _shortened(gradient)
            for part, gradient in zip(context, gradients, strict=True)
        ]
        new_logits, new_losses, new_gradients = evaluate(place, last=step == steps)
        better = torch.ones_like(lengths, dtype=torch.bool) if take_all else new_losses < losses
        context = _choose(better, place, context)
        gradients = _choose(better, new_gradients, gradients) if new_gradients else []
        logits, losses = _choose(better, [new_logits, new_losses], [logits, losses])
        lengths = torch.where(better, lengths, lengths / 2)
        history.append(losses)
    return logits, torch.stack(history)


def _shortened(gradient: Tensor) -> Tensor:
    norms = gradient.flatten(1).norm(dim=1).clamp_min(1e-15)
    return gradient / _rows(norms**NORM_POWER, gradient)


def _choose(rows: Tensor, new: list[Tensor], old: list[Tensor]) -> list[Tensor]:
    return [torch.where(_rows(rows, n), n, o) for n, o in zip(new, old, strict=True)]


def _rows(values: Tensor, like: Tensor) -> Tensor:
    """(rows,) in a shape that multiplies the rows of `like`."""
    return values.view(-1, *[1] * (like.ndim - 1))
