"""Vehicles and buildings."""

from __future__ import annotations

import numpy as np

from zgs_ros.synthetic.kinds.registry import BARK, CREAM, DARK, GLASS, GOLD, METAL, WOOD, kind
from zgs_ros.synthetic.primitives import Builder

Rng = np.random.Generator
LIGHT = (1.0, 0.93, 0.65)
ROOF = (0.45, 0.20, 0.14)


def _wheels(
    b: Builder, xs: tuple[float, ...], half_width: float, radius: float, *, hub: bool = True
) -> None:
    for x in xs:
        for side in (-1, 1):
            y = side * half_width
            b.rod((x, y - side * 0.12, radius), (x, y + side * 0.03, radius), radius, colour=DARK)
            if hub:
                b.rod((x, y, radius), (x, y + side * 0.04, radius), radius * 0.5, colour=METAL)


@kind("car")
def car(b: Builder, rng: Rng) -> None:
    length, cabin = rng.uniform(1.25, 1.45), rng.uniform(0.5, 0.62)
    b.box((0, 0, 0.3), (length, 0.62, 0.24))
    x = -0.06 * length
    b.box((x, 0, 0.54), (length * cabin, 0.56, 0.26), GLASS, taper=(0.66, 0.84))
    b.box((x, 0, 0.69), (length * cabin * 0.68, 0.49, 0.05))
    _wheels(b, (-length * 0.3, length * 0.3), 0.31, 0.17)
    for y in (-0.2, 0.2):
        b.ball((length / 2, y, 0.33), 0.065, LIGHT)


@kind("truck")
def truck(b: Builder, rng: Rng) -> None:
    length = rng.uniform(0.95, 1.1)
    b.box((-0.12, 0, 0.22), (length + 0.55, 0.5, 0.1), DARK)
    b.box((-0.3, 0, 0.65), (length, 0.62, 0.78))
    front = length / 2 - 0.3
    b.box((front + 0.26, 0, 0.5), (0.4, 0.58, 0.52), CREAM)
    b.box((front + 0.28, 0, 0.6), (0.4, 0.5, 0.22), GLASS)
    b.box((front + 0.26, 0, 0.3), (0.44, 0.6, 0.14))
    _wheels(b, (-0.62, -0.2, front + 0.22), 0.31, 0.17)


@kind("bus")
def bus(b: Builder, rng: Rng) -> None:
    length = rng.uniform(1.5, 1.75)
    b.box((0, 0, 0.45), (length, 0.56, 0.66))
    b.box((0, 0, 0.57), (length * 0.9, 0.58, 0.2), GLASS)
    b.box((0.03, 0, 0.55), (length, 0.48, 0.26), GLASS)
    for k in range(1, 5):
        b.box((length * (k / 5 - 0.5), 0, 0.57), (0.05, 0.59, 0.21))
    _wheels(b, (-length * 0.32, length * 0.32), 0.28, 0.15)


@kind("train")
def train(b: Builder, rng: Rng) -> None:
    length = rng.uniform(0.75, 0.95)
    b.box((0, 0, 0.24), (length + 0.55, 0.5, 0.12), DARK)
    b.rod((-0.1, 0, 0.52), (length / 2 + 0.3, 0, 0.52), 0.24)
    b.rod((length / 2 + 0.28, 0, 0.52), (length / 2 + 0.31, 0, 0.52), 0.2, colour=DARK)
    b.box((-length / 2 + 0.02, 0, 0.6), (0.46, 0.54, 0.66))
    b.box((-length / 2 + 0.02, 0, 0.95), (0.58, 0.64, 0.07), DARK)
    b.box((-length / 2 + 0.02, 0, 0.74), (0.26, 0.56, 0.22), GLASS)
    b.rod((length / 2 + 0.1, 0, 0.7), (length / 2 + 0.1, 0, 1.06), 0.08, 0.15, DARK)
    b.ball((0.12, 0, 0.76), 0.1, GOLD)
    _wheels(b, (-0.42, -0.08, 0.28), 0.25, 0.17)
    b.box((length / 2 + 0.34, 0, 0.16), (0.26, 0.5, 0.2), taper=(0.1, 0.8), lean=(-0.2, 0))


@kind("boat")
def boat(b: Builder, rng: Rng) -> None:
    h = rng.uniform(1.05, 1.3)
    b.box((0, 0, 0.17), (0.9, 0.34, 0.3), taper=(1.5, 1.5))
    b.box((0, 0, 0.33), (1.22, 0.42, 0.02), WOOD)
    b.rod((0, 0, 0.3), (0, 0, h + 0.25), 0.035, colour=BARK)
    b.box((-0.26, 0, h / 2 + 0.36), (0.5, 0.035, h * 0.74), CREAM, taper=(0.02, 1), lean=(0.24, 0))
    b.box((0.22, 0, h / 2 + 0.3), (0.36, 0.035, h * 0.55), CREAM, taper=(0.02, 1), lean=(-0.17, 0))


@kind("rocket")
def rocket(b: Builder, rng: Rng) -> None:
    h = rng.uniform(0.95, 1.15)
    b.rod((0, 0, 0.22), (0, 0, h), 0.25, 0.23)
    nose = (0.9, 0.15, 0.12) if rng.random() < 0.5 else DARK
    b.rod((0, 0, h), (0, 0, h + 0.42), 0.23, 0.0, nose)
    b.rod((0, 0, 0.1), (0, 0, 0.24), 0.2, 0.13, DARK)
    for k in range(3):
        turn = 120.0 * k + 60
        a = np.radians(turn)
        b.box(
            (0.32 * np.cos(a), 0.32 * np.sin(a), 0.28),
            (0.36, 0.06, 0.56),
            nose,
            taper=(0.15, 1),
            lean=(-0.24, 0),
            turn=(0, 0, turn),
        )
    for side in (-1, 1):
        b.rod((side * 0.1, 0, h * 0.72), (side * 0.26, 0, h * 0.72), 0.1, colour=GLASS)


@kind("plane")
def plane(b: Builder, rng: Rng) -> None:
    span = rng.uniform(1.3, 1.6)
    b.ball((0, 0, 0.36), (0.78, 0.15, 0.16))
    b.box((0.08, 0, 0.36), (0.32, span, 0.05), shade=0.92)
    b.box((-0.66, 0, 0.42), (0.2, 0.56, 0.045), shade=0.92)
    b.box((-0.66, 0, 0.58), (0.26, 0.05, 0.4), taper=(0.5, 1), lean=(-0.1, 0))
    b.ball((0.3, 0, 0.45), (0.2, 0.1, 0.12), GLASS)
    b.rod((0.74, 0, 0.36), (0.86, 0, 0.36), 0.06, 0.02, DARK)
    b.box((0.82, 0, 0.36), (0.02, 0.07, 0.5), METAL, turn=(35, 0, 0))
    for y in (-0.17, 0.17):
        b.rod((0.22, y, 0.08), (0.2, y, 0.34), 0.02, colour=METAL)
        b.rod((0.22, y - 0.03, 0.08), (0.22, y + 0.03, 0.08), 0.08, colour=DARK)


@kind("helicopter")
def helicopter(b: Builder, rng: Rng) -> None:
    b.ball((0.1, 0, 0.5), (0.44, 0.29, 0.3))
    b.ball((0.32, 0, 0.54), (0.27, 0.22, 0.22), GLASS)
    b.rod((-0.2, 0, 0.58), (-1.0, 0, 0.68), 0.1, 0.05)
    b.box((-1.0, 0, 0.78), (0.16, 0.04, 0.34), lean=(-0.1, 0))
    b.rod((0.05, 0, 0.75), (0.05, 0, 0.96), 0.035, colour=METAL)
    turn = float(rng.uniform(0, 90))
    for k in range(2):
        b.box((0.05, 0, 0.96), (1.7, 0.12, 0.03), DARK, turn=(0, 0, turn + 90 * k))
    for y in (-0.26, 0.26):
        b.rod((-0.35, y, 0.04), (0.55, y, 0.04), 0.035, colour=METAL)
        for x in (-0.1, 0.3):
            b.rod((x, y, 0.04), (x, y * 0.6, 0.32), 0.025, colour=METAL)


@kind("house")
def house(b: Builder, rng: Rng) -> None:
    w, d, h = rng.uniform(0.8, 1.0), rng.uniform(0.75, 0.9), rng.uniform(0.55, 0.7)
    b.box((0, 0, h / 2), (d, w, h))
    b.box((0, 0, h + 0.2), (d * 1.16, w * 1.14, 0.42), ROOF, taper=(0.0, 1.0))
    b.box((0.02, 0.0, 0.19), (d, 0.2, 0.38), BARK)
    for y in (-0.3, 0.3):
        b.box((0, y * w, h * 0.6), (d + 0.03, 0.18 * w, 0.2), LIGHT)
    for x in (-0.2, 0.2):
        b.box((x * d, 0, h * 0.6), (0.2 * d, w + 0.03, 0.2), LIGHT)
    b.box((-0.18 * d, 0.26 * w, h + 0.34), (0.14, 0.14, 0.36), BARK)


@kind("castle")
def castle(b: Builder, rng: Rng) -> None:
    h, s = rng.uniform(0.5, 0.6), 0.46
    b.box((0, 0, h / 2), (2 * s, 2 * s, h))
    for x in (-s, s):
        for y in (-s, s):
            b.rod((x, y, 0), (x, y, h + 0.24), 0.19)
            b.rod((x, y, h + 0.24), (x, y, h + 0.58), 0.25, 0.0, ROOF)
    for k in (-0.22, 0.0, 0.22):
        for side in (-1, 1):
            b.box((k, side * (s - 0.04), h + 0.06), (0.12, 0.1, 0.12))
            b.box((side * (s - 0.04), k, h + 0.06), (0.1, 0.12, 0.12))
    for turn in (0.0, 90.0):
        b.box((0, 0, 0.16), (2 * s + 0.03, 0.24, 0.32), DARK, turn=(0, 0, turn))


@kind("lighthouse")
def lighthouse(b: Builder, rng: Rng) -> None:
    h = rng.uniform(1.1, 1.3)
    b.rod((0, 0, 0), (0, 0, h), 0.34, 0.2)
    for f in (0.2, 0.55):
        r0, r1 = 0.34 - 0.14 * f, 0.34 - 0.14 * (f + 0.17)
        b.rod((0, 0, h * f), (0, 0, h * (f + 0.17)), r0 + 0.008, r1 + 0.008, (0.95, 0.95, 0.93))
    b.rod((0, 0, h), (0, 0, h + 0.05), 0.29, colour=DARK)
    b.rod((0, 0, h), (0, 0, h + 0.22), 0.14, colour=LIGHT)
    b.rod((0, 0, h + 0.22), (0, 0, h + 0.42), 0.22, 0.0, DARK)
    b.rod((0, 0, 0), (0, 0, 0.06), 0.45, 0.4, (0.5, 0.48, 0.45))


@kind("windmill", facing=50, size=1.1)
def windmill(b: Builder, rng: Rng) -> None:
    h = rng.uniform(0.95, 1.1)
    b.rod((0, 0, 0), (0, 0, h), 0.38, 0.24)
    b.rod((0, 0, h), (0, 0, h + 0.26), 0.3, 0.0, ROOF)
    b.rod((0.1, 0, h - 0.1), (0.4, 0, h - 0.1), 0.06, colour=DARK)
    turn = float(rng.uniform(0, 90))
    for k in range(4):
        a = np.radians(turn + 90 * k)
        at = (0.38, -0.4 * np.sin(a), h - 0.1 + 0.4 * np.cos(a))
        b.box(at, (0.03, 0.2, 0.66), CREAM, turn=(turn + 90 * k, 0, 0))
    b.box((0.34, 0, 0.2), (0.1, 0.22, 0.4), BARK)


@kind("tent")
def tent(b: Builder, rng: Rng) -> None:
    length, w, h = rng.uniform(1.1, 1.3), rng.uniform(0.9, 1.05), rng.uniform(0.65, 0.8)
    b.box((0, 0, h / 2), (length, w, h), taper=(1, 0.02))
    for side in (-1, 1):
        b.box((side * 0.02, 0, h * 0.36), (length, w * 0.4, h * 0.72), DARK, taper=(1, 0.02))
    b.rod((-length / 2 - 0.1, 0, h), (length / 2 + 0.1, 0, h), 0.03, colour=WOOD)


@kind("fence", facing=60)
def fence(b: Builder, rng: Rng) -> None:
    n, h = int(rng.integers(5, 7)), rng.uniform(0.62, 0.75)
    for k in range(n):
        y = (k - (n - 1) / 2) * 0.27
        b.box((0, y, h / 2), (0.06, 0.15, h))
        b.box((0, y, h + 0.06), (0.06, 0.15, 0.12), taper=(1, 0.05))
    for z in (0.25, 0.75):
        b.box((-0.05, 0, h * z), (0.05, n * 0.27, 0.09), shade=0.8)


@kind("arch", facing=70)
def arch(b: Builder, rng: Rng) -> None:
    h, t = rng.uniform(0.0, 0.35), rng.uniform(0.13, 0.17)
    for y in (-0.5, 0.5):
        b.box((0, y, 0.03), (t * 3, t * 3, 0.06), (0.55, 0.54, 0.52))
        b.rod((0, y, 0), (0, y, h + 0.02), t)
    b.ring((0, 0, h), 0.5, t, turn=(0, -90, 0), half=True)
