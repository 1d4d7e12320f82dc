"""Phrases that are watched for: an alert begins when a segment fits one, and ends when it does no more."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from zgs_ros.classes.groups import ClassError, checked_text
from zgs_ros.segmentation import Segment, Segmentation
from zgs_ros.texts import quoted

MAX_WATCHES = 100
DEFAULT_MARGIN = 0.01
"""By how much a cosine moves from image to image though nothing changed."""


@dataclass(frozen=True)
class Watch:
    """Something to be told about.

    Attributes:
        phrase: What it is called.
        threshold: Cosine with a segment from which on it is meant, in [-1, 1].
        margin: By how much the cosine must fall below that for it to be over; 0 for `DEFAULT_MARGIN`.
    """

    phrase: str
    threshold: float
    margin: float = 0.0


@dataclass(frozen=True)
class Alert:
    """A thing that is watched for came into view, or is not seen any more.

    Attributes:
        watch: What it is.
        active: Whether it begins; else it is over.
        score: Cosine of the phrase with the segment.
        segment: As it was seen last.
    """

    watch: Watch
    active: bool
    score: float
    segment: Segment


@dataclass
class _Active:
    score: float
    segment: Segment
    seen: float


class Watcher:
    """Tells when segments fit phrases, once per track and phrase.

    Where segments have no track, the one that fits best stands for all. One thread owns it.

    Args:
        embed: Text to float32 (dimensions,), unit norm, in the space of the segments.
    """

    def __init__(self, embed: Callable[[str], NDArray[np.float32]]) -> None:
        self._embed = embed
        self._rows: dict[str, NDArray[np.float32]] = {}
        self._active: dict[str, dict[tuple[str, int], _Active]] = {}
        self.watches: tuple[Watch, ...] = ()

    @property
    def missing(self) -> int:
        """Phrases that are not embedded yet, and are not watched for until then."""
        return sum(watch.phrase not in self._rows for watch in self.watches)

    def replace_watches(self, watches: Iterable[Watch]) -> None:
        """Watches for other phrases from now on; what is active of those that stay goes on.

        Raises:
            ClassError: If they can't be used; then nothing changes.
        """
        self.watches = checked_watches(watches)
        phrases = {watch.phrase for watch in self.watches}
        self._rows = {text: row for text, row in self._rows.items() if text in phrases}
        self._active = {
            camera: {at: found for at, found in active.items() if at[0] in phrases}
            for camera, active in self._active.items()
        }

    def embed_some(self, seconds: float = math.inf) -> int:
        """Embeds phrases for about so long, at least one; returns how many are missing then."""
        end = time.monotonic() + seconds
        for watch in self.watches:
            if watch.phrase not in self._rows:
                self._rows[watch.phrase] = self._embed(watch.phrase)
                if time.monotonic() >= end:
                    break
        return self.missing

    def look(
        self, camera: str, segmentation: Segmentation, seconds: float, max_age: float
    ) -> list[Alert]:
        """What an image changes.

        Args:
            camera: That took it.
            segmentation: What was seen, with track ids.
            seconds: When; the image's stamp.
            max_age: Seconds without sight after which a thing is gone.
        """
        if not self.watches:
            return []
        active = self._active.setdefault(camera, {})
        alerts = []
        for watch in self.watches:
            if watch.phrase not in self._rows:
                continue
            for track, (score, segment) in self._best(watch, segmentation).items():
                at = (watch.phrase, track)
                margin = watch.margin or DEFAULT_MARGIN
                if at not in active and score >= watch.threshold:
                    active[at] = _Active(score, segment, seconds)
                    alerts.append(Alert(watch, True, score, segment))
                elif at in active and score < watch.threshold - margin:
                    del active[at]
                    alerts.append(Alert(watch, False, score, segment))
                elif at in active:
                    active[at] = _Active(score, segment, seconds)
        by_phrase = {watch.phrase: watch for watch in self.watches}
        for at, found in list(active.items()):
            if not 0 <= seconds - found.seen <= max_age:
                del active[at]
                alerts.append(Alert(by_phrase[at[0]], False, found.score, found.segment))
        return alerts

    def _best(self, watch: Watch, segmentation: Segmentation) -> dict[int, tuple[float, Segment]]:
        """Of each track its best segment, with its cosine."""
        if not segmentation.segments:
            return {}
        best: dict[int, tuple[float, Segment]] = {}
        cosines: Sequence[float] = (segmentation.embeddings @ self._rows[watch.phrase]).tolist()
        for segment, score in zip(segmentation.segments, cosines, strict=True):
            if segment.track_id not in best or score > best[segment.track_id][0]:
                best[segment.track_id] = (score, segment)
        return best


def checked_watches(watches: Iterable[Watch]) -> tuple[Watch, ...]:
    """Watches with tidy phrases.

    Raises:
        ClassError: If there are too many, a phrase is empty, too long or comes twice, or a threshold or
            margin is impossible.
    """
    given = tuple(watches)
    if len(given) > MAX_WATCHES:
        raise ClassError(
            f"there are {len(given)} phrases to watch for, at most {MAX_WATCHES} are allowed"
        )
    kept: dict[str, Watch] = {}
    for watch in given:
        phrase = checked_text(watch.phrase, "a phrase to watch for")
        if phrase in kept:
            raise ClassError(f"{quoted(phrase)} is to be watched for twice; give it one threshold")
        if not -1 <= watch.threshold <= 1:
            raise ClassError(
                f"the threshold of {quoted(phrase)} must be a cosine in -1 .. 1, such as the score of a "
                f"query, got {watch.threshold:g}"
            )
        if not 0 <= watch.margin <= 2:
            raise ClassError(
                f"the margin of {quoted(phrase)} must be in 0 .. 2, got {watch.margin:g}"
            )
        kept[phrase] = replace(watch, phrase=phrase)
    return tuple(kept.values())
