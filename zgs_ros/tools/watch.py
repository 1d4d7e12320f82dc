"""A viewer: follows a node's results, shows them as a live table and writes them to a folder."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from zgs_ros.dds.network import Network
from zgs_ros.dds.node import DdsNode
from zgs_ros.streaming.port import QUEUED, Port
from zgs_ros.tools.following import FramePairs, NodeState, stream_values
from zgs_ros.tools.frames import Frame, FrameFolder
from zgs_ros.tools.table import Display

POLL_SECONDS = 0.25
QUEUE_LENGTH = 64


class NoResult(RuntimeError):
    """No result came in time; the message says what is missing and what to look at."""


@dataclass(frozen=True)
class WatchOptions:
    """What is watched and for how long.

    Attributes:
        network: The network to join.
        node: Full name of the node to watch.
        out: Folder for overlay pictures and segments.jsonl; None writes nothing.
        frames: Frames after which the viewer ends, 0 = never.
        timeout: Seconds without a result after which `NoResult` is raised, 0 = never. They count
            from when the node is up, and anew with every result.
        node_timeout: Seconds for the node to come up, 0 = as `timeout`.
        name: The viewer's own node name.
        distro: ROS distribution of the other nodes, by default ROS_DISTRO.
    """

    network: Network
    node: str = "/zgs"
    out: Path | None = None
    frames: int = 0
    timeout: float = 0.0
    node_timeout: float = 0.0
    name: str = "zgs_watch"
    distro: str | None = None


def run(options: WatchOptions, console: Console | None = None) -> None:
    """Watches until enough frames came.

    Raises:
        NoResult: If no result came within the timeout.
        zgs_ros.dds.raw.DdsError: If the network can't be joined.
        zgs_ros.files.ownership.InUse: If another viewer writes to the folder.
        OSError: If the folder can't be written, or holds what no viewer has written.
    """
    with (
        FrameFolder(options.out) if options.out else nullcontext() as folder,
        DdsNode(options.name, network=options.network, distro=options.distro) as node,
        Display(console or Console(), options.node) as display,
    ):
        watcher = _Watcher(node, options)
        for frame in watcher.frames(display):
            if folder:
                folder.write(frame)
            display.show(frame, watcher.state.diagnostics or {})
            if frame.number == options.frames:
                return


class _Watcher:
    """Collects what a node publishes. Callbacks only queue it; when the viewer is slow, it is lost."""

    def __init__(self, port: Port, options: WatchOptions) -> None:
        self.state = NodeState(options.node)
        self._options = options
        self._inbox: queue.Queue[tuple[str, Any, int]] = queue.Queue(QUEUE_LENGTH)
        self._pairs = FramePairs(overlays=options.out is not None)
        topics = {
            "diagnostics": ("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray"),
            "segments": (f"{options.node}/segments", "zgs_ros/msg/SegmentArray"),
        }
        if options.out:  # else nobody looks at the overlay, and the node need not draw it
            compressed = "sensor_msgs/msg/CompressedImage"
            topics["overlay"] = (f"{options.node}/overlay/compressed", compressed)
        for kind, (topic, type_name) in topics.items():
            port.create_subscription(topic, type_name, partial(self._put, kind), QUEUED)
        self._port = port

    def frames(self, display: Display) -> Iterator[Frame]:
        """Yields whole frames, with their overlay if they are saved.

        Raises:
            NoResult: If none came within the timeout.
        """
        domain, timeout = self._options.network.domain, self._options.timeout
        limit = self._options.node_timeout or timeout
        number, quiet_since = 0, time.monotonic()
        while True:
            appeared = self._look()
            if appeared:
                quiet_since, limit = time.monotonic(), timeout
            for frame in self._pairs.take():
                number += 1
                yield replace(frame, number=number)
                quiet_since = time.monotonic()
            if limit and time.monotonic() - quiet_since > limit:
                reason = self.state.explain_silence(domain)
                raise NoResult(f"no result within {limit:g} s: {reason}")
            if not number:
                display.wait(self.state.next_step(domain))

    def _put(self, kind: str, message: Any) -> None:
        try:
            self._inbox.put_nowait((kind, message, time.time_ns()))
        except queue.Full:
            return

    def _look(self) -> bool:
        """Takes in the next message, if one comes soon; returns whether the node appeared now."""
        state = self.state
        try:
            kind, message, arrival = self._inbox.get(timeout=POLL_SECONDS)
        except queue.Empty:
            kind = ""
        if kind == "diagnostics":
            state.diagnostics = stream_values(message, state.name) or state.diagnostics
        elif kind == "overlay":
            self._pairs.add_overlay(message)
        elif kind == "segments":
            self._pairs.add_result(message, arrival)
        return state.notice(len(self._port.offers(f"{state.name}/segments")))
