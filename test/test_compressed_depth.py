"""Compressed depth comes back as it was, and what is no depth is refused within bounds."""

from __future__ import annotations

import struct
import time
import tracemalloc
import zlib
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from depth_support import COMPRESSED, NO_SCALE, png, rvl

from zgs_ros.streaming.depth import BadDepth, decode_depth

random = np.random.default_rng(0)
DEPTH = np.linspace(0.4, 8.0, 24 * 32, dtype=np.float32).reshape(24, 32)
DEPTH[5:9, 3:20] = np.nan
DEPTH[0, :2], DEPTH[-1, -3:] = np.nan, np.nan


def message(form: str, data: bytes) -> Any:
    return SimpleNamespace(format=form, data=data)


@pytest.mark.parametrize("kind", COMPRESSED)
def test_depth_comes_back_as_it_was(kind: str) -> None:
    decoded = decode_depth(message(*COMPRESSED[kind](DEPTH)))
    known = np.isfinite(DEPTH)
    assert (decoded.dtype, decoded.shape) == (np.float32, DEPTH.shape)
    assert not (decoded[~known] > 0).any()
    # Inverse depth is quantised: by z^2 / A, A being 10100.
    steps = DEPTH[known] ** 2 / 10100 if kind.startswith("32FC1") else 0
    assert (np.abs(decoded[known] - DEPTH[known]) <= steps + 6e-4).all()


FROM_ITS_AUTHORS = "23d48c33f3ab8c1221f3ffbf996591ea10000091"


def test_what_the_authors_encoder_wrote_is_understood() -> None:
    """Written by compressed_depth_image_transport's RvlCodec."""
    values = [
        [0, 0, 0, 1200, 1201, 1199],
        [0, 65535, 1, 0, 0, 300],
        [0, 0, 0, 0, 0, 0],
        [7, 7, 7, 7, 7, 0],
    ]
    data = NO_SCALE + struct.pack("<II", 6, 4) + bytes.fromhex(FROM_ITS_AUTHORS)
    decoded = decode_depth(message("16UC1; compressedDepth rvl", data))
    assert np.round(decoded * 1000).astype(int).tolist() == values
    assert rvl(np.array(values, np.uint16))[8:] == bytes.fromhex(FROM_ITS_AUTHORS)


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((48, 64)),
        np.full((1, 1), 5),
        np.tile([0, 65535, 1, 65535, 65534, 0], (4, 10)),
        random.integers(0, 65536, (48, 64)),
        random.integers(0, 2, (48, 64)),
    ],
    ids=["nothing", "a pixel", "extremes", "noise", "specks"],
)
def test_rvl_holds_any_values(values: Any) -> None:
    data = NO_SCALE + rvl(values.astype(np.uint16))
    decoded = decode_depth(message("16UC1; compressedDepth rvl", data))
    assert np.array_equal(np.round(decoded * 1000), values)


def _rvl(width: int, height: int, *words: int) -> bytes:
    return NO_SCALE + struct.pack(f"<II{len(words)}I", width, height, *words)


def _bomb(width: int, height: int) -> bytes:
    """A PNG that says it is very large."""
    good = png(np.zeros((1, 1), np.uint16))
    head = b"IHDR" + struct.pack(">II", width, height) + good[24:29]
    return good[:12] + head + struct.pack(">I", zlib.crc32(head)) + good[33:]


RVL = "16UC1; compressedDepth rvl"
GOOD = rvl(random.integers(0, 3000, (24, 32)).astype(np.uint16))
NOISE = png(random.integers(0, 3000, (24, 32)).astype(np.uint16))
PNG = png(np.ones((24, 32), np.uint16))
REFUSED: dict[str, tuple[str, bytes, str]] = {
    "nothing": ("16UC1; compressedDepth png", b"", "is neither compressedDepth"),
    "text": ("16UC1; compressedDepth", b"no picture at all", "is neither compressedDepth"),
    "only a header": (RVL, NO_SCALE, "is broken"),
    "cut png": ("16UC1; compressedDepth png", NO_SCALE + NOISE[: len(NOISE) // 2], "is broken"),
    "cut rvl": (RVL, NO_SCALE + GOOD[:200], "of 768 pixels"),
    "rvl without pixels": (RVL, _rvl(32, 24), "ends after 0 of 768 pixels"),
    "rvl of no width": (RVL, _rvl(0, 24, 0), "width 0 must be at least 1"),
    "rvl too large": (RVL, _rvl(2**16, 2**16, 0), "at most 33554432 are accepted"),
    "rvl that goes nowhere": (RVL, _rvl(32, 24, *[0] * 100), "ends after 0 of 768 pixels"),
    "rvl with too many numbers": (RVL, _rvl(8, 8, *[0x11111111] * 50), "more numbers than 64"),
    "rvl past its size": (RVL, _rvl(2, 2, 0x71111111, 0x11000000), "more than the 4 pixels"),
    "rvl of a number without end": (RVL, _rvl(32, 24, *[0xFFFFFFFF] * 90), "ends after 0"),
    "png too large": ("16UC1; compressedDepth png", NO_SCALE + _bomb(30_000, 30_000), "accepted"),
    "bomb": ("16UC1; png compressed ", _bomb(2**31 - 1, 2**31 - 1), "accepted"),
    "colours": ("rgb8; png compressed", png(np.ones((4, 4, 3), np.uint8)), "picture of RGB"),
    "8 bits": ("mono8; png compressed", png(np.ones((4, 4), np.uint8)), "picture of L"),
    "jpeg": (
        "16UC1; jpeg compressed mono8",
        cv2.imencode(".jpg", np.ones((4, 4), np.uint8))[1].tobytes(),
        "is neither compressedDepth (png or rvl) nor a PNG or TIFF",
    ),
    "metres without scale": ("32FC1; png compressed", PNG, "without the header that tells"),
    "of another kind": (
        "8UC1; compressedDepth png",
        NO_SCALE + PNG,
        "has encoding '8UC1' (allowed: 16UC1, mono16, 32FC1)",
    ),
    "a format that is long": ("x" * 10**6, PNG[8:], "(1000000 characters)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_depth_is_refused_at_once(case: str) -> None:
    form, data, text = REFUSED[case]
    tracemalloc.start()
    began = time.monotonic()
    with pytest.raises(BadDepth) as caught:
        decode_depth(message(form, data))
    assert time.monotonic() - began < 5
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()
    assert str(caught.value).startswith("depth: data (")
    assert text in str(caught.value)
    assert len(str(caught.value)) < 600


def test_any_bytes_are_depth_or_refused() -> None:
    for start in (GOOD, PNG, COMPRESSED["tiff of metres"](DEPTH)[1]):
        for _ in range(60):
            data = bytearray(NO_SCALE + start)
            for at in random.integers(0, len(data), 4):
                data[at] = random.integers(0, 256)
            for form in (RVL, "32FC1; compressedDepth png", "16UC1; png compressed"):
                try:
                    decoded = decode_depth(message(form, bytes(data)), max_pixels=10_000)
                except BadDepth:
                    continue
                assert decoded.size <= 10_000
