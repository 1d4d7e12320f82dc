"""What the commands share: log lines, and an orderly end."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console
from rich.logging import RichHandler

from zgs_ros.streaming.ending import end_within
from zgs_ros.texts import printable_lines


def configure_logging() -> None:
    """Sends log lines to stderr: coloured for a person, plain and unwrapped for a file or pipe."""
    handler: logging.Handler
    if sys.stderr.isatty():
        handler = RichHandler(
            console=Console(stderr=True), show_path=False, omit_repeated_times=False, markup=False
        )
        handler.setFormatter(_Printable("%(message)s", datefmt="%H:%M:%S"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(
            _Printable("%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S")
        )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("zgs_ros").setLevel(logging.INFO)


class _Printable(logging.Formatter):
    """Lines in which texts from outside do nothing to the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return printable_lines(super().format(record))


@contextmanager
def until_interrupted(within: float | None = None) -> Iterator[None]:
    """Runs the body until it ends or SIGINT or SIGTERM comes, which end it as if it had returned.

    The body's ``finally`` blocks and context managers run; a second signal ends the process at once.

    Args:
        within: Seconds after the signal in which the process ends, whatever is still at work then.
    """

    def interrupt(number: int, _: FrameType | None) -> None:
        for name in handlers:
            signal.signal(name, lambda number, _: os._exit(128 + number))
        if within is not None:
            timers.append(end_within(within))
        raise KeyboardInterrupt

    timers: list[threading.Timer] = []
    handlers = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}
    for name in handlers:
        signal.signal(name, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        for timer in timers:
            timer.cancel()
        for name, handler in handlers.items():
            signal.signal(name, handler)
