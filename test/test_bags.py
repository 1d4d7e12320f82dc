"""Reading bags: whole ones, and of damaged ones all that can be read, with what is lost."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import bag_support as bags
import numpy as np
import pytest
from bag_support import CAMERA
from rosbags.rosbag2.enums import CompressionMode

from zgs_ros.bags.bag import DamagedBag
from zgs_ros.bags.mcap_salvage import CHUNK, MAGIC
from zgs_ros.bags.reading import Bag, open_bag

COUNT = 12
Damage = Callable[[Path], None]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bags of as many images with noise in them, so that chunks stay large, and texts."""
    folder = tmp_path_factory.mktemp("recordings")
    noise = np.random.default_rng(0)
    recorded = []
    for index in range(COUNT):
        message = bags.image(index)
        pixels = noise.integers(0, 256, 480 * 640 * 3, np.uint8)  # two images to a chunk
        message.value.height, message.value.width, message.value.step = 480, 640, 640 * 3
        message.value.data = pixels
        recorded += [message, bags.text(index)]
    kinds = {
        "mcap": ("mcap", CompressionMode.NONE),
        "zstd": ("mcap", CompressionMode.STORAGE),
        "sqlite3": ("sqlite3", CompressionMode.NONE),
        "file": ("sqlite3", CompressionMode.FILE),
        "message": ("mcap", CompressionMode.MESSAGE),
    }
    return {name: bags.record(folder / name, recorded, *kind) for name, kind in kinds.items()}


def read(bag: Path) -> tuple[list[tuple[str, int, bytes]], list[str], bool]:
    """Messages and lost, and whether it was scanned, as `zgs label` reads them."""
    storage = open_bag(bag)
    try:
        found = [(m.topic, m.time, bytes(m.data)) for m in storage.messages(storage.topics)]
    except DamagedBag:
        storage.close()
        storage = open_bag(bag, salvage=True)
        found = [(m.topic, m.time, bytes(m.data)) for m in storage.messages(storage.topics)]
    counts = {name: sum(m[0] == name for m in found) for name in storage.topics}
    assert counts == {name: topic.count for name, topic in storage.topics.items()}
    storage.close()
    return found, storage.lost, storage.is_scanned


@pytest.mark.parametrize("kind", ["mcap", "zstd", "sqlite3", "file", "message"])
def test_a_whole_bag_is_read_in_the_order_of_recording(
    recordings: dict[str, Path], kind: str
) -> None:
    found, lost, is_scanned = read(recordings[kind])
    assert found == bags.raw(recordings["mcap"])
    assert (lost, is_scanned) == ([], False)


@pytest.mark.parametrize("kind", ["mcap", "zstd", "sqlite3", "file", "message"])
def test_salvaging_a_whole_bag_loses_nothing(recordings: dict[str, Path], kind: str) -> None:
    bag = Bag(recordings[kind], scan=True)
    found = [(m.topic, m.time, bytes(m.data)) for m in bag.messages(bag.topics)]
    assert found == bags.raw(recordings["mcap"])
    assert bag.lost == []
    whole = Bag(recordings["mcap"])
    for name, topic in bag.topics.items():
        assert (topic.type, topic.count) == (whole.topics[name].type, whole.topics[name].count)
        assert topic.definition == whole.topics[name].definition
    bag.close()
    whole.close()


def cut(share: float) -> Damage:
    def damage(file: Path) -> None:
        data = file.read_bytes()
        file.write_bytes(data[: int(len(data) * share)])

    return damage


def scribble(share: float, size: int = 100) -> Damage:
    """Overwrites bytes in the middle."""

    def damage(file: Path) -> None:
        data = bytearray(file.read_bytes())
        place = int(len(data) * share)
        data[place : place + size] = b"\xee" * size
        file.write_bytes(data)

    return damage


def scribble_chunk(before: int, size: int) -> Damage:
    """Overwrites bytes of the third chunk from so many before its content."""

    def damage(file: Path) -> None:
        data, position = bytearray(file.read_bytes()), len(MAGIC)
        contents = []
        while len(contents) < 3:
            if data[position] == CHUNK:
                name = int.from_bytes(data[position + 37 : position + 41], "little")
                contents.append(position + 41 + name + 8)
            position += 9 + int.from_bytes(data[position + 1 : position + 9], "little")
        data[contents[2] - before : contents[2] - before + size] = b"\xee" * size
        file.write_bytes(data)

    return damage


def forget_index(file: Path) -> None:
    """As a recorder that was killed leaves it: no summary, and no end."""
    data = file.read_bytes()
    start = int.from_bytes(data[-28:-20], "little")
    file.write_bytes(data[: start - 13])  # the record before it tells the end of the data


@pytest.mark.parametrize(
    ("kind", "damage", "images", "loss"),
    [
        ("mcap", cut(0.5), 6, "ends in the middle of what was recorded"),
        ("zstd", cut(0.5), 6, "ends in the middle of what was recorded"),
        (
            "zstd",
            scribble_chunk(0, 8),
            10,
            "damaged parts: 1; lost with them: at least 2 of /camera/image_raw",
        ),
        (
            "zstd",
            scribble_chunk(53, 80),
            10,
            "damaged parts: 1; lost with them: an unknown number of",
        ),
        ("mcap", forget_index, 12, "ends in the middle of what was recorded"),
        ("sqlite3", cut(0.5), 5, "is damaged or cut off at its end"),
        ("sqlite3", scribble(0.5, 8192), 11, "damaged parts: 1; lost with them: 3 messages"),
        ("file", cut(0.5), 5, "is damaged or cut off"),
    ],
)
def test_of_a_damaged_file_the_rest_is_read(
    tmp_path: Path,
    recordings: dict[str, Path],
    kind: str,
    damage: Damage,
    images: int,
    loss: str,
) -> None:
    bag = tmp_path / "robot"
    shutil.copytree(recordings[kind], bag)
    [file] = [path for path in bag.iterdir() if path.name != "metadata.yaml"]
    damage(file)
    found, lost, is_scanned = read(bag)
    whole = bags.raw(recordings["mcap"])
    assert is_scanned
    assert [m for m in whole if m in found] == found  # in order, and nothing invented
    assert sum(message[0] == CAMERA for message in found) == images
    assert any(loss in line for line in lost), lost
    if images < COUNT:
        assert f"{CAMERA}: {images} of {COUNT} messages can be read" in lost


@pytest.mark.parametrize("kind", ["mcap", "zstd", "sqlite3"])
def test_whatever_is_cut_off_nothing_is_invented(
    tmp_path: Path, recordings: dict[str, Path], kind: str
) -> None:
    source = bags.bag_file(recordings[kind])
    whole, data = bags.raw(recordings["mcap"]), source.read_bytes()
    file, read_before = tmp_path / source.name, 0
    for share in np.linspace(0.02, 0.98, 13):
        file.write_bytes(data[: int(len(data) * share)])
        found, lost, _ = read(file)
        assert found == whole[: len(found)]
        assert len(found) >= read_before
        assert lost
        read_before = len(found)
    assert read_before > COUNT


@pytest.mark.parametrize("kind", ["mcap", "sqlite3"])
def test_without_metadata_the_files_are_read(
    tmp_path: Path, recordings: dict[str, Path], kind: str
) -> None:
    bag = tmp_path / "robot"
    shutil.copytree(recordings[kind], bag)
    for broken in (None, b"", b"{nonsense", b"rosbag2_bagfile_information: 5"):
        if broken is None:
            (bag / "metadata.yaml").unlink()
        else:
            (bag / "metadata.yaml").write_bytes(broken)
        found, lost, _ = read(bag)
        assert found == bags.raw(recordings["mcap"])
        assert lost == []


def test_parts_of_a_bag_are_read_in_their_order_and_missing_ones_are_named(tmp_path: Path) -> None:
    bag = tmp_path / "robot"
    bag.mkdir()
    for part in (0, 1, 2, 10):
        recorded = [bags.image(part * 2), bags.image(part * 2 + 1)]
        file = bags.bag_file(bags.record(tmp_path / f"part_{part}", recorded))
        shutil.copy(file, bag / f"robot_{part}.mcap")
    found, lost, _ = read(bag)
    assert [time for _, time, _ in found] == sorted(time for _, time, _ in found)
    assert len(found) == 8
    text = (tmp_path / "part_0" / "metadata.yaml").read_text()
    (bag / "metadata.yaml").write_text(text.replace("part_0.mcap", "robot_3.mcap"))
    found, lost, _ = read(bag)
    assert len(found) == 8
    assert lost == ["robot_3.mcap: is missing"]


def test_what_a_killed_recorder_left_in_its_journal_is_read(
    tmp_path: Path, recordings: dict[str, Path]
) -> None:
    source = bags.bag_file(recordings["sqlite3"])
    live = tmp_path / "live.db3"
    shutil.copy(source, live)
    database = sqlite3.connect(live)
    database.execute("PRAGMA journal_mode = WAL")
    row = database.execute("SELECT topic_id, timestamp, data FROM messages LIMIT 1").fetchone()
    database.execute("INSERT INTO messages (topic_id, timestamp, data) VALUES (?, ?, ?)", row)
    database.commit()
    killed = tmp_path / "killed"
    killed.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(f"{live}{suffix}", killed / f"robot.db3{suffix}")
    database.close()
    found, lost, _ = read(killed / "robot.db3")
    assert len(found) == 2 * COUNT + 1
    assert lost == []


def test_messages_out_of_order_in_a_file_without_index_are_read(tmp_path: Path) -> None:
    """rosbags refuses such a file."""
    bag = bags.bag_file(bags.record(tmp_path / "robot", bags.images(4)))
    data = bag.read_bytes()
    first = (bags.image(0).time).to_bytes(8, "little")
    later = (bags.image(9).time).to_bytes(8, "little")
    bag.write_bytes(data.replace(first, later))
    forget_index(bag)
    assert len(read(bag)[0]) == 4
