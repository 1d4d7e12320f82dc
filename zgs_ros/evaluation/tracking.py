"""How well identities, labels and places hold over frames, against the truth of the synthetic camera."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from zgs_ros.geometry import CameraModel, locate
from zgs_ros.segmentation import Segment, Segmentation

MIN_OVERLAP = 0.5
"""Intersection over union from which on a segment shows a thing, as in the CLEAR MOT metrics."""


@dataclass(frozen=True)
class TrackingScore:
    """Counts over a sequence.

    Attributes:
        frames: Frames of the sequence.
        things: True things that were seen at least once.
        observations: Segments that show a thing.
        switches: How often a thing has another track id than when it was last seen (CLEAR MOT's
            identity switches).
        fragments: Further track ids that a thing had beside its first one, summed over things.
        flips: How often a thing has another label than when it was last seen.
    """

    frames: int
    things: int
    observations: int
    switches: int
    fragments: int
    flips: int

    def per_100_frames(self, count: int) -> float:
        """A count per 100 frames, all things together."""
        return 100.0 * count / max(self.frames, 1)


def match_truth(instances: NDArray[np.uint16], segmentation: Segmentation) -> dict[int, Segment]:
    """The segment that shows each true thing; things that no segment shows are left out.

    Args:
        instances: uint16 (height, width) true ids.
        segmentation: Of the same picture.
    """
    true_ids, truth = np.unique(instances, return_inverse=True)
    ids = np.array([0, *(segment.id for segment in segmentation.segments)])
    found = np.searchsorted(ids, segmentation.label_map.ravel())
    pairs = np.bincount(truth.ravel() * len(ids) + found, minlength=len(true_ids) * len(ids))
    shared = pairs.reshape(len(true_ids), len(ids))
    union = shared.sum(1, keepdims=True) + shared.sum(0, keepdims=True) - shared
    overlap = (shared / np.maximum(union, 1))[:, 1:]
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    return {
        int(true_ids[row]): segmentation.segments[column]
        for row, column in zip(rows, columns, strict=True)
        if overlap[row, column] >= MIN_OVERLAP
    }


def position_errors(
    instances: NDArray[np.uint16],
    depth: NDArray[np.float32],
    intrinsics: NDArray[np.float64],
    segmentation: Segmentation,
) -> list[float]:
    """How far from the truth the segments' positions are, as shares of the true distance.

    The truth is the median of the visible surface of the thing that a segment shows.

    Args:
        instances: uint16 (height, width) true ids.
        depth: float32 (height, width) true depth [m], inf or 0 where there is none.
        intrinsics: float64 (3, 3).
        segmentation: Of the same picture.
    """
    camera = CameraModel(intrinsics, (depth.shape[0], depth.shape[1]))
    placed = locate(segmentation, depth, camera)
    valid = np.isfinite(depth) & (depth > 0)
    errors = []
    for thing, segment in match_truth(instances, placed).items():
        surface = valid & (instances == thing)
        if segment.placement is None or not surface.any():
            continue
        z = depth[surface]
        truth = np.median(np.column_stack([camera.rays[surface] * z[:, None], z]), axis=0)
        gap = np.linalg.norm(np.array(segment.placement.position) - truth)
        errors.append(float(gap / np.linalg.norm(truth)))
    return errors


def score_tracking(frames: Iterable[Mapping[int, Segment]]) -> TrackingScore:
    """Counts over a sequence.

    Args:
        frames: Per frame the segment that shows each true thing, see `match_truth`.
    """
    last: dict[int, Segment] = {}
    ids: dict[int, set[int]] = {}
    count = observations = switches = flips = 0
    for frame in frames:
        count += 1
        for thing, segment in frame.items():
            observations += 1
            if thing in last:
                switches += segment.track_id != last[thing].track_id
                flips += segment.label != last[thing].label
            last[thing] = segment
            ids.setdefault(thing, set()).add(segment.track_id)
    fragments = sum(len(known) - 1 for known in ids.values())
    return TrackingScore(count, len(ids), observations, switches, fragments, flips)
