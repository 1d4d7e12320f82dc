"""The clock that rates and latencies are measured on."""

from __future__ import annotations

import time
from typing import Protocol


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
