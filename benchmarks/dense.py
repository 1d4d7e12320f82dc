"""What a hundred segments cost beside ten where all are embedded in one pass: `python benchmarks/dense.py`.

One picture goes through CLIP's image tower, and its segments are embedded, ten and a hundred of them in turn.
Ends with 1 where a hundred cost more than `MOST` times what ten do. Profile `edge`, random weights.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from zgs_ros.bench.given import tile
from zgs_ros.bench.measuring import camera_frames, describe_run
from zgs_ros.bench.models import make_bench
from zgs_ros.bench.report import run_line
from zgs_ros.config import NodeSettings, make_settings
from zgs_ros.embedding.coverage import Tiling
from zgs_ros.gpu.upload import upload

SIZE = (640, 480)
FEW, MANY = 10, 100
MOST = 1.1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=30)
    options = parser.parse_args()
    settings = make_settings(NodeSettings, {"profile": "edge"})
    bench = make_bench(settings, FEW, SIZE)
    frame = upload(camera_frames(*SIZE)[0][0], bench.device)
    labels = {count: tile(SIZE[1], SIZE[0], count) for count in (FEW, MANY)}

    def embed(count: int) -> tuple[float, float]:
        """Seconds of the pass and of the segments."""
        start = time.perf_counter()
        encoded = bench.clip.encode([frame])
        between = time.perf_counter()
        bench.clip.embed(encoded, [Tiling(labels[count], count).alone()])
        return between - start, time.perf_counter() - between

    rounds = [{count: embed(count) for count in labels} for _ in range(3 + options.repeats)][3:]
    run = {**describe_run(bench, SIZE), "clock": "wall", "given_segments": f"{FEW} and {MANY}"}
    print(run_line(run), "", sep="\n")
    print("| segments | the pass | segments | together |\n|---:|---:|---:|---:|")
    for count in labels:
        parts = [statistics.median(found[count][part] for found in rounds) for part in (0, 1)]
        whole = statistics.median(sum(found[count]) for found in rounds)
        print(f"| {count} | " + " | ".join(f"{1e3 * s:.1f} ms" for s in (*parts, whole)) + " |")
    ratio = statistics.median(sum(found[MANY]) / sum(found[FEW]) for found in rounds)
    alone = statistics.median(found[MANY][1] / found[FEW][1] for found in rounds)
    print(
        f"\n{MANY} against {FEW}: {ratio:.2f} together (at most {MOST}), {alone:.2f} without the pass"
    )
    return int(ratio > MOST)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    raise SystemExit(main())
