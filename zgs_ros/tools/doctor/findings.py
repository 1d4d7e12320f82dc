"""What the doctor finds, and the report that can be given away."""

from __future__ import annotations

import getpass
import os
import re
import socket
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from zgs_ros.files.ownership import MARK, is_own_text, write_whole
from zgs_ros.texts import printable_lines

Level = Literal["ok", "warning", "error"]

_IPV4 = r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.])"
_IPV6 = r"(?<![\w:])(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{0,4}(?![\w:])"
_MANY_DIGITS = re.compile(r"[0-9a-fA-F]")
OPEN = ("127.0.0.1", "0.0.0.0", "::1", "localhost")
"""Addresses and names that every machine has."""


@dataclass(frozen=True)
class Finding:
    """One line of what was looked at.

    Attributes:
        room: What it belongs to: machine, network, dino, clip ...
        name: What was looked at.
        level: Whether it is as it should be, may make trouble, or is wrong.
        text: What was found, with its values.
        remedy: The way out; "" where there is nothing to mend.
    """

    room: str
    name: str
    level: Level
    text: str
    remedy: str = ""

    def line(self) -> str:
        """Without markup."""
        remedy = f" -> {self.remedy}" if self.remedy else ""
        return printable_lines(f"{self.level:8} {self.room}, {self.name}: {self.text}{remedy}")


def exit_code(findings: Iterable[Finding]) -> int:
    """1 where something is wrong, otherwise 0."""
    return int(any(finding.level == "error" for finding in findings))


def summary(findings: Sequence[Finding]) -> str:
    """How many findings there are of each level."""
    levels = [finding.level for finding in findings]
    return ", ".join(f"{levels.count(level)} {level}" for level in ("ok", "warning", "error"))


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """Everything, for programs."""
    return {
        "healthy": not exit_code(findings),
        "findings": [asdict(finding) for finding in findings],
    }


def without_private(text: str) -> str:
    """A text without home folders, the names of the user and of this machine, and addresses."""
    home = str(Path.home())
    if len(home) > 1:
        text = re.sub(rf"{re.escape(home)}(?![\w.-])", "~", text)
    text = re.sub(r"/(home|Users)/[^/\s'\":,;]+", "~", text)
    names = {_user(): "USER", socket.gethostname(): "HOST"}
    names[socket.gethostname().partition(".")[0]] = "HOST"
    for name, stands_for in names.items():
        if name and name not in OPEN:
            text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", stands_for, text)
    return re.sub(f"{_IPV4}|{_IPV6}", _hide_address, text)


def write_report(path: Path, findings: Sequence[Finding]) -> None:
    """Writes a report with nothing private in it; an earlier report is replaced, nothing else.

    Raises:
        FileExistsError: If there is something that this program has not written.
        OSError: If it can't be written.
    """
    check_place(path)
    lines = [finding.line() for finding in findings]
    text = without_private("\n".join([*lines, "", summary(findings)]))
    write_whole(path, f"Report of zgs doctor, {MARK}\n\n{text}\n".encode())


def check_place(path: Path) -> None:
    """Checks that a report can be written to a place.

    Raises:
        FileExistsError: If there is something that this program has not written.
        FileNotFoundError: If there is no such folder.
    """
    if os.path.lexists(path) and not is_own_text(path):
        raise FileExistsError(f"{path}: is there, and is no report of zgs doctor; move it away")
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {path.absolute().parent}")


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container without a name for its user
        return ""


def _hide_address(found: re.Match[str]) -> str:
    text = found[0]
    # Colons alone, or a time of day, are no address.
    is_address = "." in text or "::" in text or text.count(":") >= 5
    if text in OPEN or not is_address or not _MANY_DIGITS.search(text):
        return text
    return "ADDRESS"
