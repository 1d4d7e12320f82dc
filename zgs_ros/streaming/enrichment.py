"""What a result gets from the frames before it: track ids and steady labels, per camera."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from zgs_ros.config import NodeSettings
from zgs_ros.segmentation import Segmentation
from zgs_ros.streaming.clock import Clock
from zgs_ros.streaming.stream import Result
from zgs_ros.tracking import Tracker


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

    def __call__(self, result: Result) -> Result:
        """The result with all that is known beyond its picture."""
        if not self.settings.tracking.enabled:
            self._trackers.clear()
            return result
        began = time.perf_counter()
        tracked = self._track(result.camera, result.header, result.segmentation)
        times = {**tracked.stage_times, "tracking": time.perf_counter() - began}
        return replace(result, segmentation=replace(tracked, stage_times=times))

    def _track(self, camera: str, header: Any, segmentation: Segmentation) -> Segmentation:
        settings = self.settings.tracking
        tracker = self._trackers.setdefault(camera, Tracker(settings))
        tracker.settings = settings
        stamp = header.stamp.sec * 1_000_000_000 + header.stamp.nanosec
        return tracker.update(segmentation, (stamp or self._clock.now_ns()) * 1e-9)
