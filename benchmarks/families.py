"""What each family of backbones costs and can do: `python benchmarks/families.py`, as Markdown.

One model of each, of its real size with random weights, nothing downloaded: features of a 640 x 480 image
at the stride of a patch, and the embeddings of 20 segments by `clip.mode: dense`, on the CPU in the
arithmetic that ``precision: auto`` takes. Operations are counted as by `zgs bench`. On a machine that does
other work, `OMP_NUM_THREADS=1 python benchmarks/families.py --clock cpu` takes seconds of one core.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from datetime import date

import torch

from zgs_ros.bench.families import (
    FEATURES,
    LANGUAGE,
    features_table,
    language_table,
    measure,
)
from zgs_ros.bench.measuring import describe_machine
from zgs_ros.bench.probes import CPU as CPU_TIME
from zgs_ros.bench.probes import WALL
from zgs_ros.config import SegmenterSettings
from zgs_ros.evaluation.tables import to_markdown
from zgs_ros.models.precision import resolve_precision
from zgs_ros.texts import width_and_height

CPU = torch.device("cpu")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--size", default="640x480", metavar="WxH")
    parser.add_argument("--clock", default="wall", choices=["wall", "cpu"])
    parser.add_argument("--only", default="", help="part of a model's name")
    options = parser.parse_args(arguments)
    size = width_and_height(options.size)
    if size is None:
        parser.error(f"--size {options.size!r}: must be WIDTHxHEIGHT, for example 640x480")
    precision = resolve_precision(SegmenterSettings(), CPU)
    given = (size, precision, options.repeats, CPU_TIME if options.clock == "cpu" else WALL)
    features = {f: measure(f, *given) for f in FEATURES if options.only in f.model}
    language = {f: measure(f, *given) for f in LANGUAGE if options.only in f.model}
    machine = describe_machine(CPU)
    print(
        f"{machine['processor']}, {machine['threads']} threads, {precision}, {options.clock} time, "
        f"load {os.getloadavg()[0]:.1f}, torch {machine['torch']}, {date.today()}\n"
    )
    print(to_markdown(features_table(features)))
    print(to_markdown(language_table(language)))


if __name__ == "__main__":
    main()
