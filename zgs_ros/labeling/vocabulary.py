"""Vocabularies: text files with one phrase a line."""

from __future__ import annotations

import logging
from importlib import resources
from pathlib import Path

from zgs_ros.texts import quoted

MAX_PHRASES = 1_000_000
MAX_PHRASE_LENGTH = 200
MAX_BYTES = 2**26
"""Largest file that is read."""

logger = logging.getLogger(__name__)


class VocabularyError(ValueError):
    """A vocabulary that can't be used; the message names the file and what is wrong with it."""


def shipped_vocabularies() -> list[str]:
    """Names of the vocabularies inside the package."""
    folder = resources.files("zgs_ros.labeling") / "vocabularies"
    return sorted(
        entry.name.removesuffix(".txt") for entry in folder.iterdir() if entry.name.endswith(".txt")
    )


def load_vocabulary(name: str, extra: str = "") -> tuple[str, ...]:
    """Phrases of a vocabulary.

    Args:
        name: A shipped vocabulary (see `shipped_vocabularies`) or the path of a text file.
        extra: Path of a file whose phrases come before those of `name`; "" for none.

    Returns:
        The phrases in the order of the file(s), without duplicates. Where embedding them takes long, the
        first ones are used first.

    Raises:
        VocabularyError: If a file is missing, empty, not UTF-8 text, or has an overlong line.
    """
    phrases = _read(_find(name))
    if extra:
        phrases = list(dict.fromkeys([*_read(_find(extra)), *phrases]))
    return tuple(phrases)


def _find(name: str) -> Path:
    if name in shipped_vocabularies():
        return Path(str(resources.files("zgs_ros.labeling") / "vocabularies" / f"{name}.txt"))
    try:
        path = Path(name).expanduser()
        is_file = path.is_file()
    except (OSError, RuntimeError):  # no name that a file can have, no home
        is_file = False
    if not is_file:
        raise VocabularyError(
            f"vocabulary {quoted(name)} is neither a file nor shipped "
            f"({', '.join(shipped_vocabularies())})"
        )
    return path


def _read(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise VocabularyError(
                f"vocabulary {path}: has more than {MAX_BYTES} bytes, which no vocabulary needs"
            )
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise VocabularyError(
            f"vocabulary {path}: can't be read ({error.strerror or error})"
        ) from None
    except UnicodeDecodeError as error:
        raise VocabularyError(
            f"vocabulary {path}: byte {error.start} is not UTF-8 text; it must be a text file with one phrase a line"
        ) from None
    if "\0" in text:
        raise VocabularyError(f"vocabulary {path}: is a binary file; one phrase a line is expected")
    lines = [" ".join(line.split()) for line in text.splitlines()]
    phrases = [line for line in lines if line and not line.startswith("#")]
    if not phrases:
        raise VocabularyError(f"vocabulary {path}: is empty; one phrase a line is expected")
    if len(phrases) > MAX_PHRASES:
        raise VocabularyError(
            f"vocabulary {path}: {len(phrases)} phrases, at most {MAX_PHRASES} are allowed"
        )
    for number, line in enumerate(lines, start=1):
        if len(line) > MAX_PHRASE_LENGTH:
            raise VocabularyError(
                f"vocabulary {path}: line {number} has {len(line)} characters, at most {MAX_PHRASE_LENGTH} are allowed"
            )
    unique = list(dict.fromkeys(phrases))
    if len(unique) < len(phrases):
        logger.warning(
            "vocabulary %s: %d duplicate phrases are used once", path, len(phrases) - len(unique)
        )
    return unique
