"""The demo: a camera, the node and a viewer as three processes that only see each other."""

from __future__ import annotations

import logging
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from zgs_ros.dds.claim import claim_domain
from zgs_ros.files.ownership import open_log
from zgs_ros.tools.processes import dies_with_parent
from zgs_ros.tools.watch import NoResult

DOMAINS = range(1, 100)
"""Domains whose ports lie below those that Linux gives out to others."""

RESULT_TIMEOUT = 120.0
"""Seconds without a result, from when the node is up, after which the demo has failed."""

START_TIMEOUT = 300.0
"""Seconds for the node to come up: a cold start loads torch and the models."""

STOP_SECONDS = 10.0
CAMERA_RATE = 5.0
LOG_LINES = 15

COMMAND = [sys.executable, "-m", "zgs_ros"]
"""This program, from the same interpreter."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DemoOptions:
    """What the demo shows.

    Attributes:
        out: Folder for pictures, segments.jsonl and the processes' logs.
        frames: Result frames after which it ends, 0 = until it is interrupted.
        profile: Profile of the node.
        seed: Of the synthetic world.
    """

    out: Path = Path("out/demo")
    frames: int = 20
    profile: str = "mini"
    seed: int = 0


def run(options: DemoOptions) -> None:
    """Runs the three processes; however this one ends, they end too.

    Raises:
        NoResult: If the viewer got no result in time, or a process ended before.
        RuntimeError: If all `DOMAINS` are in use on this machine.
    """
    options.out.mkdir(parents=True, exist_ok=True)
    # Of its own, so that it shows its own camera.
    number, claim = claim_domain(random.sample(DOMAINS, len(DOMAINS)))
    domain = ["--local", "--domain", str(number)]
    camera = ["camera", *domain, "--rate", f"{CAMERA_RATE:g}", "--seed", str(options.seed)]
    node = ["run", *domain, "--profile", options.profile]
    watch = ["watch", *domain, "--out", str(options.out), "--frames", str(options.frames)]
    watch += ["--timeout", f"{RESULT_TIMEOUT:g}", "--node-timeout", f"{START_TIMEOUT:g}"]
    logger.info("starting a synthetic camera, the node (profile %s) and a viewer", options.profile)
    logger.info("their logs, pictures and segments.jsonl are in %s", options.out)
    if options.profile == "mini":
        logger.info("the bundled mini models only know this synthetic world")
    with claim, ExitStack() as stack:
        logs = {name: options.out / f"{name}.log" for name in ("camera", "node")}
        camera_process = stack.enter_context(_process(camera, logs["camera"]))
        node_process = stack.enter_context(_process(node, logs["node"]))
        viewer = stack.enter_context(_process(watch, None))
        helpers = {"camera": camera_process, "node": node_process}
        while viewer.poll() is None:
            for name, process in helpers.items():
                if process.poll() is not None:
                    raise NoResult(_explain(name, process.returncode, logs[name]))
            time.sleep(0.1)
        if viewer.returncode:
            raise NoResult(
                f"the viewer got no result (code {viewer.returncode}); {_tail(logs['node'])}"
            )
    logger.info("done: look at %s", options.out)


@contextmanager
def _process(arguments: Sequence[str], log: Path | None) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a command of this program; interrupts it at the end, and kills it if that doesn't help."""
    with ExitStack() as stack:
        output = stack.enter_context(open_log(log)) if log else None
        process = subprocess.Popen(
            [*COMMAND, *arguments],
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


def _explain(name: str, code: int, log: Path) -> str:
    return f"the {name} ended with code {code}; {_tail(log)}"


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
    return "\n".join([f"the end of {log}:", *lines])
