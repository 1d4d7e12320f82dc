"""Which backend computes a step how fast: `python benchmarks/backends.py --profiles edge fast`.

The steps that `zgs export` writes (features, encoding; random weights of real size), by PyTorch, OpenVINO and
ONNX Runtime, in turn, in each arithmetic that they have on the CPU. Ratios are medians of those within one
round, against PyTorch in the same arithmetic; "off by" is the relative difference from PyTorch in float32 on
random input. A backend stays where it wins `KEPT` or more.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from zgs_ros.bench.measuring import describe_machine
from zgs_ros.bench.models import random_clip, random_dino
from zgs_ros.config import NodeSettings, make_settings
from zgs_ros.engines.making import make_engines
from zgs_ros.engines.running import Backend, open_engine
from zgs_ros.models.precision import DTYPES, multiplies_bfloat16

KEPT = 1.3
CPU = torch.device("cpu")
SIZE = (640, 480)

Compute = Callable[[Tensor], Tensor]


def computations(
    values: dict[str, str], folder: Path
) -> dict[str, tuple[Tensor, dict[tuple[str, str], Compute]]]:
    """By step an input, and what computes it by backend and arithmetic."""
    settings = make_settings(NodeSettings, values)
    arithmetics = ["float32", *(["bfloat16"] if multiplies_bfloat16() else [])]
    models = {
        name: (
            random_dino(settings.dino, CPU, DTYPES[name]),
            random_clip(settings.clip, CPU, DTYPES[name]),
        )
        for name in arithmetics
    }
    manifest = make_engines(settings, *models["float32"], folder, SIZE)
    generator = torch.Generator().manual_seed(1)
    found = {}
    for step, entry in manifest.steps.items():
        by: dict[tuple[str, str], Compute] = {}
        for name, (dino, clip) in models.items():
            if step == "features":
                by["PyTorch", name] = dino
            else:
                by["PyTorch", name] = lambda x, c=clip, t=DTYPES[name]: c.encode_pixels(x.to(t))[0]
        for backend in get_args(Backend):
            for name in arithmetics if backend == "openvino" else ["float32"]:
                engine = open_engine(folder / entry.file, entry.inputs, backend, CPU, DTYPES[name])
                by[backend, name] = lambda x, e=engine: e(x)[0]
        found[step] = torch.rand(entry.inputs[0], generator=generator), by
    return found


@torch.inference_mode()
def rows(title: str, x: Tensor, by: dict[tuple[str, str], Compute], repeats: int) -> list[str]:
    """Of the table, for one step."""
    results = {key: compute(x).float() for key, compute in by.items()}
    exact = results["PyTorch", "float32"]
    rounds = []
    for _ in range(repeats):
        times = {}
        for key, compute in by.items():
            start = time.perf_counter()
            compute(x)
            times[key] = time.perf_counter() - start
        rounds.append(times)
    lines = []
    for key in by:
        backend, name = key
        ratio = statistics.median(times["PyTorch", name] / times[key] for times in rounds)
        milliseconds = 1e3 * statistics.median(times[key] for times in rounds)
        off = float((results[key] - exact).norm() / exact.norm())
        won = "" if backend == "PyTorch" else f"{ratio:.2f}{' (stays)' if ratio >= KEPT else ''}"
        lines.append(f"| {title} | {backend} | {name} | {milliseconds:.1f} | {won} | {off:.0e} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profiles", nargs="+", default=["edge", "fast"])
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    machine = describe_machine(CPU)
    print(
        f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads, "
        f"load {os.getloadavg()[0]:.1f}, torch {machine['torch']}, {date.today()}\n"
    )
    print("| step | backend | arithmetic | ms | times as fast | off by |")
    print("|---|---|---|---:|---:|---:|")
    for profile in options.profiles:
        values = {"profile": profile, "clip.mode": "dense", "labeling.method": "retrieval"}
        with tempfile.TemporaryDirectory() as folder:
            for step, (x, by) in computations(values, Path(folder)).items():
                for line in rows(f"{profile}, {step}", x, by, options.repeats):
                    print(line, flush=True)


if __name__ == "__main__":
    main()
