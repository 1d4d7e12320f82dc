"""What a result gets beyond its picture: track ids, steady labels and places in space, per camera."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from zgs_ros.clouds import Surface
from zgs_ros.config import NodeSettings
from zgs_ros.geometry import PinholeCamera, locate
from zgs_ros.streaming.clock import Clock
from zgs_ros.streaming.depth import decode_depth, read_camera
from zgs_ros.streaming.frames import Frames, frame_name
from zgs_ros.streaming.messages import stamp_ns
from zgs_ros.streaming.stream import Result
from zgs_ros.streaming.throttle import ThrottledLog
from zgs_ros.tracking import Tracker
from zgs_ros.transforms import Transform

USED, BAD = "used", "unusable depth or camera_info"
NO_TRANSFORM = "no transform to target_frame"
"""What became of the depth of a result, beside what `zgs_ros.streaming.pairing.Missing` has."""

logger = logging.getLogger(__name__)


class Enrichment:
    """Completes results before they are published; to be called on the stream's thread.

    Args:
        settings: Of the node; replace `settings` to change them while running.
        clock: For images without a stamp.

    Attributes:
        frames: What is known of frames, None where no target_frame is set.
    """

    def __init__(self, settings: NodeSettings, clock: Clock) -> None:
        self.settings = settings
        self.frames: Frames | None = None
        self._clock = clock
        self._trackers: dict[str, Tracker] = {}
        self._cameras: dict[str, tuple[Any, PinholeCamera]] = {}
        self._log = ThrottledLog(logger)
        self._lock = threading.Lock()
        self._depths: Counter[str] = Counter()
        self._problems: dict[str, str] = {}

    def __call__(self, result: Result) -> Result:
        """The result with all that is known beyond its picture."""
        if self.settings.tracking.enabled:
            result = _timed(result, "tracking", self._track)
        else:
            self._trackers.clear()
        if result.depth is None:
            return result
        result = replace(result, target_frame=self.settings.target_frame)
        return _timed(result, "localization", self._locate)

    def problems(self) -> list[str]:
        """Why results have no places though depth is wanted, camera by camera; from any thread."""
        with self._lock:
            return [
                f"{name}: {text}" if name else text for name, text in self._problems.items() if text
            ]

    def facts(self) -> dict[str, str]:
        """How many results had depth; for the diagnostics, from any thread."""
        with self._lock:
            facts = {f"depth: {what}": str(count) for what, count in self._depths.items()}
        return {**facts, **(self.frames.facts() if self.frames else {})}

    def lost(self) -> list[str]:
        """How many results have no places though depth is wanted, a line for each reason."""
        with self._lock:
            return [
                f"images without positions: {count}, because: {what}"
                for what, count in self._depths.items()
                if what != USED
            ]

    def _track(self, result: Result) -> Result:
        settings = self.settings.tracking
        tracker = self._trackers.setdefault(result.camera, Tracker(settings))
        tracker.settings = settings
        stamp = stamp_ns(result.header) or self._clock.now_ns()
        return replace(result, segmentation=tracker.update(result.segmentation, stamp * 1e-9))

    def _locate(self, result: Result) -> Result:
        """Places the segments; without usable depth or a transform they come as they are."""
        assert result.depth is not None
        if missing := result.depth.wait():
            slop = self.settings.depth.slop
            text = f"the latest image has {missing.value} (depth.slop {slop:g} s)"
            self._count(result.camera, missing.value, text)
            return result
        transform = self._transform(result, result.depth.arrival)
        if transform is None:
            return result
        message, info = result.depth.message, result.depth.info
        target = self.settings.target_frame
        try:
            depth = decode_depth(message, self.settings.max_pixels)
            camera = self._camera(result.camera, info, depth.shape)
            moved = transform if target else None
            placed = locate(result.segmentation, depth, camera, moved)
        except ValueError as error:
            self._count(result.camera, BAD, str(error))
            self._log.log(logging.WARNING, "depth", f"segments have no position: {error}")
            return result
        self._count(result.camera, USED, "")
        surface = Surface(depth, camera, result.position_frame, transform, upright=bool(target))
        return replace(result, segmentation=placed, surface=surface)

    def _transform(self, result: Result, arrival: float) -> Transform | None:
        """From the image's frame to that of positions, None where it is not known."""
        target, source = self.settings.target_frame, frame_name(result.header.frame_id)
        if target in ("", source):
            return Transform.identity()
        stamp = max(stamp_ns(result.header), 0)
        why = "its header.frame_id is empty"
        if self.frames and source:
            until = arrival + self.settings.transform_timeout
            found = self.frames.find(result.camera, target, source, stamp, until)
            if found:
                return found
            why = self.frames.explain(target, source, stamp)
        text = f"the latest image has no transform to {target!r} (target_frame): {why}"
        self._count(result.camera, NO_TRANSFORM, text)
        self._log.log(logging.WARNING, "transform", f"segments have no position: {text}")
        return None

    def _camera(self, name: str, info: Any, size: tuple[int, ...]) -> PinholeCamera:
        """The camera of a camera_info, kept while nothing in it changes: its rays take a while."""
        model = (tuple(info.k), tuple(info.d), info.distortion_model, info.height, info.width)
        key = (*model, size)
        if name not in self._cameras or self._cameras[name][0] != key:
            height, width = size
            self._cameras[name] = (key, read_camera(info).scaled((height, width)))
        return self._cameras[name][1]

    def _count(self, camera: str, what: str, problem: str) -> None:
        with self._lock:
            self._depths[what] += 1
            self._problems[camera] = problem


def _timed(result: Result, stage: str, step: Callable[[Result], Result]) -> Result:
    """A result that went through a step, with the step's time among its stages."""
    began = time.perf_counter()
    done = step(result)
    times = {**done.segmentation.stage_times, stage: time.perf_counter() - began}
    return replace(done, segmentation=replace(done.segmentation, stage_times=times))
