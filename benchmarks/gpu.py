"""Real time on a GPU, in under ten minutes: `python benchmarks/gpu.py --out out/gpu`.

Profiles fast and balanced with 16 segments, frame by frame and four cameras in a batch, and profile paper
with retrieval labels; each with and without CUDA graphs. Of every stage: prediction (its matrix products at
the rate that this GPU reaches in the same run), measurement, and gap. Weights are random, so nothing is downloaded.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zgs_ros.bench.measuring import WHOLE, camera_frames, describe_run, measure
from zgs_ros.bench.models import make_bench
from zgs_ros.bench.report import run_line
from zgs_ros.config import SegmenterSettings, make_settings


@dataclass(frozen=True)
class Case:
    """Two rows of the report: a profile, images per call, and the most that p50 may be [ms]."""

    profile: str
    images: int
    target_ms: float | None


CASES = (
    Case("fast", 1, 15.0),
    Case("fast", 4, None),
    Case("balanced", 1, 40.0),
    Case("balanced", 4, None),
    Case("paper", 1, 150.0),
)
BATCH_FACTOR = 2.5
"""Four cameras may take this many times as long as one."""


def run_case(case: Case, cuda_graphs: bool, options: argparse.Namespace) -> dict[str, Any]:
    """Everything measured of a case, JSON-ready."""
    settings = make_settings(
        SegmenterSettings,
        {
            "profile": case.profile,
            "device": options.device,
            "labeling.method": "retrieval",
            "cuda_graphs": cuda_graphs,
        },
    )
    bench = make_bench(settings, options.segments)
    width, height = options.size
    frames = 20 if case.profile == "paper" else options.frames
    found = measure(
        bench,
        camera_frames(width, height, case.images),
        min(frames, options.frames),
        warmup=options.warmup,
    )
    bench.segmenter.close()
    return {
        "run": {**describe_run(bench, (width, height)), "clock": "wall"},
        "target_ms": case.target_ms,
        "cuda_graphs": cuda_graphs,
        **found.to_dict(),
    }


def report(results: list[dict[str, Any]]) -> str:
    """The results as Markdown."""
    lines = [f"- {run_line(found['run'])}" for found in results[:1]]
    lines += [
        "",
        "| profile | images | cuda_graphs | p50 ms | p99 ms | p99/p50 | target | GPU MiB | limit ms |",
    ]
    lines += ["| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for found in results:
        whole = found["stages"][WHOLE]
        target = found["target_ms"]
        cells = (
            found["run"]["profile"],
            str(found["images"]),
            _graphs(found),
            f"{1e3 * whole['p50_s']:.1f}",
            f"{1e3 * whole['p99_s']:.1f}",
            f"{whole['p99_s'] / whole['p50_s']:.2f}",
            f"{target:g}" if target else "-",
            f"{found['memory_bytes'].get('gpu', 0) / 2**20:.0f}",
            f"{1e3 * whole['limit_s']:.1f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *_batch_lines(results)]
    for found in results:
        lines += [
            "",
            f"{found['run']['profile']}, {found['images']} images per call, cuda_graphs {_graphs(found)}:",
            "",
        ]
        lines += ["| stage | predicted ms | measured ms | p99 | gap ms | limit % |"]
        lines += ["| --- | ---: | ---: | ---: | ---: | ---: |"]
        for name, stage in found["stages"].items():
            predicted, measured = 1e3 * stage["limit_s"], 1e3 * stage["p50_s"]
            lines.append(
                f"| {name} | {predicted:.2f} | {measured:.2f} | {1e3 * stage['p99_s']:.2f} "
                f"| {measured - predicted:.2f} | {100 * stage['share_of_limit']:.0f} |"
            )
    return "\n".join(lines) + "\n"


def _graphs(found: dict[str, Any]) -> str:
    return "on" if found["cuda_graphs"] else "off"


def _batch_lines(results: list[dict[str, Any]]) -> list[str]:
    """What a batch of several cameras costs, compared with one of them."""
    single = {
        _way(found): found["stages"][WHOLE]["p50_s"] for found in results if found["images"] == 1
    }
    return [
        f"- {found['run']['profile']}, cuda_graphs {_graphs(found)}: {found['images']} cameras take "
        f"{found['stages'][WHOLE]['p50_s'] / single[_way(found)]:.2f} times as long as one; "
        f"target {BATCH_FACTOR:g}"
        for found in results
        if found["images"] > 1 and _way(found) in single
    ]


def _way(found: dict[str, Any]) -> tuple[str, bool]:
    return found["run"]["profile"], found["cuda_graphs"]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--profiles", nargs="+", help="some of fast, balanced, paper, mini")
    parser.add_argument("--size", type=int, nargs=2, default=(640, 480), metavar=("W", "H"))
    parser.add_argument("--segments", type=int, default=16)
    parser.add_argument("--frames", type=int, default=200, help="measured; at most 20 of paper")
    parser.add_argument("--warmup", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("out/gpu"))
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    cases = [*CASES, Case("mini", 1, None), Case("mini", 4, None)]
    wanted = options.profiles or ["fast", "balanced", "paper"]
    options.out.mkdir(parents=True, exist_ok=True)
    results = []
    for case in cases:
        if case.profile not in wanted:
            continue
        for cuda_graphs in (False, True):
            start = time.monotonic()
            results.append(run_case(case, cuda_graphs, options))
            what = f"{case.profile}, {case.images} images, cuda_graphs {_graphs(results[-1])}"
            print(f"{what}: {time.monotonic() - start:.0f} s", flush=True)
            # Written after every one, so that a run that is cut off leaves what it has.
            (options.out / "gpu.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
            (options.out / "gpu.md").write_text(report(results), encoding="utf-8")
    print((options.out / "gpu.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
