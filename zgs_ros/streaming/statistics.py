"""What became of every frame, and how long it took."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

WINDOW = 256
"""Results that latency and stage times are computed from."""

RATE_WINDOW = 10.0
"""Seconds over which the rate of results is counted."""

MAX_RESULTS = 4096
"""Results whose times are remembered for it."""


class Dropped(str, Enum):
    """Why a good frame was not processed."""

    NEWER = "newer frame came"
    IDLE = "nobody subscribed"
    DISABLED = "disabled"
    STOPPED = "stopped"


class Rejected(str, Enum):
    """Why a frame gave no result."""

    BAD_IMAGE = "bad image"
    INFERENCE = "inference error"
    PUBLISH = "publish error"


@dataclass(frozen=True)
class Latency:
    """Seconds from an image's stamp to its published result."""

    p50: float
    p95: float


@dataclass(frozen=True)
class CameraSnapshot:
    """One camera at one moment.

    Attributes:
        received: Frames that came in.
        processed: Frames whose result was published.
        rate: Results per second over the last seconds.
        seconds_since_frame: Age of its latest frame.
        seconds_since_result: Age of its latest result, None if there was none.
    """

    received: int
    processed: int
    rate: float
    seconds_since_frame: float
    seconds_since_result: float | None


@dataclass(frozen=True)
class Snapshot:
    """The statistics at one moment.

    ``received == processed + sum(dropped) + sum(rejected) + pending`` holds in every snapshot.

    Attributes:
        received: Frames that came in.
        processed: Frames whose result was published.
        dropped: Frames by `Dropped` reason.
        rejected: Frames by `Rejected` reason.
        pending: Frames that wait or are in work: at most one of each per camera.
        rate: Results per second over the last seconds.
        latency: None while no frame carried a stamp that fits the clock.
        stage_times: Median seconds per stage of a frame, in pipeline order.
        segments: Number of segments in the latest result.
        last_error: Text of the latest rejection, "" if there was none.
        seconds_since_frame: Age of the latest frame, None if none came yet.
        seconds_since_error: Age of the latest rejection, None if there was none.
        seconds_since_result: Age of the latest result, None if there was none.
        work: What the stream is busy with, "" if nothing.
        seconds_in_work: For how long it has been.
        cameras: By name, those that sent a frame.
    """

    received: int = 0
    processed: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    rejected: Mapping[str, int] = field(default_factory=dict)
    pending: int = 0
    rate: float = 0.0
    latency: Latency | None = None
    stage_times: Mapping[str, float] = field(default_factory=dict)
    segments: int = 0
    last_error: str = ""
    seconds_since_frame: float | None = None
    seconds_since_error: float | None = None
    seconds_since_result: float | None = None
    work: str = ""
    seconds_in_work: float = 0.0
    cameras: Mapping[str, CameraSnapshot] = field(default_factory=dict)

    @property
    def drops(self) -> int:
        """All dropped frames."""
        return sum(self.dropped.values())

    @property
    def rejections(self) -> int:
        """All rejected frames."""
        return sum(self.rejected.values())


@dataclass
class _Camera:
    received: int = 0
    processed: int = 0
    last_frame: float = 0.0
    results: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_RESULTS))


class Statistics:
    """Counts frames and times; every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._received = 0
        self._processed = 0
        self._dropped: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()
        self._latencies: deque[float] = deque(maxlen=WINDOW)
        self._results: deque[float] = deque(maxlen=MAX_RESULTS)
        self._cameras: dict[str, _Camera] = {}
        self._stages: dict[str, deque[float]] = {}
        self._segments = 0
        self._last_error = ""
        self._last_frame: float | None = None
        self._last_rejection: float | None = None
        self._work: tuple[str, float] = ("", 0.0)

    @contextmanager
    def working(self, work: str) -> Iterator[None]:
        """Tells what the stream is busy with in the block, so that one sees where it is stuck."""
        self._work = (work, time.monotonic())
        try:
            yield
        finally:
            self._work = ("", 0.0)

    def receive(self, camera: str) -> None:
        """Counts a camera's frame that came in."""
        with self._lock:
            self._received += 1
            self._last_frame = time.monotonic()
            mine = self._cameras.setdefault(camera, _Camera())
            mine.received += 1
            mine.last_frame = self._last_frame

    def drop(self, reason: Dropped) -> None:
        """Counts a received frame that is left out."""
        with self._lock:
            self._dropped[reason.value] += 1

    def reject(self, reason: Rejected, error: str) -> None:
        """Counts a received frame that gave no result, and keeps the error's text."""
        with self._lock:
            self._rejected[reason.value] += 1
            self._last_error = error
            self._last_rejection = time.monotonic()

    def process(
        self,
        camera: str,
        segments: int,
        stage_times: Mapping[str, float],
        latency: float | None,
    ) -> None:
        """Counts a received frame whose result was published.

        Args:
            camera: Whose frame it was.
            segments: Number of segments in the result.
            stage_times: Seconds per stage, in pipeline order.
            latency: Seconds from the image's stamp to the published result, None if unknown.
        """
        with self._lock:
            self._processed += 1
            self._segments = segments
            self._results.append(time.monotonic())
            mine = self._cameras.setdefault(camera, _Camera())
            mine.processed += 1
            mine.results.append(self._results[-1])
            if latency is not None:
                self._latencies.append(latency)
            for stage, seconds in stage_times.items():
                self._stages.setdefault(stage, deque(maxlen=WINDOW)).append(seconds)

    def snapshot(self) -> Snapshot:
        """Everything at this moment, consistent in itself."""
        with self._lock:
            now = time.monotonic()
            left = self._received - self._processed
            left -= sum(self._dropped.values()) + sum(self._rejected.values())
            work, began = self._work
            return Snapshot(
                received=self._received,
                processed=self._processed,
                dropped=dict(self._dropped),
                rejected=dict(self._rejected),
                pending=left,
                rate=_rate(self._results, now),
                latency=self._latency(),
                stage_times={name: float(np.median(times)) for name, times in self._stages.items()},
                segments=self._segments,
                last_error=self._last_error,
                seconds_since_frame=None if self._last_frame is None else now - self._last_frame,
                seconds_since_error=None
                if self._last_rejection is None
                else now - self._last_rejection,
                seconds_since_result=_age(self._results, now),
                work=work,
                seconds_in_work=now - began if work else 0.0,
                cameras={name: _snapshot(mine, now) for name, mine in self._cameras.items()},
            )

    def _latency(self) -> Latency | None:
        if not self._latencies:
            return None
        times: NDArray[np.float64] = np.percentile(list(self._latencies), (50, 95))
        return Latency(float(times[0]), float(times[1]))


def _snapshot(camera: _Camera, now: float) -> CameraSnapshot:
    return CameraSnapshot(
        camera.received,
        camera.processed,
        _rate(camera.results, now),
        now - camera.last_frame,
        _age(camera.results, now),
    )


def _age(moments: Sequence[float], now: float) -> float | None:
    return now - moments[-1] if moments else None


def _rate(moments: Sequence[float], now: float) -> float:
    recent = [moment for moment in moments if now - moment <= RATE_WINDOW]
    # From the first of them on: right also while the window is not yet full.
    return (len(recent) - 1) / (recent[-1] - recent[0]) if len(recent) > 1 else 0.0
