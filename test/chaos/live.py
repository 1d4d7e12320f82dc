"""A node at work as a process of its own, with its cameras, and all that shows from outside of it."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import dds_support
import psutil
import ros_support
from ros_process import Process

from zgs_ros.dds.network import Network
from zgs_ros.dds.node import DdsNode
from zgs_ros.streaming.interface import DIAGNOSTICS
from zgs_ros.streaming.messages import stamp_ns
from zgs_ros.streaming.port import QUEUED
from zgs_ros.synthetic import SyntheticCamera
from zgs_ros.tools.camera import CameraOptions, CameraPublishers
from zgs_ros.tools.sources import Picture, SourceOptions

PEER = "peer"
FRONT_ENDS = (PEER, *ros_support.RMWS)
"""The node without ROS, and the rclpy node under each middleware."""

CAMERAS = ("front", "rear")
SIZE, SMALL = (320, 240), (160, 120)
"""Of images; the small ones for Fast DDS, which seldom puts larger ones of Cyclone DDS together."""

PICTURES = 24
"""Of a camera before they begin anew: they are drawn beforehand."""

PATIENCE = 180.0
"""Seconds after which something that should come is taken to hang, on however loaded a machine."""

START = 900.0
"""Seconds after which a node has not started: its imports and models take a minute of CPU time."""

MOST_MEMORY = 4e9
"""Bytes that no node here needs: one that takes more is killed, before it takes the machine's."""

UNTOLD = 20
"""Results that may have come before diagnostics tell of them."""

FAST_DDS = """<?xml version="1.0" encoding="UTF-8"?>
<profiles xmlns="http://www.eprosima.com">
  <participant profile_name="chaos" is_default_profile="true">
    <rtps>
      <builtin><discovery_config><leaseDuration><sec>90</sec></leaseDuration></discovery_config></builtin>
      <listenSocketBufferSize>4194304</listenSocketBufferSize>
    </rtps>
  </participant>
</profiles>
"""
"""Its own buffer holds less than what comes while it has no time; and after its own lease of 20 s Cyclone DDS,
which the observer is on, would not find it again: see docs/troubleshooting.md."""

COUNTS = ("received", "processed", "dropped", "rejected", "pending")


class Finding(AssertionError):
    """What must not happen."""


@dataclass
class Ledger:
    """What the node tells of its frames in its diagnostics, over all times that it was configured.

    Attributes:
        now: The latest counts since it was configured.
        heard: When diagnostics came last.
        values: All of the latest diagnostics.
        wrong: Diagnostics whose counts don't add up.
        rounds: How often it was configured anew; what it did in the second before that was not told.
    """

    now: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    before: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    heard: float = field(default_factory=time.monotonic)
    values: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    rounds: int = 0

    @property
    def totals(self) -> dict[str, int]:
        """Counts since the node was started."""
        return {name: self.before[name] + self.now[name] for name in COUNTS}

    @property
    def lost(self) -> int:
        """Messages that were lost before they came, as far as the node knows."""
        return int(self.values.get("lost before they came", 0))

    def take(self, message: Any) -> None:
        """Takes a diagnostic_msgs/DiagnosticArray in."""
        for status in message.status:
            if not status.name.endswith("zgs: stream"):
                continue
            values = {pair.key: pair.value for pair in status.values}
            now = {name: int(values[name]) for name in COUNTS}
            accounted = sum(now[name] for name in COUNTS[1:])
            if now["received"] != accounted or not 0 <= now["pending"] <= 2 * len(CAMERAS):
                self.wrong.append(f"counts that don't add up: {now}")
            if now["received"] < self.now["received"]:  # configured anew
                self.before = {**self.totals, "pending": 0}
                self.before["received"] -= self.now["pending"]
                self.rounds += 1
            self.now, self.values, self.heard = now, values, time.monotonic()


@dataclass(frozen=True)
class Seen:
    """A result that came: of which camera, when, and how long after its image's stamp [s]."""

    camera: str
    arrival: float
    latency: float


class LiveCamera:
    """A camera with depth, on a node of its own, which publishes until it is closed.

    Args:
        name: Its name.
        network: To join.
        pictures: That it shows, over and over.
        rate: Pictures per second.
        sent: Takes the stamp of each.
    """

    def __init__(
        self,
        name: str,
        network: Network,
        pictures: Sequence[Picture],
        rate: float,
        sent: Callable[[int], None],
    ) -> None:
        options = CameraOptions(
            network, reading=SourceOptions(depth=True), topic=f"/{name}/image_raw", name=name
        )
        self._node = DdsNode(name, network=network)
        self._publishers = CameraPublishers(self._node, options)
        self._pictures, self._period, self._sent = pictures, 1 / rate, sent
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._publish, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Leaves the network."""
        self._over.set()
        self._thread.join()
        self._node.close()

    def _publish(self) -> None:
        while True:
            for picture in self._pictures:
                stamp = time.time_ns()
                self._sent(stamp)
                self._publishers.publish(picture, stamp)
                if self._over.wait(self._period):
                    return


class SimulatedTime:
    """A ``/clock`` that tells what it is told to, fifty times a second.

    Attributes:
        now: Gives (sec, nanosec).

    Args:
        node: That publishes it.
    """

    def __init__(self, node: DdsNode) -> None:
        self.now: Callable[[], tuple[int, int]] = steady
        self._types = node.types
        self._publisher = node.create_publisher("/clock", "rosgraph_msgs/msg/Clock")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._publish, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Tells no more."""
        self._over.set()
        self._thread.join()

    def _publish(self) -> None:
        create = self._types.create
        while not self._over.wait(0.02):
            seconds, nanoseconds = self.now()
            clock = create("builtin_interfaces/msg/Time", sec=seconds, nanosec=nanoseconds)
            self._publisher.publish(create("rosgraph_msgs/msg/Clock", clock=clock))


def steady() -> tuple[int, int]:
    """Time as it is."""
    return divmod(time.time_ns(), 10**9)


class LiveNode:
    """The node, its two cameras and whoever listens to it; made by `live_node`.

    Args:
        process: The node's.
        network: That it is on.
        ros: Real ROS beside it, None without.
        rate: Pictures per second of each camera.
        seed: Of what the cameras see.
        simulated: Whether it lives in the time of ``/clock``, which is then published.
        size: Width and height of pictures.
    """

    def __init__(
        self,
        process: Process,
        network: Network,
        ros: ros_support.Ros | None,
        rate: float,
        seed: int,
        simulated: bool = False,
        size: tuple[int, int] = SIZE,
    ) -> None:
        self.process, self.network, self.ros = process, network, ros
        self.ledger = Ledger()
        self.results: deque[Seen] = deque(maxlen=100_000)
        self.answers: deque[Any] = deque(maxlen=1000)
        self.seen = self.cleanups = 0
        self.findings: list[str] = []
        self._rate = rate
        self._sent: dict[str, set[int]] = {name: set() for name in CAMERAS}
        self._cameras: dict[str, LiveCamera] = {}
        self._size = size
        self._shows = {name: _pictures(seed + index, size) for index, name in enumerate(CAMERAS)}
        self.observer = DdsNode("observer", network=network)
        self.observer.create_subscription(
            DIAGNOSTICS.name, DIAGNOSTICS.type_name, self.ledger.take, QUEUED
        )
        self.observer.create_subscription(
            "/zgs/query/result", "zgs_ros/msg/QueryResult", self.answers.append, QUEUED
        )
        self.queries = self.observer.create_publisher(
            "/zgs/query/request", "zgs_ros/msg/Query", QUEUED
        )
        for name in CAMERAS:
            self.observer.create_subscription(
                f"/zgs/{name}/segments", "zgs_ros/msg/SegmentArray", self._taker(name), QUEUED
            )
            self.start_camera(name)
        self.time = SimulatedTime(self.observer) if simulated else None
        self._over = threading.Event()
        self._guard = threading.Thread(target=self._watch_memory, daemon=True)
        self._guard.start()

    @property
    def sent(self) -> int:
        """Good pictures that were sent."""
        return sum(map(len, self._sent.values()))

    def start_camera(self, name: str) -> None:
        """Lets a camera come."""
        self._cameras[name] = LiveCamera(
            name, self.network, self._shows[name], self._rate, self._sent[name].add
        )

    def stop_camera(self, name: str) -> None:
        """Lets a camera go."""
        self._cameras.pop(name).close()

    def wait(self, condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> float:
        """Waits for something; returns after how many seconds it came.

        Raises:
            Finding: If the node ends meanwhile, or it takes too long.
        """
        began = time.monotonic()
        while not condition():
            if self.process.has_ended():
                ended = f"the node ended while {what} was waited for"
                raise Finding("; ".join([*self.findings, ended]))
            if time.monotonic() - began > seconds:
                raise Finding(f"a hang: not within {seconds:g} s: {what}")
            time.sleep(0.02)
        return time.monotonic() - began

    def wait_for_results(self, seconds: float = PATIENCE) -> float:
        """Waits until each camera has a result that it has not now; returns for how long."""
        began = time.monotonic()

        def all_came() -> bool:
            later = {seen.camera for seen in tuple(self.results) if seen.arrival > began}
            return later == set(CAMERAS)

        return self.wait(all_came, "results of all cameras", seconds)

    def check(self) -> None:
        """Looks for what must not happen.

        Raises:
            Finding: If it has.
        """
        found = [*self.findings, *self.ledger.wrong]
        if self.process.has_ended():
            found.append("the node ended by itself")
        if "Traceback (most recent call last)" in self.process.text:
            found.append("a traceback in the node's log")
        silence = time.monotonic() - self.ledger.heard
        if silence > PATIENCE:
            found.append(f"a hang: no diagnostics for {silence:.0f} s")
        if self.ledger.rounds > self.cleanups:
            found.append(
                f"counts began anew {self.ledger.rounds} times in {self.cleanups} cleanups"
            )
        received = self.ledger.totals["received"]
        if self.seen > self.ledger.totals["processed"] + UNTOLD * (1 + self.ledger.rounds):
            found.append(f"{self.seen} results of {self.ledger.totals['processed']} processed")
        if not received:
            found.append("no image came")
        if found:
            raise Finding("; ".join(found))

    def close(self) -> None:
        """Leaves the network, all but the node."""
        self._over.set()
        self._guard.join()
        if self.time:
            self.time.close()
        for name in list(self._cameras):
            self.stop_camera(name)
        self.observer.close()

    def _watch_memory(self) -> None:
        while not self._over.wait(1.0):
            with suppress(psutil.Error):
                memory = self.process.memory
                if memory > MOST_MEMORY:
                    self.findings.append(f"{memory / 1e6:.0f} MB of memory")
                    self.process.kill()
                    return

    def _taker(self, camera: str) -> Callable[[Any], None]:
        def take(message: Any) -> None:
            stamp, now = stamp_ns(message.header), time.time_ns()
            self.seen += 1
            if stamp in self._sent[camera]:
                self.results.append(Seen(camera, time.monotonic(), (now - stamp) * 1e-9))
                size = (message.label_image.width, message.label_image.height)
                if size != self._size:
                    self.findings.append(f"a result of {size} for an image of {self._size}")

        return take


@contextmanager
def live_node(
    front_end: str,
    folder: Path,
    workspace: Callable[[], Path],
    *,
    seed: int = 0,
    max_rate: float = 2.0,
    rate: float = 4.0,
    simulated: bool = False,
    **settings: Any,
) -> Iterator[LiveNode]:
    """The node in a process of its own, seen to publish results of two cameras with depth.

    Args:
        front_end: One of `FRONT_ENDS`.
        folder: For logs.
        workspace: Gives a workspace with this package, only asked for with ROS.
        seed: Of what the cameras see.
        max_rate: Of the node.
        rate: Of each camera [Hz].
        simulated: Whether it lives in the time of ``/clock``.
        settings: Further ones of the node.
    """
    given = {
        "profile": "mini",
        "device": "cpu",
        "max_rate": max_rate,
        "cameras": json.dumps(CAMERAS),
        "depth.enabled": "true",
        **settings,
    }
    with ExitStack() as stack:
        start = _start_peer if front_end == PEER else _start_rclpy
        if simulated:
            given["use_sim_time"] = "true"
        process, domain, ros = start(stack, front_end, folder, workspace, given)
        network = Network(domain, loopback_only=True)
        size = SMALL if front_end == "rmw_fastrtps_cpp" else SIZE
        node = LiveNode(process, network, ros, rate, seed, simulated, size)
        stack.callback(node.close)
        node.wait_for_results(START)
        yield node


def _start_peer(
    stack: ExitStack,
    front_end: str,
    folder: Path,
    workspace: Callable[[], Path],
    settings: Mapping[str, Any],
) -> tuple[Process, int, None]:
    domain = dds_support.claim_domain()
    flags = ["--use-sim-time"] if "use_sim_time" in settings else []
    kept = {name: value for name, value in settings.items() if name != "use_sim_time"}
    values = [part for name, value in kept.items() for part in ("--set", f"{name}={value}")]
    values += flags
    command = [sys.executable, "-m", "zgs_ros", "run", "--local", "--domain", str(domain), *values]
    root = str(Path(__file__).parents[2])
    environment = {
        **os.environ,
        "PYTHONPATH": root,
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1",
    }
    process = Process(command, environment, folder / "node.txt")
    stack.callback(process.kill)
    return process, domain, None


def _start_rclpy(
    stack: ExitStack,
    front_end: str,
    folder: Path,
    workspace: Callable[[], Path],
    settings: Mapping[str, Any],
) -> tuple[Process, int, ros_support.Ros]:
    ros = stack.enter_context(ros_support.Ros(workspace(), front_end, folder))
    profile = folder / "fast_dds.xml"
    profile.write_text(FAST_DDS)
    environment = {**ros.env, "FASTRTPS_DEFAULT_PROFILES_FILE": str(profile)}
    values = [part for name, value in settings.items() for part in ("-p", f"{name}:={value}")]
    names = {
        f"{name}/{row}": f"/{name}/{topic}"
        for name in CAMERAS
        for row, topic in (
            ("image", "image_raw"),
            ("depth", "depth/image_raw"),
            ("camera_info", "camera_info"),
        )
    }
    rules = [part for name, topic in names.items() for part in ("-r", f"{name}:={topic}")]
    command = ["ros2", "run", "zgs_ros", "zgs_node", "--autostart", "--ros-args", *values, *rules]
    process = Process(command, environment, folder / "node.txt")
    stack.callback(process.kill)
    return process, int(ros.env["ROS_DOMAIN_ID"]), ros


def end(node: LiveNode) -> tuple[float, int]:
    """Presses Ctrl-C; returns how long the node took to end [s], and its exit code."""
    began = time.monotonic()
    node.process.interrupt()
    code = node.process.wait()
    return time.monotonic() - began, code


def cpu_seconds(process: Process) -> float:
    """CPU time of a process and those that it started."""
    first = psutil.Process(process.pid)
    times = [member.cpu_times() for member in (first, *first.children(recursive=True))]
    return sum(spent.user + spent.system for spent in times)


def _pictures(seed: int, size: tuple[int, int]) -> list[Picture]:
    width, height = size
    camera = SyntheticCamera(Random(seed).randrange(1000), height, width, rate_hz=2.0)
    frames = [camera.frame(index) for index in range(PICTURES)]
    return [Picture(frame.rgb, frame.depth, frame.intrinsics) for frame in frames]
