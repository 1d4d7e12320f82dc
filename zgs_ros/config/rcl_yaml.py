"""YAML as ROS 2 reads it: the rules of ``rcl_yaml_param_parser`` on what is written and what it means."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from zgs_ros.config.settings import SettingsError, shown

MAX_BYTES = 1 << 20
MAX_DEPTH = 32

_TRUE = ("Y", "y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON")
_FALSE = ("N", "n", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF")
_NOT_FINITE = (
    ".nan",
    ".NaN",
    ".NAN",
    *(f"{s}.{i}" for s in ("", "+", "-") for i in ("inf", "Inf", "INF")),
)
_STRING_TAG = "tag:yaml.org,2002:str"

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml, which rcl has too
_libc = ctypes.CDLL(None, use_errno=True)
_libc.strtoll.restype, _libc.strtod.restype = ctypes.c_longlong, ctypes.c_double


@dataclass(frozen=True)
class Mapping:
    """A mapping as it is written: a key may come several times."""

    items: Sequence[tuple[str, Any]]


def read_yaml(data: bytes) -> Any:
    """The content of YAML: `Mapping`, lists and scalars; None of nothing.

    Several documents are read into one mapping, as rcl does.

    Raises:
        SettingsError: If it is no YAML, too large, or rcl would refuse it.
    """
    if len(data) > MAX_BYTES:
        raise SettingsError(f"has more than the {MAX_BYTES:,} bytes that settings need")
    try:
        return _Builder().build(yaml.parse(data, Loader=_Loader))
    except _Refused as error:
        raise SettingsError(f"is not YAML as ROS 2 takes it: {error}") from None
    except yaml.MarkedYAMLError as error:
        mark: Any = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        raise SettingsError(f"is not valid YAML: {where}{error.problem or error.context}") from None
    except (yaml.YAMLError, UnicodeError) as error:
        raise SettingsError(f"is not valid YAML: {' '.join(str(error).split())}") from None


class _Refused(ValueError):
    """What is YAML, but not what rcl reads."""


class _Builder:
    """Puts YAML together from its events; what an alias could blow up, or nests deeply, is refused."""

    def __init__(self) -> None:
        self._open: list[list[Any]] = []  # what the mappings and lists around hold so far
        self._kinds: list[type[yaml.Event]] = []
        self._roots: list[Any] = []

    def build(self, events: Iterator[Any]) -> Any:
        for event in events:
            line = event.start_mark.line + 1
            if isinstance(event, yaml.AliasEvent):
                raise _Refused(
                    f"line {line}: the alias {shown(event.anchor)}; write out what it stands for"
                )
            if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
                self._begin(event, line)
            elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                held = self._open.pop()
                is_list = self._kinds.pop() is yaml.SequenceStartEvent
                self._add(
                    held if is_list else Mapping(list(zip(held[::2], held[1::2], strict=True))),
                    line,
                )
            elif isinstance(event, yaml.ScalarEvent):
                is_key = self._is_key()
                self._add(event.value if is_key else _scalar(event, line), line)
        if len(self._roots) > 1 and all(isinstance(root, Mapping) for root in self._roots):
            return Mapping([item for root in self._roots for item in root.items])
        return self._roots[-1] if self._roots else None

    def _is_key(self) -> bool:
        in_mapping = bool(self._kinds) and self._kinds[-1] is yaml.MappingStartEvent
        return in_mapping and len(self._open[-1]) % 2 == 0

    def _begin(self, event: yaml.Event, line: int) -> None:
        if self._is_key():
            raise _Refused(f"line {line}: a key must be a text")
        if self._kinds and self._kinds[-1] is yaml.SequenceStartEvent:
            raise _Refused(f"line {line}: a list holds neither lists nor mappings")
        if len(self._kinds) == MAX_DEPTH:
            raise _Refused(f"line {line}: is nested more than {MAX_DEPTH} deep")
        self._kinds.append(type(event))
        self._open.append([])

    def _add(self, value: Any, line: int) -> None:
        if not self._kinds:
            self._roots.append(value)
            return
        held = self._open[-1]
        if self._is_key() and not value:
            raise _Refused(f"line {line}: there is no key")
        if self._kinds[-1] is yaml.SequenceStartEvent and held and type(held[0]) is not type(value):
            raise _Refused(
                f"line {line}: a list holds values of one type, got {shown(held[0])} and "
                f"{shown(value)}"
            )
        held.append(value)


def _scalar(event: yaml.ScalarEvent, line: int) -> bool | int | float | str:
    """A scalar's value, as rcl's ``get_value`` finds it."""
    text: str = event.value
    if event.style in ("'", '"'):
        return text
    if not text:
        raise _Refused(f"line {line}: there is no value; '' is an empty text")
    if event.tag == _STRING_TAG:
        return text
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    number = _number(text)
    return text if number is None else number


def _number(text: str) -> int | float | None:
    """What the C functions that rcl asks make of a whole text."""
    data = text.encode("utf-8", "surrogatepass")
    whole = _convert(_libc.strtoll, data, 0)
    if whole is not None:
        return int(whole)
    if text in _NOT_FINITE:
        sign, _, word = text.partition(".")
        return float(sign + word)
    return _convert(_libc.strtod, data)


def _convert(function: Any, data: bytes, *base: int) -> Any:
    buffer, end = ctypes.create_string_buffer(data), ctypes.c_char_p()
    ctypes.set_errno(0)
    value = function(buffer, ctypes.byref(end), *base)
    is_whole = len(data) > 0 and end.value == b""
    return value if is_whole and ctypes.get_errno() == 0 else None
