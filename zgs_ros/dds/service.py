"""A ROS 2 service on Cyclone DDS, for clients that use rmw_cyclonedds_cpp.

Requests and replies begin with who asked and which of its requests it is. Fast DDS carries that
beside the data instead, so that its clients don't reach these services.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial
from typing import Any

from cyclonedds.pub import DataWriter
from cyclonedds.sub import DataReader

from zgs_ros.dds import raw
from zgs_ros.dds.types import TypeSupport
from zgs_ros.streaming.port import Handler
from zgs_ros.streaming.throttle import ThrottledLog

ENCAPSULATION = 4
"""Bytes of CDR's own header."""

IDENTITY = 16
"""Bytes of the client's id (uint64) and the request's number (int64)."""

ALIGNMENT = 4

REQUESTS_PER_TAKE = 8

logger = logging.getLogger(__name__)


class Service:
    """Reads requests and writes responses; made by `DdsNode.create_service`.

    Args:
        name: Full name.
        type_name: Such as ``"zgs_ros/srv/QuerySegments"``.
        types: Of the node.
        reader: Of requests.
        writer: Of replies.
        handler: Answers a request.
        leave: Takes both from the graph.
    """

    def __init__(
        self,
        name: str,
        type_name: str,
        types: TypeSupport,
        reader: DataReader[Any],
        writer: DataWriter[Any],
        handler: Handler,
        leave: Callable[[Any, Any], None],
    ) -> None:
        self.name = name
        self._type_name = type_name
        self._types = types
        self._reader = reader
        self._writer = writer
        self._handler = handler
        self._leave = leave
        self._closed = False
        self._log = ThrottledLog(logger)

    def close(self) -> None:
        """Takes the service from the graph."""
        if not self._closed:
            self._closed = True
            self._leave(self._reader, self._writer)

    def deliver(self) -> None:
        """Hands the next requests to the handler; an exception costs its request."""
        if self._closed:
            return
        for cdr in raw.take(self._reader, REQUESTS_PER_TAKE):
            try:
                identity, body = split_request(cdr)
                request = self._types.deserialize(body, f"{self._type_name}_Request")
                self._handler(request, partial(self._reply, identity))
            except Exception as error:
                text = f"{self.name}: a request is left out: {error}"
                self._log.log(logging.ERROR, "request", text, exc_info=True)

    def _reply(self, identity: bytes, fields: dict[str, Any]) -> None:
        if self._closed:
            return
        response = self._types.create_partly(f"{self._type_name}_Response", **fields)
        if not raw.write(self._writer, join_reply(identity, self._types.serialize(response))):
            text = f"{self.name}: a response was left out, the network is full"
            self._log.log(logging.WARNING, "timeout", text)


def split_request(cdr: bytes) -> tuple[bytes, bytes]:
    """Identity and CDR of a request.

    Raises:
        ValueError: If it is too short to have an identity.
    """
    if len(cdr) < ENCAPSULATION + IDENTITY:
        raise ValueError(f"a request has {len(cdr)} bytes, at least {ENCAPSULATION + IDENTITY}")
    # The identity's length is a multiple of every alignment: what follows it stays aligned.
    identity = cdr[ENCAPSULATION : ENCAPSULATION + IDENTITY]
    return identity, cdr[:ENCAPSULATION] + cdr[ENCAPSULATION + IDENTITY :]


def join_reply(identity: bytes, cdr: memoryview) -> memoryview:
    """CDR of a reply to the request of an identity."""
    reply = bytes(cdr[:ENCAPSULATION]) + identity + bytes(cdr[ENCAPSULATION:])
    return memoryview(reply + bytes(-len(reply) % ALIGNMENT))


def service_id() -> str:
    """What tells clients which reader and writer belong together."""
    return f"serviceid={'.'.join(f'{byte:x}' for byte in os.urandom(16))};"
