"""Processes that end with the one that started them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable


def dies_with_parent() -> Callable[[], None] | None:
    """What a new process does first, so that it is killed when this one is (Linux only).

    For ``preexec_fn`` of `subprocess.Popen`. It holds for the process itself, not for what that starts.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # here: between fork and exec nothing should be loaded
    parent = os.getpid()
    set_parent_death_signal = 1

    def prepare() -> None:
        prctl(set_parent_death_signal, signal.SIGKILL)
        if os.getppid() != parent:  # it died before that
            os._exit(1)

    return prepare
