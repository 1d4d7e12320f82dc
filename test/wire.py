"""Samples as no writer would send them, straight onto the wire: RTPS packets in a writer's name."""

from __future__ import annotations

import socket
import struct
from typing import Any

from zgs_ros.dds.network import PARTICIPANTS

MOST = 60_000
"""Bytes of a sample: it must fit one UDP packet."""

_DATA, _INFO_TIMESTAMP = 0x15, 0x09
_LITTLE_ENDIAN, _WITH_DATA = 0x01, 0x04


class Wire:
    """Sends samples in the name of a best-effort writer that sends none itself.

    DDS takes them for the writer's, whatever is in them: what a program with another idea of the
    type, or with a fault, sends.

    Args:
        guid: Of the writer.
        domain: Of its participant, which is on 127.0.0.1.
    """

    def __init__(self, guid: bytes, domain: int) -> None:
        self._prefix, self._entity = guid[:12], guid[12:]
        self._sequence = 0
        # Where participants of a machine listen for data (OMG DDSI-RTPS 2.5, 9.6.2.3).
        self._ports = [7400 + 250 * domain + 11 + 2 * index for index in range(PARTICIPANTS)]
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def send(self, cdr: bytes) -> None:
        """Sends bytes as a sample, its encapsulation header included."""
        self._sequence += 1
        cdr = cdr[:MOST]
        cdr += bytes(-len(cdr) % 4)
        # extra flags, octets to the inline QoS, any reader, the writer, sequence number
        head = struct.pack("<HHI", 0, 16, 0) + self._entity + struct.pack("<iI", 0, self._sequence)
        packet = b"RTPS\x02\x01\x01\x10" + self._prefix
        packet += struct.pack("<BBHII", _INFO_TIMESTAMP, _LITTLE_ENDIAN, 8, 1_700_000_000, 0)
        flags, size = _LITTLE_ENDIAN | _WITH_DATA, len(head) + len(cdr)
        packet += struct.pack("<BBH", _DATA, flags, size) + head + cdr
        for port in self._ports:
            self._socket.sendto(packet, ("127.0.0.1", port))

    def close(self) -> None:
        """Sends no more."""
        self._socket.close()


def wire_of(publisher: Any, domain: int) -> Wire:
    """In the name of a publisher of `zgs_ros.dds.node.DdsNode`."""
    return Wire(publisher._writer.guid.bytes, domain)
