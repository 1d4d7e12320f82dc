"""Solid primitives from which the things of the synthetic world are built.

There are three families, chosen so that each has one short vectorised intersection routine
(see `raycast.py`) and together they cover every everyday shape:

- quadric: x² + y² + a z² + b z + c <= 0 between two planes of z. Spheres, ellipsoids, domes,
  cylinders, cones and frusta; each end may be open, which makes mugs, bowls and lamp shades hollow.
- block: a box whose half widths change linearly with z. Boxes, pyramids, roofs, hulls, wedges.
- torus: a ring of major radius one.

Every primitive lives in its own local frame and is placed by an affine map, so it may also be
stretched and sheared.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Vector = tuple[float, float, float]
Colour = tuple[float, float, float]

QUADRIC, BLOCK, TORUS = 0, 1, 2
SHAPE_SIZE = 7


@dataclass(frozen=True, eq=False)
class Primitive:
    """One solid, placed in the frame of the thing it belongs to.

    Attributes:
        family: QUADRIC, BLOCK or TORUS.
        frame: Affine map from local to object coordinates, (3, 4) float64.
        shape: Parameters of the family, (SHAPE_SIZE,) float64. Quadric: a, b, c, low, high and
            two flags that say whether the low and the high end are closed. Block: mean and slope
            of the half width in x, then in y. Torus: minor radius and the x at which it is
            cut off.
        bounds: Corners of the local bounding box, (2, 3) float64.
        colour: sRGB in 0..1, or None where the thing's own colour goes.
        shade: Factor on the brightness, to set parts of one colour off against each other.
    """

    family: int
    frame: NDArray[np.float64]
    shape: NDArray[np.float64]
    bounds: NDArray[np.float64]
    colour: Colour | None
    shade: float = 1.0


def rotation(turn: Vector) -> NDArray[np.float64]:
    """Rotation matrix, (3, 3), from turns about x, y and z in degrees, applied in this order."""
    matrix = np.eye(3)
    for axis, degrees in enumerate(turn):
        if degrees:
            c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
            i, j = (axis + 1) % 3, (axis + 2) % 3
            step = np.eye(3)
            step[i, i], step[i, j], step[j, i], step[j, j] = c, -s, s, c
            matrix = step @ matrix
    return matrix


def _basis_along(axis: NDArray[np.float64]) -> NDArray[np.float64]:
    """Two unit vectors perpendicular to an axis, as the columns of a (3, 2) matrix."""
    unit = axis / np.linalg.norm(axis)
    reference = np.array([0.0, 1.0, 0.0]) if abs(unit[1]) < 0.9 else np.array([1.0, 0.0, 0.0])
    first = np.cross(reference, unit)
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(unit, first)], axis=1)


@dataclass
class Builder:
    """Collects the primitives of one thing; x points to its front, z up, units are free."""

    parts: list[Primitive] = field(default_factory=list)

    def _add(
        self,
        family: int,
        axes: NDArray[np.float64],
        centre: Vector | NDArray[np.float64],
        shape: list[float],
        bounds: list[list[float]],
        colour: Colour | None,
        shade: float,
    ) -> None:
        frame = np.concatenate([axes, np.asarray(centre, float)[:, None]], axis=1)
        padded = np.zeros(SHAPE_SIZE)
        padded[: len(shape)] = shape
        self.parts.append(Primitive(family, frame, padded, np.array(bounds, float), colour, shade))

    def box(
        self,
        centre: Vector,
        size: Vector,
        colour: Colour | None = None,
        *,
        taper: tuple[float, float] = (1.0, 1.0),
        lean: tuple[float, float] = (0.0, 0.0),
        turn: Vector = (0.0, 0.0, 0.0),
        shade: float = 1.0,
    ) -> None:
        """A box of full extents `size`.

        `taper` is the width of the top relative to the bottom in x and y (0, 0 makes a pyramid,
        0, 1 a roof); `lean` moves the top against the bottom.
        """
        half = np.diag(np.asarray(size, float) / 2)
        half[0, 2], half[1, 2] = lean[0] / 2, lean[1] / 2
        shape: list[float] = []
        for ratio in taper:
            shape += [(1 + ratio) / 2, (ratio - 1) / 2]
        wide = [max(1.0, ratio) for ratio in taper]
        bounds = [[-wide[0], -wide[1], -1.0], [wide[0], wide[1], 1.0]]
        self._add(BLOCK, rotation(turn) @ half, centre, shape, bounds, colour, shade)

    def ball(
        self,
        centre: Vector,
        radii: float | Vector,
        colour: Colour | None = None,
        *,
        low: float = -1.0,
        high: float = 1.0,
        open_low: bool = False,
        open_high: bool = False,
        turn: Vector = (0.0, 0.0, 0.0),
        shade: float = 1.0,
    ) -> None:
        """An ellipsoid, optionally cut at `low` and `high` (in units of its z radius)."""
        axes = np.diag(np.broadcast_to(np.asarray(radii, float), 3))
        shape = [1.0, 0.0, -1.0, low, high, float(not open_low), float(not open_high)]
        wide = 1.0 if low <= 0 <= high else float(np.sqrt(1 - min(abs(low), abs(high)) ** 2))
        bounds = [[-wide, -wide, low], [wide, wide, high]]
        self._add(QUADRIC, rotation(turn) @ axes, centre, shape, bounds, colour, shade)

    def rod(
        self,
        start: Vector,
        end: Vector,
        radius: float,
        end_radius: float | None = None,
        colour: Colour | None = None,
        *,
        flat: float = 1.0,
        open_low: bool = False,
        open_high: bool = False,
        shade: float = 1.0,
    ) -> None:
        """A cylinder or frustum from `start` to `end`; `flat` squeezes its cross section.

        For an upright rod the squeezed direction is y.
        """
        last = radius if end_radius is None else end_radius
        widest = max(radius, last)
        along = np.asarray(end, float) - np.asarray(start, float)
        across = _basis_along(along) * widest * np.array([1.0, flat])
        r0, slope = radius / widest, (last - radius) / widest
        shape = [-slope * slope, -2 * r0 * slope, -r0 * r0, 0.0, 1.0]
        shape += [float(not open_low), float(not open_high)]
        axes = np.concatenate([across, along[:, None]], axis=1)
        self._add(QUADRIC, axes, start, shape, [[-1, -1, 0], [1, 1, 1]], colour, shade)

    def ring(
        self,
        centre: Vector,
        radius: float,
        thickness: float,
        colour: Colour | None = None,
        *,
        turn: Vector = (0.0, 0.0, 0.0),
        half: bool = False,
        shade: float = 1.0,
    ) -> None:
        """A torus around z with a tube of radius `thickness`; `half` keeps its part at x > 0."""
        minor = thickness / radius
        cut = 0.0 if half else -1 - minor
        bounds = [[cut, -1 - minor, -minor], [1 + minor, 1 + minor, minor]]
        axes = rotation(turn) * radius
        self._add(TORUS, axes, centre, [minor, cut], bounds, colour, shade)

    def capsule(
        self,
        start: Vector,
        end: Vector,
        radius: float,
        colour: Colour | None = None,
        *,
        shade: float = 1.0,
    ) -> None:
        """A rod with round ends."""
        self.rod(start, end, radius, colour=colour, shade=shade)
        self.ball(start, radius, colour, shade=shade)
        self.ball(end, radius, colour, shade=shade)
