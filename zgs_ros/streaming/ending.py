"""The end of a process that must not wait for what is in work."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from typing import NoReturn

END_SECONDS = 2.0
"""After which a node that is told to end gives up what runs: it is promised to be gone within 3 seconds,
and a loaded machine lets the signal, this timer and the end itself wait."""

logger = logging.getLogger(__name__)


def end_within(seconds: float) -> threading.Timer:
    """Ends the process after this long, even where a thread is in the middle of something.

    Returns:
        What is cancelled where the process is to go on after all.
    """

    def end() -> None:
        logger.warning("what is still in work after %g s is given up", seconds)
        logging.shutdown()
        os._exit(0)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    return timer


def leave(code: int) -> NoReturn:
    """Ends the process, with what was registered for its end done and what was written handed over.

    Python itself would first take apart all that was imported, which with the libraries of the models
    takes a second of CPU time, and many on a loaded machine.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or 120  # as Python has it
    os._exit(code)
