"""Which sizes of images are accepted, and encoded images opened within them, before they are decoded."""

from __future__ import annotations

import io
import warnings

from PIL import Image as Pillow

MAX_PIXELS = 2**25
"""Largest image by default: an 8K frame. A broken or hostile header must not exhaust the memory."""

MAX_SIDE = 2**15
"""Longest side: between two steps of resizing an image is as long as before, and as wide as after."""

MAX_SCANNED = 2**29
"""Pixels times passes over them that a JPEG may ask of its decoder: about two seconds of work.

A progressive JPEG comes in passes, of which a few bytes each are enough to ask for thousands."""

_START_OF_SCAN = b"\xff\xda"
_JPEGS = ("JPEG", "MPO")


class TooLarge(ValueError):
    """An image whose size is not accepted; the message names the limit."""


def check_size(width: int, height: int, max_pixels: int = MAX_PIXELS) -> None:
    """Refuses sizes that no image can have, or that would take too much memory.

    Raises:
        TooLarge: Naming the size and the limit.
    """
    for name, value in (("width", width), ("height", height)):
        if value < 1:
            raise TooLarge(f"{name} {value} must be at least 1")
    if width * height > max_pixels:
        raise TooLarge(
            f"width {width} x height {height} is {width * height} pixels, at most {max_pixels} are "
            "accepted (setting max_pixels); scale the image down before"
        )
    if max(width, height) > MAX_SIDE:
        raise TooLarge(
            f"width {width} x height {height} has a side above {MAX_SIDE} pixels; cut the image into "
            "parts, or scale it down before"
        )


def open_picture(
    data: bytes | memoryview,
    formats: tuple[str, ...],
    max_pixels: int = MAX_PIXELS,
    *,
    reduce: bool = True,
) -> Pillow.Image:
    """Reads the head of an encoded image; its pixels are decoded when they are asked for.

    A JPEG with too many pixels is decoded at half, a quarter or an eighth of its size, which takes
    no more memory than the result.

    Args:
        data: File content.
        formats: Pillow's names of what it may be.
        max_pixels: Of the result.
        reduce: Whether JPEGs may be made smaller.

    Raises:
        TooLarge: If its size is not accepted, or decoding it would take too long.
        Exception: Whatever Pillow raises for what is no image.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sizes, which are looked at below
        try:
            picture = Pillow.open(io.BytesIO(data), formats=formats)
        except Pillow.DecompressionBombError as error:
            raise TooLarge(f"{error}; at most {max_pixels} pixels are accepted") from None
    width, height = picture.size
    if picture.format in _JPEGS:
        # Within a scan these bytes don't occur; elsewhere, as in a thumbnail, there are few of them.
        passes = max(1, bytes(data).count(_START_OF_SCAN))
        if width * height * passes > MAX_SCANNED:
            raise TooLarge(
                f"width {width} x height {height} in {passes} passes is too much work to decode "
                f"(at most {MAX_SCANNED} pixels times passes); save it smaller, or not progressive"
            )
        parts = (part for part in (1, 2, 4, 8) if width * height <= max_pixels * part**2)
        if reduce and (part := next(parts, 1)) > 1:
            picture.draft("", (width // part, height // part))
    check_size(*picture.size, max_pixels)
    return picture
