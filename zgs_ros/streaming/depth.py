"""Depth and calibration messages to metres and a camera."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zgs_ros.geometry import DISTORTIONS, FISHEYE_DISTORTIONS, CameraModel, fits
from zgs_ros.pictures import MAX_PIXELS
from zgs_ros.streaming.compressed_depth import BadCompressedDepth, decode_compressed_depth
from zgs_ros.streaming.images import BadImage, Layout, read_rows
from zgs_ros.texts import quoted

_METRES = Layout(channels=1, depth=4)
_MILLIMETRES = Layout(channels=1, depth=2)
_LAYOUTS = {"32FC1": _METRES, "16UC1": _MILLIMETRES, "mono16": _MILLIMETRES}

DEPTH_ENCODINGS = tuple(sorted(_LAYOUTS))
"""Encodings of depth images: metres (32FC1) or millimetres (16UC1, mono16)."""

STANDARD = ("", "plumb_bob", "rational_polynomial")
"""Distortion models whose coefficients are those of OpenCV's standard model."""

FISHEYE = "equidistant"
"""The distortion model whose coefficients are those of OpenCV's fisheye model."""

_TRANSPORT = re.compile(r"/(raw|compressed|compressedDepth|theora|zstd|ffmpeg)$")
_RECTIFIED = re.compile(r"(^|[/_])rect(ified)?([/_]|$)")


class BadDepth(ValueError):
    """Depth that can't be used; the text says why and what to do."""


@dataclass(frozen=True)
class Calibration:
    """What a camera_info says of an image.

    Attributes:
        camera: Of the image.
        source: The fields that it was read from, and for which images; for people.
        doubt: What had to be guessed, "" if nothing.
    """

    camera: CameraModel
    source: str
    doubt: str = ""


def decode_depth(message: Any, max_pixels: int = MAX_PIXELS) -> NDArray[np.float32]:
    """Decodes a depth sensor_msgs/Image, or a CompressedImage as `decode_compressed_depth` does.

    Args:
        message: As `zgs_ros.streaming.images.decode` takes it.
        max_pixels: Larger ones are refused.

    Returns:
        float32 (height, width) in metres, possibly read-only; 0, nan and inf are invalid (REP 118).

    Raises:
        BadDepth: If a field is impossible or does not fit the others.
    """
    if not hasattr(message, "encoding"):
        try:
            return decode_compressed_depth(message, max_pixels)
        except BadCompressedDepth as error:
            raise BadDepth(f"depth: {error}") from None
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


def is_rectified(topic: str) -> bool:
    """Whether a topic's name says that its images are rectified: ``/left/image_rect_color``."""
    return bool(_RECTIFIED.search(_TRANSPORT.sub("", topic)))


def camera_facts(info: Any) -> tuple[Any, ...]:
    """All of a sensor_msgs/CameraInfo that `read_camera` reads: where it is equal, so is the camera."""
    roi = info.roi
    size = (info.height, info.width, info.binning_x, info.binning_y)
    region = (roi.x_offset, roi.y_offset, roi.height, roi.width)
    return (tuple(info.k), tuple(info.d), tuple(info.p), info.distortion_model, size, region)


def read_camera(info: Any, size: tuple[int, int], rectified: bool = False) -> Calibration:
    """The camera that a sensor_msgs/CameraInfo describes.

    Its matrices are for the sensor at full resolution. The image is that, or what is left of it by
    region of interest and binning, or either of them scaled: its size tells. A pixel of a binned
    image lies in the middle of those that it combines (image_geometry has it at the first of them).
    ``roi.do_rectify`` says nothing here: image_proc gives rectified images the raw ones' region.

    Args:
        info: The message.
        size: (height, width) of the image.
        rectified: Whether the image is rectified. Then the left part of P projects, or K where P is
            left out, and there is no distortion; positions are in the image's own camera, whose
            offset from the first one of a stereo pair (P's last column) is not added.

    Raises:
        BadDepth: If it is not calibrated, of a kind that is not supported, or of another image.
    """
    try:
        projection = np.array(info.p, np.float64).reshape(3, 4)[:, :3] if rectified else np.zeros(0)
        if projection.any():
            full, source, doubt = (
                CameraModel(projection, _full_size(info)),
                "P of camera_info (rectified)",
                "",
            )
        else:
            matrix = np.array(info.k, np.float64).reshape(3, 3)
            distortion, doubt = ((), "") if rectified else _read_distortion(info)
            fisheye = info.distortion_model == FISHEYE
            full = CameraModel(matrix, _full_size(info), distortion, fisheye)
            source = f"{'K' if rectified else 'K and D'} of camera_info"
        return Calibration(_of_image(full, info, size), source, doubt)
    except ValueError as error:
        raise BadDepth(f"camera_info: {error}") from None


def _full_size(info: Any) -> tuple[int, int]:
    return int(info.height), int(info.width)


def _read_distortion(info: Any) -> tuple[tuple[float, ...], str]:
    """Coefficients in a number that OpenCV knows, () for none; and what had to be guessed."""
    given = tuple(float(value) for value in info.d)
    if not any(given):
        return (), ""
    fisheye = info.distortion_model == FISHEYE
    if not fisheye and info.distortion_model not in STANDARD:
        raise ValueError(
            f"distortion model {quoted(info.distortion_model)} is not known (allowed: "
            f"{', '.join((*STANDARD[1:], FISHEYE))}); rectify the images first (image_proc)"
        )
    counts = FISHEYE_DISTORTIONS if fisheye else DISTORTIONS
    count = next((number for number in counts if number >= len(given)), counts[-1])
    if len(given) == count:
        return given, ""
    if any(given[count:]):
        return given, ""  # the camera refuses it
    doubt = (
        f"camera_info: D has {len(given)} coefficients, and {info.distortion_model or 'plumb_bob'} "
        f"{', '.join(map(str, filter(None, counts)))}; those that are missing are taken to be 0"
    )
    return (*given, *[0.0] * count)[:count], doubt if len(given) < count else ""


def _of_image(full: CameraModel, info: Any, size: tuple[int, int]) -> CameraModel:
    """The camera of an image, of the one at full resolution.

    Raises:
        ValueError: If no region, binning and scale of it gives the image.
    """
    roi = info.roi
    left, top, height, width = roi.x_offset, roi.y_offset, roi.height, roi.width
    if not (height and width):
        left, top, (height, width) = 0, 0, full.size
    if left + width > full.size[1] or top + height > full.size[0]:
        raise ValueError(
            f"its roi of {width} x {height} at {left}, {top} is not within its {_shown(full.size)}"
        )
    # Rows and columns that don't fill a bin are left out.
    across, down = max(1, info.binning_x), max(1, info.binning_y)
    binned = height // down, width // across
    if size != full.size and fits(size, binned):
        cropped = full.cropped(left, top, (binned[0] * down, binned[1] * across))
        return cropped.scaled(binned).scaled(size)
    if fits(size, full.size):  # though roi or binning say otherwise
        return full.scaled(size)
    reduced = "" if binned == full.size else f", reduced to {_shown(binned)} by roi and binning"
    raise ValueError(
        f"is of images of {_shown(full.size)}{reduced}, and the image is {_shown(size)}: another "
        "shape, so that it was cropped; give the camera_info of this image (image_proc does)"
    )


def _shown(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"
