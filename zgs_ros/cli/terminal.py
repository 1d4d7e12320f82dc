"""What the commands that label share on the terminal."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape

from zgs_ros.texts import printable_lines

INTERRUPTED = 130
"""Exit code that a shell reports for a program that Ctrl-C ended."""


def plain(value: object) -> str:
    """Text for the console: file names may hold brackets (markup), undecodable bytes and what a
    terminal obeys."""
    encoding = sys.stderr.encoding or "utf-8"
    shown = printable_lines(str(value))
    return escape(shown.encode(encoding, "backslashreplace").decode(encoding))


class Interrupt:
    """Lets Ctrl-C wait for the image in work to be finished; a second Ctrl-C does not wait.

    Until `defer` is called, and in `at_once`, Ctrl-C works as ever.
    """

    def __init__(self, console: Console) -> None:
        self.came = False
        self._console = console
        self._previous: Any = signal.getsignal(signal.SIGINT)

    def __enter__(self) -> Interrupt:
        return self

    def defer(self) -> None:
        """From now on Ctrl-C sets `came`."""
        signal.signal(signal.SIGINT, self._on_signal)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """For what takes long and leaves nothing half done, such as loading models."""
        signal.signal(signal.SIGINT, self._previous)
        yield
        self.defer()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        signal.signal(signal.SIGINT, self._previous)
        self._console.print("Stopping after this image; press Ctrl-C again to stop at once.")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        signal.signal(signal.SIGINT, self._previous)
