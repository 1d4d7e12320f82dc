"""Random scenes as a robot may see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from zgs_ros.synthetic.catalogue import BACKDROPS, COLOURS, GROUNDS, KINDS, PATTERNS
from zgs_ros.synthetic.kinds import REGISTRY
from zgs_ros.synthetic.palette import second_colour, vary_colour
from zgs_ros.synthetic.scene import Camera, Light, Scene, SceneObject, Sensor, Surface

Rng = np.random.Generator

SMALLEST, LARGEST = 0.15, 1.0  # longest extent of an object in metres

_INDOOR_GROUNDS = ("wood floor", "carpet", "tiles", "concrete")
_OUTDOOR_GROUNDS = tuple(g for g in GROUNDS if g not in ("wood floor", "carpet", "tiles"))
_INDOOR_BACKDROPS = ("wall", "wood panel", "curtain", "brick wall")
_OUTDOOR_BACKDROPS = ("sky", "mountains", "hedge", "brick wall")


def sample_scene(
    seed: int,
    *,
    objects: tuple[int, int] = (1, 7),
    closeup: float = 0.3,
    aspect: float = 1.0,
    sensor: bool = True,
    kinds: Sequence[str] = KINDS,
) -> Scene:
    """A random scene; the same seed and arguments give the same scene.

    Args:
        seed: Decides everything random.
        objects: Least and greatest number of objects.
        closeup: Probability of a close-up, with one or two objects that fill the picture.
        aspect: Width over height of the picture to compose for.
        sensor: Whether to add imperfections of the camera.
        kinds: Kinds to choose from.

    Raises:
        ValueError: An argument is out of range.
    """
    low, high = objects
    if not 0 <= low <= high:
        raise ValueError(f"objects must be a range of counts >= 0, got {objects}")
    if not 0 <= closeup <= 1:
        raise ValueError(f"closeup must be a probability, got {closeup}")
    if aspect <= 0:
        raise ValueError(f"aspect must be positive, got {aspect}")
    unknown = [noun for noun in kinds if noun not in REGISTRY]
    if unknown or not kinds:
        raise ValueError(f"kinds must name at least one known kind, got {unknown or kinds}")
    rng = np.random.default_rng(seed)
    ground, backdrop = sample_surfaces(rng)
    if high > 0 and rng.random() < closeup:
        camera, things = _closeup(rng, kinds, two=high > 1 and rng.random() < 0.4)
    else:
        count = int(rng.integers(low, high + 1))
        camera, things = _overview(rng, kinds, count, aspect)
    return Scene(
        ground=ground,
        backdrop=backdrop,
        wall=_place_wall(rng, camera, things),
        objects=tuple(things),
        light=sample_light(rng),
        camera=camera,
        sensor=_sample_sensor(rng) if sensor else Sensor(),
    )


def sample_surfaces(rng: Rng) -> tuple[Surface, Surface]:
    """A ground and a backdrop, mostly such that they go together."""
    if rng.random() < 0.25:
        names = (GROUNDS, BACKDROPS)
    elif rng.random() < 0.42:
        names = (_INDOOR_GROUNDS, _INDOOR_BACKDROPS)
    else:
        names = (_OUTDOOR_GROUNDS, _OUTDOOR_BACKDROPS)
    ground, backdrop = (str(choice[int(rng.integers(len(choice)))]) for choice in names)
    return sample_surface(rng, ground), sample_surface(rng, backdrop)


def sample_surface(rng: Rng, name: str) -> Surface:
    """A random appearance of a ground or backdrop."""
    brightness = rng.uniform(0.85, 1.15)
    if name == "snow":
        brightness = max(brightness, 1.05)  # dim snow would pass for concrete
    red, green, blue = brightness * rng.uniform(0.94, 1.06, 3)
    # Textures made of straight lines stay close to the axes of the room.
    ruled = name in ("wood floor", "tiles", "concrete", "carpet", "asphalt")
    angle = rng.uniform(-0.5, 0.5) + (np.pi / 2) * rng.integers(4)
    return Surface(
        name=name,
        variant=int(rng.integers(3)),
        tone=(float(red), float(green), float(blue)),
        scale=float(np.exp(rng.uniform(-0.3, 0.3))),
        angle=float(angle if ruled else rng.uniform(0, 2 * np.pi)),
        shift=(float(rng.uniform(0, 2)), float(rng.uniform(0, 2))),
    )


def sample_light(rng: Rng) -> Light:
    """A sun behind or beside a camera that looks along +x."""
    azimuth = np.pi + rng.choice((-1, 1)) * rng.uniform(0.3, 1.7)
    elevation = np.radians(rng.uniform(36, 66))
    warmth = rng.uniform(0, 1)
    strength = rng.uniform(0.82, 1.08)
    sun = np.array([1.0, 0.97 - 0.07 * warmth, 0.92 - 0.20 * warmth]) * strength
    sky = np.array([0.40, 0.43, 0.48]) * rng.uniform(0.85, 1.1)
    flat = np.cos(elevation)
    return Light(
        direction=(
            float(flat * np.cos(azimuth)),
            float(flat * np.sin(azimuth)),
            float(np.sin(elevation)),
        ),
        sun=(float(sun[0]), float(sun[1]), float(sun[2])),
        sky=(float(sky[0]), float(sky[1]), float(sky[2])),
        softness=float(rng.uniform(0.04, 0.12)),
    )


def sample_object(
    rng: Rng,
    kind: str,
    position: tuple[float, float],
    size: float,
    view_azimuth: float,
    colour: str | None = None,
) -> SceneObject:
    """A random object of a kind.

    Args:
        rng: Source of randomness.
        kind: Noun of the catalogue.
        position: x and y in metres.
        size: Longest extent in metres.
        view_azimuth: Direction from the object to the camera in radians.
        colour: Name of the main colour; random if None.
    """
    entry = REGISTRY[kind]
    name = colour or str(rng.choice(list(COLOURS)))
    rgb = vary_colour(name, rng)
    facing = np.radians(entry.facing)
    yaw = view_azimuth + rng.uniform(-facing, facing)
    pattern = "plain" if rng.random() < 0.68 else str(rng.choice(PATTERNS[1:]))
    return SceneObject(
        kind=kind,
        colour=name,
        rgb=rgb,
        pattern=pattern,
        second_rgb=second_colour(rgb, rng),
        pattern_scale=float(rng.uniform(5.0, 8.0)),
        gloss=float(rng.choice((0.0, 0.25, 0.6, 1.0))),
        position=position,
        yaw=float(yaw),
        size=float(size),
        shape_seed=int(rng.integers(24)),
        lying=bool(rng.random() < entry.lying),
    )


def _closeup(rng: Rng, kinds: Sequence[str], two: bool) -> tuple[Camera, list[SceneObject]]:
    """One or two objects that fill the picture."""
    pitch = np.radians(rng.uniform(5, 40))
    fov = float(rng.uniform(38, 52))
    size = float(rng.uniform(0.25, 0.6))
    things = [sample_object(rng, str(rng.choice(kinds)), (0.0, 0.0), size, np.pi)]
    middle = np.array([0.0, 0.0])
    if two:
        second = float(np.clip(size * rng.uniform(0.6, 1.2), SMALLEST, LARGEST))
        probe = sample_object(rng, str(rng.choice(kinds)), (0.0, 0.0), second, np.pi)
        gap = things[0].radius + probe.radius + rng.uniform(0.02, 0.1)
        side = rng.choice((-1, 1)) * rng.uniform(0.9, 2.2)
        at = (float(gap * np.cos(side)), float(gap * np.sin(side)))
        things.append(replace(probe, position=at))
        middle = np.array(at) / 2
    extent = 2 * max(float(np.hypot(*np.subtract(t.position, middle))) + t.radius for t in things)
    extent = max(extent, *(t.height for t in things))
    distance = extent / (2 * np.tan(np.radians(fov) / 2)) / rng.uniform(0.8, 1.25)
    distance += 0.3 * extent
    aim = np.array([*(middle + rng.uniform(-0.06, 0.06, 2) * extent), 0.45 * things[0].height])
    position = aim + distance * np.array([-np.cos(pitch), 0.0, np.sin(pitch)])
    return _camera(rng, position, aim, fov), things


def _overview(
    rng: Rng, kinds: Sequence[str], count: int, aspect: float
) -> tuple[Camera, list[SceneObject]]:
    """Several objects spread over the visible ground."""
    pitch = np.radians(rng.uniform(6, 45))
    fov = float(rng.uniform(45, 62))
    distance = float(rng.uniform(1.3, 3.2))
    aim = np.array([0.0, 0.0, rng.uniform(0.0, 0.25)])
    position = aim + distance * np.array([-np.cos(pitch), 0.0, np.sin(pitch)])
    camera = _camera(rng, position, aim, fov)
    things: list[SceneObject] = []
    for _ in range(40 * count):
        if len(things) == count:
            break
        candidate = _candidate(rng, camera, str(rng.choice(kinds)), count, aspect, distance)
        if candidate is not None and not any(_collide(candidate, other) for other in things):
            things.append(candidate)
    return camera, things


def _candidate(
    rng: Rng, camera: Camera, kind: str, count: int, aspect: float, distance: float
) -> SceneObject | None:
    """An object at a random place of the picture, or None if that is not on the ground."""
    half = np.tan(np.radians(camera.field_of_view) / 2)
    half_x, half_y = half * max(1.0, aspect), half * max(1.0, 1 / aspect)
    u, v = rng.uniform(-0.85, 0.85) * half_x, rng.uniform(-0.45, 0.85) * half_y
    ray = np.asarray(camera.rotation) @ np.array([u, v, 1.0])
    if ray[2] > -0.05:
        return None
    depth = -camera.position[2] / ray[2]
    if not 0.45 * distance < depth < 2.6 * distance:
        return None
    biggest = 0.75 if count <= 3 else 0.55
    share = np.exp(rng.uniform(np.log(0.26), np.log(biggest))) * REGISTRY[kind].size
    size = float(np.clip(share * 2 * half * depth, SMALLEST, LARGEST))
    if size > 0.85 * 2 * half * depth or size < 0.16 * 2 * half * depth:
        return None
    x = camera.position[0] + depth * ray[0]
    y = camera.position[1] + depth * ray[1]
    to_camera = float(np.arctan2(camera.position[1] - y, camera.position[0] - x))
    return sample_object(rng, kind, (float(x), float(y)), size, to_camera)


def _collide(first: SceneObject, second: SceneObject, gap: float = 0.02) -> bool:
    distance = float(np.hypot(*np.subtract(first.position, second.position)))
    return distance < first.radius + second.radius + gap


def _camera(rng: Rng, position: np.ndarray, aim: np.ndarray, fov: float) -> Camera:
    at = (float(position[0]), float(position[1]), max(0.06, float(position[2])))
    to = (float(aim[0]), float(aim[1]), float(aim[2]))
    return Camera.looking(at, to, fov, roll=float(np.radians(rng.normal() * 1.5)))


def _place_wall(rng: Rng, camera: Camera, things: Sequence[SceneObject]) -> tuple[float, float]:
    """A wall behind all things as seen from the camera."""
    azimuth = float(rng.uniform(-0.35, 0.35))
    normal = np.array([np.cos(azimuth), np.sin(azimuth)])
    reach = [float(normal @ t.position) + t.radius for t in things]
    reach.append(float(normal @ camera.position[:2]) + 0.8)
    scale = float(np.linalg.norm(camera.position))
    return azimuth, max(reach) + float(rng.uniform(0.08, 0.9)) * min(scale, 2.0)


def _sample_sensor(rng: Rng) -> Sensor:
    balance = 1 + rng.normal(size=3) * 0.02
    return Sensor(
        blur=float(abs(rng.normal()) * 0.002),
        noise=float(abs(rng.normal()) * 0.012),
        exposure=float(np.exp(rng.normal() * 0.07)),
        balance=(float(balance[0]), float(balance[1]), float(balance[2])),
        vignette=float(rng.uniform(0, 0.25)),
        seed=int(rng.integers(2**31)),
    )
