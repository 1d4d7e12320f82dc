"""How long a new user waits for the first labels: `python benchmarks/first_label.py`.

The time runs from the start of the process to its first result, with the weights on the disk and no
vocabulary embedded before: importing, loading, the first phrases, and one picture of 640 x 480. Weights
are random and of the models' real size, for times don't depend on them; they are written to a folder once
and read as a user's own files are. Wall time, and CPU seconds of all threads, which a busy machine
changes less. The camera is in this process, so that it takes a little of the machine, too.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors.torch import save_file

from zgs_ros.bench.measuring import camera_frames
from zgs_ros.bench.models import random_clip, random_dino
from zgs_ros.config import SegmenterSettings, make_settings
from zgs_ros.dds.network import Network
from zgs_ros.dds.node import DdsNode
from zgs_ros.models.kinds import DEFAULT_TAG
from zgs_ros.models.loading import BUNDLED
from zgs_ros.streaming import messages
from zgs_ros.streaming.port import SENSOR, QosProfile
from zgs_ros.tools.processes import dies_with_parent

PHASES = {
    "imported": "loading the models",
    "loaded, first phrases embedded": "ready with",
}
"""Line of the node's log that ends a phase; the last phase ends with the first result."""
LAST = "first result"
RATE = 2.0

Moment = tuple[float, float]
"""Wall and CPU seconds since the process started."""


def write_weights(settings: SegmenterSettings, folder: Path) -> list[str]:
    """Writes random weights that are not there yet; returns the settings that name them."""
    folder.mkdir(parents=True, exist_ok=True)
    given = []
    for kind, make in (("dino", random_dino), ("clip", random_clip)):
        chosen: Any = getattr(settings, kind)
        if chosen.model in BUNDLED:
            continue
        path = folder / f"{chosen.model}.safetensors"
        if not path.exists():
            model: torch.nn.Module = make(chosen, torch.device("cpu"), torch.float32).model
            values = {name: value.contiguous() for name, value in model.state_dict().items()}
            save_file(values, path.with_suffix(".partial"))
            path.with_suffix(".partial").rename(path)
        given.append(f"{kind}.weights={path}")
        if kind == "clip":
            given.append(f"clip.pretrained={chosen.pretrained or DEFAULT_TAG}")
    return given


class Started:
    """A `zgs` command that runs without a vocabulary embedded before.

    Args:
        arguments: Of the command.
        cache: Its cache folder, which is empty.
    """

    def __init__(self, arguments: list[str], cache: Path) -> None:
        self._start = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "zgs_ros", *arguments],
            env={**os.environ, "XDG_CACHE_HOME": str(cache)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=dies_with_parent(),
        )
        self._usage = psutil.Process(self._process.pid)
        self.moments: dict[str, Moment] = {}
        self.ended = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def mark(self, phase: str) -> None:
        """Notes that a phase ended now."""
        times = self._usage.cpu_times()
        moment = time.monotonic() - self._start, times.user + times.system
        self.moments.setdefault(phase, moment)

    def stop(self) -> None:
        """Ends it."""
        self._process.terminate()
        self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            print(f"    {line.rstrip()}", file=sys.stderr)
            for phase, sign in PHASES.items():
                if sign in line:
                    with suppress(psutil.NoSuchProcess):
                        self.mark(phase)
        self.ended.set()


def run_node(arguments: list[str], domain: int, patience: float) -> dict[str, Moment]:
    """Starts `zgs run` in front of a camera and waits for its first result."""
    network = Network(domain=domain, loopback_only=True)
    picture = camera_frames(640, 480)[0][0]
    came = threading.Event()
    with tempfile.TemporaryDirectory() as cache, DdsNode("camera", network=network) as node:
        camera = node.create_publisher("/camera/image_raw", "sensor_msgs/msg/Image", SENSOR)
        command = ["run", "--local", "--domain", str(domain), *arguments]
        started = Started(command, Path(cache))

        def take(_: object) -> None:
            started.mark(LAST)
            came.set()

        node.create_subscription(
            "/zgs/segments", "zgs_ros/msg/SegmentArray", take, QosProfile(depth=1)
        )
        try:
            while not came.wait(1 / RATE):
                if started.ended.is_set() or time.monotonic() - started._start > patience:
                    raise SystemExit("no result came")
                if camera.subscription_count():
                    header = messages.header(node.types, time.time_ns(), "camera")
                    camera.publish(messages.rgb_image(node.types, header, picture))
        finally:
            started.stop()
    return started.moments


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", default="balanced")
    parser.add_argument("--weights", type=Path, default=Path("out/random_weights"))
    parser.add_argument("--domain", type=int, default=91)
    parser.add_argument("--patience", type=float, default=1800.0, help="seconds")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    settings = make_settings(SegmenterSettings, {"profile": options.profile})
    chosen = [*write_weights(settings, options.weights), *options.set]
    arguments = ["--profile", options.profile]
    arguments += [part for pair in chosen for part in ("--set", pair)]
    moments = run_node(arguments, options.domain, options.patience)
    print(
        f"{date.today()}, {options.profile}, {os.cpu_count()} CPUs, "
        f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', '')}, {platform.machine()}, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    before = (0.0, 0.0)
    for phase, moment in moments.items():
        wall, cpu = (now - then for now, then in zip(moment, before, strict=True))
        print(f"{phase:32} {moment[0]:7.1f} s (+{wall:.1f}), CPU {moment[1]:7.1f} s (+{cpu:.1f})")
        before = moment


if __name__ == "__main__":
    main()
