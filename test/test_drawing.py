"""Overlays: same label same colour, smooth outlines, captions where they belong, and nothing that crashes."""

from __future__ import annotations

import math
import subprocess
import sys

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from zgs_ros.drawing import colour_of, draw_overlay, segment_colour
from zgs_ros.drawing.captions import Caption, find_anchor, place_captions
from zgs_ros.drawing.palette import palette
from zgs_ros.segmentation import Label, Roi, Segment, Segmentation


def segmentation_of(label_map: NDArray[np.uint16], labels: dict[int, str]) -> Segmentation:
    segments = []
    for number in sorted(labels):
        rows, columns = np.nonzero(label_map == number)
        left, top = int(columns.min()), int(rows.min())
        roi = Roi(left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1)
        names = (Label(labels[number], 0.3),) if labels[number] else ()
        centroid = (float(columns.mean()), float(rows.mean()))
        embedding = np.ones(1, np.float32)
        segments.append(Segment(number, names, roi, len(rows), centroid, embedding))
    return Segmentation(label_map, tuple(segments))


def halves(height: int, width: int, labels: tuple[str, str] = ("floor", "wall")) -> Segmentation:
    label_map = np.ones((height, width), np.uint16)
    label_map[:, width // 2 :] = 2
    return segmentation_of(label_map, dict(enumerate(labels, start=1)))


def scene(height: int = 480, width: int = 640, segments: int = 12, seed: int = 0) -> Segmentation:
    rng = np.random.default_rng(seed)
    label_map = np.ones((height, width), np.uint16)
    for number in range(2, segments + 1):
        centre = int(rng.uniform(0, width)), int(rng.uniform(0, height))
        axes = int(height * rng.uniform(0.01, 0.2)), int(height * rng.uniform(0.01, 0.2))
        cv2.ellipse(label_map, centre, axes, rng.uniform(0, 180), 0, 300, number, -1)
    present = [int(number) for number in np.unique(label_map)]
    return segmentation_of(label_map, {number: f"thing number {number}" for number in present})


def captions_of(segmentation: Segmentation, scale: float = 1.0) -> list[Caption]:
    colours = [segment_colour(segment) for segment in segmentation.segments]
    return place_captions(segmentation, colours, scale)


def grey(height: int, width: int, value: int = 128) -> NDArray[np.uint8]:
    return np.full((height, width, 3), value, np.uint8)


# Colours


def test_a_label_has_the_same_colour_in_another_process() -> None:
    labels = ["mug", "red mug", "Tür", ""]
    code = f"from zgs_ros.drawing import colour_of; print([colour_of(x) for x in {labels!r}])"
    elsewhere = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert elsewhere.stdout.strip() == str([colour_of(label) for label in labels])


def oklab(colour: tuple[int, int, int]) -> NDArray[np.float64]:
    """OKLab by another route than the palette's: over CIE XYZ."""
    encoded = np.array(colour) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750]]
    xyz = np.array([*to_xyz, [0.0193339, 0.1191920, 0.9503041]]) @ linear
    to_lms = [
        [0.8189330101, 0.3618667424, -0.1288597137],
        [0.0329845436, 0.9293118715, 0.0361456387],
    ]
    lms = np.cbrt(np.array([*to_lms, [0.0482003018, 0.2643662691, 0.6338517070]]) @ xyz)
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
    ]
    return np.array([*to_lab, [0.0259040371, 0.7827717662, -0.8086757660]]) @ lms


def test_the_colours_of_the_palette_can_be_told_apart() -> None:
    colours = np.array([oklab(colour) for colour in palette()])
    distances = np.linalg.norm(colours[:, None] - colours[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    just_noticeable = 0.02
    assert distances.min() > 1.5 * just_noticeable
    assert np.median(distances.min(axis=1)) > 2.5 * just_noticeable


def test_the_colours_of_the_palette_are_neither_dark_nor_pale_nor_grey() -> None:
    for colour in palette():
        lightness, a, b = oklab(colour)
        assert 0.5 < lightness < 0.88
        assert math.hypot(a, b) > 0.07


def test_labels_use_the_palette_evenly() -> None:
    used = [colour_of(f"thing {i}") for i in range(50 * len(palette()))]
    counts = [used.count(colour) for colour in palette()]
    assert min(counts) > 20
    assert max(counts) < 100


# Tint and outline


def test_a_segment_is_tinted_with_its_labels_colour() -> None:
    overlay = draw_overlay(grey(480, 640), halves(480, 640), opacity=0.5)
    for column, label in ((20, "floor"), (620, "wall")):
        expected = (np.array(colour_of(label)) + 128) / 2
        assert np.abs(overlay[20, column] - expected).max() <= 1


@pytest.mark.parametrize("opacity", [0.0, 1.0])
def test_opacity_goes_from_nothing_to_covering(opacity: float) -> None:
    image = grey(200, 200, 77)
    overlay = draw_overlay(image, halves(200, 200), opacity)
    assert tuple(overlay[10, 10]) == (colour_of("floor") if opacity else (77, 77, 77))


def test_pixels_of_no_segment_keep_the_image() -> None:
    label_map = np.zeros((200, 300), np.uint16)
    label_map[:, 200:] = 7
    image = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    overlay = draw_overlay(image, segmentation_of(label_map, {7: "x"}))
    assert np.array_equal(overlay[:, :190], image[:, :190])
    assert not np.array_equal(overlay[:, 210:], image[:, 210:])


def test_the_image_is_not_changed_even_where_nothing_is_drawn() -> None:
    image = grey(60, 60)
    image.flags.writeable = False
    nothing = Segmentation(np.zeros((60, 60), np.uint16), ())
    overlay = draw_overlay(image, nothing)
    assert np.array_equal(overlay, image)
    assert overlay.flags.writeable
    assert not np.shares_memory(overlay, image)
    draw_overlay(image, halves(60, 60))


@pytest.mark.parametrize("ground", [0, 128, 255])
def test_an_outline_is_bright_with_a_dark_casing_on_any_ground(ground: int) -> None:
    overlay = draw_overlay(grey(480, 640, ground), halves(480, 640, ("", "")), opacity=0.0)
    profile = overlay[100, 310:330].mean(axis=1)
    assert profile.max() > 160
    casing = min(profile[:9].min(), profile[11:].min())
    assert casing < 160 or ground == 0
    assert profile[0] == profile[-1] == ground


def test_an_outline_is_anti_aliased_and_follows_the_border() -> None:
    label_map = np.ones((480, 640), np.uint16)
    cv2.circle(label_map, (320, 240), 100, 2, -1)
    segmentation = segmentation_of(label_map, {1: "", 2: ""})
    overlay = draw_overlay(grey(480, 640, 0), segmentation, opacity=0.0)[..., 0].astype(float)
    y, x = np.mgrid[:480, :640]
    weights = overlay / overlay.sum()
    radius = (np.hypot(x - 320, y - 240) * weights).sum()
    assert radius == pytest.approx(100.25, abs=0.5)
    assert len(np.unique(overlay)) > 10


def test_the_edge_of_the_image_is_not_outlined() -> None:
    label_map = np.ones((100, 100), np.uint16)
    overlay = draw_overlay(grey(100, 100), segmentation_of(label_map, {1: ""}), opacity=0.0)
    assert (overlay == 128).all()


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (1, 300), (300, 1), (2, 3), (16, 16), (33, 1000), (2160, 3840)]
)
def test_an_image_of_any_size_can_be_drawn(height: int, width: int) -> None:
    label_map = np.ones((height, width), np.uint16)
    label_map[height // 2 :, width // 2 :] = 65535
    labels = {int(number): "something long to say" for number in np.unique(label_map)}
    overlay = draw_overlay(grey(height, width), segmentation_of(label_map, labels))
    assert overlay.shape == (height, width, 3)
    assert overlay.dtype == np.uint8


def test_hundreds_of_segments_can_be_drawn() -> None:
    label_map = np.repeat(
        np.repeat(np.arange(1, 769, dtype=np.uint16).reshape(24, 32), 20, 0), 20, 1
    )
    segmentation = segmentation_of(label_map, {i: f"tile {i}" for i in range(1, 769)})
    overlay = draw_overlay(grey(480, 640), segmentation, opacity=1.0)
    assert tuple(overlay[2, 2]) != tuple(overlay[2, 22])


@pytest.mark.parametrize(
    ("image", "opacity", "message"),
    [
        (np.zeros((10, 10), np.uint8), 0.5, r"uint8 \(20, 20, 3\).*got uint8 \(10, 10\)"),
        (np.zeros((10, 20, 3), np.uint8), 0.5, r"got uint8 \(10, 20, 3\)"),
        (np.zeros((20, 20, 3), np.float32), 0.5, "got float32"),
        (np.zeros((20, 20, 3), np.uint8), 1.5, "opacity must be within 0 .. 1, got 1.5"),
        (np.zeros((20, 20, 3), np.uint8), float("nan"), "got nan"),
    ],
)
def test_wrong_input_is_named(image: NDArray[np.uint8], opacity: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_overlay(image, halves(20, 20), opacity)


# Captions


def shape(name: str) -> NDArray[np.uint16]:
    canvas = np.zeros((240, 320), np.uint16)
    if name == "ring":
        cv2.circle(canvas, (160, 120), 100, 1, 20)
    elif name == "crescent":
        cv2.circle(canvas, (160, 120), 100, 1, -1)
        cv2.circle(canvas, (200, 120), 90, 0, -1)
    elif name == "corner":
        canvas[:, :20] = 1
        canvas[-20:, :] = 1
    elif name == "diagonal":
        cv2.line(canvas, (0, 0), (319, 239), 1, 3)
    elif name == "row":
        canvas[100] = 1
    elif name == "column":
        canvas[:, 319] = 1
    elif name == "pixel":
        canvas[239, 319] = 1
    elif name == "everything":
        canvas[:] = 1
    return canvas


@pytest.mark.parametrize(
    "name", ["ring", "crescent", "corner", "diagonal", "row", "column", "pixel", "everything"]
)
def test_an_anchor_lies_inside_its_segment(name: str) -> None:
    segmentation = segmentation_of(shape(name), {1: "x"})
    anchor = find_anchor(segmentation.label_map, segmentation.segments[0])
    assert segmentation.label_map[anchor.y, anchor.x] == 1
    assert all(segmentation.label_map[y, x] == 1 for x, y in anchor.others)


@pytest.mark.parametrize("size", [60, 240, 1080])
def test_an_anchor_is_the_centre_of_the_largest_circle_inside(size: int) -> None:
    label_map = np.ones((size, 2 * size), np.uint16)
    radius, x, y = size // 5, size // 2, size // 3
    cv2.circle(label_map, (x, y), radius, 2, -1)
    segmentation = segmentation_of(label_map, {1: "x", 2: "y"})
    anchor = find_anchor(label_map, segmentation.segments[1])
    tolerance = max(1.5, 0.06 * radius)
    assert (anchor.x, anchor.y) == pytest.approx((x, y), abs=tolerance)
    assert anchor.radius == pytest.approx(radius, abs=2 * tolerance)


def test_the_anchor_of_a_stripe_is_in_its_middle() -> None:
    label_map = np.zeros((100, 400), np.uint16)
    label_map[40:60] = 1
    segmentation = segmentation_of(label_map, {1: "x"})
    anchor = find_anchor(label_map, segmentation.segments[0])
    assert anchor.x == pytest.approx(200, abs=8)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("segments", [5, 12, 40])
def test_captions_neither_overlap_nor_leave_the_image(seed: int, segments: int) -> None:
    captions = captions_of(scene(segments=segments, seed=seed))
    covered = np.zeros((480, 640), int)
    for caption in captions:
        assert caption.x >= 0
        assert caption.y >= 0
        assert caption.x + caption.width <= 640
        assert caption.y + caption.height <= 480
        covered[caption.y : caption.y + caption.height, caption.x : caption.x + caption.width] += 1
    assert captions
    assert covered.max() == 1


def test_a_caption_stands_at_the_inner_centre() -> None:
    captions = {caption.text: caption for caption in captions_of(halves(480, 640))}
    for text, x in (("floor", 160), ("wall", 480)):
        caption = captions[text]
        assert caption.x + caption.width / 2 == pytest.approx(x, abs=6)
        assert caption.y + caption.height / 2 == pytest.approx(240, abs=6)
        assert caption.target is None


def test_a_small_segment_is_not_hidden_by_its_caption() -> None:
    label_map = np.ones((480, 640), np.uint16)
    label_map[300:316, 400:420] = 2
    captions = captions_of(segmentation_of(label_map, {1: "table", 2: "coffee mug"}))
    (caption,) = (caption for caption in captions if caption.text == "coffee mug")
    assert caption.target is not None
    assert label_map[caption.target[1], caption.target[0]] == 2
    under = label_map[caption.y : caption.y + caption.height, caption.x : caption.x + caption.width]
    assert (under != 2).all()


def test_tiny_and_nameless_segments_get_no_caption() -> None:
    label_map = np.ones((480, 640), np.uint16)
    label_map[10:13, 10:13] = 2
    label_map[200:400, 100:300] = 3
    captions = captions_of(segmentation_of(label_map, {1: "table", 2: "crumb", 3: ""}))
    assert [caption.text for caption in captions] == ["table"]


def test_the_larger_segment_keeps_its_place() -> None:
    label_map = np.ones((480, 640), np.uint16)
    cv2.circle(label_map, (320, 240), 100, 2, -1)
    cv2.circle(label_map, (320, 240), 32, 3, -1)
    labels = {1: "a wall", 2: "a large round table", 3: "a plate on the table"}
    captions = {
        caption.text: caption for caption in captions_of(segmentation_of(label_map, labels))
    }
    for number in (2, 3):
        caption = captions[labels[number]]
        if caption.target is None:
            centre = caption.y + caption.height // 2, caption.x + caption.width // 2
            assert label_map[centre] == number
    assert captions["a wall"].font_size >= captions["a plate on the table"].font_size


def test_text_grows_with_the_image() -> None:
    def height_of(size: int) -> int:
        label_map = np.ones((3 * size, 4 * size), np.uint16)
        scale = size / 160
        return captions_of(segmentation_of(label_map, {1: "floor"}), scale)[0].height

    assert height_of(320) == pytest.approx(2 * height_of(160), abs=1)


@pytest.mark.parametrize("ground", [0, 255])
def test_text_is_white_on_dark_on_any_ground(ground: int) -> None:
    segmentation = halves(480, 640)
    overlay = draw_overlay(grey(480, 640, ground), segmentation)
    for caption in captions_of(segmentation):
        inner = overlay[
            caption.y + 3 : caption.y + caption.height - 3,
            caption.x + caption.height // 2 : caption.x + caption.width - caption.height // 2,
        ].mean(axis=2)
        assert inner.max() > 240
        assert np.median(inner) < 130


@pytest.mark.parametrize(
    "text",
    [
        "Tür mit Griff",
        "コーヒーカップ",
        "قهوة",
        "🐈 cat",
        "half \ud800 surrogate",
        "two\nlines\tand a tab",
        "\x00\x1b[31m",
        "a" * 5000,
        "   ",
        "i",
    ],
)
def test_any_text_can_be_a_label(text: str) -> None:
    overlay = draw_overlay(grey(480, 640), halves(480, 640, (text, "wall")))
    assert overlay.shape == (480, 640, 3)
    for caption in captions_of(halves(480, 640, (text, "wall"))):
        assert caption.text.isprintable()
        assert caption.text.strip()


def test_drawing_is_deterministic() -> None:
    image = np.random.default_rng(1).integers(0, 256, (480, 640, 3), np.uint8)
    assert np.array_equal(draw_overlay(image, scene()), draw_overlay(image, scene()))
