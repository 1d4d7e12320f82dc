"""What names segments: the nearest phrases of a vocabulary, or captions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from zgs_ros.config import SegmenterSettings
from zgs_ros.embedding.clip import ClipEmbedder
from zgs_ros.labeling.retrieval import PhraseEmbeddings, RetrievalLabeler
from zgs_ros.labeling.vocabulary import load_vocabulary
from zgs_ros.labeling.zerocap import ZeroCapLabeler
from zgs_ros.models.loading import ModelError, load_language_model
from zgs_ros.segmentation import Label

Embeddings = NDArray[np.float32]

FIRST_PHRASES = 1000
"""Phrases that are embedded before the first image where the rest may come later."""


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


def load_labeler(
    settings: SegmenterSettings,
    clip: ClipEmbedder,
    device: torch.device,
    begin_early: bool = False,
) -> Labeler:
    """Sets up the labeler that ``labeling.method`` names.

    Args:
        settings: Vocabulary or language model, and the labels' number and templates.
        clip: The CLIP that embeds the segments.
        device: Where a language model runs.
        begin_early: Whether to begin with a vocabulary's first phrases, where embeddings are not on
            disk yet, and to embed the others between images.

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
    space = f"{clip.name} {clip.fingerprint()}"
    source = PhraseEmbeddings(phrases, labeling.templates, text_encoder(clip), space)
    source.embed(FIRST_PHRASES if begin_early else len(phrases))
    return RetrievalLabeler(phrases, source, labeling.alternatives, clip.logit_scale)


def text_encoder(clip: ClipEmbedder) -> Callable[[Sequence[str]], Embeddings]:
    """CLIP's, for texts that begin alike as a template's do."""
    return lambda texts: clip.embed_continuations(texts, [0] * len(texts)).cpu().numpy()
