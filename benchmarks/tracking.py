"""Identities and labels over frames on the synthetic camera, with its true ids.

    python benchmarks/tracking.py                   # true masks with errors: the tracker alone
    python benchmarks/tracking.py --profile mini    # the whole pipeline

Per 100 frames, all things together: identity switches (another track id than when the thing was
last seen), fragments (further ids of a thing) and label flips, with and without smoothing. And how
far positions are from the median of the true visible surface, with the camera's depth.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable
from datetime import date

import numpy as np
from numpy.typing import NDArray

from zgs_ros.config import NodeSettings, TrackingSettings, make_settings
from zgs_ros.evaluation.noisy_vision import NoisyVision
from zgs_ros.evaluation.tracking import (
    TrackingScore,
    match_truth,
    position_errors,
    score_tracking,
)
from zgs_ros.segmentation import Segment, Segmentation
from zgs_ros.segmenter import load_segmenter
from zgs_ros.synthetic import Frame, SyntheticCamera
from zgs_ros.tracking import Tracker

Vision = Callable[[Frame], Segmentation]


def measure(
    camera: SyntheticCamera, frames: int, see: Vision, trackings: list[TrackingSettings]
) -> tuple[list[TrackingScore], list[float]]:
    """Scores of the same segments per kind of tracking, and the errors of their positions."""
    trackers = [Tracker(settings) for settings in trackings]
    seen: list[list[dict[int, Segment]]] = [[] for _ in trackers]
    errors: list[float] = []
    for index in range(frames):
        frame = camera.frame(index)
        segmentation = see(frame)
        errors += position_errors(frame.instances, frame.depth, frame.intrinsics, segmentation)
        for tracker, matched in zip(trackers, seen, strict=True):
            tracked = tracker.update(segmentation, index / camera.rate_hz)
            matched.append(match_truth(frame.instances, tracked))
    return [score_tracking(matched) for matched in seen], errors


def main() -> None:
    options = parse()
    settings = make_settings(NodeSettings, {"profile": options.profile or "mini"})
    see = None
    if options.profile:
        segmenter = load_segmenter(settings)

        def see(frame: Frame) -> Segmentation:
            return segmenter.segment(frame.rgb)

    smoothings = [0.0, settings.tracking.smoothing]
    trackings = [settings.tracking.model_copy(update={"smoothing": s}) for s in smoothings]
    rows: list[NDArray[np.float64]] = []
    errors: list[float] = []
    print(f"{date.today()}, {platform.processor() or platform.machine()}, {options}")
    print("seed  smoothing [s]  seen/frame  switches  fragments  label flips  (per 100 frames)")
    for seed in options.seeds:
        camera = SyntheticCamera(seed, options.height, options.height * 4 // 3, options.rate)
        vision = NoisyVision({n: t.phrase for n, t in camera.things.items()}, seed=seed)
        scores, gaps = measure(
            camera,
            options.frames,
            see or (lambda frame, vision=vision: vision.see(frame.instances)),
            trackings,
        )
        errors += gaps
        rows.append(np.array([row(score) for score in scores]))
        show(str(seed), smoothings, rows[-1])
    show("mean", smoothings, np.mean(rows, 0))
    p50, p95 = np.percentile(errors, (50, 95))
    print(
        f"position error: {p50:.1%} of the distance at the median, {p95:.1%} at the 95th percentile"
    )


def row(score: TrackingScore) -> list[float]:
    counts = (score.switches, score.fragments, score.flips)
    return [score.observations / score.frames, *map(score.per_100_frames, counts)]


def show(name: str, smoothings: list[float], table: NDArray[np.float64]) -> None:
    for seconds, values in zip(smoothings, table, strict=True):
        print(
            f"{name:>4}  {seconds:13g}  {values[0]:10.1f}  {values[1]:8.1f}  {values[2]:9.1f}"
            f"  {values[3]:11.1f}",
            flush=True,
        )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="", help="segment with this profile's models")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--rate", type=float, default=10.0, help="frames per second of scene time")
    parser.add_argument("--height", type=int, default=240, help="rows; columns are 4/3 of it")
    return parser.parse_args()


if __name__ == "__main__":
    main()
