"""The DDS domains that this process has joined."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cyclonedds.core import DDSException
from cyclonedds.domain import Domain, DomainParticipant
from cyclonedds.topic import Topic

from zgs_ros.dds import raw
from zgs_ros.dds.complaints import Complaints
from zgs_ros.dds.network import PARTICIPANTS, Network
from zgs_ros.dds.raw import DdsError

logger = logging.getLogger(__name__)

MOST_CLASSES = 30
"""Classes of one type with Cyclone DDS 0.10, which for 33 of them takes all memory."""


@dataclass
class _Joined:
    """A domain of this process.

    Attributes:
        handle: Keeps it.
        config: That it was created with.
        complaints: What Cyclone DDS says of it.
        nodes: In it.
        types: Classes of the types and what `raw.keep_type` gave for them (0 with Cyclone DDS 0.10), by
            the types' hash.
        topics: Topics that were made, by the hash of their type.
    """

    handle: Domain
    config: str
    complaints: Complaints
    nodes: int = 0
    types: dict[str, tuple[type, int]] = field(default_factory=dict)
    topics: Counter[str] = field(default_factory=Counter)


_domains: dict[int, _Joined] = {}
_lock = threading.Lock()


def join(network: Network) -> Complaints:
    """Creates the domain for the first node in it; a process has one configuration per domain.

    Returns:
        What Cyclone DDS says of it.

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
            complaints = Complaints()
            with complaints.heard():
                handle = _create(network)
            joined = _domains[network.domain] = _Joined(handle, config, complaints)
        joined.nodes += 1
        return joined.complaints


def _create(network: Network) -> Domain:
    network, problems = network.resolved()
    for problem in problems:
        logger.warning("%s", problem)
    try:
        return Domain(network.domain, network.cyclone_config())
    except DDSException as error:
        first = error
    # It says no more than that it failed; this helps where all of the usual places are taken.
    most = network.most_participants
    try:
        domain = Domain(network.domain, network.cyclone_config(most))
    except DDSException:
        hint = f"; CYCLONEDDS_URI is {network.user_config!r}" if network.user_config else ""
        raise DdsError(
            f"domain {network.domain} can't be joined: {first}. Where {most} participants are on this "
            "machine already, stop some, or set <ParticipantIndex>none</ParticipantIndex> in "
            f"CYCLONEDDS_URI{hint}"
        ) from first
    logger.warning(
        "%d participants of domain %d are on this machine already; without multicast those that came "
        "first may not see this one",
        PARTICIPANTS,
        network.domain,
    )
    return domain


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
    it, and the others are made past the binding; with Cyclone DDS 0.10, which gives no access to it,
    only topics beyond `MOST_CLASSES` share it.

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
        data_type, sertype = joined.types.get(type_hash, (None, 0))
        if data_type and sertype:
            return raw.create_topic(participant, name, data_type, sertype)
        joined.topics[type_hash] += 1
        if data_type is None or joined.topics[type_hash] <= MOST_CLASSES:
            data_type = make_type()
        topic: Topic[Any] = Topic(participant, name, data_type)
        joined.types[type_hash] = data_type, raw.keep_type(topic)
        return topic


def leave(domain_id: int) -> None:
    """Deletes the domain when the last node has left it."""
    with _lock:
        joined = _domains[domain_id]
        joined.nodes -= 1
        if not joined.nodes:
            del _domains[domain_id]
            raw.delete(joined.handle)
            joined.complaints.close()
