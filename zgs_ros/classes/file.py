"""Classes on disk: a YAML file that a person writes and reads, and that nodes only add lines to."""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from zgs_ros.classes.groups import LAST, OTHER, ClassError, ClassGroup, checked_groups, key, tidy
from zgs_ros.texts import printable, quoted

VERSION = 1
MAX_BYTES = 1 << 23
LOCK_SECONDS = 10.0
"""How long another process may keep the file locked before it is left alone."""

HEAD = f"""\
# Classes of zgs_ros: a number for every label, which never changes its meaning. docs/classes.md
# Fix your own above `seen`; they are read when a node is configured:
# classes:
#   - {{id: 1, name: floor, phrases: [floor, carpet, tiles, wooden floor]}}
version: {VERSION}
# What nodes have seen beside these. They add lines; remove one only to give its number away.
seen:
"""

_KEYS = ("version", "classes", "seen")
_GROUP_KEYS = ("id", "name", "phrases", "mask_topic")
_PLAIN = re.compile(r"[A-Za-z]{2}[A-Za-z0-9 _'/-]*[A-Za-z0-9]")
_WORDS = {"yes", "no", "on", "off", "true", "false", "null", "nan", "inf"}
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Content:
    """What a file says.

    Attributes:
        groups: What the user fixed.
        seen: Ids of other labels, by their texts.
    """

    groups: tuple[ClassGroup, ...] = ()
    seen: Mapping[str, int] = field(default_factory=dict)


def chosen_file(setting: str) -> ClassFile | None:
    """The file that ``classes.file`` names; None for memory only.

    ``auto`` is ``$ROS_HOME/zgs_ros/classes.yaml``; ROS_HOME is ``~/.ros`` where it is not set.

    Raises:
        ClassError: If it is in the home of somebody who is not there.
    """
    if not setting:
        return None
    home = Path(os.environ.get("ROS_HOME") or "~/.ros")
    path = home / "zgs_ros" / "classes.yaml" if setting == "auto" else Path(setting)
    try:
        return ClassFile(path.expanduser())
    except RuntimeError:  # ~somebody who is not there
        raise ClassError(f"classes.file: there is no home of {quoted(path.parts[0])}") from None


class ClassFile:
    """A file of classes that several processes share.

    Args:
        path: It need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read: tuple[tuple[int, ...], str, Content] | None = None

    def read(self) -> Content:
        """What it says; nothing where it is not there.

        Raises:
            ClassError: If it can't be used; the message says what is wrong and what to do.
            OSError: If it can't be read.
        """
        return self._look()[1]

    def add(self, choose: Callable[[Content], Mapping[str, int]]) -> Content:
        """Adds labels, by what is chosen of what the file says then, while nobody else adds any.

        What stands in it stays as it is, to the byte; it is replaced as a whole or not at all.

        Returns:
            What it says afterwards.

        Raises:
            ClassError: If it can't be used, or it can't be added to.
            OSError: If it can't be read or written, or is locked for `LOCK_SECONDS`.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(self.path.with_name(self.path.name + ".lock")):
            text, content = self._look()
            new = choose(content)
            if not new:
                return content
            longer = with_seen(text or HEAD, new)
            expected = Content(content.groups, {**content.seen, **new})
            try:
                understood = parse(longer) == expected
            except ClassError:
                understood = False
            if not understood:
                raise ClassError(
                    "can't be added to as it is written; let `seen:` be a plain list of lines, such as "
                    "'  mug: 7'"
                )
            self._write(longer)
            self._read = (_state(self.path), longer, expected)
            return expected

    def _look(self) -> tuple[str, Content]:
        """Its text and content, which are read anew only where the file has changed."""
        try:
            state = _state(self.path)
        except FileNotFoundError:
            self._read = None
            return "", Content()
        if self._read is None or self._read[0] != state:
            text = _text(self.path)
            self._read = (state, text, parse(text))
        return self._read[1:]

    def _write(self, text: str) -> None:
        # Beside what a link leads to: a link to a file elsewhere stays one.
        path = self.path.resolve()
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError("it is read-only")
        part = path.with_name(f".{path.name}-{secrets.token_hex(4)}.part")
        try:
            with part.open("x", encoding="utf-8", newline="") as file:
                with suppress(OSError):
                    os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode))
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
            _sync_folder(path.parent)
        finally:
            part.unlink(missing_ok=True)


def parse(text: str) -> Content:
    """What the text of a file says.

    Raises:
        ClassError: If it is not what a file of classes holds; the message names the line where it can.
    """
    try:
        root = yaml.compose(text, Loader=_Loader)
        if root is None:
            return Content()
        parts = dict(_pairs(root, "a file of classes"))
        for name in parts:
            if name not in _KEYS:
                raise ClassError(f"has {quoted(name)}; there can be {', '.join(_KEYS)}")
        version = _value(parts["version"]) if "version" in parts else VERSION
        if version != VERSION:
            raise ClassError(
                f"is of version {quoted(version)}, and this zgs_ros knows {VERSION}: update it, or name "
                "another file by classes.file"
            )
        groups = checked_groups(_groups(_value(parts["classes"]) if "classes" in parts else None))
        seen = _seen(parts["seen"]) if "seen" in parts else {}
    except yaml.MarkedYAMLError as error:
        mark: Any = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        raise ClassError(f"is not valid YAML: {where}{error.problem or error.context}") from None
    except (yaml.YAMLError, UnicodeError, ValueError, RecursionError) as error:
        if isinstance(error, ClassError):
            raise
        raise ClassError(f"is not valid YAML: {printable(' '.join(str(error).split()))}") from None
    taken = {group.id: group.name for group in groups if group.id}
    for name, number in seen.items():
        if number in taken and key(name) != key(taken[number]):
            raise ClassError(
                f"the id {number} of the class {quoted(taken[number])} was given to {quoted(name)} "
                f"before, and ids never change their meaning: choose another one, or remove the line "
                f"of {quoted(name)} under `seen`"
            )
    return Content(groups, seen)


def with_seen(text: str, new: Mapping[str, int]) -> str:
    """The text of a file with labels added under `seen`, and otherwise unchanged."""
    root = yaml.compose(text, Loader=_Loader)
    node = (
        next((value for name, value in root.value if name.value == "seen"), None) if root else None
    )
    lines = text.splitlines(keepends=True)
    ending = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
    entries = [(_scalar(name), number) for name, number in new.items()]
    if isinstance(node, yaml.MappingNode) and node.flow_style and node.value:
        last = node.value[-1][1].end_mark
        line = lines[last.line]
        added = "".join(f", {name}: {number}" for name, number in entries)
        lines[last.line] = line[: last.column] + added + line[last.column :]
        return "".join(lines)
    indent, place = "  ", len(lines)
    if isinstance(node, yaml.MappingNode) and node.value:
        first, last = node.value[0][0].start_mark, node.value[-1][1].end_mark
        indent, place = " " * first.column, last.line + 1
    elif node is not None:
        place = node.start_mark.line + 1
    before, after = lines[:place], lines[place:]
    if before and not before[-1].endswith("\n"):
        before[-1] += ending
    if node is None:
        before.append(f"seen:{ending}")
    before += [f"{indent}{name}: {number}{ending}" for name, number in entries]
    return "".join([*before, *after])


def _scalar(text: str) -> str:
    """A text as YAML has it."""
    plain = _PLAIN.fullmatch(text) and text.lower() not in _WORDS
    return text if plain else json.dumps(text, ensure_ascii=False)


def _pairs(node: Any, what: str) -> Iterator[tuple[str, Any]]:
    """Keys of a mapping and the nodes of their values.

    Raises:
        ClassError: If it is none, or a key comes twice.
    """
    if not isinstance(node, yaml.MappingNode):
        raise ClassError(f"line {node.start_mark.line + 1}: {what} holds lines 'name: value'")
    known: set[str] = set()
    for name, value in node.value:
        if not isinstance(name, yaml.ScalarNode):
            raise ClassError(f"line {name.start_mark.line + 1}: a name is expected")
        if name.value in known:
            raise ClassError(f"line {name.start_mark.line + 1}: {quoted(name.value)} comes twice")
        known.add(name.value)
        yield name.value, value


def _value(node: Any) -> Any:
    """What a node stands for."""
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _seen(node: Any) -> dict[str, int]:
    if isinstance(node, yaml.ScalarNode) and node.value in ("", "~", "null"):
        return {}
    seen: dict[str, int] = {}
    names: set[str] = set()
    owners: dict[int, str] = {}
    for name, value in _pairs(node, "`seen`"):
        where = f"line {value.start_mark.line + 1}: the id of {quoted(name)} "
        text = value.value if isinstance(value, yaml.ScalarNode) else ""
        number = int(text) if re.fullmatch(r"\d{1,5}", text) else 0
        if not 1 <= number <= LAST or number == OTHER:
            raise ClassError(
                f"{where}must be a number in 1 .. {LAST}, and not {OTHER}; got {quoted(text)}"
            )
        if number in owners:
            raise ClassError(f"{where}is {number}, which {quoted(owners[number])} has already")
        if not tidy(name) or key(name) in names:
            raise ClassError(f"{where}is given twice, or to nothing")
        owners[number] = name
        names.add(key(name))
        seen[name] = number
    return seen


def _groups(given: Any) -> Iterator[ClassGroup]:
    if given is None:
        return
    if not isinstance(given, list):
        raise ClassError("`classes` must be a list, such as '- {id: 1, name: floor}' in each line")
    for number, entry in enumerate(given, start=1):
        where = f"class {number} of `classes` "
        if not isinstance(entry, dict):
            raise ClassError(f"{where}must be like {{id: 1, name: floor}}, got {quoted(entry)}")
        for name in entry:
            if name not in _GROUP_KEYS:
                raise ClassError(
                    f"{where}has {quoted(name)}; there can be {', '.join(_GROUP_KEYS)}"
                )
        values = (entry.get("id", 0), entry.get("name", ""), entry.get("phrases") or [])
        found, name, phrases = values
        topic = entry.get("mask_topic", "")
        if isinstance(found, bool) or not isinstance(found, int):
            raise ClassError(f"{where}has the id {quoted(found)}; it must be a number")
        if not isinstance(name, str) or not isinstance(topic, str):
            raise ClassError(f"{where}has a name or topic that is no text; put it into quotes")
        if not isinstance(phrases, list) or not all(isinstance(text, str) for text in phrases):
            raise ClassError(
                f"{where}({quoted(name)}): phrases must be a list of texts, such as [floor, carpet]; "
                "put words such as yes, no and 1 into quotes"
            )
        yield ClassGroup(found, name, tuple(phrases), topic)


def _sync_folder(path: Path) -> None:
    """Has the names in a folder outlive a loss of power, where it can be had."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _state(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return (found.st_ino, found.st_size, found.st_mtime_ns)


def _text(path: Path) -> str:
    if not path.is_file():
        raise ClassError("is no regular file; name another one by classes.file")
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ClassError(f"has more than the {MAX_BYTES:,} bytes that classes need")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ClassError(f"byte {error.start} is not UTF-8 text") from None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """A lock file of our own for the length of the block; it stays where it is."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    try:
        end = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise OSError(
                        f"another process keeps {path} locked for more than {LOCK_SECONDS:g} s"
                    ) from None
                time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)
