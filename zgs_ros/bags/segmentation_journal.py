"""What a run has segmented so far, on disk: a run that was stopped goes on from there."""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from pathlib import Path
from typing import Any

from zgs_ros.bags.bag import BagError
from zgs_ros.bags.sqlite_salvage import BELIEVED
from zgs_ros.message_types import MessageTypes
from zgs_ros.segmentation import Segmentation
from zgs_ros.streaming import messages

_DAMAGED = (sqlite3.DatabaseError, *BELIEVED)

_TYPE = "zgs_ros/msg/SegmentArray"


class SegmentationJournal:
    """Segmentations by what they were made of: an image message and the settings.

    They are kept as they come from the models, before tracking. Every one survives what happens to
    the process from then on. What can't be read any more counts as not made.

    Args:
        path: The file, which nobody else uses; made if it is not there, and begun anew if it is
            damaged.
        settings_key: Of the settings that images are segmented with.
        types: To keep segmentations as messages.

    Raises:
        BagError: If it can't be written.
    """

    def __init__(self, path: Path, settings_key: str, types: MessageTypes) -> None:
        self._path = path
        self._types = types
        self._header = messages.header(types, 0)
        # What was kept as another message can't be read as this one.
        self._settings_key = (settings_key + types.type_hash(_TYPE)).encode()
        try:
            self._database = _open(path)
        except sqlite3.OperationalError as error:
            raise BagError(f"{path}: can't be used: {error}") from None
        except _DAMAGED:
            self._database = _open_anew(path)

    def key(self, data: bytes, rotation: int = 0) -> bytes:
        """What the segmentation of a serialized image message, turned clockwise, is found by."""
        return hashlib.sha256(self._settings_key + b"%d " % rotation + data).digest()

    def recall(self, key: bytes) -> tuple[Segmentation, float] | None:
        """A segmentation and the seconds that it took; None if it was not made yet."""
        rows = self._select(key)
        try:
            return self._decode(rows[0][0]) if rows else None
        except Exception:  # whatever the decoder stumbles over in a row that is damaged
            return None

    def remember(
        self, key: bytes, segmentation: Segmentation, seconds: float
    ) -> tuple[Segmentation, float]:
        """Keeps a segmentation; returns it as `recall` will.

        Both are rounded as messages are, so that going on from here changes nothing.
        """
        message = messages.segment_array(self._types, self._header, segmentation, seconds)
        data = zlib.compress(self._types.serialize(message), 1)
        self._insert(key, data)
        if self._select(key) != [(data,)]:  # a damaged file may take what it does not give back
            self._begin_anew()
            self._insert(key, data)
        return self._decode(data)

    def close(self) -> None:
        """Closes the file."""
        self._database.close()

    def _select(self, key: bytes) -> list[Any]:
        return self._execute("SELECT data FROM results WHERE key = ?", key)

    def _insert(self, key: bytes, data: bytes) -> None:
        self._execute("INSERT OR REPLACE INTO results VALUES (?, ?)", key, data)

    def _begin_anew(self) -> None:
        self._database.close()
        self._database = _open_anew(self._path)

    def _execute(self, statement: str, *values: bytes) -> list[Any]:
        try:
            return self._database.execute(statement, values).fetchall()
        except sqlite3.OperationalError:  # such as a full disk: it is whole
            raise
        except _DAMAGED:
            self._begin_anew()
            return self._database.execute(statement, values).fetchall()

    def _decode(self, data: bytes) -> tuple[Segmentation, float]:
        message = self._types.deserialize(zlib.decompress(data), _TYPE)
        took = message.processing_time
        return messages.parse_segment_array(message), took.sec + took.nanosec * 1e-9


def _open_anew(path: Path) -> sqlite3.Connection:
    for ending in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
    return _open(path)


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=0.0, isolation_level=None)
    try:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("CREATE TABLE IF NOT EXISTS results (key BLOB PRIMARY KEY, data BLOB)")
        columns = [row[1] for row in database.execute("PRAGMA table_info(results)")]
        if columns != ["key", "data"]:
            raise sqlite3.DatabaseError(f"its table has the columns {columns}")
    except BaseException:
        database.close()
        raise
    return database
