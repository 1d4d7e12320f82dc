"""The segment tree: Ward clustering of patch features, and the splits of it that are kept.

The published method clusters all positions without connectivity and considers the first splits from
the root. `build_tree` does that, either on every position (``groups=0``) or, much faster, on a few
hundred groups of near-equal positions that k-means finds first; Ward's criterion then counts each group
with its number of positions, so that both optimise the same sum of squares.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zgs_ros.oversegmentation.ward import ward

KMEANS_STEPS = 3


@dataclass(frozen=True, eq=False)
class Node:
    """One node of the segment tree.

    Attributes:
        id: Heap number: the root is 0, the children of i are 2i + 1 and 2i + 2.
        positions: int64, indices of the node's patch positions in row-major order.
        centroid: float32 (width,), mean feature of these positions.
    """

    id: int
    positions: NDArray[np.int64]
    centroid: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Groups:
    """What Ward clusters: groups of near-equal patch positions, or single ones.

    Attributes:
        owner: int64 (positions,), group of each position.
        means: float32 (groups, width), mean feature of each group; of single positions where the features
            are, else not on the GPU, which has better to do than to merge so few.
        sizes: float32 (groups,), number of positions.
    """

    owner: NDArray[np.int64]
    means: Tensor
    sizes: Tensor


@dataclass(frozen=True, eq=False)
class SegmentTree:
    """The accepted splits: a full binary tree whose leaves tile the image.

    Attributes:
        nodes: By heap number.
    """

    nodes: dict[int, Node]

    @property
    def leaves(self) -> list[Node]:
        """Nodes without children, in rising order of heap number."""
        return [self.nodes[i] for i in sorted(self.nodes) if 2 * i + 1 not in self.nodes]

    def label_positions(self, count: int) -> NDArray[np.int64]:
        """(count,) index into `leaves` of every position."""
        labels = np.full(count, -1, np.int64)
        for index, leaf in enumerate(self.leaves):
            labels[leaf.positions] = index
        return labels


def build_tree(
    features: Tensor, groups: int = 0, splits: int = 10, threshold: float = 0.95
) -> SegmentTree:
    """Clusters patch features and keeps the splits that separate different things.

    Args:
        features: float32 (rows, columns, width).
        groups: See `group_positions`.
        splits: See `split_groups`.
        threshold: See `split_groups`.
    """
    return split_groups(group_positions(features, groups), splits, threshold)


def group_positions(features: Tensor, groups: int = 0) -> Groups:
    """Groups patch positions, where the features are.

    Args:
        features: float32 (rows, columns, width).
        groups: Groups that k-means makes; 0 for none, every position stays alone.
    """
    flat = features.flatten(0, 1)
    if groups and groups < len(flat):
        owner, means, sizes = (part.cpu() for part in _kmeans(features, groups))
        used = sizes > 0
        number = used.cumsum(0) - 1
        return Groups(number[owner].numpy(), means[used], sizes[used])
    return Groups(np.arange(len(flat)), flat, flat.new_ones(len(flat)))


def split_groups(groups: Groups, splits: int = 10, threshold: float = 0.95) -> SegmentTree:
    """Clusters groups by Ward's criterion and keeps the splits that separate different things.

    Of the Ward tree the first `splits` splits from the root are considered, in falling order of their
    height. A split is accepted when its parent was and the cosine of its children's centroids is below
    `threshold`; the first split always.

    Args:
        groups: See `group_positions`.
        splits: Number of splits considered.
        threshold: Cosine from which on two children are one thing.

    Returns:
        A tree with at least one node and at most ``splits + 1`` leaves.
    """
    merges = ward(groups.means, groups.sizes)
    return _accept_splits(_Clusters(merges, groups), splits, threshold)


def _kmeans(features: Tensor, groups: int) -> tuple[Tensor, Tensor, Tensor]:
    """Groups positions by a few Lloyd steps from seeds on a regular grid.

    Seeds on a grid make it deterministic and give small things a seed of their own.

    Returns:
        int64 (positions,), the group of each; (groups, width), their means; (groups,), their sizes, some of
        which may be 0.
    """
    rows, columns, width = features.shape
    flat = features.reshape(-1, width)
    down = max(1, min(rows, round((groups * rows / columns) ** 0.5)))
    across = max(1, min(columns, groups // down))
    row_seeds, column_seeds = (
        ((torch.arange(count, device=flat.device) + 0.5) * length / count).long()
        for count, length in ((down, rows), (across, columns))
    )
    centroids = flat[(row_seeds[:, None] * columns + column_seeds).flatten()]
    # Patches that overlap are alike: where there are many, every fourth is enough to find the means.
    sample = features[::2, ::2].reshape(-1, width)
    sample = sample if len(sample) >= 2 * len(centroids) else flat
    for _ in range(KMEANS_STEPS):
        means, sizes = _means(sample, _nearest(sample, centroids), len(centroids))
        centroids = torch.where(sizes[:, None] > 0, means, centroids)
    owner = _nearest(flat, centroids)
    return owner, *_means(flat, owner, len(centroids))


def _nearest(flat: Tensor, centroids: Tensor) -> Tensor:
    """Index of the nearest centroid: argmin |x - c|^2 = argmin |c|^2 - 2 x c."""
    return torch.addmm((centroids * centroids).sum(1)[None], flat, centroids.T, alpha=-2.0).argmin(
        1
    )


def _means(flat: Tensor, owner: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Means and sizes of groups; counted by adding up, because a GPU that counts has to be waited for."""
    sums = flat.new_zeros(groups, flat.shape[1]).index_add_(0, owner, flat)
    sizes = flat.new_zeros(groups).index_add_(0, owner, flat.new_ones(len(flat)))
    return sums / sizes.clamp_min(1.0)[:, None], sizes


class _Clusters:
    """A cluster tree over groups of positions, from which nodes are taken.

    Args:
        merges: In scipy's format, rising height; clusters below the number of groups are the groups.
        groups: What was merged.
    """

    def __init__(self, merges: NDArray[np.float64], groups: Groups) -> None:
        count = len(groups.sizes)
        self._pairs = merges[:, :2].astype(np.int64).tolist()
        self._groups = count
        # Groups in the order of the tree's leaves, in which every cluster is one run.
        self._lengths = [1] * count + [0] * len(self._pairs)
        for cluster, (left, right) in enumerate(self._pairs, start=count):
            self._lengths[cluster] = self._lengths[left] + self._lengths[right]
        self._starts = [0] * len(self._lengths)
        for cluster in range(len(self._lengths) - 1, count - 1, -1):
            left, right = self.children(cluster)
            self._starts[left] = self._starts[cluster]
            self._starts[right] = self._starts[cluster] + self._lengths[left]
        rank = np.array(self._starts[:count])
        order = np.argsort(rank)
        self._rank_of_position = rank[groups.owner]
        self._means, self._sizes = groups.means[order], groups.sizes[order]

    @property
    def top(self) -> int:
        """The cluster of everything."""
        return len(self._starts) - 1

    @property
    def merges(self) -> int:
        """Number of clusters that have children."""
        return len(self._pairs)

    def children(self, cluster: int) -> tuple[int, int]:
        """The two clusters that this one was merged from."""
        left, right = self._pairs[cluster - self._groups]
        return left, right

    def node(self, number: int, cluster: int) -> Node:
        """The cluster as a node with that heap number."""
        start, stop = self._starts[cluster], self._starts[cluster] + self._lengths[cluster]
        inside = (self._rank_of_position >= start) & (self._rank_of_position < stop)
        sizes = self._sizes[start:stop]
        centroid = sizes @ self._means[start:stop] / sizes.sum()
        return Node(number, np.flatnonzero(inside), centroid.cpu().numpy())


def _accept_splits(clusters: _Clusters, splits: int, threshold: float) -> SegmentTree:
    top = clusters.top
    nodes = {0: clusters.node(0, top)}
    heap_number = {top: 0}
    # Merges are in rising order of height, so the last is the first split.
    for cluster in range(top, top - min(splits, clusters.merges), -1):
        if cluster not in heap_number:
            continue  # its parent was refused
        number = heap_number[cluster]
        pair = clusters.children(cluster)
        children = [clusters.node(2 * number + 1 + side, child) for side, child in enumerate(pair)]
        if number and _cosine(children[0].centroid, children[1].centroid) >= threshold:
            continue
        for child, below in zip(children, pair, strict=True):
            nodes[child.id] = child
            heap_number[below] = child.id
    return SegmentTree(nodes)


def _cosine(left: NDArray[np.float32], right: NDArray[np.float32]) -> float:
    return float(left @ right / max(np.linalg.norm(left) * np.linalg.norm(right), 1e-12))
