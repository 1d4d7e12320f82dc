"""The whole pipeline on real images: what holds whatever the models have learnt."""

from __future__ import annotations

import gc
import weakref

import cv2
import numpy as np
import pytest
import torch

from zgs_ros.config import SegmenterSettings, make_settings
from zgs_ros.segmentation import Segmentation
from zgs_ros.segmenter import Segmenter, load_segmenter
from zgs_ros.synthetic import render, sample_scene


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return load_segmenter(make_settings(SegmenterSettings, {"profile": "mini", "device": "cpu"}))


def scene(seed: int, height: int = 120, width: int = 160) -> np.ndarray:
    return render(sample_scene(2_000_000_000 + seed, aspect=width / height), height, width).rgb


def assert_consistent(segmentation: Segmentation, size: tuple[int, int]) -> None:
    """Segments tile the image, and say of themselves what their pixels say."""
    assert segmentation.size == size
    assert segmentation.label_map.min() >= 1
    assert [s.id for s in segmentation.segments] == list(range(1, len(segmentation.segments) + 1))
    areas = [segment.area for segment in segmentation.segments]
    assert areas == sorted(areas, reverse=True)
    assert sum(areas) == size[0] * size[1]
    for segment in segmentation.segments:
        rows, columns = np.nonzero(segmentation.mask(segment.id))
        assert segment.area == len(rows)
        assert (segment.roi.x, segment.roi.y) == (columns.min(), rows.min())
        assert segment.roi.width == np.ptp(columns) + 1
        assert segment.roi.height == np.ptp(rows) + 1
        assert segment.centroid == pytest.approx((columns.mean(), rows.mean()))
        assert np.linalg.norm(segment.embedding) == pytest.approx(1.0, abs=1e-5)
        scores = [label.score for label in segment.labels]
        assert scores == sorted(scores, reverse=True)
        assert len({label.text for label in segment.labels}) == len(scores) == 5


def test_a_scene_is_tiled_by_named_segments(segmenter: Segmenter) -> None:
    result = segmenter.segment(scene(0))
    assert_consistent(result, (120, 160))
    assert result.model == "zgs-mini-clip"
    assert list(result.stage_times) == [
        "features", "encoding", "clustering", "refinement", "embedding", "labeling", "merging",
    ]  # fmt: skip


def test_the_same_image_gives_the_same_result(segmenter: Segmenter) -> None:
    first, second = segmenter.segment(scene(1)), segmenter.segment(scene(1))
    assert np.array_equal(first.label_map, second.label_map)
    assert first.to_dict(embeddings=True)["segments"] == second.to_dict(embeddings=True)["segments"]


def test_images_of_a_batch_give_what_they_give_alone(segmenter: Segmenter) -> None:
    images = [scene(2), scene(3, 90, 90), scene(4)]
    for image, together in zip(images, segmenter.segment_batch(images), strict=True):
        alone = segmenter.segment(image)
        assert (together.label_map == alone.label_map).mean() > 0.999  # rounding may move a border
        assert [s.label for s in together.segments] == [s.label for s in alone.segments]
    assert segmenter.segment_batch([]) == []


@pytest.mark.parametrize("components", [True, False])
@pytest.mark.parametrize("size", [(48, 64), (120, 160), (240, 320)])
def test_no_segment_is_smaller_than_the_smallest_area(
    size: tuple[int, int], components: bool
) -> None:
    """Neither whole nor, where parts stand alone, in any of its parts, merged or not."""
    options = {"profile": "mini", "device": "cpu", "refinement.components": components}
    share = 0.002
    for merging in (True, False):
        found = load_segmenter(
            make_settings(
                SegmenterSettings,
                {**options, "merging.enabled": merging, "refinement.min_area": share},
            )
        )
        for seed in range(20, 28):
            result = found.segment(scene(seed, *size))
            assert_consistent(result, size)
            for segment in result.segments:
                smallest = segment.area
                if components:
                    mask = result.mask(segment.id).astype(np.uint8)
                    _, _, boxes, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
                    smallest = boxes[1:, cv2.CC_STAT_AREA].min()
                assert smallest >= share * size[0] * size[1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
@pytest.mark.parametrize("cuda_graphs", [False, True])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_gpu_gives_what_the_cpu_gives_and_is_left_empty(
    segmenter: Segmenter, precision: str, cuda_graphs: bool, caplog: pytest.LogCaptureFixture
) -> None:
    options = {
        "profile": "mini", "device": "cuda", "precision": precision, "cuda_graphs": cuda_graphs
    }  # fmt: skip
    left = []
    for _ in range(2):  # what libraries keep for themselves they take but once
        on_gpu = load_segmenter(make_settings(SegmenterSettings, options))
        for first in (0, 2, 4):  # computed, captured, and replayed
            images = [scene(first), scene(first + 1)]
            assert_same_but_for_rounding(on_gpu, segmenter, images)
        on_gpu.close()
        left.append(torch.cuda.memory_allocated())
    assert left[0] == left[1]
    assert "can't be captured" not in caplog.text


@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_what_is_closed_is_gone_at_once(cuda_graphs: bool) -> None:
    """And not only when Python looks for objects that hold each other."""
    segmenter = load_segmenter(
        make_settings(SegmenterSettings, {"profile": "mini", "cuda_graphs": cuda_graphs})
    )
    segmenter.segment(scene(0))
    models = [weakref.ref(segmenter._dino), weakref.ref(segmenter._clip)]
    gc.disable()
    try:
        segmenter.close()
        assert [model() for model in models] == [None, None]
    finally:
        gc.enable()


def assert_same_but_for_rounding(
    found: Segmenter, expected: Segmenter, images: list[np.ndarray]
) -> None:
    """A segment near a threshold may split or merge otherwise; most of the picture may not."""
    for image, together in zip(images, found.segment_batch(images), strict=True):
        assert_consistent(together, image.shape[:2])
        alone = expected.segment(image)
        names = [
            np.array(["", *(s.label for s in result.segments)])[result.label_map]
            for result in (together, alone)
        ]
        assert (names[0] == names[1]).mean() > 0.9
        masks = np.stack([alone.mask(segment.id) for segment in alone.segments])
        for ours, theirs in zip(
            found.describe_masks(image, masks), expected.describe_masks(image, masks), strict=True
        ):
            assert ours.embedding @ theirs.embedding > 0.999


def test_half_precision_gives_what_single_precision_gives(segmenter: Segmenter) -> None:
    options = {"profile": "mini", "device": "cpu", "precision": "float16"}
    half = load_segmenter(make_settings(SegmenterSettings, options))
    assert_same_but_for_rounding(half, segmenter, [scene(0), scene(1), scene(6)])


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (200, 30, 30)])
def test_one_flat_colour_is_one_segment(segmenter: Segmenter, colour: tuple[int, int, int]) -> None:
    result = segmenter.segment(np.full((60, 80, 3), colour, np.uint8))
    assert len(result.segments) == 1
    assert_consistent(result, (60, 80))


@pytest.mark.parametrize(("contrast", "flat"), [(2, True), (3, False), (30, False)])
@pytest.mark.parametrize("channel", [0, 1, 2])
def test_from_a_contrast_of_three_on_there_is_something_to_see(
    segmenter: Segmenter, contrast: int, flat: bool, channel: int
) -> None:
    """Two halves; up to two steps of a camera's values they are one flat surface."""
    image = np.full((120, 160, 3), 100, np.uint8)
    image[:, 80:, channel] += contrast
    assert (len(np.unique(segmenter.over_segment(image))) == 1) == flat


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 2), (17, 33), (2160, 3840)])
def test_any_size_is_segmented(segmenter: Segmenter, size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    assert_consistent(segmenter.segment(image), size)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused(segmenter: Segmenter, image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="must be uint8 RGB"):
        segmenter.segment(image)


def test_without_merging_there_are_at_least_as_many_segments() -> None:
    options = {"profile": "mini", "device": "cpu", "merging.enabled": False}
    image = scene(5)
    plain = load_segmenter(make_settings(SegmenterSettings, options))
    merging = load_segmenter(
        make_settings(
            SegmenterSettings, {**options, "merging.enabled": True, "merging.threshold": -1.0}
        )
    )
    assert len(plain.segment(image).segments) > 1
    assert len(merging.segment(image).segments) == 1


def test_a_union_is_embedded_anew(segmenter: Segmenter) -> None:
    """What merging reports of a segment is what its mask gives, described by itself."""
    options = {"profile": "mini", "device": "cpu", "merging.threshold": 0.3}
    image = scene(5)
    merged = load_segmenter(make_settings(SegmenterSettings, options)).segment(image)
    plain = {**options, "merging.enabled": False}
    assert len(merged.segments) < len(
        load_segmenter(make_settings(SegmenterSettings, plain)).segment(image).segments
    )
    masks = np.stack([merged.mask(segment.id) for segment in merged.segments])
    for segment, description in zip(
        merged.segments, segmenter.describe_masks(image, masks), strict=True
    ):
        np.testing.assert_allclose(segment.embedding, description.embedding, atol=1e-5)
        assert segment.labels[0].text == description.labels[0].text


def test_the_greedy_pass_leaves_no_similar_segments() -> None:
    options = {"profile": "mini", "device": "cpu", "merging.threshold": 0.3, "merging.greedy": True}
    segmenter = load_segmenter(make_settings(SegmenterSettings, options))
    result = segmenter.segment(scene(5))
    assert_consistent(result, (120, 160))
    texts = np.stack(
        [segmenter.embed_text(f"Image of a {segment.label}.") for segment in result.segments]
    )
    similar = 0.5 * (result.embeddings @ result.embeddings.T + texts @ texts.T)
    np.fill_diagonal(similar, -1.0)
    assert similar.max() < 0.3


@pytest.mark.parametrize("mode", ["global_subtraction", "mask", "dense", "crop"])
def test_masks_that_miss_the_image_have_an_embedding_and_a_name(mode: str) -> None:
    options = {"profile": "mini", "device": "cpu", "clip.mode": mode}
    segmenter = load_segmenter(make_settings(SegmenterSettings, options))
    nowhere = np.zeros((2, 120, 160), bool)
    for found in segmenter.describe_masks(scene(0), nowhere):
        assert np.linalg.norm(found.embedding) == pytest.approx(1.0, abs=1e-5)
        assert found.labels
    with pytest.raises(ValueError, match=r"masks \(60, 80\) do not fit an image of \(120, 160\)"):
        segmenter.describe_masks(scene(0), nowhere[:, ::2, ::2])


def test_texts_and_segments_share_a_space(segmenter: Segmenter) -> None:
    text = segmenter.embed_text("Image of a red car.")
    assert text.shape == segmenter.segment(scene(6)).embeddings.shape[1:]
    assert np.linalg.norm(text) == pytest.approx(1.0, abs=1e-5)
