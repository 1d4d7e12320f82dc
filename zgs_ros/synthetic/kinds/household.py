"""Things of the kitchen and the house."""

from __future__ import annotations

import numpy as np

from zgs_ros.synthetic.kinds.registry import CREAM, DARK, GLASS, GOLD, METAL, WOOD, kind
from zgs_ros.synthetic.primitives import Builder

Rng = np.random.Generator


@kind("mug")
def mug(b: Builder, rng: Rng) -> None:
    r, h = rng.uniform(0.36, 0.44), rng.uniform(0.85, 1.05)
    b.rod((0, 0, 0.02), (0, 0, h), r * rng.uniform(0.9, 1.0), r, open_high=True)
    b.rod((0, 0, 0.02), (0, 0, h * 0.7), r * 0.9, r * 0.9, (0.25, 0.14, 0.07))
    b.ring((r, 0, h * 0.52), h * 0.27, 0.075, turn=(90, 0, 0))


@kind("bottle", lying=0.15)
def bottle(b: Builder, rng: Rng) -> None:
    r, h = rng.uniform(0.22, 0.27), rng.uniform(0.75, 0.9)
    b.rod((0, 0, 0), (0, 0, h), r)
    b.ball((0, 0, h), (r, r, r * 0.9), low=0)
    b.rod((0, 0, h), (0, 0, h + 0.48), r * 0.42, r * 0.36)
    b.rod((0, 0, h + 0.46), (0, 0, h + 0.56), r * 0.48, colour=DARK)
    b.rod((0, 0, h * 0.3), (0, 0, h * 0.7), r * 1.02, colour=CREAM)


@kind("bowl")
def bowl(b: Builder, rng: Rng) -> None:
    depth = rng.uniform(0.62, 0.8)
    b.ball((0, 0, depth), (1, 1, depth), high=0, open_high=True)
    b.ring((0, 0, depth), 1.0, 0.06)
    b.rod((0, 0, -0.06), (0, 0, 0.14), 0.45)


@kind("teapot")
def teapot(b: Builder, rng: Rng) -> None:
    w = rng.uniform(0.55, 0.62)
    b.ball((0, 0, 0.45), (w, w, 0.45))
    b.rod((0, 0, 0.0), (0, 0, 0.15), 0.35)
    b.rod((w * 0.7, 0, 0.35), (w + 0.42, 0, 0.85), 0.16, 0.07)
    b.ring((-w - 0.05, 0, 0.5), 0.28, 0.065, turn=(90, 0, 0))
    b.ball((0, 0, 0.84), (0.3, 0.3, 0.1), shade=0.8)
    b.ball((0, 0, 0.98), 0.09, GOLD)


@kind("spoon", size=1.15)
def spoon(b: Builder, rng: Rng) -> None:
    # Stands in the world like a toy monument: lying, it would be a sliver at low resolution.
    length = rng.uniform(0.95, 1.15)
    b.rod((0, 0, 0), (0, 0, length), 0.07, 0.05)
    b.ball((0, 0, length + 0.24), (0.24, 0.08, 0.34))
    b.ball((0, 0.05, length + 0.25), (0.17, 0.06, 0.26), shade=0.6)
    b.ball((0, -0.05, length + 0.25), (0.17, 0.06, 0.26), shade=0.6)
    b.ball((0, 0, 0.02), (0.11, 0.07, 0.08))


@kind("candle")
def candle(b: Builder, rng: Rng) -> None:
    h = rng.uniform(0.75, 1.0)
    b.rod((0, 0, 0), (0, 0, 0.05), 0.42, 0.36, GOLD)
    b.rod((0, 0, 0.05), (0, 0, h), rng.uniform(0.17, 0.21))
    b.rod((0, 0, h), (0, 0, h + 0.08), 0.02, colour=DARK)
    b.ball((0, 0, h + 0.2), (0.075, 0.075, 0.09), (1.0, 0.72, 0.15))
    b.rod((0, 0, h + 0.22), (0, 0, h + 0.42), 0.07, 0.0, (1.0, 0.55, 0.08))


@kind("lamp")
def lamp(b: Builder, rng: Rng) -> None:
    h = rng.uniform(0.8, 1.1)
    b.rod((0, 0, 0), (0, 0, 0.07), 0.3, 0.26, DARK)
    b.rod((0, 0, 0.05), (0, 0, h), 0.04, colour=METAL)
    b.rod((0, 0, h - 0.1), (0, 0, h + 0.42), rng.uniform(0.44, 0.52), 0.24, open_low=True)
    b.ball((0, 0, h - 0.06), 0.13, (1.0, 0.95, 0.7))


@kind("chair")
def chair(b: Builder, rng: Rng) -> None:
    seat, back = rng.uniform(0.44, 0.52), rng.uniform(0.55, 0.7)
    for x in (-0.22, 0.22):
        for y in (-0.22, 0.22):
            b.box((x, y, seat / 2), (0.075, 0.075, seat), shade=0.85)
    b.box((0, 0, seat), (0.56, 0.56, 0.09))
    for y in (-0.22, 0.22):
        b.box((-0.24, y, seat + back / 2), (0.075, 0.075, back))
    b.box((-0.24, 0, seat + back * 0.8), (0.07, 0.5, back * 0.36))
    b.box((-0.24, 0, seat + back * 0.35), (0.05, 0.5, 0.09))


@kind("stool")
def stool(b: Builder, rng: Rng) -> None:
    h = rng.uniform(0.7, 0.95)
    b.rod((0, 0, h), (0, 0, h + 0.13), 0.36)
    for k in range(3):
        a = 2.1 * k + 0.4
        foot = (0.38 * np.cos(a), 0.38 * np.sin(a), 0.0)
        b.rod(foot, (0.2 * np.cos(a), 0.2 * np.sin(a), h), 0.05, colour=WOOD)
    b.ring((0, 0, h * 0.4), 0.3, 0.025, WOOD)


@kind("table")
def table(b: Builder, rng: Rng) -> None:
    length, width, h = rng.uniform(1.1, 1.4), rng.uniform(0.7, 0.85), rng.uniform(0.55, 0.68)
    b.box((0, 0, h), (length, width, 0.1))
    for x in (-1, 1):
        for y in (-1, 1):
            b.box(
                (x * (length / 2 - 0.09), y * (width / 2 - 0.09), h / 2), (0.1, 0.1, h), shade=0.85
            )


@kind("bench")
def bench(b: Builder, rng: Rng) -> None:
    length = rng.uniform(1.3, 1.6)
    for y in (-1, 1):
        b.box((0.0, y * length * 0.38, 0.19), (0.42, 0.08, 0.38), DARK)
        b.box((-0.24, y * length * 0.38, 0.5), (0.06, 0.08, 0.6), DARK)
    for x in (-0.14, 0.02, 0.18):
        b.box((x, 0, 0.41), (0.13, length, 0.06))
    for z in (0.56, 0.74):
        b.box((-0.2, 0, z), (0.05, length, 0.13))


@kind("sofa")
def sofa(b: Builder, rng: Rng) -> None:
    length = rng.uniform(1.3, 1.6)
    b.box((0, 0, 0.2), (0.7, length, 0.28))
    b.box((-0.3, 0, 0.45), (0.22, length, 0.72))
    for y in (-1, 1):
        b.box((0.02, y * (length / 2 - 0.06), 0.34), (0.68, 0.2, 0.4))
        b.rod((-0.33, y * (length / 2 - 0.06), 0.54), (0.36, y * (length / 2 - 0.06), 0.54), 0.12)
        b.box((0.06, y * length * 0.2, 0.38), (0.52, length * 0.36, 0.13), shade=1.15)
        b.box((0.2, y * length * 0.42, 0.03), (0.08, 0.08, 0.06), DARK)


@kind("bed")
def bed(b: Builder, rng: Rng) -> None:
    length = rng.uniform(1.4, 1.6)
    b.box((0, 0, 0.18), (length, 0.85, 0.14), WOOD)
    b.box((-length / 2, 0, 0.38), (0.08, 0.9, 0.76), WOOD)
    b.box((length / 2, 0, 0.22), (0.08, 0.9, 0.44), WOOD)
    b.box((0.12, 0, 0.33), (length - 0.3, 0.84, 0.2))
    b.box((-length * 0.36, 0, 0.36), (0.34, 0.62, 0.2), CREAM, taper=(0.7, 0.9))


@kind("umbrella")
def umbrella(b: Builder, rng: Rng) -> None:
    h = rng.uniform(0.95, 1.1)
    b.ball((0, 0, h - 0.32), (0.72, 0.72, 0.46), low=0.0, open_low=True)
    b.rod((0, 0, 0.0), (0, 0, h + 0.1), 0.028, colour=WOOD)
    b.ring((0.09, 0, 0.09), 0.09, 0.032, WOOD, turn=(90, 0, 0))
    b.ball((0, 0, h + 0.2), 0.04, DARK)


@kind("hat")
def hat(b: Builder, rng: Rng) -> None:
    h = rng.uniform(0.55, 0.95)
    b.rod((0, 0, 0), (0, 0, 0.06), 0.78)
    b.rod((0, 0, 0.06), (0, 0, h), 0.42, rng.uniform(0.38, 0.46))
    b.rod((0, 0, 0.07), (0, 0, 0.23), 0.435, colour=CREAM if rng.random() < 0.5 else DARK)


@kind("glasses", facing=60, size=1.1)
def glasses(b: Builder, rng: Rng) -> None:
    r = rng.uniform(0.3, 0.34)
    for y in (-1, 1):
        b.ring((0, y * 0.42, r + 0.05), r, 0.07, turn=(0, 90, 0))
        b.rod((-0.01, y * 0.42, r + 0.05), (0.01, y * 0.42, r + 0.05), r, colour=GLASS)
        b.rod((0, y * 0.78, r + 0.15), (-0.9, y * 0.72, 0.2), 0.045)
    b.rod((0, -0.13, r + 0.12), (0, 0.13, r + 0.12), 0.055)


@kind("book", facing=60)
def book(b: Builder, rng: Rng) -> None:
    w, h, t = rng.uniform(0.6, 0.75), rng.uniform(0.85, 1.0), rng.uniform(0.16, 0.26)
    b.box((0, 0, h / 2), (t * 0.8, w, h * 0.94), CREAM)
    for x in (-1, 1):
        b.box((x * t * 0.45, -0.02, h / 2), (t * 0.16, w * 1.06, h))
    b.box((0, -w / 2 - 0.02, h / 2), (t, t * 0.16, h))
    b.box((t * 0.54, 0, h * 0.7), (0.015, w * 0.6, h * 0.16), GOLD)


@kind("barrel", lying=0.25)
def barrel(b: Builder, rng: Rng) -> None:
    h = rng.uniform(0.5, 0.58)
    b.ball((0, 0, h), (0.45, 0.45, h * 1.5), low=-0.667, high=0.667)
    for z in (-0.52, -0.25, 0.25, 0.52):
        r = 0.45 * np.sqrt(1 - z * z) + 0.008
        b.rod((0, 0, h * (1 + 1.5 * z) - 0.03), (0, 0, h * (1 + 1.5 * z) + 0.03), r, colour=DARK)


@kind("bucket")
def bucket(b: Builder, rng: Rng) -> None:
    h = rng.uniform(0.7, 0.85)
    b.rod((0, 0, 0), (0, 0, h), 0.32, 0.46, open_high=True)
    b.ring((0, 0, h), 0.46, 0.035)
    b.ring((0, 0, h), 0.46, 0.022, METAL, turn=(90, 0, 0))


@kind("key", facing=55, size=1.15)
def key(b: Builder, rng: Rng) -> None:
    r = rng.uniform(0.24, 0.3)
    b.ring((0, 0, 1.25), r, 0.085, turn=(0, 90, 0))
    b.rod((0, 0, 0), (0, 0, 1.25 - r), 0.07)
    b.box((0, 0.17, 0.08), (0.09, 0.3, 0.13))
    b.box((0, 0.13, 0.33), (0.09, 0.22, 0.12))
    b.rod((0, 0, 0.85), (0, 0, 0.93), 0.11)


@kind("hammer", facing=60)
def hammer(b: Builder, rng: Rng) -> None:
    h = rng.uniform(1.0, 1.2)
    b.rod((0, 0, 0), (0, 0, h), 0.085, 0.07, WOOD)
    b.box((0, 0, h), (0.24, 0.42, 0.26))
    b.rod((0, 0.2, h), (0, 0.46, h), 0.19)
    b.box((0, -0.4, h - 0.03), (0.2, 0.2, 0.42), taper=(1, 0.1), turn=(90, 0, 0), shade=0.9)


@kind("ladder", facing=60, size=1.15)
def ladder(b: Builder, rng: Rng) -> None:
    h, lean = rng.uniform(1.4, 1.6), -0.35
    for y in (-0.27, 0.27):
        b.box((0, y, h / 2), (0.1, 0.1, h), lean=(lean, 0))
        b.rod((lean, y * 0.9, 0), (lean / 2, y * 0.9, h), 0.03, colour=METAL)
    for k in range(5):
        f = (k + 0.6) / 5.2
        b.rod((lean * (f - 0.5), -0.27, h * f), (lean * (f - 0.5), 0.27, h * f), 0.05)


@kind("dumbbell")
def dumbbell(b: Builder, rng: Rng) -> None:
    length, r = rng.uniform(0.42, 0.55), rng.uniform(0.3, 0.36)
    b.rod((0, -length, r), (0, length, r), 0.08, colour=METAL)
    for y in (-1, 1):
        b.rod((0, y * (length - 0.16), r), (0, y * (length + 0.06), r), r)
        b.rod((0, y * (length + 0.06), r), (0, y * (length + 0.2), r), r * 0.68, shade=0.8)


@kind("cake")
def cake(b: Builder, rng: Rng) -> None:
    b.rod((0, 0, 0), (0, 0, 0.04), 0.8, colour=METAL)
    b.rod((0, 0, 0.04), (0, 0, 0.42), 0.65)
    b.rod((0, 0, 0.42), (0, 0, 0.74), 0.42)
    b.rod((0, 0, 0.36), (0, 0, 0.45), 0.67, colour=CREAM)
    b.rod((0, 0, 0.68), (0, 0, 0.77), 0.44, colour=CREAM)
    for k in range(3):
        x, y = 0.24 * np.cos(2.1 * k), 0.24 * np.sin(2.1 * k)
        b.rod((x, y, 0.75), (x, y, 1.0), 0.045, colour=GLASS)
        b.ball((x, y, 1.06), (0.05, 0.05, 0.085), (1.0, 0.62, 0.1))


@kind("drum")
def drum(b: Builder, rng: Rng) -> None:
    h = rng.uniform(0.5, 0.7)
    b.rod((0, 0, 0.03), (0, 0, h), 0.5)
    b.ring((0, 0, 0.06), 0.5, 0.05, CREAM)
    b.ring((0, 0, h), 0.5, 0.05, CREAM)
    b.rod((0, 0, h), (0, 0, h + 0.03), 0.49, colour=CREAM)
    b.rod((0.3, -0.5, h + 0.08), (-0.1, 0.35, h + 0.12), 0.03, colour=WOOD)
    b.rod((0.0, -0.55, h + 0.08), (0.2, 0.35, h + 0.12), 0.03, colour=WOOD)


@kind("trophy")
def trophy(b: Builder, rng: Rng) -> None:
    b.box((0, 0, 0.1), (0.5, 0.5, 0.2), DARK)
    b.rod((0, 0, 0.2), (0, 0, 0.52), 0.17, 0.06)
    b.ball((0, 0, 1.05), (0.38, 0.38, 0.58), high=0.1, open_high=True)
    b.ring((0, 0, 1.1), 0.38, 0.04)
    for y in (-1, 1):
        b.ring((0, y * 0.42, 0.88), 0.2, 0.05, turn=(0, 90, 0))
