"""Evaluation of the whole pipeline on a data set."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np
from numpy.typing import NDArray

from zgs_ros import __version__
from zgs_ros.config import SegmenterSettings, flatten
from zgs_ros.evaluation.datasets.base import Dataset, DatasetError, Sample
from zgs_ros.evaluation.evaluation_journal import EvaluationJournal
from zgs_ros.evaluation.mapping import (
    REFERENCE_ENCODER,
    LabelMapper,
    Mapping,
    load_sentence_encoder,
    make_mapper,
)
from zgs_ros.evaluation.scoring import ImageScores, score, summarise
from zgs_ros.files.ownership import write_whole
from zgs_ros.models.loading import BUNDLED, bundled_folder
from zgs_ros.segmenter import Segmenter, load_segmenter

Track = Callable[[Sequence[str], str], Iterable[str]]
"""Passes the names on while it shows how far they are; takes them and a title."""


@dataclass(frozen=True)
class Outcome:
    """What an evaluation found.

    Attributes:
        results: All numbers, JSON-ready, see `scoring.summarise`; ``identity`` says of what.
        scored: Per image, in the data set's order.
        skipped: Samples that lack ground truth or are broken, each with the reason.
        folder: Where it all lies.
    """

    results: dict[str, Any]
    scored: list[ImageScores]
    skipped: list[str]
    folder: Path


def silent(names: Sequence[str], title: str) -> Iterable[str]:
    """A `Track` that shows nothing."""
    return names


def evaluate(
    dataset: Dataset,
    settings: SegmenterSettings,
    folder: Path,
    mapping: Mapping = "names",
    sentence_model: str = REFERENCE_ENCODER,
    fresh: bool = False,
    track: Track = silent,
) -> Outcome:
    """Segments every image of a data set and compares with the ground truth.

    Each image's scores and predicted label map are written as soon as they are there; a run that
    was stopped goes on behind the last one.

    Args:
        dataset: Images with ground truth.
        settings: Of the segmenter.
        folder: For ``scores.jsonl``, ``predictions/`` and ``results.json``.
        mapping: How labels are mapped to classes, see `zgs_ros.evaluation.mapping`.
        sentence_model: For the mapping tt.
        fresh: Forgets an earlier run in the folder.
        track: Shows progress.

    Raises:
        JournalError: If the folder holds results of another run.
        MappingError: If the mapping can't be set up.
        ModelError: If a model can't be loaded.
    """
    identity = run_identity(dataset, settings, mapping, sentence_model)
    journal = EvaluationJournal(folder, ImageScores, identity, fresh)
    open_names = [name for name in dataset.names if name not in journal.entries]
    skipped = list(dataset.missing)
    if open_names:
        names = track(open_names, "evaluating")
        skipped += _process(dataset, settings, names, journal, mapping, sentence_model)
    scored = [journal.entries[name] for name in dataset.names if name in journal.entries]
    results = {
        "identity": identity,
        "skipped": skipped,
        **summarise(scored, dataset.categories),
    }
    write_json(folder / "results.json", results)
    return Outcome(results, scored, skipped, folder)


def run_identity(
    dataset: Dataset, settings: SegmenterSettings, mapping: Mapping, sentence_model: str
) -> dict[str, Any]:
    """Everything that decides the numbers of a run."""
    return {
        "version": __version__,
        "data_set": dataset.title,
        "mapping": mapping,
        **({"sentence_model": sentence_model} if mapping == "tt" else {}),
        "settings": flatten(settings),
        "weights": {
            section: weights_identity(model.model, model.weights)
            for section, model in (("dino", settings.dino), ("clip", settings.clip))
        },
    }


def weights_identity(model: str, file: str) -> str:
    """Tells apart weights that settings do not tell apart: bundled models, and files by path."""
    if model in BUNDLED:
        return hashlib.sha256((bundled_folder(model) / "SHA256SUMS").read_bytes()).hexdigest()[:16]
    if file and Path(file).is_file():
        status = Path(file).stat()
        return f"{status.st_size} bytes of {status.st_mtime:.0f}"
    return ""


def text_encoder(segmenter: Segmenter) -> Callable[[Sequence[str]], NDArray[np.float32]]:
    """The segmenter's text tower for many texts: float32 (texts, dimensions)."""
    return lambda texts: np.stack([segmenter.embed_text(text) for text in texts])


def label_map_file(folder: Path, name: str) -> Path:
    """Where a sample's predicted segments lie: 16-bit PNG, 0 = none."""
    return folder / "predictions" / f"{file_name(name)}.png"


def file_name(name: str) -> str:
    """A name for a file or folder that is as unique as the given name, whatever that holds."""
    return quote(name, safe=" ,=+-")


def write_label_map(path: Path, label_map: NDArray[np.uint16]) -> None:
    """Writes segment ids as a 16-bit PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded, png = cv2.imencode(".png", label_map)
    assert encoded, "PNG holds any uint16 image"
    path.write_bytes(png.tobytes())


def write_json(path: Path, content: Any) -> None:
    """Writes readable JSON, never half a file."""
    write_whole(path, f"{json.dumps(content, indent=2)}\n".encode())


def _process(
    dataset: Dataset,
    settings: SegmenterSettings,
    names: Iterable[str],
    journal: EvaluationJournal[ImageScores],
    mapping: Mapping,
    sentence_model: str,
) -> list[str]:
    """Evaluates the named samples; returns the broken ones, each with the reason."""
    sentences = load_sentence_encoder(sentence_model) if mapping == "tt" else None
    segmenter = load_segmenter(settings)
    mapper = make_mapper(mapping, dataset.categories, sentences or text_encoder(segmenter))
    broken = []
    warm = False
    for name in names:
        try:
            sample = dataset.load(name)
        except DatasetError as error:
            broken.append(str(error))
            continue
        if not warm:
            segmenter.segment(
                sample.image
            )  # the first run of a model takes longer and is not timed
            warm = True
        start = time.perf_counter()
        segmentation = segmenter.segment(sample.image)
        seconds = time.perf_counter() - start
        labels = [segment.label for segment in segmentation.segments]
        mapped = mapper.map_segments(labels, segmentation.embeddings)
        region_labels, class_labels = _label_masks(segmenter, mapper, sample)
        write_label_map(label_map_file(journal.folder, name), segmentation.label_map)
        classes = len(dataset.categories)
        parts = segmenter.over_segment(sample.image)
        journal.add(
            score(
                sample,
                segmentation,
                parts,
                mapped,
                classes,
                seconds,
                region_labels,
                class_labels,
            )
        )
    segmenter.close()
    return broken


def _label_masks(
    segmenter: Segmenter, mapper: LabelMapper, sample: Sample
) -> tuple[list[tuple[str, float]], list[tuple[int, str, float]]]:
    """Labels of the ground-truth masks, and how well they name the class.

    Returns:
        Of each region, and of each class, all its pixels in one mask, with the class in front.
    """
    masks = list(sample.masks())
    owners = [region.category for region in sample.regions]
    present = np.unique(sample.classes[sample.classes >= 0]).tolist()
    places = []
    for category in present:
        whole = sample.classes == category
        # Where a class is one region, its mask has been there.
        same = [i for i, owner in enumerate(owners) if owner == category]
        if len(same) == 1 and np.array_equal(masks[same[0]], whole):
            places.append(same[0])
        else:
            places.append(len(masks))
            masks.append(whole)
    if not masks:
        return [], []
    descriptions = segmenter.describe_masks(sample.image, np.stack(masks))
    labels = [description.labels[0].text for description in descriptions]
    region_labels, class_labels = labels[: len(owners)], [labels[place] for place in places]
    named = mapper.similarities([*region_labels, *class_labels], [*owners, *present]).tolist()
    return (
        list(zip(region_labels, named[: len(owners)], strict=True)),
        list(zip(present, class_labels, named[len(owners) :], strict=True)),
    )
