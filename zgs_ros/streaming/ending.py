"""The end of a process that must not wait for what is in work."""

from __future__ import annotations

import logging
import os
import threading

END_SECONDS = 3.0
"""After which a node that is told to end does so, whatever runs."""

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
