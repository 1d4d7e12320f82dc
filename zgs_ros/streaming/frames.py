"""From the images' frames to `target_frame`: what /tf and /tf_static tell, and how long it is waited for."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from zgs_ros.streaming.inputs import FollowingSubscription
from zgs_ros.streaming.messages import stamp_ns
from zgs_ros.streaming.pairing import RESTART_NS
from zgs_ros.streaming.port import Port, QosProfile
from zgs_ros.streaming.throttle import ThrottledLog
from zgs_ros.texts import quoted
from zgs_ros.transforms import CACHE_SECONDS, Sample, Transform, TransformStore, explain

TF, TF_STATIC = "/tf", "/tf_static"
TF_TYPE = "tf2_msgs/msg/TFMessage"

DEPTH = 100
"""Messages that wait at most, as in tf2_ros. Every broadcaster of static transforms has its own one."""

POLL_SECONDS = 0.005
"""How often it is looked whether a transform has come that is waited for."""

LONGEST_PAUSE = 16
"""Images from one wait in vain to the next at most."""

MAX_FRAMES = 2000
"""Frames that are known at most."""

MAX_NAME = 256
"""Longest name of a frame, in characters."""

RESTART_COUNT = 10
"""So many transforms of a frame in a row that are too old to be kept say that time has begun again."""

NORM_TOLERANCE = 0.01
"""By which the norm of a rotation's quaternion may differ from 1, as in tf2."""

logger = logging.getLogger(__name__)


class BadTransform(ValueError):
    """A transform that can't be used; the text says why."""


@dataclass
class _Vain:
    """A camera's latest waits for a transform that did not come.

    Attributes:
        newest: The newest time that was known of what lies between the frames.
        pause: Images from the latest wait to the next one.
        rest: Those of them that are still to come and don't wait.
    """

    newest: int | None
    pause: int
    rest: int

    def over(self, newest: int | None) -> bool:
        """Whether it is time to wait again."""
        return self.rest <= 0 and self.newest != newest


class Frames:
    """What is known of frames, for any number of threads.

    Args:
        store: Keeps the transforms.
        now_ns: The clock of the stamps, where it can jump, as simulated time does.
        waits: Whether transforms come while one waits for them; from a bag they don't.
    """

    def __init__(
        self,
        store: TransformStore,
        now_ns: Callable[[], int] = lambda: 0,
        waits: bool = True,
    ) -> None:
        self._store = store
        self._waits = waits
        self._now_ns = now_ns
        self._now = 0
        self._lock = threading.RLock()
        self._newest: dict[str, int] = {}
        self._too_old: Counter[str] = Counter()
        self._vain: dict[str, _Vain] = {}
        self._refused: Counter[str] = Counter()
        self._log = ThrottledLog(logger)

    def offer(self, message: Any, static: bool = False) -> None:
        """Takes in a tf2_msgs/TFMessage; bad transforms are left out, and counted."""
        now = self._now_ns()
        with self._lock:
            if now < self._now - RESTART_NS:
                self._restart("the clock jumped back")
            self._now = now
            for transform in message.transforms:
                try:
                    child, sample = read_transform(transform)
                    self._take(child, sample, static)
                except BadTransform as error:
                    self._refused["bad transforms left out"] += 1
                    self._log.log(logging.WARNING, "bad", f"a transform is left out: {error}")

    def find(
        self, camera: str, target: str, source: str, stamp: int, until: float = -math.inf
    ) -> Transform | None:
        """The transform from one frame to another, waiting for it where it may still come.

        It may come where the newest that is known is older than the stamp. After a wait in vain the
        next one comes when something newer is known, and after more and more images without one: what
        never comes, or always too late, does not cost every image its time.

        Args:
            camera: Whose image it is.
            target: Frame that is wanted.
            source: The image's frame.
            stamp: The image's time [ns]; 0 is the latest that is known.
            until: Time up to which it is waited for at most, on `time.monotonic`.
        """
        vain = self._vain.get(camera)
        waited = False
        while True:
            with self._lock:
                found = self._store.lookup(target, source, stamp)
                newest = None if found else self._store.latest(target, source)
            if found is not None:
                self._vain.pop(camera, None)
                return found
            left = until - time.monotonic()
            comes = newest is None or newest < stamp  # else it is too old, and stays so
            if not self._waits or left <= 0 or not comes or (vain and not vain.over(newest)):
                break
            waited = True
            time.sleep(min(left, POLL_SECONDS))
        if waited:
            pause = min(2 * vain.pause, LONGEST_PAUSE) if vain else 1
            self._vain[camera] = _Vain(newest, pause, pause - 1)
        elif vain:
            vain.rest -= vain.newest != newest
        return None

    def explain(self, target: str, source: str, stamp: int) -> str:
        """Why a transform is not known: the link that is missing, or too old."""
        with self._lock:
            return explain(self._store, target, source, stamp)

    def facts(self) -> dict[str, str]:
        """How many transforms were left out; for the diagnostics."""
        with self._lock:
            return {f"tf: {what}": str(count) for what, count in self._refused.items()}

    def _take(self, child: str, sample: Sample, static: bool) -> None:
        newest = self._newest.get(child)
        if newest is None and len(self._newest) >= MAX_FRAMES:
            raise BadTransform(
                f"{MAX_FRAMES} frames are known already; {quoted(child)} is one more"
            )
        if not static and newest is not None:
            if sample.stamp < newest - round(CACHE_SECONDS * 1e9):
                self._too_old[child] += 1
                if self._too_old[child] < RESTART_COUNT:
                    return
                self._restart(f"transforms of {quoted(child)} began again")
                newest = None
            self._too_old.pop(child, None)
        self._newest[child] = max(sample.stamp, newest or 0)
        self._store.add(child, sample, static)

    def _restart(self, why: str) -> None:
        """Forgets all that moves."""
        text = f"{why}: the transforms of before are forgotten"
        self._log.log(logging.WARNING, "restart", text)
        self._store.clear()
        self._newest = dict.fromkeys(self._newest, 0)
        self._too_old.clear()


class TransformListener:
    """Reads /tf and /tf_static, until it is closed.

    Args:
        port: That subscribes.
        store: Where transforms go.
    """

    def __init__(self, port: Port, store: TransformStore) -> None:
        self.frames = Frames(store, port.clock.now_ns)
        latched = QosProfile(depth=DEPTH, transient_local=True)
        # As tf2_ros hears static ones: only of those who keep them.
        self._static = port.create_subscription(TF_STATIC, TF_TYPE, self._take_static, latched)
        try:
            self._moving = FollowingSubscription(
                port, port.resolve(TF), TF_TYPE, self.frames.offer, DEPTH, first_wait=math.inf
            )
        except BaseException:
            self._static.close()
            raise

    def look(self) -> None:
        """Follows what the publishers offer; to be called about once a second."""
        self._moving.look()

    def close(self) -> None:
        """Unsubscribes."""
        self._static.close()
        self._moving.close()

    def _take_static(self, message: Any) -> None:
        self.frames.offer(message, static=True)


def read_transform(message: Any) -> tuple[str, Sample]:
    """The child frame of a geometry_msgs/TransformStamped, and where it is.

    Raises:
        BadTransform: If tf2 would refuse it.
    """
    child, parent = frame_name(message.child_frame_id), frame_name(message.header.frame_id)
    for name in (child, parent):
        if not 0 < len(name) <= MAX_NAME:
            raise BadTransform(
                f"the name of a frame has {len(name)} characters (allowed: 1 .. {MAX_NAME})"
            )
    if child == parent:
        raise BadTransform(f"the frame {quoted(child)} is in itself")
    moved, turned = message.transform.translation, message.transform.rotation
    stamp = stamp_ns(message.header)
    if stamp < 0:
        raise BadTransform(f"the transform of {quoted(child)} has a time before 1970: {stamp} ns")
    translation = (float(moved.x), float(moved.y), float(moved.z))
    quaternion = (float(turned.x), float(turned.y), float(turned.z), float(turned.w))
    if not all(map(math.isfinite, (*translation, *quaternion))):
        raise BadTransform(f"the transform of {quoted(child)} in {quoted(parent)} is not finite")
    norm = math.hypot(*quaternion)
    if abs(norm - 1) > NORM_TOLERANCE:
        raise BadTransform(
            f"the rotation of {quoted(child)} in {quoted(parent)} is a quaternion of norm {norm:.3g}; "
            "it must be 1"
        )
    return child, Sample(stamp, parent, translation, quaternion)


def frame_name(text: str) -> str:
    """A frame's name as tf2 has it: without the slash that some still begin it with."""
    return text.removeprefix("/")
