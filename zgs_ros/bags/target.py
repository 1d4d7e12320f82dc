"""Where a bag is to be: it grows elsewhere, so that a half-written one is never taken for whole."""

from __future__ import annotations

import mmap
import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from zgs_ros.bags.bag import BagError, load_yaml
from zgs_ros.bags.mcap_salvage import METADATA_INDEX, Fields, summary_records
from zgs_ros.files.bags import SUFFIXES, is_bag

UNFINISHED = ".unfinished"
"""Ending of the folder in which a bag grows, and of nothing that is whole."""


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

    def check(self, source: Path) -> None:
        """Makes sure that nothing but an earlier result can be lost.

        Args:
            source: The bag that results are made from.

        Raises:
            BagError: If the path is no place for a bag.
        """
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

    def facts(self) -> dict[str, str]:
        """What the bag that is there keeps in its metadata; nothing where there is none."""
        try:
            text = _metadata(self.path)
            about = load_yaml(text)
            return dict(about.get("rosbag2_bagfile_information", about)["custom_data"] or {})
        except (OSError, ValueError, TypeError, KeyError, AttributeError, sqlite3.Error):
            return {}

    def finish(self) -> None:
        """Moves the closed bag to its place, and removes what it grew in.

        Raises:
            OSError: If that fails.
        """
        made = self.growing / self.path.name if self.is_file else self.growing
        if self.path.is_dir():
            shutil.rmtree(self.path)
        made.replace(self.path)
        shutil.rmtree(self.workplace)


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
