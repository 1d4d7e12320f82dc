"""What viewers know of the node that they follow: whole frames, and how the node is."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

from zgs_ros.streaming.messages import parse_segment_array
from zgs_ros.streaming.stream import MAX_LATENCY
from zgs_ros.streaming.throttle import ThrottledLog
from zgs_ros.texts import printable
from zgs_ros.tools.frames import Frame

logger = logging.getLogger(__name__)

UNPAIRED_LIMIT = 8
"""Results and overlays of different images that wait for their other half."""


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

    def notice(self, publishers: int) -> bool:
        """Takes in how many publishers there are now; returns whether the node appeared just now."""
        known, self.publishers = self.seen, publishers
        self.seen = known or bool(publishers) or self.diagnostics is not None
        return self.seen and not known

    def next_step(self, domain: int) -> str:
        """What has to come next on the way to the first result."""
        values = self.diagnostics
        if not self.seen:
            return f"the node {self.name} on domain {domain}"
        if values is None:
            return "the first result"
        if "image topic" not in values:
            return f"the node {self.name} to be active"
        if values["image publishers"] == "0":
            return f"a camera on {values['image topic']}"
        if values.get("received") == "0":
            return f"images on {values['image topic']}"
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
        if "image topic" not in values:
            return (
                f"the node {self.name} is up, but not active: it is still loading its models, or waits "
                "to be activated; its own log says which"
            )
        topic = values["image topic"]
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


class FramePairs:
    """Brings results and overlays of the same image together, by their stamps.

    Args:
        overlays: Whether frames wait for their overlay; otherwise they are whole without one.
    """

    def __init__(self, overlays: bool) -> None:
        self._paired = overlays
        self._log = ThrottledLog(logger)
        self._results: dict[tuple[int, int], Frame] = {}
        self._overlays: dict[tuple[int, int], bytes] = {}

    def add_overlay(self, message: Any) -> None:
        """Takes in a sensor_msgs/CompressedImage."""
        self._overlays[_key(message)] = bytes(message.data)

    def add_result(self, message: Any, arrival_ns: int) -> None:
        """Takes in a zgs_ros/SegmentArray and when it came; one that is not valid is left out."""
        try:
            frame = _frame(message, arrival_ns)
        except Exception as error:  # whatever it is in what comes from outside
            reason = printable(str(error) or type(error).__name__)
            self._log.log(logging.WARNING, "result", f"a result is left out: {reason}")
        else:
            self._results[_key(message)] = frame

    def take(self) -> list[Frame]:
        """The frames that are whole by now, oldest first; halves that wait for long are lost."""
        keys = [key for key in self._results if key in self._overlays or not self._paired]
        whole = [
            replace(self._results.pop(key), overlay=self._overlays.pop(key, None)) for key in keys
        ]
        waiting: tuple[dict[tuple[int, int], Any], ...] = (self._results, self._overlays)
        for unpaired in waiting:
            while len(unpaired) > UNPAIRED_LIMIT:
                unpaired.pop(next(iter(unpaired)))
        return whole


def node_statuses(message: Any, node: str) -> dict[str, Any]:
    """A node's diagnostic_msgs/DiagnosticStatus by what they are about, as it sends them.

    Args:
        message: A diagnostic_msgs/DiagnosticArray, of whichever node.
        node: Full name of the node whose statuses are wanted.

    Returns:
        ``stream`` first, then one by the name of each camera that has one; empty where the message
        is another node's.
    """
    prefix = f"{node.strip('/')}: "
    return {
        status.name.removeprefix(prefix): status
        for status in message.status
        if status.name.startswith(prefix)
    }


def status_values(status: Any) -> dict[str, str]:
    """The values of a diagnostic_msgs/DiagnosticStatus by their keys."""
    return {pair.key: pair.value for pair in status.values}


def stream_values(message: Any, node: str) -> dict[str, str] | None:
    """The diagnostic values of a node's stream, None where the message is another node's."""
    status = node_statuses(message, node).get("stream")
    return None if status is None else status_values(status)


def _key(message: Any) -> tuple[int, int]:
    return message.header.stamp.sec, message.header.stamp.nanosec


def _frame(message: Any, arrival_ns: int) -> Frame:
    sec, nanosec = _key(message)
    stamp_ns = sec * 10**9 + nanosec
    latency = (arrival_ns - stamp_ns) * 1e-9
    took = message.processing_time
    return Frame(
        number=0,
        header=message.header,
        segmentation=parse_segment_array(message),
        processing_time=took.sec + took.nanosec * 1e-9,
        latency=latency if stamp_ns and 0 <= latency < MAX_LATENCY else None,
    )
