"""sqlite3 files row by row: what can be read of one that was cut off or damaged."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

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

_LARGEST_STEP = 2**40


class SqliteSalvage:
    """Reads a .db3 file by the rows' numbers, around what is damaged: a `Storage` of what is left.

    A recording that was killed may have left a journal (``.db3-wal``), which is read too.

    Args:
        path: The file. It is read once to see what is there.

    Raises:
        BagError: If it has no readable list of topics.
    """

    def __init__(self, path: Path) -> None:
        self.losses: list[str] = []
        self._name = path.name
        self._gaps, self._missing, self._is_cut = 0, 0, False
        try:
            self._database, self._topics = _open(path)
        except sqlite3.Error as error:
            raise BagError(f"{path}: its list of topics can't be read ({error})") from None
        counts = Counter(topic for topic, _, _ in self._rows())
        self.topics = count_topics(self._topics, counts)
        self._describe_losses()

    def messages(self, topics: Collection[str]) -> Iterator[Recorded]:
        """Messages of the named topics in the order in which they were stored."""
        for number, time, data in self._rows():
            topic = self._topics.get(number)
            if topic and topic.name in topics:
                yield Recorded(topic.name, time, data)

    def close(self) -> None:
        """Closes the file."""
        self._database.close()

    def _rows(self) -> Iterator[tuple[int, int, bytes]]:
        """Topic, time and data of all rows that can be read; notes how many can't."""
        self._gaps, self._missing, self._is_cut = 0, 0, False
        last, step = 0, 1
        query = (
            "SELECT id, topic_id, timestamp, data FROM messages NOT INDEXED "
            "WHERE id >= ? ORDER BY id"
        )
        while step < _LARGEST_STEP:
            start = last + step
            try:
                for number, topic, time, data in self._database.execute(query, (start,)):
                    if step > 1:
                        self._gaps, self._missing = (
                            self._gaps + 1,
                            self._missing + number - last - 1,
                        )
                    last, step = number, 1
                    yield topic, time, data
            except sqlite3.Error:  # the page with this row: the next ones may be whole
                step *= 2
                continue
            self._is_cut = step > 1
            return
        self._is_cut = True

    def _describe_losses(self) -> None:
        if self._gaps:
            self.losses.append(
                f"{self._name}: damaged parts: {self._gaps}; lost with them: {self._missing} messages"
            )
        if self._is_cut:
            self.losses.append(
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
        except sqlite3.Error:
            database.close()
            if options.endswith("1"):
                raise
    raise AssertionError("unreachable")


def _read_topics(database: sqlite3.Connection) -> dict[int, Topic]:
    definitions = {}
    try:
        for row in _named(database, "message_definitions"):
            known = DEFINITION_FORMATS.get(row["encoding"])
            text = row["encoded_message_definition"]
            definitions[row["topic_type"]] = (
                MessageDefinition(known, text) if known else NO_DEFINITION
            )
    except sqlite3.Error:
        pass  # recordings before Iron have none
    return {
        row["id"]: Topic(
            name=row["name"],
            type=row["type"],
            count=0,
            definition=definitions.get(row["type"], NO_DEFINITION),
            digest=row.get("type_description_hash", ""),
            qos=tuple(parse_qos(row.get("offered_qos_profiles", ""))),
            is_cdr=row["serialization_format"] == "cdr",
        )
        for row in _named(database, "topics")
    }


def _named(database: sqlite3.Connection, table: str) -> list[dict[str, Any]]:
    cursor = database.execute(f"SELECT * FROM {table}")
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]
