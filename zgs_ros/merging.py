"""Merging: segments that look alike and are named alike become one.

Unions have to be embedded and named before merging goes on. `merge_siblings` and `merge_greedily` are
generators that yield the parts of an image's unions and are sent their descriptions, so that
`merge_together` can have those of several images described in one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zgs_ros.segmentation import Label

Parts = tuple[int, ...]
"""Segments before merging that make up a region, as places in their partition."""


@dataclass(frozen=True, eq=False)
class Description:
    """What is known of a segment.

    Attributes:
        embedding: float32 (dimensions,), unit norm.
        text_embedding: float32 (dimensions,), unit norm, of its best label.
        labels: Best first.
    """

    embedding: NDArray[np.float32]
    text_embedding: NDArray[np.float32]
    labels: tuple[Label, ...]


@dataclass(frozen=True, eq=False)
class Region:
    """One or several segments, and the description of what they are together."""

    parts: Parts
    description: Description


Merging = Generator[list[Parts], "list[Description]", dict[int, Region]]
"""Yields unions, is sent a description of each, and returns the remaining regions by heap number."""


def similarity(left: Description, right: Description) -> float:
    """s = 0.5 cos(e_left, e_right) + 0.5 cos(t_left, t_right) of embeddings e and label texts t."""
    images = float(left.embedding @ right.embedding)
    texts = float(left.text_embedding @ right.text_embedding)
    return 0.5 * images + 0.5 * texts


def merge_together(
    images: Sequence[Merging],
    describe: Callable[[list[list[Parts]]], Sequence[list[Description]]],
) -> list[dict[int, Region]]:
    """Merges the regions of several images side by side, so that each round describes all their unions.

    Args:
        images: The merging of each image.
        describe: Describes the given unions of each image; there may be none of some.

    Returns:
        The remaining regions of each image.
    """
    found: list[dict[int, Region]] = [{} for _ in images]
    answers: Sequence[list[Description] | None] = [None] * len(images)
    going = dict(enumerate(images))
    while going:
        unions: list[list[Parts]] = [[] for _ in images]
        for index, merging in list(going.items()):
            try:
                unions[index] = merging.send(answers[index])  # type: ignore[arg-type]  # None at first
            except StopIteration as end:
                found[index] = end.value
                del going[index]
        if going:
            answers = describe(unions)
    return found


def merge_siblings(regions: dict[int, Region], threshold: float) -> Merging:
    """Merges bottom-up along the segment tree.

    Siblings whose similarity reaches `threshold` become one region, described anew for the union and
    standing in their parent's place; otherwise the branch stops there. A sibling without pixels leaves
    its place to the other. Decisions of one level are taken before any union is described, so that all
    unions of a level are described together.

    Args:
        regions: The leaves that have pixels, by heap number (children of i are 2i + 1 and 2i + 2).
        threshold: Similarity from which on siblings merge.
    """
    current = dict(regions)
    while True:
        _promote_only_children(current)
        pairs = [
            (number, number + 1)
            for number in current
            if number % 2 == 1
            and number + 1 in current
            and similarity(current[number].description, current[number + 1].description)
            >= threshold
        ]
        if not pairs:
            return dict(sorted(current.items()))
        unions = [current[left].parts + current[right].parts for left, right in pairs]
        descriptions = yield unions
        for (left, right), parts, description in zip(pairs, unions, descriptions, strict=True):
            del current[left], current[right]
            current[(left - 1) // 2] = Region(parts, description)


def merge_greedily(regions: dict[int, Region], threshold: float) -> Merging:
    """Merges the most similar regions, wherever they are, until none are similar enough.

    In every round all pairs merge of which each is the other's most similar region, so that all unions
    of a round are described together. A union has the lower of its parts' numbers.

    Args:
        regions: By heap number.
        threshold: Similarity from which on two regions merge.
    """
    current = dict(sorted(regions.items()))
    while len(current) > 1:
        numbers = list(current)
        pairs = [
            (numbers[left], numbers[right])
            for left, right in _mutually_nearest(list(current.values()), threshold)
        ]
        if not pairs:
            break
        unions = [current[left].parts + current.pop(right).parts for left, right in pairs]
        descriptions = yield unions
        for (left, _), parts, description in zip(pairs, unions, descriptions, strict=True):
            current[left] = Region(parts, description)
    return current


def _mutually_nearest(regions: Sequence[Region], threshold: float) -> list[tuple[int, int]]:
    """Indices of regions that are each other's most similar one, at least `threshold`."""
    embeddings = np.stack([region.description.embedding for region in regions])
    texts = np.stack([region.description.text_embedding for region in regions])
    similarities = 0.5 * (embeddings @ embeddings.T + texts @ texts.T)
    # Exactly symmetric, so that the most similar pair is always a mutual one.
    similarities = np.maximum(similarities, similarities.T)
    np.fill_diagonal(similarities, -np.inf)
    nearest = similarities.argmax(axis=1)
    return [
        (left, int(right))
        for left, right in enumerate(nearest)
        if left < right and nearest[right] == left and similarities[left, right] >= threshold
    ]


def _promote_only_children(current: dict[int, Region]) -> None:
    """Moves a region up while nothing lives under its sibling's place."""
    moved = True
    while moved:
        moved = False
        for number in list(current):
            sibling = number + 1 if number % 2 else number - 1
            if number and not any(_is_under(other, sibling) for other in current):
                current[(number - 1) // 2] = current.pop(number)
                moved = True


def _is_under(number: int, ancestor: int) -> bool:
    while number > ancestor:
        number = (number - 1) // 2
    return number == ancestor
