"""The value types that flow through the program: an image goes in, a `Segmentation` comes out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from zgs_ros.runs import Runs

MAX_SEGMENT_ID = int(np.iinfo(np.uint16).max)
"""Ids live in a 16-bit label map, 0 of which means "no segment"."""


@dataclass(frozen=True)
class Label:
    """A text with the score it was given.

    Attributes:
        text: The phrase, for example ``"red mug"``.
        score: Cosine between the segment's embedding and the phrase's, in [-1, 1].
        probability: CLIP's for this text among all that were compared, in [0, 1]; None if unknown.
    """

    text: str
    score: float
    probability: float | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Roi:
    """Axis-aligned bounding box in pixels: columns ``x .. x + width - 1``, rows ``y .. y + height - 1``."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Extent:
    """Where the pixels of a segment are; see `Segment`."""

    roi: Roi
    area: int
    centroid: tuple[float, float]


@dataclass(frozen=True)
class Placement:
    """Where something is and how large: in the camera's optical frame (x right, y down, z forward), or
    in the one that was asked for.

    Attributes:
        position: Median of its visible surface [m].
        size: Extent of its visible surface along the axes [m].
    """

    position: tuple[float, float, float]
    size: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Segment:
    """One region of an image and what it was named.

    Attributes:
        id: Value of this segment's pixels in `Segmentation.label_map`, 1 .. 65535.
        labels: Best label first, then the alternatives in falling order of score.
        roi: Bounding box of the segment's pixels.
        area: Number of pixels.
        centroid: Mean (x, y) of the segment's pixel centres, in pixels; (0, 0) is the centre of the
            top-left pixel. It may lie outside a segment that is not convex.
        embedding: float32 (dimensions,), unit norm, in the space that `Segmentation.model` names.
        track_id: Identity over frames, 0 when the segment is not tracked.
        placement: Where it is in space, None where depth does not tell.
        class_id: Number of its label or group of labels, 1 .. 65535, that never changes its meaning;
            0 = none.
    """

    id: int
    labels: tuple[Label, ...]
    roi: Roi
    area: int
    centroid: tuple[float, float]
    embedding: NDArray[np.float32]
    track_id: int = 0
    placement: Placement | None = None
    class_id: int = 0

    @property
    def label(self) -> str:
        """The best label's text, "" if there is none."""
        return self.labels[0].text if self.labels else ""

    @property
    def score(self) -> float:
        """The best label's score, 0 if there is no label."""
        return self.labels[0].score if self.labels else 0.0

    @property
    def alternatives(self) -> tuple[Label, ...]:
        """The labels behind the best one."""
        return self.labels[1:]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """All segments of one image.

    Attributes:
        label_map: uint16 (height, width), 0 = none, otherwise the `Segment.id` of the pixel.
        segments: In rising order of id; each id occurs in `label_map`.
        model: Names the embedding space, for example ``"ViT-L-14-336/openai"``: embeddings can be
            compared only where it is the same.
        stage_times: Seconds per stage, in pipeline order. In a batch each image has its share. On a GPU
            encoding goes on beside features and clustering, so that the sum is more than the whole.

    Raises:
        ValueError: If label map and segments do not fit together.
    """

    label_map: NDArray[np.uint16]
    segments: tuple[Segment, ...]
    model: str = ""
    stage_times: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.label_map.ndim != 2 or self.label_map.dtype != np.uint16:
            raise ValueError(
                "label_map must be a uint16 array (height, width), "
                f"got {self.label_map.dtype} {self.label_map.shape}"
            )
        ids = [segment.id for segment in self.segments]
        if ids != sorted(set(ids)) or (ids and not 1 <= ids[0] <= ids[-1] <= MAX_SEGMENT_ID):
            raise ValueError(f"segment ids must rise within 1 .. {MAX_SEGMENT_ID}, got {ids}")

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image in pixels."""
        height, width = self.label_map.shape
        return height, width

    @property
    def embeddings(self) -> NDArray[np.float32]:
        """float32 (segments, dimensions), one row per segment in the order of `segments`."""
        if not self.segments:
            return np.zeros((0, 0), np.float32)
        return np.stack([segment.embedding for segment in self.segments])

    def mask(self, segment_id: int) -> NDArray[np.bool_]:
        """Boolean (height, width) mask of one segment.

        Raises:
            KeyError: If no segment has this id.
        """
        if all(segment.id != segment_id for segment in self.segments):
            raise KeyError(f"no segment {segment_id}; there are {[s.id for s in self.segments]}")
        return self.label_map == segment_id

    def to_dict(self, embeddings: bool = False) -> dict[str, Any]:
        """JSON-ready description without the label map.

        Args:
            embeddings: Whether to include each segment's embedding as a list of floats.
        """
        height, width = self.size
        return {
            "width": width,
            "height": height,
            "model": self.model,
            "segments": [_segment_to_dict(segment, embeddings) for segment in self.segments],
            "stage_times": {name: round(seconds, 6) for name, seconds in self.stage_times.items()},
        }


def find_extents(runs: Runs, segments: int) -> list[Extent]:
    """Extents of the segments 1 .. `segments`, each of which has pixels."""
    number, last_column = runs.label, runs.column + runs.length - 1
    size = 1 + segments
    areas = np.bincount(number, runs.length, size)
    x, y = (
        np.bincount(number, runs.length * mean, size) / np.maximum(areas, 1.0)
        for mean in (0.5 * (runs.column + last_column), runs.row)
    )
    lowest, highest = (np.full((2, size), limit) for limit in (np.iinfo(np.int64).max, -1))
    for axis, (first, last) in enumerate(((runs.column, last_column), (runs.row, runs.row))):
        np.minimum.at(lowest[axis], number, first)
        np.maximum.at(highest[axis], number, last)
    sides = highest - lowest + 1
    return [
        Extent(
            Roi(*lowest[:, n].tolist(), *sides[:, n].tolist()),
            int(areas[n]),
            (float(x[n]), float(y[n])),
        )
        for n in range(1, size)
    ]


def rounded(value: float | None, digits: int) -> float | None:
    """A number for JSON, None for what it can't hold: messages from the network may carry nan."""
    return None if value is None or not math.isfinite(value) else round(float(value), digits)


def _segment_to_dict(segment: Segment, embeddings: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": segment.id,
        "track_id": segment.track_id,
        "class_id": segment.class_id,
        "label": segment.label,
        "score": rounded(segment.score, 6),
        "alternatives": [
            {"label": label.text, "score": rounded(label.score, 6)}
            for label in segment.alternatives
        ],
        "roi": {
            "x": segment.roi.x,
            "y": segment.roi.y,
            "width": segment.roi.width,
            "height": segment.roi.height,
        },
        "area": segment.area,
        "centroid": [rounded(value, 3) for value in segment.centroid],
    }
    if segment.placement:
        entry["position"] = [rounded(value, 4) for value in segment.placement.position]
        entry["size"] = [rounded(value, 4) for value in segment.placement.size]
    if embeddings:
        entry["embedding"] = [float(value) for value in segment.embedding]
    return entry


class ImageSegmenter(Protocol):
    """What everything around the models asks of them; `zgs_ros.segmenter.Segmenter` is one."""

    @property
    def model(self) -> str:
        """Name of the embedding space."""
        ...

    @property
    def device(self) -> str:
        """Where it runs, for example ``"cuda:0"``."""
        ...

    def segment_batch(self, images: Sequence[NDArray[np.uint8]]) -> Sequence[Segmentation]:
        """Segments RGB images (height, width, 3), which may be read-only."""
        ...

    def embed_text(self, text: str) -> NDArray[np.float32]:
        """float32 (dimensions,), unit norm: a text in the space of the segments' embeddings."""
        ...

    def embed_phrases(self, phrases: Sequence[str]) -> NDArray[np.float32]:
        """float32 (phrases, dimensions), unit norm: phrases as those of a vocabulary are embedded."""
        ...

    def close(self) -> None:
        """Frees the models."""
        ...
