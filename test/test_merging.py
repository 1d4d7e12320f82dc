"""Merging on hand-made trees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from zgs_ros.merging import (
    Description,
    Merging,
    Parts,
    Region,
    merge_greedily,
    merge_siblings,
    merge_together,
    similarity,
)
from zgs_ros.segmentation import Label


def describe(angle: float, text_angle: float | None = None) -> Description:
    """A description whose embedding has this angle in a plane, in degrees."""
    vectors = [
        np.array([np.cos(a), np.sin(a)], np.float32)
        for a in np.radians([angle, angle if text_angle is None else text_angle])
    ]
    return Description(vectors[0], vectors[1], (Label(f"{angle:g}", 1.0),))


def region(part: int, angle: float, text_angle: float | None = None) -> Region:
    return Region((part,), describe(angle, text_angle))


class Describer:
    """Describes any union by one angle, and keeps what it was asked."""

    def __init__(self, angle: float = 0.0) -> None:
        self.angle = angle
        self.calls: list[list[list[int]]] = []

    def __call__(self, unions: Sequence[Parts]) -> list[Description]:
        self.calls.append([sorted(parts) for parts in unions])
        return [describe(self.angle) for _ in unions]

    def answer(self, merging: Merging) -> dict[int, Region]:
        """What is left of one image."""
        return merge_together([merging], lambda unions: [self(image) for image in unions])[0]


def parts_of(regions: dict[int, Region]) -> dict[int, list[int]]:
    return {number: sorted(region.parts) for number, region in regions.items()}


def test_similarity_is_the_mean_of_both_cosines() -> None:
    # embeddings at 0 and 60 degrees: cos 0.5; texts at 0 and 90: cos 0
    assert similarity(describe(0, 0), describe(60, 90)) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("angle", "text_angle", "merged"),
    [
        (0, 0, True),  # s = 1
        (36, 36, True),  # s = 0.809
        (37, 37, False),  # s = 0.799
        (0, 60, False),  # s = 0.5 + 0.25
        (0, 50, True),  # s = 0.5 + 0.321
    ],
)
def test_siblings_merge_from_the_threshold_on(
    angle: float, text_angle: float, merged: bool
) -> None:
    result = Describer().answer(
        merge_siblings({1: region(0, 0), 2: region(1, angle, text_angle)}, 0.8)
    )
    assert parts_of(result) == ({0: [0, 1]} if merged else {1: [0], 2: [1]})


def test_a_union_is_described_anew_and_goes_on_upwards() -> None:
    """3 and 4 merge to 1; the union, described at 0 degrees, then merges with 2."""
    describer = Describer(angle=0)
    leaves = {3: region(0, 80), 4: region(1, 80), 2: region(2, 0)}
    assert parts_of(describer.answer(merge_siblings(leaves, 0.8))) == {0: [0, 1, 2]}
    assert describer.calls == [[[0, 1]], [[0, 1, 2]]]


def test_a_branch_stops_where_its_siblings_differ() -> None:
    """3 and 4 differ; so 1 is no segment, and 2, though like both, has no sibling to merge with."""
    leaves = {3: region(0, 0), 4: region(1, 80), 2: region(2, 0)}
    describer = Describer()
    assert parts_of(describer.answer(merge_siblings(leaves, 0.8))) == {2: [2], 3: [0], 4: [1]}
    assert describer.calls == []


def test_cousins_are_not_siblings() -> None:
    leaves = {3: region(0, 0), 4: region(1, 90), 5: region(2, 0), 6: region(3, 90)}
    assert len(Describer().answer(merge_siblings(leaves, 0.8))) == 4


def test_unions_of_one_level_are_described_together() -> None:
    describer = Describer(angle=0)
    leaves = {3: region(0, 0), 4: region(1, 0), 5: region(2, 90), 6: region(3, 90)}
    assert parts_of(describer.answer(merge_siblings(leaves, 0.8))) == {0: [0, 1, 2, 3]}
    assert describer.calls == [[[0, 1], [2, 3]], [[0, 1, 2, 3]]]


def test_a_region_whose_sibling_has_no_pixels_takes_its_parents_place() -> None:
    """4 has no pixels: 3 stands for 1 and meets 2."""
    describer = Describer()
    assert parts_of(describer.answer(merge_siblings({3: region(0, 0), 2: region(1, 0)}, 0.8))) == {
        0: [0, 1]
    }
    assert describer.calls == [[[0, 1]]]


def test_one_region_stays_as_it_is() -> None:
    only = region(0, 0)
    assert Describer().answer(merge_siblings({0: only}, 0.8)) == {0: only}


def test_images_go_side_by_side_and_each_round_is_described_at_once() -> None:
    """The first image merges twice, the second once, the third not at all."""
    images = [
        {3: region(0, 80), 4: region(1, 80), 2: region(2, 0)},
        {1: region(3, 0), 2: region(4, 0)},
        {1: region(5, 0), 2: region(6, 90)},
    ]
    rounds: list[list[int]] = []

    def answer(unions: list[list[Parts]]) -> list[list[Description]]:
        rounds.append([len(image) for image in unions])
        return [Describer()(image) for image in unions]

    found = merge_together([merge_siblings(regions, 0.8) for regions in images], answer)
    assert [parts_of(regions) for regions in found] == [
        {0: [0, 1, 2]},
        {0: [3, 4]},
        {1: [5], 2: [6]},
    ]
    assert rounds == [[1, 1, 0], [1, 0, 0]]


class TestGreedyPass:
    def test_cousins_merge_most_similar_first(self) -> None:
        """At 0, 50, 10 and 90 degrees, 0 and 10 are most alike; their union, at 5, stays alone."""
        leaves = {3: region(0, 0), 4: region(1, 50), 5: region(2, 10), 6: region(3, 90)}
        describer = Describer(angle=5)
        found = describer.answer(merge_greedily(leaves, 0.9))
        assert parts_of(found) == {3: [0, 2], 4: [1], 6: [3]}
        assert describer.calls == [[[0, 2]]]

    def test_a_union_is_described_anew_and_goes_on_merging(self) -> None:
        """0 and 10 make 30 degrees, which then is near enough to 50; the rest is at 120."""
        leaves = {3: region(0, 0), 4: region(1, 120), 5: region(2, 10), 6: region(3, 50)}
        describer = Describer(angle=30)
        found = describer.answer(merge_greedily(leaves, 0.9))
        assert parts_of(found) == {3: [0, 2, 3], 4: [1]}
        assert describer.calls == [[[0, 2]], [[0, 2, 3]]]

    @pytest.mark.parametrize(
        ("angle", "text_angle", "merged"),
        [(36, 36, True), (37, 37, False), (0, 60, False), (0, 50, True)],
    )
    def test_the_threshold_is_that_of_siblings(
        self, angle: float, text_angle: float, merged: bool
    ) -> None:
        regions = {3: region(0, 0), 6: region(1, angle, text_angle)}
        assert len(Describer().answer(merge_greedily(regions, 0.8))) == (1 if merged else 2)

    def test_one_region_stays_as_it_is(self) -> None:
        only = region(0, 0)
        assert Describer().answer(merge_greedily({0: only}, -1.0)) == {0: only}
