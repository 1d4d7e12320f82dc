"""A network that vanishes for a while: camera and node find each other again."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from given import Chaos
from ros_process import Process

DOMAIN = 39
"""Its machines are alone in their network."""


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@contextmanager
def two_machines() -> Iterator[tuple[str, str]]:
    """Names of two network namespaces with a wire between them."""
    names = tuple(f"zgs_{os.getpid()}_{letter}" for letter in "ab")
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", names[0], "type", "veth", "peer", "name", names[1])
        for number, name in enumerate(names, 1):
            ip("link", "set", name, "netns", name)
            ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", name)
            for device in (name, "lo"):
                ip("-n", name, "link", "set", device, "up")
        yield names
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", "") or str(error)
        pytest.skip(f"no network namespaces can be made: {reason.strip()}")
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def results(watch: Process) -> int:
    """How many results `zgs watch` has shown."""
    return len(re.findall(r"segments", watch.text))


def test_a_network_that_vanishes_and_comes_back_costs_what_was_sent_meanwhile(
    chaos: Chaos, tmp_path: Path
) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
        "ROS_LOCALHOST_ONLY": "0",
    }
    with ExitStack() as stack:
        here, there = stack.enter_context(two_machines())

        def run(machine: str, *command: str) -> Process:
            zgs = [sys.executable, "-m", "zgs_ros", *command, "--domain", str(DOMAIN)]
            output = tmp_path / f"{command[0]}.txt"
            process = Process(["ip", "netns", "exec", machine, *zgs], environment, output)
            stack.callback(process.kill)
            return process

        node = run(here, "run", "--profile", "mini", "--max-rate", "5")
        run(there, "camera", "synthetic", "--size", "320x240", "--rate", "5")
        watch = run(there, "watch", "--timeout", "0", "--node-timeout", "0")

        def wait_for_results() -> float:
            before, began = results(watch), time.monotonic()
            while results(watch) < before + 3:
                assert not node.has_ended(), node.text
                assert time.monotonic() - began < 180, f"no results:\n{node.text}\n{watch.text}"
                time.sleep(0.05)
            return time.monotonic() - began

        wait_for_results()
        began, longest, rounds = time.monotonic(), 0.0, 0
        while not rounds or time.monotonic() - began < 20 * chaos.minutes:
            ip("-n", there, "link", "set", there, "down")
            time.sleep(chaos.random.choice((1.0, 5.0, 15.0, 30.0)))
            ip("-n", there, "link", "set", there, "up")
            longest = max(longest, wait_for_results())
            rounds += 1
        assert "Traceback" not in node.text, node.text
        began = time.monotonic()
        node.interrupt()
        assert node.wait() == 0
        ended = time.monotonic() - began
    chaos.tell(rounds=rounds, recovered_within=f"{longest:.1f} s", ended_within=f"{ended:.1f} s")
