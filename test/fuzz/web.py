"""The page of `zgs view`: what a connection sends."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from fuzz.engine import Refused, target
from zgs_ros.message_types import MessageTypes
from zgs_ros.segmentation import Label, Roi, Segment, Segmentation
from zgs_ros.tools.web import server as web
from zgs_ros.tools.web.board import Board, Picture

TYPES = MessageTypes("jazzy")
HOST = "Host: 127.0.0.1:80\r\n"


def _ask(text: str, camera: str) -> dict[str, Any]:
    """Goes as far as the network."""
    query = TYPES.create("zgs_ros/msg/Query", text=text, max_results=1, camera=camera)
    TYPES.serialize(query)
    return {"camera": camera, "segments": []}


@cache
def _server() -> web.ViewServer:
    web.POLL_SECONDS = 0.0
    board = Board("/zgs")
    one = Segment(1, (Label("mug", 0.5),), Roi(0, 0, 2, 2), 4, (1.0, 1.0), np.zeros(2, np.float32))
    seen = Segmentation(np.ones((2, 2), np.uint16), (one,), "model")
    board.show_picture("", Picture(seen, b"\xff\xd8\xff", 1, 0.25, 0.1))
    return web.ViewServer(board, _ask, "127.0.0.1", 0)


def _requests() -> Iterator[bytes]:
    for path in ("/", "/state", "/state?after=1&camera=x", "/overlay.jpg?frame=1", "/%00?a=%zz"):
        yield f"GET {path} HTTP/1.1\r\n{HOST}\r\n".encode()
    for extra in ("Origin: null\r\n", "Sec-Fetch-Site: cross-site\r\n", "Connection: close\r\n"):
        yield f"GET /state HTTP/1.1\r\n{HOST}{extra}\r\n".encode()
    for body in ('{"text": "a mug"}', '{"text": "\\ud800", "camera": "x"}', "[" * 99, "[]"):
        head = f"{HOST}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        yield f"POST /query HTTP/1.1\r\n{head}\r\n{body}".encode()
    yield f"HEAD / HTTP/1.0\r\n{HOST}\r\n".encode()
    yield b"GET /\r\n\r\n"
    yield f"GET / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n".encode()


@target(seeds=_requests, longest=16384)
def request(data: bytes) -> None:
    """Whatever a connection sends is answered as HTTP has it, and JSON is valid."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
        ours.setblocking(False)
        ours.sendall(data)
        ours.shutdown(socket.SHUT_WR)
        ours.settimeout(5)
        server = _server()
        web._Handler(_Bounded(theirs), ("127.0.0.1", 1), server)
        theirs.close()
        answer = b""
        while part := ours.recv(1 << 16):
            answer += part
    if not answer:
        raise Refused
    _check(answer)


class _Bounded:
    """A connection whose other end reads nothing before all was written: the rest is passed over."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._left = 1 << 19

    def sendall(self, data: Any) -> None:
        part = bytes(data)[: self._left]
        self._left -= len(part)
        self._connection.sendall(part)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def _check(answer: bytes) -> None:
    head, separator, body = answer.partition(b"\r\n\r\n")
    if not separator or not head.startswith(b"HTTP/1."):
        return  # HTTP/0.9 has no head
    status = int(head.split()[1])
    assert 100 <= status < 600, head[:100]
    lines = head.split(b"\r\n")[1:]
    headers = dict(line.split(b": ", 1) for line in lines)
    length = int(headers.get(b"Content-Length", b"0"))
    if headers.get(b"Content-Type", b"").startswith(b"application/json") and len(body) >= length:
        json.loads(body[:length])
