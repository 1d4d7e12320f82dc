"""Labels by retrieval: the phrases of a vocabulary nearest to a segment's embedding."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from zgs_ros.labeling import phrase_cache
from zgs_ros.progress import activity
from zgs_ros.segmentation import Label

Embeddings = NDArray[np.float32]

CHUNK = 128
"""Phrases that are embedded together before the first image."""
SMALLEST_CHUNK, LARGEST_CHUNK = 16, 1024
"""Phrases that are embedded together between images; fewer would take hardly less time."""
SAVE_SECONDS = 15.0
"""Time between savings of a vocabulary that is being embedded."""
BACKGROUND_SHARE = 0.25
"""Share of the time between frames in which the rest of a vocabulary is embedded."""
BACKGROUND_SECONDS = 0.5
"""Longest time at once."""

logger = logging.getLogger(__name__)


class PhraseEmbeddings:
    """A vocabulary's embeddings, computed from the first phrase on and kept on disk as they come.

    Args:
        phrases: The vocabulary; what is most often needed comes first.
        templates: Sentences with one ``{}``.
        embed: Text encoder, texts to float32 (texts, dimensions).
        model: Identifies the text encoder and its weights.
        folder: Cache folder, by default `phrase_cache.cache_folder`.
    """

    def __init__(
        self,
        phrases: Sequence[str],
        templates: Sequence[str],
        embed: Callable[[Sequence[str]], Embeddings],
        model: str,
        folder: Path | None = None,
    ) -> None:
        self.phrases = tuple(phrases)
        self._templates = tuple(templates)
        self._embed = embed
        content = "\n".join([phrase_cache.FORMAT, model, *templates, "", *phrases])
        key = hashlib.sha256(content.encode()).hexdigest()
        self._path = (folder or phrase_cache.cache_folder()) / f"{key[:32]}.safetensors"
        self._rows = np.zeros((0, 0), np.float32)
        self._known = self._saved = 0
        self._seconds = 0.0  # per phrase; 0: not known
        self._keeps = True
        self._saved_at = time.monotonic()
        if (cached := phrase_cache.read(self._path, len(self.phrases))) is not None:
            self._take(cached)
            self._saved = self._known

    @property
    def rows(self) -> Embeddings:
        """float32 (known phrases, dimensions), unit norm."""
        return self._rows[: self._known]

    @property
    def missing(self) -> int:
        """Phrases that are not embedded yet."""
        return len(self.phrases) - self._known

    def embed(self, phrases: int) -> None:
        """Embeds until so many are known; a run that is stopped keeps what it has."""
        phrases = min(phrases, len(self.phrases))
        if self._known >= phrases:
            return
        try:
            with activity("embedding the vocabulary", phrases, "phrases", self._known) as running:
                while self._known < phrases:
                    self._next(min(CHUNK, phrases - self._known))
                    running.report(self._known)
        finally:
            self._save()

    def embed_some(self, seconds: float) -> bool:
        """Embeds as many as there is time for, at most `BACKGROUND_SECONDS` where a few take less.

        Returns:
            False if there was not even time for a few.
        """
        if SMALLEST_CHUNK * self._seconds > seconds:
            return False
        seconds = min(seconds, BACKGROUND_SECONDS)
        count = int(seconds / self._seconds) if self._seconds else 0
        self._next(min(max(count, SMALLEST_CHUNK), LARGEST_CHUNK, self.missing))
        if not self.missing:
            self._save()
        return True

    def _next(self, count: int) -> None:
        start = time.monotonic()
        chunk = self.phrases[self._known : self._known + count]
        self._take(embed_phrases(chunk, self._templates, self._embed))
        self._seconds = (time.monotonic() - start) / len(chunk)
        if time.monotonic() - self._saved_at > SAVE_SECONDS:
            self._save()

    def _take(self, rows: Embeddings) -> None:
        if not self._known:
            self._rows = np.empty((len(self.phrases), rows.shape[1]), np.float32)
        self._rows[self._known : self._known + len(rows)] = rows
        self._known += len(rows)

    def _save(self) -> None:
        if self._keeps and self._known > self._saved and np.isfinite(self.rows).all():
            self._keeps = phrase_cache.write(self._path, self.rows)
            self._saved = self._known
        self._saved_at = time.monotonic()


class RetrievalLabeler:
    """Names embeddings by their nearest phrases.

    Args:
        phrases: The vocabulary.
        embeddings: float32 (phrases, dimensions), unit norm, in the order of `phrases`; or what embeds
            these phrases: then the first ones that are known are used, and between frames some more are
            embedded until all are.
        alternatives: Further labels beside the best one.
        logit_scale: Factor of cosines in CLIP's softmax; None leaves labels without a probability.
    """

    def __init__(
        self,
        phrases: Sequence[str],
        embeddings: Embeddings | PhraseEmbeddings,
        alternatives: int = 4,
        logit_scale: float | None = None,
    ) -> None:
        self._source = embeddings if isinstance(embeddings, PhraseEmbeddings) else None
        rows = embeddings.rows if isinstance(embeddings, PhraseEmbeddings) else embeddings
        known = len(phrases) - (self._source.missing if self._source else 0)
        if known != len(rows) or not known:
            raise ValueError(f"{known} phrases, but {len(rows)} embeddings")
        self.phrases = tuple(phrases)
        self._embeddings = rows
        self._row = {phrase: row for row, phrase in enumerate(self.phrases)}
        self._count = 1 + alternatives
        self._logit_scale = logit_scale
        self._grown_at = time.monotonic()

    def label(self, embeddings: Embeddings) -> list[tuple[Label, ...]]:
        """Nearest phrases of each embedding.

        Args:
            embeddings: float32 (segments, dimensions), unit norm.

        Returns:
            Per segment the best labels in falling order of cosine; equal scores in the vocabulary's order.
        """
        self._grow()
        if not len(embeddings):
            return []
        # PyTorch's threads, since those of NumPy's BLAS would be in their way.
        scores = torch.from_numpy(embeddings) @ torch.from_numpy(self._embeddings).T
        count = min(self._count, scores.shape[1])
        # Sorting whole vocabularies takes longer than comparing with them.
        lowest = scores.topk(count, dim=1).values[:, -1]
        return [
            self._labels(row, np.flatnonzero(row >= bound), count)
            for row, bound in zip(scores.numpy(), lowest.numpy(), strict=True)
        ]

    def _grow(self) -> None:
        """Embeds some more phrases, in a share of the time since the last ones."""
        if self._source is None or not self._source.missing:
            return
        passed = time.monotonic() - self._grown_at
        if self._source.embed_some(BACKGROUND_SHARE * passed):
            self._grown_at = time.monotonic()
            self._embeddings = self._source.rows
            if not self._source.missing:
                logger.info("the vocabulary is complete: %d phrases", len(self.phrases))

    def _labels(self, row: Embeddings, columns: NDArray[np.intp], count: int) -> tuple[Label, ...]:
        order = columns[np.argsort(-row[columns], kind="stable")][:count]
        scale = self._logit_scale
        chances = [None] * count if scale is None else probabilities(row, scale)[order].tolist()
        return tuple(
            Label(self.phrases[column], float(row[column]), chance)
            for column, chance in zip(order, chances, strict=True)
        )

    def text_embedding(self, phrase: str) -> Embeddings:
        """float32 (dimensions,) embedding of a phrase of the vocabulary.

        Raises:
            KeyError: If the phrase is not in it.
        """
        return self._embeddings[self._row[phrase]]


def probabilities(cosines: Embeddings, logit_scale: float) -> Embeddings:
    """CLIP's softmax over texts: float32 (texts,) that sum to 1, of cosines (texts,)."""
    powers = np.exp(logit_scale * (cosines - cosines.max()))
    return np.asarray(powers / powers.sum(), np.float32)


def embed_phrases(
    phrases: Sequence[str], templates: Sequence[str], embed: Callable[[Sequence[str]], Embeddings]
) -> Embeddings:
    """Embeds each phrase in every template and averages; float32 (phrases, dimensions), unit norm."""
    total = sum(
        embed([template.replace("{}", phrase) for phrase in phrases]) for template in templates
    )
    return np.asarray(total / np.linalg.norm(total, axis=1, keepdims=True), np.float32)
