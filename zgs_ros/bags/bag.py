"""What a bag holds, however it is stored."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import yaml
from lz4.frame import LZ4FrameDecompressor
from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat, Qos
from rosbags.rosbag2.metadata import parse_qos

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

NO_DEFINITION = MessageDefinition(MessageDefinitionFormat.NONE, "")


DEFINITION_FORMATS = {
    "ros2msg": MessageDefinitionFormat.MSG,
    "ros2idl": MessageDefinitionFormat.IDL,
}
"""How types are described, by the name that bags have for it."""


MAX_UNPACKED = 2**28
"""Largest chunk or message after it was decompressed [bytes]: a few bytes can ask for gigabytes."""

MAX_QOS = 100_000
"""Longest text that describes a quality of service, in characters."""


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
        is_ros1: Whether they are those of ROS 1.
    """

    name: str
    type: str
    count: int
    definition: MessageDefinition = NO_DEFINITION
    digest: str = ""
    qos: tuple[Qos, ...] = ()
    is_cdr: bool = True
    is_ros1: bool = False


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # four times as fast


def load_yaml(text: str) -> Any:
    """The content of a bag's metadata, without aliases: they can multiply a text, and rosbag2 writes none.

    Raises:
        ValueError: If it can't be read.
    """
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, _Loader)):
            raise yaml.YAMLError("aliases are not read")
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"metadata can't be read: {error}") from None


def read_qos(text: object) -> tuple[Qos, ...]:
    """The quality of service that a bag has as YAML; that of nobody where it can't be read."""
    if not isinstance(text, str) or len(text) > MAX_QOS:
        return ()
    try:
        listed = load_yaml(text)
        found = tuple(parse_qos(listed)) if isinstance(listed, list) else ()
    except Exception:  # whatever a parser stumbles over in a text of somebody's own making
        return ()
    return found if all(map(_is_qos, found)) else ()


def _is_qos(qos: Qos) -> bool:
    times = (*qos.deadline, *qos.lifespan, *qos.liveliness_lease_duration)
    return all(isinstance(number, int) and 0 <= number < 2**64 for number in (qos.depth, *times))


def type_name(name: str) -> str:
    """The name of a message type as ROS 2 has it, which some tools write as in ROS 1."""
    return re.sub(r"^(\w+)/(\w+)$", r"\1/msg/\2", name)


def unpack(compression: str, data: bytes, limit: int = MAX_UNPACKED) -> bytes:
    """What can be decompressed of data that may be cut off.

    Args:
        compression: ``"zstd"``, ``"lz4"`` or "".
        data: What is compressed.
        limit: Bytes of the result.

    Raises:
        ValueError: If it is damaged, would be larger than the limit, or the compression is unknown.
    """
    if not compression:
        return data
    if compression not in ("zstd", "lz4"):
        raise ValueError(f"compression {compression!r} is not known")
    decompressor = zstd.ZstdDecompressor() if compression == "zstd" else LZ4FrameDecompressor()
    try:
        unpacked = bytes(decompressor.decompress(data, max_length=min(limit, MAX_UNPACKED) + 1))
    except (RuntimeError, zstd.ZstdError, EOFError, MemoryError) as error:
        raise ValueError(f"is damaged ({error})") from None
    if len(unpacked) > limit or len(unpacked) > MAX_UNPACKED:
        raise ValueError(f"unpacks to more than {min(limit, MAX_UNPACKED)} bytes")
    return unpacked


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
        lost: What is missing from it, a line each.
        is_scanned: Whether it was read once to see what is there, instead of trusting its index.
    """

    topics: dict[str, Topic]
    lost: list[str]
    is_scanned: bool

    def messages(self, topics: Collection[str]) -> Iterator[Recorded]:
        """Messages of the named topics in the order of recording.

        Raises:
            DamagedBag: If something can't be read; one that is scanned gives the rest.
        """
        ...

    def close(self) -> None:
        """Closes its files."""
        ...
