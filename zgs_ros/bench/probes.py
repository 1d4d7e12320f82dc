"""What a stage costs: seconds, matrix products, memory; and what the machine can do at best."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.utils.flop_counter import FlopCounterMode

from zgs_ros.stages import Probe, stage_probe

NOT_COUNTED = (
    "Counted are matrix products, convolutions, attention and distances, two operations per "
    "multiply-add, in PyTorch; not normalisation, softmax, activations and resampling, and nothing "
    "that NumPy and SciPy do (Ward's last merges, retrieval of labels, masks)."
)

Clock = Callable[[], float]
"""Seconds since some moment."""
WALL: Clock = time.perf_counter
CPU: Clock = time.process_time
"""Of all threads of this process together, which a busy machine changes little."""
T = TypeVar("T")
Times = dict[str, float]
Product = tuple[int, int, int]
"""Rows, inner length and columns of a matrix product."""


@contextmanager
def probing(probe: Probe) -> Iterator[None]:
    """Puts a probe around every stage of the segmenters that this thread calls."""
    token = stage_probe.set(probe)
    try:
        yield
    finally:
        stage_probe.reset(token)


def time_stages(work: Callable[[], T], device: torch.device, clock: Clock) -> tuple[Times, T]:
    """Seconds of each stage of the segmentation that `work` does, and its result.

    A stage ends when the device has done its work.
    """
    seconds: Times = {}

    @contextmanager
    def probe(name: str) -> Iterator[None]:
        start = clock()
        yield
        synchronise(device)
        seconds[name] = clock() - start

    with probing(probe):
        result = work()
    return seconds, result


def timed(work: Callable[[], T], device: torch.device, clock: Clock) -> tuple[float, T]:
    """Seconds until the device has done the work, and its result."""
    synchronise(device)
    start = clock()
    result = work()
    synchronise(device)
    return clock() - start, result


def synchronise(device: torch.device) -> None:
    """Waits until the device has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def count_flops(work: Callable[[], object]) -> dict[str, int]:
    """Operations of each stage of the segmentation that `work` does; see `NOT_COUNTED`."""
    flops: dict[str, int] = {}

    @contextmanager
    def probe(name: str) -> Iterator[None]:
        with flop_counter() as counter:
            yield
        flops[name] = counter.get_total_flops()

    with probing(probe):
        work()
    return flops


def flop_counter() -> FlopCounterMode:
    """Counts also what PyTorch's own counter passes over, depending on its version: fused attention, and
    distances."""
    operators = torch.ops.aten
    return FlopCounterMode(
        display=False,
        custom_mapping={
            operators._native_multi_head_attention: _attention_layer,
            operators._scaled_dot_product_flash_attention_for_cpu: _fused_attention,
            operators._euclidean_dist: _distances,
            operators._cdist_forward: _distances,
        },
    )


def _attention_layer(
    query: Sequence[int], key: Any, value: Any, width: int, *_: Any, **__: Any
) -> int:
    """A whole attention layer, from its input (batch, tokens, width) to its output projection."""
    batch, tokens, _width = query
    projections = 2 * tokens * width * 4 * width
    return batch * (projections + 4 * tokens * tokens * width)


def _fused_attention(
    query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any
) -> int:
    """Q K^T and A V for (batch, heads, tokens, head width)."""
    batch, heads, rows, width = query
    return 2 * batch * heads * rows * key[-2] * (width + value[-1])


def _distances(left: Sequence[int], right: Sequence[int], *_: Any, **__: Any) -> int:
    return 2 * left[-2] * right[-2] * left[-1]


class PeakMemory:
    """The most memory [bytes] that the process, and tensors on its GPU, took since the start."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        with suppress(OSError):  # where there is no such file, the peak since the process began
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets VmHWM
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def read(self) -> dict[str, int]:
        """``process``, and on a GPU ``gpu`` (held by tensors) and ``gpu_reserved``."""
        peak = {"process": _peak_resident()}
        if self._device.type == "cuda":
            peak["gpu"] = torch.cuda.max_memory_allocated(self._device)
            peak["gpu_reserved"] = torch.cuda.max_memory_reserved(self._device)
        return peak


def _peak_resident() -> int:
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS gives bytes
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if "VmHWM" in line)
