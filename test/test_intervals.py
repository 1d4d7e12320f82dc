"""Intervals and tests of shares, against what is known without them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from zgs_ros.evaluation.intervals import bootstrap_interval, compare


def test_single_regions_give_the_binomial_interval() -> None:
    """Of 400 images with one region, 0.8 +- 1.96 sqrt(0.8 * 0.2 / 400) = 0.8 +- 0.0392."""
    images = [[True]] * 320 + [[False]] * 80
    assert bootstrap_interval(images) == pytest.approx((0.7608, 0.8392), abs=0.004)


def test_regions_of_an_image_go_together() -> None:
    """Sixteen equal regions an image are no more than one: the interval does not become narrower."""
    images = [[True]] * 80 + [[False]] * 20
    assert bootstrap_interval([16 * image for image in images]) == bootstrap_interval(images)
    apart = bootstrap_interval([[right] for image in images for right in 16 * image])
    assert apart[1] - apart[0] < 0.3 * np.subtract(*bootstrap_interval(images)[::-1])


@pytest.mark.parametrize(
    ("images", "bounds"), [([[True, True], [True]], (1.0, 1.0)), ([[False], []], (0.0, 0.0))]
)
def test_what_is_always_so_has_no_width(
    images: list[list[bool]], bounds: tuple[float, float]
) -> None:
    assert bootstrap_interval(images) == bounds


@pytest.mark.parametrize("images", [[], [[], []]])
def test_nothing_has_no_interval(images: list[list[bool]]) -> None:
    assert all(math.isnan(bound) for bound in bootstrap_interval(images))


@pytest.mark.parametrize(
    ("before", "now", "lost", "won", "p"),
    [
        ("1100", "1010", 1, 1, 1.0),
        ("1111100", "0000011", 5, 2, 2 * (1 + 7 + 21) / 128),  # two or fewer of seven, both sides
        ("110", "110", 0, 0, 1.0),
        ("000000", "111111", 0, 6, 2 / 64),
    ],
)
def test_lost_and_won_are_tested_exactly(
    before: str, now: str, lost: int, won: int, p: float
) -> None:
    change = compare([mark == "1" for mark in before], [mark == "1" for mark in now])
    assert (change.lost, change.won) == (lost, won)
    assert change.p == pytest.approx(p)
