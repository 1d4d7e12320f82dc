"""Bags that nobody would have written: what can be read is read, what is lost is said, and it ends."""

from __future__ import annotations

import shutil
import sqlite3
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

import bag_support as bags
import numpy as np
import pytest
from bag_support import CAMERA, TYPES
from rosbags.rosbag2.enums import CompressionMode

from zgs_ros.bags import reading
from zgs_ros.bags.bag import MAX_UNPACKED, BagError, DamagedBag, read_qos, unpack
from zgs_ros.bags.mcap_salvage import MAGIC
from zgs_ros.bags.reading import Bag, open_bag
from zgs_ros.bags.target import Target
from zgs_ros.bags.writing import BagWriter

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

IMAGE = "sensor_msgs/msg/Image"
CDR = [bytes(TYPES.serialize(bags.image(index).value)) for index in range(4)]


def record(kind: int, content: bytes) -> bytes:
    return struct.pack("<BQ", kind, len(content)) + content


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<I", len(data)) + data


def schema(name: str = IMAGE, encoding: str = "ros2msg") -> bytes:
    return record(
        3, struct.pack("<H", 1) + text(name) + text(encoding) + text(TYPES.definition(IMAGE))
    )


def channel(qos: str | None = None, encoding: str = "cdr") -> bytes:
    about = b"" if qos is None else text("offered_qos_profiles") + text(qos)
    return record(4, struct.pack("<HH", 1, 1) + text(CAMERA) + text(encoding) + text(about))


def message(data: bytes, at: int = 0) -> bytes:
    return record(5, struct.pack("<HIQQ", 1, 0, bags.stamp(at), bags.stamp(at)) + data)


def chunk(content: bytes, compression: str = "", size: int | None = None, start: int = 0) -> bytes:
    times = struct.pack("<QQ", bags.stamp(start), bags.stamp(start + 1))
    about = struct.pack("<QI", len(content) if size is None else size, 0)
    return record(6, times + about + text(compression) + struct.pack("<Q", len(content)) + content)


HEAD = MAGIC + record(1, text("ros2") + text("test"))
TYPE = schema() + channel()
END = record(15, bytes(4))


def summary(file: bytes, content: bytes) -> bytes:
    """A file with a summary and its end."""
    return file + content + record(2, struct.pack("<QQI", len(file), 0, 0)) + MAGIC


def chunk_index(offset: int, length: int, start: int = 0) -> bytes:
    times = struct.pack("<QQQQ", bags.stamp(start), bags.stamp(start + 1), offset, length)
    return record(8, times + text(b"") + struct.pack("<Q", 0) + text("") + struct.pack("<QQ", 0, 0))


def statistics(messages: int, chunks: int) -> bytes:
    about = struct.pack("<QHIIIIQQ", messages, 1, 1, 0, 0, chunks, 0, 2**62)
    return record(11, about + text(struct.pack("<HQ", 1, messages)))


def read(bag: Path) -> tuple[list[bytes], list[str]]:
    """Data of the messages and lost, as `zgs label` reads them."""
    storage = open_bag(bag)
    try:
        found = [m.data for m in storage.messages(storage.topics)]
    except DamagedBag:
        storage.close()
        storage = open_bag(bag, salvage=True)
        found = [m.data for m in storage.messages(storage.topics)]
    storage.close()
    return found, storage.lost


def indexed(stated: int, chunks: list[bytes], described: bytes = TYPE) -> bytes:
    file, index = HEAD, b""
    for number, one in enumerate(chunks):
        index += chunk_index(len(file), len(one), number)
        file += one
    return summary(file + END, described + index + statistics(stated, len(chunks)))


TWO = [chunk(TYPE + message(CDR[0]) + message(CDR[1])), chunk(message(CDR[2], 2), start=2)]
ODD_BUT_WHOLE: dict[str, tuple[bytes, int]] = {
    "no message index": (indexed(3, TWO), 3),
    "no channels in the summary": (indexed(3, TWO, b""), 3),
    "no statistics": (summary(HEAD + b"".join(TWO) + END, TYPE), 3),
    "no summary": (summary(HEAD + TYPE + message(CDR[0]) + END, b""), 1),
    "type named as in ROS 1": (HEAD + schema("sensor_msgs/Image") + channel() + message(CDR[0]), 1),
    "zeros behind messages": (HEAD + TYPE + message(CDR[0] + bytes(8)), 1),
}


@pytest.mark.parametrize("kind", ODD_BUT_WHOLE)
def test_an_odd_mcap_is_read_whole(tmp_path: Path, kind: str) -> None:
    data, count = ODD_BUT_WHOLE[kind]
    (tmp_path / "robot.mcap").write_bytes(data)
    storage = open_bag(tmp_path / "robot.mcap")
    assert (storage.topics[CAMERA].type, storage.topics[CAMERA].count) == (IMAGE, count)
    storage.close()
    found, _ = read(tmp_path / "robot.mcap")
    assert len(found) == count
    for data in found:
        assert TYPES.deserialize(data, IMAGE).width == 64


def test_overlapping_chunks_are_read_in_the_order_of_time(tmp_path: Path) -> None:
    chunks = [
        chunk(TYPE + message(CDR[0], 0) + message(CDR[2], 2)),
        chunk(message(CDR[1], 1) + message(CDR[3], 3), start=1),
    ]
    (tmp_path / "robot.mcap").write_bytes(indexed(4, chunks))
    assert read(tmp_path / "robot.mcap") == (CDR, [])


DAMAGED: dict[str, tuple[bytes, int, str]] = {
    "short message": (HEAD + TYPE + record(5, b"\1\0") + message(CDR[0]), 1, "damaged parts: 1"),
    "short schema": (HEAD + record(3, b"\1") + TYPE + message(CDR[0]), 1, "damaged parts: 1"),
    "short chunk index": (summary(HEAD + TYPE + message(CDR[0]), record(8, b"\1")), 1, ""),
    "short statistics": (summary(HEAD + TYPE + message(CDR[0]), record(11, b"\1")), 1, ""),
    "more stated than there": (indexed(5, TWO), 3, f"3 of 5 messages of {CAMERA} are there"),
    "index that leads nowhere": (
        summary(HEAD + TWO[0] + END, TYPE + chunk_index(2**40, 9) + statistics(2, 1)),
        2,
        "",
    ),
    "chunk in a chunk": (HEAD + chunk(TYPE + message(CDR[0]) + chunk(b"")), 1, "damaged parts: 1"),
    "chunk of zeros": (HEAD + chunk(TYPE + message(CDR[0]) + bytes(9000)), 1, "damaged parts: 1"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_of_a_damaged_mcap_the_rest_is_read(tmp_path: Path, kind: str) -> None:
    data, count, loss = DAMAGED[kind]
    (tmp_path / "robot.mcap").write_bytes(data)
    found, lost = read(tmp_path / "robot.mcap")
    assert found == CDR[:count]
    assert any(loss in line for line in lost) or not loss


QOS = ["- history: 1", "[: {", "null", "5", "&a [*a]", "- {depth: x}", "\udcff", "x" * 200_000]


@pytest.mark.parametrize("qos", QOS)
def test_a_quality_of_service_that_is_none_costs_nothing(tmp_path: Path, qos: str) -> None:
    assert read_qos(qos) == ()
    data = HEAD + schema() + channel(qos.encode("utf-8", "replace").decode()) + message(CDR[0])
    (tmp_path / "robot.mcap").write_bytes(data)
    assert read(tmp_path / "robot.mcap")[0] == CDR[:1]


@pytest.mark.parametrize(
    "part", [schema(encoding="ros1msg") + channel("", "ros1"), schema() + channel("", "ros1")]
)
def test_a_recording_of_ros_1_is_called_so(tmp_path: Path, part: bytes) -> None:
    (tmp_path / "robot.mcap").write_bytes(HEAD + part + message(CDR[0]))
    with pytest.raises(BagError, match="is a recording of ROS 1"):
        open_bag(tmp_path / "robot.mcap")


def bomb(size: int) -> bytes:
    """A few bytes that decompress to as many zeros."""
    compressor, parts = zstd.ZstdCompressor(), []
    for _ in range(size // 2**20):
        parts.append(compressor.compress(bytes(2**20)))
    return b"".join([*parts, compressor.flush()])


@pytest.mark.parametrize("stated", [10, MAX_UNPACKED * 2])
def test_a_chunk_that_unpacks_to_too_much_is_lost(tmp_path: Path, stated: int) -> None:
    packed = bomb(MAX_UNPACKED + 2**20)
    assert len(packed) < 100_000
    data = HEAD + TYPE + message(CDR[0]) + chunk(packed, "zstd", stated) + message(CDR[1])
    (tmp_path / "robot.mcap").write_bytes(data)
    began = time.monotonic()
    found, lost = read(tmp_path / "robot.mcap")
    assert found == CDR[:2]
    assert any("damaged parts: 1" in line for line in lost)
    assert time.monotonic() - began < 20


def test_what_unpacks_to_more_than_it_says_is_refused() -> None:
    assert unpack("zstd", zstd.compress(b"four"), 4) == b"four"
    with pytest.raises(ValueError, match="unpacks to more than 3 bytes"):
        unpack("zstd", zstd.compress(b"four"), 3)
    with pytest.raises(ValueError, match="compression 'zip' is not known"):
        unpack("zip", b"")


def test_a_chunk_of_endless_tiny_records_ends(tmp_path: Path) -> None:
    """They would take a hundred times their memory."""
    content = TYPE + message(CDR[0]) + record(127, b"") * 5_000_000
    data = HEAD + chunk(zstd.compress(content), "zstd", len(content))
    data += chunk(zstd.compress(message(b"") * 1000), "zstd", len(message(b"")) * 1000)
    (tmp_path / "robot.mcap").write_bytes(data)
    began = time.monotonic()
    assert len(read(tmp_path / "robot.mcap")[0]) >= 1000
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("name", ["robot.db3.zstd", "robot.mcap.zstd"])
def test_a_file_that_holds_something_else_is_not_unpacked(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(bomb(2**28))
    with pytest.raises(BagError, match="holds something else than its name says"):
        open_bag(tmp_path / name)


def test_a_file_is_unpacked_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = bags.bag_file(bags.record(tmp_path / "robot", bags.images(20)))
    packed = tmp_path / "robot.mcap.zstd"
    packed.write_bytes(zstd.compress(file.read_bytes()))
    assert read(packed) == read(file)
    monkeypatch.setattr(reading, "MAX_FILE", file.stat().st_size // 2)
    monkeypatch.setattr(reading, "MAX_GROWTH", 0)
    found, lost = read(packed)
    assert 0 < len(found) < 20
    assert any("unpacks to more than" in line for line in lost)


@pytest.mark.parametrize("mode", [CompressionMode.MESSAGE, CompressionMode.FILE])
@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_file_of_a_compressed_bag_is_read_without_its_metadata(
    tmp_path: Path, mode: CompressionMode, storage: str
) -> None:
    if (mode, storage) == (CompressionMode.FILE, "mcap"):
        pytest.skip("rosbags writes no such bag")
    bag = bags.record(tmp_path / "robot", bags.images(3), storage, mode)
    [file] = [path for path in bag.iterdir() if path.name != "metadata.yaml"]
    assert read(file) == (CDR[:3], [])


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("database")
    recorded = [*bags.images(20), *(bags.text(index) for index in range(20))]
    return bags.bag_file(bags.record(folder / "robot", recorded, "sqlite3"))


def test_a_database_whose_end_is_zeros_ends(tmp_path: Path, database: Path) -> None:
    data, file = database.read_bytes(), tmp_path / "robot.db3"
    counts = []
    for share in np.linspace(0.05, 0.95, 12):
        place = int(len(data) * share)
        file.write_bytes(data[:place] + bytes(len(data) - place))
        try:
            found, lost = read(file)
        except BagError:
            continue
        assert lost
        counts.append(len(found))
    assert counts == sorted(counts)
    assert counts[-1] > 20


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE messages SET data = 5 WHERE id = 3",
        "UPDATE messages SET data = 'text' WHERE id = 3",
        "UPDATE messages SET timestamp = 'later' WHERE id = 3",
        "UPDATE messages SET topic_id = 'x' WHERE id = 3",
    ],
)
def test_a_row_that_is_no_message_costs_itself(tmp_path: Path, database: Path, damage: str) -> None:
    file = altered(database, tmp_path / "robot.db3", damage)
    found, lost = read(file)
    assert len(found) == 39
    assert lost == ["robot.db3: rows that are no messages: 1"]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE topics SET offered_qos_profiles = '- history: 1'",
        "UPDATE topics SET type_description_hash = 5",
        "UPDATE topics SET offered_qos_profiles = 5, type_description_hash = x'00'",
        "DROP TABLE message_definitions",
        "UPDATE message_definitions SET encoding = x'ff'",
        "UPDATE message_definitions SET encoded_message_definition = x'ff'",
        "UPDATE messages SET id = id + 9000000000000000000",
        "DROP INDEX timestamp_idx",
    ],
)
def test_odd_descriptions_cost_no_messages(tmp_path: Path, database: Path, damage: str) -> None:
    file = altered(database, tmp_path / "robot.db3", damage)
    found, _ = read(file)
    assert len(found) == 40
    bag = Bag(file)
    writer = BagWriter(tmp_path / "copy", "mcap", TYPES)
    for topic in bag.topics.values():
        writer.add_topic(topic)
    writer.close({})
    bag.close()


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        ("DROP TABLE messages", "its list of topics can't be read"),
        ("DROP TABLE topics", "its list of topics can't be read"),
        (
            "DROP TABLE messages; CREATE VIEW messages AS WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL "
            "SELECT id FROM n) SELECT id, 1 topic_id, 1 timestamp, x'' data FROM n",
            "is a view",
        ),
    ],
)
def test_a_database_without_messages_is_refused(
    tmp_path: Path, database: Path, damage: str, problem: str
) -> None:
    file = altered(database, tmp_path / "robot.db3", damage)
    with pytest.raises(BagError, match=problem):
        open_bag(file)


def altered(source: Path, target: Path, script: str) -> Path:
    shutil.copy(source, target)
    database = sqlite3.connect(target)
    database.executescript(script)
    database.commit()
    database.close()
    return target


METADATA = [
    "rosbag2_bagfile_information: 5",
    "[]",
    "a: &a [x, x]\nrosbag2_bagfile_information: *a",
    "[" * 100_000,
    "rosbag2_bagfile_information: {topics_with_message_count: [{message_count: .inf}]}",
    "\0",
]


@pytest.mark.parametrize("content", METADATA, ids=range(len(METADATA)))
def test_metadata_that_are_none_cost_nothing(tmp_path: Path, content: str) -> None:
    bag = bags.record(tmp_path / "robot", bags.images(3))
    (bag / "metadata.yaml").write_text(content)
    assert read(bag) == (CDR[:3], [])
    assert Target.at(bag, "mcap").facts() == {}


MUTATIONS: list[Callable[[np.random.Generator, bytearray], bytes]] = [
    lambda random, data: bytes(data[: random.integers(len(data))]),
    lambda random, data: _scattered(random, data),
    lambda random, data: _replaced(random, data, random.bytes(random.integers(1, 300))),
    lambda random, data: _replaced(random, data, struct.pack("<Q", 2 ** int(random.integers(64)))),
    lambda random, data: _replaced(random, data, bytes(len(data))),
]


def _scattered(random: np.random.Generator, data: bytearray) -> bytes:
    for place in random.integers(len(data), size=20):
        data[place] = random.integers(256)
    return bytes(data)


def _replaced(random: np.random.Generator, data: bytearray, part: bytes) -> bytes:
    place = int(random.integers(len(data)))
    return bytes(data[:place] + part + data[place + len(part) :])


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("mode", [CompressionMode.NONE, CompressionMode.STORAGE])
def test_whatever_a_file_holds_reading_it_ends(
    tmp_path: Path, storage: str, mode: CompressionMode
) -> None:
    if (storage, mode) == ("sqlite3", CompressionMode.STORAGE):
        mode = CompressionMode.MESSAGE
    recorded = [*bags.images(6), *(bags.text(index) for index in range(6))]
    source = bags.bag_file(bags.record(tmp_path / "robot", recorded, storage, mode))
    data, file = source.read_bytes(), tmp_path / f"robot{source.suffix}"
    for seed in range(60):
        random = np.random.default_rng(seed)
        mutation = MUTATIONS[seed % len(MUTATIONS)]
        file.write_bytes(mutation(random, bytearray(data)))
        began = time.monotonic()
        try:
            read(file)
        except BagError:
            pass
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error
        assert time.monotonic() - began < 10, f"seed {seed}"
