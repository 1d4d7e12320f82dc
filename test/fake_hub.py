"""A hub on localhost, as far as downloads need one, that can be told to misbehave."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

from zgs_ros.models.loading import sha256

BLOCK = 64 << 10
Content = bytes | Path


@dataclass
class Hub:
    """What the hub has, and how it behaves.

    Attributes:
        files: Contents, or files that have them, by repository, revision and file name.
        newest: Newest revision of each repository.
        answers: Status codes with which requests for a file name are answered, one by one, before it is
            served; the last one for ever where `stubborn`.
        stubborn: Whether the last of `answers` stays.
        headers: Added to answers from `answers`.
        cut_after: Bytes after which a download breaks off, each time.
        resumes: Whether parts of files are served.
        pause: Seconds between blocks of 64 KiB.
        damaged: Whether what is served has another content than is named.
        requests: Number of downloads and of questions, by method and file name.
    """

    files: dict[str, dict[str, dict[str, Content]]] = field(default_factory=dict)
    newest: dict[str, str] = field(default_factory=dict)
    answers: dict[str, list[int]] = field(default_factory=dict)
    stubborn: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    resumes: bool = True
    pause: float = 0.0
    damaged: bool = False
    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    url: str = ""

    def put(self, repository: str, revision: str, files: Mapping[str, Content]) -> None:
        """Adds a revision, which is the newest from now on."""
        self.files.setdefault(repository, {})[revision] = dict(files)
        self.newest[repository] = revision

    def answer(self, name: str) -> int | None:
        """Status code of the next answer for a file that is not to be served, if any."""
        planned = self.answers.get(name)
        if not planned:
            return None
        return planned[0] if self.stubborn and len(planned) == 1 else planned.pop(0)


@contextmanager
def serve() -> Iterator[Hub]:
    """Runs a hub; its address is `Hub.url`."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._serve(body=False)

    def do_GET(self) -> None:
        if found := re.fullmatch(r"/api/models/([^/]+/[^/?]+)", self.path):
            licence = {"id": found[1], "cardData": {"license": "mit"}, "siblings": []}
            self._reply(200, {"Content-Type": "application/json"}, json.dumps(licence).encode())
        else:
            self._serve(body=True)

    def _serve(self, body: bool) -> None:
        hub = self.hub
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
        assert found, self.path
        repository, revision, name = found.groups()
        hub.requests[self.command, name] += 1
        if status := hub.answer(name):
            self._reply(status, hub.headers)
            return
        revisions = hub.files.get(repository)
        if revisions is None:
            self._reply(404, {"X-Error-Code": "RepoNotFound"})
            return
        commit = hub.newest[repository] if revision == "main" else revision
        if commit not in revisions:
            self._reply(404, {"X-Error-Code": "RevisionNotFound"})
            return
        content = revisions[commit].get(name)
        if content is None:
            self._reply(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            return
        if isinstance(content, bytes):
            self._send(content, hashlib.sha256(content).hexdigest(), commit, body)
            return
        with content.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as mapped:
            self._send(mapped, _sha256(content), commit, body)

    def _send(self, content: bytes | mmap, sha256: str, commit: str, body: bool) -> None:
        hub = self.hub
        headers = {
            "X-Repo-Commit": commit,
            "ETag": f'"{"0" * 32}"',
            "X-Linked-Etag": f'"{sha256}"',
            "X-Linked-Size": str(len(content)),
            "Accept-Ranges": "bytes",
        }
        if hub.damaged:
            content = bytes(len(content))
        start, status = 0, 200
        if hub.resumes and (part := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))):
            start, status = int(part[1]), 206
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content) - start)}.items():
            self.send_header(name, value)
        self.end_headers()
        if not body:
            return
        end = len(content) if hub.cut_after is None else min(len(content), start + hub.cut_after)
        for begin in range(start, end, BLOCK):
            self.wfile.write(content[begin : min(begin + BLOCK, end)])
            time.sleep(hub.pause)
        if end < len(content):
            self.close_connection = True

    def _reply(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


_sha256 = cache(sha256)
