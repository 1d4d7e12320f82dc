"""Readers of foreign bytes raise what they document and nothing else, within bounds of time and memory.

The default tests try what is known; those marked `fuzz` look for more. FUZZ_SECONDS says for how long,
for each target.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fuzz import engine
from fuzz.engine import FOUND, Finding, Refused, Target, check, prepare

NAMES = engine.all_targets()


@pytest.mark.parametrize("name", NAMES)
def test_a_reader_takes_what_it_should(name: str) -> None:
    aim = engine.find_target(name)
    outcomes = [check(aim, seed) for seed in prepare(aim)]
    assert [finding for _, finding in outcomes if finding] == []
    assert any(taken for taken, _ in outcomes), "it refuses all that it begins with"


@pytest.mark.parametrize("path", sorted(FOUND.glob("*/*")), ids=lambda path: path.name)
def test_what_was_found_is_mended(path: Path) -> None:
    _, finding = check(engine.find_target(path.parent.name), path.read_bytes())
    assert finding is None


@pytest.mark.fuzz
@pytest.mark.timeout(0)  # as long as it was asked for
@pytest.mark.parametrize("name", NAMES)
def test_nothing_more_is_found(name: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris is not there for this Python and machine")
    report = engine.fuzz(name, float(os.environ.get("FUZZ_SECONDS", "10")), kept=tmp_path)
    print(report)
    assert report.findings == []
    assert report.executions > 0


def _fails(data: bytes) -> None:
    if data[:1] == b"\0":
        raise Refused
    if data[:1] == b"\1":
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "odd")
    if data[:1] == b"\2":
        raise ValueError("documented")
    if data[:1] == b"\3":
        bytearray(b"x") * (900 << 20)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\0", None),
        (b"\1", "UnicodeDecodeError"),  # a kind of ValueError, but not what is documented
        (b"\2", None),
        (b"\3", "memory"),
        (b"x", None),
    ],
)
def test_what_counts_as_a_finding(data: bytes, expected: str | None) -> None:
    aim = Target("test.fails", _fails, (ValueError,), list, 2.0, 64, 100)
    _, finding = check(aim, data)
    assert (finding and finding.kind) == expected


def test_a_slow_input_is_a_finding() -> None:
    aim = Target("test.slow", lambda _: sum(range(10**6)), (), list, 1e-6, 64, 100)
    _, finding = check(aim, b"")
    assert isinstance(finding, Finding)
    assert finding.kind == "slow"
