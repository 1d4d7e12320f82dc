"""A viewer: follows a node's results, shows them as a live table and writes them to a folder."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from zgs_ros.dds.network import Network
from zgs_ros.dds.node import Node, QosProfile
from zgs_ros.dds.recording import Frame, Recorder
from zgs_ros.dds.table import Display
from zgs_ros.streaming.messages import parse_segment_array

POLL_SECONDS = 0.25
QUEUE_LENGTH = 64
UNPAIRED_LIMIT = 8
"""Results and overlays of different images that wait for their other half."""


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


@dataclass
class NodeState:
    """What is known about the watched node.

    Attributes:
        name: Its full name.
        publishers: Publishers of its results that are there now.
        seen: Whether it was ever there.
        diagnostics: Its latest diagnostic values.
    """

    name: str
    publishers: int = 0
    seen: bool = False
    diagnostics: dict[str, str] | None = None

    def next_step(self, domain: int) -> str:
        """What has to come next on the way to the first result."""
        values = self.diagnostics or {}
        if not self.seen:
            return f"the node {self.name} on domain {domain}"
        if values.get("image publishers") == "0":
            return f"a camera on {values.get('image topic')}"
        if values.get("received") == "0":
            return f"images on {values.get('image topic')}"
        return "the first result"

    def explain_silence(self, domain: int) -> str:
        """Why there may be no result, and what to look at."""
        if not self.seen:
            return (
                f"the node {self.name} never appeared on domain {domain}; is it running, on this "
                "domain and network?"
            )
        if not self.publishers:
            return f"the node {self.name} has gone; its own log says why"
        values = self.diagnostics
        if values is None:
            return f"the node {self.name} is up, but sends neither results nor diagnostics"
        topic = values.get("image topic", "its image topic")
        if values.get("received") == "0":
            if values.get("image publishers") == "0":
                return f"the node {self.name} is up, but no camera publishes {topic}"
            return (
                f"the node {self.name} is up and a camera publishes {topic}, but no image arrives; "
                "large images need a larger net.core.rmem_max"
            )
        counts = ", ".join(
            f"{values.get(key, '?')} {key}"
            for key in ("received", "processed", "dropped", "rejected")
        )
        error = f"; its last error: {values['last error']}" if "last error" in values else ""
        return (
            f"the node {self.name} is up and sees the camera, but no result came ({counts}){error}"
        )


def run(options: WatchOptions, console: Console | None = None) -> None:
    """Watches until enough frames came.

    Raises:
        NoResult: If no result came within the timeout.
        zgs_ros.dds.raw.DdsError: If the network can't be joined.
    """
    record = Recorder(options.out) if options.out else None
    with (
        Node(options.name, network=options.network, distro=options.distro) as node,
        Display(console or Console(), options.node) as display,
    ):
        watcher = _Watcher(node, options)
        for frame in watcher.frames(display):
            if record:
                record.write(frame)
            display.show(frame, watcher.state.diagnostics or {})
            if frame.number == options.frames:
                return


class _Watcher:
    """Collects what a node publishes. Callbacks only queue it; when the viewer is slow, it is lost."""

    def __init__(self, node: Node, options: WatchOptions) -> None:
        self.state = NodeState(options.node)
        self._options = options
        self._inbox: queue.Queue[tuple[str, Any, int]] = queue.Queue(QUEUE_LENGTH)
        self._results: dict[tuple[int, int], Frame] = {}
        self._overlays: dict[tuple[int, int], bytes] = {}
        topics = {
            "diagnostics": ("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray"),
            "segments": (f"{options.node}/segments", "zgs_ros/msg/SegmentArray"),
        }
        if options.out:  # else nobody looks at the overlay, and the node need not draw it
            compressed = "sensor_msgs/msg/CompressedImage"
            topics["overlay"] = (f"{options.node}/overlay/compressed", compressed)
        subscriptions = {
            kind: node.create_subscription(
                topic,
                type_name,
                partial(self._put, kind),
                QosProfile(depth=10),
            )
            for kind, (topic, type_name) in topics.items()
        }
        self._segments = subscriptions["segments"]

    def frames(self, display: Display) -> Iterator[Frame]:
        """Yields whole frames, with their overlay if they are recorded.

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
            for frame in self._whole_frames():
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
        state.publishers = self._segments.publisher_count()
        if kind == "diagnostics":
            state.diagnostics = _values(message, state.name) or state.diagnostics
        elif kind == "overlay":
            self._overlays[_key(message)] = bytes(message.data)
        elif kind == "segments":
            self._results[_key(message)] = _frame(message, arrival)
        known = state.seen
        state.seen = known or bool(state.publishers) or state.diagnostics is not None
        return state.seen and not known

    def _whole_frames(self) -> list[Frame]:
        recorded = self._options.out is not None
        keys = [key for key in self._results if key in self._overlays or not recorded]
        whole = [
            replace(self._results.pop(key), overlay=self._overlays.pop(key, None)) for key in keys
        ]
        for unpaired in (self._results, self._overlays):
            while len(unpaired) > UNPAIRED_LIMIT:
                unpaired.pop(next(iter(unpaired)))
        return whole


def _key(message: Any) -> tuple[int, int]:
    return message.header.stamp.sec, message.header.stamp.nanosec


def _frame(message: Any, arrival_ns: int) -> Frame:
    sec, nanosec = _key(message)
    took = message.processing_time
    return Frame(
        number=0,
        header=message.header,
        segmentation=parse_segment_array(message),
        processing_time=took.sec + took.nanosec * 1e-9,
        latency=(arrival_ns - sec * 10**9 - nanosec) * 1e-9,
    )


def _values(message: Any, node: str) -> dict[str, str] | None:
    for status in message.status:
        if status.name == f"{node.strip('/')}: stream":
            return {pair.key: pair.value for pair in status.values}
    return None
