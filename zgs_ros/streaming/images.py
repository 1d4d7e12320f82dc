"""Image messages to RGB arrays, for any object with the fields of sensor_msgs Image or CompressedImage."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

MAX_PIXELS = 2**26
"""Largest accepted image (8192 x 8192): a broken or hostile header must not exhaust the memory."""

COMPRESSED_FORMATS = ("JPEG", "PNG")


class BadImage(ValueError):
    """An image message that can't be an image; the text names the field, its value and what is allowed."""


@dataclass(frozen=True)
class Layout:
    """How an encoding lies in memory.

    Attributes:
        channels: Values per pixel in a row.
        depth: Bytes per value.
        to_rgb: OpenCV code of the conversion of 8-bit values to RGB, None where they already are.
        multiple_of: (width, height) must be multiples of these.
        at_least: Smallest width and height that the conversion can work on.
        half_rows: Rows of data per two image rows; more than 2 with colour planes below the image.
    """

    channels: int
    depth: int = 1
    to_rgb: int | None = None
    multiple_of: tuple[int, int] = (1, 1)
    at_least: int = 1
    half_rows: int = 2


def _layouts() -> dict[str, Layout]:
    layouts: dict[str, Layout] = {}
    colours = {
        "mono": (1, cv2.COLOR_GRAY2RGB),
        "rgb": (3, None),
        "bgr": (3, cv2.COLOR_BGR2RGB),
        "rgba": (4, cv2.COLOR_RGBA2RGB),
        "bgra": (4, cv2.COLOR_BGRA2RGB),
    }
    # OpenCV names a Bayer pattern after the second pixel of the second row, ROS after the first.
    mosaics = {
        "bayer_rggb": cv2.COLOR_BayerBG2RGB,
        "bayer_bggr": cv2.COLOR_BayerRG2RGB,
        "bayer_gbrg": cv2.COLOR_BayerGR2RGB,
        "bayer_grbg": cv2.COLOR_BayerGB2RGB,
    }
    for bits, depth in ((8, 1), (16, 2)):
        for name, (channels, code) in colours.items():
            layouts[f"{name}{bits}"] = Layout(channels, depth, code)
        for name, code in mosaics.items():
            layouts[f"{name}{bits}"] = Layout(1, depth, code, at_least=3)
        layouts[f"{bits}UC1"] = layouts[f"mono{bits}"]
        layouts[f"{bits}UC3"] = layouts[f"bgr{bits}"]  # OpenCV's order, as cv_bridge writes it
    uyvy = Layout(2, to_rgb=cv2.COLOR_YUV2RGB_UYVY, multiple_of=(2, 1))
    yuyv = Layout(2, to_rgb=cv2.COLOR_YUV2RGB_YUY2, multiple_of=(2, 1))
    layouts.update({"yuv422": uyvy, "uyvy": uyvy, "yuv422_yuy2": yuyv, "yuyv": yuyv})
    layouts["nv21"] = Layout(1, to_rgb=cv2.COLOR_YUV2RGB_NV21, multiple_of=(2, 2), half_rows=3)
    return layouts


_LAYOUTS = _layouts()

ENCODINGS = tuple(sorted(_LAYOUTS))
"""Encodings of sensor_msgs/Image that are understood."""


def decode(message: Any) -> NDArray[np.uint8]:
    """Decodes a sensor_msgs Image or CompressedImage, see `decode_image` and `decode_compressed`."""
    return decode_image(message) if hasattr(message, "encoding") else decode_compressed(message)


def decode_image(message: Any) -> NDArray[np.uint8]:
    """Decodes a sensor_msgs/Image.

    16-bit values keep their upper byte. Without a conversion the result is a view into the
    message's data.

    Args:
        message: Object with encoding, width, height, step, is_bigendian and data (any buffer of bytes).

    Returns:
        uint8 RGB (height, width, 3), possibly read-only.

    Raises:
        BadImage: If a field is impossible or does not fit the others.
    """
    layout, rows = _check(message)
    width, height = int(message.width), int(message.height)
    rows = rows[:, : width * layout.channels * layout.depth]
    if layout.depth == 2:
        order = ">u2" if message.is_bigendian else "<u2"
        rows = (np.ascontiguousarray(rows).view(order) >> 8).astype(np.uint8)
    if layout.half_rows == 2 and layout.channels > 1:
        rows = rows.reshape(height, width, layout.channels)
    if layout.to_rgb is None:
        return np.ascontiguousarray(rows)
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(rows), layout.to_rgb), np.uint8)


def check_image(message: Any) -> None:
    """Validates a sensor_msgs/Image without decoding it.

    Raises:
        BadImage: If a field is impossible or does not fit the others.
    """
    _check(message)


def decode_compressed(message: Any) -> NDArray[np.uint8]:
    """Decodes a sensor_msgs/CompressedImage with JPEG or PNG data.

    What the data is decides, not the format field, which drivers fill in as they like. It is only
    asked whether a single channel is a Bayer mosaic (``"bayer_rggb8; jpeg compressed "``).

    Returns:
        uint8 RGB (height, width, 3), possibly read-only.

    Raises:
        BadImage: If the data is neither JPEG nor PNG, is broken or cut off, or too large.
    """
    size = len(message.data)
    about = f"data ({size} bytes, format {message.format!r})"
    try:
        with Pillow.open(
            io.BytesIO(_buffer(message.data).data), formats=COMPRESSED_FORMATS
        ) as picture:
            _check_size(picture.width, picture.height)
            pixels = np.asarray(
                picture if picture.mode in ("RGB", "L", "I;16") else picture.convert("RGB")
            )
    except BadImage:
        raise
    except Pillow.UnidentifiedImageError:
        raise BadImage(
            f"{about} is not an image (allowed: {', '.join(COMPRESSED_FORMATS)})"
        ) from None
    except (
        Exception
    ) as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError and others
        raise BadImage(f"{about} is broken: {error}; a whole JPEG or PNG image is needed") from None
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    if pixels.ndim == 3:
        return pixels
    layout = _LAYOUTS.get(str(message.format).split(";")[0].strip(), _LAYOUTS["mono8"])
    if layout.channels != 1 or layout.to_rgb is None or min(pixels.shape) < layout.at_least:
        layout = _LAYOUTS["mono8"]
    assert layout.to_rgb is not None
    return np.asarray(cv2.cvtColor(pixels, layout.to_rgb), np.uint8)


def _check(message: Any) -> tuple[Layout, NDArray[np.uint8]]:
    """Validates a message; returns its layout and its data as (rows, step) bytes."""
    layout = _LAYOUTS.get(message.encoding)
    if layout is None:
        raise BadImage(
            f"encoding {message.encoding!r} is not supported (allowed: {', '.join(ENCODINGS)})"
        )
    return layout, read_rows(message, layout)


def read_rows(message: Any, layout: Layout) -> NDArray[np.uint8]:
    """The data of a sensor_msgs/Image as bytes, uint8 (rows, step), without a copy.

    Raises:
        BadImage: If a field is impossible or does not fit the others.
    """
    width, height, step = int(message.width), int(message.height), int(message.step)
    _check_size(width, height)
    for name, value, multiple in zip(
        ("width", "height"), (width, height), layout.multiple_of, strict=True
    ):
        if value % multiple or value < layout.at_least:
            allowed = (
                f"a multiple of {multiple}" if value % multiple else f"at least {layout.at_least}"
            )
            raise BadImage(f"{name} {value} must be {allowed} with encoding {message.encoding!r}")
    row = width * layout.channels * layout.depth
    if step < row:
        raise BadImage(
            f"step {step} is shorter than a row: width {width} with encoding "
            f"{message.encoding!r} needs at least {row} bytes"
        )
    rows = height * layout.half_rows // 2
    if len(message.data) != rows * step:
        raise BadImage(
            f"data has {len(message.data)} bytes, but {rows} rows of step {step} are {rows * step} bytes "
            f"(height {height}, encoding {message.encoding!r})"
        )
    return _buffer(message.data).reshape(rows, step)


def _check_size(width: int, height: int) -> None:
    for name, value in (("width", width), ("height", height)):
        if value < 1:
            raise BadImage(f"{name} {value} must be at least 1")
    if width * height > MAX_PIXELS:
        raise BadImage(
            f"width {width} x height {height} is {width * height} pixels, at most {MAX_PIXELS} are "
            "accepted; scale the image down before it is sent"
        )


def _buffer(data: Any) -> NDArray[np.uint8]:
    """Bytes, bytearray, array.array, memoryview or uint8 array as a uint8 array without a copy."""
    return data if isinstance(data, np.ndarray) else np.frombuffer(data, np.uint8)
