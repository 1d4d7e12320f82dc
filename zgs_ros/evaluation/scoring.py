"""What one image contributes to the results, and the results of many.

A `ImageScores` holds counts and per-region values, never pixels, so that it fits on one line of a file;
every number of the results is computed from scored alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from zgs_ros.evaluation import metrics
from zgs_ros.evaluation.datasets.base import Category, Region, Sample
from zgs_ros.segmentation import Segmentation

GROUPS = {"object": "objects", "ground": "grounds", "backdrop": "backdrops", "": "regions"}
"""Plural of `Region.group`, as results call it."""

Count = Annotated[int, Field(ge=0)]


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LabelScores(_Row):
    """One region of the ground truth and what its mask was named.

    Attributes:
        category: Index of its class.
        group: `Region.group`.
        share: Covered share of the image.
        label: Label of its ground-truth mask.
        text: How well that label names its class, right from 0.5 on.
        phrase: Whether that label is its full phrase (noun and colour); None if it has none.
    """

    category: int
    group: str
    share: float
    label: str
    text: float
    phrase: bool | None


class ClassLabel(_Row):
    """What the mask of a whole class was named, all its instances together.

    Attributes:
        category: Index of the class.
        label: Label of its ground-truth mask.
        text: As `LabelScores.text`.
    """

    category: int
    label: str
    text: float


class RegionRecord(LabelScores):
    """One region of the ground truth, and how it was found.

    Attributes:
        best: Best IoU of any segment of the over-segmentation, before merging.
        named: Best IoU of a segment that was mapped to its class, `metrics.NOT_FOUND` without one.
    """

    best: float
    named: float


class ImageScores(_Row):
    """One image.

    Attributes:
        name: `Sample.name`.
        confusion: Pixels as (true class, predicted class, count); see `metrics.confusion_matrix`.
        on_other: Pixels of `metrics.OTHER` as (predicted class, count).
        named: Best IoU of a segment mapped to it, for each class of the ground truth.
        named_on_other: The same if segments are blamed for pixels of `metrics.OTHER`.
        class_labels: What the mask of each class was named.
        regions: The regions of the ground truth.
        labels: Label and mapped class of each segment, by rising id.
        seconds: Wall time of the segmentation.
        stages: Seconds per stage.
    """

    name: str
    confusion: list[tuple[Count, Count, Count]]
    on_other: list[tuple[Count, Count]]
    named: list[float]
    named_on_other: list[float]
    class_labels: list[ClassLabel]
    regions: list[RegionRecord]
    labels: list[tuple[str, int]]
    seconds: float
    stages: dict[str, float]

    def matrix(self, classes: int) -> NDArray[np.int64]:
        """The confusion matrix, int64 (classes + 1, classes + 1)."""
        matrix = np.zeros((classes + 1, classes + 1), np.int64)
        for row, column, count in self.confusion:
            matrix[row, column] = count
        return matrix

    def pixels_on_other(self, classes: int) -> NDArray[np.int64]:
        """int64 (classes,), see `metrics.count_on_other`."""
        pixels = np.zeros(classes, np.int64)
        for category, count in self.on_other:
            pixels[category] = count
        return pixels


def score(
    sample: Sample,
    segmentation: Segmentation,
    parts: NDArray[np.uint16],
    mapped: NDArray[np.int64],
    classes: int,
    seconds: float,
    region_labels: Sequence[tuple[str, float]],
    class_labels: Sequence[tuple[int, str, float]],
) -> ImageScores:
    """Compares a segmentation with the ground truth.

    Args:
        sample: Image and ground truth.
        segmentation: Of that image.
        parts: Its segments before merging, (height, width) ids from 1 on.
        mapped: Class of each segment, or `metrics.NONE`; in the order of `Segmentation.segments`.
        classes: Number of classes of the data set.
        seconds: Wall time of the segmentation.
        region_labels: Label of each region's ground-truth mask and how well it names the class.
        class_labels: Each class of the ground truth, label of its mask, and how well that names it.
    """
    ids = [segment.id for segment in segmentation.segments]
    segments = segmentation.label_map
    known = metrics.is_known(sample.classes)
    predicted = predicted_classes(segmentation, mapped)
    confusion = metrics.confusion_matrix(sample.classes, predicted, classes)
    on_other = metrics.count_on_other(sample.classes, predicted, classes)
    present = np.flatnonzero(confusion.sum(axis=1)[:classes]).tolist()
    class_named, class_named_on_other = (
        metrics.best_named_ious(
            metrics.iou_matrix(sample.classes, segments, present, ids, counted),
            present,
            mapped.tolist(),
        ).tolist()
        for counted in (known, sample.classes != metrics.VOID)
    )
    region_ids = [region.id for region in sample.regions]
    region_ious = metrics.iou_matrix(sample.instances, segments, region_ids, ids, known)
    categories = [region.category for region in sample.regions]
    part_ids = [int(i) for i in np.unique(parts) if i]
    part_ious = metrics.iou_matrix(sample.instances, parts, region_ids, part_ids, known)
    best = metrics.best_ious(part_ious)
    named = metrics.best_named_ious(region_ious, categories, mapped.tolist())
    regions = [
        RegionRecord(**scores.model_dump(), best=float(best[i]), named=float(named[i]))
        for i, scores in enumerate(label_scores(sample, region_labels))
    ]
    rows, columns = np.nonzero(confusion)
    return ImageScores(
        name=sample.name,
        confusion=[
            (int(r), int(c), int(confusion[r, c])) for r, c in zip(rows, columns, strict=True)
        ],
        on_other=[(int(c), int(on_other[c])) for c in np.flatnonzero(on_other)],
        named=class_named,
        named_on_other=class_named_on_other,
        class_labels=[
            ClassLabel(category=category, label=label, text=text)
            for category, label, text in class_labels
        ],
        regions=regions,
        labels=[(s.label, int(c)) for s, c in zip(segmentation.segments, mapped, strict=True)],
        seconds=seconds,
        stages=dict(segmentation.stage_times),
    )


def predicted_classes(segmentation: Segmentation, mapped: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64 (height, width) map of predicted classes, `metrics.NONE` where there is none."""
    table = np.full(int(segmentation.label_map.max(initial=0)) + 1, metrics.NONE, np.int64)
    for segment, category in zip(segmentation.segments, mapped, strict=True):
        if segment.id < len(table):
            table[segment.id] = category
    return table[segmentation.label_map]


def names_phrase(region: Region, label: str) -> bool | None:
    """Whether a label is an object's full phrase; None for what has no phrase but its class."""
    return label == region.phrase if region.group == "object" and region.phrase else None


def label_scores(sample: Sample, labels: Sequence[tuple[str, float]]) -> list[LabelScores]:
    """The regions of a sample with the labels of their masks.

    Args:
        sample: Ground truth.
        labels: Per region its label and how well that names the class.
    """
    pixels = np.bincount(sample.instances.ravel())
    return [
        LabelScores(
            category=region.category,
            group=region.group,
            share=float(pixels[region.id] / sample.instances.size),
            label=label,
            text=text,
            phrase=names_phrase(region, label),
        )
        for region, (label, text) in zip(sample.regions, labels, strict=True)
    ]


def summarise(scored: Sequence[ImageScores], categories: Sequence[Category]) -> dict[str, Any]:
    """All results of a data set, JSON-ready; undefined numbers are None.

    Args:
        scored: One per image.
        categories: The classes of the data set.
    """
    matrices = [scores.matrix(len(categories)) for scores in scored]
    total = sum(matrices, np.zeros((len(categories) + 1, len(categories) + 1), np.int64))
    regions = [region for scores in scored for region in scores.regions]
    with_background = [*metrics.class_ious(total), metrics.background_iou(total)]
    results: dict[str, Any] = {
        "images": len(scored),
        "iou": {
            "data_set": metrics.dataset_miou(total),
            "data_set_with_background": metrics.nan_mean(with_background),
            "per_image": metrics.nan_mean([metrics.image_iou(matrix) for matrix in matrices]),
        },
        "segment_recall": metrics.nan_mean([metrics.segment_recall(r.named) for r in scored]),
        "text_generation_quality": text_quality(regions),
        "reference": reference_results(scored, len(categories)),
        "over_segmentation": _over_segmentation(regions),
        "recall_by_size": {
            size: {"regions": count, "recall": recall}
            for size, (count, recall) in metrics.recall_by_size(
                [region.named for region in regions], [region.share for region in regions]
            ).items()
        },
        "classes": _class_table(total, categories, regions),
        "segments_per_image": metrics.nan_mean([len(scores.labels) for scores in scored]),
        "speed": _speed(scored),
    }
    return without_nan(results)


def reference_results(scored: Sequence[ImageScores], classes: int) -> dict[str, float]:
    """The three numbers of the publication, defined as in the reference; each a mean over images.

    Predictions on classes that the data set's list leaves out are wrong; segment recall is over the
    classes in ground truth or prediction; text generation quality is that of whole classes' masks,
    first averaged within each image.
    """
    ious, recalls, texts = [], [], []
    for scores in scored:
        matrix, on_other = scores.matrix(classes), scores.pixels_on_other(classes)
        present = np.flatnonzero(matrix.sum(axis=1)[:classes]).tolist()
        predicted = [category for _, category in scores.labels]
        blamed = metrics.is_blamed(matrix, on_other)
        ious.append(metrics.image_iou(matrix, on_other))
        recalls.append(metrics.reference_recall(scores.named_on_other, present, predicted, blamed))
        texts.append(metrics.text_generation_quality([row.text for row in scores.class_labels]))
    return {
        "iou": metrics.nan_mean(ious),
        "segment_recall": metrics.nan_mean(recalls),
        "text_generation_quality": metrics.nan_mean(texts),
    }


def text_quality(regions: Sequence[LabelScores]) -> dict[str, Any]:
    """Label quality on ground-truth masks: all, per group, with colour, and per size of object."""
    by_group = {
        plural: [r for r in regions if r.group == group]
        for group, plural in GROUPS.items()
        if group and any(r.group == group for r in regions)
    }
    objects = by_group.get("objects", list(regions))
    phrases = [region.phrase for region in regions if region.phrase is not None]
    return {
        "regions": len(regions),
        "all": _right(regions),
        **{plural: _right(members) for plural, members in by_group.items()},
        **({"objects_with_colour": metrics.nan_mean(phrases)} if phrases else {}),
        "by_size": {
            size.name: {"regions": len(members), "right": _right(members)}
            for size in metrics.SIZES
            for members in [[r for r in objects if metrics.size_name(r.share) == size.name]]
        },
    }


def _right(regions: Sequence[LabelScores]) -> float:
    return metrics.text_generation_quality([region.text for region in regions])


def _over_segmentation(regions: Sequence[RegionRecord]) -> dict[str, Any]:
    def quality(members: list[RegionRecord]) -> float:
        return metrics.over_segmentation_quality([region.best for region in members])

    groups = sorted({region.group for region in regions if region.group})
    return {
        "regions": len(regions),
        "all": quality(list(regions)),
        **{GROUPS[g]: quality([r for r in regions if r.group == g]) for g in groups},
        "by_size": {
            size.name: {"regions": len(members), "best_iou": quality(members)}
            for size in metrics.SIZES
            for members in [[r for r in regions if metrics.size_name(r.share) == size.name]]
        },
    }


def _class_table(
    total: NDArray[np.int64], categories: Sequence[Category], regions: Sequence[RegionRecord]
) -> dict[str, dict[str, Any]]:
    """IoU and label quality of the classes that occur."""
    ious = metrics.class_ious(total)
    table = {}
    for index, category in enumerate(categories):
        members = [region for region in regions if region.category == index]
        if members or not np.isnan(ious[index]):
            table[category.name] = {
                "iou": float(ious[index]),
                "regions": len(members),
                "right": _right(members),
            }
    return table


def _speed(scored: Sequence[ImageScores]) -> dict[str, Any]:
    """Seconds per image; the median, for a busy machine makes some images slow."""
    if not scored:
        return {}
    stages = {stage: None for scores in scored for stage in scores.stages}
    median = float(np.median([scores.seconds for scores in scored]))
    return {
        "seconds_per_image": median,
        "frames_per_second": 1.0 / median if median else float("nan"),
        "stages": {
            stage: float(np.median([scores.stages.get(stage, 0.0) for scores in scored]))
            for stage in stages
        },
    }


def without_nan(value: Any) -> Any:
    """The same nested mapping, with None for NaN, which JSON does not have."""
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and np.isnan(value) else value
