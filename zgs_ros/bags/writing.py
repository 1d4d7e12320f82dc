"""Writing a bag, as a rosbag2 folder."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

from rosbags.interfaces import (
    MessageDefinitionFormat,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.enums import CompressionFormat, CompressionMode
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

from zgs_ros.bags.bag import Recorded, Topic
from zgs_ros.files.bags import MCAP, SQLITE3
from zgs_ros.message_types import MessageTypes

_VERSION: Literal[8] = 8
"""Of the metadata: what is newer, Humble can't read."""

_PLUGINS = {MCAP: StoragePlugin.MCAP, SQLITE3: StoragePlugin.SQLITE3}
_IDL = f"{'=' * 80}\nIDL: "
_DEFAULT = QosTime(0, 0)
_RELIABLE = Qos(
    QosHistory.KEEP_LAST,
    10,
    QosReliability.RELIABLE,
    QosDurability.VOLATILE,
    _DEFAULT,
    _DEFAULT,
    QosLiveliness.AUTOMATIC,
    _DEFAULT,
    False,
)
_LATCHED = _RELIABLE._replace(depth=1, durability=QosDurability.TRANSIENT_LOCAL)


class BagWriter:
    """Writes a bag.

    Args:
        folder: Made; one that is there is replaced.
        storage: What it is stored as.
        types: Of the messages.

    Attributes:
        time: When what is published now was recorded [ns].
    """

    def __init__(self, folder: Path, storage: str, types: MessageTypes) -> None:
        self.time = 0
        self._types = types
        self._connections: dict[str, Any] = {}
        shutil.rmtree(folder, ignore_errors=True)
        self._writer = Writer(folder, version=_VERSION, storage_plugin=_PLUGINS[storage])
        if storage == MCAP:  # label images shrink to a hundredth
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._writer.open()

    @property
    def topics(self) -> Collection[str]:
        """Names of the topics that were added so far."""
        return self._connections.keys()

    def create_publisher(self, topic: str, type_name: str, latched: bool = False) -> BagPublisher:
        """A publisher whose messages are written with the time that `time` then is.

        Args:
            topic: Full name.
            type_name: Of its messages.
            latched: Whether who subscribes late to the bag that is played gets the last one.
        """
        definition = self._types.definition(type_name)
        qos = [_LATCHED if latched else _RELIABLE]
        self._add(topic, type_name, definition, self._types.type_hash(type_name), qos)
        return BagPublisher(self, topic, self._types)

    def add_topic(self, topic: Topic) -> bool:
        """Adds a topic of another bag; false if nothing describes its type, or it is no CDR."""
        described = _describe(topic, self._types) if topic.is_cdr else None
        if described:
            self._add(topic.name, topic.type, *described, list(topic.qos))
        return described is not None

    def write(self, recorded: Recorded) -> None:
        """Writes a message on a topic that was added."""
        self._writer.write(self._connections[recorded.topic], recorded.time, recorded.data)

    def close(self, facts: dict[str, str]) -> None:
        """Finishes the bag.

        Args:
            facts: Texts that are kept in its metadata.
        """
        for name, value in facts.items():
            self._writer.set_custom_data(name, value)
        self._writer.close()

    def abort(self) -> None:
        """Leaves the bag as it is, without an index."""
        self._writer.abort()

    def _add(self, topic: str, kind: str, definition: str, digest: str, qos: list[Qos]) -> None:
        self._connections[topic] = self._writer.add_connection(
            topic, kind, msgdef=definition, rihs01=digest, offered_qos_profiles=qos
        )


class BagPublisher:
    """A topic of a bag as a `zgs_ros.streaming.port.Publisher`."""

    def __init__(self, writer: BagWriter, topic: str, types: MessageTypes) -> None:
        self._writer, self._topic, self._types = writer, topic, types

    def publish(self, message: Any) -> None:
        """Writes a message."""
        data = bytes(self._types.serialize(message))
        self._writer.write(Recorded(self._topic, self._writer.time, data))

    def subscription_count(self) -> int:
        """One: the bag."""
        return 1

    def close(self) -> None:
        """Does nothing: topics stay in a bag."""


def _describe(topic: Topic, types: MessageTypes) -> tuple[str, str] | None:
    """Definition and hash of a topic's type: the bag's own, else those of the distribution."""
    form, text = topic.definition
    is_idl = form == MessageDefinitionFormat.IDL
    if form == MessageDefinitionFormat.NONE or is_idl != text.startswith(_IDL):
        known = types.knows(topic.type)
        return (types.definition(topic.type), types.type_hash(topic.type)) if known else None
    if topic.digest:
        return text, topic.digest
    store = get_typestore(Stores.EMPTY)
    try:
        store.register(get_types_from_idl(text) if is_idl else get_types_from_msg(text, topic.type))
        return text, store.hash_rihs01(topic.type)
    except Exception:  # a definition that rosbags can't parse
        return None
