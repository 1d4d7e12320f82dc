"""Texts that come from outside, made fit for logs, terminals and messages: bounded and printable."""

from __future__ import annotations

import re

LONGEST = 200
"""Characters of a foreign text that are repeated at most."""

LONGEST_LINE = 10_000
"""Characters of a line that are shown at most."""


def bounded(text: str, longest: int = LONGEST) -> str:
    """A text, or its beginning and how long it was."""
    return text if len(text) <= longest else f"{text[:longest]}... ({len(text)} characters)"


def printable(text: str, longest: int = LONGEST) -> str:
    """A bounded text without what a terminal obeys: control characters are spelled, ``\\x1b``."""
    cut = bounded(text, longest)
    if cut.isprintable():
        return cut
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "replace").decode()
        for letter in cut
    )


def printable_lines(text: str, longest: int = LONGEST_LINE) -> str:
    """A text of several lines, each of them `printable`."""
    return "\n".join(printable(line, longest) for line in text.split("\n"))


def whole_number(text: str) -> int | None:
    """The number that at most 15 digits stand for; None for any other text."""
    return int(text) if re.fullmatch("[0-9]{1,15}", text) else None


def width_and_height(text: str) -> tuple[int, int] | None:
    """The numbers above 0 of a text such as 640x480; None for any other text."""
    width, height = map(whole_number, text.lower().partition("x")[::2])
    return (width, height) if width and height else None


def natural_key(name: str) -> list[tuple[str, int]]:
    """Sorts ``9.png`` before ``10.png``."""
    parts = re.findall(r"(\D*)(\d{0,18})", name)
    return [(text, int(digits or -1)) for text, digits in parts]


def quoted(text: object, longest: int = LONGEST) -> str:
    """A foreign value as an error names it: in quotes, printable and bounded."""
    return f"'{printable(str(text), longest)}'"
