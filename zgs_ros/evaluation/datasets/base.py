"""What every data set offers: named samples with complete ground truth."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class DatasetError(ValueError):
    """A data set, or one sample of it, that can't be used; the message names file and way out."""


@dataclass(frozen=True)
class Category:
    """A class of a data set.

    Attributes:
        name: As the data set publishes it.
        names: The texts that stand for it, lower case, best known first; see `parse_category`.
    """

    name: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Region:
    """One instance of the ground truth, or one whole class where a data set has no instances.

    Attributes:
        id: Value of its pixels in `Sample.instances`, >= 1.
        category: Index into `Dataset.categories`.
        phrase: What it is called in full, for example "red mug"; "" if only its class is known.
        group: "object", "ground" or "backdrop" in the synthetic world; "" elsewhere.
    """

    id: int
    category: int
    phrase: str = ""
    group: str = ""


@dataclass(frozen=True, eq=False)
class Sample:
    """An image with its ground truth.

    Attributes:
        name: Unique in its data set.
        image: uint8 RGB (height, width, 3).
        classes: int32 (height, width): index into `Dataset.categories`, or `metrics.VOID`,
            `metrics.BACKGROUND` or `metrics.OTHER`.
        instances: int32 (height, width): `Region.id`, 0 where there is no region.
        regions: What is to be found, each with at least one pixel that is not void.

    Raises:
        DatasetError: If the maps are not of the image's size.
    """

    name: str
    image: NDArray[np.uint8]
    classes: NDArray[np.int32]
    instances: NDArray[np.int32]
    regions: tuple[Region, ...]

    def __post_init__(self) -> None:
        size = self.image.shape[:2]
        if self.classes.shape != size or self.instances.shape != size:
            raise DatasetError(
                f"{self.name}: the image is {size}, but its ground truth is {self.classes.shape} "
                f"and {self.instances.shape} (height, width)"
            )

    def masks(self) -> NDArray[np.bool_]:
        """bool (regions, height, width), in the order of `regions`."""
        ids = np.array([region.id for region in self.regions], np.int32)
        return self.instances[None] == ids[:, None, None]


class Dataset(Protocol):
    """Samples of one kind."""

    @property
    def title(self) -> str:
        """How results call it, for example "Pascal VOC 2012 val"."""
        ...

    @property
    def categories(self) -> Sequence[Category]:
        """The classes."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """The samples that have ground truth, in a fixed order."""
        ...

    @property
    def missing(self) -> Sequence[str]:
        """The samples that lack a file, each with what it lacks."""
        ...

    def load(self, name: str) -> Sample:
        """Reads or renders one sample.

        Raises:
            DatasetError: If its files are broken.
        """
        ...


def parse_category(text: str, name: str = "") -> Category:
    """Reads a published class name, which may hold several.

    Synonyms are separated by ';' or ',' (ADE20K: "door, double door") or '/' ("sofa/couch").
    Underscores are spaces.

    Args:
        text: What the class is called.
        name: As the data set publishes it, if that is not `text`.

    Raises:
        DatasetError: If no letter or digit is left.
    """
    parts = (_plain(part) for part in re.split(r"[;,/]", text))
    names = tuple(dict.fromkeys(part for part in parts if part))
    if not names:
        raise DatasetError(f"a class needs a name, got {text!r}")
    return Category((name or text).strip(), names)


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s'-]|_", " ", text.lower()).split()).strip("-' ")


def regions_of_classes(
    classes: NDArray[np.int32], count: int
) -> tuple[NDArray[np.int32], tuple[Region, ...]]:
    """Instances and regions for a class map without instances: every class is one region.

    Args:
        classes: See `Sample.classes`.
        count: Number of classes.
    """
    known = classes >= 0
    instances = np.where(known, classes + 1, 0).astype(np.int32)
    pixels = np.bincount(classes[known], minlength=count)
    return instances, tuple(Region(int(c) + 1, int(c)) for c in np.flatnonzero(pixels))
