"""Images: raw and compressed messages, image files, depth."""

from __future__ import annotations

import io
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
from depth_support import COMPRESSED
from PIL import Image

from fuzz.engine import target
from zgs_ros.files.images import BadImageFile
from zgs_ros.files.images import decode_image as decode_file
from zgs_ros.streaming.depth import DEPTH_ENCODINGS, BadDepth, decode_depth
from zgs_ros.streaming.images import ENCODINGS, BadImage, decode_compressed, decode_image

PIXELS = 2**20
"""Bound on images here: a small one, so that what exceeds it shows."""

FORMATS = (
    "jpeg",
    "png",
    "rgb8; jpeg compressed bgr8",
    "bayer_rggb8; jpeg compressed ",
    "bayer_gbrg16; png compressed ",
    "mono16; png compressed ",
    "rgb8; tiff compressed ",
    "nv21; jpeg",
    "",
)


def _message(data: bytes, encodings: tuple[str, ...]) -> Any:
    """An image whose first seven bytes say what it is; the others are its data.

    A flag has the sizes be larger, the data fill the rows that the sizes ask for, or the step fit.
    """
    head, rest = data[:7].ljust(7, b"\0"), data[7:]
    kind, flags, width, height, padding, big, _ = head
    scale = 4097 if flags & 1 else 1
    encoding = encodings[kind] if kind < len(encodings) else rest[:20].decode("latin1")
    width, height = width * scale, height * scale
    bytes_per_pixel = padding & 15
    step = width * bytes_per_pixel + (padding >> 4)
    if flags & 2:
        wanted = step * (height * (flags >> 4) // 2)
        rest = (rest or b"\0") * (min(wanted, 2**22) // max(1, len(rest)) + 1)
        rest = rest[:wanted]
    return SimpleNamespace(
        encoding=encoding,
        width=width,
        height=height,
        step=step,
        is_bigendian=big & 1,
        data=rest,
        header=SimpleNamespace(frame_id="camera"),
    )


def _raw_seeds(encodings: tuple[str, ...]) -> Iterator[bytes]:
    for number, _ in enumerate(encodings):
        for size in (1, 2, 3, 4, 6, 8):
            yield bytes([number, 0x22, 6, 4, size, number % 2, 0, 1, 200, 90])  # rows as high
    for number, _ in enumerate(encodings):
        for rows in (0x32, 0x62):  # with colour planes below
            yield bytes([number, rows, 6, 4, 1, 0, 0, 1, 200, 90])
    yield bytes([0, 1, 255, 255, 3, 0, 0])
    yield bytes([255, 2, 4, 4, 3, 0, 0]) + b"rgb8\0\x1b[2J"


@target(BadImage, seeds=lambda: _raw_seeds(ENCODINGS))
def raw(data: bytes) -> None:
    """sensor_msgs/Image."""
    message = _message(data, ENCODINGS)
    pixels = decode_image(message, PIXELS)
    assert pixels.dtype == np.uint8, pixels.dtype
    assert pixels.shape == (message.height, message.width, 3), pixels.shape


@target(BadDepth, seeds=lambda: _raw_seeds(DEPTH_ENCODINGS))
def depth(data: bytes) -> None:
    """A depth sensor_msgs/Image."""
    message = _message(data, DEPTH_ENCODINGS)
    metres = decode_depth(message, PIXELS)
    assert metres.dtype == np.float32, metres.dtype
    assert metres.shape == (message.height, message.width), metres.shape


def _picture(mode: str) -> Image.Image:
    y, x = np.mgrid[0:12, 0:16]
    colours = np.stack([x * 16, y * 20, (x + y) * 9], -1).astype(np.uint8)
    if mode == "I;16":
        return Image.fromarray((x * y * 300).astype(np.uint16))
    return Image.fromarray(colours).convert(mode)


def encoded(mode: str, kind: str, **options: Any) -> bytes:
    """Content of a small image file."""
    file = io.BytesIO()
    _picture(mode).save(file, kind, **options)
    return file.getvalue()


def _message_files() -> Iterator[bytes]:
    for mode in ("RGB", "L", "CMYK"):
        yield encoded(mode, "JPEG", quality=60)
        yield encoded(mode, "JPEG", quality=60, progressive=True)
    yield encoded("RGB", "JPEG", restart_marker_blocks=1)
    for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"):
        yield encoded(mode, "PNG")
    for mode in ("RGB", "L", "I;16", "CMYK", "F"):
        yield encoded(mode, "TIFF")
    for compression in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg"):
        yield encoded("RGB", "TIFF", compression=compression)


def _files() -> Iterator[bytes]:
    yield from _message_files()
    yield encoded(
        "RGB",
        "JPEG",
        exif=bytes.fromhex("45786966000049492a000800000001001201030001000000060000000000"),
    )
    for mode in ("RGB", "L", "P"):
        for kind in ("GIF", "BMP", "WEBP"):
            yield encoded(mode, kind)
    for mode in ("RGB", "L", "1"):
        yield encoded(mode, "PPM")
    yield encoded("RGBA", "WEBP", lossless=True)
    yield b"P3\n2 2\n255\n" + b"1 2 3 " * 4
    second = _picture("L")
    file = io.BytesIO()
    _picture("P").save(file, "GIF", save_all=True, append_images=[second.convert("P")])
    yield file.getvalue()


@target(
    BadImage,
    seeds=lambda: (bytes([n % len(FORMATS)]) + d for n, d in enumerate(_message_files())),
)
def compressed(data: bytes) -> None:
    """sensor_msgs/CompressedImage."""
    name = FORMATS[data[0]] if data and data[0] < len(FORMATS) else data[:8].decode("latin1")
    message = SimpleNamespace(
        data=np.frombuffer(data[1:], np.uint8),
        format=name,
        header=SimpleNamespace(frame_id=""),
    )
    pixels = decode_compressed(message, PIXELS)
    height, width, channels = pixels.shape
    assert (channels, pixels.dtype) == (3, np.uint8)
    assert 0 < height * width <= PIXELS, pixels.shape


@target(BadImageFile, seeds=_files)
def file(data: bytes) -> None:
    """The content of an image file."""
    pixels = decode_file(data, PIXELS)
    height, width, channels = pixels.shape
    assert (channels, pixels.dtype) == (3, np.uint8)
    assert 0 < height * width <= PIXELS, pixels.shape


DEPTH_FORMATS = tuple(
    sorted({make(np.ones((2, 2), np.float32))[0] for make in COMPRESSED.values()})
)


def _compressed_depths() -> Iterator[bytes]:
    depth = np.linspace(0.3, 9, 12 * 16, dtype=np.float32).reshape(12, 16)
    depth[4:7, 3:9] = np.nan
    for make in COMPRESSED.values():
        form, data = make(depth)
        yield bytes([DEPTH_FORMATS.index(form)]) + data


@target(BadDepth, seeds=_compressed_depths)
def compressed_depth(data: bytes) -> None:
    """A CompressedImage with depth: PNG or RVL behind a header, or a PNG or TIFF."""
    first = data[0] if data else 0
    known = first < len(DEPTH_FORMATS)
    message = SimpleNamespace(
        data=np.frombuffer(data[1:], np.uint8),
        format=DEPTH_FORMATS[first] if known else data[:40].decode("latin1"),
    )
    metres = decode_depth(message, PIXELS)
    assert metres.dtype == np.float32
    assert metres.ndim == 2
    assert 0 < metres.size <= PIXELS, metres.shape
