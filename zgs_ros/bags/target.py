"""Where a bag is to be: it grows elsewhere, so that a half-written one is never taken for whole."""

from __future__ import annotations

import json
import mmap
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zgs_ros.bags.bag import BagError, load_yaml
from zgs_ros.bags.mcap_salvage import METADATA_INDEX, Fields, summary_records
from zgs_ros.files.bags import SUFFIXES, is_bag
from zgs_ros.files.ownership import MARK, InUse, is_own_text, sole_writer

UNFINISHED = ".unfinished"
"""Ending of the folder in which a bag grows, and of nothing that is whole."""

FACT = "zgs_ros"
"""What the bag's own record of how it was made is kept as."""

_LOCK, _ABOUT, _JOURNAL = "lock", "about.txt", "segmented.sqlite3"
_UNREADABLE = (
    *(OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError),
    sqlite3.Error,
)
_JOURNAL_FILES = tuple(_JOURNAL + ending for ending in ("", "-wal", "-shm", "-journal"))


@dataclass(frozen=True)
class Target:
    """Where a bag is to be.

    Attributes:
        path: A .mcap or .db3 file, or a rosbag2 folder.
        storage: What it is stored as.
    """

    path: Path
    storage: str

    @classmethod
    def at(cls, path: Path, storage: str) -> Target:
        """A file where the path ends like one, else a folder with the given storage."""
        return cls(path, SUFFIXES.get(path.suffix, storage))

    @property
    def is_file(self) -> bool:
        """Whether it is a bare file rather than a folder."""
        return self.path.suffix in SUFFIXES

    @property
    def workplace(self) -> Path:
        """The folder in which it grows."""
        return self.path.with_name(self.path.name + UNFINISHED)

    @property
    def growing(self) -> Path:
        """The rosbag2 folder that is written there."""
        return self.workplace / (self.path.stem if self.is_file else self.path.name)

    @property
    def journal(self) -> Path:
        """What is segmented so far."""
        return self.workplace / _JOURNAL

    def check(self, source: Path, overwrite: bool = False) -> None:
        """Makes sure that nothing but an earlier result can be lost.

        Args:
            source: The bag that results are made from.
            overwrite: Whether what is there is to be replaced.

        Raises:
            BagError: If the path is no place for a bag.
        """
        if self.path.is_symlink():
            raise BagError(f"--out {self.path}: is a link; name the place that it leads to")
        path, source = self.path.resolve(), source.resolve()
        if source in (path, *path.parents):
            raise BagError(f"--out {self.path}: is in the recording itself; name another place")
        if path.is_dir() and not is_bag(path):
            raise BagError(
                f"--out {self.path}: is a folder, but no bag; name the bag itself, for example "
                f"{self.path / source.stem}_labelled.mcap"
            )
        if path.exists() and path.is_dir() == self.is_file:
            kind = "folder" if path.is_dir() else "file"
            raise BagError(f"--out {self.path}: there is a {kind} of that name; name another place")

        if overwrite and self.path.exists() and not self._is_own():
            raise BagError(
                f"--out {self.path}: holds what zgs label has not written, which is not replaced; "
                "move it away, or name another place"
            )

    @contextmanager
    def held(self) -> Iterator[None]:
        """The workplace, made if it is not there, as this run's alone for the length of the block.

        Raises:
            BagError: If another run works there, or somebody else has made the folder.
            OSError: If it can't be made.
        """
        try:
            with self._locked():
                self._claim()
                yield
        except InUse as error:
            raise BagError(f"--out {error}") from None
        finally:
            with suppress(OSError):  # nothing is done so far, or more is in it
                self.workplace.rmdir()

    def begin_anew(self) -> None:
        """Forgets what is done so far; for a `held` block."""
        for name in _JOURNAL_FILES:
            (self.workplace / name).unlink(missing_ok=True)

    def facts(self) -> dict[str, Any]:
        """What the bag that is there says of how it was made; nothing where it says nothing."""
        try:
            about = json.loads(self._information()["custom_data"][FACT])
            return about if isinstance(about, dict) else {}
        except _UNREADABLE:
            return {}

    def finish(self) -> None:
        """Moves the closed bag to its place, and removes what it grew in; for a `held` block.

        Raises:
            OSError: If that fails.
        """
        made = self.growing / self.path.name if self.is_file else self.growing
        if self.path.is_dir():
            for name in self._listed():
                (self.path / name).unlink(missing_ok=True)
            self.path.rmdir()
        made.replace(self.path)
        self.clear()

    def clear(self) -> None:
        """Removes what this run and earlier ones wrote to the workplace; for a `held` block."""
        if not self.growing.is_symlink():
            shutil.rmtree(self.growing, ignore_errors=True)
        self.begin_anew()
        (self.workplace / _ABOUT).unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if self.workplace.is_symlink():
            raise BagError(f"{self.workplace}: is a link, and needed as a folder; move it away")
        self.workplace.mkdir(parents=True, exist_ok=True)
        with sole_writer(self.workplace / _LOCK):
            yield

    def _claim(self) -> None:
        """Makes sure that the workplace is one, and marks it."""
        about = self.workplace / _ABOUT
        if is_own_text(about):
            return
        others = sorted(path.name for path in self.workplace.iterdir() if path.name != _LOCK)
        if others:
            raise BagError(
                f"--out {self.path}: needs the folder {self.workplace} to work in, and there is one "
                f"that zgs label has not made ({', '.join(others[:3])}); move it away, or name "
                "another place"
            )
        about.write_text(
            f"This folder is {MARK}: zgs label keeps here what it has done so far of "
            f"{self.path.name!a}, to go on from, and removes it when that is whole.\n"
        )

    def _is_own(self) -> bool:
        """Whether an earlier run made the bag that is there, and nothing was added to it."""
        if self.path.is_dir():
            if {path.name for path in self.path.iterdir()} - self._listed():
                return False
        elif self.path.is_file() and self.path.stat().st_size == 0:
            return True  # there is nothing in it
        return bool(self.facts())

    def _listed(self) -> set[str]:
        """Names of the files of the bag folder that is there."""
        try:
            files = self._information()["relative_file_paths"]
            return {"metadata.yaml", *map(str, files)}
        except _UNREADABLE:
            return {"metadata.yaml"}

    def _information(self) -> Any:
        about = load_yaml(_metadata(self.path))
        return about.get("rosbag2_bagfile_information", about)


def _metadata(path: Path) -> str:
    """The metadata of a bag as YAML."""
    if path.is_dir():
        return (path / "metadata.yaml").read_text("utf-8")
    if path.suffix == ".mcap":
        return _mcap_metadata(path)
    database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        return str(database.execute("SELECT metadata FROM metadata").fetchone()[0])
    finally:
        database.close()


def _mcap_metadata(path: Path) -> str:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for kind, begin, end in summary_records(data):
            if kind != METADATA_INDEX:
                continue
            index = Fields(data[begin:end])
            offset, length = index.integer(8), index.integer(8)
            record = Fields(data[offset + 9 : offset + length])  # behind its kind and length
            if record.text() == "rosbag2":
                return record.mapping()["serialized_metadata"]
    return ""
