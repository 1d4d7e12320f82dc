"""Ward clustering of weighted vectors, where they are: on a GPU or on the CPU.

In every round all pairs merge of which each is the other's nearest. That gives the same tree as merging
the nearest pair of all again and again (Sumengen et al., "Scaling Hierarchical Agglomerative Clustering to
Billion-sized Datasets", 2021), because by Ward's criterion a union is no nearer to a third cluster than
the nearer of its parts was. For the same reason a cluster keeps its nearest one until that merges, so
that all rounds together compare about twice as many pairs as the first one alone.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage
from torch import Tensor

FEW_SINGLE = 2048
"""Single vectors up to which SciPy is faster, from their distances; it knows no weights."""
FEW = 384
"""Clusters that fit a CPU's cache as a matrix, which is faster from there on than looking at vectors."""
PAIRS_ON_CPU = 1 << 21
"""Pairs that are compared at once: about what its cache holds."""
PAIRS_ON_GPU = 1 << 26
"""Pairs that are compared at once: half a gigabyte of them."""

Indices = NDArray[np.int64]


def ward(vectors: Tensor, weights: Tensor) -> NDArray[np.float64]:
    """Clusters vectors; equals Ward clustering of data in which vector i stands ``weights[i]`` times.

    Computed in float64: rounded to float32, distances that are almost equal change their order, and a
    pair that merges too early or too late moves whole branches of the tree. Memory grows linearly with
    the number of vectors.

    Args:
        vectors: (n, width), of any floating type.
        weights: (n,), positive, where the vectors are.

    Returns:
        (n - 1, 4) in scipy's format: two cluster numbers, height, and weight of the union; rising height.

    Raises:
        ValueError: If a vector is not finite.
    """
    if not vectors.isfinite().all():
        raise ValueError(
            "features are not finite, as if float16 overflowed; try precision: bfloat16"
        )
    count = len(vectors)
    # Apple's GPUs know no float64.
    vectors = (vectors.cpu() if vectors.device.type == "mps" else vectors).double()
    if 1 < count <= FEW_SINGLE and (weights == 1).all():
        return np.asarray(linkage(torch.pdist(vectors).cpu().numpy(), "ward"))
    merges, names, vectors, weights = _join_equal(vectors, weights.to(vectors))
    if len(names) > 1:
        merges += _join_nearest(names, _fitting(_Means(vectors, weights)))
    return _number_clusters(np.concatenate([np.zeros((0, 4)), *merges]), count)


def _join_equal(
    vectors: Tensor, weights: Tensor
) -> tuple[list[NDArray[np.float64]], Indices, Tensor, Tensor]:
    """Merges copies of a vector; of many that are equally near, `_join_nearest` merges one pair a round.

    Returns:
        The merges, and of what is left the indices, the vectors, and the weights.
    """
    names = np.arange(len(vectors))
    _, kind = torch.unique(vectors, dim=0, return_inverse=True)
    kinds = kind.cpu().numpy()
    order = np.argsort(kinds, kind="stable")
    begins = np.diff(kinds[order], prepend=-1) > 0
    if begins.all():
        return [], names, vectors, weights
    first = np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))
    total = weights.cpu().numpy()[order].cumsum()
    before = np.where(first > 0, total[first - 1], 0.0)
    merges = np.stack([order[first], order, np.zeros(len(order)), total - before], axis=1)[~begins]
    left = torch.from_numpy(order[begins]).to(vectors.device)
    sums = torch.zeros_like(weights[left]).index_add_(0, kind, weights)
    return [merges], order[begins], vectors[left], sums


def _join_nearest(names: Indices, clusters: _Means | _Products) -> list[NDArray[np.float64]]:
    """Merges until one cluster is left; rows of two names, height, and weight of the union."""
    nearest, distances = clusters.find_nearest(np.arange(len(names)))
    height = np.zeros(len(names))  # of a cluster's own merge
    merges = []
    while len(names) > 1:
        everyone = np.arange(len(names))
        first = np.flatnonzero((nearest[nearest] == everyone) & (everyone < nearest))
        if not len(first):  # rounding can make a ring of clusters that are equally near
            first = np.array([distances.argmin()])
        second = nearest[first]
        parts = np.maximum(height[first], height[second])  # never above, but for rounding
        height[first] = np.maximum(np.sqrt(2.0 * distances[first].clip(min=0.0)), parts)
        masses = clusters.join(first, second)
        merges.append(np.stack([names[first], names[second], height[first], masses], axis=1))
        changed, stays = np.zeros(len(names), bool), np.ones(len(names), bool)
        changed[first] = changed[second] = True
        stays[second] = False
        left = np.flatnonzero(stays)
        clusters.keep(left)
        clusters = _fitting(clusters)
        outdated = np.flatnonzero((changed | changed[nearest])[left])
        place = np.cumsum(stays) - 1
        names, height = names[left], height[left]
        nearest, distances = place[nearest[left]], distances[left]
        if len(names) > 1:
            nearest[outdated], distances[outdated] = clusters.find_nearest(outdated)
    return merges


def _fitting(clusters: _Means | _Products) -> _Means | _Products:
    """The same clusters, kept in the way that is the fastest for as many."""
    if isinstance(clusters, _Means) and len(clusters.means) <= FEW:
        return _Products(clusters)
    return clusters


class _Means:
    """Clusters as mean vectors, on any device.

    The distance of two with means a, b and masses m, n is |a - b|^2 / (1/m + 1/n), the growth of the sum of
    squares by their union.
    """

    def __init__(self, vectors: Tensor, masses: Tensor) -> None:
        # About their mean, where squares are small, so that little is lost to rounding.
        self.means = vectors - vectors.mean(0)
        self.masses = masses.clone()  # `join` changes it
        self._squares = self.means.square().sum(1)

    def find_nearest(self, rows: Indices) -> tuple[Indices, NDArray[np.float64]]:
        """The nearest other cluster of each of these, and its distance."""
        pairs = PAIRS_ON_CPU if self.means.device.type == "cpu" else PAIRS_ON_GPU
        inverse = 1.0 / self.masses
        found = []
        for part in self._indices(rows).split(max(1, pairs // len(self.means))):
            distances = torch.addmm(self._squares, self.means[part], self.means.T, alpha=-2.0)
            distances += self._squares[part, None]
            distances /= inverse + inverse[part, None]
            distances.scatter_(1, part[:, None], torch.inf)
            smallest, nearest = distances.min(1)
            found.append(torch.stack([smallest, nearest.double()]))
        smallest, nearest = torch.cat(found, dim=1).cpu()
        return nearest.long().numpy(), smallest.numpy()

    def join(self, first: Indices, second: Indices) -> NDArray[np.float64]:
        """Adds clusters to others, pair by pair; returns the masses of the unions."""
        into, other = self._indices(first), self._indices(second)
        masses = self.masses[into] + self.masses[other]
        share = (self.masses[other] / masses)[:, None]
        means = torch.lerp(self.means[into], self.means[other], share)
        self.means[into], self.masses[into] = means, masses
        self._squares[into] = means.square().sum(1)
        return masses.cpu().numpy()

    def keep(self, left: Indices) -> None:
        """Forgets all but these, which are numbered anew."""
        kept = self._indices(left)
        self.means, self.masses = self.means[kept], self.masses[kept]
        self._squares = self._squares[kept]

    def _indices(self, values: Indices) -> Tensor:
        return torch.from_numpy(values).to(self.means.device)


class _Products:
    """As `_Means`, of few clusters: scalar products of their sums, so that joining them is adding."""

    def __init__(self, clusters: _Means) -> None:
        self._masses = clusters.masses.cpu().numpy()
        self._products = (clusters.means @ clusters.means.T).cpu().numpy()
        self._products *= np.multiply.outer(self._masses, self._masses)

    def find_nearest(self, rows: Indices) -> tuple[Indices, NDArray[np.float64]]:
        inverse = 1.0 / self._masses
        squares = self._products.diagonal() * inverse * inverse
        distances = self._products[rows] * (-2.0 * inverse[rows, None])
        distances *= inverse
        distances += squares[rows, None] + squares
        distances /= inverse[rows, None] + inverse
        each = np.arange(len(rows))
        distances[each, rows] = np.inf
        nearest = distances.argmin(1)
        return nearest, distances[each, nearest]

    def join(self, first: Indices, second: Indices) -> NDArray[np.float64]:
        self._masses[first] += self._masses[second]
        self._products[first] += self._products[second]
        self._products[:, first] += self._products[:, second]
        masses: NDArray[np.float64] = self._masses[first]
        return masses

    def keep(self, left: Indices) -> None:
        self._masses = self._masses[left]
        self._products = self._products[left][:, left]


def _number_clusters(merges: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Sorts merges by height and renames representatives to scipy's cluster numbers."""
    merges = merges[np.argsort(merges[:, 2], kind="stable")]
    # A union goes by the name of its first part, so a name stands for one cluster at a time.
    number = np.arange(count)
    for step, (first, second) in enumerate(merges[:, :2].astype(np.int64)):
        merges[step, :2] = sorted((number[first], number[second]))
        number[first] = count + step
    return merges
