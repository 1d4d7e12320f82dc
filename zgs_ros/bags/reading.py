"""Opening a bag: a whole one with rosbags, a damaged one for what can be read of it."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from rosbags.rosbag2 import Reader

from zgs_ros.bags.bag import BagError, DamagedBag, Recorded, Storage, Topic
from zgs_ros.bags.mcap_salvage import McapSalvage
from zgs_ros.bags.sqlite_salvage import SqliteSalvage
from zgs_ros.files.bags import MCAP, ROS1_SUFFIX, SQLITE3, SUFFIXES, is_bag, storage_of

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_SALVAGE: dict[str, Callable[[Path], Storage]] = {MCAP: McapSalvage, SQLITE3: SqliteSalvage}
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
METADATA = "metadata.yaml"


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
    if salvage or _has_journal(path):
        return SalvagedBag(path)
    try:
        return WholeBag(path)
    except Exception:  # whatever rosbags stumbled over, another way to read it is there
        return SalvagedBag(path)


class WholeBag:
    """A bag with nothing wrong so far.

    Raises:
        Exception: Any, where it can't be opened.
    """

    def __init__(self, path: Path) -> None:
        self.losses: list[str] = []
        self.topics: dict[str, Topic] = {}
        self._reader = Reader(path)
        self._reader.open()
        for connection in self._reader.connections:
            about: Any = connection.ext
            topic = Topic(
                name=connection.topic,
                type=connection.msgtype,
                count=connection.msgcount,
                definition=connection.msgdef,
                digest=connection.digest,
                qos=tuple(about.offered_qos_profiles),
                is_cdr=about.serialization_format == "cdr",
            )
            seen = self.topics.get(topic.name)
            self.topics[topic.name] = replace(
                topic, count=topic.count + (seen.count if seen else 0)
            )

    def messages(self, topics: Collection[str]) -> Iterator[Recorded]:
        """Messages of the named topics in the order of recording.

        Raises:
            DamagedBag: If something can't be read; `SalvagedBag` reads the rest.
        """
        wanted = [c for c in self._reader.connections if c.topic in topics]
        if not wanted:
            return
        found = self._reader.messages(wanted)
        while True:
            try:
                connection, time, data = next(found)
            except StopIteration:
                return
            except Exception as error:  # of rosbags, of sqlite, of a decompressor
                raise DamagedBag(str(error) or type(error).__name__) from error
            yield Recorded(connection.topic, time, data)

    def close(self) -> None:
        """Closes the files."""
        self._reader.close()


class SalvagedBag:
    """What can be read of a bag, file by file.

    Raises:
        BagError: If that is nothing.
    """

    def __init__(self, path: Path) -> None:
        self.losses: list[str] = []
        self.topics: dict[str, Topic] = {}
        self._files: list[Storage] = []
        self._folder = TemporaryDirectory(prefix="zgs_bag_")
        described = _read_metadata(path) if path.is_dir() else {}
        paths = _files(path, described, self.losses) if path.is_dir() else [path]
        for file in paths:
            try:
                self._add(self._open(file))
            except (BagError, OSError, ValueError) as error:  # an empty file can't be mapped
                self.losses.append(f"{file.name}: nothing in it can be read ({error})")
        if not self._files:
            self.close()
            raise BagError(f"{path}: nothing can be read: " + "; ".join(self.losses))
        self._compare(described)

    def messages(self, topics: Collection[str]) -> Iterator[Recorded]:
        """Messages of the named topics that can be read, as far as possible in order."""
        for file in self._files:
            for message in file.messages(topics):
                if message.data[:4] == _ZSTD_MAGIC:  # compression_mode: message
                    try:
                        yield message._replace(data=zstd.decompress(message.data))
                    except zstd.ZstdError:
                        yield message  # can't be decoded, and is counted as that
                else:
                    yield message

    def close(self) -> None:
        """Closes the files."""
        for file in self._files:
            file.close()
        self._folder.cleanup()

    def _open(self, path: Path) -> Storage:
        if path.suffix == ".zstd":
            path = _decompressed(path, Path(self._folder.name), self.losses)
        storage = storage_of(path)
        if storage is None:
            raise BagError(f"is not one of {_endings()}")
        return _SALVAGE[storage](path)

    def _add(self, file: Storage) -> None:
        self._files.append(file)
        self.losses.extend(file.losses)
        for name, topic in file.topics.items():
            seen = self.topics.get(name)
            self.topics[name] = replace(topic, count=topic.count + (seen.count if seen else 0))

    def _compare(self, described: dict[str, int]) -> None:
        """Notes of which topics there should be more."""
        for name, count in sorted(described.items()):
            found = self.topics[name].count if name in self.topics else 0
            if found < count:
                self.losses.append(f"{name}: {found} of {count} messages can be read")


def _read_metadata(folder: Path) -> dict[str, int]:
    """Messages by topic as a folder's metadata.yaml has them; nothing where it can't be read."""
    try:
        about = yaml.safe_load((folder / METADATA).read_text("utf-8"))
        return {
            entry["topic_metadata"]["name"]: int(entry["message_count"])
            for entry in about["rosbag2_bagfile_information"]["topics_with_message_count"]
        }
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        return {}


def _files(folder: Path, described: dict[str, int], losses: list[str]) -> list[Path]:
    """The files of a bag in the order of recording; notes those that are missing."""
    there = sorted(filter(storage_of, folder.iterdir()), key=_natural)
    if described:
        about = yaml.safe_load((folder / METADATA).read_text("utf-8"))
        named = about["rosbag2_bagfile_information"].get("relative_file_paths") or []
        missing = [Path(name).name for name in named if not (folder / Path(name).name).exists()]
        losses.extend(f"{name}: is missing" for name in missing)
    return there


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sorts bag_10 behind bag_9."""
    return [(int(part or 0), text) for text, part in re.findall(r"(\D*)(\d*)", path.name)]


def _decompressed(path: Path, folder: Path, losses: list[str]) -> Path:
    """A file that was compressed as a whole, as far as it can be decompressed."""
    target = folder / path.stem
    with path.open("rb") as packed, target.open("wb") as file:
        try:
            with zstd.open(packed, "rb") as content:
                shutil.copyfileobj(content, file)
        except (zstd.ZstdError, EOFError) as error:
            losses.append(f"{path.name}: is damaged or cut off ({error})")
    return target


def _has_journal(path: Path) -> bool:
    """Whether a recording into sqlite3 was killed: rosbags reads no journal."""
    files = path.iterdir() if path.is_dir() else [path]
    journals = (file.with_name(f"{file.name}-wal") for file in files if file.suffix == ".db3")
    return any(journal.is_file() and journal.stat().st_size for journal in journals)


def _endings() -> str:
    return " and ".join(SUFFIXES)
