"""Image messages to RGB arrays, for any object with the fields of sensor_msgs Image or CompressedImage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from zgs_ros.pictures import MAX_PIXELS, TooLarge, check_size, open_picture
from zgs_ros.texts import bounded, printable, quoted

COMPRESSED_FORMATS = ("JPEG", "PNG", "TIFF")
"""What image_transport's plugin writes."""

MAX_FRAME_ID = 1000
"""Longest header.frame_id, in characters: it is repeated in all that is published."""


class BadImage(ValueError):
    """An image message that can't be an image; the text names the field, its value and what is allowed."""


@dataclass(frozen=True)
class Layout:
    """How an encoding lies in memory.

    Attributes:
        channels: Values per pixel in a row.
        depth: Bytes per value.
        to_rgb: OpenCV code of the conversion of 8-bit values to RGB, or what converts the rows; None
            where they already are.
        multiple_of: (width, height) must be multiples of these.
        at_least: Smallest width and height that the conversion can work on.
        half_rows: Rows of data per two image rows; more than 2 with colour planes below the image.
    """

    channels: int
    depth: int = 1
    to_rgb: int | Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None
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
        layouts[f"{bits}UC4"] = layouts[f"bgra{bits}"]
    uyvy = Layout(2, to_rgb=cv2.COLOR_YUV2RGB_UYVY, multiple_of=(2, 1))
    yuyv = Layout(2, to_rgb=cv2.COLOR_YUV2RGB_YUY2, multiple_of=(2, 1))
    layouts.update({"yuv422": uyvy, "uyvy": uyvy, "yuv422_yuy2": yuyv, "yuyv": yuyv})
    layouts["nv21"] = Layout(1, to_rgb=cv2.COLOR_YUV2RGB_NV21, multiple_of=(2, 2), half_rows=3)
    layouts["nv12"] = Layout(1, to_rgb=cv2.COLOR_YUV2RGB_NV12, multiple_of=(2, 2), half_rows=3)
    layouts["nv24"] = Layout(1, to_rgb=_nv24_to_rgb, half_rows=6)
    return layouts


_YUV_TO_RGB = np.array(
    [
        [1.164383, 0.0, 1.596027, -222.921],
        [1.164383, -0.391762, -0.812968, 135.576],
        [1.164383, 2.017232, 0.0, -276.836],
    ]
)
"""BT.601 with Y from 16 to 235, as OpenCV has it for the other YUV encodings."""


def _nv24_to_rgb(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Of Y (height, width) and below it Cb and Cr in turns, twice as much."""
    width = rows.shape[1]
    luma, chroma = np.split(rows.reshape(3, -1), [1])
    yuv = np.concatenate([luma.reshape(-1, 1), chroma.reshape(-1, 2)], axis=1)
    return np.asarray(cv2.transform(yuv.reshape(-1, width, 3), _YUV_TO_RGB), np.uint8)


_LAYOUTS = _layouts()

ENCODINGS = tuple(sorted(_LAYOUTS))
"""Encodings of sensor_msgs/Image that are understood."""


def decode(message: Any, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decodes a sensor_msgs Image or CompressedImage, see `decode_image` and `decode_compressed`."""
    if hasattr(message, "encoding"):
        return decode_image(message, max_pixels)
    return decode_compressed(message, max_pixels)


def decode_image(message: Any, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decodes a sensor_msgs/Image.

    16-bit values keep their upper byte. Without a conversion the result is a view into the
    message's data.

    Args:
        message: Object with encoding, width, height, step, is_bigendian and data (any buffer of bytes).
        max_pixels: Larger ones are refused.

    Returns:
        uint8 RGB (height, width, 3), possibly read-only.

    Raises:
        BadImage: If a field is impossible or does not fit the others.
    """
    layout, rows = _check(message, max_pixels)
    width, height = int(message.width), int(message.height)
    rows = rows[:, : width * layout.channels * layout.depth]
    if layout.depth == 2:
        order = ">u2" if message.is_bigendian else "<u2"
        rows = (np.ascontiguousarray(rows).view(order) >> 8).astype(np.uint8)
    if layout.half_rows == 2 and layout.channels > 1:
        rows = rows.reshape(height, width, layout.channels)
    return _to_rgb(rows, layout)


def check_image(message: Any, max_pixels: int = MAX_PIXELS) -> None:
    """Validates a sensor_msgs/Image without decoding it.

    Raises:
        BadImage: If a field is impossible or does not fit the others.
    """
    _check(message, max_pixels)


def decode_compressed(message: Any, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decodes a sensor_msgs/CompressedImage with JPEG, PNG or TIFF data.

    What the data is decides, not the format field, which drivers fill in as they like. It is only
    asked whether a single channel is a Bayer mosaic (``"bayer_rggb8; jpeg compressed "``).

    Args:
        message: Object with format and data (any buffer of bytes).
        max_pixels: Larger ones are refused; of JPEGs that are no mosaics, made smaller by 2, 4 or 8.

    Returns:
        uint8 RGB (height, width, 3), possibly read-only.

    Raises:
        BadImage: If the data is neither JPEG, PNG nor TIFF, is broken or cut off, or too large.
    """
    _check_frame_id(message)
    size = len(message.data)
    about = f"data ({size} bytes, format {quoted(message.format)})"
    kind = bounded(str(message.format)).split(";")[0].strip()
    layout = _LAYOUTS.get(kind, _LAYOUTS["mono8"])
    if layout.channels != 1 or layout.to_rgb is None or layout.half_rows != 2:
        layout = _LAYOUTS["mono8"]
    is_mosaic = layout.to_rgb != cv2.COLOR_GRAY2RGB
    try:
        data = _buffer(message.data).data
        with open_picture(data, COMPRESSED_FORMATS, max_pixels, reduce=not is_mosaic) as picture:
            plain = picture.mode in ("RGB", "L") or picture.mode.startswith("I;16")
            pixels = np.asarray(picture if plain else picture.convert("RGB"))
    except TooLarge as error:
        raise BadImage(f"{about}: {error}") from None
    except Pillow.UnidentifiedImageError:
        raise BadImage(
            f"{about} is not an image (allowed: {', '.join(COMPRESSED_FORMATS)})"
        ) from None
    except Exception as error:
        # Pillow's decoders raise OSError, SyntaxError, ValueError and others.
        reason = printable(str(error) or type(error).__name__)
        raise BadImage(
            f"{about} is broken: {reason}; a whole JPEG, PNG or TIFF image is needed"
        ) from None
    if pixels.dtype != np.uint8:
        pixels = (pixels >> 8).astype(np.uint8)
    if pixels.ndim == 3:
        return pixels
    if min(pixels.shape) < layout.at_least:
        layout = _LAYOUTS["mono8"]
    return _to_rgb(pixels, layout)


def _to_rgb(pixels: NDArray[np.uint8], layout: Layout) -> NDArray[np.uint8]:
    pixels = np.ascontiguousarray(pixels)
    if layout.to_rgb is None:
        return pixels
    if callable(layout.to_rgb):
        return layout.to_rgb(pixels)
    return np.asarray(cv2.cvtColor(pixels, layout.to_rgb), np.uint8)


def _check_frame_id(message: Any) -> None:
    frame_id = getattr(getattr(message, "header", None), "frame_id", "")
    if len(frame_id) > MAX_FRAME_ID:
        raise BadImage(
            f"header.frame_id {quoted(frame_id)} is too long (allowed: {MAX_FRAME_ID} characters)"
        )


def _check(message: Any, max_pixels: int) -> tuple[Layout, NDArray[np.uint8]]:
    """Validates a message; returns its layout and its data as (rows, step) bytes."""
    _check_frame_id(message)
    layout = _LAYOUTS.get(message.encoding)
    if layout is None:
        raise BadImage(
            f"encoding {quoted(message.encoding)} is not supported "
            f"(allowed: {', '.join(ENCODINGS)})"
        )
    return layout, read_rows(message, layout, max_pixels)


def read_rows(message: Any, layout: Layout, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """The data of a sensor_msgs/Image as bytes, uint8 (rows, step), without a copy.

    Raises:
        BadImage: If a field is impossible or does not fit the others.
    """
    width, height, step = int(message.width), int(message.height), int(message.step)
    try:
        check_size(width, height, max_pixels)
    except TooLarge as error:
        raise BadImage(str(error)) from None
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


def _buffer(data: Any) -> NDArray[np.uint8]:
    """Bytes, bytearray, array.array, memoryview or uint8 array as a uint8 array without a copy."""
    return data if isinstance(data, np.ndarray) else np.frombuffer(data, np.uint8)
