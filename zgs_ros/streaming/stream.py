"""The newest frame of every camera goes through the models, on one thread, whatever comes in."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from zgs_ros.clouds import Surface
from zgs_ros.rotation import segment_upright
from zgs_ros.segmentation import ImageSegmenter, Segmentation
from zgs_ros.streaming.clock import Clock, SystemClock
from zgs_ros.streaming.images import BadImage, decode
from zgs_ros.streaming.messages import stamp_ns
from zgs_ros.streaming.pairing import DepthTicket
from zgs_ros.streaming.statistics import Dropped, Rejected, Statistics
from zgs_ros.streaming.throttle import ThrottledLog

THREAD_NAME = "zgs-inference"

POLL_SECONDS = 0.02
"""How often a clock that is not the wall clock is asked whether the next frame is due."""

MAX_CALLS = 16
"""Calls that wait at most: requests that come faster than they are answered must not pile up."""

MAX_LATENCY = 3600.0
"""A stamp further from now [s] comes from another clock or a recording; its latency means nothing."""

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class StreamSettings:
    """What can be changed while the stream runs.

    Attributes:
        max_rate: Highest rate of results [Hz], on the stream's clock.
        lazy: Whether frames are dropped while nobody wants results.
        enabled: Whether frames are processed at all; else they are dropped.
    """

    max_rate: float = 5.0
    lazy: bool = True
    enabled: bool = True

    def __post_init__(self) -> None:
        if not self.max_rate > 0:
            raise ValueError(f"max_rate must be above 0 Hz, got {self.max_rate}")


@dataclass(frozen=True, eq=False)
class Result:
    """One frame and what was seen in it.

    Attributes:
        camera: Name that the frame was offered under.
        header: The input message's header, verbatim.
        image: uint8 RGB (height, width, 3), possibly read-only.
        segmentation: What was seen.
        processing_time: Seconds from taking the frame to the finished segmentation.
        depth: Leads to the image's depth, None where depth is not wanted.
        surface: The image's surface in space, None where it is not known.
        target_frame: Frame that positions were asked for in, "" for the image's.
    """

    camera: str
    header: Any
    image: NDArray[np.uint8]
    segmentation: Segmentation
    processing_time: float
    depth: DepthTicket | None = None
    surface: Surface | None = None
    target_frame: str = ""

    @property
    def position_frame(self) -> str:
        """Frame of positions and sizes."""
        return self.target_frame or str(self.header.frame_id)


@dataclass(eq=False)
class _Frame:
    camera: str
    header: Any
    message: Any
    depth: DepthTicket | None = None
    image: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))
    decode_time: float = 0.0


class SegmentationStream:
    """Latest frame wins: takes frames from callbacks, runs the models on one thread, publishes.

    Every frame is accounted for in `statistics`. A bad frame or an exception costs that frame only.

    Args:
        segmenter: Only used on the stream's thread.
        publish: Called with each result on the stream's thread.
        wanted: Whether anybody listens to a camera's results; asked before each frame when the
            stream is lazy.
        clock: Clock of the image stamps, which `max_rate` counts on.
        settings: Rate and laziness, see `update`.
        decode: Message to RGB; raises `BadImage`.
        enrich: Completes each result before it is published, on the stream's thread.
        rotations: By how many degrees clockwise a camera's images are turned to be upright.
    """

    def __init__(
        self,
        segmenter: ImageSegmenter,
        publish: Callable[[Result], None],
        *,
        wanted: Callable[[str], bool] = lambda camera: True,
        clock: Clock | None = None,
        settings: StreamSettings | None = None,
        decode: Callable[[Any], NDArray[np.uint8]] = decode,
        enrich: Callable[[Result], Result] = lambda result: result,
        rotations: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self.statistics = Statistics()
        self._segmenter = segmenter
        self._publish = publish
        self._wanted = wanted
        self._clock = clock or SystemClock()
        self._settings = settings or StreamSettings()
        self._decode = decode
        self._enrich = enrich
        self._rotations = rotations
        self._log = ThrottledLog(logger)
        self._changed = threading.Condition()
        self._slots: dict[str, _Frame] = {}
        self._calls: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._lifecycle = threading.Lock()
        self._thread: threading.Thread | None = None
        self._last_start: int | None = None
        self._answered = False  # whether the latest turn went to a call

    @property
    def running(self) -> bool:
        """Whether the thread takes frames."""
        return self._thread is not None

    @property
    def settings(self) -> StreamSettings:
        """The settings in use."""
        return self._settings

    def update(self, **changes: Any) -> None:
        """Changes settings, also while running: ``stream.update(max_rate=2.0)``.

        Raises:
            ValueError: If a value is impossible.
        """
        with self._changed:
            self._settings = replace(self._settings, **changes)
            self._changed.notify()

    def offer(
        self, camera: str, header: Any, message: Any, depth: DepthTicket | None = None
    ) -> None:
        """Stores a frame as the camera's newest; never blocks, never raises for what is in it.

        Args:
            camera: Which slot the frame goes to, "" for the only camera.
            header: Object with stamp (sec, nanosec), handed on untouched.
            message: What `decode` takes. It must not be changed afterwards.
            depth: Goes with the frame to its result.
        """
        with self._changed:
            self.statistics.receive(camera)
            if not self.running:
                self.statistics.drop(Dropped.STOPPED)
                return
            if camera in self._slots:
                self.statistics.drop(Dropped.NEWER)
            self._slots[camera] = _Frame(camera, header, message, depth)
            self._changed.notify()

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Runs a function on the stream's thread, which owns the models, between two frames.

        Frames that are due and calls that wait take turns.

        Raises:
            RuntimeError: If the stream does not run, or many calls wait already.
        """
        future: Future[T] = Future()
        with self._changed:
            if not self.running:
                raise RuntimeError("the stream does not run; start() it before call()")
            if len(self._calls) >= MAX_CALLS:
                raise RuntimeError(
                    f"{MAX_CALLS} requests wait already, more are not taken; ask again later"
                )
            self._calls.append((future, function))
            self._changed.notify()
        return future

    def start(self) -> None:
        """Starts the thread; does nothing if it runs."""
        with self._lifecycle, self._changed:
            if self._thread is None:
                self._last_start = None
                self._thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Finishes the frame in work, drops those that wait, cancels calls and joins the thread."""
        with self._lifecycle:
            with self._changed:
                thread, self._thread = self._thread, None
                for _ in self._slots:
                    self.statistics.drop(Dropped.STOPPED)
                self._slots.clear()
                for future, _ in self._calls:
                    future.cancel()
                self._calls.clear()
                self._changed.notify()
            if thread is not None:
                thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while self.running and not self._calls and (pause := self._pause()) != 0:
                    self._changed.wait(pause)
                if not self.running:
                    return
                frames_turn = self._answered and self._pause() == 0
                call = self._calls.popleft() if self._calls and not frames_turn else None
                frames = [] if call else list(self._slots.values())
                if not call:
                    self._slots.clear()
                self._answered = call is not None
            if call:
                with self.statistics.working("answering a request"):
                    _answer(*call)
            else:
                self._take(frames)

    def _pause(self) -> float | None:
        """Seconds until frames are due, as far as can be known; None when there are none.

        A clock that jumped back makes them due: nobody can tell how far the next one would be.
        """
        if not self._slots:
            return None
        if self._last_start is None:
            return 0.0
        passed = (self._clock.now_ns() - self._last_start) * 1e-9
        left = 1.0 / self._settings.max_rate - passed
        return min(left, POLL_SECONDS) if passed >= 0 and left > 0 else 0.0

    def _take(self, frames: list[_Frame]) -> None:
        """Processes the newest frames of all cameras as one batch."""
        if not self._settings.enabled:
            for _ in frames:
                self.statistics.drop(Dropped.DISABLED)
            return
        if self._settings.lazy:
            wanted = [frame for frame in frames if self._is_wanted(frame.camera)]
            for _ in range(len(frames) - len(wanted)):
                self.statistics.drop(Dropped.IDLE)
            frames = wanted
        if not frames:
            return
        self._last_start = self._clock.now_ns()
        began = time.perf_counter()
        frames = [frame for frame in frames if self._decoded(frame)]
        for frame, segmentation in self._segmented(frames):
            result = self._enriched(frame, segmentation)
            if result:
                seconds = time.perf_counter() - began
                self._deliver(frame, replace(result, processing_time=seconds))

    def _is_wanted(self, camera: str) -> bool:
        try:
            return self._wanted(camera)
        except Exception as error:
            # While the middleware shuts down; the frame decides nothing then.
            self._log.log(logging.WARNING, "wanted", f"can't tell whether anybody listens: {error}")
            return False

    def _decoded(self, frame: _Frame) -> bool:
        began = time.perf_counter()
        try:
            with self.statistics.working("decoding"):
                frame.image = self._decode(frame.message)
        except BadImage as error:
            self._reject(frame, Rejected.BAD_IMAGE, error)
            return False
        except Exception as error:  # a message so odd that validation itself failed
            self._reject(frame, Rejected.BAD_IMAGE, error, exc_info=True)
            return False
        frame.decode_time = time.perf_counter() - began
        return True

    def _segmented(self, frames: list[_Frame]) -> list[tuple[_Frame, Segmentation]]:
        if not frames:
            return []
        try:
            with self.statistics.working("segmenting"):
                degrees = [self._rotations.get(frame.camera, 0) for frame in frames]
                images = [frame.image for frame in frames]
                seen = segment_upright(self._segmenter, images, degrees)
            return list(zip(frames, seen, strict=True))
        except Exception as error:
            if len(frames) == 1:
                self._reject(frames[0], Rejected.INFERENCE, error, exc_info=True)
                return []
        # One image can fail the whole batch; alone, it costs only itself.
        return [pair for frame in frames for pair in self._segmented([frame])]

    def _enriched(self, frame: _Frame, segmentation: Segmentation) -> Result | None:
        try:
            seen = Result(frame.camera, frame.header, frame.image, segmentation, 0.0, frame.depth)
            with self.statistics.working("tracking and placing"):
                return self._enrich(seen)
        except Exception as error:
            self._reject(frame, Rejected.INFERENCE, error, exc_info=True)
            return None

    def _deliver(self, frame: _Frame, result: Result) -> None:
        began = time.perf_counter()
        try:
            with self.statistics.working("publishing"):
                self._publish(result)
        except Exception as error:
            self._reject(frame, Rejected.PUBLISH, error, exc_info=True)
            return
        stage_times: Mapping[str, float] = {
            "decode": frame.decode_time,
            **result.segmentation.stage_times,
            "publish": time.perf_counter() - began,
        }
        latency = self._latency(frame.header)
        count = len(result.segmentation.segments)
        self.statistics.process(frame.camera, count, stage_times, latency)

    def _latency(self, header: Any) -> float | None:
        """Seconds since the header's stamp; None for a zero stamp or one of another clock."""
        stamp = stamp_ns(header)
        latency = (self._clock.now_ns() - stamp) * 1e-9
        return latency if stamp and 0 <= latency < MAX_LATENCY else None

    def _reject(
        self, frame: _Frame, reason: Rejected, error: Exception, exc_info: bool = False
    ) -> None:
        text = str(error) or type(error).__name__
        self.statistics.reject(reason, f"{reason.value}: {text}")
        self._log.log(
            logging.ERROR if exc_info else logging.WARNING,
            reason.value,
            f"a frame of {frame.camera or 'the camera'} is rejected, {reason.value}: {text}",
            exc_info=exc_info,
        )


def _answer(future: Future[Any], function: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(function())
    except BaseException as error:  # belongs to whoever waits for the answer
        future.set_exception(error)
