"""Which depth belongs to which image: that whose stamp is nearest, wherever and whenever it comes.

Images don't wait for their depth before they are segmented: each carries a ticket, which is asked for the
depth afterwards. What came before the image is looked up among the newest depth images, what comes later
is handed to the tickets that are still out.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, Protocol

from zgs_ros.streaming.messages import stamp_ns

QUEUE_LENGTH = 10
"""Depth images that are kept for images to come, and images after which one gives up waiting."""

PATIENCE_SECONDS = 2.0
"""Depth that did not come for this long is not waited for."""


RESTART_NS = 1_000_000_000
"""An image that is older than the one before it by more than this is of another time [ns]."""


class Missing(str, Enum):
    """Why an image has no depth."""

    DEPTH = "no depth image"
    CAMERA_INFO = "no camera_info"


class RecentMessages(Protocol):
    """The newest messages of a topic, a bounded number of them, in the order in which they came."""

    def add(self, message: Any) -> object:
        """Takes in a message with a header."""
        ...

    def __iter__(self) -> Iterator[Any]: ...


class Recent(deque[Any]):
    """`RecentMessages` without a middleware's help."""

    def __init__(self) -> None:
        super().__init__(maxlen=QUEUE_LENGTH)

    def add(self, message: Any) -> None:
        """Takes in a message; the oldest one goes where there are too many."""
        self.append(message)


class DepthTicket:
    """What an image carries on its way, until its depth is asked for.

    Attributes:
        stamp_ns: The image's stamp.
        message: The depth image nearest to it so far, None while there is none.
        arrival: When the image came, on `time.monotonic`.
    """

    def __init__(self, stamp: int, feed: DepthFeed) -> None:
        self.stamp_ns = stamp
        self.message: Any = None
        self._feed = feed
        self.arrival = time.monotonic()
        self._younger = 0
        self._passed = False

    @property
    def info(self) -> Any:
        """The camera's latest camera_info, None if none came yet."""
        return self._feed.info

    @property
    def missing(self) -> Missing | None:
        """What it lacks so far, None if nothing."""
        if self.message is None:
            return Missing.DEPTH
        return Missing.CAMERA_INFO if self.info is None else None

    @property
    def settled(self) -> bool:
        """Whether what belongs to the image is clear: no depth that may still come is nearer."""
        return self._younger >= QUEUE_LENGTH or (self._passed and self.info is not None)

    def wait(self) -> Missing | None:
        """Waits while what is missing may come; returns what is missing then, None if nothing."""
        self._feed.wait(self)
        return self.missing

    def consider(self, message: Any, slop_ns: int) -> None:
        """Takes in a depth image that came before or after the image; they come in order."""
        stamp = stamp_ns(message.header)
        gap = abs(stamp - self.stamp_ns)
        known = None if self.message is None else stamp_ns(self.message.header)
        if gap <= slop_ns and (known is None or gap <= abs(known - self.stamp_ns)):
            self.message = message
        if stamp >= self.stamp_ns + (slop_ns if self.message is None else 0):
            self._passed = True

    def overtake(self) -> None:
        """Counts a younger image."""
        self._younger += 1

    def left(self, feed_ends: float, now: float) -> float:
        """Seconds that may be waited for what is missing, where its source ends at a time."""
        if self._younger >= QUEUE_LENGTH or (self._passed and self.message is None):
            return 0.0
        return min(feed_ends, self.arrival + self._feed.patience) - now


class DepthFeed:
    """The depth images and the calibration of one camera, handed to the images that they belong to.

    Held are the newest depth images, and one for every image that is still on its way.

    Args:
        slop: Seconds by which the stamps of an image and its depth may differ. It says nothing about
            when they come.
        recent: Keeps the newest depth images; made anew where time begins again.
        patience: Seconds after which depth that did not come is not waited for; 0 where it can only
            come between two calls, as from a bag.
    """

    def __init__(
        self,
        slop: float,
        recent: Callable[[], RecentMessages] = Recent,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self.slop = slop
        self.patience = patience
        self.info: Any = None
        self._make_recent = recent
        self._recent = recent()
        self._changed = threading.Condition()
        # When a source that has been silent until then is dead: of depth, and of camera_info.
        self._ends = self._info_ends = 0.0
        self._latest_image: int | None = None
        self._tickets: weakref.WeakSet[DepthTicket] = weakref.WeakSet()

    def expect(self, header: Any) -> DepthTicket:
        """A ticket for the depth of an image that came in."""
        ticket = DepthTicket(stamp_ns(header), self)
        with self._changed:
            if self._latest_image is not None:
                if ticket.stamp_ns < self._latest_image - RESTART_NS:  # a bag began again
                    self._forget(ticket.stamp_ns + RESTART_NS)
            else:
                self._ends = self._info_ends = time.monotonic() + self.patience
            self._latest_image = ticket.stamp_ns
            for other in self._tickets:
                other.overtake()
            for message in self._recent:
                ticket.consider(message, self._slop_ns)
            self._tickets.add(ticket)
            self._changed.notify_all()
        return ticket

    def offer(self, message: Any) -> None:
        """Takes in a depth sensor_msgs/Image. It must not be changed afterwards."""
        with self._changed:
            self._recent.add(message)
            self._ends = time.monotonic() + self.patience
            for ticket in self._tickets:
                ticket.consider(message, self._slop_ns)
            self._changed.notify_all()

    def offer_info(self, message: Any) -> None:
        """Takes in a sensor_msgs/CameraInfo; the latest one counts."""
        with self._changed:
            self.info = message
            self._changed.notify_all()

    def wait(self, ticket: DepthTicket) -> None:
        """Waits for what an image misses, while it can still come.

        Depth that belongs to it is enough, even where a nearer one may follow. Nothing is waited for
        where later depth is there already, `QUEUE_LENGTH` younger images are, or nothing came for
        `PATIENCE_SECONDS`.
        """
        with self._changed:
            while ticket.missing is not None:
                ends = self._ends if ticket.message is None else self._info_ends
                left = ticket.left(ends, time.monotonic())
                if left <= 0:
                    return
                self._changed.wait(left)

    def _forget(self, stamp: int) -> None:
        """Drops depth that is younger than a stamp: it is of a time that is over."""
        before, self._recent = self._recent, self._make_recent()
        for message in before:
            if stamp_ns(message.header) <= stamp:
                self._recent.add(message)

    @property
    def _slop_ns(self) -> int:
        return round(self.slop * 1e9)
