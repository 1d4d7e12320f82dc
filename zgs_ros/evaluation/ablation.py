"""Ablation of the segment embedding: label quality on ground-truth masks, variant by variant."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from zgs_ros.config import SegmenterSettings
from zgs_ros.embedding.clip import ClipEmbedder, Mode
from zgs_ros.evaluation import run
from zgs_ros.evaluation.datasets.base import Dataset, DatasetError, Sample
from zgs_ros.evaluation.evaluation_journal import EvaluationJournal
from zgs_ros.evaluation.intervals import bootstrap_interval, compare
from zgs_ros.evaluation.mapping import (
    REFERENCE_ENCODER,
    LabelMapper,
    NameMapper,
    SentenceMapper,
    load_sentence_encoder,
)
from zgs_ros.evaluation.mapping import Mapping as LabelMapping
from zgs_ros.evaluation.metrics import TEXT_THRESHOLD, nan_mean
from zgs_ros.evaluation.scoring import LabelScores, label_scores, text_quality, without_nan
from zgs_ros.labeling.labeler import Labeler, load_labeler
from zgs_ros.models.loading import load_clip, resolve_device
from zgs_ros.models.precision import resolve_precision

SIGMAS = (1.0, 2.0, 5.0)
BLOCKS = (1, 2, 3, 4)


@dataclass(frozen=True)
class EmbeddingVariant:
    """One way to embed a segment; see `ClipEmbedder`."""

    name: str
    mode: Mode
    blocks: int = 1
    sigma: float = 5.0


class AblationScores(BaseModel):
    """One image under every variant.

    Attributes:
        name: `Sample.name`.
        labels: Per variant the regions of the image with the labels of their masks.
        seconds: Per variant the time to embed and name them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    labels: dict[str, list[LabelScores]]
    seconds: dict[str, float]


def embedding_variants(
    sigmas: Sequence[float] = SIGMAS, blocks: Sequence[int] = BLOCKS
) -> list[EmbeddingVariant]:
    """Crop, dense, mask alone, and global subtraction, for every sigma and number of masked blocks."""

    def plural(count: int) -> str:
        return f"{count} block{'s' if count > 1 else ''}"

    return [
        EmbeddingVariant("crop", "crop"),
        EmbeddingVariant("dense", "dense"),
        *(EmbeddingVariant(f"mask, {plural(b)}", "mask", b) for b in blocks),
        *(
            EmbeddingVariant(
                f"global subtraction, sigma {s:g}, {plural(b)}", "global_subtraction", b, s
            )
            for s, b in itertools.product(sigmas, blocks)
        ),
    ]


def ablate_embedding(
    dataset: Dataset,
    settings: SegmenterSettings,
    folder: Path,
    mapping: LabelMapping = "names",
    sentence_model: str = REFERENCE_ENCODER,
    fresh: bool = False,
    track: run.Track = run.silent,
    variants: Sequence[EmbeddingVariant] | None = None,
) -> dict[str, Any]:
    """Label quality on ground-truth masks for several ways to embed a segment.

    The model and the vocabulary's embeddings, which no variant changes, are loaded once.

    Args:
        dataset: Images with ground truth.
        settings: CLIP model, vocabulary and device; ``clip.mode``, ``clip.sigma`` and
            ``clip.masked_blocks`` are varied.
        folder: For ``scores.jsonl`` and ``results.json``; a stopped run goes on.
        mapping: ``tt`` judges labels by sentence embeddings, the others by exact names.
        sentence_model: For the mapping tt.
        fresh: Forgets an earlier run in the folder.
        track: Shows progress.
        variants: By default `embedding_variants`.

    Returns:
        Results, JSON-ready; ``variants`` holds `scoring.text_quality` of each, its ``interval`` (95 %,
        bootstrap over images), and what it lost and won against the variant ``baseline``: the first
        that masks alone, or the first of all.

    Raises:
        JournalError, MappingError, ModelError: As for `run.evaluate`.
    """
    chosen = list(variants or embedding_variants())
    identity = run.run_identity(dataset, settings, mapping, sentence_model)
    identity["settings"] = {
        key: value
        for key, value in identity["settings"].items()
        if key not in ("clip.mode", "clip.sigma", "clip.masked_blocks")
        and not key.startswith(("dino.", "clustering.", "refinement.", "merging."))
    }
    identity["variants"] = [variant.name for variant in chosen]
    journal = EvaluationJournal(folder, AblationScores, identity, fresh)
    skipped = list(dataset.missing)
    todo = [name for name in dataset.names if name not in journal.entries]
    if todo:
        if mapping == "tt":
            encode = load_sentence_encoder(sentence_model)
            mapper: LabelMapper = SentenceMapper(dataset.categories, encode)
        else:
            mapper = NameMapper(dataset.categories)
        clip, labeler = _load(settings)
        embedders = {v.name: clip.variant(v.mode, v.blocks, v.sigma) for v in chosen}
        for name in track(todo, "ablating"):
            try:
                sample = dataset.load(name)
            except DatasetError as error:
                skipped.append(str(error))
                continue
            journal.add(_label_sample(embedders, labeler, mapper, sample))
    scored = [journal.entries[name] for name in dataset.names if name in journal.entries]
    baseline = next((v.name for v in chosen if v.mode == "mask"), chosen[0].name)
    results = {
        "identity": identity,
        "images": len(scored),
        "skipped": skipped,
        "baseline": baseline,
        "variants": without_nan(_summarise(scored, [variant.name for variant in chosen], baseline)),
    }
    run.write_json(folder / "results.json", results)
    return results


def _load(settings: SegmenterSettings) -> tuple[ClipEmbedder, Labeler]:
    """CLIP and labeler alone: ground-truth masks need no over-segmentation."""
    device = resolve_device(settings.device)
    precision = resolve_precision(settings, device)
    clip = load_clip(settings.clip, device, precision, settings.profile)
    clip = clip.as_reference() if settings.reference else clip
    return clip, load_labeler(settings, clip, device)


def _label_sample(
    embedders: Mapping[str, ClipEmbedder],
    labeler: Labeler,
    mapper: LabelMapper,
    sample: Sample,
) -> AblationScores:
    masks = sample.masks()
    truth = [region.category for region in sample.regions]
    labels: dict[str, list[LabelScores]] = {}
    seconds: dict[str, float] = {}
    for name, embedder in embedders.items():
        start = time.perf_counter()
        found = labeler.label(embedder.embed_segments([sample.image], [masks])[0])
        seconds[name] = time.perf_counter() - start
        texts = [candidates[0].text for candidates in found]
        right = mapper.similarities(texts, truth).tolist()
        labels[name] = label_scores(sample, list(zip(texts, right, strict=True)))
    return AblationScores(name=sample.name, labels=labels, seconds=seconds)


def _summarise(
    scored: Sequence[AblationScores], variants: Iterable[str], baseline: str
) -> dict[str, Any]:
    before = _right(scored, baseline)
    return {
        variant: {
            **text_quality([label for scores in scored for label in scores.labels[variant]]),
            "interval": bootstrap_interval(now),
            **asdict(compare(_flat(before), _flat(now))),
            "seconds_per_image": float(np.median([r.seconds[variant] for r in scored]))
            if scored
            else nan_mean([]),
        }
        for variant in variants
        for now in [_right(scored, variant)]
    }


def _right(scored: Sequence[AblationScores], variant: str) -> list[list[bool]]:
    """Per image whether each object, or each region where there are no objects, has a right label."""
    images = [scores.labels[variant] for scores in scored]
    group = "object" if any(label.group == "object" for image in images for label in image) else ""
    return [
        [label.text >= TEXT_THRESHOLD for label in image if group in ("", label.group)]
        for image in images
    ]


def _flat(images: Sequence[Sequence[bool]]) -> list[bool]:
    return [right for image in images for right in image]
