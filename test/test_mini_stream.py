"""Identities, labels and places that the whole pipeline gives over frames of the synthetic camera."""

from __future__ import annotations

import numpy as np
import pytest

from zgs_ros.config import NodeSettings, make_settings
from zgs_ros.evaluation.tracking import match_truth, position_errors, score_tracking
from zgs_ros.segmentation import Segment
from zgs_ros.segmenter import load_segmenter
from zgs_ros.synthetic import SyntheticCamera
from zgs_ros.tracking import Tracker

FRAMES, RATE = 100, 10.0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ids_hold_labels_do_not_flicker_and_places_are_right() -> None:
    """What is promised of the mini models: see docs/benchmarks.md."""
    settings = make_settings(NodeSettings, {"profile": "mini"})
    segmenter = load_segmenter(settings)
    switches, flips, errors = 0, {True: 0, False: 0}, []
    seeds = (1, 2)
    for seed in seeds:
        camera = SyntheticCamera(seed, height=240, width=320, rate_hz=RATE)
        trackers = {
            True: Tracker(settings.tracking),
            False: Tracker(settings.tracking.model_copy(update={"smoothing": 0.0})),
        }
        seen: dict[bool, list[dict[int, Segment]]] = {True: [], False: []}
        for index in range(FRAMES):
            frame = camera.frame(index)
            found = segmenter.segment(frame.rgb)
            for smooth, tracker in trackers.items():
                tracked = tracker.update(found, index / RATE)
                seen[smooth].append(match_truth(frame.instances, tracked))
            errors += position_errors(frame.instances, frame.depth, frame.intrinsics, found)
        scores = {smooth: score_tracking(frames) for smooth, frames in seen.items()}
        assert scores[True].observations > 400
        switches += scores[True].switches
        for smooth, score in scores.items():
            flips[smooth] += score.flips
    assert 100 * switches / (FRAMES * len(seeds)) <= 2
    assert flips[True] <= flips[False] / 2
    assert np.median(errors) < 0.05
