"""Data sets for evaluation, by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from zgs_ros.evaluation.datasets.base import Category, Dataset, DatasetError, Region, Sample
from zgs_ros.evaluation.datasets.masks import MaskDataset
from zgs_ros.evaluation.datasets.published import ade20k, coco_stuff, pascal_context, voc2012

__all__ = [
    "PUBLISHED",
    "Category",
    "Dataset",
    "DatasetError",
    "FirstSamples",
    "Region",
    "Sample",
    "open_published",
]

PUBLISHED: dict[str, Callable[[Path, str], MaskDataset]] = {
    "voc2012": voc2012,
    "pascal-context-59": lambda root, split: pascal_context(root, 59, split),
    "pascal-context-459": lambda root, split: pascal_context(root, 459, split),
    "ade20k": ade20k,
    "coco-stuff": coco_stuff,
}
"""Readers of published data sets; they take the folder and the split."""


def open_published(name: str, root: Path, split: str = "val") -> MaskDataset:
    """Opens a published data set.

    Raises:
        DatasetError: If there is no such reader, or the folder is not laid out as published.
    """
    if name not in PUBLISHED:
        raise DatasetError(f"data set {name!r} is not one of {', '.join(PUBLISHED)}")
    return PUBLISHED[name](root, split)


class FirstSamples:
    """The first samples of a data set.

    Args:
        dataset: All of them.
        count: How many to take, at least 1.
    """

    def __init__(self, dataset: Dataset, count: int) -> None:
        self.title = f"{dataset.title}, first {count}"
        self.categories = tuple(dataset.categories)
        self.names = tuple(dataset.names[:count])
        self.missing = tuple(dataset.missing)
        self._dataset = dataset

    def load(self, name: str) -> Sample:
        """See `Dataset.load`."""
        return self._dataset.load(name)
