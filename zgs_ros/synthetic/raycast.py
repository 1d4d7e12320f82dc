"""Casting grids of rays against many primitives at once, in torch, on any device.

A view is a grid of rays. Every primitive is projected to a rectangle of that grid, and only the
rays inside are tested against it: the candidate (ray, primitive) pairs of all primitives of one
family go through the intersection routine together, as flat vectors. This keeps both the number
of torch calls (small images) and the memory traffic (large images) low.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zgs_ros.synthetic.primitives import BLOCK, QUADRIC, TORUS

Vectors = tuple[Tensor, Tensor, Tensor]

_NEAR = 1e-4
_TORUS_STEPS = 14


@dataclass(frozen=True)
class View:
    """A grid of rays: ray (row, column) starts at origin + ... and runs along direction + ....

    A perspective camera varies the direction over the grid, an orthographic one the origin.

    Attributes:
        height: Rows.
        width: Columns.
        origin: (3,) start of ray (0, 0), world coordinates in metres.
        direction: (3,) direction of ray (0, 0).
        across: (3,) change per column.
        down: (3,) change per row.
        perspective: Whether `across` and `down` change the direction or else the origin.
    """

    height: int
    width: int
    origin: NDArray[np.float64]
    direction: NDArray[np.float64]
    across: NDArray[np.float64]
    down: NDArray[np.float64]
    perspective: bool

    def project(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Grid coordinates (column, row, distance along the ray) of world points (..., 3)."""
        if self.perspective:
            basis = np.stack([self.across, self.down, self.direction], axis=1)
            solved = (points - self.origin) @ np.linalg.inv(basis).T
            distance = np.where(np.abs(solved[..., 2]) < 1e-9, 1e-9, solved[..., 2])
            return np.stack([solved[..., 0] / distance, solved[..., 1] / distance, distance], -1)
        basis = np.stack([self.across, self.down, self.direction], axis=1)
        return np.asarray((points - self.origin) @ np.linalg.inv(basis).T)


@dataclass(frozen=True)
class Soup:
    """All primitives of a scene, stacked.

    Attributes:
        inverse: World to local maps, (primitives, 3, 4) float64.
        corners: Corners of the bounding boxes in the world, (primitives, 8, 3) float64.
        shapes: Shape parameters, (primitives, SHAPE_SIZE) float64.
        families: (primitives,) int.
    """

    inverse: NDArray[np.float64]
    corners: NDArray[np.float64]
    shapes: NDArray[np.float64]
    families: NDArray[np.int64]


def where_true(mask: Tensor) -> Tensor:
    """Indices of the true elements of (N,), int64; in main memory several times torch's speed."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.nonzero().squeeze(1)


def cast(soup: Soup, views: Sequence[View], device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """Nearest hit of every ray of several views, all in one go.

    Returns:
        For each view the distance in units of the ray's direction, inf without a hit, (rays,)
        float32; and the index of the primitive, -1 without a hit, (rays,) int64. Rays are in
        row-major order.
    """
    sizes = [view.height * view.width for view in views]
    nearest = torch.full((sum(sizes),), torch.inf, device=device)
    owner = torch.full((sum(sizes),), -1, dtype=torch.int64, device=device)
    if len(soup.families):
        starts = np.cumsum([0, *sizes[:-1]])
        boxes = [_boxes(soup, view, int(start)) for view, start in zip(views, starts, strict=True)]
        primitive, layout, table = (np.concatenate(part) for part in zip(*boxes, strict=True))
        found = []
        for family, intersect in ((QUADRIC, _quadric), (BLOCK, _block), (TORUS, _torus)):
            chosen = np.flatnonzero(soup.families[primitive] == family)
            if len(chosen):
                pairs = _pairs(layout[chosen], table[chosen], device)
                local = primitive[chosen]
                shapes = _to(soup.shapes[local].T, device).index_select(1, pairs.box)
                distance = intersect(pairs.origin, pairs.direction, shapes)
                nearest.scatter_reduce_(0, pairs.ray, distance, "amin")
                found.append((pairs, local, distance))
        for pairs, local, distance in found:
            # Of coincident surfaces the later primitive wins, whatever the order of execution.
            won = distance <= nearest.index_select(0, pairs.ray).clamp_(max=1e30)
            number = torch.as_tensor(local, device=device).index_select(0, pairs.box)
            owner.scatter_reduce_(0, pairs.ray, torch.where(won, number, -1), "amax")
    return list(zip(torch.split(nearest, sizes), torch.split(owner, sizes), strict=True))


def _to(array: NDArray[np.float64], device: torch.device) -> Tensor:
    return torch.as_tensor(np.ascontiguousarray(array), dtype=torch.float32, device=device)


def _boxes(
    soup: Soup, view: View, first_ray: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """The grid rectangles of all primitives that a view can see.

    Returns:
        Index of the primitive, (boxes,); width, height, first ray and rays per row of the view,
        (boxes, 4); in the primitive's frame origin and direction of the first ray and the changes
        of origin and direction per column and per row, (boxes, 18).
    """
    grid = view.project(soup.corners)  # (primitives, 8, 3)
    size = np.array([view.width, view.height])
    low = np.clip(np.floor(grid[..., :2].min(axis=1)), 0, size).astype(np.int64)
    high = np.clip(np.ceil(grid[..., :2].max(axis=1)) + 1, 0, size).astype(np.int64)
    if view.perspective:
        behind = grid[..., 2].min(axis=1) < 1e-3
        low[behind], high[behind] = 0, size
        high[grid[..., 2].max(axis=1) < 1e-3] = 0
    extent = high - low
    seen = np.flatnonzero((extent > 0).all(axis=1))
    low, extent = low[seen], extent[seen]
    first = first_ray + low[:, 1] * view.width + low[:, 0]
    layout = np.stack([extent[:, 0], extent[:, 1], first, np.full_like(first, view.width)], axis=1)
    linear, offset = soup.inverse[seen, :, :3], soup.inverse[seen, :, 3]
    start = low @ np.stack([view.across, view.down])
    across, down = linear @ view.across, linear @ view.down
    still = np.zeros_like(across)
    if view.perspective:
        origin = linear @ view.origin + offset
        direction = np.einsum("pij,pj->pi", linear, view.direction + start)
        rows = (origin, direction, still, across, still, down)
    else:
        origin = np.einsum("pij,pj->pi", linear, view.origin + start) + offset
        rows = (origin, linear @ view.direction, across, still, down, still)
    return seen, layout, np.concatenate(rows, axis=1)


@dataclass(frozen=True)
class _Pairs:
    """Candidate pairs of a ray and a primitive, flat: all (N,), rays in the local frame."""

    box: Tensor
    ray: Tensor
    origin: Vectors
    direction: Vectors


def _pairs(layout: NDArray[np.int64], table: NDArray[np.float64], device: torch.device) -> _Pairs:
    """All rays of all boxes; see `_boxes` for the arguments."""
    width, height, first, pitch = layout.T
    counts = width * height
    total = int(counts.sum())
    integers = np.stack([width, np.cumsum(counts) - counts, first, pitch])
    box = torch.repeat_interleave(
        torch.arange(len(layout), dtype=torch.int32, device=device),
        torch.as_tensor(counts, device=device),
        output_size=total,
    )
    wide, before, corner, step = torch.as_tensor(
        integers, dtype=torch.int32, device=device
    ).index_select(1, box)
    inside = torch.arange(total, dtype=torch.int32, device=device) - before
    # Float division is exact enough below 2**24 and several times faster than integer division.
    row = ((inside.float() + 0.5) / wide).int()
    column = inside - row * wide
    ray = (corner + row * step + column).long()
    values = _to(table.T, device).index_select(1, box)  # (18, N)
    row_f, column_f = row.float(), column.float()
    swept = [
        values[k].addcmul(values[6 + k], column_f).addcmul_(values[12 + k], row_f) for k in range(6)
    ]
    return _Pairs(box, ray, (swept[0], swept[1], swept[2]), (swept[3], swept[4], swept[5]))


def _quadric(origin: Vectors, direction: Vectors, shapes: Tensor) -> Tensor:
    """Nearest hit with x² + y² + a z² + b z + c = 0 between two planes, inf for none."""
    (ox, oy, oz), (dx, dy, dz) = origin, direction
    a, b, c, low, high, closed_low, closed_high = shapes
    qa = dx * dx + dy * dy + a * dz * dz
    qb = ox * dx + oy * dy + (a * oz + 0.5 * b) * dz  # half of the linear coefficient
    qc = ox * ox + oy * oy + (a * oz + b) * oz + c
    root = (qb * qb - qa * qc).sqrt_()  # nan where the ray misses; comparisons are then false
    inverse = -1.0 / torch.where(qa.abs() < 1e-12, 1e-12, qa)
    miss = torch.inf
    best = torch.full_like(qa, miss)
    for signed in (root, -root):
        t = (qb + signed) * inverse
        z = torch.addcmul(oz, t, dz)
        good = (t > _NEAR) & (z >= low) & (z <= high)
        best = torch.where(good & (t < best), t, best)
    inverse_z = 1.0 / torch.where(dz.abs() < 1e-12, 1e-12, dz)
    for plane, closed in ((low, closed_low), (high, closed_high)):
        t = (plane - oz) * inverse_z
        value = (qa * t + 2 * qb) * t + qc
        good = (t > _NEAR) & (value <= 0) & (closed > 0)
        best = torch.where(good & (t < best), t, best)
    return best


def _block(origin: Vectors, direction: Vectors, shapes: Tensor) -> Tensor:
    """Nearest hit with |x| <= mx + kx z, |y| <= my + ky z, |z| <= 1, inf for none."""
    oz, dz = origin[2], direction[2]
    enter = torch.full_like(dz, _NEAR)
    leave = torch.full_like(dz, torch.inf)
    for axis in range(3):
        if axis == 2:
            limits = [(dz, oz - 1), (-dz, -oz - 1)]
        else:
            mean, slope = shapes[2 * axis : 2 * axis + 2]
            o, d = origin[axis], direction[axis]
            edge, drift = torch.addcmul(mean, slope, oz), slope * dz
            limits = [(d - drift, o - edge), (-d - drift, -o - edge)]
        for speed, value in limits:
            # Rays along a face are given a tiny speed, in the test of its sign too.
            speed = torch.where(speed.abs() < 1e-12, 1e-12, speed)
            t = -value / speed
            enter = torch.where(speed < 0, torch.maximum(enter, t), enter)
            leave = torch.where(speed >= 0, torch.minimum(leave, t), leave)
    return torch.where((enter < leave) & (enter > _NEAR), enter, torch.inf)


def _torus(origin: Vectors, direction: Vectors, shapes: Tensor) -> Tensor:
    """Nearest hit with a torus of major radius one, by sphere tracing; inf for none."""
    everything = torch.full_like(direction[0], torch.inf)
    minor, cut = shapes[:2]
    # Start where the ray enters the bounding sphere, and only for rays that meet it.
    speed2 = direction[0].square() + direction[1].square() + direction[2].square()
    middle = (
        -(origin[0] * direction[0] + origin[1] * direction[1] + origin[2] * direction[2]) / speed2
    )
    closest = [torch.addcmul(origin[k], middle, direction[k]) for k in range(3)]
    room = (1 + minor).square() - sum(part.square() for part in closest)
    alive = where_true(room > 0)
    minor, cut = minor.take(alive), cut.take(alive)
    (ox, oy, oz) = (part.take(alive) for part in origin)
    (dx, dy, dz) = (part.take(alive) for part in direction)
    per_unit = speed2.take(alive).rsqrt()
    reach = room.take(alive).sqrt() * per_unit
    t = (middle.take(alive) - reach).clamp_(min=_NEAR)
    end = middle.take(alive) + reach
    for _ in range(_TORUS_STEPS):
        distance = _torus_distance(
            torch.addcmul(ox, t, dx), torch.addcmul(oy, t, dy), torch.addcmul(oz, t, dz), minor, cut
        )
        t = torch.addcmul(t, distance, per_unit)
    hit = (distance < 0.03 * minor + 0.002) & (t < end) & (t > _NEAR)
    return everything.scatter_(0, alive, torch.where(hit, t, torch.inf))


def _torus_distance(x: Tensor, y: Tensor, z: Tensor, minor: Tensor, cut: Tensor) -> Tensor:
    ring = torch.addcmul(x * x, y, y).sqrt_() - 1
    tube = torch.addcmul(ring * ring, z, z).sqrt_() - minor
    return torch.maximum(tube, cut - x)
