"""What a result gets beyond its picture: track ids, steady labels and places in space, per camera."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from zgs_ros.config import NodeSettings
from zgs_ros.geometry import CameraModel, locate
from zgs_ros.segmentation import Segmentation
from zgs_ros.streaming.clock import Clock
from zgs_ros.streaming.depth import decode_depth, read_camera
from zgs_ros.streaming.messages import stamp_ns
from zgs_ros.streaming.stream import Result
from zgs_ros.streaming.throttle import ThrottledLog
from zgs_ros.tracking import Tracker

USED, BAD = "used", "unusable depth or camera_info"
"""What became of the depth of a result, beside what `zgs_ros.streaming.pairing.Missing` has."""

logger = logging.getLogger(__name__)


class Enrichment:
    """Completes results before they are published; to be called on the stream's thread.

    Args:
        settings: Of the node; replace `settings` to change them while running.
        clock: For images without a stamp.
    """

    def __init__(self, settings: NodeSettings, clock: Clock) -> None:
        self.settings = settings
        self._clock = clock
        self._trackers: dict[str, Tracker] = {}
        self._cameras: dict[str, tuple[Any, CameraModel]] = {}
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
        return _timed(result, "localization", self._locate) if result.depth else result

    def problems(self) -> list[str]:
        """Why results have no places though depth is wanted, camera by camera; from any thread."""
        with self._lock:
            return [
                f"{name}: {text}" if name else text for name, text in self._problems.items() if text
            ]

    def facts(self) -> dict[str, str]:
        """How many results had depth; for the diagnostics, from any thread."""
        with self._lock:
            return {f"depth: {what}": str(count) for what, count in self._depths.items()}

    def lost(self) -> list[str]:
        """How many results have no places though depth is wanted, a line for each reason."""
        with self._lock:
            return [
                f"images without positions: {count}, because: {what}"
                for what, count in self._depths.items()
                if what != USED
            ]

    def _track(self, result: Result) -> Segmentation:
        settings = self.settings.tracking
        tracker = self._trackers.setdefault(result.camera, Tracker(settings))
        tracker.settings = settings
        stamp = stamp_ns(result.header) or self._clock.now_ns()
        return tracker.update(result.segmentation, stamp * 1e-9)

    def _locate(self, result: Result) -> Segmentation:
        """Places the segments; without usable depth they come as they are."""
        assert result.depth is not None
        if missing := result.depth.wait():
            slop = self.settings.depth.slop
            text = f"the latest image has {missing.value} (depth.slop {slop:g} s)"
            self._count(result.camera, missing.value, text)
            return result.segmentation
        message, info = result.depth.message, result.depth.info
        try:
            camera = self._camera(result.camera, info)
            depth = decode_depth(message, self.settings.max_pixels)
            placed = locate(result.segmentation, depth, camera)
        except ValueError as error:
            self._count(result.camera, BAD, str(error))
            self._log.log(logging.WARNING, "depth", f"segments have no position: {error}")
            return result.segmentation
        self._count(result.camera, USED, "")
        return placed

    def _camera(self, name: str, info: Any) -> CameraModel:
        """The camera of a camera_info, kept while nothing in it changes: its rays take a while."""
        key = (tuple(info.k), tuple(info.d), info.distortion_model, info.height, info.width)
        if name not in self._cameras or self._cameras[name][0] != key:
            self._cameras[name] = (key, read_camera(info))
        return self._cameras[name][1]

    def _count(self, camera: str, what: str, problem: str) -> None:
        with self._lock:
            self._depths[what] += 1
            self._problems[camera] = problem


def _timed(result: Result, stage: str, step: Callable[[Result], Segmentation]) -> Result:
    """A result whose segmentation went through a step, with the step's time among its stages."""
    began = time.perf_counter()
    done = step(result)
    times = {**done.stage_times, stage: time.perf_counter() - began}
    return replace(result, segmentation=replace(done, stage_times=times))
