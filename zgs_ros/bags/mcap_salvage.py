"""MCAP files: by their index, or record by record where one was cut off or damaged.

The format is described at https://mcap.dev/spec.
"""

from __future__ import annotations

import heapq
import mmap
import struct
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import Struct

from rosbags.interfaces import MessageDefinition

from zgs_ros.bags.bag import (
    DEFINITION_FORMATS,
    MAX_UNPACKED,
    NO_DEFINITION,
    BagError,
    DamagedBag,
    Recorded,
    Topic,
    count_topics,
    read_qos,
    type_name,
    unpack,
)

MAGIC = b"\x89MCAP0\r\n"

FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX = 0x02, 0x03, 0x04, 0x05, 0x06, 0x07
CHUNK_INDEX, STATISTICS, METADATA_INDEX, DATA_END = 0x08, 0x0B, 0x0D, 0x0F
"""Kinds of records."""

_RECORD = Struct("<BQ")  # kind, length
_MESSAGE = Struct("<HIQQ")  # channel, sequence, log time, publish time
_CHUNK = Struct("<QQQI")  # first time, last time, size and checksum before compression
_CHUNK_INDEX = Struct("<QQQQ")  # first time, last time, offset, length
_STATISTICS = Struct("<QHIIIIQQ")  # messages, schemas, channels, ..., chunks, first and last time

MAX_MESSAGES = 2**20
"""Messages of one chunk."""

ROS1 = ("ros1", "ros1msg")
"""How ROS 1 is called among encodings."""


@dataclass(frozen=True)
class _Channel:
    topic: Topic
    id: int


@dataclass(frozen=True)
class _Chunk:
    """A chunk as the index has it; channels are empty where it doesn't say which are in it."""

    start: int
    offset: int
    channels: frozenset[int]


class McapSalvage:
    """Reads an MCAP file: a `Storage` of what can be read.

    Args:
        path: The file.
        scan: Whether to read it once to see what is there; it is done too where the file has no
            index that fits what it says of itself.

    Raises:
        BagError: If it is no MCAP file at all.
    """

    def __init__(self, path: Path, scan: bool = True) -> None:
        self.lost: list[str] = []
        self._name = path.name
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise BagError(f"{path}: is no MCAP file; its first bytes are others")
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._schemas: dict[int, tuple[str, MessageDefinition, bool]] = {}
        self._channels: dict[int, _Channel] = {}
        self._chunks: list[_Chunk] = []  # in the order of the file
        self._stated: Counter[int] | None = None  # messages by channel, as the file has them
        self._stated_chunks = 0
        self._cut: int | None = None
        self._bad_chunks = 0
        self._lost: Counter[int] = Counter()
        self._read_summary()
        self.is_scanned = scan or not self._has_index()
        if self.is_scanned:
            described = set(self._channels)
            counts = self._count()
            if self._lost.keys() & (self._channels.keys() - described):
                counts = self._count()  # what came before its channel can be read now
        else:
            counts = Counter(self._stated)
        self.topics = count_topics({n: c.topic for n, c in self._channels.items()}, counts)
        if self.is_scanned:
            self._describe_losses(counts)

    def messages(self, topics: Collection[str]) -> Iterator[Recorded]:
        """Messages of the named topics in the order of time, as far as chunks don't overlap.

        Raises:
            DamagedBag: If the index is not right.
        """
        for channel, time, data in self._scan() if self.is_scanned else self._ordered(topics):
            if channel.topic.name in topics:
                yield Recorded(channel.topic.name, time, data)

    def close(self) -> None:
        """Closes the file."""
        self._data.close()

    def _has_index(self) -> bool:
        """Whether the summary tells all that is needed, and nothing that contradicts itself."""
        return (
            self._stated is not None
            and 0 < len(self._chunks) == self._stated_chunks
            and all(number in self._channels for number in self._stated)
            and sum(self._stated.values()) > 0
        )

    def _ordered(self, topics: Collection[str]) -> Iterator[tuple[_Channel, int, bytes]]:
        """Messages of the named topics in the order of time, by the index.

        Raises:
            DamagedBag: If the index is not right, or chunks overlap so much that they don't fit the
                memory.
        """
        wanted = {n for n, channel in self._channels.items() if channel.topic.name in topics}
        missing = Counter({n: count for n, count in (self._stated or {}).items() if n in wanted})
        waiting: list[tuple[int, int, _Channel, bytes]] = []
        held = count = 0
        for chunk in sorted(self._chunks, key=lambda chunk: chunk.start):
            if chunk.channels and not chunk.channels & wanted:
                continue
            while waiting and waiting[0][0] < chunk.start:
                time, _, channel, data = heapq.heappop(waiting)
                held -= len(data)
                yield channel, time, data
            messages = self._indexed_chunk(chunk.offset)
            if messages is None or held > MAX_UNPACKED:
                raise DamagedBag(f"{self._name}: the chunk at byte {chunk.offset} can't be read")
            for channel, time, data in messages:
                if channel.id in wanted:
                    count += 1
                    held += len(data)
                    missing[channel.id] -= 1
                    heapq.heappush(waiting, (time, count, channel, data))
        while waiting:
            time, _, channel, data = heapq.heappop(waiting)
            yield channel, time, data
        if any(missing.values()):
            raise DamagedBag(f"{self._name}: there are not as many messages as it says")

    def _indexed_chunk(self, offset: int) -> list[tuple[_Channel, int, bytes]] | None:
        if offset + _RECORD.size > len(self._data):
            return None
        kind, length = _RECORD.unpack_from(self._data, offset)
        begin, end = offset + _RECORD.size, offset + _RECORD.size + length
        is_whole = kind == CHUNK and end <= len(self._data)
        return self._chunk(begin, end) if is_whole else None

    def _count(self) -> Counter[int]:
        return Counter(channel.id for channel, _, _ in self._scan())

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
                if kind == CHUNK:
                    yield from self._chunk(begin, end) or ()
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
            elif kind == MESSAGE_INDEX and is_chunk_lost and end - begin >= 6:
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
            length = fields.integer(8)
            content = unpack(compression, fields.rest()[:length], size)
        except (ValueError, struct.error):
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
            if kind not in (SCHEMA, CHANNEL, MESSAGE) or len(found) >= MAX_MESSAGES:
                self._bad_chunks += 1  # nothing else is in chunks; what was before counts
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
        except (ValueError, struct.error):
            self._bad_chunks += 1

    def _add_schema(self, fields: Fields) -> None:
        number, name, encoding = fields.integer(2), fields.text(), fields.text()
        known = DEFINITION_FORMATS.get(encoding)
        definition = MessageDefinition(known, fields.text()) if known else NO_DEFINITION
        self._schemas.setdefault(number, (name, definition, encoding in ROS1))

    def _add_channel(self, fields: Fields) -> None:
        number, schema, name = fields.integer(2), fields.integer(2), fields.text()
        encoding, about = fields.text(), fields.mapping()
        if number in self._channels or schema not in self._schemas:
            return
        kind, definition, is_ros1 = self._schemas[schema]
        topic = Topic(
            name,
            type_name(kind),
            0,
            definition,
            qos=read_qos(about.get("offered_qos_profiles", "")),
            is_cdr=encoding == "cdr",
            is_ros1=is_ros1 or encoding in ROS1,
        )
        self._channels[number] = _Channel(topic, number)

    def _read_summary(self) -> None:
        """Types, topics and places of the chunks from the end of the file, where it is there."""
        for kind, begin, end in summary_records(self._data):
            data = self._data[begin:end]
            if kind == CHUNK_INDEX:
                self._add_chunk(data)
            elif kind == STATISTICS:
                self._add_statistics(data)
            else:
                list(self._record(kind, data))
        self._chunks.sort(key=lambda chunk: chunk.offset)

    def _add_chunk(self, data: bytes) -> None:
        fields = Fields(data)
        try:
            start, _, offset, _ = _CHUNK_INDEX.unpack(fields.take(_CHUNK_INDEX.size))
            places = dict(struct.iter_unpack("<HQ", fields.take(fields.integer(4))))
        except (ValueError, struct.error):
            return
        self._chunks.append(_Chunk(start, offset, frozenset(places)))

    def _add_statistics(self, data: bytes) -> None:
        fields = Fields(data)
        try:
            about = _STATISTICS.unpack(fields.take(_STATISTICS.size))
            counts = fields.take(fields.integer(4))
            stated = Counter(dict(struct.iter_unpack("<HQ", counts)))
        except (ValueError, struct.error):
            return
        if sum(stated.values()) == about[0]:  # else it doesn't say of which channels they are
            self._stated, self._stated_chunks = stated, about[5]

    def _next_chunk(self, position: int) -> int | None:
        return next((chunk.offset for chunk in self._chunks if chunk.offset > position), None)

    def _describe_losses(self, found: Counter[int]) -> None:
        whole = self._cut is None and not self._bad_chunks and not self._lost
        for number, stated in (self._stated or {}).items() if whole else ():
            if found[number] < stated:
                known = self._channels.get(number)
                name = known.topic.name if known else "a topic that is not described"
                self.lost.append(
                    f"{self._name}: {found[number]} of {stated} messages of {name} are there"
                )
        if self._bad_chunks or self._lost:
            counts: Counter[str] = Counter()
            for number, count in self._lost.items():
                known = self._channels.get(number)
                counts[known.topic.name if known else "topics that are not described"] += count
            lost = ", ".join(f"{count} of {topic}" for topic, count in sorted(counts.items()))
            what = f"at least {lost}" if lost else "an unknown number of messages"
            self.lost.append(
                f"{self._name}: damaged parts: {self._bad_chunks}; lost with them: {what}"
            )
        if self._cut is not None:
            self.lost.append(
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
