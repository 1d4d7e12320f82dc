"""Identity over frames: the same thing keeps its `track_id`, and its label does not flicker.

Segments are assigned to the tracks of earlier frames by the overlap of their masks, shifted as the
track moved, and by their embeddings; the assignment is the best one over all pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from scipy.optimize import linear_sum_assignment

from zgs_ros.config import TrackingSettings
from zgs_ros.segmentation import Label, Segment, Segmentation

GRID_PIXELS = 320 * 240
"""Masks are compared on about this many pixels, whatever the size of the image."""

REACH = 0.1
"""Without overlap a thing may be this far [image diagonals] from where it is expected, ..."""

REACH_PER_SECOND = 1.0
"""... and this much further for every second that it was not seen."""

MAX_GROWTH = 4.0
"""Factor by which the area may change where only the embedding speaks for the same thing."""

STEADY_GROWTH = 1.25
"""Factor by which the area may change where the centroid tells of motion, not of lost parts."""

VELOCITY_SECONDS = 0.3
"""Time constant that a track's motion is averaged over."""

MAX_TEXTS = 64
"""Label texts that a track remembers."""


class Tracker:
    """Gives the segments of one camera's frames their `track_id`, and smooths their labels.

    Not thread-safe: one thread owns it.

    Args:
        settings: What counts as the same thing, and for how long; replace `settings` to change them.
    """

    def __init__(self, settings: TrackingSettings) -> None:
        self.settings = settings
        self._tracks: list[_Track] = []
        self._last_id = 0
        self._last_seconds = -math.inf
        self._kind: tuple[tuple[int, int], str] | None = None

    def update(self, segmentation: Segmentation, seconds: float) -> Segmentation:
        """The next frame's segmentation with track ids and smoothed labels.

        Tracks start anew, with ids not used before, when the time jumps back and when the size of
        the image or the embedding space changes.

        Args:
            segmentation: What was seen.
            seconds: When; the frame's stamp.
        """
        kind = (segmentation.size, segmentation.model)
        if seconds < self._last_seconds or kind != self._kind:
            self._tracks.clear()
        # What was in the last frame stays, however long ago that was.
        oldest = min(seconds - self.settings.max_age, self._last_seconds)
        self._last_seconds, self._kind = seconds, kind
        self._tracks = [track for track in self._tracks if track.seen >= oldest]
        grid = _Grid(segmentation)
        found = self._assign(segmentation, grid, seconds)
        segments = []
        for index, segment in enumerate(segmentation.segments):
            track = found.get(index) or self._start()
            track.observe(segment, grid.outline(index), seconds, self.settings)
            labels = track.texts.best(len(segment.labels))
            segments.append(replace(segment, track_id=track.id, labels=labels))
        return replace(segmentation, segments=tuple(segments))

    def _start(self) -> _Track:
        self._last_id += 1
        self._tracks.append(_Track(self._last_id))
        return self._tracks[-1]

    def _assign(self, segmentation: Segmentation, grid: _Grid, seconds: float) -> dict[int, _Track]:
        """The track of each segment that continues one, by the segment's index."""
        tracks = self._tracks
        if not tracks or not segmentation.segments:
            return {}
        overlap = np.stack([track.overlap(grid, seconds) for track in tracks])
        similarity = np.stack([t.embedding for t in tracks]) @ segmentation.embeddings.T
        nearness = np.stack([self._nearness(track, grid, seconds) for track in tracks])
        alike = (similarity >= self.settings.min_similarity) & (nearness > 0)
        # Overlap and embedding count alike; place decides between things that look the same.
        affinity = np.where(
            (overlap >= self.settings.min_overlap) | alike,
            overlap + np.maximum(similarity, 0.0) + 0.1 * nearness,
            0.0,
        )
        rows, columns = linear_sum_assignment(affinity, maximize=True)
        return {
            int(column): tracks[row]
            for row, column in zip(rows, columns, strict=True)
            if affinity[row, column] > 0
        }

    def _nearness(self, track: _Track, grid: _Grid, seconds: float) -> NDArray[np.float64]:
        """1 where the track is expected, falling to 0 at the edge of its reach; (segments,)."""
        diagonal = math.hypot(*grid.labels.shape)
        reach = diagonal * (REACH + REACH_PER_SECOND * (seconds - track.seen))
        expected = track.expected(seconds)
        distance = np.linalg.norm(grid.centroids - expected.centroid, axis=1)
        growth = grid.areas / expected.area
        near = np.maximum(1.0 - distance / reach, 0.0)
        return np.where((growth <= MAX_GROWTH) & (growth >= 1 / MAX_GROWTH), near, 0.0)


class _Grid:
    """A label map on a coarse grid.

    Attributes:
        labels: int32 (rows, columns), index of the pixel's segment + 1, 0 = none.
        areas: Pixels of each segment in the image, (segments,).
        centroids: Mean (row, column) of each segment on the grid, (segments, 2).
    """

    def __init__(self, segmentation: Segmentation) -> None:
        height, width = segmentation.size
        step = max(1, round(math.sqrt(height * width / GRID_PIXELS)))
        coarse = segmentation.label_map[::step, ::step]
        segments = segmentation.segments
        index = np.zeros(int(coarse.max(initial=0)) + 1, np.int32)
        for number, segment in enumerate(segments, start=1):
            if segment.id < len(index):
                index[segment.id] = number
        self.labels: NDArray[np.int32] = index[coarse]
        self._count = len(segments)
        self._slices = find_objects(self.labels, self._count)
        self._sizes = np.bincount(self.labels.ravel(), minlength=self._count + 1)[1:]
        self.areas = np.array([s.area for s in segments], np.float64)
        self.centroids = np.array([s.centroid[::-1] for s in segments], np.float64) / step

    def outline(self, index: int) -> _Outline:
        """Where a segment lies."""
        box = self._slices[index]
        if box is None:  # too small for the grid
            mask, corner = np.zeros((0, 0), np.bool_), np.zeros(2)
        else:
            mask = self.labels[box] == index + 1
            corner = np.array([side.start for side in box], np.float64)
        return _Outline(mask, corner, self.centroids[index], max(float(self.areas[index]), 1.0))

    def overlap(self, outline: _Outline) -> NDArray[np.float64]:
        """Intersection over union of an outline with every segment, (segments,)."""
        mask = outline.mask
        top, left = (round(float(value)) for value in outline.corner)
        rows = slice(max(top, 0), max(top + mask.shape[0], 0))
        columns = slice(max(left, 0), max(left + mask.shape[1], 0))
        window = self.labels[rows, columns]
        down, right = rows.start - top, columns.start - left
        visible = mask[down : down + window.shape[0], right : right + window.shape[1]]
        shared = np.bincount(window[visible], minlength=self._count + 1)[1:]
        union = self._sizes + visible.sum() - shared
        return np.asarray(shared / np.maximum(union, 1), np.float64)


@dataclass(frozen=True, eq=False)
class _Outline:
    """Where something lies on the grid.

    Attributes:
        mask: Its pixels within its bounding box.
        corner: First (row, column) of the box; it may be outside of the image.
        centroid: Mean (row, column).
        area: Pixels in the image, at least 1.
    """

    mask: NDArray[np.bool_]
    corner: NDArray[np.float64]
    centroid: NDArray[np.float64]
    area: float

    def moved(self, by: NDArray[np.float64]) -> _Outline:
        """The same outline elsewhere."""
        return replace(self, corner=self.corner + by, centroid=self.centroid + by)


@dataclass(eq=False)
class _Texts:
    """Mean scores of a track's labels, in which what is long past counts less.

    A text that a frame does not report scored there at most as the last one that it reports, and had
    next to no probability.
    """

    scores: dict[str, float] = field(default_factory=dict)
    chances: dict[str, float] = field(default_factory=dict)
    knows_chances: bool = False
    floor: float = 0.0
    weight: float = 0.0

    def add(self, labels: Sequence[Label], keep: float) -> None:
        """Adds a frame's labels; `keep` in [0, 1] is what the earlier ones still count."""
        self.weight = self.weight * keep + 1.0
        floor = labels[-1].score if len(labels) > 1 else 0.0
        seen = {label.text: label.score for label in labels}
        for text in {*self.scores, *seen}:
            old = self.scores.get(text, self.floor)
            self.scores[text] = old + (seen.get(text, floor) - old) / self.weight
        self.floor += (floor - self.floor) / self.weight
        best = sorted(self.scores, key=lambda text: (-self.scores[text], text))[:MAX_TEXTS]
        self.scores = {text: self.scores[text] for text in best}
        chances = {label.text: label.probability for label in labels}
        self.knows_chances = all(chance is not None for chance in chances.values())
        for text in best:
            old = self.chances.get(text, 0.0)
            self.chances[text] = old + ((chances.get(text) or 0.0) - old) / self.weight
        self.chances = {text: self.chances[text] for text in best}

    def best(self, count: int) -> tuple[Label, ...]:
        """The first labels in falling order of score."""
        return tuple(
            Label(text, self.scores[text], self.chances[text] if self.knows_chances else None)
            for text in list(self.scores)[:count]
        )


@dataclass(eq=False)
class _Track:
    """A thing that was seen.

    Attributes:
        id: Its track id.
        seen: When it was last seen [s].
        outline: Where that was.
        velocity: Motion (rows, columns) per second.
        embedding: Mean direction of its embeddings, unit norm.
        texts: Its smoothed labels.
    """

    id: int
    seen: float = math.nan
    outline: _Outline | None = None
    velocity: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    embedding: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    texts: _Texts = field(default_factory=_Texts)

    def expected(self, seconds: float) -> _Outline:
        """Where it should be at a time, if it goes on as it did."""
        assert self.outline is not None
        return self.outline.moved(self.velocity * (seconds - self.seen))

    def overlap(self, grid: _Grid, seconds: float) -> NDArray[np.float64]:
        """Overlap with every segment where it was, or where it should be now; (segments,)."""
        assert self.outline is not None
        there = grid.overlap(self.outline)
        return np.maximum(there, grid.overlap(self.expected(seconds)))

    def observe(
        self, segment: Segment, outline: _Outline, seconds: float, settings: TrackingSettings
    ) -> None:
        """Takes in that it is seen now: where, and with which labels and embedding."""
        if self.outline is None:
            self.embedding = segment.embedding
            self.texts.add(segment.labels, 0.0)
        else:
            passed = seconds - self.seen
            growth = outline.area / self.outline.area
            if passed > 0 and 1 / STEADY_GROWTH <= growth <= STEADY_GROWTH:
                motion = (outline.centroid - self.outline.centroid) / passed
                self.velocity += (motion - self.velocity) * -math.expm1(-passed / VELOCITY_SECONDS)
            # Something else in its place, as behind a cut in the film, must not keep its labels.
            changed = float(self.embedding @ segment.embedding) < settings.smoothing_similarity
            steady = settings.smoothing > 0 and not changed
            keep = math.exp(-passed / settings.smoothing) if steady else 0.0
            self.texts.add(segment.labels, keep)
            share = 1.0 / self.texts.weight
            self.embedding = _unit(self.embedding * (1.0 - share) + segment.embedding * share)
        self.seen, self.outline = seconds, outline


def _unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12), np.float32)
