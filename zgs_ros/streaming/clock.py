"""The clock that rates and latencies are measured on."""

from __future__ import annotations

import time
from typing import Any, Protocol


class Clock(Protocol):
    """A source of time; it may stand still and jump in both directions, as simulated time does."""

    def now_ns(self) -> int:
        """The time that image stamps are on, in nanoseconds."""
        ...


class SystemClock:
    """The machine's wall clock, which cameras stamp their images with."""

    def now_ns(self) -> int:
        """Nanoseconds since the epoch."""
        return time.time_ns()


class SimulatedClock:
    """The time that a simulation or a bag that is played tells; 0 until it did."""

    def __init__(self) -> None:
        self._now_ns = 0

    def offer(self, message: Any) -> None:
        """Takes in a rosgraph_msgs/Clock."""
        self._now_ns = int(message.clock.sec) * 1_000_000_000 + int(message.clock.nanosec)

    def now_ns(self) -> int:
        """Nanoseconds, as last told."""
        return self._now_ns
