"""The DDS domains that this process has joined."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cyclonedds.core import DDSException
from cyclonedds.domain import Domain, DomainParticipant
from cyclonedds.topic import Topic

from zgs_ros.dds import raw
from zgs_ros.dds.network import Network
from zgs_ros.dds.raw import DdsError

MOST_CLASSES = 30
"""Topics of one type where each needs a class of its own: with 33, Cyclone DDS takes all memory."""


@dataclass
class _Joined:
    """A domain of this process.

    Attributes:
        handle: Keeps it.
        config: That it was created with.
        nodes: In it.
        types: Classes of the types and what `raw.keep_type` gave for them, by the types' hash.
        topics: Topics that were made, by the hash of their type.
    """

    handle: Domain
    config: str
    nodes: int = 0
    types: dict[str, tuple[type, int]] = field(default_factory=dict)
    topics: dict[str, int] = field(default_factory=dict)


_domains: dict[int, _Joined] = {}
_lock = threading.Lock()


def join(network: Network) -> None:
    """Creates the domain for the first node in it; a process has one configuration per domain.

    Raises:
        DdsError: If Cyclone DDS refuses the configuration, or another one is in use already.
    """
    config = network.cyclone_config()
    with _lock:
        joined = _domains.get(network.domain)
        if joined and joined.config != config:
            raise DdsError(
                f"domain {network.domain} is in use in this process with another network configuration"
            )
        if joined is None:
            try:
                joined = _Joined(Domain(network.domain, config), config)
            except DDSException as error:
                hint = f"; CYCLONEDDS_URI is {network.user_config!r}" if network.user_config else ""
                raise DdsError(f"domain {network.domain} can't be joined: {error}{hint}") from error
            _domains[network.domain] = joined
        joined.nodes += 1


def create_topic(
    domain_id: int,
    participant: DomainParticipant,
    name: str,
    type_hash: str,
    make_type: Callable[[], type],
) -> Topic[Any]:
    """A topic; all topics of one type in a domain share Cyclone DDS's description of the type.

    A class of its own for every topic would be a type of its own, all with one name, of which
    Cyclone DDS can't hold more than 32. One class for several topics would not do either: the
    binding would fill in the description anew while other threads read it. So the first topic makes
    it, and the others are made past the binding.

    Args:
        domain_id: That was joined.
        participant: Whose topic it is.
        name: The topic's, as DDS has it.
        type_hash: Tells types apart.
        make_type: Makes the class of the type, for the first topic of it.

    Raises:
        DdsError: If Cyclone DDS refuses it.
    """
    with _lock:
        joined = _domains[domain_id]
        known = joined.types.get(type_hash)
        if known:
            return raw.create_topic(participant, name, *known)
        count = joined.topics[type_hash] = joined.topics.get(type_hash, 0) + 1
        if count > MOST_CLASSES:
            raise DdsError(
                f"{name}: more than {MOST_CLASSES} topics of one type need Cyclone DDS 11 or newer: "
                "pip install 'cyclonedds>=11'"
            )
        data_type = make_type()
        topic: Topic[Any] = Topic(participant, name, data_type)
        sertype = raw.keep_type(topic)
        if sertype:
            joined.types[type_hash] = data_type, sertype
        return topic


def leave(domain_id: int) -> None:
    """Deletes the domain when the last node has left it."""
    with _lock:
        joined = _domains[domain_id]
        joined.nodes -= 1
        if not joined.nodes:
            del _domains[domain_id]
            raw.delete(joined.handle)
