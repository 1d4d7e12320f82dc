"""``zgs bench --live``: a node's process over DDS on 127.0.0.1, as its subscribers see it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zgs_ros.config import NodeSettings, flatten
from zgs_ros.dds.network import Network
from zgs_ros.dds.node import DdsNode
from zgs_ros.streaming.port import QUEUED
from zgs_ros.tools.processes import dies_with_parent, end_of, own_domain, running

START_SECONDS = 300.0
"""For the first result: models are made, and engines exported."""
SETTLE_SECONDS = 3.0
"""After the first result, and after other processes began, that are not measured."""
POLL_SECONDS = 0.1
BUSY = "while True: pass"
MODULE = [sys.executable, "-m", "zgs_ros.cli.bench_processes"]


class LiveFailed(RuntimeError):
    """A process ended, or no result came; the message has the end of its log."""


@dataclass(frozen=True)
class Stretch:
    """Results over some time.

    Attributes:
        seconds: How long.
        images_per_second: Results that came, each of one image.
        p50_s: Median from an image's stamp to its result's arrival; None where none came.
        p99_s: 99th percentile of that.
        load: The machine's load average over the last minute, at the end.
    """

    seconds: float
    images_per_second: float
    p50_s: float | None
    p99_s: float | None
    load: float

    @classmethod
    def of(cls, latencies: list[float], seconds: float) -> Stretch:
        """Of the latencies [s] of results that came within so many seconds."""
        p50, p99 = np.percentile(latencies, (50, 99)).tolist() if latencies else (None, None)
        return cls(seconds, len(latencies) / seconds, p50, p99, os.getloadavg()[0])


@dataclass(frozen=True)
class LiveMeasurement:
    """A node alone with its camera, and beside processes that take all that they get.

    Attributes:
        camera_rate: Images per second that were published.
        alone: Nothing else ran.
        busy_processes: How many ran beside.
        beside: With them; None where there were none.
    """

    camera_rate: float
    alone: Stretch
    busy_processes: int
    beside: Stretch | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


class Results:
    """What a node publishes, as it comes.

    Args:
        node: Of the one that listens.
    """

    def __init__(self, node: DdsNode) -> None:
        self._lock = threading.Lock()
        self._latencies: list[float] = []
        node.create_subscription("/zgs/segments", "zgs_ros/msg/SegmentArray", self._take, QUEUED)

    def _take(self, message: Any) -> None:
        arrival = time.time_ns()
        stamp = message.header.stamp
        with self._lock:
            self._latencies.append((arrival - stamp.sec * 10**9 - stamp.nanosec) / 1e9)

    def take(self) -> list[float]:
        """Latencies [s] of the results since it was last asked."""
        with self._lock:
            taken, self._latencies = self._latencies, []
        return taken


def measure_live(
    settings: NodeSettings,
    segments: int,
    size: tuple[int, int],
    rate: float,
    seconds: float,
    busy_processes: int,
    say: Callable[[str], None] = lambda line: None,
) -> LiveMeasurement:
    """Measures a node.

    Args:
        settings: Of the node; labels come by retrieval, and nothing is written to disk.
        segments: That are given in every image; 0: as they are found.
        size: (width, height) of the images in pixels.
        rate: Images per second that the camera publishes.
        seconds: That are measured alone, and then beside others.
        busy_processes: Processes beside.
        say: Takes a line on what happens.

    Raises:
        LiveFailed: If a process ends, or no result comes in time.
        zgs_ros.dds.raw.DdsError: If there is no place on the network.
    """
    values = {**flatten(settings), "max_rate": rate, "classes.file": ""}
    with ExitStack() as stack:
        domain = stack.enter_context(own_domain())
        node = {"domain": domain, "settings": values, "segments": segments, "size": size}
        camera = {"domain": domain, "rate": rate, "size": size}
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        logs = {name: folder / f"{name}.log" for name in ("camera", "node")}
        network = Network(domain, loopback_only=True)
        results = Results(stack.enter_context(DdsNode("zgs_bench", network=network)))
        processes = {
            name: stack.enter_context(running([*MODULE, name, json.dumps(options)], logs[name]))
            for name, options in (("camera", camera), ("node", node))
        }

        def check() -> None:
            for name, process in processes.items():
                if process.poll() is not None:
                    raise LiveFailed(
                        f"the {name} ended with code {process.returncode}; {end_of(logs[name])}"
                    )

        def pass_time(duration: float) -> float:
            began = time.monotonic()
            while time.monotonic() < began + duration:
                check()
                time.sleep(POLL_SECONDS)
            return time.monotonic() - began

        def measure() -> Stretch:
            pass_time(SETTLE_SECONDS)
            results.take()
            spent = pass_time(seconds)
            return Stretch.of(results.take(), spent)

        say("starting the node")
        end = time.monotonic() + START_SECONDS
        while not results.take():
            check()
            if time.monotonic() > end:
                raise LiveFailed(f"no result within {START_SECONDS:g} s; {end_of(logs['node'])}")
            time.sleep(POLL_SECONDS)
        say("measuring it alone")
        alone = measure()
        beside = None
        if busy_processes:
            say(f"measuring it beside {busy_processes} busy processes")
            with _busy(busy_processes):
                beside = measure()
    return LiveMeasurement(rate, alone, busy_processes, beside)


@contextmanager
def _busy(count: int) -> Iterator[None]:
    """Processes that compute for nothing."""
    command = [sys.executable, "-c", BUSY]
    with ExitStack() as stack:
        for _ in range(count):
            process = subprocess.Popen(command, preexec_fn=dies_with_parent())
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield
