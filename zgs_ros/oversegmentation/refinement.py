"""From patch positions to pixels: segment borders follow the edges of the image."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from zgs_ros.gpu.upload import upload

SUBSAMPLING = 2
"""The guided filter works on every second pixel of the model's image, as the fast guided filter does."""


def soft_assignment(features: Tensor, centroids: Tensor, temperature: float) -> Tensor:
    """Probability of each segment at each position: softmax over -|f - centroid|^2 / temperature.

    Args:
        features: (rows, columns, width).
        centroids: (segments, width).
        temperature: Softness; towards 0 the nearest centroid takes all.

    Returns:
        (segments, rows, columns), summing to 1 over segments.
    """
    return (-squared_distances(features, centroids) / temperature).softmax(dim=0)


def squared_distances(features: Tensor, centroids: Tensor) -> Tensor:
    """(segments, rows, columns): |f - centroid|^2 of (rows, columns, width) and (segments, width)."""
    rows, columns, width = features.shape
    flat = features.reshape(-1, width)
    products = torch.addmm((flat * flat).sum(1)[None], centroids, flat.T, alpha=-2.0)
    distances = (products + (centroids * centroids).sum(1)[:, None]).clamp_min(0.0)
    return distances.reshape(-1, rows, columns)


def place_on_pixels(
    grid: Tensor,
    size: tuple[int, int],
    patch: int,
    stride: int,
    places: tuple[int, int] | None = None,
) -> Tensor:
    """Resamples a map over patch positions to pixels: position i has its centre at i * stride + patch / 2.

    Args:
        grid: (channels, rows, columns).
        size: (height, width) in pixels of the image that the patches were cut from.
        patch: Side of a patch in pixels.
        stride: Pixels between patches.
        places: (height', width') of the result; each has the mean of the pixels in it. By default the
            pixels themselves.

    Returns:
        (channels, height', width'); beyond the outermost centres the border value goes on.
    """
    # Linear along each side, so that it is two products with small matrices.
    down, across = (
        _place_line(count, length, patch, stride, shown, grid)
        for count, length, shown in zip(grid.shape[1:], size, places or size, strict=True)
    )
    return down @ grid @ across.T


def _place_line(
    count: int, length: int, patch: int, stride: int, places: int, like: Tensor
) -> Tensor:
    """(places, count): what each of so many positions in a line contributes to places along it."""
    each = torch.eye(count, dtype=like.dtype, device=like.device)[None]
    enlarged = functional.interpolate(each, size=count * stride, mode="linear", align_corners=False)
    before = (patch - stride) // 2
    placed = functional.pad(enlarged, (before, length - count * stride - before), mode="replicate")
    if places != length:
        placed = functional.interpolate(placed, size=places, mode="area")
    return placed[0].T


def stretch_to_pixels(grid: Tensor, size: tuple[int, int]) -> Tensor:
    """As `place_on_pixels`, in the way of the authors' code: the nearest of positions that fill the image.

    Args:
        grid: (channels, rows, columns).
        size: (height, width) in pixels.

    Returns:
        (channels, height, width).
    """
    return functional.interpolate(grid[None], size=size, mode="nearest")[0]


def guided_filter(guide: Tensor, maps: Tensor, radius: int, epsilon: float) -> Tensor:
    """Local linear models of the colour guided filter (He, Sun and Tang, TPAMI 2013, eq. 14 to 16).

    Within every window a map is fitted as ``a . colour + b``. Evaluating the model at another
    resolution of the guide is the fast guided filter (He and Sun, 2015).

    Args:
        guide: float32 (3, height, width) in [0, 1].
        maps: (segments, height, width).
        radius: Half width of the square window in pixels.
        epsilon: Regularisation; edges of a lower variance than this are smoothed over.

    Returns:
        (segments, 4, height, width): a and b, averaged over windows.
    """
    areas = _window_areas(guide, radius)
    mean_guide = _box(guide, radius, areas)
    variances = _box(_upper_products(guide), radius, areas) - _upper_products(mean_guide)
    inverse = _invert_symmetric(variances, epsilon)
    mean_maps = _box(maps, radius, areas)
    with_maps = _box((maps[:, None] * guide).flatten(0, 1), radius, areas).unflatten(0, (-1, 3))
    with_maps.addcmul_(mean_maps[:, None], mean_guide, value=-1.0)  # covariances
    models = torch.empty(len(maps), 4, *guide.shape[1:], dtype=maps.dtype, device=maps.device)
    offset = models[:, 3].copy_(mean_maps)
    for colour, row in enumerate(_INDEX):
        slope = torch.mul(with_maps[:, 0], inverse[row[0]], out=models[:, colour])
        for other in (1, 2):
            slope.addcmul_(with_maps[:, other], inverse[row[other]])
        offset.addcmul_(slope, mean_guide[colour], value=-1.0)
    return _box(models.flatten(0, 1), radius, areas).view_as(models)


def filter_places(size: tuple[int, int], radius: int) -> tuple[int, int]:
    """(height, width) in places of the filter on an image of a size in pixels; of all pixels without one."""
    step = SUBSAMPLING if radius else 1
    return max(1, size[0] // step), max(1, size[1] // step)


def fit_maps(maps: Tensor, guide: Tensor, radius: int, epsilon: float) -> tuple[Tensor, Tensor]:
    """Fits soft segment maps to an image's edges.

    Args:
        maps: (segments, height', width') at the model's resolution, or at that of `filter_places`.
        guide: float32 (3, height', width') in [0, 1], the image at that resolution.
        radius: Window radius of the guided filter in pixels of the guide; 0 skips the filter.
        epsilon: See `guided_filter`.

    Returns:
        Linear models of each segment at every place, see `_linear_models`, and (segments, h, w), their values
        at the colours there.
    """
    models, seen = _linear_models(maps, guide, radius, epsilon)
    scores = models[:, -1]
    for channel in range(models.shape[1] - 1):
        scores = scores + models[:, channel] * seen[channel]
    return models, scores


def decide_pixels(
    models: Tensor, scores: Tensor, image: Tensor, min_area: float
) -> NDArray[np.int16]:
    """Decides which segment every pixel belongs to.

    Every place of the filter is decided first. Inside a segment that holds for all pixels there;
    along the borders each pixel of the image decides anew between the two best segments of its place.

    Args:
        models: Of `fit_maps`.
        scores: Of `fit_maps`.
        image: uint8 RGB (height, width, 3), the image itself, where the models are.
        min_area: Segments below this share of the image go to the next best segments.

    Returns:
        (height, width) index of the segment.
    """
    labels, kept = _decide(scores, min_area)
    second = _best(scores.scatter(0, labels[None], -torch.inf), kept)
    height, width = image.shape[:2]
    rows = _nearest_pixels(height, labels.shape[0], labels.device)
    columns = _nearest_pixels(width, labels.shape[1], labels.device)
    # Columns first: whole rows are then copied.
    fine, near_border = (
        of_places.index_select(1, columns).index_select(0, rows).flatten()
        for of_places in (labels.short(), _borders(labels))
    )
    border = near_border.nonzero()[:, 0]
    if len(border):
        row, column = border.div(width, rounding_mode="floor"), border % width
        place = rows[row] * labels.shape[1] + columns[column]
        pairs = torch.stack([of.flatten().index_select(0, place) for of in (labels, second)], dim=1)
        colours = image.reshape(-1, 3).index_select(0, border).float() / 255.0
        scores = _scores_at(models, pairs, row, column, colours, (height, width))
        winners = torch.where(scores[:, 0] >= scores[:, 1], pairs[:, 0], pairs[:, 1])
        fine[border] = winners.short()
    return fine.view(height, width).cpu().numpy()


def _linear_models(
    maps: Tensor, guide: Tensor, radius: int, epsilon: float
) -> tuple[Tensor, Tensor]:
    """Per segment and place the weights of red, green and blue and a constant, and the guide there.

    Without a filter the maps themselves are the constant.

    Returns:
        (segments, 4, h, w) or (segments, 1, height', width'), and the guide, (3, h, w).
    """
    if not radius:
        return maps[:, None], guide
    size = filter_places((guide.shape[1], guide.shape[2]), radius)
    small = functional.interpolate(guide[None], size=size, mode="area")[0]
    if maps.shape[1:] != size:
        maps = functional.interpolate(maps[None], size=size, mode="area")[0]
    return guided_filter(small, maps, max(1, radius // SUBSAMPLING), epsilon), small


def _decide(scores: Tensor, min_area: float) -> tuple[Tensor, list[int]]:
    """Best segment of every pixel, and the segments that are left.

    Those that win too few pixels are dropped, the smallest first.
    """
    allowed = list(range(len(scores)))
    while True:
        labels = _best(scores, allowed)
        areas = torch.bincount(labels.flatten(), minlength=len(scores)).tolist()
        small = [s for s in allowed if 0 < areas[s] < min_area * labels.numel()]
        if not small:
            return labels, allowed
        allowed.remove(min(small, key=areas.__getitem__))


def _best(scores: Tensor, allowed: list[int]) -> Tensor:
    """Best of the allowed segments at every pixel, of equally good ones the first."""
    if scores.device.type != "cpu":
        return _best_at_once(scores, allowed)
    # On a CPU one pass per segment is several times faster than argmax(0).
    best = scores[allowed[0]]
    labels = torch.full_like(best, allowed[0], dtype=torch.long)
    for segment in allowed[1:]:
        labels = torch.where(scores[segment] > best, segment, labels)
        best = torch.maximum(best, scores[segment])
    return labels


def _best_at_once(scores: Tensor, allowed: list[int]) -> Tensor:
    """As `_best`, in as few steps as possible, each of which a GPU has to be told."""
    if len(allowed) == len(scores):
        return scores.argmax(0)
    chosen = upload(np.array(allowed), scores.device)
    return chosen[scores[chosen].argmax(0)]


def _borders(labels: Tensor) -> Tensor:
    """Pixels beside which, or at whose corners, there is another label."""
    height, width = labels.shape
    found = torch.zeros_like(labels, dtype=torch.bool)
    for down, across in ((0, 1), (1, 0), (1, 1), (1, -1)):
        here = np.s_[: height - down, max(0, -across) : width - max(0, across)]
        there = np.s_[down:, max(0, across) : width - max(0, -across)]
        differ = labels[here] != labels[there]
        found[here] |= differ
        found[there] |= differ
    return found


def _nearest_pixels(length: int, coarse: int, device: torch.device) -> Tensor:
    """Of `length` pixels the one of `coarse` pixels over the same extent that each lies in."""
    return ((torch.arange(length, device=device) + 0.5) * (coarse / length)).long()


def _scores_at(
    models: Tensor,
    segments: Tensor,
    rows: Tensor,
    columns: Tensor,
    colours: Tensor,
    size: tuple[int, int],
) -> Tensor:
    """Linear models, interpolated between their places, at single pixels.

    Args:
        models: (segments, channels, h, w), see `_linear_models`.
        segments: int64 (pixels, n), whose score is asked for.
        rows: int64 (pixels,).
        columns: int64 (pixels,).
        colours: (pixels, 3) in [0, 1].
        size: (height, width) of the image that the pixels are of.

    Returns:
        (pixels, n).
    """
    _, channels, h, w = models.shape
    table = models.permute(0, 2, 3, 1).reshape(-1, channels)
    inputs = functional.pad(colours, (0, 1), value=1.0)[:, -channels:]
    down, by_row = (part.index_select(1, rows) for part in _neighbours(h, size[0], models))
    across, by_column = (part.index_select(1, columns) for part in _neighbours(w, size[1], models))
    # The four places around each pixel, and what each of them counts.
    places = (down[:, None] * w + across).flatten(0, 1).T
    weights = (by_row[:, None] * by_column).flatten(0, 1).T
    scores = []
    for segment in segments.unbind(1):
        around = table.index_select(0, (segment[:, None] * (h * w) + places).flatten())
        values = (around.view(len(places), -1, channels) * inputs[:, None]).sum(2)
        scores.append((values * weights).sum(1))
    return torch.stack(scores, dim=1)


def _neighbours(coarse: int, length: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Between which two of `coarse` places each of `length` pixels lies, (2, length), and their weights.

    As bilinear interpolation without aligned corners: beyond the outermost centres the value goes on.
    """
    pixels = torch.arange(length, dtype=like.dtype, device=like.device)
    places = ((pixels + 0.5) * (coarse / length) - 0.5).clamp_min(0.0)
    before = places.long()
    share = places - before
    after = (before + 1).clamp_max(coarse - 1)
    return torch.stack([before, after]), torch.stack([1.0 - share, share])


_INDEX = ((0, 1, 2), (1, 3, 4), (2, 4, 5))
"""Where the entries of a symmetric 3x3 matrix are among its six upper ones, row by row."""


def _upper_products(colours: Tensor) -> Tensor:
    """(6, height, width): the upper entries of colours (3, height, width) times their transpose."""
    return torch.cat([colours[i] * colours[i:] for i in range(3)])


def _invert_symmetric(upper: Tensor, epsilon: float) -> Tensor:
    """Inverse of 3x3 symmetric matrices plus epsilon on the diagonal, as their six upper entries."""
    a, b, c, d, e, f = upper.unbind(0)
    a, d, f = a + epsilon, d + epsilon, f + epsilon
    minors = (
        d * f - e * e,
        c * e - b * f,
        b * e - c * d,
        a * f - c * c,
        b * c - a * e,
        a * d - b * b,
    )
    determinant = a * minors[0] + b * minors[1] + c * minors[2]
    return torch.stack(minors) / determinant


def _box(channels: Tensor, radius: int, areas: Tensor) -> Tensor:
    """Mean over the square window, cut off at the border; (channels, height, width)."""
    sums = _sums_on_cpu if channels.device.type == "cpu" else _sums
    return sums(channels, radius).div_(areas)


def _sums(channels: Tensor, radius: int) -> Tensor:
    return _sliding_sum(_sliding_sum(channels, radius, 1), radius, 2)


def _sums_on_cpu(channels: Tensor, radius: int) -> Tensor:
    """The same by OpenCV, in a third of the time."""
    side = (2 * radius + 1, 2 * radius + 1)
    sums = torch.empty_like(channels, memory_format=torch.contiguous_format)
    for given, found in zip(channels.numpy(), sums.numpy(), strict=True):
        cv2.boxFilter(given, -1, side, found, normalize=False, borderType=cv2.BORDER_CONSTANT)
    return sums


def _window_areas(like: Tensor, radius: int) -> Tensor:
    """(height, width): pixels of the window around each pixel of (channels, height, width)."""
    sides = [
        (place + radius + 1).clamp_max(len(place)) - (place - radius).clamp_min(0)
        for place in (torch.arange(length, device=like.device) for length in like.shape[1:])
    ]
    return (sides[0][:, None] * sides[1]).to(like.dtype)


def _sliding_sum(channels: Tensor, radius: int, dim: int) -> Tensor:
    """Sum over a window of ``2 * radius + 1`` along one dimension, whatever the radius, by running sums."""
    length = channels.shape[dim]
    border = (0, 0, radius + 1, radius) if dim == 1 else (radius + 1, radius)
    sums = functional.pad(channels, border).cumsum(dim)
    return sums.narrow(dim, 2 * radius + 1, length) - sums.narrow(dim, 0, length)
