"""What a result gets beyond its picture: steady labels, ids of tracks and classes, places in space."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from zgs_ros.classes.classifier import Classifier
from zgs_ros.clouds import Surface
from zgs_ros.config import NodeSettings
from zgs_ros.geometry import CameraModel, locate
from zgs_ros.segmentation import Segmentation
from zgs_ros.streaming.clock import Clock
from zgs_ros.streaming.depth import (
    Calibration,
    camera_facts,
    decode_depth,
    is_rectified,
    read_camera,
)
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
        image_topics: Of the cameras by their names: they may say that images are rectified.
        classifier: Finds classes; None for none.

    Attributes:
        frames: What is known of frames, None where no target_frame is set.
    """

    def __init__(
        self,
        settings: NodeSettings,
        clock: Clock,
        image_topics: Mapping[str, str] = MappingProxyType({}),
        classifier: Classifier | None = None,
    ) -> None:
        self.settings = settings
        self.frames: Frames | None = None
        self._classifier = classifier
        self._clock = clock
        self._image_topics = image_topics
        self._trackers: dict[str, Tracker] = {}
        self._calibrations: dict[str, tuple[Any, Calibration]] = {}
        self._scaled: dict[str, tuple[CameraModel, CameraModel]] = {}
        self._log = ThrottledLog(logger)
        self._lock = threading.Lock()
        self._depths: Counter[str] = Counter()
        self._problems: dict[str, str] = {}

    def __call__(self, result: Result) -> Result:
        """The result with all that is known beyond its picture."""
        classifier = self._classifier
        if classifier:
            result = _timed(result, "classes", _segmented(classifier.name_segments))
        if self.settings.tracking.enabled:
            result = _timed(result, "tracking", self._track)
        else:
            self._trackers.clear()
        if classifier:
            result = _timed(result, "classes", _segmented(classifier.classify))
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
            calibration = self._calibration(result.camera, info, result.segmentation.size)
            depth = decode_depth(message, self.settings.max_pixels)
            camera = self._at_size(result.camera, calibration.camera, depth.shape)
            moved = transform if target else None
            placed = locate(result.segmentation, depth, camera, moved)
        except Exception as error:  # whatever it is, it must not cost the labels
            expected = isinstance(error, ValueError)
            text = str(error) if expected else f"{type(error).__name__}: {error}"
            self._count(result.camera, BAD, text)
            text = f"segments have no position: {text}"
            self._log.log(logging.WARNING, "depth", text, exc_info=not expected)
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

    def _at_size(self, name: str, camera: CameraModel, size: tuple[int, ...]) -> CameraModel:
        """A camera with images of the depth's size, kept as long as both are the same."""
        known = self._scaled.get(name)
        if known is None or known[0] is not camera or known[1].size != size:
            height, width = size
            known = self._scaled[name] = (camera, camera.scaled((height, width)))
        return known[1]

    def _calibration(self, name: str, info: Any, size: tuple[int, int]) -> Calibration:
        """What a camera_info says, kept while nothing in it changes: the camera's rays take a while."""
        wanted = self.settings.depth.calibration
        rectified = (
            is_rectified(self._image_topics.get(name, ""))
            if wanted == "auto"
            else wanted == "rectified"
        )
        key = (*camera_facts(info), size, rectified)
        if name not in self._calibrations or self._calibrations[name][0] != key:
            found = read_camera(info, size, rectified)
            self._calibrations[name] = (key, found)
            of = f"{name}: " if name else ""
            self._log.log(logging.INFO, "source", f"{of}positions by {found.source}")
        return self._calibrations[name][1]

    def _count(self, camera: str, what: str, problem: str) -> None:
        with self._lock:
            self._depths[what] += 1
            self._problems[camera] = problem


def _timed(result: Result, stage: str, step: Callable[[Result], Result]) -> Result:
    """A result that went through a step, with the step's time among its stages."""
    began = time.perf_counter()
    done = step(result)
    segmentation = done.segmentation
    seconds = segmentation.stage_times.get(stage, 0.0) + time.perf_counter() - began
    times = {**segmentation.stage_times, stage: seconds}
    return replace(done, segmentation=replace(segmentation, stage_times=times))


def _segmented(step: Callable[[Segmentation], Segmentation]) -> Callable[[Result], Result]:
    """A step that changes what was seen alone."""
    return lambda result: replace(result, segmentation=step(result.segmentation))
