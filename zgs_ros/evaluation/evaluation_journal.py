"""Results per image on disk, so that an evaluation that was stopped goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError


class JournalError(ValueError):
    """A folder with results that don't belong to this run; the message says what to do."""


R = TypeVar("R", bound=BaseModel)


class EvaluationJournal(Generic[R]):
    """One record a line, in a folder that remembers what the records belong to.

    Args:
        folder: Made if it is not there.
        kind: Type of the records; they need an attribute ``name``.
        identity: What decides the records: data set, settings, models. JSON-ready.
        fresh: Forgets the records of an earlier run instead of going on with them.

    Raises:
        JournalError: If the folder holds records of something else, or can't be written.
    """

    def __init__(
        self, folder: Path, kind: type[R], identity: Mapping[str, Any], fresh: bool = False
    ) -> None:
        self.folder = folder
        self._kind = kind
        self._path = folder / "records.jsonl"
        description = folder / "run.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if fresh or not description.exists():
                self._path.unlink(missing_ok=True)
                description.write_text(json.dumps(identity, indent=2) + "\n", encoding="utf-8")
            else:
                _check_identity(folder, json.loads(description.read_text("utf-8")), identity)
        except (OSError, json.JSONDecodeError) as error:
            raise JournalError(f"{folder}: can't keep results there ({error})") from None
        self.records: dict[str, R] = self._read()

    def add(self, record: R) -> None:
        """Writes a record; it survives whatever happens to the process from then on."""
        name: str = record.name  # type: ignore[attr-defined]  # every kind of record has one
        self.records[name] = record
        with self._path.open("a", encoding="utf-8") as file:
            file.write(record.model_dump_json() + "\n")

    def _read(self) -> dict[str, R]:
        """The whole lines; one that was cut off while writing is dropped."""
        if not self._path.exists():
            return {}
        records = {}
        whole = []
        for line in self._path.read_text("utf-8").splitlines():
            try:
                record = self._kind.model_validate_json(line)
            except ValidationError:
                continue
            records[record.name] = record  # type: ignore[attr-defined]
            whole.append(line + "\n")
        self._path.write_text("".join(whole), encoding="utf-8")
        return records


def _check_identity(folder: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    before, now = _flat(old), _flat(json.loads(json.dumps(new)))
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if changed:
        details = ", ".join(
            f"{key}: {before.get(key)!r} -> {now.get(key)!r}" for key in changed[:5]
        )
        raise JournalError(
            f"{folder} holds results of another run ({details}); "
            "choose another folder with --out, or start anew with --fresh"
        )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
