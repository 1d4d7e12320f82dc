"""Metrics of zero-guidance segmentation, as pure functions of arrays.

Ground truth is a class map: 0 .. classes - 1, or `VOID` where nobody knows, or `BACKGROUND` where
the pixel belongs to none of the classes, or `OTHER` where it belongs to a class that is left out. A
prediction is a map of classes too, `NONE` where a
segment was mapped to no class. Every metric is NaN where it has nothing to measure, and averages
leave NaN out.

Sources: Rewatbowornwong et al., "Zero-guidance Segmentation Using Zero Segment Labels", ICCV 2023,
and the evaluation in the authors' public code, called "the reference" below; for the data-set mIoU
the PASCAL VOC development kit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

VOID = -1
"""Ground truth that is not evaluated: whatever is predicted there counts nowhere."""
BACKGROUND = -2
"""Ground truth that is known to be none of the classes."""
OTHER = -3
"""Ground truth of a class that the data set's list leaves out. It counts nowhere, as usual, but for
the reference, in which every prediction there is wrong."""
NONE = -1
"""A segment, or a predicted pixel, that was mapped to no class."""
NOT_FOUND = -1.0
"""The best IoU of a class that no segment was mapped to; it passes no threshold, not even 0."""

RECALL_THRESHOLDS: NDArray[np.float64] = np.arange(101) / 100
"""The IoU thresholds t of segment recall: 0.00, 0.01 .. 1.00, as in the reference."""
TEXT_THRESHOLD = 0.5
"""Cosine of sentence embeddings from which on a label names the class, as in the reference."""


@dataclass(frozen=True)
class SizeClass:
    """Regions that cover more than the previous size's share of the image, and at most `share`."""

    name: str
    share: float


SIZES = (
    SizeClass("tiny", 1 / 300),
    SizeClass("small", 0.01),
    SizeClass("medium", 0.03),
    SizeClass("large", 1.0),
)
"""At 640x480 the borders are 32^2, 55^2 and 96^2 pixels; the first and the last are COCO's."""


def confusion_matrix(
    truth: NDArray[np.integer], prediction: NDArray[np.integer], classes: int
) -> NDArray[np.int64]:
    """Counts the pixels of every pair of true and predicted class.

    Args:
        truth: (height, width), 0 .. classes - 1, `VOID`, `BACKGROUND` or `OTHER`.
        prediction: (height, width), 0 .. classes - 1 or `NONE`.
        classes: Number of classes.

    Returns:
        int64 (classes + 1, classes + 1): rows are ground truth, the last one background; columns
        are prediction, the last one none. Void and other pixels count nowhere.

    Raises:
        ValueError: If the maps differ in size or hold other values.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"truth is {truth.shape}, but prediction is {prediction.shape}")
    _check_range("truth", truth, OTHER, classes)
    _check_range("prediction", prediction, NONE, classes)
    known = is_known(truth)
    rows = np.where(truth == BACKGROUND, classes, truth)[known].astype(np.int64)
    columns = np.where(prediction == NONE, classes, prediction)[known].astype(np.int64)
    side = classes + 1
    return np.bincount(rows * side + columns, minlength=side * side).reshape(side, side)


def is_known(truth: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Boolean (height, width): neither void nor other, so that a prediction is right or wrong there."""
    return (truth != VOID) & (truth != OTHER)


def count_on_other(
    truth: NDArray[np.integer], prediction: NDArray[np.integer], classes: int
) -> NDArray[np.int64]:
    """int64 (classes,): pixels of `OTHER` that each class was predicted for."""
    predicted = prediction[(truth == OTHER) & (prediction != NONE)]
    return np.bincount(predicted.astype(np.int64), minlength=classes)


def class_ious(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """IoU of every class: IoU_c = n_cc / (sum_j n_cj + sum_i n_ic - n_cc).

    Args:
        confusion: See `confusion_matrix`; of one image, or the sum over a data set.

    Returns:
        float64 (classes,), NaN for classes that are neither in ground truth nor predicted.
    """
    return _ratio(np.diag(confusion), confusion.sum(1) + confusion.sum(0) - np.diag(confusion))[:-1]


def dataset_miou(confusion: NDArray[np.int64]) -> float:
    """Mean IoU over the classes, from one confusion matrix over all images (the usual mIoU)."""
    return nan_mean(class_ious(confusion))


def background_iou(confusion: NDArray[np.int64]) -> float:
    """IoU of the background with the pixels that no class was predicted for; NaN without
    background.

    Where a data set counts its background as a class (PASCAL VOC's 21st), its mIoU is the mean over
    `class_ious` and this.
    """
    if not confusion[-1].sum():
        return float("nan")
    hit = confusion[-1, -1]
    return float(hit / (confusion[-1].sum() + confusion[:, -1].sum() - hit))


def image_ious(
    confusion: NDArray[np.int64], on_other: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """IoU of every class within one image.

    Like `class_ious`, except that a class which is not in the image's ground truth is not blamed
    for pixels on the background, which may well show it: predicted on background alone it is NaN,
    elsewhere 0.

    Args:
        confusion: See `confusion_matrix`.
        on_other: See `count_on_other`; if given, these predictions are wrong, as in the reference.

    Returns:
        float64 (classes,), NaN for classes that take no part.
    """
    hits = np.diag(confusion)[:-1]
    more = np.zeros_like(hits) if on_other is None else on_other
    ious = _ratio(hits, confusion.sum(1)[:-1] + confusion.sum(0)[:-1] - hits + more)
    absent = confusion.sum(1)[:-1] == 0
    blamed = is_blamed(confusion, more)
    return np.where(absent & ~blamed, np.nan, ious)


def is_blamed(confusion: NDArray[np.int64], on_other: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Boolean (classes,): predicted for a pixel of another class, so that it is wrong even if absent."""
    return confusion[:-1, :-1].sum(0) + on_other > 0


def image_iou(confusion: NDArray[np.int64], on_other: NDArray[np.int64] | None = None) -> float:
    """Mean of `image_ious` over the classes in ground truth or prediction of one image.

    The per-image IoU of a data set is the mean of this over its images.
    """
    return nan_mean(image_ious(confusion, on_other))


def iou_matrix(
    truth: NDArray[np.integer],
    segments: NDArray[np.integer],
    truth_ids: Sequence[int],
    segment_ids: Sequence[int],
    known: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """IoU of every true region with every segment.

    Args:
        truth: (height, width), true regions by id.
        segments: (height, width), segments by id.
        truth_ids: Regions to measure, one per row of the result.
        segment_ids: Segments to measure, one per column.
        known: Boolean (height, width); pixels outside count nowhere.

    Returns:
        float64 (truth_ids, segment_ids); 0 where a region and a segment both have no known pixel.
    """
    if truth.shape != segments.shape:
        raise ValueError(f"truth is {truth.shape}, but segments are {segments.shape}")
    rows = _positions(truth if known is None else truth[known], truth_ids)
    columns = _positions(segments if known is None else segments[known], segment_ids)
    width = len(segment_ids) + 1
    counts = np.bincount(rows * width + columns, minlength=(len(truth_ids) + 1) * width)
    table = counts.reshape(len(truth_ids) + 1, width)
    union = table.sum(1, keepdims=True) + table.sum(0, keepdims=True) - table
    return np.nan_to_num(_ratio(table, union))[:-1, :-1]


def best_ious(ious: NDArray[np.float64]) -> NDArray[np.float64]:
    """Best IoU of every true region over all segments, whatever they are called; 0 without
    segments.

    Args:
        ious: See `iou_matrix`, (regions, segments).
    """
    return ious.max(axis=1, initial=0.0)


def best_named_ious(
    ious: NDArray[np.float64], classes: Sequence[int], mapped: Sequence[int]
) -> NDArray[np.float64]:
    """Best IoU of every true region over the segments that were mapped to its class.

    Args:
        ious: See `iou_matrix`, (regions, segments).
        classes: Class of each region.
        mapped: Class that each segment was mapped to, or `NONE`.

    Returns:
        float64 (regions,), `NOT_FOUND` where no segment was mapped to the region's class.
    """
    same = np.asarray(classes, np.int64)[:, None] == np.asarray(mapped, np.int64)[None]
    return np.where(same, ious, NOT_FOUND).max(axis=1, initial=NOT_FOUND)


def over_segmentation_quality(best: ArrayLike) -> float:
    """Mean over true instances of their best IoU with any segment: BOQ = mean_g max_s IoU(g, s)."""
    return nan_mean(best)


def segment_recall(best: ArrayLike) -> float:
    """Segment recall: the share of classes found at an IoU of at least t, averaged over t = 0 .. 1.

    SR = mean_t mean_c [b_c >= t] over `RECALL_THRESHOLDS`, with b_c the best IoU of one segment
    that was mapped to class c. As in the reference the comparison is >=, so a mapped segment counts
    at t = 0 even if it does not touch the class, and a class without a mapped segment never counts.

    Args:
        best: (classes,), see `best_named_ious`.
    """
    values = np.asarray(best, np.float64)
    if not values.size:
        return float("nan")
    return float((values[:, None] >= RECALL_THRESHOLDS[None]).mean())


def reference_recall(
    best: ArrayLike,
    present: Sequence[int],
    predicted: Sequence[int],
    blamed: NDArray[np.bool_],
) -> float:
    """Segment recall over the classes in ground truth *or* prediction, as in the reference.

    A class that is predicted and not in the image is found at t = 0 alone, where an IoU of 0 is
    enough; predicted on background and void alone, its IoU is undefined and it is never found.

    Args:
        best: (present,), see `best_named_ious`.
        present: Classes of the image's ground truth.
        predicted: Classes that its segments were mapped to.
        blamed: See `is_blamed`.
    """
    absent = sorted(set(predicted) - set(present) - {NONE})
    ious = [0.0 if blamed[category] else NOT_FOUND for category in absent]
    return segment_recall([*np.asarray(best, np.float64), *ious])


def text_generation_quality(similarities: ArrayLike, threshold: float = TEXT_THRESHOLD) -> float:
    """Share of labels of ground-truth segments that name their class: TGQ = mean_s [cos_s >=
    threshold].

    Args:
        similarities: (segments,), cosine between the sentence embeddings of label and class name;
            for exact matching 1 for a right label and 0 for a wrong one.
        threshold: Cosine from which on a label is right.
    """
    values = np.asarray(similarities, np.float64)
    return float((values >= threshold).mean()) if values.size else float("nan")


def recall_by_size(
    best: ArrayLike, shares: ArrayLike, sizes: Sequence[SizeClass] = SIZES
) -> Mapping[str, tuple[int, float]]:
    """Segment recall of true regions, split by the share of the image that they cover.

    Args:
        best: (regions,), see `best_named_ious`.
        shares: (regions,), covered share of the image in (0, 1].
        sizes: In rising order.

    Returns:
        Per size the number of regions and their `segment_recall`.
    """
    names = np.array([size_name(share, sizes) for share in np.asarray(shares, np.float64)])
    values = np.asarray(best, np.float64)
    return {
        size.name: (int((names == size.name).sum()), segment_recall(values[names == size.name]))
        for size in sizes
    }


def size_name(share: float, sizes: Sequence[SizeClass] = SIZES) -> str:
    """Name of the first size that a share of the image does not exceed."""
    return next((size.name for size in sizes if share <= size.share), sizes[-1].name)


def nan_mean(values: ArrayLike) -> float:
    """Mean of the values that are not NaN; NaN if there are none."""
    array = np.asarray(values, np.float64)
    array = array[~np.isnan(array)]
    return float(array.mean()) if array.size else float("nan")


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def _check_range(name: str, values: NDArray[np.integer], low: int, classes: int) -> None:
    if values.size and not low <= values.min() <= values.max() < classes:
        raise ValueError(
            f"{name} must lie within {low} .. {classes - 1}, got {values.min()} .. {values.max()}"
        )


def _positions(values: NDArray[np.integer], ids: Sequence[int]) -> NDArray[np.int64]:
    """Index into `ids` of every value, len(ids) for values that are not among them."""
    flat = values.reshape(-1)
    if not len(ids):
        return np.zeros(flat.shape, np.int64)
    order = np.argsort(ids, kind="stable")
    rising = np.asarray(ids)[order]
    place = np.searchsorted(rising, flat).clip(max=len(ids) - 1)
    return np.where(rising[place] == flat, order[place], len(ids)).astype(np.int64)


def adjusted_rand(left: NDArray[np.integer], right: NDArray[np.integer]) -> float:
    """How alike two partitions are: 1 for the same one, 0 for what chance gives.

    Pairs that are together in both, corrected for chance (Hubert and Arabie, "Comparing Partitions", 1985).

    Args:
        left: (items,) the number of each item's part, from 0 on.
        right: The same in the other partition.
    """
    shape = (int(left.max()) + 1, int(right.max()) + 1)
    places = np.ravel_multi_index((left.astype(np.int64), right.astype(np.int64)), shape)
    table = np.bincount(places, minlength=shape[0] * shape[1]).reshape(shape).astype(float)

    def pairs(counts: NDArray[np.float64]) -> float:
        return float((counts * (counts - 1)).sum() / 2)

    both, rows, columns = pairs(table), pairs(table.sum(1)), pairs(table.sum(0))
    chance = rows * columns / pairs(np.array([left.size], float))
    most = (rows + columns) / 2
    return 1.0 if most == chance else (both - chance) / (most - chance)
