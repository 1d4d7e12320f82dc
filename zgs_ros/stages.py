"""How long each stage takes: on a GPU by its own clock, so that nobody has to wait for it meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import partial
from typing import Any, Protocol

import torch

Probe = Callable[[str], AbstractContextManager[object]]
stage_probe: ContextVar[Probe] = ContextVar("stage_probe", default=nullcontext)
"""Surrounds each stage, whose name it is given, inside of the stage's own clock."""


class Mark(Protocol):
    """A moment, which for a GPU comes when it has done what it was asked for until then."""

    def seconds_until(self, later: Any) -> float:
        """Seconds between this moment and a later one of the same kind; waits until that is past."""
        ...


class WallMark:
    """The moment of its making."""

    def __init__(self) -> None:
        self._time = time.perf_counter()

    def seconds_until(self, later: WallMark) -> float:
        """Seconds between the two."""
        return later._time - self._time


class CudaMark:
    """The moment when a GPU has done what its current stream was asked for until now.

    Where the stream has nothing left to do, that is now, so that what the CPU does counts too.

    Args:
        device: The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._event = torch.cuda.Event(enable_timing=True)
        self._event.record(torch.cuda.current_stream(device))

    def seconds_until(self, later: CudaMark) -> float:
        """Seconds between the two; waits for the GPU until the later one is past."""
        later._event.synchronize()
        return float(self._event.elapsed_time(later._event)) / 1e3


def mark_for(device: torch.device) -> Callable[[], Mark]:
    """What marks moments of the work on a device."""
    return partial(CudaMark, device) if device.type == "cuda" else WallMark


class StageClock:
    """Seconds per stage, divided among the images of a batch.

    A stage lasts from its beginning to its end as `mark` has them. For a GPU these are moments in the
    stream in which the stage is done: the features end when they are computed, not when they have been
    asked for, and what is done in another stream beside has a time of its own.

    Args:
        images: Number of images.
        mark: Marks the moment at which it is called.
    """

    def __init__(self, images: int, mark: Callable[[], Mark]) -> None:
        self._images = images
        self._mark = mark
        self._marks: dict[str, tuple[Mark, Mark]] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Surrounds what a stage does."""
        begin = self._mark()
        with stage_probe.get()(name):
            yield
        self._marks[name] = (begin, self._mark())

    def read(self) -> dict[str, float]:
        """Seconds of each stage, in their order; waits for a GPU that is not through with them."""
        return {
            name: begin.seconds_until(end) / self._images
            for name, (begin, end) in self._marks.items()
        }
