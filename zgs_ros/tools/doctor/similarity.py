"""Whether the thresholds of cosines fit the user's images and the profile's models."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from zgs_ros.config import NodeSettings
from zgs_ros.evaluation.metrics import iou_matrix
from zgs_ros.files.images import BadImageFile, decode_image, find_images, read_image
from zgs_ros.labeling.vocabulary import VocabularyError
from zgs_ros.models.loading import ModelError
from zgs_ros.segmenter import Segmenter, load_segmenter
from zgs_ros.texts import natural_key, printable
from zgs_ros.tools.doctor.findings import Finding, Level
from zgs_ros.tools.doctor.models import WAYS_OUT

Cosines = NDArray[np.float32]
ROOM = "images"

MOST_IMAGES, RUN = 24, 3
"""Images that are looked at; where there are more, runs of this many that are spread over all."""
SAME = 0.5
"""Intersection over union from which on segments of neighbouring frames are the same thing."""
NEIGHBOURS = 0.5
"""Share of the picture, and of its segments, that is the same thing at least, or the two are no
neighbouring frames: floor and sky alone are in the same place in many pictures."""
FEWEST = 20
"""Cosines of a kind from which on their percentiles are worth something."""


@dataclass(frozen=True)
class Threshold:
    """A setting that is compared with cosines.

    Attributes:
        setting: Its dotted path.
        above: Percentile of different things' cosines that it should reach.
        below: Percentile of the same thing's cosines that it should not exceed.
        careful_up: Whether, where no value does both, too high is the smaller harm.
        too_low: What happens where it is below `above`.
        too_high: What happens where the same thing often stays below it.
    """

    setting: str
    above: int
    below: int
    careful_up: bool
    too_low: str
    too_high: str


MIN_SIMILARITY = Threshold(
    "tracking.min_similarity",
    95,
    5,
    True,
    "ids wander between different things",
    "a thing that jumps gets a new id",
)
SMOOTHING_SIMILARITY = Threshold(
    "tracking.smoothing_similarity",
    50,  # what comes into a thing's place is any other, and it has more than one frame to be noticed
    5,
    False,
    "labels outlast what they named",
    "labels of a thing that stays start anew",
)
MERGING = Threshold(
    "merging.threshold",
    # Some of an image's segments are parts of one thing, which should merge, and parts are less alike
    # than the same part is from frame to frame.
    75,
    25,
    True,
    "different things merge",
    "even the same thing seen twice would often not merge",
)


@dataclass(frozen=True, eq=False)
class View:
    """The segments of an image.

    Attributes:
        label_map: (height, width), 0 = none.
        ids: Of its segments, (segments,).
        rows: Whose products are the cosines, float32 (segments, dimensions).
    """

    label_map: NDArray[np.uint16]
    ids: Sequence[int]
    rows: NDArray[np.float32]


@dataclass(eq=False)
class Sample:
    """Cosines of segments.

    Attributes:
        same: Of the same thing in neighbouring frames, an array per pair of frames.
        different: Of different segments of one image, an array per image.
        pairs: Pairs of images that were compared.
    """

    same: list[Cosines] = field(default_factory=list)
    different: list[Cosines] = field(default_factory=list)
    pairs: int = 0

    def add(self, view: View, before: View | None) -> None:
        """Adds an image and, where there is one, the image before it."""
        cosines = view.rows @ view.rows.T
        self.different.append(cosines[np.triu_indices(len(cosines), 1)])
        if before is None:
            return
        self.pairs += 1
        if before.label_map.shape != view.label_map.shape or not (before.ids and view.ids):
            return
        ious = iou_matrix(before.label_map, view.label_map, before.ids, view.ids)
        olds = np.flatnonzero(ious.max(axis=1) >= SAME)
        news = ious[olds].argmax(axis=1)
        covered = np.isin(view.label_map, np.take(view.ids, news)).mean()
        share = len(olds) / min(len(before.ids), len(view.ids))
        if min(covered, share) >= NEIGHBOURS:
            self.same.append((before.rows[olds] * view.rows[news]).sum(axis=1))


def choose(files: Sequence[Path]) -> list[Sequence[Path]]:
    """Runs of neighbouring files, at most `MOST_IMAGES` in all: the whole, or spread over it."""
    if len(files) <= MOST_IMAGES:
        return [files]
    starts = np.linspace(0, len(files) - RUN, MOST_IMAGES // RUN).round().astype(int)
    return [files[start : start + RUN] for start in starts]


def list_files(folder: Path) -> list[Path]:
    """The images of a folder in natural order.

    Raises:
        NoImages: If there are none.
    """
    return sorted(
        (image.path for image in find_images([folder])), key=lambda path: natural_key(path.name)
    )


def examine_images(settings: NodeSettings, files: Sequence[Path]) -> Iterator[Finding]:
    """Findings on the thresholds of cosines, as measured on images in the order of a recording.

    Each image goes through the models twice: as the node segments it, for tracking, and without
    merging. One image at a time is in memory.
    """
    try:
        segmenter = load_segmenter(settings)
        yield from _examine(segmenter, settings, files)
    except ModelError as error:
        text, _, remedy = str(error).partition(WAYS_OUT)
        yield Finding(ROOM, "loading", "error", text, remedy)
    except VocabularyError as error:
        yield Finding(ROOM, "vocabulary", "error", str(error), "see labeling.vocabulary")
    except torch.cuda.OutOfMemoryError:
        yield Finding(
            ROOM,
            "GPU memory",
            "error",
            "is not enough for these images",
            "see who uses it (nvidia-smi), or use profile=fast",
        )


def _examine(
    segmenter: Segmenter, settings: NodeSettings, files: Sequence[Path]
) -> Iterator[Finding]:
    things, parts, unread, repeated = Sample(), Sample(), [], 0
    for run in choose(files):
        before: NDArray[np.uint8] | None = None
        views: tuple[View | None, View | None] = (None, None)
        for path in run:
            try:
                image = decode_image(read_image(path), settings.max_pixels)
            except (OSError, BadImageFile) as error:
                unread.append(f"{path.name}: {error}")
                before, views = None, (None, None)  # what follows is no neighbour
                continue
            if before is not None and np.array_equal(before, image):
                repeated += 1  # the same picture again would seem to be a thing that never changes
                continue
            seen = view_things(segmenter, image), view_parts(segmenter, image, settings)
            for sample, view, old in zip((things, parts), seen, views, strict=True):
                if view is not None:
                    sample.add(view, old)
            before, views = image, seen
    yield check_frames(len(files), things, unread, repeated)
    tracking = settings.tracking
    if tracking.enabled:
        yield judge(MIN_SIMILARITY, tracking.min_similarity, things.same, things.different)
        if tracking.smoothing > 0:
            yield judge(
                SMOOTHING_SIMILARITY, tracking.smoothing_similarity, things.same, things.different
            )
    if settings.merging.enabled:
        yield judge(MERGING, settings.merging.threshold, parts.same, parts.different)


def view_things(segmenter: Segmenter, image: NDArray[np.uint8]) -> View:
    """Segments as they are tracked, and their embeddings."""
    found = segmenter.segment(image)
    return View(found.label_map, [segment.id for segment in found.segments], found.embeddings)


def view_parts(
    segmenter: Segmenter, image: NDArray[np.uint8], settings: NodeSettings
) -> View | None:
    """Segments before merging, with rows whose products are `zgs_ros.merging.similarity`."""
    if not settings.merging.enabled:
        return None
    label_map = segmenter.over_segment(image)
    ids = [int(number) for number in np.unique(label_map) if number]
    masks = np.stack([label_map == number for number in ids])
    found = segmenter.describe_masks(image, masks)
    rows = [np.concatenate([one.embedding, one.text_embedding]) for one in found]
    return View(label_map, ids, np.stack(rows) * np.float32(math.sqrt(0.5)))


def check_frames(count: int, sample: Sample, unread: Sequence[str], repeated: int = 0) -> Finding:
    """Whether images could be read and are neighbouring frames.

    Args:
        count: Images in the folder.
        sample: What was measured on some of them.
        unread: Name and problem of each that could not be read.
        repeated: Images that are exactly the one before.
    """
    read, neighbours = len(sample.different), len(sample.same)
    text = (
        f"{read} of {count} were looked at; {neighbours} of {sample.pairs} pairs that follow each other "
        "are neighbouring frames"
    )
    problems = []
    if repeated:
        problems.append(f"{repeated} are exactly the image before")
    if unread:
        problems.append(f"{len(unread)} can't be read, the first is {printable(unread[0])}")
    level: Level = "warning" if unread or 2 * neighbours < max(sample.pairs, 1) else "ok"
    remedy = "give frames of one recording, a fraction of a second apart" if level != "ok" else ""
    return Finding(ROOM, "frames", level, "; ".join([text, *problems]), remedy)


def judge(
    threshold: Threshold, value: float, same: Iterable[Cosines], different: Iterable[Cosines]
) -> Finding:
    """Whether a threshold tells the same thing from different ones.

    It does from a high percentile of the cosines of different things up to a low one of those of the same
    thing; the middle is suggested. Where the two overlap, the bound whose harm is smaller is.

    Args:
        threshold: What is judged.
        value: What it is set to.
        same: Cosines of the same thing in neighbouring frames.
        different: Cosines of different segments of one image.
    """
    of_same = np.concatenate([np.zeros(0, np.float32), *same])
    of_different = np.concatenate([np.zeros(0, np.float32), *different])
    few = [
        f"{len(cosines)} cosines of {what}"
        for cosines, what in ((of_same, "the same thing"), (of_different, "different things"))
        if len(cosines) < FEWEST
    ]
    name = threshold.setting
    if few:
        return Finding(
            ROOM,
            name,
            "warning",
            f"is not judged: {' and '.join(few)} are too few, {FEWEST} are needed",
            "give more frames of one recording, in which several things are seen",
        )
    high = float(np.percentile(of_same, threshold.below))
    low = float(np.percentile(of_different, threshold.above))
    text = (
        f"the same thing keeps a cosine of {high:.2f} ({threshold.below}th percentile), different things reach "
        f"{low:.2f} ({threshold.above}th)"
    )
    if low <= value <= high:
        return Finding(ROOM, name, "ok", f"{text}: {value:g} is between")
    is_low = value < low if threshold.careful_up else value <= high
    harm = threshold.too_low if is_low else threshold.too_high
    text = f"{text}: {value:g} is too {'low' if is_low else 'high'}, {harm}"
    if low > high:
        text += "; no value does both"
        if is_low != threshold.careful_up:  # on the side of the smaller harm
            return Finding(ROOM, name, "ok", f"{text}, and this is the smaller harm")
    return Finding(ROOM, name, "warning", text, f"set {name}={suggest(threshold, low, high):g}")


def suggest(threshold: Threshold, low: float, high: float) -> float:
    """A value that `judge` is content with, of as few digits as that takes."""
    if low > high:
        up = min(math.ceil(low * 100) / 100, 1.0)
        return up if threshold.careful_up else math.floor(high * 100) / 100
    middle = (low + high) / 2
    return next(
        (value for digits in (2, 3) if low <= (value := round(middle, digits)) <= high), middle
    )
