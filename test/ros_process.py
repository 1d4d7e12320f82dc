"""Processes of the tests with ROS 2: started, listened to, and ended with all that they started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import psutil

PATIENCE = 300.0
"""Seconds after which a test gives up: only a failure takes as long, on however slow a machine."""

ANSWER = "answer: "


UNDERTAKER = """
import os, signal, sys
sessions = set()
for line in sys.stdin:
    (sessions.add if line[0] == "+" else sessions.discard)(int(line[1:]))
for session in sessions:
    try:
        os.killpg(session, signal.SIGKILL)
    except ProcessLookupError:
        pass
"""
"""Kills the sessions that it was told of when the process that told it has ended, however it did."""


@cache
def _undertaker() -> TextIO:
    command = [sys.executable, "-c", UNDERTAKER]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdin is not None
    return process.stdin


def _tell_undertaker(line: str) -> None:
    print(line, file=_undertaker(), flush=True)


class Usage(NamedTuple):
    """What processes hold: resident bytes of their own, threads and file descriptors.

    Pages of files don't count: libraries come and go with the memory that others need.
    """

    memory: int
    threads: int
    files: int


class Process:
    """A process of its own session whose output is kept.

    Args:
        command: Program and arguments.
        env: Its environment.
        output: File for stdout and stderr.
    """

    def __init__(self, command: list[str], env: dict[str, str], output: Path) -> None:
        self._output = output
        with output.open("w") as file:
            self._process = subprocess.Popen(
                command,
                env=env,
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
                preexec_fn=_hear_interrupts,
            )
        _tell_undertaker(f"+{self._process.pid}")

    @property
    def pid(self) -> int:
        """Of its first process."""
        return self._process.pid

    @property
    def text(self) -> str:
        """What it wrote so far."""
        return self._output.read_text(errors="replace")

    @property
    def memory(self) -> int:
        """Resident bytes of its own and of the processes that it started."""
        return self.usage.memory

    @property
    def usage(self) -> Usage:
        """What it and the processes that it started hold, as /proc tells."""
        first = psutil.Process(self._process.pid)
        family = [first, *first.children(recursive=True)]
        return Usage(
            sum(memory.rss - memory.shared for memory in (p.memory_info() for p in family)),
            sum(process.num_threads() for process in family),
            sum(process.num_fds() for process in family),
        )

    def has_ended(self) -> bool:
        """Whether it ended, by itself or not."""
        return self._process.poll() is not None

    def wait_for(self, text: str, seconds: float = PATIENCE) -> None:
        """Waits until it wrote a text."""
        wait_until(lambda: text in self.text or self.has_ended(), self, seconds)
        assert text in self.text, f"it ended without {text!r}:\n{self.text}"

    def wait(self) -> int:
        """Exit code of a process that ends by itself."""
        return self._process.wait(PATIENCE)

    def write(self, line: str) -> None:
        """Hands it a line on its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def interrupt(self) -> None:
        """Presses Ctrl-C, which a terminal sends to the whole group."""
        if not self.has_ended():
            os.killpg(self._process.pid, signal.SIGINT)

    def send(self, number: int) -> None:
        """Sends a signal to its whole group."""
        os.killpg(self._process.pid, number)

    def freeze(self) -> None:
        """Stops it where it is: it neither works nor ends."""
        self.send(signal.SIGSTOP)

    def stop(self) -> int:
        """Presses Ctrl-C; returns the exit code."""
        self.interrupt()
        self._close_input()  # whoever waits for it may have missed the signal
        try:
            return self._process.wait(PATIENCE)
        finally:
            self.kill()

    def kill(self) -> None:
        """Ends whatever is left of its session."""
        self._close_input()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
        _tell_undertaker(f"-{self._process.pid}")

    def _close_input(self) -> None:
        if self._process.stdin:
            self._process.stdin.close()


class Robot:
    """test/ros_client.py as a process that does one task after the other.

    Args:
        process: It, freshly started.
    """

    def __init__(self, process: Process) -> None:
        self._process = process
        self._asked = 0

    def ask(self, task: str, **options: Any) -> Any:
        """Answer to a task, a function of test/ros_client.py."""
        self._process.write(json.dumps({"task": task, "options": options}))
        self._asked += 1
        wait_until(
            lambda: len(self._answers()) == self._asked or self._process.has_ended(), self._process
        )
        answer = json.loads(self._answers()[self._asked - 1])
        assert "error" not in answer, answer["error"]
        return answer["value"]

    def _answers(self) -> list[str]:
        lines = self._process.text.splitlines(keepends=True)
        whole = [line for line in lines if line.startswith(ANSWER) and line.endswith("\n")]
        return [line.removeprefix(ANSWER) for line in whole]


def _hear_interrupts() -> None:
    """A shell that starts the tests in its background has them ignore Ctrl-C, and all they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_until(condition: Callable[[], bool], process: Process, seconds: float = PATIENCE) -> None:
    """Waits for a condition; shows the process's output where it does not come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:g} s:\n{process.text}"
        time.sleep(0.02)
