"""The transforms that are known without ROS are those that tf2 gives, at any time and in any tree."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import ros_support

pytestmark = [pytest.mark.ros, pytest.mark.timeout(300)]

COMPARE = """
import random
import numpy as np
from zgs_ros.ros.tf import Tf2Store
from zgs_ros.transforms import Sample, TransformBuffer, explain

SECOND = 10**9
compared = found = reasons = 0
for seed in range(30):
    rng = random.Random(seed)
    stores = ours, tf2 = TransformBuffer(), Tf2Store()
    names = [f"frame_{number}" for number in range(8)]
    parents = {}
    for number, child in enumerate(names[1:], 1):
        if rng.random() < 0.85:  # else the root of another tree
            parents[child] = rng.choice(names[:number])
    static = {child for child in parents if rng.random() < 0.3}
    sent = []
    for _ in range(150):
        if not parents:
            break
        child = rng.choice(list(parents))
        if rng.random() < 0.02 and child not in static:
            parents[child] = rng.choice(names[: names.index(child)])
        quaternion = np.array([rng.gauss(0, 1) for _ in range(4)])
        quaternion /= np.linalg.norm(quaternion)
        translation = tuple(rng.uniform(-9, 9) for _ in range(3))
        stamp = round(rng.uniform(1, 15) * 10) * SECOND // 10
        sample = Sample(stamp, parents[child], translation, tuple(quaternion.tolist()))
        sent.append((child, sample, child in static))
        for again in (sent[-1], *rng.choices(sent, k=rng.random() < 0.1)):
            for store in stores:
                store.add(*again)
    assert ours.parents() == tf2.parents(), seed
    for _ in range(300):
        target, source = rng.choice([*names, "nowhere"]), rng.choice(names)
        stamp = rng.choice([0, round(rng.uniform(1, 15) * SECOND), round(rng.uniform(1, 15)) * SECOND])
        if target == source:
            continue
        one, other = (store.lookup(target, source, stamp) for store in stores)
        compared += 1
        assert (one is None) == (other is None), (seed, target, source, stamp)
        assert ours.latest(target, source) == tf2.latest(target, source), (seed, target, source)
        if one is None:
            reasons += 1
            assert explain(ours, target, source, stamp) == explain(tf2, target, source, stamp)
        else:
            found += 1
            assert np.allclose(one.rotation, other.rotation, atol=1e-9), (seed, target, source, stamp)
            assert np.allclose(one.translation, other.translation, atol=1e-9)
    for store in stores:
        store.clear()
    assert ours.parents() == tf2.parents()
print(compared, found, reasons)
"""


def test_the_answers_are_those_of_tf2() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COMPARE],
        env=ros_support.ros_environment(),
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    compared, found, reasons = map(int, done.stdout.split())
    assert compared > 5000
    assert min(found, reasons) > 500
