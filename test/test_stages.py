"""Stage times: whose work they count, and that taking them holds nobody up."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch

from zgs_ros import segmenter
from zgs_ros.config import SegmenterSettings, make_settings
from zgs_ros.stages import CudaMark, StageClock, WallMark, mark_for


class Gpu:
    """A CPU that asks and a GPU that does, stream by stream, on a clock that only they move."""

    def __init__(self) -> None:
        self.now = 0.0
        self.stream = "main"
        self.busy_until = {"main": 0.0, "side": 0.0}

    def ask(self, seconds: float) -> None:
        """The CPU asks for this in no time; the stream does it when it comes to it."""
        self.busy_until[self.stream] = self._reached() + seconds

    def think(self, seconds: float) -> None:
        """The CPU does something itself."""
        self.now += seconds

    def fetch(self) -> None:
        """The CPU waits for what the stream has been asked for."""
        self.now = self._reached()

    @contextmanager
    def beside(self):
        self.stream = "side"
        yield
        self.stream = "main"

    def mark(self) -> Moment:
        return Moment(self, self._reached())

    def _reached(self) -> float:
        return max(self.now, self.busy_until[self.stream])


class Moment:
    def __init__(self, gpu: Gpu, time: float) -> None:
        self._gpu, self._time = gpu, time

    def seconds_until(self, later: Moment) -> float:
        self._gpu.now = max(self._gpu.now, later._time)
        return later._time - self._time


def test_a_stage_has_the_time_of_its_own_work() -> None:
    """Features take 5 s and encoding beside them 7; grouping, 1 s, waits for the features, and Ward takes 2."""
    gpu = Gpu()
    clock = StageClock(1, gpu.mark)
    with clock.stage("features"):
        gpu.think(0.5)
        gpu.ask(5.0)
    with gpu.beside(), clock.stage("encoding"):
        gpu.ask(7.0)
    assert gpu.now == 0.5  # nobody has waited
    with clock.stage("clustering"):
        gpu.ask(1.0)
        gpu.fetch()
        gpu.think(2.0)
    assert gpu.now == 8.5
    assert clock.read() == {"features": 5.5, "encoding": 7.0, "clustering": 3.0}


def test_reading_waits_for_the_last_stage() -> None:
    gpu = Gpu()
    clock = StageClock(1, gpu.mark)
    with clock.stage("features"):
        gpu.ask(5.0)
    assert gpu.now == 0.0
    clock.read()
    assert gpu.now == 5.0


def test_images_of_a_batch_share_the_time() -> None:
    gpu = Gpu()
    clock = StageClock(4, gpu.mark)
    with clock.stage("features"):
        gpu.ask(6.0)
    assert clock.read() == {"features": 1.5}


def test_a_stage_that_fails_has_no_time() -> None:
    clock = StageClock(1, WallMark)
    with pytest.raises(ValueError, match="no"), clock.stage("features"):
        raise ValueError("no")
    assert clock.read() == {}


def test_on_a_cpu_the_clock_on_the_wall_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([1.0, 3.5])
    monkeypatch.setattr("time.perf_counter", lambda: next(moments))
    clock = StageClock(1, mark_for(torch.device("cpu")))
    with clock.stage("features"):
        pass
    assert clock.read() == {"features": 2.5}


class SideOf:
    """A side stream of the GPU above, for which joining takes until both are through."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self.beside = gpu.beside

    def fork(self) -> None:
        pass

    def join(self) -> None:
        self._gpu.busy_until["main"] = max(self._gpu.busy_until.values())


def test_the_segmenter_counts_encoding_where_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes 7 s beside the rest, which takes none: no other stage has any of them."""
    gpu = Gpu()
    monkeypatch.setattr(segmenter, "SideStream", lambda device: SideOf(gpu))
    monkeypatch.setattr(segmenter, "mark_for", lambda device: gpu.mark)
    mini = segmenter.load_segmenter(make_settings(SegmenterSettings, {"profile": "mini"}))
    encode = mini._clip.encode

    def ask_and_encode(frames: list[torch.Tensor]) -> object:
        gpu.ask(7.0)
        return encode(frames)

    monkeypatch.setattr(mini._clip, "encode", ask_and_encode)
    times = mini.segment(
        np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    ).stage_times
    assert times == {name: 7.0 if name == "encoding" else 0.0 for name in times}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_a_gpu_has_such_a_clock() -> None:
    device = torch.device("cuda", 0)
    clock = StageClock(1, mark_for(device))
    with clock.stage("long"):
        torch.cuda._sleep(200_000_000)
    with clock.stage("short"):
        torch.cuda._sleep(1000)
    times = clock.read()
    assert isinstance(mark_for(device)(), CudaMark)
    assert times["long"] > 0.02 > 10 * times["short"]
