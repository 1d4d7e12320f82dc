"""Runs of pixels of one label within a row: there are a hundred times fewer of them than of pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Runs:
    """All runs of an image, row by row from the left; each array is (runs,).

    Attributes:
        row: Of its pixels.
        column: Of its first pixel.
        length: Number of its pixels.
        label: Of its pixels.
    """

    row: NDArray[np.int64]
    column: NDArray[np.int64]
    length: NDArray[np.int64]
    label: NDArray[np.integer]

    @classmethod
    def of(cls, labels: NDArray[np.integer]) -> Runs:
        """Those of labels (height, width)."""
        first = np.flatnonzero(run_starts(labels))
        row, column = np.divmod(first, labels.shape[1])
        return cls(row, column, np.diff(first, append=labels.size), labels.ravel()[first])


def run_starts(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Boolean (height, width): the first pixels of runs."""
    starts = np.ones(labels.shape, bool)
    np.not_equal(labels[:, 1:], labels[:, :-1], out=starts[:, 1:])
    return starts
