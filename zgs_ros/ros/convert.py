"""Messages of rclpy: made fast, and decoded with cv_bridge where that works."""

from __future__ import annotations

import array
import importlib
import importlib.util
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.serialization import deserialize_message

from zgs_ros.pictures import MAX_PIXELS
from zgs_ros.streaming.images import check_image, decode

RCLError = rclpy_implementation.RCLError
InvalidHandle = rclpy_implementation.InvalidHandle

BRIDGED = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}
"""Encodings, with their channels, that every version of cv_bridge gets right."""

ENCAPSULATION = 4
"""Bytes ahead of every serialised message."""


class RclpyMessages:
    """A `MessageFactory` of rclpy's message classes.

    Arrays go in as `array.array`, whose check is one comparison; others are checked value by value.
    """

    def create(self, type_name: str, **fields: Any) -> Any:
        """A message such as ``"sensor_msgs/msg/Image"``."""
        return message_class(type_name)(**fields)

    def octets(self, values: NDArray[np.uint8]) -> array.array[int]:
        """Value of a ``uint8[]`` field."""
        return _array("B", values)

    def floats(self, values: NDArray[np.float32]) -> array.array[float]:
        """Value of a ``float32[]`` field."""
        return _array("f", values)

    def ints(self, values: NDArray[np.int32]) -> array.array[int]:
        """Value of an ``int32[]`` field."""
        return _array("i", values)

    def knows(self, type_name: str) -> bool:
        """Whether the package of a type is installed."""
        return importlib.util.find_spec(type_name.split("/")[0]) is not None

    def octet(self, value: int) -> bytes:
        """Value of a ``byte`` field."""
        return bytes([value])


def bridged_decode() -> Callable[..., NDArray[np.uint8]]:
    """Decodes as `streaming.images.decode`, with cv_bridge where it can.

    16-bit and YUV images differ between versions of cv_bridge, and padded rows shift its picture.
    Only to be called where `find_bridge_problem` found none.
    """
    bridge = importlib.import_module("cv_bridge").CvBridge()

    def convert(message: Any, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
        channels = BRIDGED.get(getattr(message, "encoding", ""))
        if channels is None or message.step != message.width * channels:
            return decode(message, max_pixels)
        check_image(message, max_pixels)
        return np.asarray(bridge.imgmsg_to_cv2(message, "rgb8"))

    return convert


@cache
def message_class(type_name: str) -> Any:
    """The class of a type such as ``"sensor_msgs/msg/Image"``."""
    package, kind, name = type_name.split("/")
    return getattr(importlib.import_module(f"{package}.{kind}"), name)


def read_message(cdr: bytes, type_name: str) -> Any:
    """The message that bytes stand for, encapsulation header first.

    Raises:
        Exception: If they are none; of which class is the middleware's affair.
    """
    if len(cdr) < ENCAPSULATION:  # which Cyclone DDS would read past
        raise ValueError("no encapsulation header")
    return deserialize_message(cdr, message_class(type_name))


def _array(code: str, values: NDArray[Any]) -> array.array[Any]:
    result = array.array(code)
    result.frombytes(np.ascontiguousarray(values).view(np.uint8).data)
    return result
