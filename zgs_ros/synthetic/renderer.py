"""Rendering of scenes by ray casting, in torch, on any device."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as nnf
from numpy.typing import NDArray
from torch import Tensor

from zgs_ros.synthetic.frame import Frame
from zgs_ros.synthetic.raycast import Vectors, View, cast, where_true
from zgs_ros.synthetic.scene import BACKDROP_ID, FIRST_OBJECT_ID, GROUND_ID, Scene
from zgs_ros.synthetic.sensor import apply_sensor
from zgs_ros.synthetic.shading import Assembly, assemble, shade_objects
from zgs_ros.synthetic.shadows import Shadows, shadow_maps, shadow_views
from zgs_ros.synthetic.surroundings import shade_ground, shade_panorama, shade_wall

_SHOULDER = 0.6  # linear brightness up to which colours are reproduced as they are


@torch.no_grad()
def render(
    scene: Scene,
    height: int,
    width: int,
    *,
    samples: int = 1,
    device: str | torch.device = "cpu",
) -> Frame:
    """Render a scene with its ground truth.

    Args:
        scene: What to render.
        height: Rows of the picture, >= 8.
        width: Columns of the picture, >= 8.
        samples: Rays per pixel and axis; 2 gives smooth edges at four times the cost. Instances
            and depth are those of the pixel's centre in any case.
        device: Where to compute; the frame always arrives in main memory.

    Raises:
        ValueError: The size or the number of samples is out of range.
    """
    if height < 8 or width < 8:
        raise ValueError(f"image size must be at least 8 x 8, got {height} x {width}")
    if not 1 <= samples <= 8:
        raise ValueError(f"samples must be between 1 and 8, got {samples}")
    device = torch.device(device)
    assembly = assemble(scene)
    light = np.asarray(scene.light.direction)
    views = [_view(scene, height, width, samples)]
    if samples > 1:
        views.append(_view(scene, height, width, 1))
    cells = int(np.clip(0.65 * np.sqrt(height * width) * samples**0.5, 104, 480))
    shadow_grids = (
        shadow_views(assembly.soup, light, scene.light.softness, cells) if scene.objects else []
    )
    hits = cast(assembly.soup, [*views, *shadow_grids], device)
    shadows = None
    if shadow_grids:
        distances = [distance for distance, _ in hits[len(views) :]]
        shadows = shadow_maps(shadow_grids, distances, light, scene.light.softness)
    layers = [_visible(scene, assembly, view, *hit) for view, hit in zip(views, hits, strict=False)]
    colour = _colour(scene, assembly, shadows, views[0], layers[0])
    colour = _tone(colour).view(3, height * samples, width * samples)
    if samples > 1:
        colour = nnf.avg_pool2d(colour, samples)
    # Gamma 2 stands in for the sRGB curve: close to it, and a square root is fast.
    planes = colour.sqrt_().mul_(255).add_(0.5).to(torch.uint8).cpu().numpy()
    rgb = np.asarray(cv2.merge(list(planes)), np.uint8)
    if samples == 1:
        rgb = _smooth_edges(rgb, layers[0].part.view(height, width).cpu().numpy())
    ids = layers[-1].ids.view(height, width).cpu().numpy().astype(np.uint16)
    things = scene.things()
    visible = np.flatnonzero(np.bincount(ids.ravel()))
    return Frame(
        rgb=apply_sensor(rgb, scene.sensor),
        instances=ids,
        things={int(id_): things[int(id_)] for id_ in visible},
        depth=layers[-1].depth.view(height, width).cpu().numpy(),
        intrinsics=scene.camera.intrinsics(height, width),
        pose=scene.camera.pose(),
    )


def _view(scene: Scene, height: int, width: int, samples: int) -> View:
    """Rays through the pixels; their direction has unit length along the optical axis."""
    matrix = scene.camera.intrinsics(height, width)
    rotation = np.asarray(scene.camera.rotation)
    focal, cx, cy = matrix[0, 0], matrix[0, 2], matrix[1, 2]
    first = (1 / samples - 1) / 2  # offset of the first sample from the pixel's centre
    corner = np.array([(first - cx) / focal, (first - cy) / focal, 1.0])
    step = 1 / (focal * samples)
    return View(
        height * samples,
        width * samples,
        np.asarray(scene.camera.position),
        rotation @ corner,
        rotation[:, 0] * step,
        rotation[:, 1] * step,
        perspective=True,
    )


@dataclass(frozen=True)
class _Layers:
    """What each ray of a view meets first, all (rays,).

    Attributes:
        rays: Directions.
        owner: Primitive, where it is an object.
        part: Different numbers for different primitives and surfaces.
        ids: Instance ids.
        depth: Along the optical axis in metres.
    """

    rays: Vectors
    owner: Tensor
    part: Tensor
    ids: Tensor
    depth: Tensor


def _visible(
    scene: Scene, assembly: Assembly, view: View, distance: Tensor, owner: Tensor
) -> _Layers:
    """Combine the objects with the ground plane and the backdrop."""
    device = distance.device
    column = torch.arange(view.width, dtype=torch.float32, device=device)
    row = torch.arange(view.height, dtype=torch.float32, device=device)[:, None]
    x, y, z = (
        (column * float(view.across[k]) + (row * float(view.down[k]) + float(view.direction[k])))
        for k in range(3)
    )
    rays = (x.reshape(-1), y.reshape(-1), z.reshape(-1))
    ground = -float(view.origin[2]) / rays[2].clamp(max=-1e-9)
    ground = torch.where(rays[2] < -1e-6, ground, torch.inf)
    backdrop = torch.full_like(ground, torch.inf)
    if scene.has_wall:
        nx, ny = float(np.cos(scene.wall[0])), float(np.sin(scene.wall[0]))
        towards = rays[0] * nx + rays[1] * ny
        gap = scene.wall[1] - float(view.origin[0]) * nx - float(view.origin[1]) * ny
        backdrop = torch.where(towards > 1e-6, gap / towards, torch.inf)
    is_ground = ground < backdrop
    depth = torch.where(is_ground, ground, backdrop)
    is_object = distance < depth
    ids = torch.where(is_ground, GROUND_ID, BACKDROP_ID).int()
    if len(assembly.objects):
        number = torch.as_tensor(assembly.objects + FIRST_OBJECT_ID, device=device).int()
        ids = torch.where(is_object, number.index_select(0, owner.clamp(min=0)), ids)
    part = torch.where(is_object, owner.int() + FIRST_OBJECT_ID, ids)
    return _Layers(rays, owner, part, ids, torch.where(is_object, distance, depth))


def _tone(colour: Tensor) -> Tensor:
    """Bend the brightest linear values down, so that white things keep their shading."""
    excess = (colour - _SHOULDER).clamp_(min=0)
    return (colour - excess + excess / (1 + 2 * excess)).clamp_(0, 1)


def _smooth_edges(rgb: NDArray[np.uint8], parts: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Soften the stairs along the edges of parts where there is one ray per pixel, (H, W, 3)."""
    edge = np.zeros(parts.shape, bool)
    beside, below = parts[:, 1:] != parts[:, :-1], parts[1:] != parts[:-1]
    edge[:, 1:], edge[1:] = beside, edge[1:] | below
    edge[:, :-1] |= beside
    edge[:-1] |= below
    smooth = cv2.GaussianBlur(rgb, (3, 3), 0.6)
    return np.asarray(cv2.copyTo(smooth, edge.view(np.uint8), rgb.copy()), np.uint8)


def _colour(
    scene: Scene, assembly: Assembly, shadows: Shadows | None, view: View, layers: _Layers
) -> Tensor:
    """Linear colour of every ray, (3, rays)."""
    pixel = float(np.linalg.norm(view.across))
    origin = [float(part) for part in view.origin]
    colour = torch.empty((3, len(layers.ids)), device=layers.ids.device)
    masks = {
        "ground": layers.ids == GROUND_ID,
        "backdrop": layers.ids == BACKDROP_ID,
        "objects": layers.ids >= FIRST_OBJECT_ID,
    }
    for part, mask in masks.items():
        chosen = where_true(mask)
        if not len(chosen):
            continue
        dx, dy, dz = (component.index_select(0, chosen) for component in layers.rays)
        depth = layers.depth.index_select(0, chosen)
        if part == "backdrop" and not scene.has_wall:
            shaded = shade_panorama(scene, (dx, dy, dz), pixel)
        else:
            x, y, z = (
                torch.addcmul(depth.new_tensor(origin[k]), depth, step)
                for k, step in enumerate((dx, dy, dz))
            )
            if part == "ground":
                shaded = shade_ground(scene, shadows, x, y, depth, (dx, dy, dz), pixel)
            elif part == "backdrop":
                shaded = shade_wall(scene, x, y, z, depth * pixel)
            else:
                owner = layers.owner.index_select(0, chosen)
                shaded = shade_objects(
                    assembly, scene, shadows, owner, (x, y, z), (dx, dy, dz), depth * pixel
                )
        colour.scatter_(1, chosen.expand(3, -1), shaded)
    return colour
