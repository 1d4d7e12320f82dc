"""Serialised samples straight into and out of Cyclone DDS, past its slow Python serialiser."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from cyclonedds._clayer import ddspy_take
from cyclonedds.core import Entity, InstanceState, SampleState, ViewState
from cyclonedds.domain import DomainParticipant
from cyclonedds.internal import DDS
from cyclonedds.pub import DataWriter
from cyclonedds.qos import Policy, Qos
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from cyclonedds.util import duration

from zgs_ros.streaming.port import QosProfile

RETCODE_TIMEOUT = -10

BLOCKING_SECONDS = 0.1
"""For which a reliable writer waits for a network that takes nothing."""

ANY_STATE = SampleState.Any | ViewState.Any | InstanceState.Any


class DdsError(RuntimeError):
    """The DDS layer refused an operation."""


class _Sample(ctypes.Structure):
    """What the Python binding's sample type is in C: a pointer to the CDR bytes and their number."""

    _fields_ = (("data", ctypes.c_void_p), ("size", ctypes.c_size_t))


_library = DDS._dll_handle

# Through ctypes instead of the binding's own write: that one keeps the GIL while the data are sent.
_dds_write = _library.dds_write
_dds_write.argtypes = (ctypes.c_int32, ctypes.c_void_p)
_dds_write.restype = ctypes.c_int32
_dds_delete = _library.dds_delete
_dds_delete.argtypes = (ctypes.c_int32,)
_dds_delete.restype = ctypes.c_int32


def endpoint_qos(qos: QosProfile, type_hash: str, user_data: str = "") -> Qos:
    """The QoS of an endpoint whose type has the given hash, with further user data."""
    return Qos(
        Policy.Reliability.Reliable(duration(seconds=BLOCKING_SECONDS))
        if qos.reliable
        else Policy.Reliability.BestEffort,
        Policy.History.KeepLast(qos.depth),
        Policy.Durability.TransientLocal if qos.transient_local else Policy.Durability.Volatile,
        Policy.DataRepresentation(use_cdrv0_representation=True, use_xcdrv2_representation=False),
        Policy.Userdata(f"{user_data}typehash={type_hash};".encode()),
    )


def write(writer: DataWriter, cdr: memoryview) -> bool:
    """Sends one serialised sample, encapsulation header included, without copying it.

    Returns:
        Whether it was sent; False when the network took nothing within the writer's blocking time.

    Raises:
        DdsError: If the writer is gone or refuses the sample.
    """
    data = np.frombuffer(cdr, np.uint8)
    code = _dds_write(writer._ref, ctypes.byref(_Sample(data.ctypes.data, data.size)))
    if code not in (0, RETCODE_TIMEOUT):
        raise DdsError(f"DDS could not write {data.size} bytes (return code {code})")
    return code == 0


def take(reader: DataReader, limit: int = 1) -> list[bytes]:
    """Takes up to `limit` serialised samples; those without data (a writer went away) are left out."""
    samples = ddspy_take(reader._ref, ANY_STATE, limit)
    if isinstance(samples, int):
        raise DdsError(f"DDS could not read (return code {samples})")
    return [data for data, info in samples if info.valid_data]


def lost(reader: DataReader) -> int:
    """Samples that were sent to a reader and never came."""
    status = reader.get_sample_lost_status()
    return int(status.total_count) if status else 0


def keep_type(topic: Topic[Any]) -> int:
    """Keeps a topic's type in memory until the process ends.

    Python types share one entry of Cyclone DDS's instance table among all topics without a key. It
    points to the type of the topic that was used first, and so must not outlive it: a process in
    which one node closes while another goes on would crash.

    Returns:
        What `create_topic` takes; 0 with Cyclone DDS 0.10, which gives no access to it.
    """
    if not hasattr(_library, "dds_get_entity_sertype"):
        return 0
    sertype = ctypes.c_void_p()
    code = _library.dds_get_entity_sertype(ctypes.c_int32(topic._ref), ctypes.byref(sertype))
    if code != 0 or sertype.value is None:
        return 0
    _library.ddsi_sertype_ref(sertype)
    return sertype.value


def create_topic(
    participant: DomainParticipant, name: str, data_type: type, sertype: int
) -> Topic[Any]:
    """Another topic of a type in the same domain.

    Args:
        participant: Whose topic it is.
        name: The topic's.
        data_type: Class of the type.
        sertype: What `keep_type` gave for the class's first topic.

    Raises:
        DdsError: If DDS refuses it.
    """
    kind = ctypes.c_void_p(sertype)
    _library.ddsi_sertype_ref(kind)  # the topic's own
    reference = _library.dds_create_topic_sertype(
        ctypes.c_int32(participant._ref), name.encode(), ctypes.byref(kind), None, None, None
    )
    if reference < 0:
        _library.ddsi_sertype_unref(kind)
        raise DdsError(f"DDS refuses the topic {name} (return code {reference})")
    topic: Topic[Any] = Topic.__new__(Topic)
    Entity.__init__(topic, reference)
    topic.data_type = data_type
    topic._keepalive_entities = [participant]
    return topic


def delete(entity: DDS) -> None:
    """Deletes an entity with all that belongs to it."""
    _dds_delete(entity._ref)
