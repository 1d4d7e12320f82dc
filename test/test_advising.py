"""zgs bench --advise: what it recommends, and that it ends in time."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from typer.testing import CliRunner

from zgs_ros.bench import advising
from zgs_ros.bench.advising import BEGUN, MARGIN, Advice, Choice, Trial, advise
from zgs_ros.bench.report import advice_lines
from zgs_ros.cli import app
from zgs_ros.config import SegmenterSettings, make_settings

SETTINGS = make_settings(SegmenterSettings, {"device": "cpu"})
EDGE, COARSE = Choice("edge", 13), Choice("edge", 16)
FAST, BALANCED = Choice("fast", 8), Choice("balanced", 4)
OPENVINO = Choice("edge", 13, "openvino")


def trials_of(**rates: float) -> list[Trial]:
    """Trials that allow a live node so many images per second."""
    names = {
        "edge": EDGE,
        "coarse": COARSE,
        "fast": FAST,
        "balanced": BALANCED,
        "openvino": OPENVINO,
    }
    return [Trial(names[name], 1.0 / (MARGIN * rate)) for name, rate in rates.items()]


@pytest.mark.parametrize(
    ("rates", "wanted", "expected", "reached"),
    [
        pytest.param({"edge": 9, "fast": 3}, 5, EDGE, True, id="the only one that reaches it"),
        pytest.param({"edge": 9, "fast": 6}, 5, FAST, True, id="the more accurate profile"),
        pytest.param({"edge": 9, "fast": 6, "balanced": 5}, 5, BALANCED, True, id="just reached"),
        pytest.param({"edge": 6, "coarse": 9}, 5, EDGE, True, id="the smaller stride"),
        pytest.param({"edge": 4, "coarse": 6}, 5, COARSE, True, id="a larger stride"),
        pytest.param({"edge": 1, "coarse": 2}, 5, COARSE, False, id="none: the fastest"),
        pytest.param({"edge": 6, "openvino": 7}, 5, EDGE, True, id="a backend not worth it"),
        pytest.param({"edge": 6, "openvino": 8}, 5, OPENVINO, True, id="a backend that is"),
        pytest.param({"edge": 4.5, "openvino": 5}, 5, OPENVINO, True, id="only by a backend"),
    ],
)
def test_the_most_accurate_choice_that_reaches_the_rate_is_recommended(
    rates: dict[str, float], wanted: float, expected: Choice, reached: bool
) -> None:
    found = advise(trials_of(**rates), wanted)
    assert found.choice == expected
    assert found.reached is reached
    assert found.rate == pytest.approx(
        max(rates[n] for n in rates if trials_of(**{n: 1})[0].choice == expected)
    )


@pytest.mark.parametrize(
    ("advice", "lines"),
    [
        pytest.param(
            advise(trials_of(edge=8.0), 5),
            [
                "profile edge, dino.stride 13 reaches about 8 of 5 images/s",
                "zgs run --profile edge --set dino.stride=13 --set max_rate=5",
            ],
            id="reached",
        ),
        pytest.param(
            advise(trials_of(coarse=2.0), 5, "the 30 s were over"),
            [
                "not all was measured: the 30 s were over; --seconds takes more",
                "nothing reaches 5 images/s here: profile edge, dino.stride 16 comes nearest, about 2 of",
                "zgs run --profile edge --set dino.stride=16 --set max_rate=5",
            ],
            id="not reached",
        ),
        pytest.param(
            advise(trials_of(openvino=9.0), 5),
            [
                "profile edge, dino.stride 13, backend openvino reaches about 9 of 5",
                "zgs export --profile edge --set dino.stride=13 --size WIDTHxHEIGHT --out engines/ && zgs "
                "run --profile edge --set dino.stride=13 --set max_rate=5 --set backend=openvino "
                "--set engines=engines/",
            ],
            id="with engines",
        ),
        pytest.param(
            Advice(None, 0.0, 5.0, (), "no memory"),
            ["nothing could be measured: no memory"],
            id="nothing",
        ),
    ],
)
def test_the_advice_says_what_to_call(advice: Advice, lines: list[str]) -> None:
    shown = advice_lines(advice)
    assert len(shown) == len(lines)
    assert all(line.startswith(begin) for line, begin in zip(shown, lines, strict=True))


def test_it_ends_where_models_can_not_even_be_made_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(advising, "START_SECONDS", 1.0)
    began = time.monotonic()
    found = advising.run(SETTINGS, 5.0, (64, 48), 4)
    assert time.monotonic() - began < 5.0
    assert found == Advice(None, 0.0, 5.0, (), "the 1 s were over")


TRIAL = Trial(EDGE, 0.1)
SAY = (
    f"import json, os, sys, time; say = lambda v: print(json.dumps(v), flush=True); say({BEGUN!r})"
)


@pytest.mark.parametrize(
    ("ending", "problem"),
    [
        ("", ""),
        ("time.sleep(60)", "the 0.5 s were over"),
        ("os.kill(os.getpid(), 9)", "the system ended it, which it does when memory runs out"),
        ("sys.exit('zgs: no such model')", "no such model"),
        ("sys.exit(3)", "it ended with code 3"),
    ],
)
def test_what_was_measured_counts_however_measuring_ends(
    ending: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = f"{SAY}; say({asdict(TRIAL)!r}); {ending}"
    monkeypatch.setattr(advising, "MODULE", [sys.executable, "-c", code])
    said: list[Trial] = []
    found = advising.run(SETTINGS, 5.0, (64, 48), 4, 0.5, said.append)
    assert (found.trials, found.problem) == ((TRIAL,), problem)
    assert said == [TRIAL]
    assert found.choice == EDGE


@pytest.mark.slow
def test_a_device_that_is_not_there_is_told() -> None:
    result = CliRunner().invoke(
        app, ["bench", "--advise", "--device", "cuda:99", "--seconds", "60"]
    )
    assert result.exit_code == 1
    assert "PyTorch sees" in result.output


@pytest.mark.parametrize("rate", ["0", "-1", "1e6"])
def test_an_impossible_rate_is_refused(rate: str) -> None:
    result = CliRunner().invoke(app, ["bench", "--advise", "--rate", rate])
    assert result.exit_code == 2
    assert "must be above 0 and at most 1000 Hz" in result.output


@pytest.mark.slow
def test_a_recommendation_is_measured_here(tmp_path: Path) -> None:
    file = tmp_path / "advice.json"
    arguments = ["--rate", "0.01", "--size", "64x48", "--segments", "2", "--seconds", "200"]
    result = CliRunner().invoke(app, ["bench", "--advise", *arguments, "--json", str(file)])
    assert result.exit_code == 0, result.output
    found = json.loads(file.read_text())["advice"]
    measured = [trial["choice"]["profile"] for trial in found["trials"]]
    assert measured[:2] == ["edge", "fast"]  # as cheap ones come first, and the rate is low
    assert f"zgs run --profile {found['choice']['profile']}" in result.output
