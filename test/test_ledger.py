"""The ledger of live nodes: files, table, and the measurement that writes them."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from zgs_ros.bench.ledger import (
    FORMAT,
    Ledger,
    LedgerError,
    Machine,
    Run,
    ledger_table,
    read_ledger,
    write_run,
)
from zgs_ros.bench.live import Stretch
from zgs_ros.cli import app

ROOT = Path(__file__).parents[1]
MACHINE = Machine(
    processor="Best CPU (R) 3", cores=4, memory_gb=8.0, gpu=None, system="Linux arm64"
)
ALONE = {"seconds": 20.0, "images_per_second": 8.0, "p50_s": 0.12, "p99_s": 0.21, "load": 2.0}
RUN: dict[str, Any] = {
    "date": "2026-11-26",
    "version": "0.1.0",
    "command": "zgs bench --live",
    "profile": "edge",
    "models": ["vit", "clip"],
    "size": "640x480",
    "given_segments": 20,
    "device": "cpu",
    "precision": "bfloat16",
    "backend": "torch",
    "threads": 4,
    "versions": {"torch": "2.14"},
    "camera_rate": 30.0,
    "alone": ALONE,
    "busy_processes": 4,
    "beside": {**ALONE, "images_per_second": 3.5, "p50_s": None, "p99_s": None},
}


def run_of(**changes: Any) -> Run:
    return Run.model_validate({**RUN, **changes})


def test_the_page_shows_what_the_files_say() -> None:
    writer = runpy.run_path(str(ROOT / "scripts" / "write_ledger.py"))
    page = writer["PAGE"].read_text()
    assert writer["page_text"](page, writer["FOLDER"]) == page, (
        "run: python scripts/write_ledger.py"
    )


def test_a_files_name_is_its_machines() -> None:
    for path in (ROOT / "benchmarks" / "ledger").glob("*.json"):
        assert read_ledger(path).name == path.name


def test_a_run_is_added_and_takes_the_place_of_the_same_one_before(tmp_path: Path) -> None:
    path = write_run(tmp_path / "ledger", MACHINE, run_of())
    assert path.name == "best-cpu-r-3-4-cores.json"
    write_run(path.parent, MACHINE, run_of(profile="fast"))
    write_run(path.parent, MACHINE, run_of(date="2026-12-01"))
    found = read_ledger(path)
    assert found.machine == MACHINE
    assert [(run.profile, run.date) for run in found.runs] == [
        ("fast", "2026-11-26"),
        ("edge", "2026-12-01"),
    ]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_table_has_a_row_for_each_run() -> None:
    runs = [run_of(), run_of(profile="fast", given_segments=0, busy_processes=0, beside=None)]
    rows = ledger_table([Ledger(format=FORMAT, machine=MACHINE, runs=runs)]).texts()
    where, how = "Best CPU (R) 3, 4 cores", "bfloat16, torch"
    assert rows == [
        [
            where,
            "edge, 20 segments, 640x480",
            how,
            "2.0",
            "8.0",
            "120",
            "210",
            "4",
            "3.5",
            "-",
            "-",
            "2026-11-26",
        ],
        [where, "fast, 640x480", how, "2.0", "8.0", "120", "210", "-", "-", "-", "-", "2026-11-26"],
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "Invalid JSON"),
        (b"[1]", "it: Input should be"),
        ({"format": 7}, "is of format 7, not 1"),
        ({"machine": {**MACHINE.model_dump(), "cores": 0}}, "machine.cores"),
        ({"runs": [{**RUN, "date": "today"}]}, r"runs.0.date"),
        ({"runs": [{**RUN, "alone": {**ALONE, "p50_s": -1}}]}, r"runs.0.alone.p50_s"),
        ({"runs": [{**RUN, "more": 1}]}, r"runs.0.more: Extra inputs"),
        (b" " * 1_000_001, "larger than 1000000 bytes"),
        (None, "can't be read"),
    ],
)
def test_files_that_are_none_of_the_ledger_are_refused(
    content: bytes | dict[str, Any] | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "machine.json"
    whole = {"format": FORMAT, "machine": MACHINE.model_dump(), "runs": []}
    if isinstance(content, dict):
        path.write_text(json.dumps({**whole, **content}))
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(LedgerError, match=message) as caught:
        read_ledger(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("latencies", "rate", "p50", "p99"),
    [([0.1] * 98 + [0.5, 0.7], 10.0, 0.1, 0.502), ([], 0.0, None, None)],
)
def test_a_stretch_has_rate_median_and_tail(
    latencies: list[float], rate: float, p50: float | None, p99: float | None
) -> None:
    found = Stretch.of(latencies, 10.0)
    assert found.images_per_second == rate
    assert found.p50_s == (p50 and pytest.approx(p50))
    assert found.p99_s == (p99 and pytest.approx(p99))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_live_node_is_measured_alone_and_beside_a_busy_process(tmp_path: Path) -> None:
    pytest.importorskip("cyclonedds")
    given = ["--profile", "mini", "--size", "160x120", "--seconds", "4", "--busy", "1"]
    given += ["--camera-rate", "5", "--ledger", str(tmp_path), "--json", str(tmp_path / "run")]
    result = CliRunner().invoke(app, ["bench", "--live", *given])
    assert result.exit_code == 0, result.output
    [file] = tmp_path.glob("*.json")
    [run] = read_ledger(file).runs
    for stretch in (run.alone, run.beside):
        assert stretch is not None
        assert 0 < stretch.images_per_second <= 6.0  # the camera's rate, and what was under way
        assert stretch.p50_s is not None
        assert stretch.p99_s is not None
        assert 0 < stretch.p50_s <= stretch.p99_s
    assert json.loads((tmp_path / "run").read_text())["run"] == run.model_dump()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_node_that_can_not_start_ends_the_measurement_with_its_words() -> None:
    pytest.importorskip("cyclonedds")
    given = ["--profile", "mini", "--set", "labeling.vocabulary=/nowhere.txt", "--seconds", "1"]
    result = CliRunner().invoke(app, ["bench", "--live", *given])
    assert result.exit_code == 1
    assert "the node ended with code" in result.output
    assert "/nowhere.txt" in result.output
