"""What Cyclone DDS says of samples that it refuses: counted, and logged now and then.

It checks every sample that comes and prints a line for each that is not of its topic's type, and
nothing else tells of them. A process on the network that has another idea of a type would fill the
log, and its messages would be missing in all counts.
"""

from __future__ import annotations

import ctypes
import fcntl
import logging
import os
import platform
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from cyclonedds.internal import DDS

from zgs_ros.streaming.throttle import ThrottledLog

MOST_BYTES = 2**20
"""Of what was read that are kept before they are let go; about 5,000 lines."""

_REFUSED = re.compile(r"deserialization (\S+)/[^\s/]+ failed")
_UNREADABLE = "malformed packet received"
_PREFIX = re.compile(r"^\s*[\d.]+ \[\d*\]\s+\S+: ")

_libc = ctypes.CDLL(None)
_libc.fdopen.restype = ctypes.c_void_p
_libc.fclose.argtypes = (ctypes.c_void_p,)

logger = logging.getLogger(__name__)


class Complaints:
    """What Cyclone DDS says of one domain, from when on it was created.

    It has no function that takes its lines elsewhere: it keeps C's ``stderr`` of the moment at which
    a domain is created. So it gets a stream of its own, which leads to the process's stderr until the
    domain is there, and then into memory. Where that is not possible (it is with Linux and glibc) all
    stays as it is, and nothing is counted.
    """

    def __init__(self) -> None:
        self._refused: Counter[str] = Counter()
        self._unreadable = 0
        self._stream: int | None = None
        self._memory = -1
        self._read = 0
        self._rest = b""
        self._lock = threading.Lock()
        self._log = ThrottledLog(logger)

    @contextmanager
    def heard(self) -> Iterator[None]:
        """In which the domain is created."""
        try:
            number = os.dup(2)
        except OSError:  # the process has no stderr
            number = -1
        if platform.libc_ver()[0] != "glibc" or not hasattr(os, "memfd_create") or number < 0:
            yield
            return
        # What is not of a domain has its stream from the first use on: the usual one.
        DDS._dll_handle.dds_set_log_mask(DDS._dll_handle.dds_get_log_mask())
        stderr = ctypes.c_void_p.in_dll(_libc, "stderr")
        before, self._stream = stderr.value, _libc.fdopen(number, b"w")
        stderr.value = self._stream
        try:
            yield
        except BaseException:
            stderr.value = before
            self.close()
            raise
        stderr.value = before
        self._memory = os.memfd_create("zgs-cyclone")
        fcntl.fcntl(self._memory, fcntl.F_SETFL, os.O_APPEND)  # also where it was emptied
        os.dup2(self._memory, number, inheritable=False)

    def close(self) -> None:
        """Lets go of what it holds, once the domain is gone."""
        self.read()
        with self._lock:
            stream, self._stream = self._stream, None
            memory, self._memory = self._memory, -1
        if stream:
            _libc.fclose(stream)
        if memory >= 0:
            os.close(memory)

    def refused(self, topic: str) -> int:
        """Samples of a topic, as DDS names it, that were not of its type."""
        self.read()
        return self._refused[topic]

    @property
    def unreadable(self) -> int:
        """Packets that were not even samples of a topic."""
        self.read()
        return self._unreadable

    def read(self) -> None:
        """Takes in what was said since the last time; to be called about once a second."""
        with self._lock:
            if self._memory < 0:
                return
            while said := os.pread(self._memory, MOST_BYTES, self._read):
                self._read += len(said)
                if self._read > MOST_BYTES:
                    os.ftruncate(self._memory, 0)
                    self._read = 0
                *lines, self._rest = (self._rest + said).split(b"\n")
                for line in lines:
                    self._take(line.strip(b"\0").decode(errors="replace"))

    def _take(self, line: str) -> None:
        text = _PREFIX.sub("", line)
        if found := _REFUSED.search(text):
            self._refused[found[1]] += 1
            topic = found[1].removeprefix("rt")
            self._say("refused", f"{topic}: a message is left out that is not of the topic's type")
        elif _UNREADABLE in text:
            self._unreadable += 1
            self._say("unreadable", f"a packet from the network is left out: {text}")
        elif text:
            self._say("other", f"Cyclone DDS: {text}")

    def _say(self, kind: str, text: str) -> None:
        self._log.log(logging.WARNING, kind, text)
