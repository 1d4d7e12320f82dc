"""ROS message types without ROS: the distribution's, and this package's own."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from cyclonedds.idl import make_idl_struct
from cyclonedds.idl import types as idl
from numpy.typing import NDArray
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

DISTROS = {
    "humble": Stores.ROS2_HUMBLE,
    "iron": Stores.ROS2_IRON,
    "jazzy": Stores.ROS2_JAZZY,
    "kilted": Stores.ROS2_KILTED,
    "lyrical": Stores.ROS2_LYRICAL,
    "rolling": Stores.LATEST,
}
"""ROS distributions whose messages are known, by the name that ROS_DISTRO has there."""

DEFAULT_DISTRO = "jazzy"

_PACKAGE = Path(__file__).resolve().parents[1]

_PRIMITIVES: dict[str, Any] = {
    "bool": bool,
    "byte": idl.uint8,
    "char": idl.uint8,
    "octet": idl.uint8,
    "int8": idl.int8,
    "uint8": idl.uint8,
    "int16": idl.int16,
    "uint16": idl.uint16,
    "int32": idl.int32,
    "uint32": idl.uint32,
    "int64": idl.int64,
    "uint64": idl.uint64,
    "float32": idl.float32,
    "float64": idl.float64,
    "string": str,
}

_DTYPES = {"byte": "uint8", "char": "uint8", "octet": "uint8"}
"""NumPy's names of primitives that have another one there."""


class TypeSupport:
    """The messages of a ROS distribution and of this package: making them, and to CDR and back.

    It is a `zgs_ros.streaming.messages.MessageFactory` of rosbags' dataclasses.

    Args:
        distro: A key of `DISTROS`; by default ROS_DISTRO, else jazzy. Only Humble differs in what
            matters here.

    Raises:
        ValueError: For an unknown distribution.
    """

    def __init__(self, distro: str | None = None) -> None:
        distro = distro or os.environ.get("ROS_DISTRO") or DEFAULT_DISTRO
        if distro not in DISTROS:
            raise ValueError(
                f"ROS distribution {distro!r} is not known (allowed: {', '.join(DISTROS)})"
            )
        self._store = get_typestore(DISTROS[distro])
        for path in message_definitions():
            self._store.register(get_types_from_msg(path.read_text(), f"zgs_ros/msg/{path.stem}"))
        for path in service_definitions():
            self._store.register(_service_types(path.read_text(), f"zgs_ros/srv/{path.stem}"))
        self._nested_types: dict[str, type] = {}

    def create(self, type_name: str, **fields: Any) -> Any:
        """A message with all of its fields given."""
        return self._store.types[type_name](**fields)

    def create_partly(self, type_name: str, **fields: Any) -> Any:
        """A message with some of its fields given; the others are zero or empty, as in ROS."""
        described = self._store.fielddefs[type_name][1]
        empty = {name: self._empty(kind) for name, kind in described if name not in fields}
        return self.create(type_name, **empty, **fields)

    def octets(self, values: NDArray[np.uint8]) -> Any:
        """The value of a ``uint8[]`` field."""
        return values

    def floats(self, values: NDArray[np.float32]) -> Any:
        """The value of a ``float32[]`` field."""
        return values

    def octet(self, value: int) -> Any:
        """The value of a ``byte`` field."""
        return value

    def serialize(self, message: Any) -> memoryview:
        """A message as CDR with its encapsulation header."""
        return self._store.serialize_cdr(message, message.__msgtype__)

    def deserialize(self, cdr: bytes, type_name: str) -> Any:
        """A message from CDR; its arrays are read-only views into `cdr`.

        Raises:
            rosbags.serde.SerdeError: If the bytes are not such a message.
        """
        return self._store.deserialize_cdr(memoryview(cdr), type_name)

    def type_hash(self, type_name: str) -> str:
        """The hash that ROS compares types by, ``RIHS01_...``."""
        return self._store.hash_rihs01(type_name)

    def array_length(self, type_name: str, field: str) -> int:
        """Length of a fixed-size array field."""
        for name, (_, description) in self._store.fielddefs[type_name][1]:
            if name == field:
                return int(description[1])
        raise KeyError(f"{type_name} has no field {field!r}")

    def idl_type(self, type_name: str) -> type:
        """The type as Cyclone DDS wants it, for its name and type information only.

        Every topic needs one of its own: for a second topic of the same one, Cyclone DDS rebuilds
        its description of the type while other threads are reading it.
        """
        fields: dict[str, Any] = {
            name: self._idl_field(description)
            for name, description in self._store.fielddefs[type_name][1]
        } or {"structure_needs_at_least_one_member": idl.uint8}
        if "/srv/" in type_name:  # what rmw_cyclonedds_cpp puts before requests and replies
            fields = {"client_id": idl.uint64, "request_number": idl.int64, **fields}
        package, kind, name = type_name.split("/")
        struct: type = make_idl_struct(f"{name}_", f"{package}.{kind}.dds_.{name}_", fields)
        return struct

    def _empty(self, description: Any) -> Any:
        kind, detail = description
        if kind == Nodetype.BASE:
            name = detail[0]
            return {"string": "", "bool": False, "float32": 0.0, "float64": 0.0}.get(name, 0)
        if kind == Nodetype.NAME:
            return self.create_partly(detail)
        element, count = detail[0], detail[1] if kind == Nodetype.ARRAY else 0
        if element[0] == Nodetype.BASE and element[1][0] != "string":
            return np.zeros(count, _DTYPES.get(element[1][0], element[1][0]))
        return [self._empty(element) for _ in range(count)]

    def _idl_field(self, description: Any) -> Any:
        kind, detail = description
        array: Any = idl.array
        sequence: Any = idl.sequence
        bounded_str: Any = idl.bounded_str
        if kind == Nodetype.BASE:
            name, bound = detail
            return bounded_str[bound] if name == "string" and bound else _PRIMITIVES[name]
        if kind == Nodetype.NAME:
            if detail not in self._nested_types:
                self._nested_types[detail] = self.idl_type(detail)
            return self._nested_types[detail]
        element, count = self._idl_field(detail[0]), detail[1]
        if kind == Nodetype.ARRAY:
            return array[element, count]
        return sequence[element, count] if count else sequence[element]


def service_definitions() -> list[Path]:
    """The package's .srv files, beside its .msg files."""
    return sorted((message_definitions()[0].parents[1] / "srv").glob("*.srv"))


def _service_types(text: str, name: str) -> Any:
    """Types of the request and the response of a service definition."""
    types = {}
    for part, fields in zip(("Request", "Response"), text.split("---\n"), strict=True):
        # As a message, so that this package's other messages are found.
        [parsed] = get_types_from_msg(fields, f"zgs_ros/msg/{part}").values()
        types[f"{name}_{part}"] = parsed
    return types


def message_definitions() -> list[Path]:
    """The package's .msg files: beside the source, or in the share folder of a pip or ROS install.

    Raises:
        FileNotFoundError: If none of these places has them.
    """
    ament = [
        Path(prefix) for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(":") if prefix
    ]
    # PREFIX/lib/pythonX.Y/site-packages/zgs_ros, or TARGET/zgs_ros
    prefixes = [*_PACKAGE.parents[:4], Path(sys.prefix), *ament]
    places = [_PACKAGE.parent / "msg", *(p / "share" / "zgs_ros" / "msg" for p in prefixes)]
    for place in places:
        if (place / "SegmentArray.msg").is_file():
            return sorted(place.glob("*.msg"))
    raise FileNotFoundError(
        "the message definitions of zgs_ros are missing, looked in " + ", ".join(map(str, places))
    )
