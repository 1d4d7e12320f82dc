"""Hostile messages, one kind after the other as a seed decides: what a robot's network may carry."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

import cv2
import numpy as np

from zgs_ros.streaming import messages
from zgs_ros.streaming.messages import MessageFactory

ENCODINGS = (
    *("rgb8", "bgr8", "rgba8", "bgra8", "mono8", "mono16", "rgb16", "bgra16", "8UC1", "8UC3"),
    *(
        "16UC1",
        "16UC3",
        "bayer_rggb8",
        "bayer_gbrg16",
        "uyvy",
        "yuyv",
        "yuv422_yuy2",
        "nv21",
        "nv24",
    ),
)
ODD_TEXTS = (
    *("", "RGB8", "rgb8\0x", "64FC4", "jpeg", "../../etc/passwd", "%s%n", "rgb8 ", "mono1"),
    *(
        "\x1b[2J\x1b]0;title\x07",
        "<img src=x onerror=alert(1)>",
        "\u202e8bgr",
        "\u2028",
        "😀" * 100,
    ),
    "a" * 60_000,
)
ODD_STAMPS = (0, 1, -(10**9), (2**31 - 1) * 10**9, -(2**31) * 10**9)
WIDTHS, HEIGHTS = (1, 16, 40, 64), (1, 12, 30, 48)
"""Of images that are wrong in something else. Not any: libraries prepare for each size that they see, which
takes memory once."""
SIZES = (0, 1, 2**16, 8193, 2**31 - 1, 2**31, 2**32 - 1)


class Hostile:
    """Makes them.

    Args:
        factory: Makes messages.
        seed: Decides all of them.
    """

    def __init__(self, factory: MessageFactory, seed: int) -> None:
        self._factory = factory
        self._random = Random(seed)

    def image(self, stamp_ns: int) -> Any:
        """A sensor_msgs/Image that is wrong in one way, or right and odd."""
        choice = self._random.choice
        width, height = choice(WIDTHS), choice(HEIGHTS)
        fields = {
            "no size": lambda: {"width": 0, "height": choice((0, height)), "data": b""},
            "giant": lambda: {"width": choice(SIZES), "height": choice(SIZES)},
            "step": lambda: {"step": choice((0, 1, width * 3 - 1, 2**31, 2**32 - 1))},
            "length": lambda: {"data": bytes(choice((0, 1, width, width * height * 3 + 1)))},
            "encoding": lambda: {"encoding": choice(ODD_TEXTS)},
            "other encoding": lambda: {"encoding": choice(ENCODINGS)},
            "flat": lambda: {"data": bytes([self._random.randrange(256)]) * (width * height * 3)},
            "big endian": lambda: {"is_bigendian": choice((1, 255)), "encoding": "mono16"},
            "frame": lambda: {"header": self._header(stamp_ns, choice(ODD_TEXTS))},
            "stamp": lambda: {"header": self._header(choice(ODD_STAMPS), "camera")},
        }
        return self._image(stamp_ns, width, height, self._one_of(fields))

    def compressed_image(self, stamp_ns: int) -> Any:
        """A sensor_msgs/CompressedImage that is wrong in one way, or right and odd."""
        choice, below = self._random.choice, self._random.randrange
        good = self._encoded(choice((".jpg", ".png")))
        pixels = zlib.compress(bytes(below(2000)))
        data = {
            "cut": lambda: good[: below(len(good))],
            "mutated": lambda: self._mutated(good, 0, len(good)),
            "random": lambda: self._random.randbytes(below(3000)),
            "giant header": lambda: _png(choice(SIZES[1:]), choice(SIZES[1:]), 8, 2, pixels),
            "odd header": lambda: _png(4, 4, choice((0, 1, 3, 16, 255)), below(8), pixels),
            "bomb": lambda: _png(1, 2**16, 8, 2, zlib.compress(bytes(2**20))),
            "text bomb": lambda: _png(4, 4, 8, 2, pixels, b"zTXt", zlib.compress(bytes(5_000_000))),
            "other format": lambda: choice(
                (b"GIF89a", b"BM", b"II*\0", b"P6 9 9 255\n", b"<svg/>")
            ),
            "twice": lambda: good + good,
            "good": lambda: good,
        }
        return self._factory.create(
            "sensor_msgs/msg/CompressedImage",
            header=self._header(stamp_ns, "camera"),
            format=choice(("jpeg", "png", "rgb8; jpeg compressed bgr8", *ODD_TEXTS)),
            data=self._octets(self._one_of(data)),
        )

    def depth(self, stamp_ns: int) -> Any:
        """A depth image with values, a size or an encoding that no camera should send."""
        choice = self._random.choice
        width, height = choice(((64, 48), (64, 20), (1, 1)))
        values = np.random.default_rng(self._random.randrange(2**32)).random((height, width)) * 5
        floats = values.astype(np.float32)
        odd = choice((np.nan, np.inf, -np.inf, -1.0, 0.0, 1e38, 1e-45))
        fields = {
            "constant": lambda: {"data": np.full_like(floats, odd).tobytes()},
            "holes": lambda: {"data": np.where(values > 2, odd, floats).tobytes()},
            "bits": lambda: {"data": self._random.randbytes(floats.nbytes)},
            "encoding": lambda: {"encoding": choice(ODD_TEXTS)},
            "step": lambda: {"step": choice((0, 1, width * 4 - 1, 2**32 - 1))},
            "giant": lambda: {"width": choice(SIZES), "height": choice(SIZES)},
            "stamp": lambda: {"header": self._header(choice(ODD_STAMPS), "camera")},
        }
        given = {"encoding": "32FC1", "step": width * 4, "data": floats.tobytes()}
        return self._image(stamp_ns, width, height, {**given, **self._one_of(fields)})

    def camera_info(self, stamp_ns: int) -> Any:
        """A calibration that is none."""
        choice = self._random.choice
        numbers = (np.nan, np.inf, -np.inf, 0.0, 1.0, -5.0, 1e308, 1e-308)
        good = np.array([300.0, 0, 160, 0, 300, 120, 0, 0, 1])
        fields = {
            "matrix": lambda: {"k": np.array([choice(numbers) for _ in range(9)])},
            "coefficients": lambda: {"d": np.full(choice((1, 3, 6, 7, 9, 100)), 0.1)},
            "values": lambda: {"d": np.full(5, choice(numbers))},
            "model": lambda: {"distortion_model": choice((*ODD_TEXTS, "equidistant"))},
            "size": lambda: {"width": choice(SIZES), "height": choice(SIZES)},
            "stamp": lambda: {"header": self._header(choice(ODD_STAMPS), "camera")},
        }
        region = self._factory.create(
            "sensor_msgs/msg/RegionOfInterest",
            x_offset=choice((0, 2**32 - 1)),
            y_offset=0,
            height=choice((0, 1)),
            width=0,
            do_rectify=bool(self._random.randrange(2)),
        )
        given = {
            "header": self._header(stamp_ns, "camera"),
            "height": 240,
            "width": 320,
            "distortion_model": "plumb_bob",
            "d": np.zeros(5),
            "k": good,
            "r": np.eye(3).reshape(9),
            "p": np.zeros(12),
            "binning_x": choice((0, 1, 2**32 - 1)),
            "binning_y": 0,
            "roi": region,
        }
        return self._factory.create(
            "sensor_msgs/msg/CameraInfo", **{**given, **self._one_of(fields)}
        )

    def text(self) -> str:
        """What somebody may ask for: words, control characters, and far too much of both."""
        words = {
            "word": lambda: self._random.choice(("a mug", "something to sit on", "red box")),
            "odd": lambda: self._random.choice(ODD_TEXTS[2:]),
            "one long word": lambda: "".join(self._random.choices("abcdefghij", k=64_000)),
            "many words": lambda: "something to sit on " * 20_000,
        }
        return str(self._one_of(words))

    def cdr(self, good: bytes) -> bytes:
        """What was a serialised message: cut, mutated, or with lengths that lie."""
        choice, below = self._random.choice, self._random.randrange
        length = struct.pack("<I", choice((0, 2**16, 2**30, 2**31 - 1, 2**31, 2**32 - 1)))
        place = 4 * below(1, min(16, len(good) // 4))
        data = {
            "random": lambda: self._random.randbytes(below(4000)),
            "random body": lambda: good[:4] + self._random.randbytes(below(4000)),
            "cut": lambda: good[: below(len(good))],
            "longer": lambda: good + self._random.randbytes(below(1, 2000)),
            "length": lambda: good[:place] + length + good[place + 4 :],
            "mutated": lambda: self._mutated(good, 0, len(good)),
            "mutated head": lambda: self._mutated(good, 4, min(64, len(good))),
            "encapsulation": lambda: bytes([0, choice((0, 2, 3, 6, 9, 11, 255))]) + good[2:],
            "no end of text": lambda: good.replace(b"\0", b"X", 8),
            "no text": lambda: good[:16] + b"\xff\xfe\xf0\0" + good[20:],
        }
        return bytes(self._one_of(data))

    def _one_of(self, choices: dict[str, Callable[[], Any]]) -> Any:
        return choices[self._random.choice(list(choices))]()

    def _mutated(self, data: bytes, start: int, end: int) -> bytes:
        changed = bytearray(data)
        for _ in range(self._random.randrange(1, 12)):
            changed[self._random.randrange(start, end)] = self._random.randrange(256)
        return bytes(changed)

    def _encoded(self, ending: str) -> bytes:
        pixels = np.frombuffer(self._random.randbytes(48 * 64 * 3), np.uint8).reshape(48, 64, 3)
        return bytes(cv2.imencode(ending, pixels)[1])

    def _header(self, stamp_ns: int, frame_id: str) -> Any:
        return messages.header(self._factory, stamp_ns, frame_id)

    def _octets(self, data: bytes) -> Any:
        return self._factory.octets(np.frombuffer(data, np.uint8))

    def _image(self, stamp_ns: int, width: int, height: int, fields: dict[str, Any]) -> Any:
        given = {
            "header": self._header(stamp_ns, "camera"),
            "height": height,
            "width": width,
            "encoding": "rgb8",
            "is_bigendian": 0,
            "step": 3 * width,
            "data": self._random.randbytes(3 * width * height),
            **fields,
        }
        given["data"] = self._octets(given["data"])
        return self._factory.create("sensor_msgs/msg/Image", **given)


def _png(width: int, height: int, depth: int, colour: int, data: bytes, *more: bytes) -> bytes:
    """A PNG whose parts need not fit each other; `more` is a further chunk's name and text."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
    if more:
        chunks.insert(1, (more[0], b"a\0\0" + more[1]))
    parts = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
