"""Data sets of image files with a mask file each; published ones differ in folders and numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zgs_ros.evaluation.datasets.base import (
    Category,
    DatasetError,
    Region,
    Sample,
    parse_category,
    regions_of_classes,
)
from zgs_ros.evaluation.metrics import BACKGROUND, VOID

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
ReadMask = Callable[[Path], NDArray[np.int64]]
"""Reads the values of a mask file, (height, width)."""


@dataclass(frozen=True)
class Entry:
    """The files of one sample.

    Attributes:
        name: Unique in its data set.
        image: Colour image.
        mask: Class of every pixel.
        instances: Instance of every pixel, 0 and 255 = none; None where there is no such file.
    """

    name: str
    image: Path
    mask: Path
    instances: Path | None = None


class MaskDataset:
    """Images with masks in files.

    Args:
        title: How results call it.
        categories: The classes.
        entries: The samples; those that lack a file are listed in `missing`, not in `names`.
        meaning: What the values of a mask stand for: a class, `VOID`, `BACKGROUND` or `OTHER`.
        other: What values stand for that are not in `meaning`; None if they are an error.
        read: Reads a mask file.

    Raises:
        DatasetError: If no sample is complete.
    """

    def __init__(
        self,
        title: str,
        categories: Sequence[Category],
        entries: Iterable[Entry],
        meaning: Mapping[int, int],
        other: int | None = None,
        read: ReadMask | None = None,
    ) -> None:
        self.title = title
        self.categories = tuple(categories)
        self._meaning = meaning
        self._other = other
        self._read = read or read_png
        self._entries: dict[str, Entry] = {}
        missing = []
        for entry in entries:
            lacking = [f"{path} is missing" for path in _files(entry) if not path.is_file()]
            if lacking:
                missing.append(f"{entry.name}: {', '.join(lacking)}")
            else:
                self._entries[entry.name] = entry
        self.missing: tuple[str, ...] = tuple(missing)
        self.names = tuple(self._entries)
        if not self.names:
            example = f", for example {missing[0]}" if missing else ""
            raise DatasetError(f"{title}: there is no image with ground truth{example}")

    def load(self, name: str) -> Sample:
        """Reads one sample.

        Raises:
            DatasetError: If a file is broken, or a mask holds a value that means nothing.
        """
        entry = self._entries[name]
        image = _read_image(entry.image)
        values = self._read(entry.mask)
        classes = self._classes(values, entry.mask)
        if entry.instances is None:
            instances, regions = regions_of_classes(classes, len(self.categories))
        else:
            instances, regions = _instances(read_png(entry.instances), classes, entry)
        return Sample(name, image, classes, instances, regions)

    def _classes(self, values: NDArray[np.int64], path: Path) -> NDArray[np.int32]:
        found, places = np.unique(values, return_inverse=True)
        table = []
        for value in found.tolist():
            meaning = self._meaning.get(value, self._other)
            if meaning is None:
                raise DatasetError(
                    f"{path}: value {value} is not in the class list "
                    f"({min(self._meaning)} .. {max(self._meaning)})"
                )
            table.append(meaning)
        return np.array(table, np.int32)[places.reshape(values.shape)]


def read_png(path: Path) -> NDArray[np.int64]:
    """Values of a single-channel or palette image, (height, width).

    Raises:
        DatasetError: If it can't be read or is a colour image.
    """
    try:
        with Image.open(path) as image:
            values = np.array(image)
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error, others
        raise DatasetError(f"{path}: can't be read as an image ({error})") from None
    if values.ndim != 2:
        raise DatasetError(f"{path}: is a colour image; a mask needs one channel or a palette")
    return values.astype(np.int64)


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty.

    Raises:
        DatasetError: If it can't be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: can't be read as text ({error})") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def read_class_list(path: Path) -> dict[int, str]:
    """Class names by mask value, from lines "7: name" or "7<tab>name", or plain names from 0 on.

    Raises:
        DatasetError: If it can't be read, is empty, or mixes both forms.
    """
    lines = read_lines(path)
    numbered = {}
    for line in lines:
        number, colon, name = line.replace("\t", ":", 1).partition(":")
        if colon and number.strip().isdigit():
            numbered[int(number)] = name.strip()
    if not lines:
        raise DatasetError(f"{path}: is empty; one class a line is expected")
    if not numbered:
        return dict(enumerate(lines))
    if len(numbered) != len(lines):
        raise DatasetError(f"{path}: some lines have a number and some have none, or one repeats")
    return numbered


def find_root(root: Path, candidates: Sequence[str], needed: Sequence[str]) -> Path:
    """The folder of a data set: `root` itself or one of its usual places below.

    Args:
        root: What the user gave.
        candidates: Relative folders to look into, such as "VOCdevkit/VOC2012".
        needed: What must be there.

    Raises:
        DatasetError: If none has all that is needed.
    """
    for place in (root, *(root / candidate for candidate in candidates)):
        if all((place / name).exists() for name in needed):
            return place
    raise DatasetError(
        f"{root}: has no {', '.join(needed)} (looked there and in {', '.join(candidates)})"
    )


def split_names(folder: Path, split: str) -> list[str]:
    """Sample names of a split, from ``folder/split.txt``.

    Raises:
        DatasetError: If there is no such split; the message lists those that exist.
    """
    path = folder / f"{split}.txt"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.txt"))) or "none"
        raise DatasetError(f"{path}: there is no split {split!r} (there are: {known})")
    return [line.split()[0] for line in read_lines(path)]


def folder_dataset(images: Path, masks: Path, classes: Path, void: int = 255) -> MaskDataset:
    """Any folder of images with a folder of PNG masks of the same names.

    In the class list the names ``background`` and ``void`` (also ``ignore``, ``unlabeled``,
    ``unlabelled``) are no classes: background is ground truth that is none of them, void is not
    evaluated. The value `void` is void unless it is listed.

    Args:
        images: Folder with images, searched with its subfolders.
        masks: Folder with ``NAME.png``, in the same subfolders.
        classes: Class list, see `read_class_list`.
        void: Mask value that is not evaluated.

    Raises:
        DatasetError: If a folder or the list can't be used.
    """
    if not images.is_dir():
        raise DatasetError(f"{images}: is not a folder with images")
    files = sorted(p for p in images.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    names = [path.relative_to(images).with_suffix("") for path in files]
    entries = [
        Entry(name.as_posix(), path, masks / name.parent / f"{name.name}.png")
        for name, path in zip(names, files, strict=True)
    ]
    special = {"background": BACKGROUND, "void": VOID, "ignore": VOID}
    special |= {"unlabeled": VOID, "unlabelled": VOID}
    categories: list[Category] = []
    meaning = {void: VOID}
    for value, name in read_class_list(classes).items():
        if name.lower() in special:
            meaning[value] = special[name.lower()]
        else:
            meaning[value] = len(categories)
            categories.append(parse_category(name))
    return MaskDataset(f"folder {images}", categories, entries, meaning)


def _files(entry: Entry) -> list[Path]:
    return [path for path in (entry.image, entry.mask, entry.instances) if path is not None]


def _read_image(path: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"), np.uint8)
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error, others
        raise DatasetError(f"{path}: can't be read as an image ({error})") from None


def _instances(
    values: NDArray[np.int64], classes: NDArray[np.int32], entry: Entry
) -> tuple[NDArray[np.int32], tuple[Region, ...]]:
    """Instances of an instance file, each with the class of most of its pixels."""
    if values.shape != classes.shape:
        raise DatasetError(f"{entry.instances}: is not of the size of {entry.mask}")
    instances = np.where((values == 255) | (classes < 0), 0, values).astype(np.int32)
    regions = []
    for number in np.unique(instances[instances > 0]).tolist():
        votes = np.bincount(classes[instances == number])
        regions.append(Region(number, int(votes.argmax())))
    return instances, tuple(regions)
