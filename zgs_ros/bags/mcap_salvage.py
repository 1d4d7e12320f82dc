"""MCAP files record by record: what can be read of one that was cut off or damaged.

The format is described at https://mcap.dev/spec.
"""

from __future__ import annotations

import mmap
import sys
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import Struct

from lz4.frame import LZ4FrameDecompressor
from rosbags.interfaces import MessageDefinition
from rosbags.rosbag2.metadata import parse_qos

from zgs_ros.bags.bag import (
    DEFINITION_FORMATS,
    NO_DEFINITION,
    BagError,
    Recorded,
    Topic,
    count_topics,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAGIC = b"\x89MCAP0\r\n"

FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX = 0x02, 0x03, 0x04, 0x05, 0x06, 0x07
CHUNK_INDEX, METADATA_INDEX, DATA_END = 0x08, 0x0D, 0x0F
"""Kinds of records."""

_RECORD = Struct("<BQ")  # kind, length
_MESSAGE = Struct("<HIQQ")  # channel, sequence, log time, publish time
_CHUNK = Struct("<QQQI")  # first time, last time, size and checksum before compression
_CHUNK_INDEX = Struct("<QQQ")  # first time, last time, offset


@dataclass(frozen=True)
class _Channel:
    topic: Topic
    id: int


class McapSalvage:
    """Reads an MCAP file without trusting its index: a `Storage` of what can be read.

    Args:
        path: The file. It is read once to see what is there.

    Raises:
        BagError: If it is no MCAP file at all.
    """

    def __init__(self, path: Path) -> None:
        self.losses: list[str] = []
        self._name = path.name
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise BagError(f"{path}: is no MCAP file; its first bytes are others")
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._schemas: dict[int, tuple[str, MessageDefinition]] = {}
        self._channels: dict[int, _Channel] = {}
        self._chunks: list[int] = []  # offsets, where the file has an index of them
        self._cut: int | None = None
        self._bad_chunks = 0
        self._lost: Counter[int] = Counter()
        self._read_summary()
        counts = Counter(channel.id for channel, _, _ in self._scan())
        self.topics = count_topics({n: c.topic for n, c in self._channels.items()}, counts)
        self._describe_losses()

    def messages(self, topics: Collection[str]) -> Iterator[Recorded]:
        """Messages of the named topics as they come in the file, sorted by time within a chunk."""
        for channel, time, data in self._scan():
            if channel.topic.name in topics:
                yield Recorded(channel.topic.name, time, data)

    def close(self) -> None:
        """Closes the file."""
        self._data.close()

    def _scan(self) -> Iterator[tuple[_Channel, int, bytes]]:
        """All messages that can be read; notes what can't."""
        self._cut, self._bad_chunks, self._lost = None, 0, Counter()
        position, is_chunk_lost = len(MAGIC), False
        while position is not None:
            if position + _RECORD.size > len(self._data):
                self._cut = position
                return
            kind, length = _RECORD.unpack_from(self._data, position)
            begin, end = position + _RECORD.size, position + _RECORD.size + length
            if kind in (DATA_END, FOOTER):
                return
            if end > len(self._data) or kind == 0:
                if kind == CHUNK and (messages := self._chunk(begin, end)):
                    yield from messages
                following = self._next_chunk(position)
                if following is None:
                    self._cut = position
                    return
                self._bad_chunks, position = self._bad_chunks + 1, following
                continue
            if kind == CHUNK:
                messages = self._chunk(begin, end)
                is_chunk_lost = messages is None
                self._bad_chunks += is_chunk_lost
                yield from messages or ()
            elif kind == MESSAGE_INDEX and is_chunk_lost:
                index = Fields(self._data[begin:end])
                self._lost[index.integer(2)] += index.integer(4) // 16
            else:
                yield from self._record(kind, self._data[begin:end])
            position = end

    def _chunk(self, begin: int, end: int) -> list[tuple[_Channel, int, bytes]] | None:
        """Messages of a chunk in the order of time; None if it is damaged.

        One that the end of the file cuts off gives those that are whole.
        """
        is_cut = end > len(self._data)
        try:
            fields = Fields(self._data[begin : min(end, len(self._data))])
            *_, size, checksum = _CHUNK.unpack(fields.take(_CHUNK.size))
            compression = fields.text()
            fields.integer(8)
            content = _decompress(compression, fields.rest())
        except (ValueError, RuntimeError, zstd.ZstdError):  # lz4 raises RuntimeError
            return None
        if not is_cut and (len(content) != size or (checksum and zlib.crc32(content) != checksum)):
            return None
        found: list[tuple[_Channel, int, bytes]] = []
        position = 0
        while position + _RECORD.size <= len(content):
            kind, length = _RECORD.unpack_from(content, position)
            position += _RECORD.size
            if position + length > len(content):
                break
            found.extend(self._record(kind, content[position : position + length]))
            position += length
        return sorted(found, key=lambda message: message[1])

    def _record(self, kind: int, data: bytes) -> Iterator[tuple[_Channel, int, bytes]]:
        """The message of a record that is one; others are taken note of."""
        try:
            if kind == MESSAGE:
                number, _, time, _ = _MESSAGE.unpack_from(data)
                if number in self._channels:
                    yield self._channels[number], time, data[_MESSAGE.size :]
                else:
                    self._lost[number] += 1
            elif kind == SCHEMA:
                self._add_schema(Fields(data))
            elif kind == CHANNEL:
                self._add_channel(Fields(data))
        except ValueError:
            self._bad_chunks += 1

    def _add_schema(self, fields: Fields) -> None:
        number, name, encoding = fields.integer(2), fields.text(), fields.text()
        known = DEFINITION_FORMATS.get(encoding)
        definition = MessageDefinition(known, fields.text()) if known else NO_DEFINITION
        self._schemas.setdefault(number, (name, definition))

    def _add_channel(self, fields: Fields) -> None:
        number, schema, name = fields.integer(2), fields.integer(2), fields.text()
        encoding, about = fields.text(), fields.mapping()
        if number in self._channels or schema not in self._schemas:
            return
        kind, definition = self._schemas[schema]
        qos = tuple(parse_qos(about.get("offered_qos_profiles", "")))
        topic = Topic(name, kind, 0, definition, qos=qos, is_cdr=encoding == "cdr")
        self._channels[number] = _Channel(topic, number)

    def _read_summary(self) -> None:
        """Types, topics and places of the chunks from the end of the file, where it is there."""
        for kind, begin, end in summary_records(self._data):
            if kind == CHUNK_INDEX:
                self._chunks.append(_CHUNK_INDEX.unpack_from(self._data, begin)[2])
            else:
                list(self._record(kind, self._data[begin:end]))
        self._chunks.sort()

    def _next_chunk(self, position: int) -> int | None:
        return next((offset for offset in self._chunks if offset > position), None)

    def _describe_losses(self) -> None:
        if self._bad_chunks or self._lost:
            counts: Counter[str] = Counter()
            for number, count in self._lost.items():
                known = self._channels.get(number)
                counts[known.topic.name if known else "topics that are not described"] += count
            lost = ", ".join(f"{count} of {topic}" for topic, count in sorted(counts.items()))
            what = f"at least {lost}" if lost else "an unknown number of messages"
            self.losses.append(
                f"{self._name}: damaged parts: {self._bad_chunks}; lost with them: {what}"
            )
        if self._cut is not None:
            self.losses.append(
                f"{self._name}: ends in the middle of what was recorded (in the record at byte "
                f"{self._cut} of {len(self._data)}); how much is lost is not known"
            )


class Fields:
    """The fields of a record, one after the other.

    Raises:
        ValueError: If there are less than wanted.
    """

    def __init__(self, data: bytes) -> None:
        self._data, self._position = data, 0

    def take(self, size: int) -> bytes:
        taken = self._data[self._position : self._position + size]
        if len(taken) != size:
            raise ValueError(f"a record of {len(self._data)} bytes is too short")
        self._position += size
        return taken

    def rest(self) -> bytes:
        return self._data[self._position :]

    def integer(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def text(self) -> str:
        return self.take(self.integer(4)).decode()

    def mapping(self) -> dict[str, str]:
        fields, pairs = Fields(self.take(self.integer(4))), {}
        while fields.rest():
            name = fields.text()
            pairs[name] = fields.text()
        return pairs


def summary_records(data: mmap.mmap) -> Iterator[tuple[int, int, int]]:
    """Kind, begin and end of the records of a file's summary; none where it was not finished."""
    tail = len(data) - len(MAGIC) - _RECORD.size - 20
    if tail < 0 or data[-len(MAGIC) :] != MAGIC or data[tail] != FOOTER:
        return
    position = int.from_bytes(data[tail + _RECORD.size : tail + _RECORD.size + 8], "little")
    while 0 < position < tail:
        kind, length = _RECORD.unpack_from(data, position)
        position += _RECORD.size
        if position + length > tail:
            return
        yield kind, position, position + length
        position += length


def _decompress(compression: str, data: bytes) -> bytes:
    """What can be decompressed of data that may be cut off.

    Raises:
        ValueError: For an unknown compression.
        RuntimeError, zstd.ZstdError: If it is damaged.
    """
    if compression == "zstd":
        return zstd.ZstdDecompressor().decompress(data)
    if compression == "lz4":
        return bytes(LZ4FrameDecompressor().decompress(data))
    if compression:
        raise ValueError(f"compression {compression!r} is not known")
    return data
