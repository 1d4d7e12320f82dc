"""Global subtraction: the oracles that need no weights, and parity with the plain float64 reference."""

from __future__ import annotations

import copy
import math
from importlib import resources

import global_subtraction_reference as reference
import numpy as np
import open_clip
import pytest
import torch
from torch import Tensor

import zgs_ros.models.mini_tower  # noqa: F401  registers the mini CLIP's image tower with timm
from zgs_ros.embedding.clip import ClipEmbedder, Mode
from zgs_ros.embedding.coverage import cover, token_masks
from zgs_ros.embedding.global_subtraction import (
    embed_segments,
    encode_images,
    saliency,
    shared_saliency,
    subtraction_weight,
)
from zgs_ros.embedding.image_tower import ImageTower

MINI = f"local-dir:{resources.files('zgs_ros.models') / 'mini' / 'clip'}"


def random_heads(tokens: int = 10, heads: int = 3, width: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(1, heads, tokens, width, generator=generator)
    return queries, torch.randn(1, heads, tokens, width, generator=generator)


def attention_of(queries: Tensor, keys: Tensor) -> Tensor:
    return (
        queries[0].double() @ keys[0].double().transpose(1, 2) / queries.shape[-1] ** 0.5
    ).softmax(-1)


@pytest.mark.parametrize(
    ("c", "sigma", "w"),
    [
        (0.0, 5.0, 0.8187),  # exp(-1/5)
        (1.0, 5.0, 0.4493),  # exp(-4/5)
        (1.0, 1.0, 0.0183),  # exp(-4)
        (-1.0, 5.0, 1.0),  # exp(0)
    ],
)
def test_the_weight_of_the_global_context(c: float, sigma: float, w: float) -> None:
    assert float(subtraction_weight(torch.tensor(c), sigma)) == pytest.approx(w, abs=5e-5)


def test_a_mask_of_all_ones_changes_no_attention() -> None:
    attention = attention_of(*random_heads())
    weights, c, w = reference.subtracted(attention, torch.ones(10, dtype=torch.float64), 5.0)
    assert c == pytest.approx(1.0)
    assert w == pytest.approx(math.exp(-4 / 5))
    torch.testing.assert_close(
        weights.sum(-1), torch.full((3, 10), 1 - math.exp(-4 / 5), dtype=torch.float64)
    )


def test_a_mask_of_all_zeros_leaves_the_class_token() -> None:
    mu = torch.tensor([1.0] + [0.0] * 9, dtype=torch.float64)
    attention = attention_of(*random_heads())
    masked = reference.masked_attention(attention, mu)
    assert torch.equal(masked, mu.expand(3, 10, 10))
    _, c, _ = reference.subtracted(attention, mu, 5.0)
    assert c == pytest.approx(float((attention[..., 0] / attention.norm(dim=-1)).mean()))


def test_masked_attention_is_a_softmax_with_a_key_bias() -> None:
    queries, keys = random_heads()
    mu = torch.linspace(0.1, 1.0, 10, dtype=torch.float64)
    logits = queries[0].double() @ keys[0].double().transpose(1, 2) / 8**0.5
    expected = (logits + mu.log()).softmax(-1)
    torch.testing.assert_close(reference.masked_attention(logits.softmax(-1), mu), expected)


@pytest.mark.parametrize(
    "mu",
    [
        torch.ones(10),
        torch.tensor([1.0, 0, 0, 1, 1, 0, 0, 1, 0, 0]),
        torch.tensor([1.0] + [0.0] * 9),
        torch.linspace(1.0, 0.05, 10),
    ],
    ids=["all", "binary", "none", "soft"],
)
def test_the_closed_form_of_the_saliency(mu: Tensor) -> None:
    queries, keys = random_heads()
    _, expected, _ = reference.subtracted(attention_of(queries, keys), mu.double(), 5.0)
    assert float(saliency(queries, keys, mu[None])[0]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("segments", [2, 4, 5, 9])
def test_segments_that_share_queries_and_keys_have_the_same_saliency(segments: int) -> None:
    queries, keys = random_heads()
    mu = torch.rand(segments, 10, generator=torch.Generator().manual_seed(1))
    mu[:, 0] = 1.0
    squares = (2.0 * queries[0] @ keys[0].transpose(1, 2) / 8**0.5).softmax(-1)
    own = saliency(*(part.expand(segments, -1, -1, -1) for part in (queries, keys)), mu)
    torch.testing.assert_close(shared_saliency(squares, mu), own)


def test_the_saliency_of_a_binary_mask() -> None:
    """For a binary mask cos(M_i, A_i) = sqrt(sum_{j in S} a_j^2 / sum_j a_j^2)."""
    queries, keys = random_heads()
    mu = torch.tensor([1.0, 0, 0, 1, 1, 0, 0, 1, 0, 0])
    squares = attention_of(queries, keys) ** 2
    expected = (squares[..., mu > 0].sum(-1) / squares.sum(-1)).sqrt().mean()
    assert float(saliency(queries, keys, mu[None])[0]) == pytest.approx(float(expected), rel=1e-5)


def test_token_masks_are_covered_shares_behind_the_class_token() -> None:
    masks = np.zeros((1, 4, 4), bool)
    masks[0, :2, :3] = True  # the left upper patch whole, the right upper one half
    assert token_masks(masks, (2, 2)).tolist() == [[1.0, 1.0, 0.5, 0.0, 0.0]]


@pytest.mark.parametrize("size", [(48, 64), (50, 37), (7, 5), (3, 200)])
@pytest.mark.parametrize("grid", [(4, 8), (7, 7)])
@pytest.mark.parametrize("kind", [np.bool_, np.float32])
def test_coverage_is_the_mean_over_exact_patches(
    size: tuple[int, int], grid: tuple[int, int], kind: type
) -> None:
    masks = np.random.default_rng(0).integers(0, 2, (3, *size)).astype(kind)
    # Every pixel repeated so often that patches consist of whole pixels.
    fine = masks.astype(np.float64).repeat(grid[0], axis=1).repeat(grid[1], axis=2)
    expected = fine.reshape(3, grid[0], size[0], grid[1], size[1]).mean(axis=(2, 4))
    np.testing.assert_allclose(cover(masks, grid), expected, atol=1e-6)


CASES = [
    pytest.param("ViT-B-32", {}, 4, id="B/32"),
    pytest.param("ViT-B-16", {}, 4, id="B/16"),
    pytest.param("ViT-B-32", {"force_quick_gelu": True}, 3, id="B/32-quick-gelu"),
    pytest.param("MobileCLIP-B", {}, 4, id="MobileCLIP-B"),
    pytest.param(MINI, {}, 1, id="mini-1"),
    pytest.param(MINI, {}, 4, id="mini-4"),
    pytest.param(
        "ViT-L-14-336", {"force_quick_gelu": True}, 4, id="L/14@336", marks=pytest.mark.slow
    ),
]


@pytest.mark.parametrize(("name", "options", "blocks"), CASES)
@pytest.mark.parametrize("sigma", [5.0, None], ids=["subtraction", "mask-only"])
def test_the_fast_path_equals_the_reference(
    name: str, options: dict[str, bool], blocks: int, sigma: float | None
) -> None:
    torch.manual_seed(0)
    model = open_clip.create_model(name, load_weights=False, **options).eval()
    tower = ImageTower.of(model, name)
    patches = tower.grid[0] * tower.grid[1]
    masks = torch.stack(
        [
            torch.ones(patches),
            torch.zeros(patches),
            torch.eye(patches)[patches // 3],
            torch.rand(patches),
            (torch.rand(patches) > 0.7).float(),
        ]
    )
    images = torch.randn(2, 3, *tower.image_size)
    with torch.inference_mode():
        shared = encode_images(tower, blocks, sigma, images)
        mu = torch.cat([torch.ones(len(masks), 1), masks], dim=1)
        fast = torch.cat(
            [
                embed_segments(tower, blocks, sigma, shared.image(image), mu[part])
                for image, part in enumerate((slice(2), slice(2, None)))
            ]
        )
        exact = model.visual.double()
        for row, owner, mask in zip(fast, (0, 0, 1, 1, 1), masks, strict=True):
            pixels = images[owner : owner + 1].double()
            expected = reference.segment_embedding(exact, pixels, mask.double(), blocks, sigma)
            assert torch.isfinite(row).all()
            assert float((row - expected).norm() / expected.norm()) < 1e-4


@pytest.mark.parametrize(
    ("precision", "tolerance"), [(torch.float16, 3e-3), (torch.bfloat16, 3e-2)], ids=str
)
@pytest.mark.parametrize("blocks", [1, 4])
def test_half_precision_stays_near_the_exact_embedding(
    precision: torch.dtype, tolerance: float, blocks: int
) -> None:
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32", load_weights=False)
    image, masks = random_image(60, 80), np.random.default_rng(5).random((6, 60, 80)) > 0.5
    masks[0], masks[1], masks[2, 20:] = True, False, False
    exact, half = (
        ClipEmbedder(
            part, open_clip.get_tokenizer("ViT-B-32"), "random", blocks=blocks
        ).embed_segments([image], [masks])[0]
        for part in (model, copy.deepcopy(model).to(precision))
    )
    assert np.linalg.norm(half - exact, axis=1).max() < tolerance


@pytest.fixture(scope="module")
def embedder() -> ClipEmbedder:
    torch.manual_seed(0)
    model = open_clip.create_model(MINI, load_weights=False)
    return ClipEmbedder(
        model, open_clip.get_tokenizer(MINI), "random-mini", blocks=2, segment_batch=3
    )


def random_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("mode", ["global_subtraction", "mask", "dense", "crop"])
def test_chunks_and_batches_change_no_embedding(embedder: ClipEmbedder, mode: Mode) -> None:
    embedder = embedder.variant(mode, blocks=2, sigma=5.0)
    images = [random_image(40, 60), random_image(50, 30, seed=1)]
    masks = [np.random.default_rng(2).random((7, *image.shape[:2])) > 0.5 for image in images]
    together = embedder.embed_segments(images, masks)
    for image, mask, rows in zip(images, masks, together, strict=True):
        one_by_one = [embedder.embed_segments([image], [mask[i : i + 1]])[0][0] for i in range(7)]
        np.testing.assert_allclose(rows, one_by_one, atol=2e-6)
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, rtol=1e-5)


def test_further_masks_of_one_image_of_a_batch(embedder: ClipEmbedder) -> None:
    images = [random_image(40, 60), random_image(40, 60, seed=1)]
    mask = np.random.default_rng(3).random((2, 40, 60)) > 0.5
    encoded = embedder.encode([torch.from_numpy(image) for image in images])
    expected = embedder.embed_segments([images[1]], [mask])[0]
    none, rows = embedder.embed(encoded, [[], list(mask)])
    assert none.shape == (0, embedder.dimensions)
    np.testing.assert_allclose(rows, expected, atol=2e-6)


def test_an_image_without_segments_gives_no_rows(embedder: ClipEmbedder) -> None:
    rows = embedder.embed_segments([random_image(8, 8)], [np.zeros((0, 8, 8), bool)])[0]
    assert rows.shape == (0, embedder.dimensions)


def test_masks_must_fit_the_image(embedder: ClipEmbedder) -> None:
    with pytest.raises(ValueError, match=r"masks \(8, 9\) do not fit"):
        embedder.embed_segments([random_image(8, 8)], [np.zeros((1, 8, 9), bool)])


def test_where_memory_runs_out_smaller_batches_give_the_same_result(
    embedder: ClipEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = embedder.variant("global_subtraction", blocks=2, sigma=5.0)
    image, masks = random_image(40, 60), np.random.default_rng(4).random((8, 40, 60)) > 0.5
    expected = embedder.embed_segments([image], [masks])[0]
    compute, sizes = embedder._embed_segments, []

    def out_of_memory_above_one(mu: Tensor, *shared: Tensor) -> tuple[Tensor, ...]:
        sizes.append(len(mu))
        if len(mu) > 1:
            raise torch.cuda.OutOfMemoryError("no room")
        return compute(mu, *shared)

    monkeypatch.setattr(embedder, "_embed_segments", out_of_memory_above_one)
    out_of_memory_above_one.captures = False
    np.testing.assert_allclose(embedder.embed_segments([image], [masks])[0], expected, atol=2e-6)
    assert sizes == [3, *[1] * 8]


@pytest.mark.parametrize(
    ("name", "fragment"),
    [
        ("RN50", "ModifiedResNet, not a plain ViT"),
        ("ViT-B-16-SigLIP", "pools by other means"),
        ("EVA02-B-16", "Eva, not a plain ViT"),
        ("ViT-L-14-CLIPA", "pools by other means"),
        ("coca_ViT-B-32", "pools by other means"),
    ],
)
def test_other_image_towers_are_refused_with_models_that_work(name: str, fragment: str) -> None:
    with torch.device("meta"):
        model = open_clip.create_model(name, load_weights=False, device="meta")
    with pytest.raises(ValueError, match=fragment) as caught:
        ClipEmbedder(model, lambda texts: torch.zeros(len(texts), 1, dtype=torch.long), name)
    assert "ViT-B-16" in str(caught.value)


@pytest.mark.parametrize("name", ["ViT-B-32", "MobileCLIP-B", MINI])
def test_the_tower_computes_what_the_model_computes(name: str) -> None:
    model = open_clip.create_model(name, load_weights=False).eval()
    tower = ImageTower.of(model, name)
    images = torch.randn(1, 3, *tower.image_size)
    with torch.inference_mode():
        tokens = tower.embed(images)
        for block in tower.blocks:
            tokens = block(tokens)
        torch.testing.assert_close(tower.project(tokens[:, 0]), model.encode_image(images))


def test_more_masked_blocks_than_blocks_are_refused() -> None:
    model = open_clip.create_model(MINI, load_weights=False)
    with pytest.raises(ValueError, match=r"clip\.masked_blocks: 9, but mini has 4 blocks"):
        ClipEmbedder(model, open_clip.get_tokenizer(MINI), "mini", blocks=9)


def test_an_unknown_mode_is_refused_with_those_that_there_are(embedder: ClipEmbedder) -> None:
    with pytest.raises(
        ValueError, match=r"clip\.mode: 'msak' is not one of global_subtraction, mask, dense, crop"
    ):
        embedder.variant("msak", blocks=2, sigma=5.0)
