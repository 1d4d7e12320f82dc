"""Soft shadows and contact shadows from two small maps over the ground.

Casting a shadow ray per pixel would double the cost of a picture and give hard edges. Instead
the objects are cast once along the light onto a grid on the ground: blurred, the grid is the soft
shadow on the ground; as a depth map it shades the objects themselves. A second grid, cast straight
up from the ground, tells how close things are to it, which gives the contact shadow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as nnf
from numpy.typing import NDArray
from torch import Tensor

from zgs_ros.synthetic.raycast import Soup, View

_FAR = 20.0  # start of the light rays, metres along the light above the ground
_BELOW = 0.01  # start of the contact rays, metres below the ground
_CONTACT_REACH = 0.06  # metres of gap over which the contact shadow fades


@dataclass(frozen=True)
class GroundMap:
    """A grid of values over a rectangle of the ground; its border should be 0.

    Attributes:
        values: (rows, columns) float32.
        low: World x, y of the first cell.
        step: Distance of the cells in metres.
    """

    values: Tensor
    low: tuple[float, float]
    step: float

    def sample(self, x: Tensor, y: Tensor) -> Tensor:
        """Bilinear values at world positions (N,); outside those of the border."""
        rows, columns = self.values.shape
        u = ((x - self.low[0]) * (1 / self.step)).clamp_(0, columns - 1.001)
        v = ((y - self.low[1]) * (1 / self.step)).clamp_(0, rows - 1.001)
        column, row = u.int(), v.int()
        u, v = u.sub_(column), v.sub_(row)
        flat, at = self.values.reshape(-1), row * columns + column
        a, b, c, d = (flat.index_select(0, at + step) for step in (0, 1, columns, columns + 1))
        return torch.lerp(torch.lerp(a, b, u), torch.lerp(c, d, u), v)


@dataclass(frozen=True)
class Shadows:
    """Maps of one scene, see the module.

    Attributes:
        soft: Shadow on the ground, 0 lit to 1 dark.
        height: Distance along the light from the ground to the topmost surface in metres.
        contact: Occlusion of the sky by things close to the ground, 0..1.
        light: Unit vector towards the light.
    """

    soft: GroundMap
    height: GroundMap
    contact: GroundMap
    light: tuple[float, float, float]

    def on_objects(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Fraction of shadow, 0..1, at points (N,) on objects."""
        lx, ly, lz = self.light
        along = z / lz
        step = self.height.step
        bias = 1.6 * step + 0.006
        gx, gy = x - along * lx, y - along * ly
        # Four slightly turned taps: cheaper than one larger blur of the comparison.
        taps = torch.tensor([(-0.6, -0.25), (0.25, -0.6), (0.6, 0.25), (-0.25, 0.6)]) * step
        taps = taps.to(x.device)
        top = self.height.sample(
            (gx + taps[:, :1]).reshape(-1), (gy + taps[:, 1:]).reshape(-1)
        ).view(4, -1)
        return ((top - along - bias) * (1 / step)).clamp_(0, 1).mean(dim=0)


def shadow_views(soup: Soup, light: NDArray[np.float64], softness: float, cells: int) -> list[View]:
    """The grids to cast: one along the light, one from the ground straight up.

    Args:
        soup: The primitives, at least one.
        light: Unit vector towards the light.
        softness: Half width of the shadow's edge per metre of height.
        cells: Cells along the longer side of the light map; the contact map has half as many.
    """
    corners = soup.corners.reshape(-1, 3)
    landing = corners[:, :2] - corners[:, 2:] / light[2] * light[:2]
    up = np.array([0.0, 0.0, 1.0])
    return [
        _ground_view(landing, light * _FAR, -light, 0.04 + softness, cells),
        _ground_view(corners[:, :2], -up * _BELOW, up, 0.16, cells // 2),
    ]


def _ground_view(
    points: NDArray[np.float64],
    start: NDArray[np.float64],
    direction: NDArray[np.float64],
    margin: float,
    cells: int,
) -> View:
    """Parallel rays that start over a grid around some points of the ground."""
    low, high = points.min(axis=0) - margin, points.max(axis=0) + margin
    step = float((high - low).max() / cells)
    columns, rows = (int(np.ceil((high[k] - low[k]) / step)) + 1 for k in (0, 1))
    across, down = np.array([step, 0.0, 0.0]), np.array([0.0, step, 0.0])
    corner = np.array([low[0], low[1], 0.0]) + start
    return View(rows, columns, corner, direction, across, down, perspective=False)


def shadow_maps(
    views: list[View], distances: list[Tensor], light: NDArray[np.float64], softness: float
) -> Shadows:
    """Turn the hit distances of `shadow_views` into maps."""
    light_view, contact_view = views
    height = torch.where(distances[0] < torch.inf, _FAR - distances[0], 0.0)
    height = height.view(light_view.height, light_view.width)
    mask = (height > 0).float()
    step = light_view.across[0]
    # The edge is as soft as the occluder is high: blend two blurs by the mean height.
    sharp = _blur(mask, 0.010 / step)
    wide, wide_height = _blur(torch.stack([mask, height]), max(0.02, softness * 0.5) / step)
    blend = (wide_height / (wide + 1e-6) / 0.7).clamp_(0, 1)
    gap = (distances[1] - _BELOW).clamp_(min=0)
    contact = torch.exp(gap * (-1 / _CONTACT_REACH))
    contact = contact.view(contact_view.height, contact_view.width)
    step = contact_view.across[0]
    contact = 0.5 * (_blur(contact, 0.015 / step) + _blur(contact, 0.05 / step))
    return Shadows(
        _ground_map(light_view, light, torch.lerp(sharp, wide, blend)),
        _ground_map(light_view, light, height),
        _ground_map(contact_view, np.zeros(3), contact),
        (float(light[0]), float(light[1]), float(light[2])),
    )


def _ground_map(view: View, light: NDArray[np.float64], values: Tensor) -> GroundMap:
    low = view.origin - light * _FAR
    return GroundMap(values, (float(low[0]), float(low[1])), float(view.across[0]))


def _blur(images: Tensor, radius: float) -> Tensor:
    """Two passes of a box blur per axis, nearly Gaussian; (..., rows, columns).

    Running sums make the cost independent of the radius.
    """
    reach = max(1, round(radius))
    width = 2 * reach + 1
    for _ in range(2):
        for _ in range(2):
            summed = nnf.pad(images, (reach + 1, reach)).cumsum(dim=-1)
            images = (summed[..., width:] - summed[..., :-width]).mul_(1 / width)
            images = images.transpose(-1, -2)
    return images.contiguous()
