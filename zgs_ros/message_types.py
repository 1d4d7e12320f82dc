"""ROS message types without ROS: the distribution's, and this package's own."""

from __future__ import annotations

import logging
import os
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import Nodetype
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from zgs_ros import semantic_inference_msgs, vision_msgs
from zgs_ros.texts import quoted

logger = logging.getLogger(__name__)

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

_PACKAGE = Path(__file__).resolve().parent

_DTYPES = {"byte": "uint8", "char": "uint8", "octet": "uint8"}
"""NumPy's names of primitives that have another one there."""


OTHERS = {
    "semantic_inference_msgs": semantic_inference_msgs.DEFINITIONS,
    "vision_msgs": vision_msgs.DEFINITIONS,
}
"""Messages that rosbags does not bring: their fields, by package and name."""
SET_BOOL = "bool data\n---\nbool success\nstring message\n"
"""Definition of std_srvs/SetBool, which rosbags does not bring."""

OLDER = ("foxy", "galactic")
"""Distributions whose messages are near enough to those of Humble."""


class MessageTypes:
    """The messages of a ROS distribution and of this package: making them, and to CDR and back.

    It is a `zgs_ros.streaming.messages.MessageFactory` of rosbags' dataclasses.

    Args:
        distro: A key of `DISTROS`; by default ROS_DISTRO where it names one, else jazzy. Only Humble
            and those before it differ in what matters here.

    Raises:
        ValueError: For an unknown distribution.
    """

    def __init__(self, distro: str | None = None) -> None:
        distro = distro or _sourced_distro()
        if distro not in DISTROS:
            raise ValueError(
                f"ROS distribution {distro!r} is not known (allowed: {', '.join(DISTROS)})"
            )
        self._store = get_typestore(DISTROS[distro])
        for package, found in OTHERS.items():
            for name, fields in found.items():
                self._store.register(get_types_from_msg(fields, f"{package}/msg/{name}"))
        for name, fields in semantic_inference_msgs.SERVICES.items():
            self._store.register(_service_types(fields, f"semantic_inference_msgs/srv/{name}"))
        for path in message_definitions():
            self._store.register(get_types_from_msg(path.read_text(), f"zgs_ros/msg/{path.stem}"))
        for path in service_definitions():
            self._store.register(_service_types(path.read_text(), f"zgs_ros/srv/{path.stem}"))
        self._store.register(_service_types(SET_BOOL, "std_srvs/srv/SetBool"))

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

    def ints(self, values: NDArray[np.int32]) -> Any:
        """The value of an ``int32[]`` field."""
        return values

    def octet(self, value: int) -> Any:
        """The value of a ``byte`` field."""
        return value

    def serialize(self, message: Any) -> memoryview:
        """A message as CDR with its encapsulation header."""
        return self._store.serialize_cdr(message, message.__msgtype__)

    def deserialize(self, cdr: bytes, type_name: str) -> Any:
        """A message from CDR; its arrays are read-only views into `cdr`.

        Bytes behind the message are passed over, as ROS does it: some writers pad messages.

        Raises:
            rosbags.serde.SerdeError: If the bytes are not such a message.
        """
        data = memoryview(cdr)
        if len(data) < 4 or data[0] != 0 or data[1] > 1:
            raise SerdeError("Invalid or unsupported CDR encapsulation.")
        described = self._store.get_msgdef(type_name)
        read = described.deserialize_cdr_le if data[1] else described.deserialize_cdr_be
        try:
            message, _ = read(data[4:], 0, described.cls, self._store)
        except (struct.error, ValueError, MemoryError) as error:
            raise SerdeError(str(error) or type(error).__name__) from error
        return message

    def type_hash(self, type_name: str) -> str:
        """The hash that ROS compares types by, ``RIHS01_...``."""
        return self._store.hash_rihs01(type_name)

    def knows(self, type_name: str) -> bool:
        """Whether it is a type of the distribution or of this package."""
        return type_name in self._store.types

    def definition(self, type_name: str) -> str:
        """The text that bags describe a type by: its fields, then those of the types in it."""
        return self._store.generate_msgdef(type_name, ros_version=2)[0]

    def array_length(self, type_name: str, field: str) -> int:
        """Length of a fixed-size array field."""
        for name, (_, description) in self._store.fielddefs[type_name][1]:
            if name == field:
                return int(description[1])
        raise KeyError(f"{type_name} has no field {field!r}")

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


def _sourced_distro() -> str:
    """The distribution of ROS_DISTRO, which may be one of ROS 1 or of the future."""
    name = os.environ.get("ROS_DISTRO") or DEFAULT_DISTRO
    if name in DISTROS:
        return name
    taken = "humble" if name in OLDER else DEFAULT_DISTRO
    logger.info("ROS_DISTRO is %s; messages are taken to be those of %s", quoted(name), taken)
    return taken


def service_definitions() -> list[Path]:
    """The package's .srv files, beside its .msg files."""
    return sorted((message_definitions()[0].parents[1] / "srv").glob("*.srv"))


def _service_types(text: str, name: str) -> Any:
    """Types of the request and the response of a service definition."""
    types, package = {}, name.partition("/")[0]
    for part, fields in zip(("Request", "Response"), text.split("---\n"), strict=True):
        # As a message, so that other messages of its package are found.
        [parsed] = get_types_from_msg(fields, f"{package}/msg/{part}").values()
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
