"""The journal of an evaluation: nothing that was added is lost, and nothing of others is touched."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import BaseModel

from zgs_ros.evaluation.evaluation_journal import EvaluationJournal, JournalError

IDENTITY = {"data": "small", "settings": {"clip.sigma": 5.0}}


class Entry(BaseModel):
    name: str
    value: int = 0


def journal(folder: Path, fresh: bool = False) -> EvaluationJournal[Entry]:
    return EvaluationJournal(folder, Entry, IDENTITY, fresh)


def filled(folder: Path, *names: str) -> Path:
    """A folder with entries of these names; returns the file that they are in."""
    started = journal(folder)
    for value, name in enumerate(names):
        started.add(Entry(name=name, value=value))
    return folder / "scores.jsonl"


NAMES = ("a", "café", "b\u2028c", "d\u0085e", "f\x0cg\x1ch", 'quo"te\n')


def test_entries_come_back_whatever_their_names(tmp_path: Path) -> None:
    filled(tmp_path, *NAMES)
    assert {name: entry.value for name, entry in journal(tmp_path).entries.items()} == {
        name: value for value, name in enumerate(NAMES)
    }


def test_a_cut_at_any_byte_costs_the_last_entry_at_most(tmp_path: Path) -> None:
    file = filled(tmp_path, *NAMES)
    data = file.read_bytes()
    for length in range(len(data)):
        file.write_bytes(data[:length])
        kept = list(journal(tmp_path).entries)
        begun = data[:length].count(b"\n")
        assert kept[:begun] == list(NAMES[:begun])
        assert len(kept) <= begun + 1  # one whose newline alone is missing is whole
        journal(tmp_path).add(Entry(name="next"))
        assert list(journal(tmp_path).entries) == [*kept, "next"]
        assert file.read_bytes().endswith(b"\n")


def test_a_damaged_line_costs_itself(tmp_path: Path) -> None:
    file = filled(tmp_path, "a", "b", "c")
    lines = file.read_bytes().splitlines(keepends=True)
    for damage in (b"\xff\xfe\n", b"{}\n", b"[" * 100_000 + b"\n", b"\n", b'{"name": 5}\n'):
        file.write_bytes(lines[0] + damage + lines[2])
        assert list(journal(tmp_path).entries) == ["a", "c"]


@pytest.mark.parametrize(
    ("size", "text"),
    [(1 << 24, "a line of more than 16777216 bytes"), (1 << 40, "has 10995116277.. bytes")],
)
def test_what_no_evaluation_writes_is_not_read_into_memory(
    tmp_path: Path, size: int, text: str
) -> None:
    file = filled(tmp_path, "a")
    with file.open("r+b") as open_file:
        open_file.truncate(size + file.stat().st_size)
    tracemalloc.start()
    try:
        with pytest.raises(JournalError, match=f"{text}.*--fresh"):
            journal(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 26
    finally:
        tracemalloc.stop()
    assert file.stat().st_size > size  # it stays, as it is somebody's
    assert journal(tmp_path, fresh=True).entries == {}


KILLED = """
import os, sys
from pathlib import Path
from test_evaluation_journal import filled, journal, Entry
started = journal(Path(sys.argv[1]))
for number in range(1000):
    started.add(Entry(name=f"new {number}"))
    print(number, flush=True)
"""


def test_what_was_added_survives_a_kill(tmp_path: Path) -> None:
    filled(tmp_path, *NAMES)
    here = Path(__file__).parent
    environment = {"PYTHONPATH": f"{here}:{here.parent}"}
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(20):
            assert process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        told = 20 + process.stdout.read().count(b"\n")
    kept = list(journal(tmp_path).entries)
    assert kept[: len(NAMES)] == list(NAMES)
    assert len(kept) - len(NAMES) >= told


@contextmanager
def small_files(size: int) -> Iterator[None]:
    """No file can grow beyond a size, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_told_and_costs_nothing_that_was_kept(tmp_path: Path) -> None:
    file = filled(tmp_path, *NAMES)
    before = file.read_bytes()
    with small_files(len(before) + 10):
        going_on = journal(tmp_path)
        with pytest.raises(JournalError, match=r"can't keep results there .*File too large"):
            going_on.add(Entry(name="too much for what is left"))
    assert file.read_bytes() == before
    going_on.add(Entry(name="with room again"))
    assert list(journal(tmp_path).entries) == [*NAMES, "with room again"]


def test_what_belongs_to_another_run_is_refused_and_can_be_begun_anew(tmp_path: Path) -> None:
    filled(tmp_path, "a")
    with pytest.raises(JournalError, match=r"settings.clip.sigma: 5.0 -> 2.0.*--out.*--fresh"):
        EvaluationJournal(tmp_path, Entry, {**IDENTITY, "settings": {"clip.sigma": 2.0}})
    assert journal(tmp_path, fresh=True).entries == {}
    assert journal(tmp_path).entries == {}


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.json", b""),
        ("run.json", b"[]"),
        ("run.json", b"\xff\xfe"),
        ("run.json", b"[" * 100_000),
        ("run.json", b"1" * 5000),
        ("run.json", b'{"distance": 42.2, "shoes": "worn"}'),
        ("scores.jsonl", b"Bach, Brandenburg Concertos\n"),
    ],
)
def test_files_of_others_are_refused_and_stay(
    tmp_path: Path, name: str, content: bytes, fresh: bool
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(
        JournalError, match=r"(is not what an evaluation writes|no run.json).*--out"
    ):
        journal(tmp_path, fresh)
    assert (tmp_path / name).read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_links_and_folders_in_the_way_are_told(tmp_path: Path) -> None:
    file = filled(tmp_path / "a", "a")
    (tmp_path / "precious").write_text("precious")
    file.unlink()
    file.symlink_to(tmp_path / "precious")
    with pytest.raises(JournalError, match="can't keep results there"):
        journal(tmp_path / "a")
    assert (tmp_path / "precious").read_text() == "precious"
    file.unlink()
    file.mkdir()
    with pytest.raises(JournalError, match="can't keep results there"):
        journal(tmp_path / "a")
