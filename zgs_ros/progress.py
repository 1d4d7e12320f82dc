"""What takes long at the moment: for log lines, and for whoever asks `current`, from any thread."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

LOG_SECONDS = 10.0
"""Time between log lines; what is done sooner is not worth one."""

logger = logging.getLogger(__name__)
_running: list[Activity] = []
_lock = threading.Lock()


class Activity:
    """Something of which a known amount is to be done.

    Args:
        what: For example ``"embedding the vocabulary"``.
        total: Amount that will be done.
        unit: What is counted; amounts are whole numbers of it.
        done: Amount that was done before.

    Attributes:
        what: As given.
        done: Amount that is done.
        total: As given.
    """

    def __init__(self, what: str, total: int, unit: str, done: int = 0) -> None:
        self.what, self.total, self.done = what, total, done
        self._unit = unit
        self._before = done
        self._start = self._logged = time.monotonic()

    def report(self, done: int) -> None:
        """Says how much is done by now."""
        self.done = done
        now = time.monotonic()
        if now - self._logged >= LOG_SECONDS:
            self._logged = now
            logger.info("%s", self)

    @property
    def seconds_left(self) -> float | None:
        """At the pace so far; None while there is none."""
        done = self.done - self._before
        if done <= 0:
            return None
        return (time.monotonic() - self._start) / done * max(0, self.total - self.done)

    def __str__(self) -> str:
        left = self.seconds_left
        rest = "" if left is None else f", {_duration(left)} left"
        return f"{self.what}: {self.done:,} of {self.total:,} {self._unit}{rest}"


@contextmanager
def activity(what: str, total: int, unit: str, done: int = 0) -> Iterator[Activity]:
    """Shows an activity in `current` while the body runs; for the arguments see `Activity`."""
    running = Activity(what, total, unit, done)
    with _lock:
        _running.append(running)
    try:
        yield running
    finally:
        with _lock:
            _running.remove(running)


def current() -> str:
    """One line on what runs, such as ``embedding the vocabulary: 512 of 6,031 phrases, 40 s left``.

    Returns:
        "" while nothing does; of several activities the one that began last.
    """
    with _lock:
        return str(_running[-1]) if _running else ""


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
