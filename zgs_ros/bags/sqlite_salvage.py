"""sqlite3 files: in the order of time, or row by row where one was cut off or damaged."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from rosbags.interfaces import MessageDefinition

from zgs_ros.bags.bag import (
    DEFINITION_FORMATS,
    NO_DEFINITION,
    BagError,
    DamagedBag,
    Recorded,
    Topic,
    count_topics,
    read_qos,
    type_name,
)

BELIEVED = (UnicodeDecodeError, MemoryError)
"""What sqlite raises for a damaged file beside its own errors: these name parts of the file, which need not
be text, and lengths in it are believed."""

_DAMAGED = (sqlite3.Error, *BELIEVED)

_LARGEST_STEP = 2**40
_LARGEST_NUMBER = 2**63 - 1


class SqliteSalvage:
    """Reads a .db3 file: a `Storage` of what is there.

    One that is scanned is read by the rows' numbers, around what is damaged. A recording that was
    killed may have left a journal (``.db3-wal``), which is read too.

    Args:
        path: The file.
        scan: Whether to read it once to see what is there; it is done too where it is damaged.

    Raises:
        BagError: If it has no readable list of topics.
    """

    def __init__(self, path: Path, scan: bool = True) -> None:
        self.lost: list[str] = []
        self.is_scanned = scan
        self._name = path.name
        self._gaps, self._missing, self._odd, self._is_cut = 0, 0, 0, False
        try:
            self._database, self._topics = _open(path)
        except (*_DAMAGED, ValueError) as error:
            reason = str(error) or type(error).__name__
            raise BagError(f"{path}: its list of topics can't be read ({reason})") from None
        counts = None if scan else self._count()
        if counts is None:
            self.is_scanned = True
            counts = Counter(topic for topic, _, _ in self._rows())
        self._counts = counts
        self.topics = count_topics(self._topics, counts)
        if self.is_scanned:
            self._describe_losses()

    def messages(self, topics: Collection[str]) -> Iterator[Recorded]:
        """Messages of the named topics, in the order of time or, scanned, of being stored.

        Raises:
            DamagedBag: If something can't be read of one that is not scanned.
        """
        for number, time, data in self._rows() if self.is_scanned else self._ordered(topics):
            topic = self._topics.get(number)
            if topic and topic.name in topics:
                yield Recorded(topic.name, time, data)

    def close(self) -> None:
        """Closes the file."""
        self._database.close()

    def _count(self) -> Counter[int] | None:
        """Messages by topic; None where the file is damaged."""
        try:
            rows = self._database.execute(
                "SELECT topic_id, COUNT(*) FROM messages GROUP BY topic_id"
            ).fetchall()
        except _DAMAGED:
            return None
        counts = Counter(dict(rows))
        return counts if all(number in self._topics for number in counts) else None

    def _ordered(self, topics: Collection[str]) -> Iterator[tuple[int, int, bytes]]:
        """Topic, time and data in the order of time.

        Raises:
            DamagedBag: If something is not as it should be.
        """
        wanted = [number for number, topic in self._topics.items() if topic.name in topics]
        missing = Counter({number: self._counts[number] for number in wanted})
        query = (
            "SELECT topic_id, timestamp, data FROM messages "
            f"WHERE topic_id IN ({','.join(map(str, wanted))}) ORDER BY timestamp"
        )
        try:
            for topic, time, data in self._database.execute(query):
                if not _is_message(topic, time, data):
                    raise DamagedBag(f"{self._name}: a row is no message")
                missing[topic] -= 1
                yield topic, time, data
        except _DAMAGED as error:
            raise DamagedBag(f"{self._name}: {str(error) or type(error).__name__}") from error
        if any(missing.values()):
            raise DamagedBag(f"{self._name}: there are not as many messages as it says")

    def _rows(self) -> Iterator[tuple[int, int, bytes]]:
        """Topic, time and data of all rows that can be read; notes how many can't."""
        self._gaps, self._missing, self._odd, self._is_cut = 0, 0, 0, False
        last, step = 0, 1
        query = (
            "SELECT id, topic_id, timestamp, data FROM messages NOT INDEXED "
            "WHERE id >= ? ORDER BY id"
        )
        while step < _LARGEST_STEP and last + step <= _LARGEST_NUMBER:
            start = last + step
            try:
                for number, topic, time, data in self._database.execute(query, (start,)):
                    if not isinstance(number, int) or number <= last or number < start:
                        raise sqlite3.DatabaseError("rows are out of order")
                    if step > 1:
                        self._gaps, self._missing = (
                            self._gaps + 1,
                            self._missing + number - last - 1,
                        )
                    last, step, start = number, 1, number + 1
                    if _is_message(topic, time, data):
                        yield topic, time, data
                    else:
                        self._odd += 1
            except _DAMAGED:  # the page with this row: the next ones may be whole
                step *= 2
                continue
            self._is_cut = step > 1
            return
        self._is_cut = True

    def _describe_losses(self) -> None:
        if self._gaps:
            self.lost.append(
                f"{self._name}: damaged parts: {self._gaps}; lost with them: {self._missing} messages"
            )
        if self._odd:
            self.lost.append(f"{self._name}: rows that are no messages: {self._odd}")
        if self._is_cut:
            self.lost.append(
                f"{self._name}: is damaged or cut off at its end; how much is lost is not known"
            )


def _open(path: Path) -> tuple[sqlite3.Connection, dict[int, Topic]]:
    """A connection that writes nothing, and the topics by their numbers."""
    # Where the journal of a killed recording can't be used, as in a read-only folder, without it.
    for options in ("mode=ro", "mode=ro&immutable=1"):
        database = sqlite3.connect(f"{path.absolute().as_uri()}?{options}", uri=True)
        try:
            database.execute(
                "PRAGMA writable_schema = ON"
            )  # else a file that was cut off is refused
            return database, _read_topics(database)
        except _DAMAGED:
            database.close()
            if options.endswith("1"):
                raise
    raise AssertionError("unreachable")


def _is_message(topic: object, time: object, data: object) -> bool:
    return isinstance(topic, int) and isinstance(time, int) and isinstance(data, bytes)


def _read_topics(database: sqlite3.Connection) -> dict[int, Topic]:
    """Topics by their numbers.

    Raises:
        sqlite3.Error: If there is no list of them.
        ValueError: If it is none.
    """
    [(kind,)] = database.execute("SELECT type FROM sqlite_master WHERE name = 'messages'")
    if kind != "table":  # a view could take for ever
        raise ValueError(f"messages is a {kind}, no table")
    definitions = {}
    try:
        for row in _named(database, "message_definitions"):
            known = DEFINITION_FORMATS.get(_text(row, "encoding"))
            text = _text(row, "encoded_message_definition")
            definitions[_text(row, "topic_type")] = (
                MessageDefinition(known, text) if known else NO_DEFINITION
            )
    except _DAMAGED:
        pass  # recordings before Iron have none
    topics = {}
    for row in _named(database, "topics"):
        kind = type_name(_text(row, "type"))
        if isinstance(row.get("id"), int) and _text(row, "name"):
            topics[row["id"]] = Topic(
                name=_text(row, "name"),
                type=kind,
                count=0,
                definition=definitions.get(_text(row, "type"), NO_DEFINITION),
                digest=_text(row, "type_description_hash"),
                qos=read_qos(row.get("offered_qos_profiles", "")),
                is_cdr=_text(row, "serialization_format") == "cdr",
            )
    return topics


def _text(row: dict[str, Any], name: str) -> str:
    value = row.get(name, "")
    return value if isinstance(value, str) else ""


def _named(database: sqlite3.Connection, table: str) -> list[dict[str, Any]]:
    cursor = database.execute(f"SELECT * FROM {table}")
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]
