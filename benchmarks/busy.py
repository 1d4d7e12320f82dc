"""What is left of the rate beside a busy process on each core: `python benchmarks/busy.py`.

Segments pictures of the synthetic camera as the node does, alone and beside processes that do nothing but
count, one bound to each core, in turn. Each variant is a process of its own with its environment:
how OpenMP's threads wait for each other, how many there are, which backend computes. Ends with 1 where the
first variant, which is what `zgs run` does, keeps less than `LEAST` of its rate.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from zgs_ros.threads import wait_without_spinning

LEAST = 0.4
VARIANTS: dict[str, tuple[dict[str, str], list[str]]] = {
    "as `zgs run` does": ({}, []),
    "threads that spin while they wait": ({"OMP_WAIT_POLICY": "active"}, []),
    "one thread": ({"OMP_NUM_THREADS": "1"}, []),
    "OpenVINO": ({}, ["backend=openvino"]),
}
COUNTING = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass"


def work(profile: str, pairs: list[str]) -> None:
    """Tells how many pictures it segmented in so many seconds, for every number of seconds that it reads."""
    wait_without_spinning()  # before PyTorch is imported
    from zgs_ros.bench.measuring import camera_frames
    from zgs_ros.bench.models import make_bench
    from zgs_ros.config import NodeSettings, make_settings

    given = dict(pair.split("=") for pair in pairs)
    values = {"profile": profile, "labeling.method": "retrieval", **given}
    segment = make_bench(make_settings(NodeSettings, values), 20).segmenter.segment_batch
    frames = camera_frames(640, 480)
    for frame in frames:
        segment(frame)
    print("ready", flush=True)
    for line in sys.stdin:
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < float(line):
            segment(frames[count % len(frames)])
            count += 1
        print(count / (time.perf_counter() - start), flush=True)


@contextmanager
def busy_cores() -> Iterator[None]:
    """A process on each core that this one may use."""
    processes = [
        subprocess.Popen([sys.executable, "-c", COUNTING, str(core)])
        for core in sorted(os.sched_getaffinity(0))
    ]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure(
    profile: str, name: str, seconds: float, rounds: int
) -> tuple[list[float], list[float]]:
    """Rates of a variant alone and beside busy processes, images/s."""
    environment, pairs = VARIANTS[name]
    command = [sys.executable, __file__, "--profile", profile, "--work", *pairs]
    worker = subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert worker.stdin
    assert worker.stdout
    answers, ask = worker.stdout, worker.stdin

    def rate() -> float:
        ask.write(f"{seconds}\n")
        ask.flush()
        return float(answers.readline())

    try:
        while answers.readline() != "ready\n":
            if worker.poll() is not None:
                raise SystemExit(f"{name}: its process ended with {worker.returncode}")
        alone, beside = [], []
        for _ in range(rounds):
            alone.append(rate())
            with busy_cores():
                beside.append(rate())
        return alone, beside
    finally:
        worker.kill()
        worker.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="edge")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--variants", type=int, default=len(VARIANTS), help="the first so many")
    parser.add_argument("--work", nargs="*", default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work is not None:
        work(options.profile, options.work)
        return 0
    print("| | alone | beside | left |\n|---|---:|---:|---:|", flush=True)
    left = []
    for name in list(VARIANTS)[: options.variants]:
        alone, beside = measure(options.profile, name, options.seconds, options.rounds)
        left.append(statistics.median(b / a for a, b in zip(alone, beside, strict=True)))
        rates = [f"{statistics.median(found):.2f} images/s" for found in (alone, beside)]
        print(f"| {name} | {rates[0]} | {rates[1]} | {100 * left[-1]:.0f} % |", flush=True)
    print(f"\nat least {100 * LEAST:.0f} % of the first; load {os.getloadavg()[0]:.1f}")
    return int(left[0] < LEAST)


if __name__ == "__main__":
    raise SystemExit(main())
