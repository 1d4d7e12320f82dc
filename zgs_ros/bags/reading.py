"""Opening a bag: a file of it by its index, or where that is damaged for what can be read."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from zgs_ros.bags.bag import BagError, Recorded, Storage, Topic, load_yaml, unpack
from zgs_ros.bags.mcap_salvage import MAGIC as MCAP_MAGIC
from zgs_ros.bags.mcap_salvage import McapSalvage
from zgs_ros.bags.sqlite_salvage import SqliteSalvage
from zgs_ros.files.bags import MCAP, ROS1_SUFFIX, SQLITE3, SUFFIXES, is_bag, storage_of
from zgs_ros.texts import natural_key

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_READERS: dict[str, Callable[[Path, bool], Storage]] = {MCAP: McapSalvage, SQLITE3: SqliteSalvage}
_MAGIC = {MCAP: MCAP_MAGIC, SQLITE3: b"SQLite format 3\0"}
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
METADATA = "metadata.yaml"

MAX_METADATA = 2**22
"""Largest metadata.yaml [bytes]."""

MAX_FILE = 2**30
MAX_GROWTH = 100
"""A file that is compressed as a whole may unpack to the larger of this many bytes, and this many
times its size."""

FREE_BYTES = 2**29
"""What is left of the disk where it is unpacked."""

_PART = 2**20


def open_bag(path: Path, salvage: bool = False) -> Storage:
    """Opens a rosbag2 folder, or a .mcap or .db3 file.

    Args:
        path: The bag.
        salvage: Whether it is known to be damaged: it is read once to see what is there, and then
            gives what can be read. By default only where it can't be opened otherwise.

    Raises:
        BagError: If there is no bag, or nothing in it can be read.
    """
    if not path.exists():
        raise BagError(f"{path}: does not exist")
    if path.suffix == ROS1_SUFFIX:
        raise BagError(
            f"{path}: is a bag of ROS 1; rosbags-convert --src {path} --dst {path.stem} makes one "
            "of ROS 2 of it"
        )
    if not is_bag(path):
        raise BagError(f"{path}: is no bag; allowed are a rosbag2 folder and {_endings()} files")
    bag = Bag(path, salvage or _has_journal(path))
    if bag.is_short() and not bag.is_scanned:
        bag.close()
        bag = Bag(path, scan=True)  # for what the files don't say of themselves
    if bag.topics and all(topic.is_ros1 for topic in bag.topics.values()):
        bag.close()
        raise BagError(
            f"{path}: is a recording of ROS 1; rosbags-convert makes one of ROS 2 of a .bag"
        )
    return bag


class Bag:
    """What can be read of a bag, file by file.

    Args:
        path: A file of it, or its folder.
        scan: Whether files are read once to see what is there, instead of trusting what they say.

    Attributes:
        topics: By name.
        lost: What is missing, a line each.
        is_scanned: Whether each of the files was scanned.

    Raises:
        BagError: If nothing can be read.
    """

    def __init__(self, path: Path, scan: bool = False) -> None:
        self.lost: list[str] = []
        self.topics: dict[str, Topic] = {}
        self._files: list[Storage] = []
        self._folder = TemporaryDirectory(prefix="zgs_bag_")
        described = _read_metadata(path) if path.is_dir() else {}
        paths = _files(path, described, self.lost) if path.is_dir() else [path]
        for file in paths:
            try:
                self._add(self._open(file, scan))
            except (BagError, OSError, ValueError) as error:  # an empty file can't be mapped
                self.lost.append(f"{file.name}: nothing in it can be read ({error})")
        if not self._files:
            self.close()
            raise BagError(f"{path}: nothing can be read: " + "; ".join(self.lost))
        self.is_scanned = all(file.is_scanned for file in self._files)
        self._described = described
        self._compare()

    def messages(self, topics: Collection[str]) -> Iterator[Recorded]:
        """Messages of the named topics that can be read, as far as possible in order.

        Raises:
            zgs_ros.bags.bag.DamagedBag: If something can't be read of files that are not scanned.
        """
        for file in self._files:
            for message in file.messages(topics):
                if message.data[:4] == _ZSTD_MAGIC:  # compression_mode: message
                    try:
                        yield message._replace(data=unpack("zstd", message.data))
                    except ValueError:
                        yield message  # can't be decoded, and is counted as that
                else:
                    yield message

    def close(self) -> None:
        """Closes the files."""
        for file in self._files:
            file.close()
        self._folder.cleanup()

    def _open(self, path: Path, scan: bool) -> Storage:
        storage = storage_of(path)
        if storage is None:
            raise BagError(f"is not one of {_endings()}")
        if path.suffix == ".zstd":
            path = _decompressed(path, Path(self._folder.name), _MAGIC[storage], self.lost)
        return _READERS[storage](path, scan)

    def _add(self, file: Storage) -> None:
        self._files.append(file)
        self.lost.extend(file.lost)
        for name, topic in file.topics.items():
            seen = self.topics.get(name)
            self.topics[name] = replace(topic, count=topic.count + (seen.count if seen else 0))

    def _found(self, name: str) -> int:
        return self.topics[name].count if name in self.topics else 0

    def is_short(self) -> bool:
        """Whether there should be more messages than the files say."""
        return any(self._found(name) < count for name, count in self._described.items())

    def _compare(self) -> None:
        """Notes of which topics there should be more."""
        for name, count in sorted(self._described.items()):
            found = self._found(name)
            if found < count:
                self.lost.append(f"{name}: {found} of {count} messages can be read")


def _read_metadata(folder: Path) -> dict[str, int]:
    """Messages by topic as a folder's metadata.yaml has them; nothing where it can't be read."""
    try:
        topics = _information(folder)["topics_with_message_count"]
        return {
            str(entry["topic_metadata"]["name"]): int(entry["message_count"]) for entry in topics
        }
    except (OSError, ValueError, TypeError, KeyError, OverflowError):
        return {}


def _information(folder: Path) -> dict[str, Any]:
    """What a folder's metadata.yaml says.

    Raises:
        ValueError: If it is no such file.
        OSError: If it can't be read.
    """
    path = folder / METADATA
    if path.stat().st_size > MAX_METADATA:
        raise ValueError(f"{path}: has more than {MAX_METADATA} bytes")
    about = load_yaml(path.read_text("utf-8"))
    found = about.get("rosbag2_bagfile_information") if isinstance(about, dict) else None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: is none of rosbag2")
    return found


def _files(folder: Path, described: dict[str, int], lost: list[str]) -> list[Path]:
    """The files of a bag in the order of recording; notes those that are missing."""
    there = [path for path in folder.iterdir() if storage_of(path) and path.is_file()]
    # A recorder that was stopped while it compressed leaves both.
    there = [p for p in there if p.suffix != ".zstd" or p.with_suffix("") not in there]
    if described:
        named = _information(folder).get("relative_file_paths")
        for name in named if isinstance(named, list) else []:
            if not isinstance(name, str) or not (folder / Path(name).name).exists():
                lost.append(f"{Path(str(name)).name}: is missing")
    return sorted(there, key=lambda path: natural_key(path.name))


def _decompressed(path: Path, folder: Path, magic: bytes, lost: list[str]) -> Path:
    """A file that was compressed as a whole, as far as it can be decompressed.

    Raises:
        BagError: If it holds something else.
    """
    target = folder / path.stem
    limit = max(MAX_FILE, MAX_GROWTH * path.stat().st_size)
    with path.open("rb") as packed, target.open("wb") as file:
        try:
            with zstd.open(packed, "rb") as content:
                first = content.read(len(magic))
                if first != magic:
                    raise BagError("holds something else than its name says")
                file.write(first)
                problem = _copy(content, file, limit)
        except (zstd.ZstdError, EOFError) as error:
            problem = f"is damaged or cut off ({error})"
    if problem:
        lost.append(f"{path.name}: {problem}")
    return target


def _copy(source: zstd.ZstdFile, target: BinaryIO, limit: int) -> str:
    """Copies until the end or a limit; returns what the limit was, "" at the end."""
    while part := source.read(_PART):
        if target.tell() + len(part) > limit:
            target.write(part[: limit - target.tell()])
            return f"unpacks to more than {limit} bytes; the rest of it is left out"
        if shutil.disk_usage(Path(str(target.name)).parent).free < FREE_BYTES + len(part):
            return "does not fit on the disk when it is unpacked; the rest of it is left out"
        target.write(part)
    return ""


def _has_journal(path: Path) -> bool:
    """Whether a recording into sqlite3 was killed: rosbags reads no journal."""
    files = path.iterdir() if path.is_dir() else [path]
    journals = (file.with_name(f"{file.name}-wal") for file in files if file.suffix == ".db3")
    return any(journal.is_file() and journal.stat().st_size for journal in journals)


def _endings() -> str:
    return " and ".join(SUFFIXES)
