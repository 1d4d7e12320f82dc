"""Real ROS 2 for the tests: where it is, this package built for it, and nodes and tools at work."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from ros_process import PATIENCE, Process, Robot

from zgs_ros.dds.claim import claim_domain

ROOT = Path(__file__).parents[1]
CLIENT = Path(__file__).with_name("ros_client.py")
RMWS = ("rmw_cyclonedds_cpp", "rmw_fastrtps_cpp")
DOMAINS = range(70, 100)
TRY_SECONDS = 25.0
"""After which `ros2` is asked again: it waits for ever for an answer that was sent before it could be heard."""

DAEMON_PORT = 11511
"""Of the daemon of ros2 in domain 0, see ros2cli.daemon."""

SOURCES = ("package.xml", "CMakeLists.txt", "msg", "srv", "launch", "config", "rviz", "zgs_ros")
SOURCES += ("scripts/zgs.in", "scripts/zgs_node.in")

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


def ros_environment(
    workspace: Path | None = None, rmw: str = RMWS[0], overlay: Path | None = None
) -> dict[str, str]:
    """Environment of a shell that sourced ROS, a workspace and an overlay, kept to this machine."""
    setup = workspace / "install" / "setup.bash" if workspace else _setup_file()
    logs = workspace / "ros_log" if workspace else Path("/tmp")
    files = [setup, *([overlay / "local_setup.bash"] if overlay else [])]
    return {
        **(os.environ if _is_sourced() and not workspace else _sourced(*map(str, files))),
        "RMW_IMPLEMENTATION": rmw,
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_LOG_DIR": str(logs),
        "RCUTILS_COLORIZED_OUTPUT": "0",
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1",  # several processes share what cores there are
    }


def find_overlay(*packages: str) -> Path | None:
    """Where packages were built beside ROS: the first install space ``/opt/NAME`` with all of them."""
    index = Path("share", "ament_index", "resource_index", "packages")
    return next(
        (
            setup.parent
            for setup in sorted(Path("/opt").glob("*/local_setup.bash"))
            if all((setup.parent / index / package).exists() for package in packages)
        ),
        None,
    )


NAV2 = ("nav2_costmap_2d", "semantic_segmentation_layer")


@cache
def find_nav2_problem() -> str:
    """Why tests with Nav2 can't run here, "" if they can."""
    if find_overlay(*NAV2):
        return ""
    return f"{' and '.join(NAV2)} are not built in any /opt/NAME: see docs/nav2.md"


@contextmanager
def built_workspace(folder: Path) -> Iterator[Path]:
    """A workspace with this package as its sources are now, built with colcon where it is not yet.

    Every state of the sources has an install space of its own, so that a run of the tests is not
    disturbed by another one that builds a later state; those that nobody uses any more are removed.

    Args:
        folder: Where they are kept from one run to the next.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as open_files:
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            workspace = folder / _digest()[:16]
            workspace.mkdir(exist_ok=True)
            fcntl.flock(open_files.enter_context(_in_use(workspace).open("w")), fcntl.LOCK_SH)
            if not (workspace / "built").is_file():
                _build(workspace, folder / "build")
                (workspace / "built").touch()
            for other in folder.glob("*/in_use"):
                if other.parent != workspace:
                    _remove_unless_used(other.parent)
        yield workspace


def _build(workspace: Path, build: Path) -> None:
    shutil.rmtree(workspace / "install", ignore_errors=True)
    command = [sys.executable, "-m", "colcon", "--log-base", "log", "build"]
    command += ["--paths", str(ROOT), "--build-base", str(build)]
    # The install space is another one each time, which colcon does not look at.
    command += ["--cmake-force-configure", "--cmake-args", f"-DPython3_EXECUTABLE={sys.executable}"]
    try:
        subprocess.run(command, cwd=workspace, env=ros_environment(), check=True, timeout=1800)
    except BaseException:
        shutil.rmtree(build, ignore_errors=True)  # what was left half done fails again
        raise


def _in_use(workspace: Path) -> Path:
    """A file that is locked by every run of the tests that uses a workspace."""
    return workspace / "in_use"


def _remove_unless_used(workspace: Path) -> None:
    with _in_use(workspace).open("w") as lock, suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(workspace)


class Ros:
    """A workspace under one middleware, on a domain of its own; for a `with` block.

    Args:
        workspace: What `built_workspace` gave.
        rmw: Name of the middleware.
        folder: For the output of processes.
        overlay: What `find_overlay` gave, for packages that are not with ROS.
    """

    def __init__(
        self, workspace: Path, rmw: str, folder: Path, overlay: Path | None = None
    ) -> None:
        self.env = ros_environment(workspace, rmw, overlay)
        self._folder = folder
        self._started = 0
        self._open = ExitStack()

    def __enter__(self) -> Ros:
        self.env["ROS_DOMAIN_ID"] = str(self._open.enter_context(own_domain()))
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    @cached_property
    def _daemon(self) -> Process:
        """What `ros2` starts by itself, here as a process that ends with the tests."""
        rmw, domain = self.env["RMW_IMPLEMENTATION"], self.env["ROS_DOMAIN_ID"]
        command = ("_ros2_daemon", "--rmw-implementation", rmw, "--ros-domain-id", domain)
        return self._open.enter_context(self.process(*command))

    @cached_property
    def _robot(self) -> Robot:
        return Robot(self._open.enter_context(self.process(sys.executable, str(CLIENT))))

    @property
    def has_middleware(self) -> bool:
        """Whether the middleware is installed."""
        prefixes = self.env["AMENT_PREFIX_PATH"].split(":")
        name = self.env["RMW_IMPLEMENTATION"]
        return any((Path(prefix) / "share" / name).is_dir() for prefix in prefixes)

    def run(self, *command: str, timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
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

    def ros2(self, *arguments: str, timeout: float = PATIENCE) -> str:
        """Output of `ros2 ...`, which looks at what the daemon saw, as in a user's terminal."""
        self._daemon.wait_for("Serving XML-RPC")
        return self.run("ros2", *arguments, timeout=timeout).stdout

    def shows(self, texts: Collection[str], *arguments: str, without: str = "\0") -> str:
        """What `ros2 ...` shows as soon as it has all texts in it and not another one.

        It is asked again, because discovery takes its time, and see `TRY_SECONDS`.
        """
        end, shown = time.monotonic() + PATIENCE, ""
        while time.monotonic() < end:
            with suppress(subprocess.TimeoutExpired):
                shown = self.ros2(*arguments, timeout=TRY_SECONDS)
                if all(text in shown for text in texts) and without not in shown:
                    return shown
        raise AssertionError(f"not {texts} without {without!r} but:\n{shown}")

    def endpoint(self, topic: str, node: str) -> str:
        """What `ros2 topic info -v` shows of a node that uses a topic, "" if it does not."""
        shown = self.ros2("topic", "info", topic, "-v")
        return shown.partition(f"Node name: {node}\n")[2].partition("Node name: ")[0]

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Asks until a condition holds."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, f"not within {PATIENCE:g} s: {what}"

    def ask(self, task: str, **options: Any) -> Any:
        """Answer to a task of test/ros_client.py."""
        return self._robot.ask(task, **options)

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
        with self.process(sys.executable, str(CLIENT)) as process:
            process.write(json.dumps({"task": "camera", "options": options}))
            process.wait_for("publishing")
            yield process


@contextmanager
def own_domain() -> Iterator[int]:
    """A ROS domain that nobody else on this machine uses."""
    domain, claim = claim_domain([d for d in DOMAINS if _is_free(DAEMON_PORT + d)])
    with claim:
        yield domain


def _is_free(port: int) -> bool:
    """Whether the daemon of ros2 can listen there; not yet where one has just ended."""
    with socket.socket() as trial:
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _is_sourced() -> bool:
    return "AMENT_PREFIX_PATH" in os.environ


def _setup_file() -> Path | None:
    found = sorted(Path("/opt/ros").glob("*/setup.bash"))
    wanted = [path for path in found if path.parent.name == os.environ.get("ROS_DISTRO")]
    return next(reversed(wanted or found), None)


@cache
def _sourced(*files: str) -> dict[str, str]:
    script = " && ".join([*(f"source {file}" for file in files), "env -0"])
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
