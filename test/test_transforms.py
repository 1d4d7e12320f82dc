"""Transforms between frames, as tf2 gives them: at a time, through a chain, or not at all and why."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from zgs_ros import transforms
from zgs_ros.transforms import Sample, Transform, TransformBuffer, explain

SECOND = 1_000_000_000
STRAIGHT = (0.0, 0.0, 0.0, 1.0)


def turn(degrees: float) -> tuple[float, ...]:
    """A quaternion about z."""
    return tuple(Rotation.from_euler("z", degrees, degrees=True).as_quat())


def add(
    buffer: TransformBuffer,
    parent: str,
    child: str,
    seconds: float = 0.0,
    x: float = 0.0,
    turned: tuple[float, ...] = STRAIGHT,
    static: bool = False,
) -> None:
    sample = Sample(round(seconds * SECOND), parent, (x, 0.0, 0.0), turned)  # type: ignore[arg-type]
    buffer.add(child, sample, static)


def robot() -> TransformBuffer:
    """map -> odom -> base, of which base moves 1 m/s along x; base -> camera for good, 1 m ahead."""
    buffer = TransformBuffer()
    for seconds in (1, 2, 3):
        add(buffer, "map", "odom", seconds, 10.0)
        add(buffer, "odom", "base", seconds + 0.5, float(seconds))
    add(buffer, "base", "camera", x=1.0, static=True)
    return buffer


def x_of(found: Transform | None) -> float | None:
    return None if found is None else round(float(found.translation[0]), 6)


LOOKUPS: list[tuple[str, str, float, float | None]] = [
    ("map", "camera", 2.0, 12.5),
    ("map", "camera", 1.5, 12.0),
    ("map", "camera", 3.0, 13.5),
    ("camera", "map", 2.0, -12.5),
    ("odom", "camera", 3.5, 4.0),
    ("base", "camera", 99.0, 1.0),
    ("camera", "base", 0.5, -1.0),
    ("map", "map", 99.0, 0.0),
    ("map", "camera", 3.2, None),
    ("map", "camera", 1.2, None),
    ("map", "camera", 0.0, 13.5),
    ("map", "arm", 2.0, None),
    ("world", "camera", 2.0, None),
]


@pytest.mark.parametrize(("target", "source", "seconds", "x"), LOOKUPS, ids=str)
def test_a_chain_is_followed_at_a_time_and_nothing_is_extrapolated(
    target: str, source: str, seconds: float, x: float | None
) -> None:
    assert x_of(robot().lookup(target, source, round(seconds * SECOND))) == x


def test_siblings_are_connected_by_their_parent() -> None:
    buffer = robot()
    add(buffer, "base", "arm", x=-2.0, static=True)
    assert x_of(buffer.lookup("arm", "camera", 99 * SECOND)) == 3.0


def test_what_lies_above_the_common_parent_need_not_be_known() -> None:
    buffer = robot()
    assert x_of(buffer.lookup("odom", "camera", round(3.5 * SECOND))) == 4.0
    assert buffer.lookup("map", "camera", round(3.5 * SECOND)) is None


def test_rotations_go_the_short_way_round() -> None:
    buffer = TransformBuffer()
    add(buffer, "map", "base", 1, turned=turn(170))
    add(buffer, "map", "base", 2, turned=turn(-170))
    found = buffer.lookup("map", "base", round(1.25 * SECOND))
    assert found is not None
    angle = Rotation.from_matrix(found.rotation).as_euler("zyx", degrees=True)[0]
    assert angle == pytest.approx(175)


def test_of_those_of_one_time_the_last_counts_unless_it_is_there_already() -> None:
    buffer = TransformBuffer()
    for seconds, x in ((1, 1.0), (3, 3.0), (2, 99.0), (2, 7.0), (2, 99.0)):
        add(buffer, "map", "base", seconds, x)
    assert x_of(buffer.lookup("map", "base", 2 * SECOND)) == 7.0
    assert x_of(buffer.lookup("map", "base", round(2.5 * SECOND))) == 5.0


def test_a_frame_that_changes_its_parent_is_in_the_earlier_one_in_between() -> None:
    buffer = TransformBuffer()
    add(buffer, "table", "mug", 1, 1.0)
    add(buffer, "hand", "mug", 2, 2.0)
    assert x_of(buffer.lookup("table", "mug", round(1.5 * SECOND))) == 1.0
    assert x_of(buffer.lookup("hand", "mug", 2 * SECOND)) == 2.0
    assert buffer.lookup("table", "mug", 2 * SECOND) is None


def test_ten_seconds_are_kept_and_what_is_older_until_the_next_transform_comes() -> None:
    buffer = TransformBuffer()
    for seconds in range(1, 13):
        add(buffer, "map", "base", seconds, float(seconds))
    assert x_of(buffer.lookup("map", "base", round(1.5 * SECOND))) == 1.5
    add(buffer, "map", "base", 1.5, 99.0)
    assert buffer.lookup("map", "base", round(1.5 * SECOND)) is None
    assert x_of(buffer.lookup("map", "base", 2 * SECOND)) == 2.0


def test_memory_is_bounded_however_fast_transforms_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms, "MAX_SAMPLES", 30)
    buffer = TransformBuffer()
    for number in range(100):
        for child in ("a", "b", "c"):
            add(buffer, "map", child, 1 + number * 1e-3, float(number))
    assert [len(kept) for kept in buffer._moving.values()] == [10, 10, 10]
    assert x_of(buffer.lookup("map", "a", round(1.099 * SECOND))) == 99.0


def test_clearing_keeps_what_holds_for_good() -> None:
    buffer = robot()
    buffer.clear()
    assert buffer.lookup("map", "camera", 2 * SECOND) is None
    assert x_of(buffer.lookup("base", "camera", 2 * SECOND)) == 1.0


def test_a_loop_ends() -> None:
    buffer = TransformBuffer()
    for parent, child in (("a", "b"), ("b", "c"), ("c", "a")):
        add(buffer, parent, child, 1)
    assert buffer.lookup("map", "a", SECOND) is None
    assert buffer.latest("map", "a") is None
    assert buffer.lookup("a", "b", SECOND) is not None


def test_the_latest_time_is_that_of_the_slowest_link() -> None:
    buffer = robot()
    assert buffer.latest("map", "camera") == 3 * SECOND
    assert buffer.latest("odom", "camera") == round(3.5 * SECOND)
    assert (buffer.latest("base", "camera"), buffer.latest("map", "arm")) == (0, None)


REASONS = [
    ("map", "arm", 2.0, "nobody publishes a transform to or from 'arm'"),
    ("earth", "camera", 2.0, "nobody publishes a transform to or from 'earth'"),
    ("world", "camera", 2.0, "transform between 'world' and 'map', their roots"),
    ("map", "camera", 3.2, "the newest transform from 'odom' to 'map' is 0.20 s older"),
    ("odom", "camera", 3.75, "the newest transform from 'base' to 'odom' is 0.25 s older"),
    ("odom", "camera", 1.2, "the oldest transform from 'base' to 'odom' is younger"),
]


@pytest.mark.parametrize(("target", "source", "seconds", "text"), REASONS, ids=str)
def test_the_link_that_is_missing_is_named(
    target: str, source: str, seconds: float, text: str
) -> None:
    buffer = robot()
    add(buffer, "world", "robot_2", x=1.0, static=True)
    assert text in explain(buffer, target, source, round(seconds * SECOND))


def test_transforms_compose_invert_and_apply() -> None:
    first = Transform.of_quaternion((1.0, 2.0, 3.0), (0.5, 0.5, 0.5, 0.5))
    second = Transform.of_quaternion((-1.0, 0.0, 0.5), turn(30))
    points = np.array([[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]])
    both = (second @ first).apply(points)
    assert both == pytest.approx(second.apply(first.apply(points)), abs=1e-6)
    assert (second @ first).inverse().apply(both) == pytest.approx(points, abs=1e-6)
    assert second.quaternion == pytest.approx(turn(30))
