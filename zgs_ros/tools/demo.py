"""The demo: a camera, the node and a viewer as three processes that only see each other."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from zgs_ros.tools.processes import end_of, own_domain, running
from zgs_ros.tools.watch import NoResult

RESULT_TIMEOUT = 120.0
"""Seconds without a result, from when the node is up, after which the demo has failed."""

START_TIMEOUT = 300.0
"""Seconds for the node to come up: a cold start loads torch and the models."""

CAMERA_RATE = 5.0

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
        RuntimeError: If no DDS domain is free on this machine.
    """
    options.out.mkdir(parents=True, exist_ok=True)
    logger.info("starting a synthetic camera, the node (profile %s) and a viewer", options.profile)
    logger.info("their logs, pictures and segments.jsonl are in %s", options.out)
    if options.profile == "mini":
        logger.info("the bundled mini models only know this synthetic world")
    with own_domain() as number, ExitStack() as stack:
        domain = ["--local", "--domain", str(number)]  # of its own, so that it shows its own camera
        camera = ["camera", *domain, "--rate", f"{CAMERA_RATE:g}", "--seed", str(options.seed)]
        node = ["run", *domain, "--profile", options.profile]
        watch = ["watch", *domain, "--out", str(options.out), "--frames", str(options.frames)]
        watch += ["--timeout", f"{RESULT_TIMEOUT:g}", "--node-timeout", f"{START_TIMEOUT:g}"]
        logs = {name: options.out / f"{name}.log" for name in ("camera", "node")}
        camera_process = stack.enter_context(running([*COMMAND, *camera], logs["camera"]))
        node_process = stack.enter_context(running([*COMMAND, *node], logs["node"]))
        viewer = stack.enter_context(running([*COMMAND, *watch], None))
        helpers = {"camera": camera_process, "node": node_process}
        while viewer.poll() is None:
            for name, process in helpers.items():
                if process.poll() is not None:
                    raise NoResult(_explain(name, process.returncode, logs[name]))
            time.sleep(0.1)
        if viewer.returncode:
            raise NoResult(
                f"the viewer got no result (code {viewer.returncode}); {end_of(logs['node'])}"
            )
    logger.info("done: look at %s", options.out)


def _explain(name: str, code: int, log: Path) -> str:
    return f"the {name} ended with code {code}; {end_of(log)}"
