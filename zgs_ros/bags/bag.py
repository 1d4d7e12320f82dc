"""What a bag holds, however it is stored."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat, Qos

NO_DEFINITION = MessageDefinition(MessageDefinitionFormat.NONE, "")


DEFINITION_FORMATS = {
    "ros2msg": MessageDefinitionFormat.MSG,
    "ros2idl": MessageDefinitionFormat.IDL,
}
"""How types are described, by the name that bags have for it."""


class BagError(ValueError):
    """A bag that is not there, is none, or holds nothing that can be read; the message says which."""


class DamagedBag(RuntimeError):
    """A bag turned out to be damaged while it was read; the message says where."""


@dataclass(frozen=True)
class Topic:
    """A topic of a bag.

    Attributes:
        name: Such as ``"/camera/image_raw"``.
        type: Such as ``"sensor_msgs/msg/Image"``.
        count: Messages, of a damaged bag those that can be read.
        definition: Text that describes the type, where the bag holds one.
        digest: The type's hash, "" where the bag holds none.
        qos: What its publishers offered.
        is_cdr: Whether messages are serialized as ROS 2 does by default.
    """

    name: str
    type: str
    count: int
    definition: MessageDefinition = NO_DEFINITION
    digest: str = ""
    qos: tuple[Qos, ...] = ()
    is_cdr: bool = True


def count_topics(topics: Mapping[int, Topic], counts: Mapping[int, int]) -> dict[str, Topic]:
    """Topics by name, with the messages of all numbers that a file has for the name.

    Args:
        topics: By number.
        counts: Messages by number.
    """
    found: dict[str, Topic] = {}
    for number, topic in topics.items():
        seen = found.get(topic.name, topic)
        found[topic.name] = replace(seen, count=seen.count + counts.get(number, 0))
    return found


class Recorded(NamedTuple):
    """A message of a bag.

    Attributes:
        topic: Name of its topic.
        time: When it was recorded [ns].
        data: CDR with its encapsulation header.
    """

    topic: str
    time: int
    data: bytes


class Storage(Protocol):
    """A bag, or one file of it.

    Attributes:
        topics: By name.
        losses: What is missing from it, a line each.
    """

    topics: dict[str, Topic]
    losses: list[str]

    def messages(self, topics: Collection[str]) -> Iterator[Recorded]:
        """Messages of the named topics in the order of recording."""
        ...

    def close(self) -> None:
        """Closes its files."""
        ...
