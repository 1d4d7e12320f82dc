"""A camera that moves through a synthetic scene: the picture source of the demo."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from zgs_ros.synthetic.catalogue import COLOURS, KINDS
from zgs_ros.synthetic.frame import Frame, Thing
from zgs_ros.synthetic.renderer import render
from zgs_ros.synthetic.sampling import sample_light, sample_object, sample_surface
from zgs_ros.synthetic.scene import Camera, Scene, SceneObject, Sensor

Rng = np.random.Generator

PERIOD = 24.0  # seconds until camera and objects are back where they started

# Surroundings that go well together.
_PLACES = (
    ("grass", "hedge"),
    ("grass", "mountains"),
    ("sand", "sky"),
    ("snow", "mountains"),
    ("wood floor", "wall"),
    ("wood floor", "curtain"),
    ("tiles", "wall"),
    ("carpet", "wood panel"),
    ("concrete", "brick wall"),
)
# What moves by itself, and is as likely as not the one thing that does.
_MOVERS = ("car", "bus", "truck", "dog", "duck", "robot")
# Colours that stand out in most places come first.
_BRIGHT = tuple(name for name in COLOURS if name not in ("black", "gray", "brown"))

_CENTRE = (0.15, 0.0, 0.22)  # what the camera looks at
_DISTANCE, _FIELD_OF_VIEW = 2.35, 48.0
_EYE = (2.1, 0.9)  # roughly how far before the origin and how high the camera stands
_CLEARANCE = 0.10  # metres between objects


@dataclass(frozen=True)
class _Stroll:
    """The circle on which one object moves: which object, its centre and radius in metres."""

    number: int
    centre: tuple[float, float]
    radius: float


class SyntheticCamera:
    """Coherent frames of one scene, seen from a camera that swings around it in a closed loop.

    The same thing has the same id in all frames. Iterating never ends and does not wait; frame
    i belongs to the time i / rate_hz.

    Example:
        >>> camera = SyntheticCamera(seed=7, height=120, width=160)
        >>> camera.frame(0).rgb.shape
        (120, 160, 3)

    Args:
        seed: Decides scene and path.
        height: Rows of the pictures.
        width: Columns of the pictures.
        rate_hz: Frames per second of scene time.
        moving: Whether one of the objects moves too.
        samples: Rays per pixel and axis, see `render`.
        device: Where to render.

    Raises:
        ValueError: Size, rate or samples are out of range.
    """

    def __init__(
        self,
        seed: int = 0,
        height: int = 480,
        width: int = 640,
        rate_hz: float = 10.0,
        *,
        moving: bool = True,
        samples: int = 1,
        device: str | torch.device = "cpu",
    ) -> None:
        if height < 8 or width < 8:
            raise ValueError(f"image size must be at least 8 x 8, got {height} x {width}")
        if not rate_hz > 0:
            raise ValueError(f"rate_hz must be positive, got {rate_hz}")
        if not 1 <= samples <= 8:
            raise ValueError(f"samples must be between 1 and 8, got {samples}")
        self.height, self.width, self.rate_hz = height, width, rate_hz
        self._samples, self._device = samples, device
        rng = np.random.default_rng(seed)
        self._swing = float(rng.uniform(0.45, 0.65)) * float(rng.choice((-1, 1)))
        self._scene, self._stroll = _compose(rng, moving)
        # Before an open horizon the camera looks up a little, to show more of it.
        steepest = 20.0 if self._scene.has_wall else 14.0
        self._pitch = float(np.radians(rng.uniform(steepest - 4, steepest)))

    @property
    def things(self) -> dict[int, Thing]:
        """Everything in the scene by id, visible or not."""
        return self._scene.things()

    def __iter__(self) -> Iterator[Frame]:
        index = 0
        while True:
            yield self.frame(index)
            index += 1

    def frame(self, index: int) -> Frame:
        """The frame of an index >= 0; the same index gives the same frame.

        Raises:
            ValueError: `index` is negative.
        """
        return render(
            self.scene(index),
            self.height,
            self.width,
            samples=self._samples,
            device=self._device,
        )

    def scene(self, index: int) -> Scene:
        """The scene of a frame, with camera and objects where they are then.

        Raises:
            ValueError: `index` is negative.
        """
        if index < 0:
            raise ValueError(f"index must be >= 0, got {index}")
        phase = 2 * np.pi * (index / self.rate_hz / PERIOD)
        objects = list(self._scene.objects)
        if self._stroll is not None:
            objects[self._stroll.number] = _strolled(
                objects[self._stroll.number], self._stroll, phase
            )
        sensor = replace(self._scene.sensor, seed=index)
        return replace(
            self._scene, objects=tuple(objects), camera=self._camera(phase), sensor=sensor
        )

    def _camera(self, phase: float) -> Camera:
        azimuth = np.pi + self._swing * np.sin(phase)
        pitch = self._pitch + 0.05 * np.sin(2 * phase + 0.5)
        distance = _DISTANCE * (1 + 0.08 * np.cos(phase))
        x, y, z = _CENTRE
        flat = distance * np.cos(pitch)
        position = (
            float(x + flat * np.cos(azimuth)),
            float(y + flat * np.sin(azimuth)),
            float(z + distance * np.sin(pitch)),
        )
        return Camera.looking(position, _CENTRE, _FIELD_OF_VIEW)


def _strolled(item: SceneObject, stroll: _Stroll, phase: float) -> SceneObject:
    """The object at a phase of its circle, facing where it goes."""
    x = stroll.centre[0] + stroll.radius * np.cos(phase)
    y = stroll.centre[1] + stroll.radius * np.sin(phase)
    return replace(item, position=(float(x), float(y)), yaw=float(phase + np.pi / 2))


def _compose(rng: Rng, moving: bool) -> tuple[Scene, _Stroll | None]:
    """A scene of 5 to 7 objects of different kinds and colours that hardly hide each other."""
    ground, backdrop = _PLACES[int(rng.integers(len(_PLACES)))]
    count = int(rng.integers(5, 8))
    mover = str(rng.choice(_MOVERS))
    others = [kind for kind in KINDS if kind not in _MOVERS]
    kinds = [mover, *(str(kind) for kind in rng.choice(others, count - 1, replace=False))]
    colours = [str(colour) for colour in rng.permutation(_BRIGHT)]
    # Green things vanish on grass and before a hedge, white ones on snow.
    hidden = {"grass": "green", "snow": "white"}.get(ground)
    colours = [colour for colour in colours if colour != hidden] + ["black", "gray"]
    items = []
    for kind, colour in zip(kinds, colours, strict=False):
        size = float(rng.uniform(0.48, 0.64))
        item = sample_object(rng, kind, (0.0, 0.0), size, np.pi, colour)
        items.append(replace(item, lying=False))
    radius = 0.2 if moving else 0.0
    reserve = [item.radius + (radius if number == 0 else 0) for number, item in enumerate(items)]
    spots = _arrange(rng, reserve, [item.height for item in items])
    items = [replace(item, position=spot) for item, spot in zip(items, spots, strict=True)]
    scene = Scene(
        ground=sample_surface(rng, ground),
        backdrop=sample_surface(rng, backdrop),
        wall=(float(rng.uniform(-0.1, 0.1)), 2.0),
        objects=tuple(items),
        light=sample_light(rng),
        camera=Camera.looking((-_EYE[0], 0.0, _EYE[1]), _CENTRE, _FIELD_OF_VIEW),
        sensor=Sensor(noise=0.005, exposure=1.08, vignette=0.08),
    )
    return scene, _Stroll(0, spots[0], radius) if moving else None


def _arrange(rng: Rng, radii: list[float], heights: list[float]) -> list[tuple[float, float]]:
    """Places for objects of given radii: without contact, hiding each other as little as can be.

    Of a number of random arrangements the best one is taken.
    """
    best: list[tuple[float, float]] = []
    least = np.inf
    for _ in range(40):
        spots: list[tuple[float, float]] = []
        for radius in radii:
            for _ in range(60):
                x = float(rng.uniform(-0.5, 1.0))
                # The nearer, the closer to the middle, or the camera would pass too close.
                spot = (x, float(rng.uniform(-1, 1)) * (0.75 + 0.35 * x))
                gaps = [
                    np.hypot(spot[0] - x, spot[1] - y) - radius - other
                    for (x, y), other in zip(spots, radii, strict=False)
                ]
                if min(gaps, default=1.0) > _CLEARANCE:
                    spots.append(spot)
                    break
        if len(spots) == len(radii):
            hidden = sum(_overlap(spots, radii, heights, turn) for turn in (-0.5, 0.0, 0.5))
            if hidden < least:
                best, least = spots, hidden
    if best:
        return best
    # Objects too large for random places stand in a row.
    edges = np.cumsum([0.0] + [2 * radius + _CLEARANCE for radius in radii])
    middle = edges[-1] / 2
    return [(0.2, float(edges[k] + radii[k] - middle)) for k in range(len(radii))]


def _overlap(
    spots: list[tuple[float, float]], radii: list[float], heights: list[float], turn: float
) -> float:
    """How much objects hide each other or leave the picture, >= 0.

    The camera is taken to have turned by `turn` radians around the scene; objects are
    approximated by their boxes in the picture.
    """
    total = 0.0
    boxes = []
    c, s = np.cos(turn), np.sin(turn)
    for spot, radius, height in zip(spots, radii, heights, strict=True):
        x, y = c * spot[0] + s * spot[1], c * spot[1] - s * spot[0]
        depth = x + _EYE[0]
        left, right = (y - 0.8 * radius) / depth, (y + 0.8 * radius) / depth
        foot, top = -_EYE[1] / depth, (height - _EYE[1]) / depth
        boxes.append((depth, left, right, foot, top))
        total += 4 * max(0.0, right - 0.52, -0.52 - left)  # partly outside of a 4:3 picture
    for k, (_, left, right, foot, top) in enumerate(boxes):
        for _, left2, right2, foot2, top2 in boxes[:k]:
            across = min(right, right2) - max(left, left2)
            upright = min(top, top2) - max(foot, foot2)
            if across > 0 and upright > 0:
                total += (
                    across
                    * upright
                    / min((right - left) * (top - foot), (right2 - left2) * (top2 - foot2))
                )
    return total
