"""Decoding of image messages: every encoding to hand-computed pixels, everything wrong to a clear error."""

from __future__ import annotations

import array
import io
import time
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from zgs_ros.streaming.images import (
    ENCODINGS,
    MAX_PIXELS,
    BadImage,
    check_image,
    decode,
    decode_compressed,
    decode_image,
)


@dataclass
class Raw:
    """The fields of sensor_msgs/Image that matter."""

    encoding: str
    width: int
    height: int
    step: int
    data: Any
    is_bigendian: int = 0


@dataclass
class Compressed:
    """The fields of sensor_msgs/CompressedImage that matter."""

    format: str
    data: Any


def image(encoding: str, width: int, height: int, values: bytes, **fields: Any) -> Raw:
    return Raw(encoding, width, height, len(values) // height, values, **fields)


RED, GREEN, BLUE = [255, 0, 0], [0, 255, 0], [0, 0, 255]

COLOURS = [
    ("rgb8", bytes([255, 0, 0, 0, 255, 0])),
    ("bgr8", bytes([0, 0, 255, 0, 255, 0])),
    ("rgba8", bytes([255, 0, 0, 9, 0, 255, 0, 9])),
    ("bgra8", bytes([0, 0, 255, 9, 0, 255, 0, 9])),
    ("8UC3", bytes([0, 0, 255, 0, 255, 0])),
    ("8UC4", bytes([0, 0, 255, 9, 0, 255, 0, 9])),
    ("rgb16", bytes([7, 255, 7, 0, 7, 0, 7, 0, 7, 255, 7, 0])),
    ("bgr16", bytes([7, 0, 7, 0, 7, 255, 7, 0, 7, 255, 7, 0])),
    ("16UC3", bytes([7, 0, 7, 0, 7, 255, 7, 0, 7, 255, 7, 0])),
    ("16UC4", bytes([7, 0, 7, 0, 7, 255, 7, 7, 7, 0, 7, 255, 7, 0, 7, 7])),
    ("rgba16", bytes([7, 255, 7, 0, 7, 0, 7, 7, 7, 0, 7, 255, 7, 0, 7, 7])),
    ("bgra16", bytes([7, 0, 7, 0, 7, 255, 7, 7, 7, 0, 7, 255, 7, 0, 7, 7])),
]


@pytest.mark.parametrize(("encoding", "values"), COLOURS, ids=[row[0] for row in COLOURS])
def test_colour_encodings_become_rgb(encoding: str, values: bytes) -> None:
    assert decode_image(image(encoding, 2, 1, values)).tolist() == [[RED, GREEN]]


GREYS = [
    ("mono8", bytes([0, 200]), 0, [0, 200]),
    ("8UC1", bytes([1, 255]), 0, [1, 255]),
    ("mono16", bytes([0xFF, 0x12, 0x00, 0x80]), 0, [0x12, 0x80]),
    ("mono16", bytes([0x12, 0xFF, 0x80, 0x00]), 1, [0x12, 0x80]),
    ("16UC1", bytes([0xFF, 0x12, 0x00, 0x80]), 0, [0x12, 0x80]),
    ("16UC1", bytes([0x12, 0xFF, 0x80, 0x00]), 1, [0x12, 0x80]),
    ("mono8", bytes([0, 200]), 1, [0, 200]),
]


@pytest.mark.parametrize(("encoding", "values", "big", "greys"), GREYS)
def test_grey_encodings_keep_the_upper_byte_in_either_byte_order(
    encoding: str, values: bytes, big: int, greys: list[int]
) -> None:
    rgb = decode_image(image(encoding, 2, 1, values, is_bigendian=big))
    assert rgb.tolist() == [[[grey] * 3 for grey in greys]]


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(
    ("pattern", "red_at", "blue_at"),
    [
        ("rggb", (0, 0), (1, 1)),
        ("bggr", (1, 1), (0, 0)),
        ("gbrg", (1, 0), (0, 1)),
        ("grbg", (0, 1), (1, 0)),
    ],
)
def test_bayer_mosaics_become_the_colour_of_the_scene(
    pattern: str, red_at: tuple[int, int], blue_at: tuple[int, int], bits: int
) -> None:
    mosaic = np.full((6, 6), 100, np.uint8)  # green everywhere, then red and blue on top
    mosaic[red_at[0] :: 2, red_at[1] :: 2] = 200
    mosaic[blue_at[0] :: 2, blue_at[1] :: 2] = 50
    values = mosaic if bits == 8 else mosaic.astype("<u2") << 8
    rgb = decode_image(image(f"bayer_{pattern}{bits}", 6, 6, values.tobytes()))
    assert (rgb == [200, 100, 50]).all()


YUV = [
    ("yuv422", [128, 82, 128, 82]),
    ("uyvy", [128, 82, 128, 82]),
    ("yuv422_yuy2", [82, 128, 82, 128]),
    ("yuyv", [82, 128, 82, 128]),
]


@pytest.mark.parametrize(("encoding", "values"), YUV)
def test_yuv_pairs_without_chroma_become_grey(encoding: str, values: list[int]) -> None:
    grey = round((82 - 16) * 255 / 219)  # video range, BT.601
    rgb = decode_image(image(encoding, 2, 1, bytes(values)))
    assert np.abs(rgb.astype(int) - grey).max() <= 1


@pytest.mark.parametrize(
    ("encoding", "values"),
    [("uyvy", [90, 81, 240, 81]), ("yuyv", [81, 90, 81, 240])],
)
def test_yuv_chroma_becomes_red(encoding: str, values: list[int]) -> None:
    rgb = decode_image(image(encoding, 2, 1, bytes(values)))  # 81, 90, 240 is pure red in BT.601
    assert np.abs(rgb.astype(int) - RED).max() <= 2


@pytest.mark.parametrize(
    ("encoding", "chroma"),
    [("nv21", [240, 90]), ("nv12", [90, 240]), ("nv24", [90, 240] * 4)],
)
def test_semi_planar_encodings_have_their_colours_below_the_image(
    encoding: str, chroma: list[int]
) -> None:
    message = Raw(encoding, 2, 2, 2, bytes([81] * 4 + chroma))
    assert np.abs(decode_image(message).astype(int) - RED).max() <= 2


def test_nv24_has_a_colour_for_every_pixel() -> None:
    luma = [81, 145, 41, 235]  # red, green, blue and white in BT.601
    chroma = [90, 240, 54, 34, 240, 110, 128, 128]
    rgb = decode_image(Raw("nv24", 4, 1, 4, bytes(luma + chroma))).astype(int)
    assert np.abs(rgb - [[RED, GREEN, BLUE, [255, 255, 255]]]).max() <= 2


@pytest.mark.parametrize("encoding", [e for e in ENCODINGS if e != "nv21"])
def test_padding_at_the_end_of_rows_is_ignored(encoding: str) -> None:
    plain = decode_image(_any(encoding, padding=0))
    padded = decode_image(_any(encoding, padding=3))
    assert plain.shape == (4, 6, 3)
    assert np.array_equal(plain, padded)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_listed_encoding_is_decoded_to_contiguous_rgb(encoding: str) -> None:
    rgb = decode_image(_any(encoding))
    assert rgb.shape == (4, 6, 3)
    assert rgb.dtype == np.uint8
    assert rgb.flags.c_contiguous


def _any(encoding: str, padding: int = 0) -> Raw:
    channels = {
        "rgb": 3,
        "bgr": 3,
        "rgba": 4,
        "bgra": 4,
        "8UC3": 3,
        "16UC3": 3,
        "8UC4": 4,
        "16UC4": 4,
    }
    name = encoding if "UC" in encoding else encoding.rstrip("0123456789")
    wide = 2 if "16" in encoding else 1
    count = 2 if encoding[:3] in ("yuv", "uyv", "yuy") else channels.get(name, 1)
    row = 6 * count * wide
    rows = {"nv12": 6, "nv21": 6, "nv24": 12}.get(encoding, 4)
    pixels = np.random.default_rng(3).integers(0, 256, (rows, row), np.uint8)
    padded = np.hstack([pixels, np.full((rows, padding), 99, np.uint8)])
    return Raw(encoding, 6, 4, row + padding, padded.tobytes())


@pytest.mark.parametrize(
    "buffer",
    [
        bytes,
        bytearray,
        memoryview,
        lambda b: array.array("B", b),
        lambda b: np.frombuffer(b, np.uint8),
    ],
    ids=["bytes", "bytearray", "memoryview", "array.array", "numpy"],
)
def test_any_buffer_holds_the_data(buffer: Any) -> None:
    message = image("rgb8", 2, 1, bytes([255, 0, 0, 0, 255, 0]))
    assert decode_image(replace(message, data=buffer(message.data))).tolist() == [[RED, GREEN]]


def test_an_rgb8_image_is_not_copied() -> None:
    data = np.zeros(12, np.uint8)
    assert np.shares_memory(decode_image(Raw("rgb8", 2, 2, 6, data)), data)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 7), (7680, 4320)])
def test_any_usual_size_is_accepted(width: int, height: int) -> None:
    message = Raw("mono8", width, height, width, np.zeros(width * height, np.uint8))
    assert decode_image(message).shape == (height, width, 3)


GOOD = image("rgb8", 4, 2, bytes(24))

BAD = [
    ({"encoding": "rgb9"}, ["encoding 'rgb9'", "allowed: ", "bgr8", "mono16"]),
    ({"encoding": ""}, ["encoding ''", "allowed: "]),
    ({"encoding": "32FC1"}, ["encoding '32FC1'", "allowed: "]),
    ({"width": 0}, ["width 0", "at least 1"]),
    ({"height": 0, "data": b""}, ["height 0", "at least 1"]),
    ({"step": 11, "data": bytes(22)}, ["step 11", "width 4", "'rgb8'", "at least 12"]),
    ({"step": 0, "data": b""}, ["step 0", "at least 12"]),
    ({"data": bytes(23)}, ["data has 23 bytes", "step 12", "24 bytes"]),
    ({"data": bytes(25)}, ["data has 25 bytes", "24 bytes"]),
    ({"data": b""}, ["data has 0 bytes", "24 bytes"]),
    ({"height": 3}, ["data has 24 bytes", "height 3", "36 bytes"]),
    ({"step": 2**32 - 1}, ["data has 24 bytes", "step 4294967295"]),
    ({"width": 2**32 - 1, "height": 2**32 - 1}, ["width 4294967295", str(MAX_PIXELS)]),
    ({"encoding": "yuyv", "width": 3, "step": 12}, ["width 3", "multiple of 2", "'yuyv'"]),
    ({"encoding": "nv21", "width": 4, "height": 3, "step": 4}, ["height 3", "multiple of 2"]),
    ({"encoding": "nv21", "step": 4}, ["data has 24 bytes", "3 rows of step 4 are 12 bytes"]),
    ({"encoding": "bayer_rggb8", "height": 2}, ["height 2", "at least 3", "'bayer_rggb8'"]),
]


@pytest.mark.parametrize(("changes", "texts"), BAD, ids=[str(list(row[0].items())) for row in BAD])
def test_a_bad_field_is_named_with_its_value_and_what_is_allowed(
    changes: dict[str, Any], texts: list[str]
) -> None:
    message = replace(GOOD, **changes)
    for check in (decode_image, check_image):
        with pytest.raises(BadImage) as caught:
            check(message)
        for text in texts:
            assert text in str(caught.value)


def test_a_good_image_passes_the_check() -> None:
    check_image(GOOD)


def encoded(pixels: np.ndarray, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Pillow.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


SCENE = np.dstack([np.full((8, 16), value, np.uint8) for value in (200, 100, 50)])
JPEG, PNG = encoded(SCENE, "JPEG", quality=95), encoded(SCENE, "PNG")


@pytest.mark.parametrize(
    ("format", "data"),
    [
        ("jpeg", JPEG),
        ("jpg", JPEG),
        ("rgb8; jpeg compressed bgr8", JPEG),
        ("", JPEG),
        ("png", PNG),
        ("bgr8; png compressed bgr8", PNG),
        ("png", encoded(np.dstack([SCENE, np.full((8, 16), 3, np.uint8)]), "PNG")),
    ],
)
def test_compressed_images_become_rgb(format: str, data: bytes) -> None:
    rgb = decode_compressed(Compressed(format, np.frombuffer(data, np.uint8)))
    assert rgb.shape == (8, 16, 3)
    assert np.abs(rgb.astype(int) - [200, 100, 50]).max() <= 3


@pytest.mark.parametrize(
    ("pixels", "grey"),
    [(np.full((8, 16), 77, np.uint8), 77), (np.full((8, 16), 77 << 8, np.uint16), 77)],
)
def test_compressed_grey_images_become_rgb(pixels: np.ndarray, grey: int) -> None:
    rgb = decode_compressed(Compressed("mono16; png compressed ", encoded(pixels, "PNG")))
    assert (rgb == grey).all()
    assert rgb.shape == (8, 16, 3)


def test_a_compressed_mosaic_gets_its_colours() -> None:
    mosaic = np.full((6, 6), 100, np.uint8)
    mosaic[::2, ::2] = 200
    mosaic[1::2, 1::2] = 50
    message = Compressed("bayer_rggb8; png compressed ", encoded(mosaic, "PNG"))
    assert (decode_compressed(message) == [200, 100, 50]).all()


_NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
NOISE_JPEG, NOISE_PNG = encoded(_NOISE, "JPEG"), encoded(_NOISE, "PNG")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "is not an image"),
        (b"hello, this is no picture", "is not an image (allowed: JPEG, PNG, TIFF)"),
        (NOISE_JPEG[: len(NOISE_JPEG) // 2], "is broken"),
        (NOISE_JPEG[:100], "is broken"),
        (NOISE_PNG[: len(NOISE_PNG) // 2], "is broken"),
        (encoded(SCENE, "BMP"), "is not an image"),
        (b"\0" * 12 + PNG, "is not an image"),
    ],
    ids=["empty", "text", "half a JPEG", "a JPEG's head", "half a PNG", "BMP", "compressedDepth"],
)
def test_broken_compressed_data_is_rejected(data: bytes, text: str) -> None:
    with pytest.raises(BadImage) as caught:
        decode_compressed(Compressed("jpeg", data))
    assert text in str(caught.value)
    assert f"data ({len(data)} bytes, format 'jpeg')" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "size", "text"),
    [
        ("PNG", (2**12, 2**13 + 1), "33558528 pixels, at most 33554432 are accepted"),
        ("PNG", (1, 2**22), "has a side above 32768 pixels"),
        ("PNG", (2**22, 1), "has a side above 32768 pixels"),
        ("PNG", (2**14, 2**14), "at most 33554432 pixels are accepted"),  # Pillow's own limit
        ("TIFF", (2**13, 2**13), "67108864 pixels, at most 33554432 are accepted"),
    ],
)
def test_a_compressed_image_that_would_fill_the_memory_is_not_decoded(
    kind: str, size: tuple[int, int], text: str
) -> None:
    stream = io.BytesIO()
    Pillow.new("1", size).save(stream, kind)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(BadImage, match=text):
            decode_compressed(Compressed("png", stream.getvalue()))


@pytest.mark.parametrize(
    ("max_pixels", "shape"),
    [(2400, (40, 60, 3)), (2399, (20, 30, 3)), (600, (20, 30, 3)), (160, (10, 15, 3))],
)
def test_a_jpeg_with_too_many_pixels_is_made_smaller(
    max_pixels: int, shape: tuple[int, int, int]
) -> None:
    jpeg = encoded(np.full((40, 60, 3), 90, np.uint8), "JPEG")
    rgb = decode_compressed(Compressed("jpeg", jpeg), max_pixels)
    assert rgb.shape == shape
    assert np.abs(rgb.astype(int) - 90).max() <= 2
    mosaic = encoded(np.full((40, 60), 90, np.uint8), "JPEG")
    if max_pixels < 2400:  # of which a smaller one would be grey
        with pytest.raises(BadImage, match=f"at most {max_pixels} are accepted"):
            decode_compressed(Compressed("bayer_rggb8; jpeg compressed ", mosaic), max_pixels)
    with pytest.raises(BadImage, match="at most 20 are accepted"):
        decode_compressed(Compressed("jpeg", jpeg), 20)


def test_a_progressive_jpeg_with_endless_passes_is_not_decoded() -> None:
    jpeg = encoded(np.full((1024, 1024), 128, np.uint8), "JPEG", progressive=True)
    last = jpeg.rindex(b"\xff\xda")
    assert decode_compressed(Compressed("jpeg", jpeg)).shape == (1024, 1024, 3)
    endless = jpeg[:-2] + jpeg[last:-2] * 2000 + jpeg[-2:]
    began = time.monotonic()
    with pytest.raises(BadImage, match=r"passes is too much work to decode \(at most 536870912"):
        decode_compressed(Compressed("jpeg", endless))
    assert time.monotonic() - began < 0.5


def test_a_compressed_tiff_is_decoded_as_image_transport_writes_it() -> None:
    rgb = decode_compressed(Compressed("bgr8; tiff compressed bgr8", encoded(SCENE, "TIFF")))
    assert rgb.tolist() == SCENE.tolist()
    deep = encoded(np.full((8, 16), 77 << 8, np.uint16), "TIFF")
    assert (decode_compressed(Compressed("mono16; tiff compressed ", deep)) == 77).all()


LONG = "\x1b[31m" + "x" * 3_000_000


@dataclass
class Header:
    """The field of std_msgs/Header that matters."""

    frame_id: str


@dataclass
class Stamped(Raw):
    """A message with its header."""

    header: Any = None


@pytest.mark.parametrize(
    "message",
    [
        replace(GOOD, encoding=LONG),
        Compressed(LONG, b"no picture"),
        Compressed(LONG, JPEG[:200]),
        Stamped("rgb8", 4, 2, 12, bytes(24), header=Header(LONG)),
    ],
    ids=["encoding", "format", "format of a broken one", "frame_id"],
)
def test_giant_texts_are_not_repeated(message: Any) -> None:
    with pytest.raises(BadImage) as caught:
        decode(message)
    assert len(str(caught.value)) < 1000
    assert str(caught.value).isprintable()


def test_decode_tells_raw_from_compressed() -> None:
    assert decode(GOOD).shape == (2, 4, 3)
    assert decode(Compressed("png", PNG)).shape == (8, 16, 3)
