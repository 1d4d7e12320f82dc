"""The stream: latest frame wins, every frame is accounted for, nothing stops it."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from zgs_ros.segmentation import Segmentation
from zgs_ros.streaming.images import BadImage
from zgs_ros.streaming.statistics import Dropped, Rejected, Snapshot
from zgs_ros.streaming.stream import (
    MAX_CALLS,
    THREAD_NAME,
    Result,
    SegmentationStream,
    StreamSettings,
)

Eventually = Callable[..., None]


class StepClock:
    """A clock that only moves when it is told to, as simulated time does."""

    def __init__(self, seconds: float = 100.0) -> None:
        self.seconds = seconds

    def now_ns(self) -> int:
        return round(self.seconds * 1e9)


class FlatSegmenter:
    """Sees nothing; fails for images that begin with `POISON`; can be held up."""

    POISON = 66

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.threads: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()

    def segment_batch(self, images: Sequence[NDArray[np.uint8]]) -> list[Segmentation]:
        self.batches.append(len(images))
        self.threads.add(threading.current_thread().name)
        self.gate.wait(10)
        if any(image[0, 0, 0] == self.POISON for image in images):
            raise RuntimeError("poisoned image")
        return [
            Segmentation(np.zeros(i.shape[:2], np.uint16), (), "flat", {"dino": 0.1})
            for i in images
        ]


def header(seconds: float = 1.0, frame_id: str = "camera") -> Any:
    nanoseconds = round(seconds * 1e9)
    stamp = SimpleNamespace(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)
    return SimpleNamespace(stamp=stamp, frame_id=frame_id)


def message(value: int = 0, width: int = 4, height: int = 3, **changes: Any) -> Any:
    fields: dict[str, Any] = {
        "encoding": "rgb8",
        "width": width,
        "height": height,
        "step": 3 * width,
        "is_bigendian": 0,
        "data": np.full(3 * width * height, value, np.uint8),
    }
    return SimpleNamespace(**{**fields, **changes})


class Rig:
    """A running stream with what it published."""

    def __init__(self, **options: Any) -> None:
        self.segmenter = FlatSegmenter()
        self.results: list[Result] = []
        self.clock = StepClock()
        settings = options.pop("settings", StreamSettings(max_rate=1000.0))
        self.stream = SegmentationStream(
            self.segmenter,
            options.pop("publish", self.results.append),
            clock=options.pop("clock", self.clock),
            settings=settings,
            **options,
        )
        self.stream.start()

    def offer(self, value: int = 0, camera: str = "front", **changes: Any) -> None:
        self.stream.offer(camera, header(), message(value, **changes))

    @property
    def counts(self) -> Snapshot:
        return self.stream.statistics.snapshot()

    def tick(self, seconds: float = 1.0) -> None:
        self.clock.seconds += seconds


@pytest.fixture
def make_rig() -> Any:
    rigs: list[Rig] = []

    def make(**options: Any) -> Rig:
        rigs.append(Rig(**options))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.segmenter.gate.set()
        rig.stream.stop()


def assert_balanced(counts: Snapshot) -> None:
    assert counts.received == counts.processed + counts.drops + counts.rejections + counts.pending


def test_a_frame_becomes_a_result_with_its_header_verbatim(
    make_rig: Callable[..., Rig], eventually: Eventually
) -> None:
    rig = make_rig()
    stamped = header(1.25, "optical")
    rig.stream.offer("front", stamped, message(7))
    eventually(lambda: rig.results, "a result")
    [result] = rig.results
    assert result.header is stamped
    assert result.camera == "front"
    assert (result.image == 7).all()
    assert result.segmentation.size == (3, 4)
    assert result.processing_time > 0


@pytest.mark.parametrize(("frame_id", "stamp"), [("", 1.0), ("camera", 0.0), ("", 0.0)])
def test_empty_frame_id_and_zero_stamp_are_accepted(
    make_rig: Callable[..., Rig], eventually: Eventually, frame_id: str, stamp: float
) -> None:
    rig = make_rig()
    rig.stream.offer("front", header(stamp, frame_id), message())
    eventually(lambda: rig.counts.processed == 1, "the frame processed")
    assert rig.results[0].header.frame_id == frame_id


def test_the_newest_frame_wins_and_older_ones_are_counted(
    make_rig: Callable[..., Rig], eventually: Eventually
) -> None:
    rig = make_rig()
    rig.segmenter.gate.clear()
    rig.offer(1)
    eventually(lambda: rig.segmenter.batches, "the first frame in work")
    rig.tick()
    for value in range(2, 10):
        rig.offer(value)
    assert rig.counts.pending == 2  # one in work, one waits
    assert_balanced(rig.counts)
    rig.segmenter.gate.set()
    eventually(lambda: len(rig.results) == 2, "two results")
    assert [int(result.image[0, 0, 0]) for result in rig.results] == [1, 9]
    assert rig.counts.dropped == {Dropped.NEWER.value: 7}
    eventually(lambda: rig.counts.pending == 0, "nothing pending")


def test_the_newest_frames_of_all_cameras_go_as_one_batch(
    make_rig: Callable[..., Rig], eventually: Eventually
) -> None:
    rig = make_rig()
    rig.segmenter.gate.clear()
    rig.offer()
    eventually(lambda: rig.segmenter.batches, "the first frame in work")
    rig.tick()
    for camera in ("left", "right", "left"):
        rig.offer(camera=camera)
    rig.segmenter.gate.set()
    eventually(lambda: rig.counts.processed == 3, "all processed")
    assert rig.segmenter.batches == [1, 2]
    assert [result.camera for result in rig.results] == ["front", "left", "right"]


def test_models_are_used_on_the_inference_thread_only(
    make_rig: Callable[..., Rig], eventually: Eventually
) -> None:
    rig = make_rig()
    rig.offer()
    eventually(lambda: rig.results, "a result")
    called_on = rig.stream.call(lambda: threading.current_thread().name).result(5)
    assert rig.segmenter.threads == {called_on} == {THREAD_NAME}


def test_max_rate_counts_on_the_given_clock(
    make_rig: Callable[..., Rig], eventually: Eventually
) -> None:
    rig = make_rig(settings=StreamSettings(max_rate=2.0))
    rig.offer()
    eventually(lambda: len(rig.results) == 1, "the first frame at once")
    rig.tick(0.4)
    rig.offer()
    time.sleep(0.15)
    assert len(rig.results) == 1, (
        "0.4 s are less than the 0.5 s of 2 Hz, however long it really took"
    )
    rig.tick(0.1)
    eventually(lambda: len(rig.results) == 2, "the second frame at 0.5 s")


@pytest.mark.parametrize("jump", [-90.0, -0.001, 5.0, 1e6])
def test_a_clock_that_jumps_does_not_stall_the_stream(
    make_rig: Callable[..., Rig], eventually: Eventually, jump: float
) -> None:
    rig = make_rig(settings=StreamSettings(max_rate=1.0))
    rig.offer()
    eventually(lambda: len(rig.results) == 1, "the first frame")
    rig.offer()
    rig.tick(jump)
    eventually(lambda: len(rig.results) == 2, "a frame after the jump")
    rig.offer()
    time.sleep(0.1)
    assert len(rig.results) == 2, "the rate holds again after the jump"
    rig.tick(1.0)
    eventually(lambda: len(rig.results) == 3, "the next frame a second later")


def test_settings_change_while_running(
    make_rig: Callable[..., Rig], eventually: Eventually
) -> None:
    rig = make_rig(settings=StreamSettings(max_rate=0.01))
    rig.offer()
    eventually(lambda: len(rig.results) == 1, "the first frame")
    rig.tick(1.0)
    rig.offer()
    time.sleep(0.1)
    assert len(rig.results) == 1
    rig.stream.update(max_rate=1.0)
    eventually(lambda: len(rig.results) == 2, "the frame that waited")
    with pytest.raises(ValueError, match="max_rate must be above 0 Hz, got 0"):
        rig.stream.update(max_rate=0)


def test_a_lazy_stream_rests_while_nobody_listens(
    make_rig: Callable[..., Rig], eventually: Eventually
) -> None:
    listeners: list[str] = []
    rig = make_rig(
        settings=StreamSettings(max_rate=1000.0, lazy=True), wanted=lambda camera: bool(listeners)
    )
    for _ in range(3):
        rig.offer()
        eventually(lambda: rig.counts.pending == 0, "the frame dropped")
    assert rig.counts.dropped == {Dropped.IDLE.value: 3}
    assert rig.segmenter.batches == []
    listeners.append("rviz")
    rig.offer()
    eventually(lambda: rig.results, "a result for the listener")
    listeners.clear()
    rig.tick()
    rig.stream.update(lazy=False)
    rig.offer()
    eventually(lambda: len(rig.results) == 2, "a result for nobody")


def test_only_cameras_that_somebody_listens_to_are_processed(
    make_rig: Callable[..., Rig], eventually: Eventually
) -> None:
    rig = make_rig(wanted=lambda camera: camera == "left")
    for camera in ("front", "left", "front"):
        rig.offer(camera=camera)
        eventually(lambda: rig.counts.pending == 0, "the frame settled")
        rig.tick()
    assert [result.camera for result in rig.results] == ["left"]
    counts = rig.counts
    assert counts.dropped == {Dropped.IDLE.value: 2}
    assert {name: (c.received, c.processed) for name, c in counts.cameras.items()} == {
        "front": (2, 0),
        "left": (1, 1),
    }
    assert counts.cameras["front"].seconds_since_result is None
    assert counts.cameras["left"].seconds_since_result is not None


def test_a_fast_camera_does_not_push_a_slow_one_aside(
    make_rig: Callable[..., Rig], eventually: Eventually
) -> None:
    rig = make_rig()
    rig.segmenter.gate.clear()
    rig.offer(camera="slow")
    eventually(lambda: rig.segmenter.batches, "the first frame in work")
    rig.tick()
    rig.offer(camera="slow")
    for _ in range(50):
        rig.offer(camera="fast")
    rig.segmenter.gate.set()
    eventually(lambda: rig.counts.pending == 0, "all settled")
    assert [result.camera for result in rig.results] == ["slow", "slow", "fast"]


def test_results_are_completed_before_they_are_published(
    make_rig: Callable[..., Rig], eventually: Eventually
) -> None:
    threads: list[str] = []

    def enrich(result: Result) -> Result:
        threads.append(threading.current_thread().name)
        if result.image[0, 0, 0] == 5:
            raise RuntimeError("no idea")
        return replace(result, camera="completed")

    rig = make_rig(enrich=enrich)
    rig.offer(1)
    eventually(lambda: rig.results, "the first result")
    rig.tick()
    rig.offer(5)
    eventually(lambda: rig.counts.rejections == 1, "the failed one rejected")
    rig.tick()
    rig.offer(2)
    eventually(lambda: len(rig.results) == 2, "the one behind it")
    assert {result.camera for result in rig.results} == {"completed"}
    assert set(threads) == {THREAD_NAME}
    assert rig.counts.last_error == "inference error: no idea"
    assert all(result.processing_time > 0 for result in rig.results)


def test_calls_do_not_pile_up(make_rig: Callable[..., Rig], eventually: Eventually) -> None:
    rig = make_rig()
    rig.segmenter.gate.clear()
    rig.offer()
    eventually(lambda: rig.segmenter.batches, "a frame in work")
    waiting = [rig.stream.call(lambda: 42) for _ in range(MAX_CALLS)]
    with pytest.raises(RuntimeError, match="16 requests wait already"):
        rig.stream.call(lambda: 42)
    rig.segmenter.gate.set()
    assert [future.result(5) for future in waiting] == [42] * MAX_CALLS
    assert rig.stream.call(lambda: 43).result(5) == 43


BROKEN = [
    {"encoding": "rgb9"},
    {"width": 0},
    {"step": 5},
    {"data": np.zeros(1, np.uint8)},
    {"data": None},
    {"step": None},
]


@pytest.mark.parametrize("changes", BROKEN, ids=str)
def test_a_bad_frame_costs_only_itself(
    make_rig: Callable[..., Rig],
    eventually: Eventually,
    changes: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    rig = make_rig()
    rig.offer(**changes)
    eventually(lambda: rig.counts.rejections == 1, "the rejection")
    assert rig.counts.rejected == {Rejected.BAD_IMAGE.value: 1}
    assert rig.counts.last_error.startswith("bad image: ")
    rig.tick()
    rig.offer()
    eventually(lambda: rig.counts.processed == 1, "the good frame behind it")
    assert sum("a frame of front is rejected" in line for line in caplog.messages) == 1


def test_bad_frames_do_not_flood_the_log(
    make_rig: Callable[..., Rig], eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    rig = make_rig()
    for number in range(20):
        rig.offer(encoding="rgb9")
        eventually(lambda n=number: rig.counts.rejections == n + 1, "the rejection")
        rig.tick()
    assert len([line for line in caplog.messages if "rgb9" in line]) == 1


def test_an_exception_in_inference_costs_that_frame_only(
    make_rig: Callable[..., Rig], eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    rig = make_rig()
    rig.offer(FlatSegmenter.POISON)
    eventually(lambda: rig.counts.rejections == 1, "the rejection")
    assert rig.counts.rejected == {Rejected.INFERENCE.value: 1}
    assert rig.counts.last_error == "inference error: poisoned image"
    assert any(record.exc_info for record in caplog.records), "the traceback is logged"
    rig.tick()
    rig.offer()
    eventually(lambda: rig.counts.processed == 1, "the good frame behind it")


def test_one_camera_that_fails_a_batch_does_not_cost_the_others(
    make_rig: Callable[..., Rig], eventually: Eventually
) -> None:
    rig = make_rig()
    rig.segmenter.gate.clear()
    rig.offer()
    eventually(lambda: rig.segmenter.batches, "the first frame in work")
    rig.tick()
    rig.offer(camera="left")
    rig.offer(FlatSegmenter.POISON, camera="right")
    rig.segmenter.gate.set()
    eventually(lambda: rig.counts.pending == 0, "all done")
    assert [result.camera for result in rig.results] == ["front", "left"]
    assert rig.counts.rejected == {Rejected.INFERENCE.value: 1}


def test_an_exception_in_publishing_costs_that_frame_only(
    make_rig: Callable[..., Rig], eventually: Eventually
) -> None:
    failures = [OSError("no network"), None]

    def publish(result: Result) -> None:
        if failure := failures.pop(0):
            raise failure

    rig = make_rig(publish=publish)
    rig.offer()
    eventually(lambda: rig.counts.rejected == {Rejected.PUBLISH.value: 1}, "the rejection")
    rig.tick()
    rig.offer()
    eventually(lambda: rig.counts.processed == 1, "the next frame")


def test_500_mixed_frames_at_full_speed_leave_exact_counts_and_bounded_memory(
    make_rig: Callable[..., Rig], eventually: Eventually
) -> None:
    published: list[str] = []
    rig = make_rig(clock=None, publish=lambda result: published.append(result.camera))
    sent = Counter[str]()
    gc.collect()
    before = psutil.Process().memory_info().rss
    peak = 0
    for number in range(500):
        kind = ("good", "broken", "poison", "huge")[number % 4]
        sent[kind] += 1
        if kind == "good":
            rig.offer(number % 50, width=640, height=480)
        elif kind == "broken":
            rig.offer(**BROKEN[number % len(BROKEN)])
        elif kind == "poison":
            rig.offer(FlatSegmenter.POISON)
        else:
            rig.offer(width=1920, height=1080)
        if number % 10 == 0:
            assert_balanced(rig.counts)
            assert 0 <= rig.counts.pending <= 2
            peak = max(peak, psutil.Process().memory_info().rss)
            time.sleep(0.002)
    eventually(lambda: rig.counts.pending == 0, "all frames settled")
    counts = rig.counts
    assert counts.received == sum(sent.values()) == 500
    assert_balanced(counts)
    assert counts.processed == len(published) > 0
    assert counts.rejections > 0
    assert peak - before < 150e6
    rig.offer()
    eventually(lambda: rig.counts.received == 501 and rig.counts.pending == 0, "still alive")
    assert rig.stream.running


def test_offering_never_waits_for_slow_publishing(make_rig: Callable[..., Rig]) -> None:
    release = threading.Event()
    rig = make_rig(publish=lambda result: release.wait(10))
    began = time.monotonic()
    for _ in range(200):
        rig.offer()
    assert time.monotonic() - began < 1.0
    release.set()


def test_latency_is_from_stamp_to_publish(
    make_rig: Callable[..., Rig], eventually: Eventually
) -> None:
    rig = make_rig()
    rig.stream.offer("front", header(99.75), message())
    eventually(lambda: rig.counts.processed == 1, "the result")
    assert rig.counts.latency is not None
    assert rig.counts.latency.p50 == pytest.approx(0.25)
    assert list(rig.counts.stage_times) == ["decode", "dino", "publish"]
    assert rig.counts.stage_times["dino"] == 0.1


@pytest.mark.parametrize("stamp", [0.0, 100.5, 100.0 - 3601], ids=["none", "future", "recorded"])
def test_a_stamp_of_another_clock_gives_no_latency(
    make_rig: Callable[..., Rig], eventually: Eventually, stamp: float
) -> None:
    clock = StepClock(100.0)
    rig = make_rig(clock=clock)
    stamped = SimpleNamespace(
        stamp=SimpleNamespace(sec=int(stamp // 1), nanosec=round(stamp % 1 * 1e9)), frame_id=""
    )
    rig.stream.offer("front", stamped, message())
    eventually(lambda: rig.counts.processed == 1, "the result")
    assert rig.counts.latency is None


def test_stop_joins_and_start_goes_on(make_rig: Callable[..., Rig], eventually: Eventually) -> None:
    rig = make_rig(settings=StreamSettings(max_rate=0.001))
    for round_number in range(1, 4):
        rig.offer()
        eventually(lambda n=round_number: len(rig.results) == n, "the first frame of a start")
        rig.offer()  # waits for the rate
        rig.stream.stop()
        assert not rig.stream.running
        assert THREAD_NAME not in {thread.name for thread in threading.enumerate()}
        rig.offer()
        assert rig.counts.dropped == {Dropped.STOPPED.value: 2 * round_number}
        assert rig.counts.pending == 0
        rig.stream.start()
        rig.stream.start()
        assert sum(thread.name == THREAD_NAME for thread in threading.enumerate()) == 1
    rig.stream.stop()
    rig.stream.stop()


def test_calls_run_between_frames_and_hand_back_what_happened(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig()
    assert rig.stream.call(lambda: 42).result(5) == 42
    with pytest.raises(BadImage, match="broken"):
        rig.stream.call(lambda: _raise(BadImage("broken"))).result(5)
    rig.stream.stop()
    with pytest.raises(RuntimeError, match="does not run"):
        rig.stream.call(lambda: 42)


def test_calls_that_never_end_do_not_starve_the_frames(
    make_rig: Callable[..., Rig], eventually: Eventually
) -> None:
    rig = make_rig()
    answered: list[int] = []

    def ask(_: object = None) -> None:  # a client that asks again as soon as it is answered
        if rig.stream.running:
            rig.stream.call(lambda: answered.append(len(rig.results))).add_done_callback(ask)

    ask()
    ask()
    for number in range(1, 6):
        rig.tick()
        rig.offer(number)
        eventually(lambda n=number: len(rig.results) == n, "the frame's result")
    counted = len(answered)
    eventually(lambda: len(answered) > counted, "and the client goes on being answered")


def test_stop_cancels_calls_that_wait(make_rig: Callable[..., Rig], eventually: Eventually) -> None:
    rig = make_rig()
    rig.segmenter.gate.clear()
    rig.offer()
    eventually(lambda: rig.segmenter.batches, "a frame in work")
    waiting = rig.stream.call(lambda: 42)
    stopper = threading.Thread(target=rig.stream.stop)
    stopper.start()
    eventually(waiting.cancelled, "the call cancelled")
    rig.segmenter.gate.set()
    stopper.join(5)
    assert not stopper.is_alive()


def test_an_idle_stream_costs_no_cpu(make_rig: Callable[..., Rig]) -> None:
    make_rig()
    before = psutil.Process().cpu_times()
    time.sleep(0.3)
    after = psutil.Process().cpu_times()
    assert (after.user + after.system) - (before.user + before.system) < 0.1


def test_log_lines_repeat_at_most_once_per_period(caplog: pytest.LogCaptureFixture) -> None:
    from zgs_ros.streaming.throttle import ThrottledLog

    log = ThrottledLog(logging.getLogger("zgs_ros.test"), period=0.05)
    for _ in range(5):
        log.log(logging.WARNING, "a", "first")
    log.log(logging.WARNING, "b", "other")
    time.sleep(0.06)
    log.log(logging.WARNING, "a", "again")
    assert caplog.messages == ["first", "other", "again (4 more since the last such line)"]


def _raise(error: Exception) -> Any:
    raise error
