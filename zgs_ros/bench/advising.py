"""``zgs bench --advise``: which profile, stride and backend reach a wanted rate on this machine.

A process of its own measures one choice after the other, from the cheapest to the dearest, and says what it
found as it finds it; when the time is over it is ended, so that the answer comes in time on any machine.
"""

from __future__ import annotations

import importlib.util
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from zgs_ros.bench.measuring import camera_frames
from zgs_ros.bench.models import Bench, make_bench
from zgs_ros.bench.probes import WALL, timed
from zgs_ros.config import SegmenterSettings, SettingsError, flatten, make_settings
from zgs_ros.models.loading import ModelError
from zgs_ros.oversegmentation.features import DinoFeatures
from zgs_ros.tools.processes import dies_with_parent

SECONDS = 30.0
"""For measuring, all together, from when the first models are made."""
START_SECONDS = 120.0
"""For that, and for importing, on a slow or busy machine."""
PROFILES = ("edge", "fast", "balanced")
"""From the cheapest to the most accurate."""
BACKENDS = ("openvino", "onnxruntime")
MARGIN = 1.25
"""Times the wanted rate, for what a live node does beside segmenting."""
GAIN = 1.3
"""How much faster another backend than torch has to be to be worth its engines."""
MODULE = [sys.executable, "-m", "zgs_ros.cli.bench_processes", "advise"]
BEGUN = "begun"
"""Line of that process once the first models are made; each further one is a trial."""
REPEATS = 5
ENOUGH = 2.0
"""Seconds of a choice after which its images are not repeated any more."""


@dataclass(frozen=True)
class Choice:
    """What can be set.

    Attributes:
        profile: Its name.
        stride: ``dino.stride``, in pixels.
        backend: What computes features and encoding.
    """

    profile: str
    stride: int
    backend: str = "torch"


@dataclass(frozen=True)
class Trial:
    """A choice that was measured.

    Attributes:
        choice: Which one.
        seconds: Per image, the median of some.
    """

    choice: Choice
    seconds: float


@dataclass(frozen=True)
class Advice:
    """What to set.

    Attributes:
        choice: The recommended one, None where nothing could be measured.
        rate: Images per second that a live node can be expected to reach with it.
        wanted: That were asked for.
        trials: What was measured, in this order.
        problem: Why measuring stopped before it was through, "" if it did not.
    """

    choice: Choice | None
    rate: float
    wanted: float
    trials: tuple[Trial, ...]
    problem: str

    @property
    def reached(self) -> bool:
        """Whether the wanted rate is."""
        return self.rate >= self.wanted

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def advise(trials: Sequence[Trial], wanted: float, problem: str = "") -> Advice:
    """The most accurate choice that reaches a rate, else the fastest.

    More accurate is, in this order: the later profile of `PROFILES`, the smaller stride. Another backend
    than torch is taken where it is faster by `GAIN`, or where only it reaches the rate.

    Args:
        trials: What was measured.
        wanted: Images per second.
        problem: See `Advice`.
    """
    if not trials:
        return Advice(None, 0.0, wanted, (), problem)
    rates = {trial.choice: 1.0 / (MARGIN * trial.seconds) for trial in trials}

    def value(choice: Choice) -> tuple[int, int, float]:
        gain = 1.0 if choice.backend == "torch" else 1.0 / GAIN
        return PROFILES.index(choice.profile), -choice.stride, gain * rates[choice]

    enough = [choice for choice, rate in rates.items() if rate >= wanted]
    best = max(enough, key=value) if enough else max(rates, key=lambda choice: rates[choice])
    return Advice(best, rates[best], wanted, tuple(trials), problem)


def measure_choices(
    settings: SegmenterSettings,
    wanted: float,
    size: tuple[int, int],
    segments: int,
    begin: Callable[[], None] = lambda: None,
) -> Iterator[Trial]:
    """Measures one choice after the other, as long as more accurate ones can reach the rate.

    Args:
        settings: Device and precision are theirs.
        wanted: Images per second.
        size: (width, height) of the images in pixels.
        segments: Of every image, which are given.
        begin: Called when the first models are made.
    """
    image = camera_frames(*size)[0][0]
    found: list[Trial] = []
    for profile in PROFILES:
        bench = make_bench(of_profile(settings, profile), segments, size)
        if not found:
            begin()
        for stride in strides(bench):
            trial = Trial(Choice(profile, stride), _time(_with_stride(bench, stride), image))
            found.append(trial)
            yield trial
            if advise([trial], wanted).reached:
                break  # a larger stride of this profile would only be coarser
        else:
            break  # the next profile costs more
    best = advise(found, wanted).choice
    assert best is not None  # the first profile was measured
    for backend in BACKENDS:
        if importlib.util.find_spec(backend) and importlib.util.find_spec("onnxscript"):
            values = {"dino.stride": best.stride, "backend": backend}
            try:
                bench = make_bench(of_profile(settings, best.profile, values), segments, size)
            except ModelError:  # it can't run these models here
                continue
            yield Trial(replace(best, backend=backend), _time(bench, image))


def of_profile(
    settings: SegmenterSettings, profile: str, values: dict[str, Any] | None = None
) -> SegmenterSettings:
    """Settings of a profile, with the device and precision of others."""
    given = {"profile": profile, **_kept(settings), **(values or {})}
    return make_settings(SegmenterSettings, given)


def _kept(settings: SegmenterSettings) -> dict[str, Any]:
    return {key: flatten(settings)[key] for key in ("device", "precision")}


def strides(bench: Bench) -> list[int]:
    """That of the profile, and coarser ones up to a patch."""
    own, patch = bench.settings.dino.stride, bench.dino.patch
    return sorted({own, (own + patch + 1) // 2, patch})


def _with_stride(bench: Bench, stride: int) -> Bench:
    dino = bench.settings.dino
    features = DinoFeatures(bench.dino.model, dino.short_side, stride, dino.attention)
    features = features.to(device=bench.device, dtype=bench.precision).eval()
    values = {**flatten(bench.settings), "dino.stride": stride}
    return replace(bench, dino=features).with_settings(make_settings(SegmenterSettings, values))


def _time(bench: Bench, image: Any) -> float:
    """Seconds per image, the median of some after a first one."""
    bench.segmenter.segment(image)
    spent: list[float] = []
    while len(spent) < REPEATS and sum(spent) < ENOUGH:
        spent.append(timed(lambda: bench.segmenter.segment(image), bench.device, WALL)[0])
    return statistics.median(spent)


def run(
    settings: SegmenterSettings,
    wanted: float,
    size: tuple[int, int],
    segments: int,
    seconds: float = SECONDS,
    say: Callable[[Trial], None] = lambda trial: None,
) -> Advice:
    """Measures for some time and recommends.

    Args:
        settings: As for `measure_choices`.
        wanted: Images per second.
        size: (width, height) of the images in pixels.
        segments: Of every image, which are given.
        seconds: After which the measuring process is ended, from when the first models are made.
        say: Takes each trial.

    Raises:
        SettingsError: If the rate is none.
    """
    if not 0.0 < wanted <= 1000.0:
        raise SettingsError(f"--rate {wanted:g}: must be above 0 and at most 1000 Hz")
    asked = {
        "settings": _kept(settings),
        "wanted": wanted,
        "size": size,
        "segments": segments,
    }
    trials: list[Trial] = []
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [*MODULE, json.dumps(asked)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            preexec_fn=dies_with_parent(),
        )
        over = threading.Event()

        def end() -> None:
            over.set()
            process.kill()

        def started(seconds: float) -> threading.Timer:
            timer = threading.Timer(seconds, end)
            timer.start()
            return timer

        timer = started(START_SECONDS)
        try:
            assert process.stdout is not None
            for line in process.stdout:
                found = json.loads(line)
                if found == BEGUN:
                    timer.cancel()
                    timer = started(seconds)
                    continue
                trials.append(Trial(Choice(**found["choice"]), found["seconds"]))
                say(trials[-1])
            code = process.wait()
        finally:
            timer.cancel()
            process.kill()
            process.wait()
        errors.seek(0)
        lines = errors.read().strip().splitlines()
    problem = ""
    if over.is_set():
        problem = f"the {timer.interval:g} s were over"
    elif code == -signal.SIGKILL:
        problem = "the system ended it, which it does when memory runs out"
    elif code:
        problem = lines[-1].removeprefix("zgs: ") if lines else f"it ended with code {code}"
    return advise(trials, wanted, problem)
