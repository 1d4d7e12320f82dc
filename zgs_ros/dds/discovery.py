"""The publishers on the network, as Cyclone DDS discovers them, whether they match anything or not."""

from __future__ import annotations

import re
import threading

from cyclonedds.builtin import BuiltinDataReader, BuiltinTopicDcpsPublication, DcpsEndpoint
from cyclonedds.core import InstanceState
from cyclonedds.domain import DomainParticipant
from cyclonedds.qos import Policy, Qos

from zgs_ros.streaming.port import Offer, QosProfile

SAMPLES_PER_TAKE = 64
_TYPE = re.compile(r"(\w+)::(msg|srv|action)::dds_::(\w+)_")


class Discovery:
    """Keeps what the participant of a node knows of publishers.

    Args:
        participant: Of the node; what it publishes itself is known too.
    """

    def __init__(self, participant: DomainParticipant) -> None:
        self._reader = BuiltinDataReader(participant, BuiltinTopicDcpsPublication)
        self._lock = threading.Lock()
        self._known: dict[str, tuple[str, Offer]] = {}

    def offers(self, topic: str) -> list[Offer]:
        """The publishers of a topic, named as DDS does (``rt/...``)."""
        with self._lock:
            self._catch_up()
            return [offer for name, offer in self._known.values() if name == topic]

    def all_offers(self) -> dict[str, list[Offer]]:
        """The publishers of every topic, by the name that DDS has for it."""
        found: dict[str, list[Offer]] = {}
        with self._lock:
            self._catch_up()
            for name, offer in self._known.values():
                found.setdefault(name, []).append(offer)
        return found

    def _catch_up(self) -> None:
        while samples := self._reader.take(SAMPLES_PER_TAKE):
            for sample in samples:
                key = str(sample.key)
                if sample.sample_info.instance_state == InstanceState.Alive:
                    self._known[key] = (sample.topic_name, _offer(sample))
                else:
                    self._known.pop(key, None)


def _offer(sample: DcpsEndpoint) -> Offer:
    found = _TYPE.fullmatch(sample.type_name)
    return Offer("/".join(found.groups()) if found else sample.type_name, _profile(sample.qos))


def _profile(qos: Qos) -> QosProfile:
    return QosProfile(
        reliable=any(isinstance(p, Policy.Reliability.Reliable) for p in qos),
        depth=0,
        transient_local=any(
            p
            in (
                Policy.Durability.TransientLocal,
                Policy.Durability.Transient,
                Policy.Durability.Persistent,
            )
            for p in qos
        ),
    )
