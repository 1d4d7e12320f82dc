"""Depth and calibration messages to metres and a camera."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from zgs_ros.geometry import CameraModel
from zgs_ros.pictures import MAX_PIXELS
from zgs_ros.streaming.images import BadImage, Layout, read_rows
from zgs_ros.texts import quoted

_METRES = Layout(channels=1, depth=4)
_MILLIMETRES = Layout(channels=1, depth=2)
_LAYOUTS = {"32FC1": _METRES, "16UC1": _MILLIMETRES, "mono16": _MILLIMETRES}

DEPTH_ENCODINGS = tuple(sorted(_LAYOUTS))
"""Encodings of depth images: metres (32FC1) or millimetres (16UC1, mono16)."""

STRAIGHT = ("", "plumb_bob", "rational_polynomial")
"""Distortion models whose coefficients are those of OpenCV's standard model."""


class BadDepth(ValueError):
    """Depth that can't be used; the text says why and what to do."""


def decode_depth(message: Any, max_pixels: int = MAX_PIXELS) -> NDArray[np.float32]:
    """Decodes a depth sensor_msgs/Image.

    Args:
        message: As `zgs_ros.streaming.images.decode_image` takes it.
        max_pixels: Larger ones are refused.

    Returns:
        float32 (height, width) in metres, possibly read-only; 0, nan and inf are invalid (REP 118).

    Raises:
        BadDepth: If a field is impossible or does not fit the others.
    """
    layout = _LAYOUTS.get(message.encoding)
    if layout is None:
        raise BadDepth(
            f"depth encoding {quoted(message.encoding)} is not supported "
            f"(allowed: {', '.join(DEPTH_ENCODINGS)})"
        )
    try:
        rows = read_rows(message, layout, max_pixels)
    except BadImage as error:
        raise BadDepth(f"depth: {error}") from None
    kind = f"{'>' if message.is_bigendian else '<'}{'f4' if layout is _METRES else 'u2'}"
    row = int(message.width) * layout.depth
    values = np.ascontiguousarray(rows[:, :row]).view(kind)
    if layout is _METRES:
        return np.asarray(values, np.float32)
    return np.asarray(values * np.float32(0.001), np.float32)


def read_camera(info: Any) -> CameraModel:
    """The camera that a sensor_msgs/CameraInfo describes.

    Raises:
        BadDepth: If it is not calibrated or of a kind that is not supported.
    """
    distortion = tuple(float(value) for value in info.d)
    if any(distortion) and info.distortion_model not in STRAIGHT:
        raise BadDepth(
            f"camera_info has distortion model {quoted(info.distortion_model)} "
            f"(allowed: {', '.join(STRAIGHT[1:])}); rectify the images first (image_proc)"
        )
    matrix = np.array(info.k, np.float64).reshape(3, 3)
    try:
        return CameraModel(matrix, (int(info.height), int(info.width)), distortion)
    except ValueError as error:
        raise BadDepth(f"camera_info: {error}") from None
