"""How sure a share of right labels is, and whether another one really differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest  # type: ignore[import-untyped, unused-ignore]

LEVEL = 0.95
DRAWS = 2000


def bootstrap_interval(images: Sequence[Sequence[bool]]) -> tuple[float, float]:
    """Interval of the share of right regions, by the percentile bootstrap over images.

    Whole images are drawn, because the regions of one image are not independent of each other.

    Args:
        images: Per image whether each of its regions is right.

    Returns:
        The bounds of the interval that holds 95 % of `DRAWS` draws; the same each time, NaN without regions.
    """
    right = np.array([sum(regions) for regions in images])
    count = np.array([len(regions) for regions in images])
    if not count.sum():
        return float("nan"), float("nan")
    drawn = np.random.default_rng(0).integers(len(images), size=(DRAWS, len(images)))
    totals = count[drawn].sum(1)
    shares = right[drawn].sum(1)[totals > 0] / totals[totals > 0]
    low, high = np.quantile(shares, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Change:
    """Regions that two ways to name them differ in.

    Attributes:
        lost: Right before and wrong now.
        won: Wrong before and right now.
        p: Probability of a difference as large or larger if neither were better (McNemar's exact test).
    """

    lost: int
    won: int
    p: float


def compare(before: Sequence[bool], now: Sequence[bool]) -> Change:
    """McNemar's exact test of whether the same regions are right.

    Args:
        before: Whether each region was right.
        now: Whether it is, in the same order.
    """
    pairs = list(zip(before, now, strict=True))
    lost = sum(old and not new for old, new in pairs)
    won = sum(new and not old for old, new in pairs)
    p = float(binomtest(won, won + lost).pvalue) if won + lost else 1.0
    return Change(lost, won, p)
