"""Processes that end with the one that started them, and DDS domains for them to meet on."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from zgs_ros.dds.claim import claim_domain
from zgs_ros.files.ownership import open_log

DOMAINS = range(1, 100)
"""Domains whose ports lie below those that Linux gives out to others."""

STOP_SECONDS = 10.0
LOG_LINES = 15


@contextmanager
def running(command: Sequence[str], log: Path | None) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a command; interrupts it at the end, and kills it if that doesn't help.

    Args:
        command: Program and arguments.
        log: File for its output; None leaves it where this process's goes.
    """
    with ExitStack() as stack:
        output = stack.enter_context(open_log(log)) if log else None
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
            # A session of its own: Ctrl-C reaches this process alone, which ends the others in order.
            start_new_session=True,
            preexec_fn=dies_with_parent(),
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def end_of(log: Path) -> str:
    """The last lines of a log, under its name."""
    lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
    return "\n".join([f"the end of {log}:", *lines])


@contextmanager
def own_domain() -> Iterator[int]:
    """A DDS domain that nobody else on this machine uses, claimed for the length of the block.

    Raises:
        RuntimeError: If all `DOMAINS` are in use.
    """
    domain, claim = claim_domain(random.sample(DOMAINS, len(DOMAINS)))
    with claim:
        yield domain


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
