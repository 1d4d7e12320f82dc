"""Log lines that repeat with every frame, made bearable."""

from __future__ import annotations

import logging
import threading
import time

from zgs_ros.texts import bounded

LOG_PERIOD = 5.0
"""Seconds between two lines of the same kind."""


MAX_LINE = 2000
"""Characters of a line that are logged."""


class ThrottledLog:
    """Logs the first line of each kind at once, then at most one per period with how many were left out."""

    def __init__(self, logger: logging.Logger, period: float = LOG_PERIOD) -> None:
        self._logger = logger
        self._period = period
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def log(self, level: int, kind: str, text: str, *, exc_info: bool = False) -> None:
        """Logs a line unless its kind was logged within the period.

        Args:
            level: A level of the logging module.
            kind: What is throttled together; must come from a fixed set.
            text: The line.
            exc_info: Whether to add the traceback of the exception in handling.
        """
        now = time.monotonic()
        with self._lock:
            if now - self._last.get(kind, -self._period) < self._period:
                self._left_out[kind] = self._left_out.get(kind, 0) + 1
                return
            self._last[kind] = now
            left_out = self._left_out.pop(kind, 0)
        text = bounded(text, MAX_LINE)
        more = f" ({left_out} more since the last such line)" if left_out else ""
        self._logger.log(level, "%s%s", text, more, exc_info=exc_info)
