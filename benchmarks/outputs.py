"""What each output costs beyond the segments: `python benchmarks/outputs.py`.

A scene of the synthetic world, 640 x 480 with its depth and true segments, in a frame of its own (so that
points are transformed). Each message is made and serialised as the peer does it, over and over; then all
that Nav2's semantic layer reads, together. Beside it what a frame's classes cost with 1,000 and 10,000
phrases. Median milliseconds, one process.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from zgs_ros.classes.classifier import Classifier
from zgs_ros.classes.groups import ClassGroup
from zgs_ros.classes.registry import ClassRegistry
from zgs_ros.clouds import Surface
from zgs_ros.config import NodeSettings, make_settings
from zgs_ros.dds.types import TypeSupport
from zgs_ros.geometry import CameraModel, locate
from zgs_ros.segmentation import Label, Roi, Segment, Segmentation
from zgs_ros.streaming import messages
from zgs_ros.streaming.outputs import OUTPUTS, Output
from zgs_ros.streaming.pairing import DepthFeed
from zgs_ros.streaming.showing import Showing
from zgs_ros.streaming.stream import Result
from zgs_ros.synthetic.camera import SyntheticCamera
from zgs_ros.transforms import Transform

WIDTH, HEIGHT, DIMENSIONS = 640, 480, 512
TOGETHER = ("label_mask", "confidence", "points")
"""What Nav2's semantic layer reads of every image."""

TYPES = TypeSupport("jazzy")


def made_scene(segments: int) -> Result:
    """A result with so many segments, which tile the picture."""
    frame = SyntheticCamera(0, HEIGHT, WIDTH).frame(0)
    camera = CameraModel(np.asarray(frame.intrinsics, np.float64), (HEIGHT, WIDTH))
    ids = np.arange(WIDTH * HEIGHT).reshape(HEIGHT, WIDTH) * segments // (WIDTH * HEIGHT)
    label_map = (ids + 1).astype(np.uint16)
    embeddings = np.random.default_rng(0).normal(size=(segments, DIMENSIONS)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    seen = tuple(
        Segment(
            number + 1,
            (Label(f"thing {number}", 0.25, 0.5),),
            Roi(0, 0, WIDTH, HEIGHT),
            int((ids == number).sum()),
            (0.0, 0.0),
            embeddings[number],
        )
        for number in range(segments)
    )
    moved = Transform.of_quaternion((1.0, 2.0, 3.0), (0.5, -0.5, 0.5, -0.5))
    surface = Surface(frame.depth, camera, "map", moved, upright=True)
    header = messages.header(TYPES, 1_700_000_000_000_000_000, "camera")
    placed = locate(Segmentation(label_map, seen), frame.depth, camera, moved)
    ticket = DepthFeed(0.1).expect(header)
    return Result("", header, frame.rgb, placed, 0.1, ticket, surface, target_frame="map")


def median_ms(work: Callable[[], object], repeats: int) -> float:
    """Median wall time of some work, after it ran three times unmeasured."""
    for _ in range(3):
        work()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return float(np.median(times)) * 1e3


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--segments", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=200)
    options = parser.parse_args()
    result = made_scene(options.segments)
    every = {"depth.enabled": True, "publish_detections": True, "publish_features": True}
    settings = make_settings(NodeSettings, every)
    random = np.random.default_rng(1)

    def embed(phrases: Any) -> NDArray[np.float32]:
        rows = random.normal(size=(len(phrases), DIMENSIONS)).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    classifier = Classifier(ClassRegistry(), embed)
    result = replace(result, segmentation=classifier.classify(result.segmentation))

    def make(*rows: Output) -> None:
        showing = Showing(TYPES, result, settings, classifier, SimpleNamespace())
        for row in rows:
            if (message := row.make(showing)) is not None:
                TYPES.serialize(message)

    table = Table(title=f"{WIDTH} x {HEIGHT}, {options.segments} segments", box=None)
    table.add_column("output")
    table.add_column("ms", justify="right")
    by_name = {row.topic: row for row in OUTPUTS}
    for row in OUTPUTS:
        table.add_row(row.topic, f"{median_ms(lambda row=row: make(row), options.repeats):.2f}")
    rows = [by_name[name] for name in TOGETHER]
    together = median_ms(lambda: make(*rows), options.repeats)
    table.add_row(" + ".join(TOGETHER), f"{together:.2f}")
    for count in (0, 1000, 10_000):
        phrases = tuple(f"phrase {number}" for number in range(count))
        groups = [ClassGroup(1, "many", phrases)] if count else []
        used = Classifier(ClassRegistry(), embed, groups)
        while used.missing:
            used.embed_some()

        def name(used: Classifier = used) -> Segmentation:
            return used.find_classes(result.segmentation)

        table.add_row(f"classes, {count:,} phrases", f"{median_ms(name, options.repeats):.2f}")
    Console(width=100).print(table)
    print(f"{date.today()}, {platform.processor() or platform.machine()}, load {os.getloadavg()}")


if __name__ == "__main__":
    main()
