"""Places that one process at a time writes to, and files that say that this program wrote them.

Nothing else is ever replaced or removed, and no link is followed.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shlex
import socket
import stat
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

MARK = "made by zgs_ros"
"""Stands in every file that is written."""

_PNG_HEAD = 33
"""Bytes of a PNG's signature and header, behind which its marks are."""

_TEXT = b"tEXt" + b"Software\0" + MARK.encode()
_PNG_MARK = (len(_TEXT) - 4).to_bytes(4, "big") + _TEXT + zlib.crc32(_TEXT).to_bytes(4, "big")
_LONGEST_COMMAND = 200


class InUse(RuntimeError):
    """A place that another process writes to; the message says which."""


@contextmanager
def sole_writer(lock: Path) -> Iterator[None]:
    """Keeps other processes from a place for the length of the block.

    Args:
        lock: File that is there meanwhile, in a folder that is there. One that a killed process
            left does not matter.

    Raises:
        InUse: If another one holds it.
        OSError: If it can't be made.
    """
    descriptor = _lock(lock)
    try:
        yield
    finally:
        if _is_at(descriptor, lock):
            with suppress(OSError):
                lock.unlink()
        os.close(descriptor)


def is_own_text(path: Path) -> bool:
    """Whether a file begins with a line that holds `MARK`; not through a link."""
    return MARK.encode() in _beginning(path, 200).split(b"\n")[0]


def open_log(path: Path) -> BinaryIO:
    """A file to write lines to, which begins with one that says who wrote it.

    Raises:
        FileExistsError: If there is something that this program has not written.
        OSError: If it can't be written.
    """
    if os.path.lexists(path) and not is_own_text(path):
        raise FileExistsError(f"{path}: is there, and not written by this program; move it away")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    file = open(os.open(path, flags, 0o666), "wb", buffering=0)  # noqa: SIM115  # the caller's
    file.write(f"log {MARK}\n".encode())
    return file


def marked_png(data: bytes) -> bytes:
    """A PNG file's content with a text that says who wrote it."""
    return data[:_PNG_HEAD] + _PNG_MARK + data[_PNG_HEAD:]


def is_own_png(path: Path) -> bool:
    """Whether a file is what `marked_png` made; not through a link."""
    return _beginning(path, _PNG_HEAD + len(_PNG_MARK)).endswith(_PNG_MARK)


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file that is there as a whole or not at all; what is there is replaced."""
    part = path.with_name(f".zgs_ros-{secrets.token_hex(8)}.part")
    try:
        with part.open("xb") as file:  # "x" does not follow a link that waits under this name
            file.write(data)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _beginning(path: Path, length: int) -> bytes:
    """The first bytes of a regular file, nothing of anything else."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except (OSError, ValueError):
        return b""
    try:
        is_regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        return os.read(descriptor, length) if is_regular else b""
    finally:
        os.close(descriptor)


def _lock(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        descriptor = os.open(path, flags, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_at(descriptor, path):  # its last holder has just removed it
                os.close(descriptor)
                continue
            _sign(descriptor, path)
            return descriptor
        except BlockingIOError:
            _, _, holder = os.pread(descriptor, 1000, 0).decode(errors="replace").partition(": ")
            os.close(descriptor)
            who = f" ({holder.strip()})" if holder else ""
            raise InUse(f"{path.parent}: another run works on it{who}") from None
        except BaseException:
            os.close(descriptor)
            raise


def _sign(descriptor: int, path: Path) -> None:
    """Says in a lock file who holds it."""
    if os.fstat(descriptor).st_size and not is_own_text(path):
        raise FileExistsError(f"{path}: is needed as a lock, and something else has that name")
    program = Path(sys.argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    command = shlex.join([name, *sys.argv[1:]])[:_LONGEST_COMMAND]
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    holder = f"process {os.getpid()} on {socket.gethostname()} since {since}, {command}"
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"lock {MARK}: {ascii(holder)[1:-1]}\n".encode(), 0)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False
