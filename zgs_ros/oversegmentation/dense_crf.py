"""Mean-field inference in a fully connected CRF: segment borders as published.

The model is that of Krähenbühl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian
Edge Potentials", NeurIPS 2011. Every pixel is joined to every other by two Gaussian kernels, one over
positions alone and one over positions and colours, and Potts compatibility:

    Q_i(l)  ~  exp(-u_i(l) + sum over kernels of weight * (K Q)_i(l)),   K = n^-1/2 k n^-1/2, n = k 1

The kernel over positions is a separable convolution. The one over positions and colours is filtered on
the permutohedral lattice of Adams, Baek and Davis, "Fast High-Dimensional Filtering Using the
Permutohedral Lattice", Eurographics 2010. Its vertices get one integer each, in which every lattice
direction is a constant offset, so that splatting, blurring and slicing are a few operations on whole
tensors, on the CPU and on a GPU alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

Filter = Callable[[Tensor], Tensor]
"""Filters float32 (channels, height, width)."""


@dataclass(frozen=True)
class CrfParameters:
    """The published values; lengths are pixels of an image whose short side is 224.

    Attributes:
        smooth_sigma: Standard deviation of the kernel over positions [pixels].
        smooth_weight: Its weight.
        edge_sigma: Standard deviation in position of the kernel over positions and colours [pixels].
        edge_colour_sigma: Its standard deviation in colour, of 255.
        edge_weight: Its weight.
        iterations: Mean-field updates.
    """

    smooth_sigma: float = 1.0
    smooth_weight: float = 25.0
    edge_sigma: float = 5.0
    edge_colour_sigma: float = 13.0
    edge_weight: float = 100.0
    iterations: int = 10

    def for_short_side(self, pixels: int) -> CrfParameters:
        """The same kernels for an image whose short side has this many pixels."""
        scale = pixels / 224
        return replace(
            self, smooth_sigma=scale * self.smooth_sigma, edge_sigma=scale * self.edge_sigma
        )


def mean_field(energies: Tensor, guide: Tensor, parameters: CrfParameters | None = None) -> Tensor:
    """Probability of each segment at each pixel, after mean-field inference.

    Args:
        energies: float32 (segments, height, width), unary energies: low where a segment fits.
        guide: float32 (3, height, width), the image in [0, 1].
        parameters: By default the published ones.

    Returns:
        float32 (segments, height, width), summing to 1 over segments.
    """
    chosen = parameters or CrfParameters()
    kernels: list[tuple[float, Filter]] = [
        (chosen.smooth_weight, _normalised(_position_filter(chosen.smooth_sigma), energies)),
        (
            chosen.edge_weight,
            _normalised(
                Lattice(
                    _position_and_colour(guide, chosen.edge_sigma, chosen.edge_colour_sigma)
                ).filter,
                energies,
            ),
        ),
    ]
    probabilities = (-energies).softmax(0)
    for _ in range(chosen.iterations):
        messages = sum((weight * k(probabilities) for weight, k in kernels), -energies)
        probabilities = messages.softmax(0)
    return probabilities


class Lattice:
    """Gaussian filter of unit standard deviation over points of a low-dimensional space.

    An approximation: a point spreads its value over the corners of its simplex of the permutohedral
    lattice, the corners blur along the lattice's directions, and the point collects from them again.
    Results are right up to a common factor, which `_normalised` removes.

    Args:
        features: float32 (dimensions, height, width), in units of the standard deviation.
    """

    def __init__(self, features: Tensor) -> None:
        dimensions = features.shape[0]
        keys, self._shares = _simplices(features.flatten(1).T)  # (points, corners, dimensions)
        low = keys.amin((0, 1)) - dimensions  # room for neighbours that no point touches
        sizes = keys.amax((0, 1)) - low + dimensions + 1
        radix = torch.cat([sizes.new_ones(1), sizes[:-1].cumprod(0)])  # mixed-radix numerals
        codes = ((keys - low) * radix).sum(-1)
        vertices, corners = torch.unique(codes, return_inverse=True)
        self._corners = corners  # (points, corners), index of a vertex
        self._directions = [_stencil(vertices, step) for step in _steps(dimensions, radix)]
        order = torch.argsort(corners.flatten(), stable=True)
        self._points_of_vertex = order // (dimensions + 1)
        self._shares_of_vertex = self._shares.flatten()[order]
        counts = torch.bincount(corners.flatten(), minlength=len(vertices))
        self._first_of_vertex = functional.pad(counts.cumsum(0)[:-1], (1, 0))

    def filter(self, channels: Tensor) -> Tensor:
        """Filters float32 (channels, height, width)."""
        values = functional.embedding_bag(
            self._points_of_vertex,
            channels.flatten(1).T.contiguous(),
            self._first_of_vertex,
            mode="sum",
            per_sample_weights=self._shares_of_vertex,
        )  # (vertices, channels)
        for vertices, weights in [*self._directions, (self._corners, self._shares)]:
            values = functional.embedding_bag(
                vertices, values, mode="sum", per_sample_weights=weights
            )
        return values.T.reshape(channels.shape)


def _normalised(blur: Filter, like: Tensor) -> Filter:
    """The filter between two factors n^-1/2, so that on constant channels it is close to 1."""
    factor = blur(torch.ones_like(like[:1])).clamp_min(1e-20).rsqrt()
    return lambda channels: factor * blur(factor * channels)


def _position_filter(sigma: float) -> Filter:
    """Gaussian over positions; what lies beyond the border counts as 0, and 5 sigma away as well."""
    radius = max(1, round(5 * sigma))
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    taps = torch.exp(-0.5 * (offsets / sigma) ** 2)

    def blur(channels: Tensor) -> Tensor:
        weights = taps.to(channels)
        rows = functional.conv2d(
            channels[:, None], weights[None, None, :, None], padding=(radius, 0)
        )
        return functional.conv2d(rows, weights[None, None, None], padding=(0, radius))[:, 0]

    return blur


def _position_and_colour(guide: Tensor, sigma: float, colour_sigma: float) -> Tensor:
    """(5, height, width): row, column and colour of every pixel, in standard deviations."""
    height, width = guide.shape[1:]
    rows = torch.arange(height, device=guide.device, dtype=torch.float32)[:, None] / sigma
    columns = torch.arange(width, device=guide.device, dtype=torch.float32)[None] / sigma
    positions = torch.stack([rows.expand(height, width), columns.expand(height, width)])
    return torch.cat([positions, guide.float() * (255.0 / colour_sigma)])


def _simplices(points: Tensor) -> tuple[Tensor, Tensor]:
    """The lattice simplex that encloses each point.

    Args:
        points: float32 (points, d).

    Returns:
        int64 (points, d + 1, d), the corners, without their last coordinate, which makes the sum 0; and
        float32 (points, d + 1), the point's barycentric coordinates.
    """
    count, d = points.shape
    lifted = _lift(points)  # (points, d + 1), summing to 0
    # The nearest point of the remainder-0 sublattice, by rounding and then repairing the sum.
    nearest = (lifted / (d + 1)).round() * (d + 1)
    excess = (nearest.sum(1, keepdim=True) / (d + 1)).round().long()
    rank = _ranks(lifted - nearest) + excess
    nearest = nearest + (d + 1) * ((rank < 0).float() - (rank > d).float())
    rank = rank % (d + 1)
    # Barycentric coordinates are the gaps between the sorted differences.
    gaps = (lifted - nearest) / (d + 1)
    sorted_gaps = torch.empty_like(gaps).scatter_(1, rank, gaps)  # falling
    shares = sorted_gaps.new_empty(count, d + 1)
    shares[:, 0] = 1.0 + sorted_gaps[:, d] - sorted_gaps[:, 0]
    shares[:, 1:] = (sorted_gaps[:, :d] - sorted_gaps[:, 1:]).flip(1)
    # Corner k adds k to every coordinate, less d + 1 to the k coordinates of the highest ranks.
    remainder = torch.arange(d + 1, device=points.device)
    wraps = rank[:, None] > d - remainder[:, None]  # (points, corners, d + 1)
    corners = nearest.long()[:, None] + remainder[:, None] - (d + 1) * wraps.long()
    return corners[..., :d], shares


def _ranks(rows: Tensor) -> Tensor:
    """Rank of each entry in its row, 0 for the largest; of equal ones the first is the larger."""
    above = rows[:, None] > rows[..., None]
    width = rows.shape[1]
    earlier = torch.ones(width, width, dtype=torch.bool, device=rows.device).tril(-1)
    equal = (rows[:, None] == rows[..., None]) & earlier
    return (above | equal).sum(-1)


def _lift(points: Tensor) -> Tensor:
    """Embeds points of d dimensions in the plane of sum 0 in d + 1, scaled to the lattice's blur.

    The blur of one pass along all directions has the standard deviation sqrt(2/3) * (d + 1).
    """
    d = points.shape[1]
    index = torch.arange(d, device=points.device, dtype=torch.float32)
    scaled = points * ((2.0 / 3.0) ** 0.5 * (d + 1) / ((index + 1) * (index + 2)).sqrt())
    tails = functional.pad(scaled.flip(1).cumsum(1).flip(1), (0, 1))  # sums over later coordinates
    return tails - functional.pad(scaled * (index + 1), (1, 0))


def _steps(dimensions: int, radix: Tensor) -> list[int]:
    """What a step along each of the lattice's d + 1 directions adds to a vertex's number.

    A step adds 1 to every coordinate but one, from which it takes d.
    """
    along_all = int(radix.sum())
    return [
        along_all - (dimensions + 1) * int(radix[j]) if j < dimensions else along_all
        for j in range(dimensions + 1)
    ]


def _stencil(vertices: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """Blur along one direction: (vertices, 3) indices of a vertex and its neighbours, and their weights."""
    own = torch.arange(len(vertices), device=vertices.device)
    indices, weights = [own], [torch.ones_like(own, dtype=torch.float32)]
    for wanted in (vertices - step, vertices + step):
        place = torch.searchsorted(vertices, wanted).clamp_max(len(vertices) - 1)
        exists = vertices[place] == wanted
        indices.append(torch.where(exists, place, own))
        weights.append(0.5 * exists)
    return torch.stack(indices, 1), torch.stack(weights, 1)
