"""What the commands share: log lines, and an orderly end."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console
from rich.logging import RichHandler

from zgs_ros.streaming.ending import end_within
from zgs_ros.texts import printable_lines

SAME_SECONDS = 1.0
"""Signals within this time are one wish."""


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


class _Interruption(KeyboardInterrupt):
    """Unlike what it derives from, Python does not end a process by SIGINT because code in a text
    (a dataclass is made from one) was left by it."""


class _Printable(logging.Formatter):
    """Lines in which texts from outside do nothing to the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return printable_lines(super().format(record))


@contextmanager
def until_interrupted(within: float | None = None) -> Iterator[None]:
    """Runs the body until it ends or SIGINT or SIGTERM comes, which end it as if it had returned.

    The body's ``finally`` blocks and context managers run; a second signal ends the process at once,
    unless it comes so soon that it is the same one: `ros2 launch` may send it again.

    Args:
        within: Seconds after the signal in which the process ends, whatever is still at work then.
    """

    def interrupt(number: int, _: FrameType | None) -> None:
        came = time.monotonic()

        def insist(number: int, _: FrameType | None) -> None:
            if time.monotonic() - came > SAME_SECONDS:
                os._exit(128 + number)

        for name in handlers:
            signal.signal(name, insist)
        if within is not None:
            timers.append(end_within(within))
        raise _Interruption

    timers: list[threading.Timer] = []
    handlers = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        for name in handlers:
            signal.signal(name, interrupt)
        yield
    except BaseException as error:
        if not _is_interruption(error):
            raise
    finally:
        for timer in timers:
            timer.cancel()
        for name, handler in handlers.items():
            signal.signal(name, handler)


def _is_interruption(error: BaseException | None) -> bool:
    """Whether an error is an interruption, or what a library made of one."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False
