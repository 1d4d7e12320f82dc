"""The web server: four fixed answers, nothing from the disk, and room for a bounded number of viewers."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import logging
import re
import socket
import socketserver
import threading
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

from zgs_ros.texts import whole_number
from zgs_ros.tools.web.board import Board

POLL_SECONDS = 5.0
"""How long a viewer's request waits for news; its end shows the viewer that the server is there."""

IDLE_SECONDS = 30.0
"""After which a connection without a request is closed."""

MAX_CONNECTIONS = 64

PLACE_SECONDS = 1.0
"""How long it is waited for a slow viewer's connection to end."""

MAX_QUERIES = 4
"""Queries that are under way at most."""

MAX_BODY = 4096
MAX_TEXT = 200
"""Longest query, in characters."""

OWN_SITES = ("same-origin", "none")
"""What browsers say of requests that come from this page, or from the address bar."""

JSON = "application/json"

PAGE = Path(__file__).with_name("page.html")

logger = logging.getLogger(__name__)


class QueryFailed(RuntimeError):
    """A query that was not answered; the text is for who asked."""


class AddressError(OSError):
    """An address or port that can't be used; the message says what to do."""


Ask = Callable[[str, str], dict[str, Any]]
"""Answers a text about a camera ("" for the best one), JSON-ready; raises `QueryFailed`."""


class ViewServer(ThreadingHTTPServer):
    """Serves the page, for a `with` block.

    Requests of other web sites are refused: those that reach this server under a name of theirs (DNS
    rebinding), and those that they have a visitor's browser send.

    Args:
        board: What is shown.
        ask: Answers queries.
        address: To listen at.
        port: Likewise, 0 for any.

    Raises:
        AddressError: If it can't be listened at.
    """

    daemon_threads = True
    request_queue_size = 32

    def __init__(self, board: Board, ask: Ask, address: str, port: int) -> None:
        self.board = board
        self.page = PAGE.read_bytes()
        self.policy = content_security_policy(self.page.decode())
        self._ask = ask
        self._queries = threading.BoundedSemaphore(MAX_QUERIES)
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._slow: dict[Any, None] = {}  # connections that wait for their viewer, oldest first
        self._lock = threading.Lock()
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            super().__init__((address, port), _Handler)
        except (OSError, OverflowError) as error:
            raise AddressError(
                f"can't listen at {address} port {port}: {error}; --port 0 takes a free port"
            ) from error

    @property
    def url(self) -> str:
        """Where a browser on this machine finds the page."""
        host, port = self.server_address[:2]
        ip = ipaddress.ip_address(str(host).partition("%")[0])
        if ip.is_unspecified:
            ip = ipaddress.ip_address("127.0.0.1" if ip.version == 4 else "::1")
        return f"http://[{ip}]:{port}/" if ip.version == 6 else f"http://{ip}:{port}/"

    def ask(self, text: str, camera: str) -> dict[str, Any]:
        """Answers a query.

        Raises:
            QueryFailed: If it is not answered, or too many are under way.
        """
        if not self._queries.acquire(blocking=False):
            raise QueryFailed("many queries are under way; ask again")
        try:
            return self._ask(text, camera)
        finally:
            self._queries.release()

    def server_bind(self) -> None:
        """Binds without asking the DNS for this machine's name, which can take long."""
        socketserver.TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serves a connection on a thread of its own, if there is room for one more.

        Where there is none, the viewer who has been slow for the longest time makes room.
        """
        has_place = self._places.acquire(blocking=False)
        if not has_place and self._end_slowest():
            has_place = self._places.acquire(timeout=PLACE_SECONDS)
        if has_place:
            self.waits(request, True)  # from now on, not from when its thread runs
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def waits(self, connection: Any, waits: bool) -> None:
        """Takes note of whether a connection waits for its viewer now, or the viewer for it."""
        with self._lock:
            self._slow.pop(connection, None)
            if waits:
                self._slow[connection] = None

    def _end_slowest(self) -> bool:
        with self._lock:
            slowest = next(iter(self._slow), None)
            self._slow.pop(slowest, None)
        if slowest is None:
            return False
        with suppress(OSError):  # it has ended by itself
            slowest.shutdown(socket.SHUT_RDWR)
        return True

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serves a connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.waits(request, False)
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A viewer that went away is no error."""
        logger.debug("a viewer's connection ended", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: ViewServer
    protocol_version = "HTTP/1.1"
    server_version = "zgs"
    sys_version = ""
    timeout = IDLE_SECONDS
    url: SplitResult

    def handle_one_request(self) -> None:
        self.server.waits(self.connection, True)
        super().handle_one_request()

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        try:
            self.url = urlsplit(self.path)
        except ValueError:
            self.close_connection = True
            self._refuse(HTTPStatus.BAD_REQUEST, "the address can't be read")
            return False
        return True

    def do_GET(self) -> None:
        self.server.waits(self.connection, False)
        url = self.url
        given = {key: values[-1] for key, values in parse_qs(url.query).items()}
        camera = given.get("camera", "")
        board = self.server.board
        if not self._is_for_us():
            return
        if url.path == "/":
            self._send(self.server.page, "text/html; charset=utf-8")
        elif url.path == "/state":
            after = _integer(given.get("after", ""))
            self._send_json(board.state(camera, after, 0.0 if after < 0 else POLL_SECONDS))
        elif url.path == "/overlay.jpg":
            overlay = board.overlay(camera, max(0, _integer(given.get("frame", ""))))
            if overlay is None:
                self._refuse(HTTPStatus.NOT_FOUND, "there is no such frame any more")
            else:
                self._send(overlay, "image/jpeg")
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "there is nothing here; the page is /")

    def do_POST(self) -> None:
        length = _integer(self.headers.get("Content-Length", ""))
        if not 0 <= length <= MAX_BODY:
            self.close_connection = True  # what it sends is not read
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {MAX_BODY} bytes")
            return
        body = self.rfile.read(length)
        self.server.waits(self.connection, False)
        if not self._is_for_us():
            return
        # Other web sites can't send this type without asking, which is not answered.
        if self.headers.get_content_type() != JSON:
            self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"Content-Type must be {JSON}")
        elif self.url.path != "/query":
            self._refuse(HTTPStatus.NOT_FOUND, "there is nothing here; queries go to /query")
        else:
            self._query(body)

    def _query(self, body: bytes) -> None:
        try:
            text, camera = read_query(body)
        except ValueError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
            return
        try:
            self._send_json(self.server.ask(text, camera))
        except QueryFailed as error:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, str(error))

    def _is_for_us(self) -> bool:
        host = self.headers.get("Host", "")
        origin = self.headers.get("Origin")
        if is_own_host(host) and origin in (None, f"http://{host}") and not self._is_embedded():
            return True
        self._refuse(HTTPStatus.FORBIDDEN, "open the page by this machine's address or localhost")
        return False

    def _is_embedded(self) -> bool:
        """Whether another site's page asks, for an image or a script; a link to the page is fine."""
        is_link = self.path == "/" and self.headers.get("Sec-Fetch-Dest") == "document"
        return self.headers.get("Sec-Fetch-Site", "none") not in OWN_SITES and not is_link

    def _send_json(self, value: Any) -> None:
        self._send(json.dumps(value, allow_nan=False).encode(), JSON)

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self._send(json.dumps({"error": reason}).encode(), JSON, status)

    def _send(self, body: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.server.waits(self.connection, True)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", self.server.policy)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug(format, *args)


def read_query(body: bytes) -> tuple[str, str]:
    """Text and camera of a query's JSON.

    Raises:
        ValueError: If it is not valid; the message says what is allowed.
    """
    try:
        query = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError('the body must be JSON such as {"text": "a mug"}') from None
    text, camera = (
        (query.get("text"), query.get("camera", "")) if isinstance(query, dict) else (None, "")
    )
    if not isinstance(text, str) or not isinstance(camera, str):
        raise ValueError('the body must be JSON such as {"text": "a mug"}')
    try:
        (text + camera).encode()
    except UnicodeEncodeError:
        raise ValueError("text and camera must not have halves of characters") from None
    text = " ".join(text.split())
    if not 0 < len(text) <= MAX_TEXT:
        raise ValueError(f"text must have 1 to {MAX_TEXT} characters, got {len(text)}")
    return text, camera


def is_own_host(host: str) -> bool:
    """Whether a Host header can be this machine's: an address, or a name that no other site has."""
    name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
    name = name.removeprefix("[").removesuffix("]").lower()
    own = socket.gethostname().lower()
    if name in ("localhost", own, f"{own}.local"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def content_security_policy(page: str) -> str:
    """A policy that lets the page run its own script and style, and nothing else."""

    def source(tag: str) -> str:
        [content] = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = hashlib.sha256(content.encode()).digest()
        return f"'sha256-{base64.b64encode(digest).decode()}'"

    return (
        f"default-src 'none'; script-src {source('script')}; style-src {source('style')}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


def _integer(text: str) -> int:
    number = whole_number(text)
    return -1 if number is None else number
