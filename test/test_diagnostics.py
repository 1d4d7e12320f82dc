"""The diagnosis: level, one line, and all the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import psutil
import pytest

from zgs_ros.config import DiagnosticsSettings
from zgs_ros.dds.types import TypeSupport
from zgs_ros.streaming.diagnostics import (
    ERROR,
    OK,
    WARN,
    Diagnosis,
    assess,
    diagnostic_array,
)
from zgs_ros.streaming.memory import memory_facts, trim_memory
from zgs_ros.streaming.statistics import CameraSnapshot, Latency, Snapshot

TYPES = TypeSupport("jazzy")
DEFAULTS = DiagnosticsSettings()


def seen(**values: Any) -> Snapshot:
    return Snapshot(**{"received": 9, "processed": 5, "seconds_since_frame": 0.1, **values})


HEALTH: list[tuple[Snapshot, dict[str, float], int, str]] = [
    (Snapshot(), {}, WARN, "no image received yet"),
    (seen(seconds_since_frame=2.9), {}, OK, "idle"),
    (seen(seconds_since_frame=7.2), {}, WARN, "no image for 7 s"),
    (seen(seconds_since_frame=31.0), {}, ERROR, "no image for 31 s"),
    (seen(seconds_since_frame=7.2), {"silence_warn": 8.0}, OK, "idle"),
    (seen(seconds_since_frame=7.2), {"silence_error": 7.0}, ERROR, "no image for 7 s"),
    (seen(rate=4.25), {}, OK, "4.2 results/s"),
    (seen(rate=4.25), {"min_rate": 5.0}, WARN, "4.2 results/s, below 5"),
    (seen(rate=4.25), {"min_rate": 4.0}, OK, "4.2 results/s"),
    (seen(seconds_since_error=1.0, last_error="bad"), {}, ERROR, "bad"),
    (seen(seconds_since_error=1.0, last_error="bad", rate=2.0), {}, WARN, "bad"),
    (seen(seconds_since_error=60.0, last_error="bad", rate=2.0), {}, OK, "2.0 results/s"),
    (
        seen(seconds_since_error=60.0, last_error="bad", rate=2.0),
        {"rejection_hold": 90.0},
        WARN,
        "bad",
    ),
    (seen(rate=1.0, latency=Latency(0.1, 1.9)), {}, OK, "1.0 results/s"),
    (
        seen(rate=1.0, latency=Latency(0.1, 2.5)),
        {},
        WARN,
        "latency 2.5 s (95th percentile), above 2 s",
    ),
    (
        seen(rate=1.0, latency=Latency(0.1, 12.0)),
        {},
        ERROR,
        "latency 12.0 s (95th percentile), above 10 s",
    ),
    (seen(rate=1.0, latency=Latency(9, 12)), {"latency_warn": 0, "latency_error": 0}, OK, "1.0 re"),
    (
        seen(rate=1.0, latency=Latency(1, 3), seconds_since_error=1.0, last_error="bad"),
        {},
        WARN,
        "bad; latency 3.0 s (95th percentile), above 2 s",
    ),
    (  # what is less bad is said, too
        seen(rate=1.0, latency=Latency(1, 12), seconds_since_error=1.0, last_error="bad"),
        {},
        ERROR,
        "latency 12.0 s (95th percentile), above 10 s; bad",
    ),
]


@pytest.mark.parametrize(("snapshot", "thresholds", "level", "text"), HEALTH)
def test_the_diagnosis_says_how_the_stream_is(
    snapshot: Snapshot, thresholds: dict[str, float], level: int, text: str
) -> None:
    found = assess(Diagnosis(snapshot), DiagnosticsSettings(**thresholds))
    assert found[0] == level
    assert found[1].startswith(text)


@pytest.mark.parametrize(("wanted", "level"), [(True, WARN), (False, OK)])
def test_a_low_rate_is_no_trouble_while_nobody_listens(wanted: bool, level: int) -> None:
    thresholds = DiagnosticsSettings(min_rate=5.0)
    assert assess(Diagnosis(seen(rate=0.0), wanted=wanted), thresholds)[0] == level


@pytest.mark.parametrize(
    ("problems", "level", "text"),
    [([], OK, "2.0 results/s"), (["no depth"], WARN, "no depth"), (["a", "b"], WARN, "a; b")],
)
def test_other_problems_are_warnings(problems: Sequence[str], level: int, text: str) -> None:
    assert assess(Diagnosis(seen(rate=2.0), problems=problems), DEFAULTS) == (level, text)


def diagnose(diagnosis: Diagnosis) -> Any:
    message = diagnostic_array(TYPES, 5 * 10**9, "/a/zgs", diagnosis, DEFAULTS)
    return TYPES.deserialize(bytes(TYPES.serialize(message)), message.__msgtype__)


def values(status: Any) -> dict[str, str]:
    return {pair.key: pair.value for pair in status.values}


def test_diagnostics_carry_all_counts() -> None:
    snapshot = Snapshot(
        received=10,
        processed=4,
        dropped={"newer frame came": 3, "nobody subscribed": 1},
        rejected={"bad image": 2},
        rate=2.0,
        latency=Latency(0.1, 0.3),
        stage_times={"decode": 0.002, "dino": 0.5},
        last_error="bad image: step 3",
        seconds_since_frame=0.1,
        seconds_since_result=0.25,
    )
    message = diagnose(Diagnosis(snapshot, facts={"model": "mini", "device": "cpu"}))
    assert message.header.stamp.sec == 5
    [status] = message.status
    assert (status.level, status.name, status.hardware_id) == (OK, "a/zgs: stream", "cpu")
    expected = {
        "received": "10",
        "processed": "4",
        "dropped": "4",
        "rejected": "2",
        "dropped: newer frame came": "3",
        "rejected: bad image": "2",
        "image age [s]": "0.1",
        "result age [s]": "0.2",
        "latency p50 [ms]": "100.0",
        "latency p95 [ms]": "300.0",
        "stage dino [ms]": "500.0",
        "last error": "bad image: step 3",
        "model": "mini",
    }
    assert expected.items() <= values(status).items()


def test_each_camera_with_a_name_has_a_status_of_its_own() -> None:
    snapshot = seen(
        rate=3.0,
        cameras={
            "front": CameraSnapshot(8, 5, 3.0, 0.1, 0.2),
            "left": CameraSnapshot(1, 0, 0.0, 40.0, None),
        },
    )
    message = diagnose(Diagnosis(snapshot, cameras=("front", "left", "back")))
    found = {status.name: (status.level, status.message) for status in message.status}
    assert found == {
        "a/zgs: stream": (OK, "3.0 results/s"),
        "a/zgs: front": (OK, "3.0 results/s"),
        "a/zgs: left": (ERROR, "no image for 40 s"),
        "a/zgs: back": (WARN, "no image received yet"),
    }
    assert values(message.status[1]) == {
        "received": "8",
        "processed": "5",
        "results per second": "3.00",
        "image age [s]": "0.1",
        "result age [s]": "0.2",
    }


def test_memory_is_that_of_this_process() -> None:
    resident = psutil.Process().memory_info().rss / 1e6
    assert int(memory_facts("cpu")["memory [MB]"]) == pytest.approx(resident, abs=20)


def test_memory_that_was_freed_goes_back_to_the_system() -> None:
    """Without that, blocks between others that are still in use would stay with the process."""
    blocks = [np.ones(8_000) for _ in range(3_000)]
    del blocks[:-1]
    before = int(memory_facts("cpu")["memory [MB]"])
    trim_memory()
    assert before - int(memory_facts("cpu")["memory [MB]"]) > 100


@pytest.mark.parametrize(
    ("about", "level", "text"),
    [
        ({"resting": "inactive: activate it"}, OK, "inactive: activate it"),
        ({"resting": "unconfigured", "failure": "no weights"}, ERROR, "no weights"),
    ],
)
def test_a_node_that_does_not_listen_says_why(about: dict[str, str], level: int, text: str) -> None:
    diagnosis = Diagnosis(Snapshot(), cameras=(), **about)
    [status] = diagnostic_array(TYPES, 1, "/zgs", diagnosis, DEFAULTS).status
    assert (status.level, status.message) == (level, text)
    assert values(status).get("last error", "") == about.get("failure", "")


@pytest.mark.parametrize(("limit", "level"), [(60.0, ERROR), (0.0, OK), (90.0, OK)])
def test_a_frame_that_is_in_work_for_too_long_is_an_error(limit: float, level: int) -> None:
    stuck = Snapshot(seconds_since_frame=0.1, work="decoding", seconds_in_work=79.0, rate=1.0)
    thresholds = DiagnosticsSettings(stuck_error=limit)
    assert assess(Diagnosis(stuck), thresholds)[0] == level
    text = assess(Diagnosis(stuck), thresholds)[1]
    assert ("stuck in decoding for 79 s" in text) == (level == ERROR)
