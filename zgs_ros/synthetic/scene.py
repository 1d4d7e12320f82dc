"""Scenes: what stands where, under which light, seen by which camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zgs_ros.synthetic.backdrops import DISTANT
from zgs_ros.synthetic.catalogue import Solid, build
from zgs_ros.synthetic.frame import Thing
from zgs_ros.synthetic.primitives import Colour

GROUND_ID, BACKDROP_ID, FIRST_OBJECT_ID = 1, 2, 3


@dataclass(frozen=True)
class SceneObject:
    """One object on the ground.

    Attributes:
        kind: Noun of the catalogue.
        colour: Name of its main colour.
        rgb: The main colour as sampled, sRGB.
        pattern: Surface pattern.
        second_rgb: Secondary colour of the pattern.
        pattern_scale: Repetitions of the pattern over the longest extent.
        gloss: Strength of the highlight, 0..1.
        position: Where it stands, x and y in metres.
        yaw: Rotation about the vertical in radians.
        size: Longest extent in metres.
        shape_seed: Decides its proportions.
        lying: Whether it lies on its side.
    """

    kind: str
    colour: str
    rgb: Colour
    pattern: str
    second_rgb: Colour
    pattern_scale: float
    gloss: float
    position: tuple[float, float]
    yaw: float
    size: float
    shape_seed: int
    lying: bool = False

    @property
    def solid(self) -> Solid:
        """Its shape at size one."""
        return build(self.kind, self.shape_seed, self.lying)

    @property
    def radius(self) -> float:
        """Radius in metres of the vertical cylinder around it."""
        return self.solid.radius * self.size

    @property
    def height(self) -> float:
        """Extent along z in metres."""
        return self.solid.height * self.size

    def frame(self) -> NDArray[np.float64]:
        """Map from unit object coordinates to the world, (3, 4)."""
        c, s = np.cos(self.yaw) * self.size, np.sin(self.yaw) * self.size
        x, y = self.position
        return np.array([[c, -s, 0, x], [s, c, 0, y], [0, 0, self.size, 0]])


@dataclass(frozen=True)
class Surface:
    """Appearance of the ground or the backdrop.

    Attributes:
        name: A ground or backdrop of the catalogue.
        variant: Which of its baked textures.
        tone: Factor on the colour, (r, g, b).
        scale: Factor on the size of the texture.
        angle: Rotation of the texture in radians.
        shift: Offset of the texture in metres.
    """

    name: str
    variant: int
    tone: Colour
    scale: float
    angle: float
    shift: tuple[float, float]


@dataclass(frozen=True)
class Light:
    """A sun and an evenly bright sky.

    Attributes:
        direction: Unit vector towards the sun.
        sun: Linear colour of the sun.
        sky: Linear colour of the light from everywhere.
        softness: Half width of shadow edges per metre of occluder height.
    """

    direction: tuple[float, float, float]
    sun: Colour
    sky: Colour
    softness: float = 0.06


@dataclass(frozen=True)
class Camera:
    """A pinhole camera.

    Attributes:
        position: World coordinates in metres.
        rotation: Optical frame (x right, y down, z forward) to world, three rows of three.
        field_of_view: Angle over the shorter side of the image in degrees.
    """

    position: tuple[float, float, float]
    rotation: tuple[tuple[float, float, float], ...]
    field_of_view: float

    @staticmethod
    def looking(
        position: tuple[float, float, float],
        target: tuple[float, float, float],
        field_of_view: float,
        roll: float = 0.0,
    ) -> Camera:
        """A camera that looks at a point; roll in radians turns it about its axis."""
        forward = np.subtract(target, position)
        forward = forward / np.linalg.norm(forward)
        right = np.cross(forward, (0.0, 0.0, 1.0))
        right /= np.linalg.norm(right)
        down = np.cross(forward, right)
        c, s = np.cos(roll), np.sin(roll)
        axes = np.stack([c * right + s * down, c * down - s * right, forward], axis=1)
        rows = tuple((float(r[0]), float(r[1]), float(r[2])) for r in axes)
        return Camera(position, rows, field_of_view)

    def intrinsics(self, height: int, width: int) -> NDArray[np.float64]:
        """Camera matrix K for an image size, (3, 3)."""
        focal = 0.5 * min(height, width) / np.tan(np.radians(self.field_of_view) / 2)
        return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])

    def pose(self) -> NDArray[np.float64]:
        """Optical frame to world, (4, 4)."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.rotation
        matrix[:3, 3] = self.position
        return matrix


@dataclass(frozen=True)
class Sensor:
    """Imperfections of the camera, applied after rendering; the defaults do nothing.

    Attributes:
        blur: Standard deviation of the blur as a fraction of the image's shorter side.
        noise: Standard deviation of the noise at mid gray, 0..1.
        exposure: Factor on the brightness.
        balance: White balance, factors on (r, g, b).
        vignette: Loss of brightness in the corners, 0..1.
        seed: Of the noise.
    """

    blur: float = 0.0
    noise: float = 0.0
    exposure: float = 1.0
    balance: Colour = (1.0, 1.0, 1.0)
    vignette: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Scene:
    """Everything that decides a picture.

    Attributes:
        ground: Surface of the plane z = 0.
        backdrop: Surface of the wall, or a sky.
        wall: Vertical plane of the backdrop: azimuth of the direction in which it lies, and its
            distance from the origin in metres. Without effect for distant backdrops.
        objects: Things on the ground; the n-th has the id FIRST_OBJECT_ID + n.
        light: Illumination.
        camera: Point of view.
        sensor: Imperfections.
    """

    ground: Surface
    backdrop: Surface
    wall: tuple[float, float]
    objects: tuple[SceneObject, ...]
    light: Light
    camera: Camera
    sensor: Sensor = Sensor()

    @property
    def has_wall(self) -> bool:
        """Whether the backdrop stands at a finite distance."""
        return self.backdrop.name not in DISTANT

    def things(self) -> dict[int, Thing]:
        """Everything in the scene by id, visible or not."""
        things = {
            GROUND_ID: _stuff(GROUND_ID, self.ground.name),
            BACKDROP_ID: _stuff(BACKDROP_ID, self.backdrop.name),
        }
        for id_, item in enumerate(self.objects, FIRST_OBJECT_ID):
            phrase = f"{item.colour} {item.kind}"
            things[id_] = Thing(id_, item.kind, item.colour, item.pattern, phrase, False)
        return things


def _stuff(id_: int, name: str) -> Thing:
    return Thing(id_, name, None, "plain", name, True)
