"""Results per image on disk, so that an evaluation that was stopped goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from zgs_ros.files.ownership import MARK, write_whole


class JournalError(ValueError):
    """A folder with results that don't belong to this run; the message says what to do."""


E = TypeVar("E", bound=BaseModel)

_ANOTHER = "choose another folder with --out"
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
_LONGEST_DESCRIPTION = 1 << 20
_LONGEST_LINE = 1 << 24
_LONGEST_FILE = 1 << 31
"""Largest scores.jsonl [bytes]: an entry has a few kB, or 0.1 MB with every label of an image."""


class EvaluationJournal(Generic[E]):
    """One entry a line, in a folder that remembers what the entries belong to.

    Lines are only ever added, so that nothing can be lost when the process dies; what was cut off
    while it was written is dropped.

    Args:
        folder: Made if it is not there.
        kind: Type of the entries; they need an attribute ``name``.
        identity: What decides the entries: data set, settings, models. JSON-ready.
        fresh: Forgets the entries of an earlier run instead of going on with them.

    Attributes:
        folder: As given.
        entries: By their names.

    Raises:
        JournalError: If the folder holds entries of something else, or can't be written.
    """

    def __init__(
        self, folder: Path, kind: type[E], identity: Mapping[str, Any], fresh: bool = False
    ) -> None:
        self.folder = folder
        self._path = folder / "scores.jsonl"
        description = folder / "run.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            before = _read_identity(description) if os.path.lexists(description) else None
            if before is None and os.path.lexists(self._path):
                raise JournalError(
                    f"{folder}: {self._path.name} is there, but no {description.name} that tells "
                    f"what it belongs to; {_ANOTHER}"
                )
            if fresh or before is None:
                self._path.unlink(missing_ok=True)
                whole = json.dumps({"made_by": MARK, **identity}, indent=2)
                write_whole(description, f"{whole}\n".encode())
            else:
                _check_identity(folder, before, identity)
            self.entries: dict[str, E] = self._read(kind)
        except OSError as error:
            raise JournalError(f"{folder}: can't keep results there ({error})") from None

    def add(self, entry: E) -> None:
        """Writes an entry; it survives whatever happens to the process from then on.

        Raises:
            JournalError: If it can't be written.
        """
        name: str = entry.name  # type: ignore[attr-defined]  # every kind of entry has one
        rest = memoryview(entry.model_dump_json().encode() + b"\n")
        try:
            descriptor = os.open(self._path, _FLAGS, 0o666)
            try:
                size = os.fstat(descriptor).st_size
                try:
                    while rest:
                        rest = rest[os.write(descriptor, rest) :]
                except OSError:  # such as a full disk: half a line is none
                    os.ftruncate(descriptor, size)
                    raise
            finally:
                os.close(descriptor)
        except OSError as error:
            raise JournalError(f"{self.folder}: can't keep results there ({error})") from None
        self.entries[name] = entry

    def _read(self, kind: type[E]) -> dict[str, E]:
        """The entries of whole lines; the end of one that was cut off is removed."""
        entries: dict[str, E] = {}
        with open(os.open(self._path, _FLAGS, 0o666), "rb") as file:
            if (size := os.fstat(file.fileno()).st_size) > _LONGEST_FILE:
                raise JournalError(
                    f"{self._path}: has {size} bytes, more than an evaluation writes (at most "
                    f"{_LONGEST_FILE}); {_ANOTHER}, or start anew with --fresh"
                )
            whole = 0
            while line := file.readline(
                _LONGEST_LINE
            ):  # by "\n" alone, which JSON never has within
                if len(line) == _LONGEST_LINE:
                    raise JournalError(
                        f"{self._path}: has a line of more than {_LONGEST_LINE} bytes, longer than an "
                        f"evaluation writes; {_ANOTHER}, or start anew with --fresh"
                    )
                entry = _parse(kind, line)
                if entry is not None:
                    entries[entry.name] = entry  # type: ignore[attr-defined]
                if line.endswith(b"\n"):
                    whole += len(line)
                elif entry is not None:  # only its end is missing
                    os.write(file.fileno(), b"\n")
                else:
                    os.ftruncate(file.fileno(), whole)
        return entries


def _parse(kind: type[E], line: bytes) -> E | None:
    try:
        return kind.model_validate_json(line)
    except ValidationError:
        return None


def _read_identity(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            identity = json.loads(file.read(_LONGEST_DESCRIPTION))
        if isinstance(identity, dict) and identity.pop("made_by", None) == MARK:
            return identity
    except (ValueError, RecursionError):
        pass
    raise JournalError(f"{path}: is not what an evaluation writes; {_ANOTHER}, or remove it")


def _check_identity(folder: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    before, now = _flat(old), _flat(json.loads(json.dumps(new)))
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if changed:
        details = ", ".join(
            f"{key}: {before.get(key)!r} -> {now.get(key)!r}" for key in changed[:5]
        )
        raise JournalError(
            f"{folder} holds results of another run ({details}); {_ANOTHER}, or start anew with "
            "--fresh"
        )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
