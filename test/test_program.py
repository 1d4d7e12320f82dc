"""The program `zgs` as a process: how signals end it, whenever they come."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from zgs_ros.tools.processes import dies_with_parent

ROOT = Path(__file__).parents[1]
Eventually = Callable[..., None]


@contextmanager
def zgs(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Runs the program."""
    with subprocess.Popen(
        [sys.executable, "-m", "zgs_ros", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=dies_with_parent(),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def run(script: str, stdout: Any = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    """Runs a script that uses the package."""
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""},
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=False,
        timeout=60,
        text=True,
    )


def catches(process: subprocess.Popen[str], number: int) -> bool:
    """Whether a process has a handler for a signal."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) & 1 << (number - 1))


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize(
    ("command", "number", "code"),
    [
        (["camera"], signal.SIGINT, 0),
        (["run", "--profile", "mini"], signal.SIGTERM, 0),
        (["label", "nowhere.png", "--out", "out"], signal.SIGINT, 130),
        (["models", "pull"], signal.SIGTERM, 143),
    ],
)
def test_a_signal_while_it_is_imported_ends_it_without_a_word(
    eventually: Eventually, command: list[str], number: int, code: int
) -> None:
    with zgs(*command) as process:
        # Python has no handler of its own for SIGTERM: this one is of the first lines of the program.
        eventually(lambda: catches(process, signal.SIGTERM), "the program begins", 60)
        process.send_signal(number)
        assert process.wait(30) == code
        assert process.stdout is not None
        assert process.stdout.read() == ""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_a_signal_at_any_time_ends_a_camera_well(eventually: Eventually, seed: int) -> None:
    from dds_support import DOMAIN

    after = random.Random(seed).uniform(0.0, 4.0)
    with zgs("camera", "--local", "--domain", str(DOMAIN), "--rate", "50") as process:
        eventually(lambda: catches(process, signal.SIGTERM), "the program begins", 60)
        time.sleep(after)
        for _ in range(2):  # as from the terminal and from `ros2 launch`
            process.send_signal(signal.SIGINT)
            time.sleep(0.01)
        text, _ = process.communicate(timeout=60)
    assert process.returncode == 0, text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    "where",
    [
        "os.kill(os.getpid(), 2)",
        "exec('os.kill(os.getpid(), 2)')",  # as in the making of a dataclass
        "type('A', (), {'a': type('B', (), {'__set_name__': lambda *_: os.kill(os.getpid(), 2)})()})",
    ],
)
def test_an_interruption_ends_a_command_well_wherever_it_comes(where: str) -> None:
    done = run(f"import os\nfrom zgs_ros.cli.options import command\nwith command():\n    {where}")
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_signal_after_an_error_does_not_hide_it() -> None:
    script = (
        "import atexit, os, signal, sys; sys.argv = ['zgs', 'camera']; import zgs_ros.cli as cli\n"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))\n"
        "def fail(**_): raise SystemExit(3)\n"
        "cli.app = fail\n"
        "from zgs_ros.__main__ import main\n"
        "main()"
    )
    assert run(script).returncode == 3


@pytest.mark.parametrize(("room", "code"), [(100, 0), (100, 4), (0, 120)])
def test_it_leaves_at_once_with_all_that_it_wrote(tmp_path: Path, room: int, code: int) -> None:
    """Whatever thread is still at work; and what could not be written is told as Python tells it."""
    script = (
        "import atexit, resource, threading, time\n"
        "from zgs_ros.streaming.ending import leave\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))\n"
        "threading.Thread(target=time.sleep, args=(100,)).start()\n"
        "print('first')\n"
        "atexit.register(print, 'last')\n"
        f"leave({code % 120})"
    )
    with (tmp_path / "out").open("w") as out:
        assert run(script, stdout=out).returncode == code
    assert (tmp_path / "out").read_text() == ("first\nlast\n" if room else "")
