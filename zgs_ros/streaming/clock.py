"""The clock that rates and latencies are measured on."""

from __future__ import annotations

import logging
import time
from typing import Any, Protocol

from zgs_ros.streaming.throttle import ThrottledLog

logger = logging.getLogger(__name__)


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
        self._log = ThrottledLog(logger)

    def offer(self, message: Any) -> None:
        """Takes in a rosgraph_msgs/Clock; one that tells no time is left out."""
        sec, nanosec = int(message.clock.sec), int(message.clock.nanosec)
        if 0 <= sec < 2**31 and 0 <= nanosec < 1_000_000_000:
            self._now_ns = sec * 1_000_000_000 + nanosec
        else:
            text = f"/clock: {sec} s and {nanosec} ns are no time (allowed: 0 .. 2147483647 s, below 1 s)"
            self._log.log(logging.WARNING, "time", text)

    def now_ns(self) -> int:
        """Nanoseconds, as last told."""
        return self._now_ns
