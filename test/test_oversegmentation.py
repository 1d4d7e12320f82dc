"""Over-segmentation: features, the segment tree, and borders that follow the image."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from zgs_ros.oversegmentation.components import drop_small, split_components
from zgs_ros.oversegmentation.features import DinoFeatures
from zgs_ros.oversegmentation.grid_attention import Grid, run_block
from zgs_ros.oversegmentation.refinement import (
    _best,
    _best_at_once,
    decide_pixels,
    fit_maps,
    guided_filter,
    place_on_pixels,
    soft_assignment,
)
from zgs_ros.oversegmentation.tree import Node, SegmentTree, build_tree


def tiny_vit(**options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model(
        "vit_tiny_patch16_224",
        img_size=32,
        patch_size=8,
        embed_dim=24,
        depth=2,
        num_heads=3,
        num_classes=0,
        **options,
    )


def random_image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def random_frame(height: int, width: int) -> torch.Tensor:
    return torch.from_numpy(random_image(height, width))


# Features


@pytest.mark.parametrize(
    ("size", "seen", "grid"),
    [
        (
            (480, 640),
            (32, 44),
            (7, 10),
        ),  # (32 - 8) / 4 + 1 = 7; 44 is 42.7 rounded to whole strides
        ((640, 480), (44, 32), (10, 7)),
        ((1, 1), (32, 32), (7, 7)),
        ((2000, 10), (96, 32), (23, 7)),  # longer than 3 : 1 is squashed
    ],
)
def test_the_short_side_decides_the_grid(
    size: tuple[int, int], seen: tuple[int, int], grid: tuple[int, int]
) -> None:
    dino = DinoFeatures(tiny_vit(), short_side=32, stride=4)
    pixels = dino.resize([random_frame(*size)])
    assert tuple(pixels.shape[-2:]) == seen
    features = dino(pixels)
    assert tuple(features.shape) == (1, *grid, 24)
    torch.testing.assert_close(features.norm(dim=-1), torch.ones(1, *grid))


def test_features_are_the_keys_of_the_last_block() -> None:
    """At the model's own size and stride nothing is interpolated: timm's forward gives the same keys."""
    model = tiny_vit().eval()
    dino = DinoFeatures(model, short_side=32, stride=8)
    pixels = dino.resize([random_frame(32, 32)])
    seen: list[torch.Tensor] = []
    hook = model.blocks[-1].attn.qkv.register_forward_hook(
        lambda _, __, output: seen.append(output)
    )
    with torch.inference_mode():
        model((pixels - dino.mean) / dino.std)
    hook.remove()
    keys = torch.nn.functional.normalize(seen[0][0, 1:, 24:48], dim=-1)
    torch.testing.assert_close(dino(pixels)[0].reshape(16, 24), keys, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [{"class_token": False, "global_pool": "avg"}, {"reg_tokens": 4}, {"no_embed_class": True}],
)
def test_models_with_other_prefix_tokens(options: dict[str, object]) -> None:
    dino = DinoFeatures(tiny_vit(**options), short_side=32, stride=4)
    assert tuple(dino(dino.resize([random_frame(32, 32)])).shape) == (1, 7, 7, 24)


@pytest.mark.parametrize("stride", [2, 3, 4, 8])
def test_attention_to_a_grid_is_attention_without_the_other_patches(stride: int) -> None:
    """Held against timm's block, and against attention to all in which the others weigh nothing."""
    block = tiny_vit(reg_tokens=2).blocks[0].eval()
    tokens = 3 + 7 * 10
    states = torch.randn(2, tokens, 24)
    everyone = torch.arange(tokens)
    unbiased = Grid(everyone, torch.zeros(1, 1, 1, tokens))
    torch.testing.assert_close(run_block(block, states, unbiased), block(states))
    grid = Grid.of(states, 7, 10, patch=8, stride=stride)
    bias = torch.full((1, 1, 1, tokens), -torch.inf)
    bias[..., grid.tokens] = grid.bias
    expected = run_block(block, states, Grid(everyone, bias))
    torch.testing.assert_close(run_block(block, states, grid), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("stride", "same"), [(2, False), (4, False), (8, True)])
def test_a_grid_changes_features_only_where_patches_overlap(stride: int, same: bool) -> None:
    model, pixels = tiny_vit(), torch.rand(2, 3, 32, 44)
    grid, everyone = (DinoFeatures(model, 32, stride, kind)(pixels) for kind in ("grid", "all"))
    assert torch.equal(grid, everyone) == same
    torch.testing.assert_close(grid, everyone, rtol=0.0, atol=0.2)


@pytest.mark.parametrize(
    ("rows", "columns", "stride", "attended"),
    [
        (7, 7, 4, [0, 2, 4, 6]),  # every second
        (4, 4, 8, [0, 1, 2, 3]),  # nothing overlaps
        (10, 10, 3, [0, 2, 4, 7, 9]),  # 27 pixels apart: the fewest that leave no gap are 5
        (1, 1, 4, [0]),
    ],
)
def test_the_grid_covers_the_image_with_the_fewest_patches(
    rows: int, columns: int, stride: int, attended: list[int]
) -> None:
    grid = Grid.of(torch.empty(1, 5 + rows * columns, 4), rows, columns, 8, stride)
    expected = [5 + row * columns + column for row in attended for column in attended]
    assert grid.tokens.tolist() == [0, 1, 2, 3, 4, *expected]
    weights = grid.bias.exp().flatten()
    assert weights[:5].tolist() == [1.0] * 5
    assert float(weights[5:].sum()) == pytest.approx(rows * columns, rel=1e-5)


def test_where_all_patches_are_alike_the_grid_stands_for_all() -> None:
    model = tiny_vit()
    torch.nn.init.zeros_(model.pos_embed)
    pixels = torch.full((1, 3, 32, 44), 0.3)
    features = [DinoFeatures(model, 32, 4, kind)(pixels) for kind in ("grid", "all")]
    torch.testing.assert_close(*features, rtol=1e-4, atol=1e-5)


def test_a_grid_needs_plain_blocks() -> None:
    with pytest.raises(ValueError, match=r"dino\.attention: grid"):
        DinoFeatures(tiny_vit(qk_norm=True), 32, 4, "grid")


def test_images_of_a_batch_do_not_influence_each_other() -> None:
    dino = DinoFeatures(tiny_vit(), short_side=32, stride=4)
    images = [random_frame(40, 40), torch.zeros(40, 40, 3, dtype=torch.uint8)]
    together = dino(dino.resize(images))
    torch.testing.assert_close(together[1], dino(dino.resize(images[1:]))[0], rtol=1e-4, atol=1e-5)


def test_position_embeddings_are_kept_per_size_but_not_in_training() -> None:
    model = tiny_vit()
    sizes = [torch.rand(1, 3, 32, width) for width in (32, 44, 32, 56, 44)]
    dino = DinoFeatures(model, short_side=32, stride=4).eval()
    for pixels in sizes:
        fresh = DinoFeatures(model, short_side=32, stride=4).eval()
        torch.testing.assert_close(dino(pixels), fresh(pixels))
    student = DinoFeatures(model, short_side=32, stride=4).train()
    model.pos_embed.requires_grad_(True)
    before = student.keys(sizes[1])
    before.sum().backward()
    assert model.pos_embed.grad.abs().sum() > 0
    with torch.no_grad():
        model.pos_embed += torch.randn_like(model.pos_embed)
        assert not torch.allclose(student.keys(sizes[1]), before)


@pytest.mark.parametrize(("stride", "short_side"), [(9, 32), (4, 4)])
def test_impossible_strides_are_named(stride: int, short_side: int) -> None:
    with pytest.raises(ValueError, match=f"dino.stride: {stride}"):
        DinoFeatures(tiny_vit(), short_side=short_side, stride=stride)


def test_models_without_positions_are_refused() -> None:
    with pytest.raises(ValueError, match="ResNet is not a ViT"):
        DinoFeatures(timm.create_model("resnet10t", num_classes=0))


# The segment tree


def blocks_of_features(noise: float = 0.02) -> torch.Tensor:
    """(8, 8, 6) features: four quadrants of clearly different directions, the lower two alike."""
    centres = torch.tensor(
        [[1.0, 0, 0, 0, 0, 0], [0, 1.0, 0, 0, 0, 0], [0, 0, 1.0, 0, 0, 0], [0, 0, 1.0, 0.35, 0, 0]]
    )
    quadrant = (torch.arange(8)[:, None] // 4) * 2 + torch.arange(8)[None] // 4
    features = centres[quadrant] + noise * torch.randn(
        8, 8, 6, generator=torch.Generator().manual_seed(0)
    )
    return torch.nn.functional.normalize(features, dim=-1)


@pytest.mark.parametrize("groups", [0, 32])
def test_what_differs_is_split_and_what_is_alike_stays(groups: int) -> None:
    # cos of the lower quadrants is 1 / sqrt(1 + 0.35^2) = 0.944: split below 0.95, kept below 0.9
    fine = build_tree(blocks_of_features(), groups, splits=10, threshold=0.95)
    coarse = build_tree(blocks_of_features(), groups, splits=10, threshold=0.9)
    assert [len(leaf.positions) for leaf in fine.leaves] == [16, 16, 16, 16]
    assert sorted(len(leaf.positions) for leaf in coarse.leaves) == [16, 16, 32]


@pytest.mark.parametrize("groups", [0, 32])
def test_leaves_tile_the_image_and_heap_ids_form_a_tree(groups: int) -> None:
    features = torch.nn.functional.normalize(
        torch.randn(9, 11, 8, generator=torch.Generator().manual_seed(2)), dim=-1
    )
    tree = build_tree(features, groups, splits=7)
    positions = np.sort(np.concatenate([leaf.positions for leaf in tree.leaves]))
    assert positions.tolist() == list(range(99))
    assert 2 <= len(tree.leaves) <= 8
    for number, node in tree.nodes.items():
        assert number == 0 or (number - 1) // 2 in tree.nodes
        children = [tree.nodes[c] for c in (2 * number + 1, 2 * number + 2) if c in tree.nodes]
        assert len(children) in (0, 2)
        if children:
            union = np.sort(np.concatenate([child.positions for child in children]))
            assert union.tolist() == node.positions.tolist()


def test_the_first_split_is_always_accepted() -> None:
    features = torch.nn.functional.normalize(
        torch.ones(4, 4, 3) + 1e-3 * torch.rand(4, 4, 3), dim=-1
    )
    assert len(build_tree(features, 0, splits=10, threshold=0.95).leaves) == 2


@pytest.mark.parametrize(("shape", "splits"), [((1, 1), 10), ((4, 4), 0)])
def test_one_position_or_no_split_gives_one_segment(shape: tuple[int, int], splits: int) -> None:
    features = torch.nn.functional.normalize(torch.rand(*shape, 3), dim=-1)
    assert len(build_tree(features, 0, splits=splits).leaves) == 1


def test_positions_are_labelled_by_leaf() -> None:
    leaf = np.zeros(1, np.float32)
    tree = SegmentTree(
        {
            0: Node(0, np.arange(4), leaf),
            1: Node(1, np.array([0, 3]), leaf),
            2: Node(2, np.array([1, 2]), leaf),
        }
    )
    assert tree.label_positions(4).tolist() == [0, 1, 1, 0]


def test_the_tree_is_deterministic() -> None:
    features = torch.nn.functional.normalize(torch.rand(12, 12, 8), dim=-1)
    first, second = (build_tree(features, 40) for _ in range(2))
    assert first.label_positions(144).tolist() == second.label_positions(144).tolist()


# Refinement


def test_positions_lie_at_their_patches_centres() -> None:
    """Patches of 8 pixels at stride 4 have their centres at 4, 8, 12: a ramp over them is y = x there."""
    centres = torch.tensor([[[4.0, 8.0, 12.0]]])
    pixels = place_on_pixels(centres, (8, 16), patch=8, stride=4)[0, 0]
    # pixel i covers [i, i + 1): its centre is i + 0.5
    torch.testing.assert_close(pixels[4:12], torch.arange(4.5, 12.5))
    assert pixels[0] == 4.0
    assert pixels[-1] == 12.0


def test_soft_assignment_sums_to_one_and_hardens() -> None:
    features, centroids = torch.rand(3, 4, 5), torch.rand(2, 5)
    soft = soft_assignment(features, centroids, 0.5)
    torch.testing.assert_close(soft.sum(0), torch.ones(3, 4))
    hard = soft_assignment(features, centroids, 1e-6)
    nearest = torch.cdist(features.reshape(-1, 5), centroids).argmin(1).reshape(3, 4)
    assert torch.equal(hard.argmax(0), nearest)


def brute_force_guided_filter(
    guide: torch.Tensor, values: torch.Tensor, radius: int, epsilon: float
) -> torch.Tensor:
    """The guided filter's definition, window by window, in float64."""
    _, height, width = guide.shape
    models = torch.zeros(height, width, 4, dtype=torch.float64)
    windows = [
        [
            np.s_[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1]
            for x in range(width)
        ]
        for y in range(height)
    ]
    for y in range(height):
        for x in range(width):
            colours = guide[(slice(None), *windows[y][x])].double().flatten(1)
            targets = values[windows[y][x]].double().flatten()
            mean, target_mean = colours.mean(1), targets.mean()
            covariance = (colours @ colours.T) / len(targets) - mean.outer(mean)
            cross = (colours * targets).mean(1) - mean * target_mean
            slope = torch.linalg.solve(
                covariance + epsilon * torch.eye(3, dtype=torch.float64), cross
            )
            models[y, x] = torch.cat([slope, (target_mean - slope @ mean)[None]])
    output = torch.zeros(height, width, dtype=torch.float64)
    for y in range(height):
        for x in range(width):
            model = models[windows[y][x]].flatten(0, 1).mean(0)
            output[y, x] = model[:3] @ guide[:, y, x].double() + model[3]
    return output


def test_the_guided_filter_equals_its_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    guide, maps = (
        torch.rand(3, 9, 12, generator=generator),
        torch.rand(2, 9, 12, generator=generator),
    )
    models = guided_filter(guide, maps, radius=2, epsilon=1e-3)
    slope, offset = models[:, :3], models[:, 3]
    ours = (slope * guide[None]).sum(1) + offset
    for index in range(2):
        expected = brute_force_guided_filter(guide, maps[index], 2, 1e-3)
        torch.testing.assert_close(ours[index].double(), expected, rtol=1e-3, atol=1e-4)


def refine(
    maps: torch.Tensor,
    guide: torch.Tensor,
    image: torch.Tensor,
    radius: int,
    epsilon: float,
    min_area: float,
) -> np.ndarray:
    return decide_pixels(*fit_maps(maps, guide, radius, epsilon), image, min_area)


def test_borders_move_to_the_images_edge() -> None:
    """A map that is three pixels off and blurred ends exactly at the colour edge."""
    image = np.zeros((32, 48, 3), np.uint8)
    image[:, :20] = (200, 40, 40)
    image[:, 20:] = (40, 40, 200)
    guide = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    ramp = torch.sigmoid((torch.arange(48.0) - 23) / 4).expand(32, 48)
    frame = torch.from_numpy(image)
    labels = refine(
        torch.stack([1 - ramp, ramp]), guide, frame, radius=8, epsilon=1e-3, min_area=0.0
    )
    assert (labels[:, :20] == 0).all()
    assert (labels[:, 20:] == 1).all()


@pytest.mark.parametrize("allowed", [[0], [4, 1], [0, 2, 3, 4], [0, 1, 2, 3, 4]])
def test_a_gpu_decides_as_a_cpu_does(allowed: list[int]) -> None:
    """The steps that a GPU takes, taken here; whole numbers, so that there are equally good ones."""
    scores = torch.randint(0, 4, (5, 40, 30), generator=torch.Generator().manual_seed(0)).float()
    torch.testing.assert_close(_best_at_once(scores, allowed), _best(scores, allowed))


def test_segments_that_are_too_small_go_to_the_next_best() -> None:
    maps = torch.zeros(3, 10, 10)
    maps[0] = 0.5
    maps[1, :, 5:] = 0.6
    maps[2, 0, :3] = 1.0  # three of 100 pixels
    image = torch.zeros(10, 10, 3, dtype=torch.uint8)
    labels = refine(maps, torch.zeros(3, 10, 10), image, radius=0, epsilon=1.0, min_area=0.05)
    assert np.unique(labels).tolist() == [0, 1]
    assert (labels[0, :3] == 0).all()


def test_large_images_are_labelled_at_their_own_size() -> None:
    maps = torch.rand(2, 12, 16)
    image = torch.zeros(1800, 2400, 3, dtype=torch.uint8)
    labels = refine(maps, torch.rand(3, 12, 16), image, radius=2, epsilon=1e-3, min_area=0.0)
    assert labels.shape == (1800, 2400)


def test_parts_that_do_not_touch_become_leaves_below_their_segment() -> None:
    labels = np.ones((10, 10), np.int16)
    labels[:4], labels[6:8], labels[9, :5], labels[9, 7] = 0, 0, 0, 0  # 40, 20, 5 and 1 pixels
    parts, numbers = split_components(labels, [1, 2], min_area=0.0, min_component=0.03)
    # Balanced trees below 1 and 2. The single pixel goes to the part of segment 2 around it.
    areas = dict(zip(numbers, np.bincount(parts.ravel()).tolist(), strict=True))
    assert areas == {4: 20, 5: 20, 6: 15, 7: 40, 8: 5}
    assert numbers[parts[9, 7]] == 6


@pytest.mark.parametrize(
    ("min_area", "areas"), [(0.0, {1: 62, 2: 2}), (0.03, {1: 62, 2: 2}), (0.04, {1: 64})]
)
def test_the_largest_part_of_a_segment_stays_down_to_the_smallest_area(
    min_area: float, areas: dict[int, int]
) -> None:
    labels = np.zeros((8, 8), np.int16)
    labels[2, 2:4], labels[5, 5] = 1, 1  # two of 64 pixels are 0.031 of the image
    parts, numbers = split_components(labels, [1, 2], min_area, min_component=0.1)
    assert dict(zip(numbers, np.bincount(parts.ravel()).tolist(), strict=True)) == areas


LABEL_MAPS = arrays(
    np.int16,
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    elements=st.integers(0, 4),
)
SHARES = st.sampled_from([0.0, 0.03, 0.1, 0.3, 0.5])


def pieces(labels: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Every connected piece of a label map: its label, and where it is."""
    found = []
    for label in np.unique(labels):
        count, alone = cv2.connectedComponents((labels == label).astype(np.uint8), connectivity=4)
        found += [(int(label), alone == piece) for piece in range(1, count)]
    return found


@given(LABEL_MAPS, SHARES, SHARES)
@settings(max_examples=300, deadline=None)
def test_parts_tile_the_image_and_keep_the_limits(
    labels: np.ndarray, min_area: float, min_component: float
) -> None:
    parts, numbers = split_components(labels, range(10, 15), min_area, min_component)
    found = pieces(parts)
    assert [label for label, _ in found] == list(range(len(numbers)))  # each is in one piece
    below = sum(inside.sum() < min_component * labels.size for _, inside in found)
    assert below <= len(np.unique(labels))  # the largest of its segment each
    for _, inside in found:
        assert inside.sum() >= min_area * labels.size or len(found) == 1
    before = pieces(labels)
    kept = [
        inside
        for _, inside in before
        if inside.sum() >= max(min_area, min_component, 1e-9) * labels.size
    ]
    assert all(len(np.unique(parts[inside])) == 1 for inside in kept)
    assert len({int(parts[inside][0]) for inside in kept}) == len(kept)


@given(LABEL_MAPS, SHARES)
@settings(max_examples=200, deadline=None)
def test_small_segments_go_to_those_beside_them(labels: np.ndarray, min_area: float) -> None:
    found = drop_small(labels, min_area)
    areas, left = np.bincount(labels.ravel(), minlength=5), np.bincount(found.ravel(), minlength=5)
    large = areas >= min(min_area * labels.size, areas.max())
    assert (left[large] >= areas[large]).all()
    assert (left[~large] == 0).all()
    assert np.array_equal(found[large[labels]], labels[large[labels]])


def test_a_segment_in_one_piece_keeps_its_number_and_one_without_pixels_has_none() -> None:
    parts, numbers = split_components(np.ones((4, 4), np.int16), [5, 7], 0.0, 0.0)
    assert numbers == [7]
    assert (parts == 0).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (23, 31)])
@pytest.mark.parametrize("labels", [1, 2, 5])
def test_parts_are_those_of_every_segment_alone(shape: tuple[int, int], labels: int) -> None:
    image = np.random.default_rng(labels).integers(0, labels, shape).astype(np.int16)
    parts, numbers = split_components(image, range(10, 10 + labels), 0.0, 0.0)
    expected = pieces(image)
    for _, inside in expected:
        assert len(np.unique(parts[inside])) == 1
        assert np.array_equal(parts == parts[inside][0], inside)
    assert len(numbers) == len(set(numbers)) == len(expected)
