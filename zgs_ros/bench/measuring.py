"""Times of the stages and of the whole, beside the machine's rate in the same minutes."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from zgs_ros import __version__
from zgs_ros.bench.limit import ProductRate, libraries, processor_peak
from zgs_ros.bench.models import Bench
from zgs_ros.bench.probes import (
    WALL,
    Clock,
    PeakMemory,
    Product,
    count_flops,
    time_stages,
)
from zgs_ros.gpu.upload import upload
from zgs_ros.segmentation import Segmentation
from zgs_ros.synthetic import SyntheticCamera

Image = NDArray[np.uint8]

WHOLE = "whole"
FRAMES = 4
"""Different pictures of the synthetic camera, in turn."""
CAPTURING_CALLS = 3
"""Calls until what comes in every call is replayed."""


@dataclass(frozen=True)
class Spread:
    """Seconds over all repetitions."""

    p50: float
    p10: float
    p90: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        """Percentiles of at least one value."""
        return cls(*(float(value) for value in np.percentile(seconds, (50, 10, 90, 99))))


@dataclass(frozen=True)
class Measurement:
    """What a segmenter costs per call, that is per batch of images.

    Attributes:
        images: Images per call.
        stages: Seconds of each stage, and of the ``whole``.
        flops: Operations of each stage, and of the ``whole``; see `probes.NOT_COUNTED`.
        rates: Operations per second in matrix products, by library and size.
        peak: Those that the processor can do at most, None where that is unknown.
        memory: Peak bytes, see `probes.PeakMemory`.
        segments: Per call, after merging.
        repeats: Number of calls measured.
    """

    images: int
    stages: dict[str, Spread]
    flops: dict[str, int]
    rates: dict[str, dict[str, float]]
    peak: float | None
    memory: dict[str, int]
    segments: float
    repeats: int

    @property
    def rate(self) -> float:
        """The machine's limit: operations per second at the size and with the library that do best."""
        return max(rate for by_size in self.rates.values() for rate in by_size.values())

    def limit(self, stage: str) -> float:
        """Seconds that the stage's operations take at the machine's rate."""
        return self.flops.get(stage, 0) / self.rate

    def share(self, stage: str) -> float:
        """Limit / achieved: 1 where a stage does nothing but matrix products at full speed."""
        return self.limit(stage) / self.stages[stage].p50

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        stages = {
            name: {
                **{f"{key}_s": value for key, value in asdict(spread).items()},
                "flops": self.flops.get(name, 0),
                "limit_s": self.limit(name),
                "share_of_limit": self.share(name),
            }
            for name, spread in self.stages.items()
        }
        return {
            "images": self.images,
            "stages": stages,
            "rates_flops": self.rates,
            "rate_flops": self.rate,
            "processor_peak_flops": self.peak,
            "memory_bytes": self.memory,
            "segments": self.segments,
            "repeats": self.repeats,
        }


def measure(
    bench: Bench,
    batches: Sequence[Sequence[Image]],
    repeats: int,
    warmup: int = 1,
    clock: Clock = WALL,
) -> Measurement:
    """Measures a segmenter.

    Matrix products are timed in turn with the calls, so that what else the machine does meets both.

    Args:
        bench: What is measured.
        batches: Images that go through together; taken in turn.
        repeats: Number of calls measured.
        warmup: Number of calls before, at least one: operations are counted in the first. Some more
            where CUDA graphs are captured, so that none is meanwhile.
        clock: What time is.
    """
    segment = bench.segmenter.segment_batch
    memory = PeakMemory(bench.device)
    flops = count_flops(lambda: segment(batches[0]))
    flops[WHOLE] = sum(flops.values())
    capturing = CAPTURING_CALLS if bench.settings.cuda_graphs else 1
    for call in range(1, max(warmup, capturing)):
        segment(batches[call % len(batches)])
    peak = memory.read()
    sizes = linear_layers(bench, batches[0])
    products = {
        (name, "x".join(map(str, size))): ProductRate(
            size, bench.device, bench.precision, clock, library
        )
        for name, library in libraries(bench.device, bench.precision).items()
        for size in sizes
    }
    found_rates: dict[tuple[str, str], list[float]] = {key: [] for key in products}
    stages: dict[str, list[float]] = {}
    found: list[int] = []
    for call in range(repeats):
        batch = batches[call % len(batches)]
        for key, product in products.items():
            found_rates[key].append(product.measure())
        seconds, results = _timed(bench, batch, clock)
        for name, value in seconds.items():
            stages.setdefault(name, []).append(value)
        found.append(sum(len(result.segments) for result in results))
    rates: dict[str, dict[str, float]] = {}
    for (name, size_name), values in found_rates.items():
        rates.setdefault(name, {})[size_name] = float(np.median(values))
    return Measurement(
        images=len(batches[0]),
        stages={name: Spread.of(values) for name, values in stages.items()},
        flops=flops,
        rates=rates,
        peak=processor_peak(torch.get_num_threads(), bench.precision)
        if bench.device.type == "cpu"
        else None,
        memory=peak,
        segments=float(np.mean(found)),
        repeats=repeats,
    )


def linear_layers(bench: Bench, images: Sequence[Image]) -> list[Product]:
    """Sizes of the models' widest layers: of features, of encoding, and of embedding."""
    sides = bench.dino.resize([upload(images[0], bench.device)]).shape[-2:]
    rows, columns = ((side - bench.dino.patch) // bench.dino.stride + 1 for side in sides)
    tower = bench.tower
    tokens = 1 + tower.grid[0] * tower.grid[1]
    width = tower.width
    segments = min(bench.settings.clip.segment_batch, bench.segments or 1)
    return [
        _widening(len(images) * (1 + rows * columns), int(bench.dino.model.embed_dim)),
        _widening(len(images) * tokens, width),
        _widening(segments * tokens, width),
    ]


def _widening(rows: int, width: int) -> Product:
    """The first layer of a transformer's MLP."""
    return rows, width, 4 * width


def _timed(
    bench: Bench, batch: Sequence[Image], clock: Clock
) -> tuple[dict[str, float], list[Segmentation]]:
    """Seconds per stage and of the whole, for a batch."""

    def work() -> list[Segmentation]:
        return bench.segmenter.segment_batch(batch)

    start = clock()
    stages, results = time_stages(work, bench.device, clock)
    whole = clock() - start
    if bench.device.type != "cpu":  # waiting for every stage costs time, so once more without
        start = clock()
        work()
        whole = clock() - start
    return {**stages, WHOLE: whole}, results


def camera_frames(width: int, height: int, images: int = 1) -> list[list[Image]]:
    """Batches of pictures that the synthetic camera takes.

    Raises:
        ValueError: If a picture of this size is too small.
    """
    camera = SyntheticCamera(seed=0, height=height, width=width)
    taken = [camera.frame(5 * number).rgb for number in range(FRAMES * images)]
    return [taken[start : start + images] for start in range(0, len(taken), images)]


def describe_run(bench: Bench, size: tuple[int, int]) -> dict[str, Any]:
    """What the numbers depend on, JSON-ready."""
    return {
        "version": __version__,
        "date": date.today().isoformat(),
        "machine": describe_machine(bench.device),
        "profile": bench.settings.profile,
        "models": [bench.settings.dino.model, bench.settings.clip.model],
        "size": f"{size[0]}x{size[1]}",
        "given_segments": bench.segments,
        "device": str(bench.device),
        "precision": str(bench.precision).removeprefix("torch."),
        "backend": {name: engine.runs_on for name, engine in bench.engines.items()} or "torch",
    }


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Processor, its cores and the threads used, GPU, versions, and what else ran."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load": os.getloadavg()[0],
    }


def processor_name() -> str:
    """As the system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
