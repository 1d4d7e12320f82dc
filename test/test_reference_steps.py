"""The steps of `reference: true` are those of the authors' code: each against numbers worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import timm
import torch

from zgs_ros.config import SegmenterSettings, make_settings
from zgs_ros.embedding.coverage import cover, pool
from zgs_ros.labeling.beams import Beams
from zgs_ros.labeling.steering import steer
from zgs_ros.labeling.zerocap import cut
from zgs_ros.oversegmentation.features import DinoFeatures
from zgs_ros.oversegmentation.refinement import place_on_pixels, stretch_to_pixels
from zgs_ros.resizing import resize_images
from zgs_ros.segmenter import Segmenter, load_segmenter
from zgs_ros.synthetic import render, sample_scene

CPU = torch.device("cpu")


def lanczos(t: float) -> float:
    """Lanczos' window of three lobes."""
    return float(np.sinc(t) * np.sinc(t / 3)) if abs(t) < 3 else 0.0


def test_lanczos_by_hand() -> None:
    """From four pixels to two, the window is twice as wide: places of the pixels are a half apart in it."""
    row = torch.tensor([0, 0, 255, 0], dtype=torch.uint8)
    image = row[None, :, None].expand(4, 4, 3)
    weights = np.array([lanczos(t) for t in (-0.25, 0.25, 0.75, 1.25)])
    weights /= weights.sum()  # 0.4642, 0.4642, 0.1409, -0.0693
    resized = resize_images([image], (2, 2), "lanczos")
    assert resized.shape == (1, 3, 2, 2)
    expected = np.round(255 * np.array([weights[2], weights[1]]))  # from the left, from the right
    assert (255 * resized[0, 0, 0]).round().tolist() == expected.tolist() == [36, 118]


def tiny_dino(reference: bool, stride: int = 4) -> DinoFeatures:
    torch.manual_seed(0)
    model = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=16, depth=1, num_heads=2
    )
    return DinoFeatures(model, 32, stride, reference=reference)


@pytest.mark.parametrize(
    ("height", "width", "theirs", "ours"),
    [
        (30, 40, (32, 42), (32, 44)),  # 32 * 40 / 30 = 42.67: cut, or the nearest 8 + 4 k
        (40, 30, (42, 32), (44, 32)),
        (24, 24, (32, 32), (32, 32)),
        (10, 100, (32, 96), (32, 96)),  # at most three times as long as high, in either way
    ],
)
def test_the_long_side_is_cut_to_whole_pixels(
    height: int, width: int, theirs: tuple[int, int], ours: tuple[int, int]
) -> None:
    image = torch.zeros(height, width, 3, dtype=torch.uint8)
    for reference, size in ((True, theirs), (False, ours)):
        dino = tiny_dino(reference)
        pixels = dino.resize([image])
        assert tuple(pixels.shape[2:]) == size
        assert dino(pixels).shape[1:3] == tuple((side - 8) // 4 + 1 for side in size)


def cubic(t: float, a: float = -0.75) -> float:
    """Keys' cubic convolution."""
    t = abs(t)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0


def test_positions_are_interpolated_as_dino_does_it() -> None:
    """Seven positions from four: the fourth lies at 3.5 * 4 / 7.1 - 0.5 = 1.472, not at 1.5."""
    dino = tiny_dino(reference=True)
    with torch.no_grad():
        dino.model.pos_embed.zero_()
        dino.model.pos_embed[0, 1:] = torch.tensor([1.0, 2.0, 4.0, 8.0]).repeat(4)[:, None]
        dino.model.cls_token.zero_()
    added = dino._add_positions(torch.zeros(1, 49, 16), 7, 7)[0, 1:, 0].view(7, 7)
    place = 3.5 * 4 / 7.1 - 0.5
    by_hand = sum(value * cubic(place - i) for i, value in enumerate((1.0, 2.0, 4.0, 8.0)))  # 2.68
    np.testing.assert_allclose(added[:, 3], [by_hand] * 7, rtol=1e-5)
    ours = tiny_dino(reference=False)
    ours.model.pos_embed = dino.model.pos_embed
    assert abs(float(ours._add_positions(torch.zeros(1, 49, 16), 7, 7)[0, 4, 0]) - by_hand) > 0.01


def test_unaries_are_stretched_by_the_nearest() -> None:
    """Three positions over eight pixels: pixel i has position 3 i / 8, rounded down."""
    positions = torch.tensor([[[10.0, 20.0, 30.0]]])
    stretched = stretch_to_pixels(positions, (2, 8))
    assert stretched[0].tolist() == [[10, 10, 10, 20, 20, 20, 30, 30]] * 2
    # Patches of 4 at stride 2 have their centres at 2, 4 and 6 of the 8 pixels.
    placed = place_on_pixels(positions, (2, 8), patch=4, stride=2)
    assert placed[0, 0].tolist() == [10, 10, 12.5, 17.5, 22.5, 27.5, 30, 30]


@pytest.mark.parametrize(
    ("mask", "theirs", "ours"),
    [
        ([1, 1, 0, 0, 0], [2 / 3, 0], [2 / 2.5, 0]),
        ([0, 0, 1, 0, 0], [1 / 3, 1 / 3], [0.5 / 2.5, 0.5 / 2.5]),
        ([1, 1, 1, 0, 0], [1, 1 / 3], [1, 0.5 / 2.5]),
    ],
)
def test_a_patch_takes_in_pixels_that_its_border_cuts(
    mask: Sequence[int], theirs: Sequence[float], ours: Sequence[float]
) -> None:
    """Five pixels, two patches: theirs are pixels 0 to 2 and 2 to 4, ours share the middle one."""
    masks = np.array([[mask]], bool)
    np.testing.assert_allclose(pool(masks, (1, 2))[0, 0], theirs, rtol=1e-6)
    np.testing.assert_allclose(cover(masks, (1, 2))[0, 0], ours, rtol=1e-6)


@pytest.fixture(scope="module")
def segmenters() -> dict[str, Segmenter]:
    """By clip.mode, in the size in which the mini DINO sees images; captions and CRF aside."""
    common = {"profile": "mini", "reference": True, "refinement.method": "none"}
    return {
        mode: load_segmenter(make_settings(SegmenterSettings, {**common, "clip.mode": mode}))
        for mode in ("global_subtraction", "crop")
    }


@pytest.mark.parametrize("mode", ["global_subtraction", "crop"])
@pytest.mark.parametrize("size", [(240, 320), (21, 40)])
def test_segments_have_the_pixels_that_dino_sees(
    segmenters: dict[str, Segmenter], mode: str, size: tuple[int, int]
) -> None:
    """Each pixel of 168 x 224 is one rectangle of the result, which still tiles the image."""
    image = render(sample_scene(5), *size).rgb
    found = segmenters[mode].segment(image)
    height, width = size
    seen = (168, int(168 * width / height))
    rows, columns = (
        np.arange(length) * given // length for length, given in zip(size, seen, strict=True)
    )
    assert found.label_map.shape == size
    assert set(np.unique(found.label_map)) == {segment.id for segment in found.segments}
    for lines, label_map in ((rows, found.label_map), (columns, found.label_map.T)):
        for before in np.flatnonzero(lines[1:] == lines[:-1]):
            assert np.array_equal(label_map[before], label_map[before + 1])
    assert np.array_equal(segmenters[mode].over_segment(image) > 0, np.ones(size, bool))


def test_beams_are_normalised_together() -> None:
    """Two beams go on, and a third has stopped: their shares are of 1 + 0.8 + 1."""
    beams = Beams(1, 3, 0, CPU)
    beams.grow(torch.tensor([[0.5, 0.3, 0.2]]).log())
    assert beams.written.tolist() == [[1], [2]]
    scores = torch.tensor([[0.5, 0.25, 0.25], [0.2, 0.2, 0.4]])
    together = beams.normalise_together(scores.log()).exp()
    np.testing.assert_allclose(together, scores / 2.8, rtol=1e-6)


def test_segments_are_normalised_apart() -> None:
    beams = Beams(2, 1, 0, CPU)
    scores = torch.tensor([[0.5, 0.3], [0.1, 0.1]])
    np.testing.assert_allclose(
        beams.normalise_together(scores.log()).exp(), [[0.625, 0.375], [0.5, 0.5]], rtol=1e-6
    )


def test_normalised_together_the_shorter_text_wins() -> None:
    """ "1" then the end token: sqrt(0.5 * 0.8) = 0.63 beats the end at once, 0.5; not so if 0.8 is halved."""
    first = torch.tensor([[0.5, 0.5, 0.0]])
    second = torch.tensor([[0.8, 0.1, 0.1]])
    likeliest = {}
    for together in (False, True):
        beams = Beams(1, 2, 0, CPU)
        beams.grow(first.log())
        scores = second.log()
        beams.grow(beams.normalise_together(scores) if together else scores)
        likeliest[together] = beams.texts()[0][0]
    assert likeliest == {False: [1], True: []}


@pytest.mark.parametrize(
    ("caption", "label"),
    [
        (" dog on a leash.", "dog on a leash"),
        (" Dog on a leash", "dog on a leas"),  # 15 tokens without an end: a letter is lost
        (" St. Bernard dog.", "st bernard dog"),
        (" a", "a"),  # never empty
        (".", "."),
    ],
)
def test_the_last_character_is_cut(caption: str, label: str) -> None:
    assert cut(caption) == label


def test_a_step_too_far_is_taken() -> None:
    """From 0.1 a step of 0.3 * 0.2^0.1 = 0.255 along the gradient of x^2 ends at -0.155."""
    context = [torch.tensor([[0.1]])]
    ends = [
        steer(lambda place: place[0], context, lambda x: x[:, 0] ** 2, 1, take_all)[0].item()
        for take_all in (True, False)
    ]
    assert ends == pytest.approx([0.1 - 0.3 * 0.2**0.1, 0.1])
