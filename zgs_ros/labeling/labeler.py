"""What names segments: the nearest phrases of a vocabulary, or captions."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from zgs_ros.config import SegmenterSettings
from zgs_ros.embedding.clip import ClipEmbedder
from zgs_ros.labeling.retrieval import RetrievalLabeler, cached_phrase_embeddings
from zgs_ros.labeling.vocabulary import load_vocabulary
from zgs_ros.labeling.zerocap import ZeroCapLabeler
from zgs_ros.models.loading import ModelError, load_language_model
from zgs_ros.segmentation import Label

Embeddings = NDArray[np.float32]


class Labeler(Protocol):
    """Names embeddings."""

    def label(self, embeddings: Embeddings) -> list[tuple[Label, ...]]:
        """Per embedding at least one label, the best first.

        Args:
            embeddings: float32 (segments, dimensions), unit norm.
        """
        ...

    def text_embedding(self, text: str) -> Embeddings:
        """float32 (dimensions,), unit norm, of the text of a label."""
        ...


def load_labeler(settings: SegmenterSettings, clip: ClipEmbedder, device: torch.device) -> Labeler:
    """Sets up the labeler that ``labeling.method`` names.

    Args:
        settings: Vocabulary or language model, and the labels' number and templates.
        clip: The CLIP that embeds the segments.
        device: Where a language model runs.

    Raises:
        ModelError: If the language model can't be loaded; the message says what to do.
        zgs_ros.labeling.vocabulary.VocabularyError: If the vocabulary can't be used.
    """
    labeling = settings.labeling
    if labeling.method == "zerocap":
        captions = settings.captions
        model = load_language_model(captions, device, settings.profile)
        try:
            return ZeroCapLabeler(
                model,
                clip,
                labeling.templates,
                captions.beams,
                captions.max_tokens,
                captions.steps,
                captions.batch,
                labeling.alternatives,
                settings.reference,
            )
        except ValueError as error:
            raise ModelError(f"captions.model {captions.model!r}: {error}") from error
    phrases = load_vocabulary(labeling.vocabulary, labeling.extra_vocabulary)
    texts = cached_phrase_embeddings(
        phrases, labeling.templates, clip.embed_texts, f"{clip.name} {clip.fingerprint()}"
    )
    return RetrievalLabeler(phrases, texts, labeling.alternatives)
