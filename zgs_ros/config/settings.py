"""Making settings from a profile and what the user gave, and listing them for the front ends."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin

import annotated_types
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from zgs_ros.config.machine import resolve_profile
from zgs_ros.config.schema import SegmenterSettings
from zgs_ros.profiles import AUTO, PROFILE_NAMES, PROFILES
from zgs_ros.texts import bounded

RENAMED = {"clustering.positions": "clustering.groups"}
"""Former names of settings, which are understood for one release, and their names."""

S = TypeVar("S", bound=SegmenterSettings)

LONGEST_SHOWN = 100
"""Characters of a wrong value or name that an error repeats at most."""

MOST_SHOWN = 5
"""Unknown settings that an error names at most."""

logger = logging.getLogger(__name__)


class SettingsError(ValueError):
    """A setting that is unknown or impossible; the message names it and lists what is allowed."""


@dataclass(frozen=True)
class Setting:
    """One setting as front ends show it: a ROS parameter, an option, a row in the documentation.

    Attributes:
        path: Dotted name, for example ``"clip.sigma"``.
        kind: bool, int, float, str, or tuple (of str).
        default: Value in the given profile.
        description: One sentence.
        minimum: Smallest allowed number, or None. Exclusive when `exclusive_minimum` is true.
        maximum: Largest allowed number, or None.
        exclusive_minimum: Whether `minimum` itself is not allowed.
        choices: Allowed texts, empty when any text is allowed.
        live: Whether a running node can change it.
        operation: Whether it changes no result, see `zgs_ros.config.schema.OPERATION`.
    """

    path: str
    kind: type
    default: Any
    description: str
    minimum: float | None
    maximum: float | None
    exclusive_minimum: bool
    choices: tuple[str, ...]
    live: bool
    operation: bool


def list_settings(schema: type[SegmenterSettings], profile: str = "balanced") -> list[Setting]:
    """Lists every setting of a schema with the given profile's defaults.

    Raises:
        SettingsError: If there is no such profile.
    """
    values = flatten(make_settings(schema, {"profile": profile}))
    return [_describe(path, info, values[path]) for path, info in _fields(schema)]


def make_settings(schema: type[S], values: Mapping[str, Any]) -> S:
    """Builds settings from a profile and what the user gave.

    Args:
        schema: `SegmenterSettings` or `NodeSettings`.
        values: Nested (``{"clip": {"sigma": 2.0}}``) or dotted (``{"clip.sigma": 2.0}``) values, or
            a mix. ``profile`` among them chooses the defaults of the rest. Former names are
            understood, see `RENAMED`. The profile ``auto`` becomes the one that fits the machine.

    Raises:
        SettingsError: For an unknown key or an impossible value; every one is named, with what is
            allowed there.
    """
    given = use_current_names(flatten(values))
    infos = dict(_fields(schema))
    problems = _unknown_keys([path for path in given if path not in infos], infos)
    profile = given.get("profile", schema.model_fields["profile"].default)
    if not isinstance(profile, str) or profile not in (*PROFILES, AUTO):
        problems.append(f"profile: {shown(profile)} is not one of {PROFILE_NAMES}")
    if problems:
        raise SettingsError("; ".join(problems))
    problems = [problem for path in given if (problem := _wrong_type(path, given[path], infos))]
    if problems:
        raise SettingsError("; ".join(problems))
    if profile == AUTO:
        profile = given["profile"] = resolve_profile(profile, str(given.get("device", AUTO)))
    # A profile sets the node's values too, which a segmenter alone does not have.
    defaults = {path: value for path, value in PROFILES[profile].items() if path in infos}
    try:
        return schema.model_validate(_nest({**defaults, **given}))
    except ValidationError as error:
        raise SettingsError("; ".join(_problems(error, infos, given))) from None


def use_current_names(given: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted values with their current names; logs a warning for each former one, see `RENAMED`.

    Raises:
        SettingsError: If a setting is given by both of its names.
    """
    values: dict[str, Any] = {}
    for path, value in given.items():
        name = RENAMED.get(path, path)
        if name != path:
            if name in given:
                raise SettingsError(f"{path} is the former name of {name}: give only {name}")
            logger.warning(
                "%s is now called %s; the former name goes with the next release", path, name
            )
        values[name] = value
    return values


def flag_values(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted values of keyword arguments (``clip__sigma``); those that are None are left out."""
    return {name.replace("__", "."): value for name, value in flags.items() if value is not None}


def flatten(values: Mapping[str, Any] | BaseModel, prefix: str = "") -> dict[str, Any]:
    """Dotted paths of a nested mapping or settings object: ``{"clip": {"sigma": 5}}`` to ``{"clip.sigma": 5}``."""
    items = (
        ((name, getattr(values, name)) for name in type(values).model_fields)
        if isinstance(values, BaseModel)
        else values.items()
    )
    flat: dict[str, Any] = {}
    for key, value in items:
        if isinstance(value, (Mapping, BaseModel)):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def shown(value: Any) -> str:
    """A value or name as a line of text shows it: quoted, and not all of a long one."""
    return bounded(repr(value), LONGEST_SHOWN)


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        *sections, name = path.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return nested


def _fields(schema: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, info in schema.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from _fields(info.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", info


def _describe(path: str, info: FieldInfo, default: Any) -> Setting:
    annotation = info.annotation
    choices = get_args(annotation) if get_origin(annotation) is Literal else ()
    if path == "profile":
        choices = (*PROFILES, AUTO)
    kind = type(choices[0]) if choices else (get_origin(annotation) or annotation)
    minimum: Any = None
    maximum: Any = None
    exclusive = False
    for bound in info.metadata:
        if isinstance(bound, annotated_types.Ge):
            minimum = bound.ge
        elif isinstance(bound, annotated_types.Gt):
            minimum, exclusive = bound.gt, True
        elif isinstance(bound, annotated_types.Le):
            maximum = bound.le
    marks = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    assert isinstance(kind, type), f"{path}: settings are bool, int, float, str or tuple"
    return Setting(
        path=path,
        kind=kind,
        default=default,
        description=info.description or "",
        minimum=minimum,
        maximum=maximum,
        exclusive_minimum=exclusive,
        choices=choices,
        live="live" in marks,
        operation="operation" in marks,
    )


def _unknown_keys(paths: list[str], infos: Mapping[str, FieldInfo]) -> list[str]:
    problems = []
    for path in paths[:MOST_SHOWN]:
        near = difflib.get_close_matches(path[:LONGEST_SHOWN], infos, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        problems.append(f"unknown setting {shown(path)}{hint}")
    if len(paths) > MOST_SHOWN:
        problems.append(f"and {len(paths) - MOST_SHOWN} other unknown ones")
    if problems:
        problems.append(f"allowed: {', '.join(infos)}")
    return problems


def _wrong_type(path: str, value: Any, infos: Mapping[str, FieldInfo]) -> str:
    """What is wrong with a value that pydantic would take for a number or a truth value."""
    kind = _describe(path, infos[path], None).kind
    if kind not in (bool, int, float):
        return ""
    if isinstance(value, bool) == (kind is bool) and not isinstance(value, str):
        return ""
    wanted = "true or false" if kind is bool else "a number"
    return f"{path}: must be {wanted}, got {shown(value)}"


def _problems(
    error: ValidationError, infos: Mapping[str, FieldInfo], given: Mapping[str, Any]
) -> Iterator[str]:
    for problem in error.errors():
        names = [str(part) for part in problem["loc"]]
        path = next(
            (p for p in (".".join(names[:n]) for n in range(len(names), 0, -1)) if p in infos), ""
        )
        value = given.get(path, problem["input"])
        text = problem["msg"].removeprefix("Value error, ")
        allowed = _allowed(_describe(path, infos[path], value)) if path else ""
        yield f"{path or '.'.join(names)}: {text}, got {shown(value)}{f' (allowed: {allowed})' if allowed else ''}"


def _allowed(setting: Setting) -> str:
    if setting.choices:
        return ", ".join(setting.choices)
    if setting.minimum is None and setting.maximum is None:
        return ""
    low = (
        f"{setting.minimum:g} {'<' if setting.exclusive_minimum else '<='} "
        if setting.minimum is not None
        else ""
    )
    high = f" <= {setting.maximum:g}" if setting.maximum is not None else ""
    return f"{low}{setting.path}{high}"
