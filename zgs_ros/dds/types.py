"""ROS message types as Cyclone DDS wants them."""

from __future__ import annotations

from typing import Any

from cyclonedds.idl import make_idl_struct
from cyclonedds.idl import types as idl
from rosbags.interfaces import Nodetype

from zgs_ros.message_types import MessageTypes

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


class TypeSupport(MessageTypes):
    """The messages of a ROS distribution and of this package, for endpoints of Cyclone DDS.

    Args:
        distro: See `MessageTypes`.

    Raises:
        ValueError: For an unknown distribution.
    """

    def __init__(self, distro: str | None = None) -> None:
        super().__init__(distro)
        self._nested_types: dict[str, type] = {}

    def idl_type(self, type_name: str) -> type:
        """The type as Cyclone DDS wants it, for its name and type information only.

        It is a new class every time; `zgs_ros.dds.domains.create_topic` makes topics share one.
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
