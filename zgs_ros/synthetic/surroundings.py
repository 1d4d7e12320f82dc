"""Light and colour of the ground and the backdrop."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from zgs_ros.synthetic.backdrops import PANORAMA_HEIGHT, PANORAMA_WIDTH, backdrop_tile
from zgs_ros.synthetic.grounds import ground_tile
from zgs_ros.synthetic.raycast import Vectors
from zgs_ros.synthetic.scene import Scene
from zgs_ros.synthetic.shadows import Shadows

_HAZE = 0.045  # per metre, how fast an outdoor ground fades into the horizon
_HORIZON = (0.66, 0.80, 0.93)  # linear


def _column(values: tuple[float, float, float], like: Tensor) -> Tensor:
    return like.new_tensor(values)[:, None]


def shade_ground(
    scene: Scene,
    shadows: Shadows | None,
    x: Tensor,
    y: Tensor,
    depth: Tensor,
    rays: Vectors,
    pixel: float,
) -> Tensor:
    """Linear colour of ground pixels, (3, N).

    Args:
        scene: For ground, light and wall.
        shadows: Shadow maps, if anything casts shadows.
        x: Position on the ground in metres, (N,).
        y: Likewise.
        depth: Along the optical axis in metres, (N,).
        rays: Ray directions, of length one along the optical axis, three of (N,).
        pixel: Extent of a pixel at a depth of one.
    """
    surface = scene.ground
    tile = ground_tile(surface.name, surface.variant)
    scale = 1 / surface.scale
    c, s = float(np.cos(surface.angle)) * scale, float(np.sin(surface.angle)) * scale
    u = c * x - s * y + surface.shift[0]
    v = s * x + c * y + surface.shift[1]
    # Seen at a slant a pixel covers more ground: take the geometric mean of both extents.
    length2 = rays[0] * rays[0] + rays[1] * rays[1] + rays[2] * rays[2]
    slant = length2.sqrt_() / -rays[2]
    albedo = tile.sample(u, v, depth * slant.sqrt() * (pixel * scale)).square_()
    albedo *= _column(surface.tone, x)
    if surface.name == "water":
        mirror = (1 - slant.reciprocal()).clamp_(0, 1).pow_(3) * 0.55
        albedo = torch.lerp(albedo, _column(_HORIZON, x) * 0.9, mirror)
    lit = torch.full_like(x, scene.light.direction[2])
    open_sky = torch.ones_like(x)
    if shadows is not None:
        lit *= 1 - shadows.soft.sample(x, y)
        open_sky -= 0.75 * shadows.contact.sample(x, y)
    if scene.has_wall:
        nx, ny = float(np.cos(scene.wall[0])), float(np.sin(scene.wall[0]))
        gap = scene.wall[1] - x * nx - y * ny
        open_sky *= 1 - 0.35 * torch.exp(gap * (-1 / 0.15))
    sun, sky = _column(scene.light.sun, x), _column(scene.light.sky, x)
    colour = albedo.mul_(sun * lit + sky * open_sky)
    if not scene.has_wall:
        haze = 1 - torch.exp((depth - 4).clamp_(min=0) * -_HAZE)
        colour = torch.lerp(colour, _column(_HORIZON, x), haze)
    return colour


def shade_wall(scene: Scene, x: Tensor, y: Tensor, z: Tensor, footprint: Tensor) -> Tensor:
    """Linear colour of the pixels of a wall, (3, N), at world positions in metres, (N,)."""
    surface = scene.backdrop
    tile = backdrop_tile(surface.name, surface.variant)
    nx, ny = float(np.cos(scene.wall[0])), float(np.sin(scene.wall[0]))
    scale = 1 / surface.scale
    u = (x * -ny + y * nx) * scale + surface.shift[0]
    albedo = tile.sample(u, z * -scale, footprint * scale).square_()
    albedo *= _column(surface.tone, x)
    if surface.name == "wall":
        # A skirting board tells the painted wall of a room from other plain surfaces.
        board = ((0.14 * surface.scale - z) / footprint + 0.5).clamp_(0, 1)
        edge = (0.012 * surface.scale - (z - 0.13 * surface.scale).abs()) / footprint
        albedo = torch.lerp(albedo, _column((0.86, 0.84, 0.80), x), board)
        albedo *= 1 - 0.4 * (edge + 0.5).clamp_(0, 1)
    lx, ly, _ = scene.light.direction
    facing = max(0.0, -(lx * nx + ly * ny))
    sun, sky = _column(scene.light.sun, x), _column(scene.light.sky, x)
    open_sky = 0.85 - 0.4 * torch.exp(z * (-1 / 0.12))
    return albedo * (sun * (0.25 + 0.6 * facing) + sky * open_sky)


def shade_panorama(scene: Scene, rays: Vectors, pixel: float) -> Tensor:
    """Linear colour of pixels at infinity, (3, N)."""
    surface = scene.backdrop
    azimuth = torch.atan2(rays[1], rays[0])
    flat = (rays[0] * rays[0] + rays[1] * rays[1]).sqrt_()
    up = (rays[2] / flat).clamp_(0.002, PANORAMA_HEIGHT * 0.995) * (1 / PANORAMA_HEIGHT)
    tile = backdrop_tile(surface.name, surface.variant)
    u = azimuth * (1 / PANORAMA_WIDTH) + surface.shift[0]
    footprint = torch.full_like(u, pixel / PANORAMA_WIDTH)
    colour = tile.sample(u, up * 0.996 + 0.002, footprint).square_()
    return colour.mul_(_column(surface.tone, u))
