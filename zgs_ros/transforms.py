"""Where frames are in each other, and when: what tf2 does, for machines without ROS.

A transform is named by its parent and its child frame, as in geometry_msgs/TransformStamped. It takes
coordinates in the child to coordinates in the parent.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

CACHE_SECONDS = 10.0
"""For which transforms are kept, counted back from the newest of the same child frame; as in tf2."""

MAX_SAMPLES = 200_000
"""Transforms that are kept at most; frames share them evenly."""


@dataclass(frozen=True, eq=False)
class Transform:
    """From the coordinates of one frame to those of another.

    Attributes:
        rotation: float64 (3, 3).
        translation: float64 (3,) in metres: the source's origin in the target.
    """

    rotation: NDArray[np.float64]
    translation: NDArray[np.float64]

    @classmethod
    def identity(cls) -> Transform:
        """From a frame to itself."""
        return cls(np.eye(3), np.zeros(3))

    @classmethod
    def of(cls, matrix: NDArray[np.float64]) -> Transform:
        """Of a homogeneous matrix (4, 4)."""
        return cls(matrix[:3, :3], matrix[:3, 3])

    @classmethod
    def of_quaternion(
        cls, translation: tuple[float, ...], quaternion: tuple[float, ...]
    ) -> Transform:
        """Of a translation [m], and a quaternion (x, y, z, w)."""
        rotation = Rotation.from_quat(quaternion).as_matrix()
        return cls(rotation, np.array(translation, np.float64))

    def __matmul__(self, inner: Transform) -> Transform:
        """The transform that does `inner` first and this one afterwards."""
        return Transform(
            self.rotation @ inner.rotation, self.rotation @ inner.translation + self.translation
        )

    @property
    def quaternion(self) -> tuple[float, ...]:
        """The rotation as (x, y, z, w), unit norm."""
        return tuple(Rotation.from_matrix(self.rotation).as_quat().tolist())

    def inverse(self) -> Transform:
        """From the target's coordinates to the source's."""
        back = self.rotation.T
        return Transform(back, -(back @ self.translation))

    def apply(self, points: NDArray[np.floating]) -> NDArray[np.float32]:
        """Points (..., 3) in the target's coordinates, float32 (..., 3)."""
        return np.asarray(points @ self.rotation.T + self.translation, np.float32)


class Sample(NamedTuple):
    """Where a frame is at one time.

    Attributes:
        stamp: Time [ns].
        parent: The frame that it is in.
        translation: (x, y, z) in metres.
        quaternion: (x, y, z, w), unit norm.
    """

    stamp: int
    parent: str
    translation: tuple[float, float, float]
    quaternion: tuple[float, float, float, float]


class TransformStore(Protocol):
    """What keeps transforms: `TransformBuffer`, or tf2."""

    def add(self, child: str, sample: Sample, static: bool) -> None:
        """Takes in where a frame is, at one time or for good."""
        ...

    def lookup(self, target: str, source: str, stamp: int) -> Transform | None:
        """From a source frame to a target frame at a time [ns], None where that is not known.

        Time 0 is the latest at which it is known.
        """
        ...

    def latest(self, target: str, source: str) -> int | None:
        """The newest time [ns] at which all between two frames is known, 0 where that is so for good,
        None where they are not connected."""
        ...

    def parents(self) -> Mapping[str, str]:
        """The newest parent of every frame that has one."""
        ...

    def clear(self) -> None:
        """Forgets all that is not for good: time has begun again."""
        ...


class TransformBuffer:
    """A `TransformStore` that gives what tf2's buffer gives (geometry2, ``BufferCore``).

    Between two times translations are interpolated linearly and rotations by slerp; nothing is
    extrapolated. Not safe for threads.
    """

    def __init__(self) -> None:
        self._moving: dict[str, deque[Sample]] = {}
        self._static: dict[str, Sample] = {}

    def add(self, child: str, sample: Sample, static: bool = False) -> None:
        """Takes in where a frame is; what is older than `CACHE_SECONDS` is left out, as is a repetition."""
        if static:
            self._moving.pop(child, None)
            self._static[child] = sample
            return
        self._static.pop(child, None)
        kept = self._moving.setdefault(child, deque())
        if kept:
            oldest = kept[-1].stamp - round(CACHE_SECONDS * 1e9)
            while kept[0].stamp < oldest:  # before the new one comes, as in tf2
                kept.popleft()
            if sample.stamp < oldest:
                return
        if not kept or sample.stamp > kept[-1].stamp:
            kept.append(sample)
        else:
            first = bisect_left(kept, sample.stamp, key=_stamp_of)
            behind = bisect_right(kept, sample.stamp, key=_stamp_of)
            if sample not in itertools.islice(kept, first, behind):
                kept.insert(behind, sample)
        room = max(2, MAX_SAMPLES // len(self._moving))
        while len(kept) > room:
            kept.popleft()

    def lookup(self, target: str, source: str, stamp: int) -> Transform | None:
        """See `TransformStore`."""
        if stamp == 0:
            newest = self.latest(target, source)
            if newest is None:
                return None
            stamp = newest
        above: dict[str, Transform] = {source: Transform.identity()}
        reached = above[source]
        for parent, link in self._links(source, stamp):
            reached = link @ reached
            if parent in above:
                break  # a loop
            above[parent] = reached
        down, passed = Transform.identity(), {target}
        if target in above:
            return above[target]
        for parent, link in self._links(target, stamp):
            down = link @ down
            if parent in above:
                return down.inverse() @ above[parent]
            if parent in passed:
                break
            passed.add(parent)
        return None

    def latest(self, target: str, source: str) -> int | None:
        """See `TransformStore`."""
        links = connection(self.parents(), target, source)
        if links is None:
            return None
        newest = [self._moving[child][-1].stamp for child in links if child in self._moving]
        return min(newest, default=0)

    def parents(self) -> dict[str, str]:
        """See `TransformStore`."""
        newest = {child: kept[-1] for child, kept in self._moving.items()}
        return {child: sample.parent for child, sample in {**self._static, **newest}.items()}

    def clear(self) -> None:
        """See `TransformStore`."""
        self._moving.clear()

    def _links(self, frame: str, stamp: int) -> Iterator[tuple[str, Transform]]:
        """The frames above one, each with the transform to it from the one below."""
        while (sample := self._at(frame, stamp)) is not None:
            frame = sample.parent
            yield frame, Transform.of_quaternion(sample.translation, sample.quaternion)

    def _at(self, frame: str, stamp: int) -> Sample | None:
        """Where a frame is at a time, None where that is not known."""
        if frame in self._static:
            return self._static[frame]
        kept = self._moving.get(frame)
        if not kept or not kept[0].stamp <= stamp <= kept[-1].stamp:
            return None
        for end in (kept[-1], kept[0]):
            if end.stamp == stamp:
                return end
        place = bisect_right(kept, stamp, key=_stamp_of)
        before, after = kept[place - 1], kept[place]
        return between(before, after, stamp) if before.parent == after.parent else before


def _stamp_of(sample: Sample) -> int:
    return sample.stamp


def between(before: Sample, after: Sample, stamp: int) -> Sample:
    """Where a frame is between two times at which it is known, both in the same parent."""
    share = (stamp - before.stamp) / (after.stamp - before.stamp)
    start, end = np.array(before.translation), np.array(after.translation)
    turns = Rotation.from_quat([before.quaternion, after.quaternion])
    translation = tuple(((1 - share) * start + share * end).tolist())
    return Sample(stamp, before.parent, translation, tuple(Slerp((0, 1), turns)(share).as_quat()))


def connection(parents: Mapping[str, str], target: str, source: str) -> list[str] | None:
    """The frames whose links to their parents lead from one frame to another, None if none do."""
    up, down = chain(parents, source), chain(parents, target)
    for number, frame in enumerate(up):
        if frame in down:
            return [*up[:number], *down[: down.index(frame)]]
    return None


def chain(parents: Mapping[str, str], frame: str) -> list[str]:
    """A frame and all above it, up to its root; of a loop each frame once."""
    found = {frame: None}
    while frame in parents and parents[frame] not in found:
        frame = parents[frame]
        found[frame] = None
    return list(found)


def explain(store: TransformStore, target: str, source: str, stamp: int) -> str:
    """Why a transform is not known: which link of the chain between two frames is missing.

    Args:
        store: What was asked.
        target: Frame that was wanted.
        source: Frame that is to be transformed.
        stamp: Time that was asked for [ns].
    """
    parents = store.parents()
    known = {*parents, *parents.values()}
    for frame in (source, target):
        if frame not in known:
            return f"nobody publishes a transform to or from {frame!r}"
    links = connection(parents, target, source)
    if links is None:
        return (
            f"{target!r} and {source!r} are in two trees: nobody publishes a transform between "
            f"{' and '.join(repr(chain(parents, frame)[-1]) for frame in (target, source))}, "
            "their roots"
        )
    for child in links:
        parent = parents[child]
        newest = store.latest(parent, child)
        if newest and stamp > newest:
            return (
                f"the newest transform from {child!r} to {parent!r} is "
                f"{(stamp - newest) * 1e-9:.2f} s older than the image"
            )
        if store.lookup(parent, child, stamp) is None:
            return f"the oldest transform from {child!r} to {parent!r} is younger than the image"
    return f"the transform from {source!r} to {target!r} has come just now"
