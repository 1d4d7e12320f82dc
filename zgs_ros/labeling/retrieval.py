"""Labels by retrieval: the phrases of a vocabulary nearest to a segment's embedding."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from zgs_ros.segmentation import Label

Embeddings = NDArray[np.float32]

logger = logging.getLogger(__name__)


class RetrievalLabeler:
    """Names embeddings by their nearest phrases.

    Args:
        phrases: The vocabulary.
        embeddings: float32 (phrases, dimensions), unit norm, in the order of `phrases`.
        alternatives: Further labels beside the best one.
    """

    def __init__(
        self, phrases: Sequence[str], embeddings: Embeddings, alternatives: int = 4
    ) -> None:
        if len(phrases) != len(embeddings):
            raise ValueError(f"{len(phrases)} phrases, but {len(embeddings)} embeddings")
        self.phrases = tuple(phrases)
        self._embeddings = embeddings
        self._row = {phrase: row for row, phrase in enumerate(self.phrases)}
        self._count = min(1 + alternatives, len(self.phrases))

    def label(self, embeddings: Embeddings) -> list[tuple[Label, ...]]:
        """Nearest phrases of each embedding.

        Args:
            embeddings: float32 (segments, dimensions), unit norm.

        Returns:
            Per segment the best labels in falling order of cosine; equal scores in the vocabulary's order.
        """
        if not len(embeddings):
            return []
        scores = embeddings @ self._embeddings.T  # (segments, phrases)
        # Sorting whole vocabularies takes longer than comparing with them.
        lowest = np.partition(scores, -self._count, axis=1)[:, -self._count]
        return [
            self._labels(row, np.flatnonzero(row >= bound))
            for row, bound in zip(scores, lowest, strict=True)
        ]

    def _labels(self, row: Embeddings, columns: NDArray[np.intp]) -> tuple[Label, ...]:
        order = columns[np.argsort(-row[columns], kind="stable")][: self._count]
        return tuple(Label(self.phrases[column], float(row[column])) for column in order)

    def text_embedding(self, phrase: str) -> Embeddings:
        """float32 (dimensions,) embedding of a phrase of the vocabulary.

        Raises:
            KeyError: If the phrase is not in it.
        """
        return self._embeddings[self._row[phrase]]


def embed_phrases(
    phrases: Sequence[str], templates: Sequence[str], embed: Callable[[Sequence[str]], Embeddings]
) -> Embeddings:
    """Embeds each phrase in every template and averages; float32 (phrases, dimensions), unit norm."""
    total = sum(
        embed([template.replace("{}", phrase) for phrase in phrases]) for template in templates
    )
    return np.asarray(total / np.linalg.norm(total, axis=1, keepdims=True), np.float32)


def cached_phrase_embeddings(
    phrases: Sequence[str],
    templates: Sequence[str],
    embed: Callable[[Sequence[str]], Embeddings],
    model: str,
    folder: Path | None = None,
) -> Embeddings:
    """`embed_phrases`, computed once per model, vocabulary content and templates, then read from disk.

    A cache that can't be read or written costs the time of computing, never the result.

    Args:
        phrases: The vocabulary.
        templates: Sentences with one ``{}``.
        embed: Text encoder, texts to float32 (texts, dimensions).
        model: Identifies the text encoder and its weights.
        folder: Cache folder, by default `cache_folder`.
    """
    content = "\n".join([model, *templates, "", *phrases])
    key = hashlib.sha256(content.encode()).hexdigest()
    path = (folder or cache_folder()) / f"{key[:32]}.safetensors"
    try:
        embeddings: Embeddings = load_file(path)["embeddings"]
        if embeddings.shape[0] == len(phrases):
            return embeddings
    except FileNotFoundError:
        pass
    except (OSError, SafetensorError, KeyError) as error:
        logger.warning("vocabulary cache %s can't be read (%s): computing it again", path, error)
    embeddings = embed_phrases(phrases, templates, embed)
    try:
        _write(path, embeddings)
    except OSError as error:
        logger.warning(
            "vocabulary cache %s can't be written (%s): it will be computed at each start",
            path,
            error,
        )
    return embeddings


def cache_folder() -> Path:
    """Where embedded vocabularies are kept: ``$XDG_CACHE_HOME/zgs_ros/vocabularies``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "zgs_ros" / "vocabularies"


def _write(path: Path, embeddings: Embeddings) -> None:
    """Writes under a temporary name first, so that another process never reads half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        temporary = Path(file.name)
    try:
        save_file({"embeddings": np.ascontiguousarray(embeddings)}, temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
