"""Captions: the names of segments, where they can be read and drawn to look good."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from zgs_ros.drawing.palette import Colour, shade
from zgs_ros.segmentation import Segment, Segmentation

FONT_SIZE = 15.0
"""Pixels per em of the largest captions in a 640x480 image."""
_SHRINK = (1.0, 0.87, 0.75)
_SMALLEST_FONT = 10.0
_LONGEST_TEXT = 32
_SMALLEST_RADIUS = 2.5
"""Segments whose largest inner circle is smaller (in a 640x480 image) get no caption."""
_MOST_HIDDEN = 0.5
"""A caption that would hide a larger share of its segment stands beside it."""
_LONGEST_LEADER = 2.5
"""Heights of a caption that it may be away from its segment's anchor."""
_MOST_CAPTIONS = 64
_GAP = 2
_SEARCH_SIZE = 96
_OTHER_PLACES = 48
_FINE = 3


@dataclass(frozen=True)
class Anchor:
    """Where a segment is widest.

    Attributes:
        x: Column of the pole of inaccessibility [pixels].
        y: Its row [pixels].
        radius: Distance from there to the nearest pixel outside the segment or the image [pixels].
        others: int (n, 2), further columns and rows well inside the segment, nearest first.
    """

    x: int
    y: int
    radius: float
    others: NDArray[np.int_]


@dataclass(frozen=True)
class Caption:
    """A caption in its place.

    Attributes:
        text: What it says.
        x: Left column of its box.
        y: Top row of its box.
        width: Of the box [pixels].
        height: Of the box [pixels].
        font_size: Pixels per em.
        colour: Of its segment.
        target: (x, y) of the segment's anchor if the caption stands beside the segment, else None.
    """

    text: str
    x: int
    y: int
    width: int
    height: int
    font_size: float
    colour: Colour
    target: tuple[int, int] | None = None


def draw_captions(
    overlay: NDArray[np.uint8], segmentation: Segmentation, colours: Sequence[Colour], scale: float
) -> None:
    """Draws the segments' labels onto an overlay, in place."""
    captions = place_captions(segmentation, colours, scale)
    for caption in captions:
        if caption.target is not None:
            _draw_leader(overlay, caption, scale)
    for caption in captions:
        _draw_pill(overlay, caption)


def place_captions(
    segmentation: Segmentation, colours: Sequence[Colour], scale: float
) -> list[Caption]:
    """Finds a free place for every caption, the largest segments first.

    A caption stands at its segment's anchor. Where that is taken it moves within the segment, then
    shrinks; the caption of a segment that it would hide stands beside the segment. What still has
    no place, or belongs to a tiny segment, is left out.

    Args:
        segmentation: Segments of one image.
        colours: One per segment.
        scale: Size of text, 1 for a 640x480 image.
    """
    height, width = segmentation.size
    taken = np.zeros((height, width), np.bool_)
    captions = []
    order = sorted(range(len(colours)), key=lambda i: (-segmentation.segments[i].area, i))
    for i in order[:_MOST_CAPTIONS]:
        segment = segmentation.segments[i]
        text = _printable(segment.label)
        if not text:
            continue
        caption = _place(text, segment, colours[i], segmentation.label_map, taken, scale)
        if caption is not None:
            captions.append(caption)
            rows = slice(max(caption.y - _GAP, 0), caption.y + caption.height + _GAP)
            taken[rows, max(caption.x - _GAP, 0) : caption.x + caption.width + _GAP] = True
    return captions


def find_anchor(label_map: NDArray[np.uint16], segment: Segment) -> Anchor:
    """The pole of inaccessibility of a segment: the centre of the largest circle inside it.

    It lies inside the segment whatever its shape. Of the points that are about as good, as along a
    stripe, it is the one nearest to the centroid. Large segments are searched on a coarser grid.
    """
    roi = segment.roi
    step = max(1, -(-max(roi.width, roi.height) // _SEARCH_SIZE))
    left, top = roi.x + step // 2, roi.y + step // 2
    if (
        roi.width <= step // 2 or roi.height <= step // 2
    ):  # a stripe so thin that the grid could miss it
        left, top, step = roi.x, roi.y, 1
    mask = label_map[top : roi.y + roi.height : step, left : roi.x + roi.width : step] == segment.id
    # The frame of zeros makes the image's edge a border too: a caption needs room on both sides.
    framed = np.pad(mask.view(np.uint8), 1)
    depth = cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_5)[1:-1, 1:-1]
    radius = float(depth.max(initial=0.0))
    rows, columns = np.nonzero(depth >= max(0.5 * radius, 1e-3))
    if len(rows) == 0:
        return Anchor(segment.roi.x, segment.roi.y, 0.0, np.zeros((0, 2), np.int_))
    points = np.stack([left + step * columns, top + step * rows], axis=1)  # (points, 2)
    good = np.flatnonzero(depth[rows, columns] >= 0.95 * radius)
    pole = good[np.argmin(np.linalg.norm(points[good] - segment.centroid, axis=1))]
    order = np.argsort(np.linalg.norm(points - points[pole], axis=1), kind="stable")
    others = order[1 :: max(1, len(order) // _OTHER_PLACES)]
    return Anchor(int(points[pole, 0]), int(points[pole, 1]), radius * step, points[others])


def _place(
    text: str,
    segment: Segment,
    colour: Colour,
    label_map: NDArray[np.uint16],
    taken: NDArray[np.bool_],
    scale: float,
) -> Caption | None:
    anchor = find_anchor(label_map, segment)
    if anchor.radius < _SMALLEST_RADIUS * scale:
        return None
    image_height, image_width = taken.shape
    for shrink in _SHRINK:
        font_size = max(_SMALLEST_FONT, FONT_SIZE * scale * shrink)
        width, height = _pill_size(text, font_size)
        if width > image_width or height > image_height:
            continue
        rows = slice(max(anchor.y - height // 2, 0), anchor.y + height // 2)
        columns = slice(max(anchor.x - width // 2, 0), anchor.x + width // 2)
        hidden = np.count_nonzero(label_map[rows, columns] == segment.id)
        beside = hidden > _MOST_HIDDEN * segment.area
        centres = _beside(anchor, segment, width, height, scale) if beside else _inside(anchor)
        for x, y in centres:
            left = min(max(x - width // 2, 0), image_width - width)
            upper = min(max(y - height // 2, 0), image_height - height)
            if not taken[upper : upper + height, left : left + width].any():
                target = (anchor.x, anchor.y) if beside else None
                return Caption(text, left, upper, width, height, font_size, colour, target)
    return None


def _inside(anchor: Anchor) -> Iterator[tuple[int, int]]:
    yield anchor.x, anchor.y
    yield from ((int(x), int(y)) for x, y in anchor.others)


def _beside(
    anchor: Anchor, segment: Segment, width: int, height: int, scale: float
) -> Iterator[tuple[int, int]]:
    """Centres above, below, right and left of a segment, leaving room for a leader."""
    gap = round(6 * scale)
    roi = segment.roi
    across, along = (height + 1) // 2 + gap, (width + 1) // 2 + gap
    above, below = roi.y - across, roi.y + roi.height + across
    right, left = roi.x + roi.width + along, roi.x - along
    shifts = (0, width // 3, -(width // 3))
    centres = [(anchor.x + shift, y) for shift in shifts for y in (above, below)]
    shifts = (0, height // 2, -(height // 2))
    centres += [(x, anchor.y + shift) for shift in shifts for x in (right, left)]
    for x, y in centres:
        off_x, off_y = abs(x - anchor.x) - width / 2, abs(y - anchor.y) - height / 2
        if max(off_x, off_y) <= _LONGEST_LEADER * height:
            yield x, y


def _printable(text: str) -> str:
    """One line without control characters, half surrogates or endless length."""
    text = " ".join(text.encode("utf-8", "replace").decode("utf-8").split())
    text = "".join(character for character in text if character.isprintable())
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1].rstrip() + "…"


@functools.lru_cache(maxsize=64)
def _font(size: float) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("captions need Pillow with FreeType: pip install 'pillow>=10.1'")
    return font


@functools.lru_cache(maxsize=512)
def _pill_size(text: str, font_size: float) -> tuple[int, int]:
    length = _font(_FINE * font_size).getlength(text) / _FINE
    return round(length + 1.1 * font_size), round(1.45 * font_size)


@functools.lru_cache(maxsize=512)
def _pill(
    text: str, font_size: float, colour: Colour
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A pill with text, as (colour times coverage, what remains of the background)."""
    width, height = _pill_size(text, font_size)
    # Drawn larger and reduced: a font's own hinting makes small letters and gaps uneven.
    letters = Image.new("L", (_FINE * width, _FINE * height))
    draw = ImageDraw.Draw(letters)
    centre = _FINE * width / 2, _FINE * height / 2
    draw.text(centre, text, fill=255, font=_font(_FINE * font_size), anchor="mm")
    ink = np.asarray(letters.reduce(_FINE), np.float32)[..., None] / 255.0  # (height, width, 1)
    # Signed distance to the edge of a capsule, which gives it an anti-aliased edge at any size.
    y, x = np.mgrid[0:height, 0:width] + 0.5
    radius = height / 2
    off_axis = np.maximum(np.abs(x - width / 2) - (width / 2 - radius), 0.0)
    inside = radius - np.hypot(off_axis, y - radius)
    shape = inside.clip(0.0, 1.0)[..., None].astype(np.float32)
    rim_width = max(1.0, font_size / 14)
    rim = shape * (rim_width + 0.5 - inside).clip(0.0, 1.0)[..., None].astype(np.float32)
    ground = np.array(shade(colour, 0.25), np.float32)
    fill = ground + (np.array(colour, np.float32) - ground) * rim
    coverage = np.maximum(shape * (0.78 + 0.22 * rim), ink)
    return (fill * (1 - ink) + 255.0 * ink) * coverage, 1.0 - coverage


def _draw_pill(overlay: NDArray[np.uint8], caption: Caption) -> None:
    paint, remainder = _pill(caption.text, caption.font_size, caption.colour)
    box = overlay[caption.y : caption.y + caption.height, caption.x : caption.x + caption.width]
    box[:] = np.rint(paint + box * remainder)


def _draw_leader(overlay: NDArray[np.uint8], caption: Caption, scale: float) -> None:
    """A thin line with a dot from a caption to the segment that it names."""
    assert caption.target is not None
    x, y = caption.target
    start = (
        min(
            max(x, caption.x + caption.height // 2), caption.x + caption.width - caption.height // 2
        ),
        min(max(y, caption.y + caption.height // 2), caption.y + caption.height // 2),
    )
    dark = shade(caption.colour, 0.25)
    thickness, dot = max(1, round(scale)), 2.4 * max(scale, 1.0)
    for colour, extra in ((dark, 1), (caption.colour, 0)):
        cv2.line(overlay, start, (x, y), colour, thickness + 2 * extra, cv2.LINE_AA)
        radius = round(16 * (dot + extra))
        cv2.circle(overlay, (16 * x, 16 * y), radius, colour, -1, cv2.LINE_AA, shift=4)
