"""Ward clustering: the tree that SciPy makes, of many vectors and of few."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import linkage

from zgs_ros.oversegmentation.ward import FEW, FEW_SINGLE, ward

MANY = FEW_SINGLE + 100


def vectors(count: int, width: int = 8, seed: int = 0) -> torch.Tensor:
    """float64 (count, width), all different."""
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, width)))


def heights(merges: np.ndarray) -> np.ndarray:
    return merges[:, 2]


@pytest.mark.parametrize("weight", [1, 3])
@pytest.mark.parametrize(("count", "width"), [(60, 5), (FEW, 16), (FEW + 1, 16), (MANY, 3)])
def test_equal_weights_give_the_tree_of_scipy(count: int, width: int, weight: int) -> None:
    """Three copies of everything are three times as much to join, and heights are roots."""
    given = vectors(count, width)
    ours, theirs = ward(given, torch.full((count,), weight)), linkage(given.numpy(), "ward")
    np.testing.assert_allclose(heights(ours), weight**0.5 * heights(theirs), rtol=1e-9)
    np.testing.assert_array_equal(ours[:, :2], theirs[:, :2])
    np.testing.assert_array_equal(ours[:, 3], weight * theirs[:, 3])


@pytest.mark.parametrize("count", [12, MANY])
def test_weights_count_as_copies(count: int) -> None:
    """The tree over distinct vectors equals that over copies, once the copies have merged at height 0."""
    given = vectors(count)
    copies = np.random.default_rng(1).integers(1, 6, count)
    ours = ward(given, torch.from_numpy(copies))
    theirs = linkage(np.repeat(given.numpy(), copies, axis=0), "ward")
    np.testing.assert_allclose(heights(ours), heights(theirs)[1 - count :], rtol=1e-7)
    np.testing.assert_array_equal(ours[:, 3], theirs[1 - count :, 3])


@pytest.mark.parametrize("kinds", [1, 2, 40])
def test_copies_merge_first_and_fast(kinds: int) -> None:
    """Merging copies pair by pair, each in a round of its own, would take minutes."""
    count = 8000
    given = vectors(kinds)[torch.arange(count) % kinds]
    merges = ward(given, torch.ones(count))
    among_copies, among_kinds = np.split(merges, [count - kinds])
    assert not heights(among_copies).any()
    weighted = ward(given[:kinds], torch.full((kinds,), count / kinds))
    np.testing.assert_allclose(heights(among_kinds), heights(weighted), rtol=1e-12)
    np.testing.assert_array_equal(among_kinds[:, 3], weighted[:, 3])


@pytest.mark.parametrize("count", [0, 1, 2])
def test_hardly_anything(count: int) -> None:
    given = torch.zeros(count, 3)
    assert ward(given, torch.ones(count)).tolist() == [[0.0, 1.0, 0.0, 2.0]][: max(count - 1, 0)]


@pytest.mark.parametrize("count", [FEW_SINGLE, MANY])
def test_single_precision_vectors_give_the_tree_of_scipy_in_double_precision(count: int) -> None:
    """Features of a patch have much in common: rounded to float32, distances would be 1 % off here."""
    given = (vectors(count, 32) * 0.1 + 100.0).float()
    ours, theirs = ward(given, torch.ones(count)), linkage(given.double().numpy(), "ward")
    np.testing.assert_allclose(heights(ours), heights(theirs), rtol=0.0, atol=1e-10)
    np.testing.assert_array_equal(ours[:, [0, 1, 3]], theirs[:, [0, 1, 3]])


@pytest.mark.parametrize("spread", [1e-3, 1e-2, 1.0])
def test_it_is_a_tree_with_rising_heights_whatever_rounding_does(spread: float) -> None:
    """Two clouds far apart: within them distances are hardly more than the rounding of squares."""
    given = vectors(MANY, 4) * spread + 100.0 * (torch.arange(MANY) % 2)[:, None]
    merges = ward(given.float(), torch.ones(MANY))
    assert np.all(np.diff(heights(merges)) >= 0.0)
    assert np.all(merges[:, :2].max(axis=1) < MANY + np.arange(MANY - 1))
    assert sorted(merges[:, :2].flatten().tolist()) == list(range(2 * MANY - 2))
    assert merges[-1, 3] == MANY


def test_what_it_is_given_stays_as_it_is() -> None:
    given, weights = vectors(MANY).float(), torch.ones(MANY)
    copies = given.clone(), weights.clone()
    ward(given, weights)
    assert torch.equal(given, copies[0])
    assert torch.equal(weights, copies[1])


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("count", [12, MANY])
def test_what_is_not_finite_is_an_error(count: int, value: float) -> None:
    given = vectors(count)
    given[5, 1] = value
    with pytest.raises(ValueError, match="try precision: bfloat16"):
        ward(given, torch.ones(count))
