"""Published data sets, read from the folders in which they are distributed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat  # type: ignore[import-untyped, unused-ignore]

from zgs_ros.evaluation.datasets.base import Category, DatasetError, parse_category
from zgs_ros.evaluation.datasets.masks import (
    Entry,
    MaskDataset,
    find_root,
    read_class_list,
    read_lines,
    split_names,
)
from zgs_ros.evaluation.metrics import BACKGROUND, OTHER, VOID

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
"""The 20 classes of Pascal VOC in the order of their mask values 1 .. 20."""
CONTEXT_CLASSES = (
    *("aeroplane", "bag", "bed", "bedclothes", "bench", "bicycle", "bird", "boat", "book"),
    *("bottle", "building", "bus", "cabinet", "car", "cat", "ceiling", "chair", "cloth"),
    *("computer", "cow", "cup", "curtain", "dog", "door", "fence", "floor", "flower", "food"),
    *("grass", "ground", "horse", "keyboard", "light", "motorbike", "mountain", "mouse", "person"),
    *("plate", "platform", "pottedplant", "road", "rock", "sheep", "shelves", "sidewalk", "sign"),
    *("sky", "snow", "sofa", "table", "track", "train", "tree", "truck", "tvmonitor", "wall"),
    *("water", "window", "wood"),
)
"""The 59 classes of Pascal Context, spelled as in its list of 459; its list of 59 differs."""
PLAIN_ENGLISH = {
    "diningtable": "dining table",
    "pottedplant": "potted plant",
    "solid-other": "solid object",
    "structural-other": "structure",
    "tvmonitor": "tv monitor/television",
    "window-blind": "window blind",
}
"""What published class names mean that are no words."""
COCO_STUFF_UNUSED = frozenset({11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90})
"""Mask values in COCO-Stuff's list of 182 classes that no image has; 171 remain."""


def voc2012(root: Path, split: str = "val") -> MaskDataset:
    """Pascal VOC 2012 segmentation.

    Layout: ``JPEGImages/NAME.jpg``, ``SegmentationClass/NAME.png``,
        ``SegmentationObject/NAME.png``,
    ``ImageSets/Segmentation/SPLIT.txt`` in `root` or in ``VOCdevkit/VOC2012`` below it. 0 is
    background, 255 void. The background is no class here, as nothing can be said to name it.

    Raises:
        DatasetError: If the layout or the split is not there.
    """
    needed = ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation")
    base = find_root(root, ("VOC2012", "VOCdevkit/VOC2012"), needed)
    has_instances = (base / "SegmentationObject").is_dir()
    entries = [
        Entry(
            name,
            base / "JPEGImages" / f"{name}.jpg",
            base / "SegmentationClass" / f"{name}.png",
            base / "SegmentationObject" / f"{name}.png" if has_instances else None,
        )
        for name in split_names(base / "ImageSets/Segmentation", split)
    ]
    meaning = {0: BACKGROUND, 255: VOID, **{i + 1: i for i in range(len(VOC_CLASSES))}}
    categories = [_category(name) for name in VOC_CLASSES]
    return MaskDataset(f"Pascal VOC 2012 {split}", categories, entries, meaning)


def pascal_context(root: Path, classes: int = 59, split: str = "val") -> MaskDataset:
    """Pascal Context with 59 or 459 classes.

    Layout: VOC 2010 (``JPEGImages``, ``ImageSets/Main/SPLIT.txt``) in `root` or in
    ``VOCdevkit/VOC2010`` below it, and beside it or in `root` the annotations as distributed:
    ``trainval/NAME.mat`` (key LabelMap) and ``labels.txt``. Pixels of other classes count for the
    reference's numbers alone.

    Raises:
        DatasetError: If the layout, the lists or the split are not there, or `classes` is neither.
    """
    if classes not in (59, 459):
        raise DatasetError(f"Pascal Context has 59 or 459 classes, not {classes}")
    base = find_root(root, ("VOC2010", "VOCdevkit/VOC2010"), ("JPEGImages", "ImageSets"))
    notes = next((p for p in (root, base) if (p / "labels.txt").is_file()), None)
    if notes is None:
        raise DatasetError(f"{root}: has no labels.txt, which comes with Pascal Context")
    mats = next((notes / d for d in ("trainval", "segment_anno") if (notes / d).is_dir()), None)
    if mats is None:
        raise DatasetError(f"{notes}: has no folder trainval with Pascal Context's .mat files")
    listed = {value: name for value, name in read_class_list(notes / "labels.txt").items() if value}
    if classes == 59:
        listed = _only_59(listed, notes / "labels.txt")
    listed = {value: name for value, name in listed.items() if name != "unknown"}
    categories, meaning = _number(listed)
    sets = base / "ImageSets"
    lists = (
        sets / "SegmentationContext" if (sets / "SegmentationContext").is_dir() else sets / "Main"
    )
    entries = [
        Entry(name, base / "JPEGImages" / f"{name}.jpg", mats / f"{name}.mat")
        for name in split_names(lists, split)
    ]
    title = f"Pascal Context {classes} {split}"
    return MaskDataset(title, categories, entries, meaning, OTHER, read_label_map)


def ade20k(root: Path, split: str = "validation") -> MaskDataset:
    """ADE20K scene parsing with 150 classes.

    Layout: ``images/SPLIT/NAME.jpg``, ``annotations/SPLIT/NAME.png`` and ``objectInfo150.txt`` in
    `root` or in ``ADEChallengeData2016`` below it. 0 is any other class.

    Raises:
        DatasetError: If the layout or the split is not there.
    """
    split = {"val": "validation", "train": "training"}.get(split, split)
    needed = (f"images/{split}", f"annotations/{split}", "objectInfo150.txt")
    base = find_root(root, ("ADEChallengeData2016",), needed)
    categories, meaning = _number(_ade_classes(base / "objectInfo150.txt"))
    entries = [
        Entry(path.stem, path, base / "annotations" / split / f"{path.stem}.png")
        for path in sorted((base / "images" / split).glob("*.jpg"))
    ]
    return MaskDataset(f"ADE20K {split}", categories, entries, {0: OTHER, **meaning})


def coco_stuff(root: Path, split: str = "val2017") -> MaskDataset:
    """COCO-Stuff with 171 classes, things and stuff.

    Layout: ``images/SPLIT/NAME.jpg``, masks in ``annotations/SPLIT`` or
    ``stuffthingmaps_trainval2017/SPLIT``, and ``labels.txt`` in `root`. A mask's value is one less
    than the number in ``labels.txt``; 255 is unlabelled, which the reference takes for another class.

    Raises:
        DatasetError: If the layout or the split is not there.
    """
    split = {"val": "val2017", "train": "train2017"}.get(split, split)
    base = find_root(root, ("cocostuff", "dataset"), (f"images/{split}", "labels.txt"))
    folders = (base / d / split for d in ("annotations", "stuffthingmaps_trainval2017"))
    masks = next((folder for folder in folders if folder.is_dir()), None)
    if masks is None:
        raise DatasetError(f"{base}: has no annotations/{split} with COCO-Stuff's masks")
    listed = {
        number - 1: name
        for number, name in read_class_list(base / "labels.txt").items()
        if number and number - 1 not in COCO_STUFF_UNUSED
    }
    meaning = {value: index for index, value in enumerate(listed)}
    categories = [parse_category(_narrowed(name), name) for name in listed.values()]
    entries = [
        Entry(path.stem, path, masks / f"{path.stem}.png")
        for path in sorted((base / "images" / split).glob("*.jpg"))
    ]
    return MaskDataset(f"COCO-Stuff {split}", categories, entries, {255: OTHER, **meaning})


def read_label_map(path: Path) -> NDArray[np.int64]:
    """The array LabelMap of a Matlab file, (height, width).

    Raises:
        DatasetError: If it can't be read or has no such array.
    """
    try:
        values = loadmat(path)["LabelMap"]
    except (OSError, ValueError, KeyError, NotImplementedError) as error:
        raise DatasetError(f"{path}: holds no LabelMap ({error})") from None
    return np.asarray(values, np.int64)


def _number(listed: dict[int, str]) -> tuple[list[Category], dict[int, int]]:
    """Categories in the order of their mask values, and the class of each value."""
    values = sorted(listed)
    meaning = {value: index for index, value in enumerate(values)}
    return [_category(listed[value]) for value in values], meaning


def _category(name: str) -> Category:
    return parse_category(PLAIN_ENGLISH.get(name, name), name)


def _narrowed(name: str) -> str:
    """COCO-Stuff narrows with a hyphen: "wall-brick" is a brick wall, "wall-other" another."""
    kind, _, narrower = PLAIN_ENGLISH.get(name, name).partition("-")
    return kind if narrower in ("", "other", "stuff") else f"{narrower} {kind}"


def _only_59(listed: dict[int, str], path: Path) -> dict[int, str]:
    """The 59 classes among the 459."""
    unlisted = sorted(set(CONTEXT_CLASSES) - set(listed.values()))
    if unlisted:
        raise DatasetError(f"{path}: lists no {', '.join(unlisted)}; is it Pascal Context's own?")
    return {value: name for value, name in listed.items() if name in CONTEXT_CLASSES}


def _ade_classes(path: Path) -> dict[int, str]:
    """Class names by mask value from the table with columns Idx, Ratio, Train, Val, Name."""
    classes = {}
    for line in read_lines(path):
        cells = [cell.strip() for cell in line.split("\t")]
        if cells[0].isdigit():
            classes[int(cells[0])] = cells[-1]
    if not classes:
        raise DatasetError(f"{path}: holds no line with number and name, separated by tabs")
    return classes
