"""Recordings: whole, of one file, compressed, and what describes them."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import bag_support
import numpy as np
from rosbags.rosbag2.enums import CompressionMode

from fuzz.engine import Refused, emptied, scratch, target
from zgs_ros.bags.bag import BagError, DamagedBag
from zgs_ros.bags.mcap_salvage import MAGIC
from zgs_ros.bags.reading import open_bag
from zgs_ros.cli import label_bag
from zgs_ros.config import NodeSettings, make_settings
from zgs_ros.streaming import messages

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MEGABYTES = 700
"""A chunk may unpack to 256 MB, of which there are two for a moment."""
MAX_MESSAGES = 100_000


def read(path: Path) -> int:
    """Number of messages that can be read, as `zgs label` does it.

    Raises:
        BagError: If it is no bag.
    """
    for salvage in (False, True):
        bag = open_bag(path, salvage)
        try:
            count = 0
            for message in bag.messages(bag.topics):
                assert message.topic in bag.topics
                assert isinstance(message.time, int)
                count += 1
                assert count <= MAX_MESSAGES, "it never ends"
            if bag.is_scanned:
                stated = sum(topic.count for topic in bag.topics.values())
                assert count == stated, f"{count} messages, {stated} were counted"
            return count
        except DamagedBag:
            assert not salvage, "a salvaged bag may not fail"
        finally:
            bag.close()
    raise AssertionError("unreachable")


def _recorded(storage: str, compression: CompressionMode = CompressionMode.NONE) -> Path:
    folder = emptied("seed") / "bag"
    said = [bag_support.text(index, topic) for index in range(3) for topic in ("/a", "/b")]
    return bag_support.record(folder, said, storage, compression)


def _mcap_seeds() -> Iterator[bytes]:
    import test_bag_readers as odd

    for mode in (CompressionMode.NONE, CompressionMode.STORAGE):
        yield bag_support.bag_file(_recorded("mcap", mode)).read_bytes()
    small = odd.message(b"\0\1\0\0\1\0\0\0\0")
    kinds = odd.schema("std_msgs/msg/String", "ros2msg"), odd.channel("- history: 1")
    described = (
        odd.record(
            3,
            b"\1\0"
            + odd.text("std_msgs/msg/String")
            + odd.text("ros2msg")
            + odd.text("string data"),
        )
        + kinds[1]
    )
    packed = odd.chunk(zstd.compress(described + small), "zstd", len(described + small))
    yield odd.HEAD + described + small + odd.END
    yield odd.HEAD + packed + odd.END
    yield odd.summary(odd.HEAD + described + small + odd.END, b"")
    for chunks in ([odd.chunk(described + small)], [packed, odd.chunk(small * 2, start=1)]):
        yield odd.indexed(len(chunks), chunks, described)


@target(BagError, seeds=lambda: (d.removeprefix(MAGIC) for d in _mcap_seeds()), megabytes=MEGABYTES)
def mcap(data: bytes) -> None:
    """An .mcap file without its first eight bytes."""
    path = scratch() / "robot.mcap"
    path.write_bytes(MAGIC + data)
    if not read(path):
        raise Refused


def _small_database() -> Path:
    """A recording into sqlite3 whose pages are small."""
    path = bag_support.bag_file(_recorded("sqlite3"))
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA page_size = 512")
        database.execute(
            "UPDATE message_definitions SET encoded_message_definition = 'string data'"
        )
    database.execute("VACUUM")
    database.close()
    return path


def _database_seeds() -> Iterator[bytes]:
    whole = _small_database().read_bytes()
    yield whole
    yield whole[:-1024] + bytes(1024)


@target(BagError, seeds=_database_seeds, megabytes=MEGABYTES, longest=16384)
def db3(data: bytes) -> None:
    """A .db3 file."""
    path = scratch() / "robot.db3"
    path.write_bytes(data)
    if not read(path):
        raise Refused


COLUMNS = (
    ("messages", "id"),
    ("messages", "timestamp"),
    ("messages", "data"),
    ("messages", "topic_id"),
    ("topics", "id"),
    ("topics", "name"),
    ("topics", "type"),
    ("topics", "serialization_format"),
    ("topics", "offered_qos_profiles"),
    ("topics", "type_description_hash"),
    ("message_definitions", "topic_type"),
    ("message_definitions", "encoding"),
    ("message_definitions", "encoded_message_definition"),
    ("metadata", "metadata"),
    ("schema", "schema_version"),
)
CHANGES = (
    "DROP TABLE messages",
    "DROP TABLE topics",
    "DELETE FROM topics",
    "DROP TABLE message_definitions",
    "ALTER TABLE messages RENAME COLUMN data TO d",
    "ALTER TABLE topics RENAME COLUMN type TO t",
    "ALTER TABLE topics RENAME TO t; CREATE VIEW topics AS SELECT * FROM t",
    "CREATE TABLE topics2 AS SELECT * FROM topics; DROP TABLE topics; ALTER TABLE topics2 RENAME TO topics",
    "CREATE TABLE m AS SELECT * FROM messages; DROP TABLE messages; ALTER TABLE m RENAME TO messages",
    "INSERT INTO topics SELECT id + 10, name, type, serialization_format, offered_qos_profiles, type_description_hash FROM topics",
    "INSERT INTO messages SELECT id + 100, topic_id, timestamp, data FROM messages",
)
ODD = (None, "", "text", 1.5, float("inf"), -1, 2**62, -(2**62), b"", b"blob", 0, "- history: 1")


@target(BagError, seeds=lambda: (bytes([n, n, n, 0]) for n in range(15)), megabytes=MEGABYTES)
def db3_rows(data: bytes) -> None:
    """A .db3 file whose values were changed: three bytes name the column, the row and the value."""
    path = scratch() / "rows.db3"
    shutil.copy(_template(), path)
    database = sqlite3.connect(path)
    for start in range(0, min(len(data) - 2, 24), 3):
        where, row, value = data[start : start + 3]
        with suppress(sqlite3.Error, OverflowError):
            if where >= 128:
                database.executescript(CHANGES[where % len(CHANGES)])
                continue
            table, column = COLUMNS[where % len(COLUMNS)]
            text: Any = ODD[value] if value < len(ODD) else data[start:].decode("latin1")
            database.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (text, row % 8))
    database.commit()
    database.close()
    if not read(path):
        raise Refused


@cache
def _template() -> Path:
    return Path(shutil.copy(_small_database(), scratch() / "template.db3"))


def _compressed_seeds() -> Iterator[bytes]:
    for data in (*_mcap_seeds(), *_database_seeds()):
        yield zstd.compress(data)
    frame = zstd.compress(next(_mcap_seeds()))
    yield frame[: len(frame) // 2]
    yield frame + zstd.compress(b"more")


@target(BagError, seeds=_compressed_seeds, megabytes=MEGABYTES)
def compressed(data: bytes) -> None:
    """A file that is compressed as a whole."""
    name = "robot.mcap.zstd" if len(data) % 2 else "robot.db3.zstd"
    path = emptied("compressed") / name
    path.write_bytes(data)
    if not read(path):
        raise Refused


def _metadata_seeds() -> Iterator[bytes]:
    for storage in ("mcap", "sqlite3"):
        for mode in (CompressionMode.NONE, CompressionMode.STORAGE):
            if (storage, mode) != ("sqlite3", CompressionMode.STORAGE):
                yield (_recorded(storage, mode) / "metadata.yaml").read_bytes()
    yield b"rosbag2_bagfile_information:\n  relative_file_paths: [bag.mcap, x]\n" + (
        b"  topics_with_message_count: [{topic_metadata: {name: /a}, message_count: 9}]\n"
    )


@cache
def _described() -> Path:
    return Path(shutil.copytree(_recorded("mcap"), scratch() / "described"))


@target(BagError, seeds=_metadata_seeds, megabytes=MEGABYTES, seconds=4.0)
def metadata(data: bytes) -> None:
    """The metadata.yaml of a folder, which takes nothing away from what is in its files."""
    bag = _described()
    (bag / "metadata.yaml").write_bytes(data)
    assert read(bag) == 6


SIZE = (8, 6)


def _camera_messages() -> list[bag_support.Message]:
    width, height = SIZE
    recorded = []
    for index in range(2):
        stamp = bag_support.stamp(index)
        header = messages.header(bag_support.TYPES, stamp, "camera")
        pixels = np.full((height, width, 3), 90, np.uint8)
        depth = np.full((height, width), 2, np.float32)
        info = bag_support.TYPES.create_partly(
            "sensor_msgs/msg/CameraInfo",
            header=header,
            height=height,
            width=width,
            k=np.array([20.0, 0, 4, 0, 20, 3, 0, 0, 1]),
        )
        for topic, value in (
            ("/camera/camera_info", info),
            ("/camera/depth/image_raw", messages.depth_image(bag_support.TYPES, header, depth)),
            ("/camera/image_raw", messages.rgb_image(bag_support.TYPES, header, pixels)),
        ):
            recorded.append(bag_support.Message(topic, stamp, value))
    return recorded


def _label_seeds() -> Iterator[bytes]:
    with mock.patch.object(bag_support.TYPES, "definition", return_value="uint8 x"):
        for storage in ("mcap", "sqlite3"):
            folder = bag_support.record(emptied("seed") / "bag", _camera_messages(), storage)
            data = bag_support.bag_file(folder).read_bytes()
            for options in (0, 1, 3, 7):
                yield bytes([options]) + data


@target(BagError, seeds=_label_seeds, megabytes=MEGABYTES, seconds=4.0, longest=65536)
def label(data: bytes) -> None:
    """`zgs label` of a recording, with depth, copying and the format as the first byte tells."""
    options = data[0] if data else 0
    place = emptied("label")
    kind = "db3" if data[1:7] == b"SQLite" else "mcap"
    bag = place / f"robot.{kind}"
    bag.write_bytes(data[1:])
    settings = make_settings(NodeSettings, {"profile": "mini", "depth.enabled": bool(options & 1)})
    request = label_bag.BagRequest(
        bag,
        place / ("out.db3" if options & 4 else "out.mcap"),
        topics=("/camera/image_raw",),
        outputs=("segments",),
        copy=bool(options & 2),
    )
    with (
        mock.patch.object(label_bag, "load_segmenter", return_value=bag_support.BrightAndDark()),
        mock.patch.object(label_bag, "MessageTypes", return_value=bag_support.TYPES),
    ):
        code = label_bag.run(request, settings)
    assert code in (0, 1), code
