"""Depth as image_transport's plugins compress it, written as they write it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from zgs_ros.message_types import MessageTypes

Depth = NDArray[np.float32]

QUANTISATION, DEPTH_MAX = 100.0, 10.0
"""The defaults of compressed_depth_image_transport."""


def png(values: NDArray[Any]) -> bytes:
    return cv2.imencode(".png", values)[1].tobytes()


def rvl(values: NDArray[np.uint16]) -> bytes:
    """Width, height and the values in RVL, nibble by nibble as its authors' encoder has it."""
    nibbles: list[int] = []

    def put(number: int) -> None:
        while True:
            number, bits = number >> 3, number & 7
            nibbles.append(bits | (8 if number else 0))
            if not number:
                return

    flat, at, previous = [int(value) for value in values.ravel()], 0, 0
    while at < len(flat):
        for zero in (True, False):
            run = at
            while run < len(flat) and (flat[run] == 0) == zero:
                run += 1
            put(run - at)
            for value in () if zero else flat[at:run]:
                put(2 * (value - previous) if value >= previous else 2 * (previous - value) - 1)
                previous = value
            at = run
    nibbles += [0] * (-len(nibbles) % 8)
    words = [
        int("".join(f"{n:x}" for n in nibbles[i : i + 8]), 16) for i in range(0, len(nibbles), 8)
    ]
    height, width = values.shape
    return struct.pack(f"<II{len(words)}I", width, height, *words)


def inverse(depth: Depth) -> tuple[bytes, NDArray[np.uint16]]:
    """The header with both parameters, and depth as 16-bit inverse depth."""
    scale = QUANTISATION * (QUANTISATION + 1)
    offset = 1 - scale / DEPTH_MAX
    seen = np.where(depth < DEPTH_MAX, depth, np.inf)
    values = np.where(np.isfinite(seen), scale / seen + offset, 0).astype(np.uint16)
    return struct.pack("<iff", 0, scale, offset), values


def millimetres(depth: Depth) -> NDArray[np.uint16]:
    return np.round(np.nan_to_num(depth) * 1000).astype(np.uint16)


NO_SCALE = struct.pack("<iff", 0, 1e30, -1e30)  # whatever was in memory


def _compressed_depth(form: str, pack: Callable[[NDArray[np.uint16]], bytes]) -> Any:
    def make(depth: Depth) -> tuple[str, bytes]:
        if form.startswith("32FC1"):
            header, values = inverse(depth)
        else:
            header, values = NO_SCALE, millimetres(depth)
        return form, header + pack(values)

    return make


COMPRESSED: dict[str, Callable[[Depth], tuple[str, bytes]]] = {
    "16UC1 png": _compressed_depth("16UC1; compressedDepth png", png),
    "16UC1 png, of an older release": _compressed_depth("16UC1; compressedDepth", png),
    "16UC1 png, of a driver": _compressed_depth("16UC1", png),
    "mono16 png": _compressed_depth("mono16; compressedDepth png", png),
    "32FC1 png": _compressed_depth("32FC1; compressedDepth png", png),
    "16UC1 rvl": _compressed_depth("16UC1; compressedDepth rvl", rvl),
    "32FC1 rvl": _compressed_depth("32FC1; compressedDepth rvl", rvl),
    "png alone": lambda depth: ("16UC1; png compressed ", png(millimetres(depth))),
    "png, of a driver": lambda depth: ("png", png(millimetres(depth))),
    "tiff of millimetres": lambda depth: (
        "16UC1; tiff compressed ",
        cv2.imencode(".tiff", millimetres(depth))[1].tobytes(),
    ),
    "tiff of metres": lambda depth: (
        "32FC1; tiff compressed ",
        cv2.imencode(".tiff", depth)[1].tobytes(),
    ),
}
"""Depth in metres to format and data."""


def compressed_depth(types: MessageTypes, header: Any, depth: Depth, kind: str) -> Any:
    """A sensor_msgs/CompressedImage."""
    form, data = COMPRESSED[kind](depth)
    octets = np.frombuffer(data, np.uint8)
    return types.create("sensor_msgs/msg/CompressedImage", header=header, format=form, data=octets)
