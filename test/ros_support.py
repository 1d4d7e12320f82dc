"""Real ROS 2 for the tests: where it is, this package built for it, and processes that use it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
CLIENT = Path(__file__).with_name("ros_client.py")
RMWS = ("rmw_cyclonedds_cpp", "rmw_fastrtps_cpp")
SOURCES = ("package.xml", "CMakeLists.txt", "msg", "srv", "scripts", "launch", "config", "zgs_ros")

NEEDED = "import rclpy, launch_ros, ros2cli, colcon_ros, catkin_pkg, em, lark"


@cache
def find_problem() -> str:
    """Why tests with ROS can't run here, "" if they can."""
    if not _is_sourced() and not _setup_file():
        return "no ROS 2 found: none is sourced, and there is no /opt/ros/*/setup.bash"
    command = [sys.executable, "-c", NEEDED]
    trial = subprocess.run(
        command, env=ros_environment(), capture_output=True, text=True, check=False
    )
    lines = trial.stderr.strip().splitlines()
    return f"{sys.executable} can't use ROS 2: {lines[-1]}" if trial.returncode and lines else ""


def ros_environment(workspace: Path | None = None, rmw: str = RMWS[0]) -> dict[str, str]:
    """Environment of a shell that sourced ROS and a workspace, kept to this machine."""
    setup = workspace / "install" / "setup.bash" if workspace else _setup_file()
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    logs = workspace / "ros_log" if workspace else Path("/tmp")
    return {
        **(os.environ if _is_sourced() and not workspace else _sourced(str(setup))),
        "RMW_IMPLEMENTATION": rmw,
        "ROS_DOMAIN_ID": str(71 + int(worker) % 5),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_LOG_DIR": str(logs),
        "RCUTILS_COLORIZED_OUTPUT": "0",
        "PYTHONUNBUFFERED": "1",
    }


def build_workspace(folder: Path) -> Path:
    """Builds this package with colcon where its sources changed; returns the folder.

    Args:
        folder: Where build and install spaces are kept from one run to the next.
    """
    folder.mkdir(parents=True, exist_ok=True)
    built = folder / "sources.sha256"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        digest = _digest()
        if not built.is_file() or built.read_text() != digest:
            shutil.rmtree(folder / "install", ignore_errors=True)
            command = [sys.executable, "-m", "colcon", "--log-base", "log", "build"]
            command += [
                "--paths",
                str(ROOT),
                "--cmake-args",
                f"-DPython3_EXECUTABLE={sys.executable}",
            ]
            subprocess.run(command, cwd=folder, env=ros_environment(), check=True, timeout=1800)
            built.write_text(digest)
    _sourced.cache_clear()
    return folder


class Process:
    """A process of its own session whose output is kept.

    Args:
        command: Program and arguments.
        env: Its environment.
        output: File for stdout and stderr.
    """

    def __init__(self, command: list[str], env: dict[str, str], output: Path) -> None:
        self._output = output
        self._process = subprocess.Popen(
            command,
            env=env,
            stdout=output.open("w"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def text(self) -> str:
        """What it wrote so far."""
        return self._output.read_text(errors="replace")

    @property
    def memory(self) -> int:
        """Resident bytes of it and the processes that it started."""
        family = psutil.Process(self._process.pid)
        return sum(p.memory_info().rss for p in [family, *family.children(recursive=True)])

    def wait_for(self, text: str, timeout: float = 180.0) -> None:
        """Waits until it wrote a text."""
        wait_until(lambda: text in self.text or self._process.poll() is not None, timeout, self)
        assert text in self.text, f"it ended without {text!r}:\n{self.text}"

    def wait(self, timeout: float = 180.0) -> int:
        """Exit code of a process that ends by itself."""
        return self._process.wait(timeout)

    def interrupt(self) -> None:
        """Presses Ctrl-C, which a terminal sends to the whole group."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGINT)

    def stop(self, timeout: float = 60.0) -> int:
        """Presses Ctrl-C; returns the exit code."""
        self.interrupt()
        try:
            return self._process.wait(timeout)
        finally:
            self.kill()

    def kill(self) -> None:
        """Ends whatever is left of its session."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self._process.wait(10)


class Ros:
    """A workspace under one middleware.

    Args:
        workspace: What `build_workspace` returned.
        rmw: Name of the middleware.
        folder: For the output of processes.
    """

    def __init__(self, workspace: Path, rmw: str, folder: Path) -> None:
        self.env = ros_environment(workspace, rmw)
        self._folder = folder
        self._started = 0

    @property
    def has_middleware(self) -> bool:
        """Whether the middleware is installed."""
        prefixes = self.env["AMENT_PREFIX_PATH"].split(":")
        name = self.env["RMW_IMPLEMENTATION"]
        return any((Path(prefix) / "share" / name).is_dir() for prefix in prefixes)

    def run(self, *command: str, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        """A command that ends by itself; its stderr goes to stdout."""
        return subprocess.run(
            command,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )

    def ros2(self, *arguments: str, timeout: float = 120.0) -> str:
        """Output of `ros2 ...`."""
        return self.run("ros2", *arguments, timeout=timeout).stdout

    def client(self, task: str, timeout: float = 180.0, **options: Any) -> Any:
        """Answer of a task of test/ros_client.py, which runs as a process of its own."""
        command = [sys.executable, str(CLIENT), task, json.dumps(options)]
        done = self.run(*command, timeout=timeout)
        assert done.returncode == 0, done.stdout
        return json.loads([line for line in done.stdout.splitlines() if line[:1] == "{"][-1])

    @contextmanager
    def process(self, *command: str) -> Iterator[Process]:
        """A process that is ended afterwards."""
        self._started += 1
        process = Process(list(command), self.env, self._folder / f"output_{self._started}.txt")
        try:
            yield process
        finally:
            process.stop()

    @contextmanager
    def launched(self, **arguments: str) -> Iterator[Process]:
        """`ros2 launch zgs_ros segment.launch.py` with arguments."""
        given = [f"{name}:={value}" for name, value in arguments.items()]
        with self.process("ros2", "launch", "zgs_ros", "segment.launch.py", *given) as process:
            yield process

    @contextmanager
    def camera(self, **options: Any) -> Iterator[Process]:
        """A camera that publishes until it is ended."""
        command = [sys.executable, str(CLIENT), "camera", json.dumps(options)]
        with self.process(*command) as process:
            yield process


def wait_until(condition: Callable[[], bool], timeout: float, process: Process) -> None:
    """Waits for a condition; shows the process's output where it does not come true."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"not within {timeout:g} s:\n{process.text}"
        time.sleep(0.1)


def _is_sourced() -> bool:
    return "AMENT_PREFIX_PATH" in os.environ


def _setup_file() -> Path | None:
    found = sorted(Path("/opt/ros").glob("*/setup.bash"))
    wanted = [path for path in found if path.parent.name == os.environ.get("ROS_DISTRO")]
    return next(reversed(wanted or found), None)


@cache
def _sourced(setup: str) -> dict[str, str]:
    script = f"source {setup} && env -0"
    inherited = {
        name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ
    }
    # The interpreter of the tests first, for `#!/usr/bin/env python3` of ROS's tools.
    inherited["PATH"] = f"{Path(sys.executable).parent}:{inherited['PATH']}"
    shown = subprocess.run(
        ["bash", "-c", script], env=inherited, capture_output=True, text=True, check=True
    ).stdout
    return dict(entry.split("=", 1) for entry in shown.split("\0") if "=" in entry)


def _digest() -> str:
    digest = hashlib.sha256(sys.executable.encode())
    for source in SOURCES:
        path = ROOT / source
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and file.suffix != ".pyc":
                digest.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
