"""Light and colour of object surfaces: normals, patterns, reflection."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zgs_ros.synthetic.catalogue import invert
from zgs_ros.synthetic.palette import PATTERNS
from zgs_ros.synthetic.primitives import BLOCK, QUADRIC
from zgs_ros.synthetic.raycast import Soup, Vectors, where_true
from zgs_ros.synthetic.scene import Scene
from zgs_ros.synthetic.shadows import Shadows

# Rows of the material table.
_INVERSE, _SHAPE, _FAMILY, _COLOUR = slice(0, 12), slice(12, 19), 19, slice(20, 23)
_GLOSS, _SIZE, _PATTERN = 23, 24, 25
_SHADED_ROWS = 26  # the rows above are needed at every pixel, those below only at patterns
_SECOND, _PATTERN_SCALE, _TO_OBJECT = slice(26, 29), 29, slice(30, 42)
_ROWS = 42


@dataclass(frozen=True)
class Assembly:
    """All primitives of a scene in the world, with their materials.

    Attributes:
        soup: Geometry.
        materials: One column per primitive, (_ROWS, primitives) float32.
        objects: Number of the object that each primitive belongs to, (primitives,).
    """

    soup: Soup
    materials: NDArray[np.float32]
    objects: NDArray[np.int64]


def assemble(scene: Scene) -> Assembly:
    """Place all primitives of a scene in the world."""
    solids = [item.solid for item in scene.objects]
    counts = [len(solid.families) for solid in solids]
    table = np.zeros((_ROWS, sum(counts)))
    corners = np.zeros((sum(counts), 8, 3))
    start = 0
    for item, solid, count in zip(scene.objects, solids, counts, strict=True):
        part = slice(start, start + count)
        start += count
        frame = item.frame()
        to_object = invert(frame[None])[0]
        corners[part] = solid.corners @ frame[:, :3].T + frame[:, 3]
        linear = solid.inverse[:, :, :3] @ to_object[:, :3]
        offset = solid.inverse[:, :, :3] @ to_object[:, 3] + solid.inverse[:, :, 3]
        table[_INVERSE, part] = np.dstack([linear, offset]).reshape(count, 12).T
        table[_SHAPE, part], table[_FAMILY, part] = solid.shapes.T, solid.families
        own = np.isnan(solid.accents[:, 0])
        colour = np.where(own[:, None], item.rgb, solid.accents)
        shade = np.clip(solid.shades, 0, 1.3) ** 2
        table[_COLOUR, part] = np.square(colour).T * shade
        table[_SECOND, part] = np.square(item.second_rgb)[:, None] * shade
        table[_PATTERN, part] = PATTERNS.index(item.pattern) * own
        table[_PATTERN_SCALE, part], table[_GLOSS, part] = item.pattern_scale, item.gloss
        table[_SIZE, part] = item.size
        table[_TO_OBJECT, part] = to_object.reshape(12, 1)
    inverse = table[_INVERSE].T.reshape(-1, 3, 4)
    soup = Soup(inverse, corners, table[_SHAPE].T, table[_FAMILY].astype(np.int64))
    return Assembly(soup, table.astype(np.float32), np.repeat(np.arange(len(counts)), counts))


def shade_objects(
    assembly: Assembly,
    scene: Scene,
    shadows: Shadows | None,
    owner: Tensor,
    points: Vectors,
    rays: Vectors,
    footprint: Tensor,
) -> Tensor:
    """Linear colour of object pixels, (3, N).

    Args:
        assembly: The scene's primitives.
        scene: For the light.
        shadows: Shadow maps.
        owner: Primitive of each pixel, (N,).
        points: Hit points in the world, three of (N,).
        rays: Ray directions (not normalised), three of (N,).
        footprint: Extent of a pixel at each point in metres, (N,).
    """
    table = torch.as_tensor(assembly.materials, device=owner.device)
    row = table[:_SHADED_ROWS].index_select(1, owner)  # (_SHADED_ROWS, N)
    x, y, z = points
    nx, ny, nz = _normals(row, points, rays)
    albedo = _albedo(table, row, owner, points, (nx, ny, nz), footprint)
    lx, ly, lz = scene.light.direction
    facing = (nx * lx + ny * ly + nz * lz).clamp_(min=0)
    lit = facing
    if shadows is not None:
        lit = facing * (1 - shadows.on_objects(x, y, z))
    # Light from the sky comes from above; close to the ground less of it arrives.
    openness = (0.62 + 0.38 * nz) * (0.62 + 0.38 * (z / (0.3 * row[_SIZE])).clamp_(0, 1))
    # Blinn-Phong highlight about the half vector of light and view.
    length = (rays[0] ** 2 + rays[1] ** 2 + rays[2] ** 2).rsqrt()
    hx, hy, hz = lx - rays[0] * length, ly - rays[1] * length, lz - rays[2] * length
    cosine = (nx * hx + ny * hy + nz * hz) * (hx * hx + hy * hy + hz * hz).rsqrt()
    highlight = cosine.clamp_(0, 1).pow_(48) * row[_GLOSS] * (lit > 0)
    rim = 1 + (nx * rays[0] + ny * rays[1] + nz * rays[2]) * length  # 1 at grazing view
    sheen = 0.10 * rim.clamp_(0, 1).pow_(3) * row[_GLOSS]
    sun = torch.tensor(scene.light.sun, device=owner.device)[:, None]
    sky = torch.tensor(scene.light.sky, device=owner.device)[:, None]
    return albedo * (sun * lit + sky * openness) + (sun * highlight * 0.55 + sky * sheen)


def _normals(row: Tensor, points: Vectors, rays: Vectors) -> Vectors:
    """Unit normals in the world, turned towards the viewer."""
    m = row[_INVERSE]
    px, py, pz = (
        m[4 * k] * points[0] + m[4 * k + 1] * points[1] + m[4 * k + 2] * points[2] + m[4 * k + 3]
        for k in range(3)
    )
    # Evaluating all three families everywhere is cheaper than gathering and scattering.
    quadric, block = row[_FAMILY] == QUADRIC, row[_FAMILY] == BLOCK
    pull = 1 - (px * px + py * py).clamp_(min=1e-12).rsqrt()
    gradient = (px * pull, py * pull, pz)  # torus
    of_quadric = _quadric_normal(px, py, pz, row[_SHAPE])
    of_block = _block_normal(px, py, pz, row[_SHAPE])
    gx, gy, gz = (
        torch.where(quadric, q, torch.where(block, b, t))
        for q, b, t in zip(of_quadric, of_block, gradient, strict=True)
    )
    # Normals transform with the inverse transpose.
    nx, ny, nz = (m[k] * gx + m[4 + k] * gy + m[8 + k] * gz for k in range(3))
    scale = (nx * nx + ny * ny + nz * nz).clamp_(min=1e-20).rsqrt()
    scale = torch.where(nx * rays[0] + ny * rays[1] + nz * rays[2] > 0, -scale, scale)
    return nx * scale, ny * scale, nz * scale


def _quadric_normal(x: Tensor, y: Tensor, z: Tensor, shape: Tensor) -> Vectors:
    a, b, c, low, high, closed_low, closed_high = shape
    slope = a * z + 0.5 * b
    value = x * x + y * y + (a * z + b) * z + c
    side = value.abs() * (x * x + y * y + slope * slope).clamp_(min=1e-9).rsqrt() * 0.5
    at_low = torch.where(closed_low > 0, (z - low).abs(), torch.inf)
    at_high = torch.where(closed_high > 0, (z - high).abs(), torch.inf)
    cap = torch.minimum(at_low, at_high) < side
    up = torch.where(at_low < at_high, -1.0, 1.0)
    zero = torch.zeros_like(x)
    return torch.where(cap, zero, x), torch.where(cap, zero, y), torch.where(cap, up, slope)


def _block_normal(x: Tensor, y: Tensor, z: Tensor, shape: Tensor) -> Vectors:
    gap_x = (x.abs() - shape[0] - shape[1] * z).abs()
    gap_y = (y.abs() - shape[2] - shape[3] * z).abs()
    gap_z = (z.abs() - 1).abs()
    on_x = (gap_x <= gap_y) & (gap_x <= gap_z)
    on_y = ~on_x & (gap_y <= gap_z)
    zero = torch.zeros_like(x)
    return (
        torch.where(on_x, x.sign(), zero),
        torch.where(on_y, y.sign(), zero),
        torch.where(on_x, -shape[1], torch.where(on_y, -shape[3], z.sign())),
    )


def _albedo(
    table: Tensor,
    row: Tensor,
    owner: Tensor,
    points: Vectors,
    normal: Vectors,
    footprint: Tensor,
) -> Tensor:
    """Linear surface colour with the pattern, (3, N)."""
    albedo = row[_COLOUR]
    chosen = where_true(row[_PATTERN] > 0)
    if not len(chosen):
        return albedo
    r = table.index_select(1, owner.take(chosen))
    m = r[_TO_OBJECT]
    at = torch.stack(
        [
            m[4 * k] * points[0].take(chosen)
            + m[4 * k + 1] * points[1].take(chosen)
            + m[4 * k + 2] * points[2].take(chosen)
            + m[4 * k + 3]
            for k in range(3)
        ]
    )
    at = at * r[_PATTERN_SCALE] + 0.25  # (3, n), one repetition per unit
    # Project along the axis that the surface faces most, so that marks keep their shape.
    world = torch.stack([part.take(chosen) for part in normal])
    local = torch.stack([(m[4 * k : 4 * k + 3] * world).sum(dim=0).abs() for k in range(3)])
    face = local.argmax(dim=0)
    u = torch.where(face == 0, at[1], at[0])
    v = torch.where(face == 2, at[1], at[2])
    blur = (footprint.take(chosen) * r[_PATTERN_SCALE] / r[_SIZE]).clamp_(min=1e-4)
    weight = torch.zeros_like(u)
    for number, mark in enumerate((_striped, _dotted, _checkered), 1):
        weight = torch.where(r[_PATTERN] == number, mark(u, v, at[2], blur), weight)
    mixed = torch.lerp(r[_COLOUR], r[_SECOND], weight)
    return albedo.scatter(1, chosen.expand(3, -1), mixed)


def _striped(u: Tensor, v: Tensor, height: Tensor, blur: Tensor) -> Tensor:
    distance = ((height - height.floor()) - 0.5).abs() - 0.32
    return _edge(distance, blur, 0.36)


def _dotted(u: Tensor, v: Tensor, height: Tensor, blur: Tensor) -> Tensor:
    shifted = u + 0.5 * v.floor().remainder(2)
    du, dv = shifted - shifted.floor() - 0.5, v - v.floor() - 0.5
    return _edge(0.29 - (du * du + dv * dv).sqrt(), blur, 0.26)


def _checkered(u: Tensor, v: Tensor, height: Tensor, blur: Tensor) -> Tensor:
    du, dv = (u - u.floor() - 0.5), (v - v.floor() - 0.5)
    sign = du.sign() * dv.sign()
    near = torch.minimum(
        torch.minimum(du.abs(), 0.5 - du.abs()), torch.minimum(dv.abs(), 0.5 - dv.abs())
    )
    return _edge(sign * near, blur, 0.5)


def _edge(inside: Tensor, blur: Tensor, mean: float) -> Tensor:
    """Weight of a mark from the signed distance to its border, smoothed over one pixel.

    Marks finer than a pixel fade to their mean instead of flickering.
    """
    sharp = (inside / blur + 0.5).clamp_(0, 1)
    fade = ((blur - 0.35) / 0.5).clamp(0, 1)
    return torch.lerp(sharp, torch.full_like(sharp, mean), fade)
