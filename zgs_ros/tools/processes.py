"""Processes that end with the one that started them, and DDS domains for them to meet on."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from zgs_ros.files.ownership import open_log

DOMAINS = range(1, 100)
"""Domains whose ports lie below those that Linux gives out to others."""

PARTICIPANTS = 8
"""Participants of a domain whose ports are looked at."""

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


def free_domain() -> int:
    """A domain that nobody on this machine seems to use."""
    domains = random.sample(DOMAINS, len(DOMAINS))
    return next((domain for domain in domains if not is_in_use(domain)), domains[0])


def is_in_use(domain: int) -> bool:
    """Whether participants of a DDS domain hold one of the first ports that they take there."""
    for participant in range(PARTICIPANTS):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trial:
            try:
                trial.bind(("", 7410 + 250 * domain + 2 * participant))
            except OSError:
                return True
    return False


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
