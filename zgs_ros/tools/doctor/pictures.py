"""Pictures whose names are known: drawings that any CLIP knows, and scenes for the bundled models.

The drawings are made of plain shapes, so that they are the same on every machine, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

Canvas = NDArray[np.uint8]
Colour = tuple[int, int, int]

SIZE = 448
"""Side of a drawing [pixels]."""
_SCALE = 2  # drawn larger and reduced, which smooths the edges

DISTRACTORS = (
    *("dog", "bicycle", "airplane", "fish", "guitar", "sailing boat"),
    *("flower", "umbrella", "chair", "bird", "open book", "spoon"),
)
"""Names of what no drawing shows."""

FIRST_SCENE = 2_500_000_000
"""Seed of the first scene: training stays below 1,000,000,000, evaluation below this."""
SCENES = 6
SCENE_SIZE = (192, 256)
LEAST_SHARE = 0.02
"""Things of which less than this share of a scene is visible are not asked for."""

BLACK, WHITE, GRAY, RED = (20, 20, 20), (255, 255, 255), (128, 128, 128), (210, 30, 35)
GRASS, SKY, WOOD, YELLOW = (70, 150, 60), (160, 205, 240), (150, 95, 50), (250, 215, 50)


@dataclass(frozen=True, eq=False)
class Picture:
    """What a picture shows.

    Attributes:
        image: uint8 RGB (height, width, 3).
        masks: bool (things, height, width).
        names: Of the things.
        thing: bool (height, width): one thing in front of the rest.
    """

    image: Canvas
    masks: NDArray[np.bool_]
    names: tuple[str, ...]
    thing: NDArray[np.bool_]


def drawings() -> list[Picture]:
    """One picture for each of `DRAWINGS`; what is asked for is the whole picture."""
    return [_draw(name, *steps) for name, steps in DRAWINGS.items()]


def drawing_names() -> tuple[str, ...]:
    """What the drawings could be called: their names and others."""
    return (*DRAWINGS, *DISTRACTORS)


@lru_cache(maxsize=2)
def scenes(count: int = SCENES) -> tuple[Picture, ...]:
    """Scenes of the synthetic world that no training has seen; what is asked for are their things."""
    from zgs_ros.synthetic import render, sample_scene

    height, width = SCENE_SIZE
    pictures = []
    for seed in range(FIRST_SCENE, FIRST_SCENE + count):
        frame = render(sample_scene(seed, aspect=width / height), height, width)
        shares = np.bincount(frame.instances.ravel()) / frame.instances.size
        things = [t for t in frame.things.values() if shares[t.id] >= LEAST_SHARE]
        masks = np.stack([frame.instances == thing.id for thing in things])
        objects = [thing for thing in things if not thing.is_stuff]
        largest = max(objects or things, key=lambda thing: float(shares[thing.id]))
        names = tuple(thing.noun for thing in things)
        pictures.append(Picture(frame.rgb, masks, names, frame.instances == largest.id))
    return tuple(pictures)


def scene_names() -> tuple[str, ...]:
    """What things in scenes could be called."""
    from zgs_ros.synthetic import BACKDROPS, GROUNDS, KINDS

    return (*KINDS, *GROUNDS, *BACKDROPS)


def _draw(name: str, background: Colour | Ground, draw: Callable[[Pen], None]) -> Picture:
    side = SIZE * _SCALE
    canvas = np.full((side, side, 3), background if isinstance(background, tuple) else 0, np.uint8)
    pen = Pen(canvas)
    if not isinstance(background, tuple):
        background(pen)
    behind = canvas.copy()
    draw(pen)
    thing = (canvas != behind).any(axis=2)[::_SCALE, ::_SCALE]
    image = np.asarray(cv2.resize(canvas, (SIZE, SIZE), interpolation=cv2.INTER_AREA), np.uint8)
    return Picture(image, np.ones((1, SIZE, SIZE), np.bool_), (name,), thing)


class Pen:
    """Draws filled shapes; places and lengths are shares of the picture's side, in percent."""

    def __init__(self, canvas: Canvas) -> None:
        self._canvas = canvas
        self._unit = len(canvas) / 100.0

    def _px(self, *values: float) -> list[int]:
        return [round(value * self._unit) for value in values]

    def box(self, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        """A rectangle from its upper left corner."""
        left, top, right, bottom = self._px(x, y, x + width, y + height)
        cv2.rectangle(self._canvas, (left, top), (right - 1, bottom - 1), colour, cv2.FILLED)

    def disc(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """A circle."""
        left, top, length = self._px(x, y, radius)
        cv2.circle(self._canvas, (left, top), length, colour, cv2.FILLED)

    def oval(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        """An ellipse."""
        left, top, across, down = self._px(x, y, rx, ry)
        cv2.ellipse(self._canvas, (left, top), (across, down), 0, 0, 360, colour, cv2.FILLED)

    def shape(self, corners: list[tuple[float, float]], colour: Colour) -> None:
        """A polygon."""
        points = np.array([self._px(*corner) for corner in corners], np.int32)
        cv2.fillPoly(self._canvas, [points], colour)

    def line(self, corners: list[tuple[float, float]], thick: float, colour: Colour) -> None:
        """Strokes from corner to corner."""
        points = np.array([self._px(*corner) for corner in corners], np.int32)
        cv2.polylines(self._canvas, [points], False, colour, self._px(thick)[0])

    def arc(
        self, x: float, y: float, radius: float, start: int, end: int, thick: float, colour: Colour
    ) -> None:
        """A part of a circle, from and to angles in degrees, clockwise from the right."""
        left, top, length, width = self._px(x, y, radius, thick)
        cv2.ellipse(self._canvas, (left, top), (length, length), 0, start, end, colour, width)

    def word(self, text: str, x: float, y: float, size: float, colour: Colour) -> None:
        """Capital letters whose middle is at a place."""
        scale, thick = size * self._unit / 22.0, self._px(size / 5)[0]
        (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
        left, top = self._px(x, y)
        place = (left - width // 2, top + height // 2)
        cv2.putText(self._canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thick)


Ground = Callable[[Pen], None]


def _meadow(pen: Pen) -> None:
    pen.box(0, 0, 100, 55, SKY)
    pen.box(0, 55, 100, 45, GRASS)


def _lawn(pen: Pen) -> None:
    pen.box(0, 0, 100, 100, GRASS)
    # Blades, at places that look scattered.
    for number in range(400):
        x, y = number * 37 % 101, number * 61 % 103
        pen.line([(x, y), (x + number % 3 - 1, y - 4)], 0.5, (50 + number % 40, 120, 45))


def _table(pen: Pen) -> None:
    pen.box(0, 0, 100, 60, (235, 228, 215))
    pen.box(0, 60, 100, 40, WOOD)
    for y in (68, 78, 90):
        pen.line([(0, y), (100, y)], 0.5, (125, 78, 40))


def _street(pen: Pen) -> None:
    pen.box(0, 0, 100, 62, SKY)
    pen.box(0, 62, 100, 38, (95, 95, 100))


def _ball(pen: Pen) -> None:
    pen.disc(50, 55, 24, (170, 20, 25))
    pen.disc(48, 53, 21, RED)
    pen.disc(41, 45, 5, (245, 150, 150))


def _clock(pen: Pen) -> None:
    pen.disc(50, 50, 40, BLACK)
    pen.disc(50, 50, 36, WHITE)
    for hour in range(1, 13):
        angle = np.deg2rad(30 * hour - 90)
        pen.word(str(hour), 50 + 29 * np.cos(angle), 50 + 29 * np.sin(angle), 5, BLACK)
    pen.line([(50, 50), (38, 36)], 3, BLACK)
    pen.line([(50, 50), (68, 28)], 2, BLACK)
    pen.disc(50, 50, 3, RED)


def _cat(pen: Pen) -> None:
    fur, dark, pink = (235, 150, 60), (190, 105, 35), (245, 150, 160)
    pen.shape([(22, 48), (20, 12), (46, 28)], fur)
    pen.shape([(78, 48), (80, 12), (54, 28)], fur)
    pen.shape([(26, 40), (25, 20), (39, 29)], pink)
    pen.shape([(74, 40), (75, 20), (61, 29)], pink)
    pen.oval(50, 56, 34, 31, fur)
    for x in (42, 50, 58):
        pen.line([(x, 26), (x, 36)], 2.5, dark)
    for x in (36, 64):
        pen.oval(x, 50, 7, 8, (150, 205, 90))
        pen.oval(x, 50, 2.2, 7, BLACK)
    pen.oval(50, 70, 13, 9, (255, 235, 215))
    pen.shape([(46, 62), (54, 62), (50, 67)], (200, 80, 100))
    pen.line([(50, 67), (50, 71), (45, 74)], 1, BLACK)
    pen.line([(50, 71), (55, 74)], 1, BLACK)
    for y, end in ((66, 61), (70, 70), (74, 79)):
        pen.line([(38, y), (8, end)], 0.7, BLACK)
        pen.line([(62, y), (92, end)], 0.7, BLACK)


def _traffic_light(pen: Pen) -> None:
    pen.box(47, 78, 6, 22, (70, 70, 75))
    pen.box(32, 6, 36, 74, (35, 38, 40))
    pen.disc(50, 19, 10, (240, 40, 35))
    pen.disc(50, 43, 10, (245, 195, 30))
    pen.disc(50, 67, 10, (40, 190, 80))


def _mug(pen: Pen) -> None:
    blue, dark = (45, 95, 190), (30, 65, 140)
    pen.arc(68, 50, 12, 0, 360, 5, blue)
    pen.box(30, 32, 38, 40, blue)
    pen.oval(49, 72, 19, 5, blue)
    pen.oval(49, 32, 19, 5, dark)
    pen.oval(49, 33, 16, 3.5, (90, 50, 25))


def _stop_sign(pen: Pen) -> None:
    def octagon(radius: float) -> list[tuple[float, float]]:
        angles = np.deg2rad(22.5 + 45 * np.arange(8))
        return [(50 + radius * float(np.cos(a)), 42 + radius * float(np.sin(a))) for a in angles]

    pen.box(47.5, 70, 5, 30, GRAY)
    pen.shape(octagon(38), WHITE)
    pen.shape(octagon(35.5), (200, 20, 30))
    pen.word("STOP", 50, 42, 15, WHITE)


def _house(pen: Pen) -> None:
    pen.box(66, 16, 8, 20, (150, 70, 60))
    pen.box(22, 44, 56, 42, (240, 225, 190))
    pen.shape([(15, 45), (50, 14), (85, 45)], (175, 60, 45))
    pen.box(44, 62, 13, 24, (110, 65, 35))
    pen.disc(54, 75, 1.2, YELLOW)
    for x in (27, 62):
        pen.box(x, 54, 12, 12, WHITE)
        pen.box(x + 1, 55, 10, 10, (120, 180, 225))
        pen.box(x + 5.5, 55, 1, 10, WHITE)
        pen.box(x + 1, 59.5, 10, 1, WHITE)


def _tree(pen: Pen) -> None:
    pen.shape([(45, 88), (47, 50), (53, 50), (56, 88)], (105, 70, 40))
    for x, y, radius in ((36, 42, 16), (64, 42, 16), (50, 26, 18), (50, 44, 17)):
        pen.disc(x, y, radius, (40, 115, 45))
    for x, y in ((38, 36), (58, 28), (62, 44), (48, 46)):
        pen.disc(x, y, 5, (65, 145, 60))


def _banana(pen: Pen) -> None:
    outer = [(50 + 40 * np.cos(a), 26 + 46 * np.sin(a)) for a in np.linspace(0.05, 2.9, 40)]
    inner = [(50 + 38 * np.cos(a), 22 + 26 * np.sin(a)) for a in np.linspace(2.95, 0.1, 40)]
    pen.shape([*outer, *inner], YELLOW)
    middle = [(50 + 38 * np.cos(a), 25 + 37 * np.sin(a)) for a in np.linspace(0.15, 2.8, 40)]
    pen.line(middle, 0.9, (205, 165, 30))
    pen.shape([(86, 30), (90, 30), (91, 18), (87, 18)], (120, 100, 30))
    pen.disc(11.5, 36, 2.2, (90, 65, 25))


def _car(pen: Pen) -> None:
    body = (200, 35, 40)
    pen.shape([(26, 54), (36, 36), (64, 36), (76, 54)], body)
    pen.shape([(31, 53), (38, 40), (49, 40), (49, 53)], (185, 225, 245))
    pen.shape([(52, 53), (52, 40), (62, 40), (70, 53)], (185, 225, 245))
    pen.box(10, 53, 80, 18, body)
    pen.disc(10, 62, 9, body)
    pen.disc(90, 62, 9, body)
    pen.box(93, 56, 5, 5, YELLOW)
    for x in (28, 72):
        pen.disc(x, 72, 10, BLACK)
        pen.disc(x, 72, 5, (190, 190, 195))


def _smiley(pen: Pen) -> None:
    pen.disc(50, 50, 40, BLACK)
    pen.disc(50, 50, 38, (255, 220, 40))
    pen.oval(37, 40, 5, 8, BLACK)
    pen.oval(63, 40, 5, 8, BLACK)
    pen.arc(50, 50, 24, 20, 160, 4, BLACK)


def _ladder(pen: Pen) -> None:
    wood, dark = (190, 130, 70), (150, 100, 50)
    for number in range(8):
        y = 14 + 10.5 * number
        pen.line([(36 - number * 0.7, y), (64 + number * 0.7, y)], 3, dark)
    pen.line([(36, 5), (30, 97)], 4.5, wood)
    pen.line([(64, 5), (70, 97)], 4.5, wood)


DRAWINGS: dict[str, tuple[Colour | Ground, Callable[[Pen], None]]] = {
    "red ball on grass": (_lawn, _ball),
    "clock": ((200, 215, 225), _clock),
    "cat": ((190, 215, 200), _cat),
    "traffic light": (_street, _traffic_light),
    "mug on a table": (_table, _mug),
    "stop sign": (_meadow, _stop_sign),
    "house": (_meadow, _house),
    "tree": (_meadow, _tree),
    "banana": (WHITE, _banana),
    "car": (_street, _car),
    "smiley face": (WHITE, _smiley),
    "ladder": ((225, 225, 220), _ladder),
}
"""What is drawn, on which background, by its name."""
