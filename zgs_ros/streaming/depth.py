"""Depth messages to metres, and which of them belongs to which image."""

from __future__ import annotations

import threading
import time
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zgs_ros.geometry import PinholeCamera
from zgs_ros.pictures import MAX_PIXELS
from zgs_ros.streaming.clock import Clock
from zgs_ros.streaming.images import BadImage, Layout, read_rows
from zgs_ros.texts import quoted

_METRES = Layout(channels=1, depth=4)
_MILLIMETRES = Layout(channels=1, depth=2)
_LAYOUTS = {"32FC1": _METRES, "16UC1": _MILLIMETRES, "mono16": _MILLIMETRES}

DEPTH_ENCODINGS = tuple(sorted(_LAYOUTS))
"""Encodings of depth images: metres (32FC1) or millimetres (16UC1, mono16)."""

ALIVE_SECONDS = 1.0
"""Depth that did not come for this long is not waited for."""

POLL_SECONDS = 0.02
"""How often a clock that is not the wall clock is asked whether waiting is over."""

STRAIGHT = ("", "plumb_bob", "rational_polynomial")
"""Distortion models whose coefficients are those of OpenCV's standard model."""


class BadDepth(ValueError):
    """Depth that can't be used; the text says why and what to do."""


def decode_depth(message: Any, max_pixels: int = MAX_PIXELS) -> NDArray[np.float32]:
    """Decodes a depth sensor_msgs/Image.

    Args:
        message: As `zgs_ros.streaming.images.decode_image` takes it.
        max_pixels: Larger ones are refused.

    Returns:
        float32 (height, width) in metres, possibly read-only; 0, nan and inf are invalid (REP 118).

    Raises:
        BadDepth: If a field is impossible or does not fit the others.
    """
    layout = _LAYOUTS.get(message.encoding)
    if layout is None:
        raise BadDepth(
            f"depth encoding {quoted(message.encoding)} is not supported "
            f"(allowed: {', '.join(DEPTH_ENCODINGS)})"
        )
    try:
        rows = read_rows(message, layout, max_pixels)
    except BadImage as error:
        raise BadDepth(f"depth: {error}") from None
    kind = f"{'>' if message.is_bigendian else '<'}{'f4' if layout is _METRES else 'u2'}"
    row = int(message.width) * layout.depth
    values = np.ascontiguousarray(rows[:, :row]).view(kind)
    if layout is _METRES:
        return np.asarray(values, np.float32)
    return np.asarray(values * np.float32(0.001), np.float32)


def read_camera(info: Any) -> PinholeCamera:
    """The camera that a sensor_msgs/CameraInfo describes.

    Raises:
        BadDepth: If it is not calibrated or of a kind that is not supported.
    """
    distortion = tuple(float(value) for value in info.d)
    if any(distortion) and info.distortion_model not in STRAIGHT:
        raise BadDepth(
            f"camera_info has distortion model {quoted(info.distortion_model)} "
            f"(allowed: {', '.join(STRAIGHT[1:])}); rectify the images first (image_proc)"
        )
    matrix = np.array(info.k, np.float64).reshape(3, 3)
    try:
        return PinholeCamera(matrix, (int(info.height), int(info.width)), distortion)
    except ValueError as error:
        raise BadDepth(f"camera_info: {error}") from None


class DepthTicket:
    """What an image carries on its way, until its depth is asked for.

    Attributes:
        stamp_ns: The image's stamp.
        arrival: When it came in, on the monotonic clock [s].
        arrival_ns: When that was on the feed's clock [ns].
        message: The depth image nearest to it so far, None while there is none.
    """

    def __init__(self, stamp_ns: int, feed: DepthFeed) -> None:
        self.stamp_ns = stamp_ns
        self.arrival = time.monotonic()
        self.arrival_ns = feed.now_ns()
        self.message: Any = None
        self._feed = feed
        self._gap_ns: float = np.inf

    def wait(self) -> Any:
        """The depth image; waits for one that may still come, see `DepthFeed.wait`."""
        self._feed.wait(self)
        return self.message

    @property
    def info(self) -> Any:
        """The camera's latest camera_info, None if none came yet."""
        return self._feed.info

    def consider(self, message: Any, stamp_ns: int, slop_ns: float) -> None:
        """Takes a depth image that is nearer in time than what it has, and near enough."""
        gap = abs(stamp_ns - self.stamp_ns)
        if gap <= slop_ns and gap < self._gap_ns:
            self.message, self._gap_ns = message, gap


class DepthFeed:
    """The depth images of one camera, each handed to the images that it belongs to.

    Depth may come before its image, or while the image is in work; what comes later is not used.
    Held are the newest depth image, and one for every image that is still on its way.

    Args:
        slop: Seconds by which the stamps of an image and its depth may differ.
        clock: That stamps are on, where it is not the wall clock: a bag that is played slowly
            brings depth later than the slop.
    """

    def __init__(self, slop: float, clock: Clock | None = None) -> None:
        self.slop = slop
        self._clock = clock
        self.info: Any = None
        self._changed = threading.Condition()
        self._last_offer = -np.inf
        self._newest: tuple[Any, int] | None = None
        self._waiting: weakref.WeakSet[DepthTicket] = weakref.WeakSet()

    def expect(self, header: Any) -> DepthTicket:
        """A ticket for the depth of an image that came in."""
        ticket = DepthTicket(stamp_ns(header), self)
        with self._changed:
            if self._newest:
                ticket.consider(*self._newest, self.slop * 1e9)
            self._waiting.add(ticket)
        return ticket

    def offer(self, message: Any, stamp: int | None = None) -> None:
        """Takes in a depth image.

        Args:
            message: sensor_msgs/Image. It must not be changed afterwards.
            stamp: Stamp [ns] of the image that it belongs to, by default its own.
        """
        stamp = stamp_ns(message.header) if stamp is None else stamp
        with self._changed:
            self._newest = (message, stamp)
            self._last_offer = time.monotonic()
            self._changed.notify_all()
            for ticket in self._waiting:
                ticket.consider(message, stamp, self.slop * 1e9)

    def wait(self, ticket: DepthTicket) -> None:
        """Waits for the depth of an image, while there can be one.

        Its stamp may be later than the image's by the slop, and so may the depth itself; where
        depth stopped coming at all, nothing is waited for.
        """
        with self._changed:
            while ticket.message is None:
                now = time.monotonic()
                left = self._left(ticket, now)
                if left <= 0 or now - self._last_offer > ALIVE_SECONDS:
                    return
                self._changed.wait(min(left, POLL_SECONDS) if self._clock else left)

    def now_ns(self) -> int:
        """The time on the clock of the stamps; 0 where it is the wall clock."""
        return self._clock.now_ns() if self._clock else 0

    def _left(self, ticket: DepthTicket, now: float) -> float:
        """Seconds until the slop is over on both clocks, or it is clear that one stands still."""
        left = self.slop - (now - ticket.arrival)
        passed = (self.now_ns() - ticket.arrival_ns) * 1e-9
        if self._clock and passed >= 0:  # else it jumped back, and nobody can tell
            left = max(left, self.slop - passed)
        return min(left, max(self.slop, ALIVE_SECONDS) - (now - ticket.arrival))

    def offer_info(self, message: Any) -> None:
        """Takes in a sensor_msgs/CameraInfo; the latest one counts."""
        self.info = message


def stamp_ns(header: Any) -> int:
    """The stamp of a std_msgs/Header in nanoseconds."""
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)
