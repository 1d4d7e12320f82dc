"""What the program itself has written, and something else has changed since."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from pathlib import Path

import numpy as np
from bag_support import TYPES, BrightAndDark
from pydantic import BaseModel

from fuzz.engine import Refused, emptied, scratch, target
from zgs_ros.bags.bag import BagError
from zgs_ros.bags.segmentation_journal import SegmentationJournal
from zgs_ros.evaluation.evaluation_journal import EvaluationJournal, JournalError
from zgs_ros.files.images import ImageFile
from zgs_ros.files.results import DESCRIPTION, LABELS, OVERLAY, ResultsFolder, is_result
from zgs_ros.labeling import phrase_cache
from zgs_ros.segmentation import Segmentation
from zgs_ros.tools.frames import LIST, FrameFolder

ROWS = np.eye(3, 4, dtype=np.float32)


def _phrase_seeds() -> Iterator[bytes]:
    path = scratch() / "seed.safetensors"
    for rows in (ROWS, ROWS[:1], ROWS[:, :2]):
        path.unlink(missing_ok=True)
        phrase_cache.write(path, rows)
        yield path.read_bytes()


@target(seeds=_phrase_seeds)
def phrases(data: bytes) -> None:
    """The cache of a vocabulary's embeddings: what is damaged counts as not there."""
    path = scratch() / "phrases.safetensors"
    path.write_bytes(data)
    rows = phrase_cache.read(path, 3)
    assert phrase_cache.write(path, ROWS)
    after = phrase_cache.read(path, 3)
    assert after is not None
    assert after.shape[0] == 3
    if rows is None:
        raise Refused
    assert (rows.ndim, rows.dtype) == (2, np.float32)


@cache
def _seen() -> Segmentation:
    return BrightAndDark().segment(np.zeros((4, 6, 3), np.uint8))


def _journal_seeds() -> Iterator[bytes]:
    path = emptied("seed") / "journal"
    database = sqlite3.connect(path)
    database.execute("PRAGMA page_size = 512")
    database.execute("CREATE TABLE results (key BLOB PRIMARY KEY, data BLOB)")
    database.commit()
    database.close()
    with closing(SegmentationJournal(path, "key", TYPES)) as journal:
        journal.remember(journal.key(b"image"), _seen(), 0.5)
    yield path.read_bytes()
    yield path.read_bytes()[:-600]


@target(BagError, seeds=_journal_seeds, longest=16384)
def segmentation_journal(data: bytes) -> None:
    """The journal of a labelling run: what is damaged counts as not made, and is made again."""
    path = emptied("journal") / "segmented.sqlite3"
    path.write_bytes(data)
    with closing(SegmentationJournal(path, "key", TYPES)) as journal:
        key = journal.key(b"image")
        known = journal.recall(key)
        journal.remember(key, _seen(), 0.5)
        assert journal.recall(key) is not None
    if known is None:
        raise Refused


def _row_seeds() -> Iterator[bytes]:
    path = emptied("seed") / "journal"
    with closing(SegmentationJournal(path, "key", TYPES)) as journal:
        journal.remember(journal.key(b"image"), _seen(), 0.5)
    database = sqlite3.connect(path)
    [(data,)] = database.execute("SELECT data FROM results")
    database.close()
    yield zlib.decompress(data)


@cache
def _open_journal() -> SegmentationJournal:
    return SegmentationJournal(scratch() / "rows", "key", TYPES)


@target(seeds=_row_seeds)
def segmentation_row(data: bytes) -> None:
    """A row of that journal, before it is compressed."""
    journal = _open_journal()
    key = journal.key(b"image")
    packed = zlib.compress(data, 0)
    journal._execute("INSERT OR REPLACE INTO results VALUES (?, ?)", key, packed)
    if journal.recall(key) is None:
        raise Refused


class Score(BaseModel):
    """An entry as an evaluation keeps them."""

    name: str
    value: float = 0.0


IDENTITY = {"data": "ade", "settings": {"profile": "mini"}}


def _evaluation_seeds() -> Iterator[bytes]:
    place = emptied("seed") / "j"
    journal = EvaluationJournal(place, Score, IDENTITY)
    for name in ("a", "b\u2028c", "caf\u00e9"):
        journal.add(Score(name=name, value=0.5))
    run, lines = ((place / name).read_bytes() for name in ("run.json", "scores.jsonl"))
    yield run + b"\0" + lines
    yield run + b"\0" + lines[:-7]


@target(JournalError, seeds=_evaluation_seeds)
def evaluation_journal(data: bytes) -> None:
    """run.json and scores.jsonl of an evaluation: what is whole stays, and more can be added."""
    place = emptied("evaluation")
    run, separator, lines = data.partition(b"\0")
    (place / "run.json").write_bytes(run)
    if separator:
        (place / "scores.jsonl").write_bytes(lines)
    journal = EvaluationJournal(place, Score, IDENTITY)
    before = dict(journal.entries)
    journal.add(Score(name="new"))
    again = EvaluationJournal(place, Score, IDENTITY).entries
    assert again.keys() == before.keys() | {"new"}


def _description_seeds() -> Iterator[bytes]:
    yield b'{"source": "../in/a.png", "fingerprint": "1"}'
    yield b'{"source": "x\\u0000y", "fingerprint": 1}'
    yield b"[" * 50


@target(seeds=_description_seeds)
def descriptions(data: bytes) -> None:
    """The description of an image's results, beside which another image gets a name."""
    place = emptied("results")
    (place / f"a{DESCRIPTION}").write_bytes(data)
    (place / f"a{OVERLAY}").write_bytes(data[:64])
    path = place.parent / "in" / "a.png"
    name = ResultsFolder(place).claim(ImageFile(path, Path("a.png"), "in"))
    assert name.parent == place or name.parent == place / "in"
    for ending in (OVERLAY, LABELS):
        is_result(place / f"a{ending}", place)


@target(
    FileExistsError, seeds=lambda: [b" made by zgs_ros\n segments.jsonl\n3:00 0001.jpg\n", b"x"]
)
def recording(data: bytes) -> None:
    """The list of what a viewer has written: nothing else is removed."""
    place = emptied("frames")
    (place / LIST).write_bytes(data)
    (place / "0001.jpg").write_bytes(b"mine")
    with FrameFolder(place):
        assert (place / "0001.jpg").read_bytes() == b"mine"
