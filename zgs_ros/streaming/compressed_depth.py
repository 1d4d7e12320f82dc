"""Depth as image_transport's plugins compress it: ``compressedDepth`` (PNG, RVL), and PNG or TIFF alone.

As compressed_depth_image_transport has it: the data begin with twelve bytes, an enum (0) and two
floats A and B. Then comes a PNG, or the width and height as two integers and RVL. 16UC1 is in there as
it is, in millimetres; 32FC1 as inverse depth v, 0 where there is none, otherwise A / (v - B) metres.
"""

from __future__ import annotations

import struct
from array import array
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from zgs_ros.pictures import MAX_PIXELS, TooLarge, check_size, open_picture
from zgs_ros.texts import bounded, printable, quoted

MILLIMETRES = ("16UC1", "mono16")
METRES = "32FC1"

_HEADER = struct.Struct("<iff")
_SIZE = struct.Struct("<II")
_PNG = b"\x89PNG\r\n\x1a\n"
_MOST_NIBBLES = 6
"""Of a difference in RVL: that of two 16-bit values and its sign are 17 bits, 3 in each."""


class BadCompressedDepth(ValueError):
    """Compressed depth that can't be read; the text says why and what to do."""


def decode_compressed_depth(message: Any, max_pixels: int = MAX_PIXELS) -> NDArray[np.float32]:
    """Decodes a sensor_msgs/CompressedImage with depth.

    Whether there is a header and a PNG shows in the data; only what a value means and whether it is
    RVL is taken from the format (``"32FC1; compressedDepth rvl"``), which drivers fill in as they like.

    Args:
        message: Object with format and data (any buffer of bytes).
        max_pixels: Larger ones are refused.

    Returns:
        float32 (height, width) in metres; 0, nan and inf are invalid (REP 118).

    Raises:
        BadCompressedDepth: If it is neither of them, is broken or cut off, or too large.
    """
    data = memoryview(message.data).cast("B")
    form = bounded(str(message.format))
    encoding, _, compression = (part.strip() for part in form.partition(";"))
    about = f"data ({len(data)} bytes, format {quoted(message.format)})"
    try:
        if data[_HEADER.size : _HEADER.size + len(_PNG)] == _PNG:
            values = _read_picture(data[_HEADER.size :], max_pixels)
        elif compression.startswith("compressedDepth") and compression.endswith("rvl"):
            values = _read_rvl(data[_HEADER.size :], max_pixels)
        else:
            values = _read_picture(data, max_pixels)
            if values.dtype == np.float32:
                return np.asarray(values, np.float32)
            if encoding == METRES:
                raise BadCompressedDepth("holds integers without the header that tells their scale")
            encoding = MILLIMETRES[0]
        if encoding in MILLIMETRES:
            return np.asarray(values * np.float32(0.001), np.float32)
        if encoding == METRES:
            return _from_inverse(values, *_HEADER.unpack_from(data)[1:])
    except TooLarge as error:
        raise BadCompressedDepth(f"{about}: {error}") from None
    except Pillow.UnidentifiedImageError:
        raise BadCompressedDepth(
            f"{about} is neither compressedDepth (png or rvl) nor a PNG or TIFF"
        ) from None
    except BadCompressedDepth as error:
        raise BadCompressedDepth(f"{about} {error}") from None
    except (
        Exception
    ) as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError and others
        reason = printable(str(error) or type(error).__name__)
        raise BadCompressedDepth(f"{about} is broken: {reason}") from None
    raise BadCompressedDepth(
        f"{about} has encoding {quoted(encoding)} (allowed: {', '.join((*MILLIMETRES, METRES))})"
    )


def _from_inverse(values: NDArray[np.uint16], scale: float, offset: float) -> NDArray[np.float32]:
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        metres = np.float32(scale) / (values.astype(np.float32) - np.float32(offset))
    metres[values == 0] = np.nan
    return metres


def _read_picture(data: memoryview, max_pixels: int) -> NDArray[Any]:
    """A PNG with 16 bits, or a TIFF with these or floats: uint16 or float32 (height, width)."""
    with open_picture(data, ("PNG", "TIFF"), max_pixels) as picture:
        if not picture.mode.startswith(("I", "F")):
            raise BadCompressedDepth(f"is a picture of {picture.mode}, not of depth in 16 bits")
        pixels = np.asarray(picture)
    return pixels.astype(np.float32 if pixels.dtype.kind == "f" else np.uint16, copy=False)


def _read_rvl(data: memoryview, max_pixels: int) -> NDArray[np.uint16]:
    """RVL (A. D. Wilson, Fast Lossless Depth Image Compression, 2017): uint16 (height, width).

    Zeros and other values take turns: how many zeros, how many others, and of these the differences
    to the value before, with the sign in the lowest bit.
    """
    width, height = _SIZE.unpack_from(data)
    check_size(width, height, max_pixels)
    count = width * height
    numbers = _read_numbers(data[_SIZE.size :], count)
    number, heads, at, pixels = numbers.data, array("q"), 0, 0
    while pixels < count:
        if at + 1 >= len(number) or number[at] + number[at + 1] == 0:
            raise BadCompressedDepth(f"ends after {pixels} of {count} pixels")
        heads.append(at)
        pixels += number[at] + number[at + 1]
        at += 2 + number[at + 1]
    if pixels != count or at > len(number):
        raise BadCompressedDepth(f"has more than the {count} pixels of its size, or ends before")
    zeros = np.frombuffer(heads, np.int64)
    is_difference = np.ones(at, np.bool_)
    is_difference[zeros] = is_difference[zeros + 1] = False
    differences = numbers[:at][is_difference]
    runs = np.stack([numbers[zeros], numbers[zeros + 1]], axis=1).reshape(-1)
    seen = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    values = np.zeros(count, np.uint16)
    values[seen] = np.cumsum((differences >> 1) ^ -(differences & 1)).astype(np.uint16)
    return values.reshape(height, width)


def _read_numbers(data: memoryview, count: int) -> NDArray[np.int32]:
    """The numbers of RVL for so many pixels: three bits in each nibble, the lowest first.

    The fourth bit says that more follow. Nibbles fill words from the top.
    """
    words = np.frombuffer(data[: len(data) // 4 * 4], "<u4")[: 2 + count * _MOST_NIBBLES // 8]
    octets = words.byteswap().view(np.uint8)
    nibbles = np.stack([octets >> 4, octets & 15], axis=1).reshape(-1)
    ends = nibbles < 8
    if np.count_nonzero(ends) > 2 * count + 16:  # a difference a pixel, and two lengths every other
        raise BadCompressedDepth(f"has more numbers than {count} pixels need")
    last = np.flatnonzero(ends)
    first = np.concatenate([np.zeros(1, np.int64), last[:-1] + 1])[: len(last)]
    numbers = np.zeros(len(last), np.int32)
    for place in range(10):  # what has more is no difference, and longer than any run
        there = first + place <= last
        if not there.any():
            break
        bits = (nibbles[first[there] + place] & 7).astype(np.int32)
        numbers[there] |= bits << (3 * place)
    return numbers
