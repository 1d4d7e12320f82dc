"""Plants, creatures, toys and plain solids."""

from __future__ import annotations

import numpy as np

from zgs_ros.synthetic.kinds.registry import BARK, CREAM, DARK, GLASS, GOLD, LEAF, METAL, SKIN, kind
from zgs_ros.synthetic.primitives import Builder

Rng = np.random.Generator


@kind("ball")
def ball(b: Builder, rng: Rng) -> None:
    b.ball((0, 0, 0.5), 0.5)


@kind("box")
def box(b: Builder, rng: Rng) -> None:
    x, y, z = rng.uniform(0.7, 1.0), rng.uniform(0.6, 0.9), rng.uniform(0.5, 0.8)
    b.box((0, 0, z / 2), (x, y, z))
    b.box((0, 0, z / 2 + 0.004), (x * 0.16, y + 0.008, z + 0.004), (0.80, 0.70, 0.48))


@kind("cone")
def cone(b: Builder, rng: Rng) -> None:
    h, r = rng.uniform(0.95, 1.15), rng.uniform(0.33, 0.4)
    b.box((0, 0, 0.04), (r * 2.5, r * 2.5, 0.08), shade=0.75)
    b.rod((0, 0, 0.07), (0, 0, h), r, 0.05)
    b.rod(
        (0, 0, h * 0.45), (0, 0, h * 0.65), r * 0.62 + 0.012, r * 0.42 + 0.012, (0.95, 0.95, 0.95)
    )


@kind("pyramid")
def pyramid(b: Builder, rng: Rng) -> None:
    h = rng.uniform(0.7, 0.85)
    b.box((0, 0, h / 2), (1.1, 1.1, h), taper=(0, 0))


@kind("ring", facing=65)
def ring(b: Builder, rng: Rng) -> None:
    t = rng.uniform(0.12, 0.17)
    b.ring((0, 0, 0.45 + t), 0.45, t, turn=(0, 90, 0))


@kind("tree")
def tree(b: Builder, rng: Rng) -> None:
    h = rng.uniform(0.5, 0.65)
    b.rod((0, 0, 0), (0, 0, h + 0.2), 0.11, 0.07, BARK)
    b.ball((0, 0, h + 0.36), (0.4, 0.4, 0.4))
    for k in range(4):
        a = 1.57 * k + rng.uniform(-0.4, 0.4)
        z = h + rng.uniform(0.14, 0.36)
        b.ball((0.28 * np.cos(a), 0.28 * np.sin(a), z), rng.uniform(0.24, 0.3), shade=0.94)


@kind("pine")
def pine(b: Builder, rng: Rng) -> None:
    b.rod((0, 0, 0), (0, 0, 0.35), 0.09, colour=BARK)
    step = rng.uniform(0.3, 0.34)
    for k in range(3):
        z = 0.22 + k * step
        b.rod((0, 0, z), (0, 0, z + 0.55), 0.46 - 0.1 * k, 0.03, shade=0.9 + 0.05 * k)


@kind("cactus")
def cactus(b: Builder, rng: Rng) -> None:
    h = rng.uniform(0.95, 1.15)
    b.rod((0, 0, 0), (0, 0, 0.22), 0.24, 0.32, (0.70, 0.36, 0.22))
    b.capsule((0, 0, 0.2), (0, 0, h), 0.15)
    for side, z in ((-1, rng.uniform(0.5, 0.6)), (1, rng.uniform(0.62, 0.75))):
        b.rod((0, 0, z), (0, side * 0.34, z), 0.09)
        b.capsule((0, side * 0.34, z), (0, side * 0.34, z + 0.28), 0.09)


@kind("flower", facing=65)
def flower(b: Builder, rng: Rng) -> None:
    h, n = rng.uniform(0.75, 0.95), 6
    b.rod((0, 0, 0), (0, 0, h), 0.04, colour=LEAF)
    b.ball((0, 0.17, 0.28), (0.05, 0.2, 0.09), LEAF, turn=(30, 0, 0))
    b.ball((0, -0.17, 0.4), (0.05, 0.2, 0.09), LEAF, turn=(-30, 0, 0))
    for k in range(n):
        a = 2 * np.pi * k / n
        at = (0.02, 0.26 * np.sin(a), h + 0.2 + 0.26 * np.cos(a))
        b.ball(at, (0.07, 0.13, 0.2), turn=(-np.degrees(a), 0, 0))
    b.ball((0.06, 0, h + 0.2), (0.09, 0.15, 0.15), GOLD)


@kind("mushroom")
def mushroom(b: Builder, rng: Rng) -> None:
    h, r = rng.uniform(0.5, 0.65), rng.uniform(0.5, 0.58)
    b.rod((0, 0, 0), (0, 0, h), 0.22, 0.15, CREAM)
    b.ball((0, 0, h - 0.06), (r, r, 0.46), low=0.0)
    for k in range(6):
        a, z = 1.05 * k, 0.55 if k % 2 else 0.25
        c = np.sqrt(1 - z * z)
        at = (r * c * np.cos(a), r * c * np.sin(a), h - 0.06 + 0.46 * z)
        b.ball(at, 0.075, CREAM)


@kind("snowman")
def snowman(b: Builder, rng: Rng) -> None:
    b.ball((0, 0, 0.32), 0.36)
    b.ball((0, 0, 0.8), 0.26)
    b.ball((0, 0, 1.15), 0.19)
    b.rod((0.15, 0, 1.15), (0.4, 0, 1.13), 0.055, 0.0, SKIN)
    b.rod((0, 0, 1.28), (0, 0, 1.31), 0.25, colour=DARK)
    b.rod((0, 0, 1.3), (0, 0, 1.52), 0.15, colour=DARK)
    for y in (-0.07, 0.07):
        b.ball((0.165, y, 1.22), 0.03, DARK)
    for z in (0.7, 0.85):
        b.ball((0.255, 0, z), 0.035, DARK)
    for side in (-1, 1):
        b.rod((0, side * 0.2, 0.85), (0, side * 0.55, 1.05), 0.025, colour=BARK)


@kind("robot")
def robot(b: Builder, rng: Rng) -> None:
    w = rng.uniform(0.46, 0.54)
    b.box((0, 0, 0.58), (0.36, w, 0.5))
    b.box((0, 0, 1.03), (0.32, 0.4, 0.3))
    b.box((0.01, 0, 1.05), (0.33, 0.3, 0.13), DARK)
    for y in (-0.08, 0.08):
        b.ball((0.17, y, 1.05), 0.045, GLASS)
    b.rod((0, 0, 1.18), (0, 0, 1.34), 0.02, colour=METAL)
    b.ball((0, 0, 1.36), 0.05, (0.9, 0.15, 0.12))
    b.rod((0, 0, 0.82), (0, 0, 0.9), 0.1, colour=METAL)
    for side in (-1, 1):
        b.rod((0, side * 0.13, 0.05), (0, side * 0.13, 0.35), 0.07, colour=METAL)
        b.box((0.05, side * 0.13, 0.05), (0.3, 0.17, 0.1), shade=0.8)
        b.rod(
            (0, side * (w / 2 + 0.07), 0.76), (0.05, side * (w / 2 + 0.1), 0.4), 0.055, colour=METAL
        )
        b.ball((0.05, side * (w / 2 + 0.1), 0.36), 0.09)
    b.box((0.18, 0, 0.62), (0.03, 0.24, 0.2), CREAM)


@kind("duck")
def duck(b: Builder, rng: Rng) -> None:
    b.ball((0, 0, 0.3), (0.5, 0.36, 0.3))
    b.ball((0.32, 0, 0.7), 0.24)
    b.ball((0.58, 0, 0.67), (0.16, 0.11, 0.05), SKIN)
    b.rod((-0.3, 0, 0.38), (-0.6, 0, 0.6), 0.18, 0.03)
    for y in (-1, 1):
        b.ball((0.46, y * 0.15, 0.78), 0.045, DARK)
        b.ball((-0.06, y * 0.33, 0.36), (0.26, 0.08, 0.15), shade=0.82)


@kind("dog")
def dog(b: Builder, rng: Rng) -> None:
    length, leg = rng.uniform(0.32, 0.42), rng.uniform(0.3, 0.38)
    z = leg + 0.14
    b.ball((0, 0, z), (length + 0.16, 0.19, 0.19))
    for x in (-length * 0.8, length * 0.8):
        for y in (-0.11, 0.11):
            b.rod((x, y, 0), (x, y, z), 0.07)
    b.rod((length * 0.8, 0, z), (length + 0.14, 0, z + 0.3), 0.12)
    b.ball((length + 0.17, 0, z + 0.36), (0.2, 0.17, 0.17))
    b.rod((length + 0.25, 0, z + 0.33), (length + 0.46, 0, z + 0.3), 0.1, 0.08)
    b.ball((length + 0.46, 0, z + 0.33), 0.06, DARK)
    for y in (-1, 1):
        b.ball((length + 0.1, y * 0.17, z + 0.34), (0.08, 0.05, 0.16), shade=0.55)
        b.ball((length + 0.32, y * 0.09, z + 0.44), 0.032, DARK)
    b.rod((-length - 0.05, 0, z + 0.05), (-length - 0.3, 0, z + 0.4), 0.06, 0.03)


@kind("giraffe", size=1.15)
def giraffe(b: Builder, rng: Rng) -> None:
    neck = rng.uniform(0.62, 0.78)
    b.ball((0, 0, 0.66), (0.38, 0.19, 0.2))
    for x in (-0.25, 0.25):
        for y in (-0.1, 0.1):
            b.rod((x, y, 0), (x, y, 0.66), 0.055)
    b.rod((0.24, 0, 0.7), (0.46, 0, 0.75 + neck), 0.13, 0.075)
    b.ball((0.55, 0, 0.78 + neck), (0.2, 0.095, 0.1), turn=(0, 20, 0))
    for y in (-0.05, 0.05):
        b.rod((0.44, y, 0.82 + neck), (0.42, y, 0.96 + neck), 0.02, colour=DARK)
        b.ball((0.54, y * 1.7, 0.83 + neck), 0.025, DARK)
    b.rod((-0.34, 0, 0.72), (-0.46, 0, 0.42), 0.025, colour=DARK)


@kind("fish", facing=180)
def fish(b: Builder, rng: Rng) -> None:
    h = rng.uniform(0.3, 0.38)
    b.ball((0, 0, h), (0.52, 0.17, h))
    b.box((-0.6, 0, h), (0.5, 0.06, 0.34), taper=(0.05, 1), turn=(0, 90, 0))
    b.box((-0.05, 0, h * 1.85), (0.4, 0.05, 0.26), taper=(0.4, 1), lean=(-0.12, 0), shade=0.8)
    for y in (-1, 1):
        b.ball((0.32, y * 0.115, h + 0.08), 0.06, (0.96, 0.96, 0.94))
        b.ball((0.34, y * 0.155, h + 0.08), 0.035, DARK)
        b.ball((0.02, y * 0.17, h - 0.05), (0.14, 0.04, 0.08), shade=0.75)
