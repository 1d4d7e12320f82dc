"""The class of each segment: that of the group whose phrase fits best, or that of its label."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from zgs_ros.classes.file import chosen_file
from zgs_ros.classes.groups import ClassGroup, checked_groups, key
from zgs_ros.classes.registry import PATIENCE_SECONDS, ClassRegistry
from zgs_ros.config import ClassesSettings
from zgs_ros.segmentation import Label, Segment, Segmentation

EmbedPhrases = Callable[[Sequence[str]], NDArray[np.float32]]
"""Phrases to float32 (phrases, dimensions), unit norm, as labels are embedded."""

CHUNK = 16
"""Phrases that are embedded together; fewer would take hardly less time."""


class Classifier:
    """Finds the class of each segment.

    Phrases of groups compete with the vocabulary: where one is at least as near to a segment as its best
    label, it becomes its label, before tracks average them. Then the text of a label decides.
    One thread at a time may use it.

    Args:
        registry: Gives numbers to labels that are of no group.
        embed: Embeds phrases of groups.
        groups: That it begins with; by default those of the registry's file.
        is_open: Whether labels that are of no group have classes of their own; else they have none.

    Raises:
        ClassError: See `replace_groups`.
    """

    def __init__(
        self,
        registry: ClassRegistry,
        embed: EmbedPhrases,
        groups: Iterable[ClassGroup] | None = None,
        is_open: bool = True,
    ) -> None:
        self.registry = registry
        self._embed = embed
        self._known: dict[str, NDArray[np.float32]] = {}
        self.replace_groups(registry.groups if groups is None else groups, is_open)

    @property
    def groups(self) -> tuple[ClassGroup, ...]:
        """Those in use, with their ids."""
        return self._groups

    @property
    def is_open(self) -> bool:
        """Whether labels that are of no group have classes of their own."""
        return self._is_open

    @property
    def missing(self) -> int:
        """Phrases that are not embedded yet: until then only labels with their text are of the class."""
        return len(self._missing)

    def replace_groups(self, groups: Iterable[ClassGroup], is_open: bool) -> None:
        """Uses other groups from now on; ids stay with what they were given to.

        Raises:
            ClassError: If they can't be used; then nothing changes.
        """
        self._groups = self.registry.claim(checked_groups(groups))
        self._is_open = is_open
        self._class_of = {key(text): group.id for group in self._groups for text in group.phrases}
        phrases = [text for group in self._groups for text in group.phrases]
        self._known = {text: self._known[text] for text in phrases if text in self._known}
        self._missing = [text for text in phrases if text not in self._known]
        self._stack()

    def embed_some(self, seconds: float = float("inf")) -> int:
        """Embeds phrases for about so long, at least a few; returns how many are missing then."""
        end = time.monotonic() + seconds
        while self._missing:
            chunk = self._missing[:CHUNK]
            self._known.update(zip(chunk, self._embed(chunk), strict=True))
            self._missing = self._missing[CHUNK:]
            if time.monotonic() >= end:
                break
        self._stack()
        return len(self._missing)

    def find_classes(self, segmentation: Segmentation) -> Segmentation:
        """Segments with phrases for labels and with class ids, where nothing comes between the two."""
        return self.classify(self.name_segments(segmentation))

    def name_segments(self, segmentation: Segmentation) -> Segmentation:
        """Segments with phrases of groups for labels where they fit at least as well."""
        if not self._phrases or not segmentation.segments:
            return segmentation
        cosines = segmentation.embeddings @ self._rows.T  # (segments, phrases)
        best = cosines.argmax(axis=1)
        scores = cosines[np.arange(len(best)), best]
        segments = tuple(
            _named(segment, self._phrases[index], float(score))
            for segment, index, score in zip(segmentation.segments, best, scores, strict=True)
        )
        return replace(segmentation, segments=segments)

    def classify(self, segmentation: Segmentation) -> Segmentation:
        """Segments with the class ids of their labels."""
        labels = {segment.label for segment in segmentation.segments} - {""}
        ids = {text: found for text in labels if (found := self._group_of(text))}
        if self._is_open:
            ids |= self.registry.number(sorted(labels - ids.keys()))
        segments = tuple(
            replace(segment, class_id=ids.get(segment.label, 0))
            for segment in segmentation.segments
        )
        return replace(segmentation, segments=segments)

    def probability(self, segment: Segment) -> float:
        """How sure its class is, in [0, 1]: what its labels of that class have together.

        Where the labels have no probability, it is the best one's cosine, as far as it can be one.
        """
        if not segment.class_id or not segment.labels:
            return 0.0
        best, *others = segment.labels
        if best.probability is None:
            return min(max(best.score, 0.0), 1.0)
        group = self._group_of(best.text)
        same = [label for label in others if group and self._group_of(label.text) == group]
        return min(sum((label.probability or 0.0 for label in same), best.probability), 1.0)

    def _group_of(self, text: str) -> int:
        """Id of the group that has a label, or its last words: of "red mug" that of "mug"; 0 for none."""
        words = key(text).split()
        endings = (" ".join(words[start:]) for start in range(len(words)))
        return next((self._class_of[end] for end in endings if end in self._class_of), 0)

    def _stack(self) -> None:
        self._phrases = list(self._known)
        self._rows = np.stack(list(self._known.values())) if self._known else np.zeros((0, 0))


def load_classifier(
    settings: ClassesSettings,
    embed: EmbedPhrases,
    patience: float | None = PATIENCE_SECONDS,
) -> Classifier:
    """The classifier that the settings ask for, with the classes of their file.

    Args:
        settings: Which file, and whether labels have classes of their own.
        embed: Embeds phrases of groups.
        patience: See `ClassRegistry`.

    Raises:
        ClassError: If the file can't be used; the message names it, and says what to do.
    """
    registry = ClassRegistry(chosen_file(settings.file), patience)
    return Classifier(registry, embed, is_open=settings.open)


def _named(segment: Segment, phrase: str, score: float) -> Segment:
    """A segment with a phrase for its label where that fits as well as the label that it has."""
    if segment.labels and (score < segment.score or key(phrase) == key(segment.label)):
        return segment
    # It is at least as likely as what it goes before; the models say no more about it.
    chance = segment.labels[0].probability if segment.labels else None
    others = [label for label in segment.labels if key(label.text) != key(phrase)]
    labels = (Label(phrase, score, chance), *others)[: max(len(segment.labels), 1)]
    return replace(segment, labels=labels)
