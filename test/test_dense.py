"""One-pass embeddings: the formula, its sums, what they cost, and every family of towers alike."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.timm_model import TimmModel
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from zgs_ros.bench.given import tile, tile_masks
from zgs_ros.embedding.clip import ClipEmbedder, Mode
from zgs_ros.embedding.coverage import Tiling, Unions, cover, cover_labels
from zgs_ros.embedding.dense import PatchTable, embed_sums, sum_segments, tabulate_patches
from zgs_ros.embedding.dense_tower import DenseTower
from zgs_ros.embedding.image_tower import ImageTower


class Tower(nn.Module):
    """An image tower alone, as open_clip wraps one of timm, with random weights."""

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual
        self.logit_scale = nn.Parameter(torch.zeros(()))

    def encode_image(self, images: Tensor) -> Tensor:
        return self.visual(images)


def of_timm(name: str, pool: str, size: int = 224) -> Tower:
    torch.manual_seed(0)
    return Tower(TimmModel(name, embed_dim=24, image_size=size, pool=pool, proj=None))


def of_open_clip(**vision: Any) -> nn.Module:
    torch.manual_seed(0)
    config = {"image_size": 64, "layers": 2, "width": 64, "head_width": 16, "patch_size": 16}
    text = {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1}
    return open_clip.CLIP(embed_dim=24, vision_cfg={**config, **vision}, text_cfg=text)


FAMILIES = {
    "open_clip, class token": lambda: of_open_clip(),
    "open_clip, layer scale": lambda: of_open_clip(ls_init_value=0.1),
    "open_clip, mean": lambda: of_open_clip(pool_type="avg"),
    "open_clip, mean, norm behind": lambda: of_open_clip(pool_type="avg", final_ln_after_pool=True),
    "timm, class token": lambda: of_timm("vit_tiny_patch16_224", "token"),
    "timm, mean": lambda: of_timm("vit_tiny_patch16_224", "avg"),
    "SigLIP": lambda: of_timm("vit_tiny_patch16_224", "map"),
    "EVA-02": lambda: of_timm("eva02_tiny_patch14_224", "token"),
    "PE-Core": lambda: of_timm("vit_pe_core_tiny_patch16_384", "map", 384),
    "FastViT": lambda: of_timm("fastvit_t8", "avg", 128),
    "ConvNeXt": lambda: of_timm("convnext_atto", "avg"),
}
WHOLE = {name for name in FAMILIES if "class" not in name and "layer" not in name} - {
    "EVA-02",  # a class token
    "PE-Core",  # pools its class token too
}


@cache
def embedder_of(family: str) -> ClipEmbedder:
    model = FAMILIES[family]()
    for weight in model.parameters():  # as timm makes them, biases and scales are 0 and 1
        weight.data.add_(
            0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
        )
    return ClipEmbedder(model, lambda texts: torch.zeros(len(texts), 8).long(), family, "dense")


def image_of(height: int = 48, width: int = 80) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def embed(embedder: ClipEmbedder, masks: np.ndarray) -> np.ndarray:
    return embedder.embed_segments([image_of(*masks.shape[1:])], [masks])[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_tells_segments_apart_in_any_arithmetic(family: str) -> None:
    embedder = embedder_of(family)
    masks = np.stack(list(tile_masks(48, 80, 5).values()))
    exact = embed(embedder, masks)
    assert exact.shape == (5, 24)
    np.testing.assert_allclose(np.linalg.norm(exact, axis=1), 1.0, rtol=1e-5)
    assert np.abs(exact - exact[:1])[1:].max(axis=1).min() > 1e-4
    rounded = ClipEmbedder(FAMILIES[family]().bfloat16(), embedder._tokenizer, family, "dense")
    rounded.model.load_state_dict(embedder.model.state_dict())
    assert (embed(rounded, masks) * exact).sum(axis=1).min() > 0.98


@pytest.mark.parametrize("family", sorted(WHOLE))
def test_a_segment_that_is_the_whole_image_has_the_images_embedding(family: str) -> None:
    embedder = embedder_of(family)
    pixels = embedder.prepare(torch.from_numpy(image_of()))
    with torch.inference_mode():
        whole = functional.normalize(embedder.model.encode_image(pixels), dim=-1)
    found = embed(embedder, np.ones((1, 48, 80), bool))
    np.testing.assert_allclose(found, whole.numpy(), atol=2e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_sums_of_a_union_are_those_of_its_segments(family: str) -> None:
    tower = DenseTower.of(embedder_of(family).model, family)
    with torch.inference_mode():
        table = tabulate_patches(tower, torch.randn(2, 3, *tower.image_size)).image(1)
        shares = torch.rand(3, tower.grid[0] * tower.grid[1])
        parts = sum_segments(table, shares)
        together = embed_sums(tower, sum_segments(table, shares.sum(0, keepdim=True)))
        torch.testing.assert_close(embed_sums(tower, parts.sum(0, keepdim=True)), together)


@pytest.mark.parametrize("family", ["open_clip, class token", "open_clip, layer scale"])
def test_the_embedding_is_the_class_tokens_attention_within_the_segment(family: str) -> None:
    model = embedder_of(family).model
    tower, plain = DenseTower.of(model, family), ImageTower.of(model, family)
    pixels, mu = torch.randn(1, 3, 64, 64), torch.rand(2, 16)
    with torch.inference_mode():
        tokens = plain.blocks[0](plain.embed(pixels))
        block = plain.blocks[1]
        projected = functional.linear(
            block.ln_1(tokens)[0], block.attn.in_proj_weight, block.attn.in_proj_bias
        )
        queries, keys, values = projected.view(17, 3, 4, 16).unbind(1)
        rows = []
        for share in mu:
            heads = []
            for head in range(4):
                attention = (queries[0, head] @ keys[:, head].T / 4.0).softmax(0)[1:] * share
                heads.append(attention / attention.sum() @ values[1:, head])
            rows.append(torch.cat(heads))
        expected = plain.project(block.ls_1(block.attn.out_proj(torch.stack(rows))))
        found = embed_sums(tower, sum_segments(tabulate_patches(tower, pixels), mu))
    torch.testing.assert_close(found, expected)


def test_weights_that_underflow_have_an_embedding_too() -> None:
    tower = DenseTower.of(embedder_of("SigLIP").model, "SigLIP")
    heads, patches = tower.heads, 16
    width = tower.width // heads
    values = torch.randn(1, patches, heads, width)
    weights = torch.full((1, patches, heads), 1e-30)
    weights[:, 0] = 1.0
    table = PatchTable(torch.cat([weights, (weights[..., None] * values).flatten(2)], dim=2))
    mu = torch.zeros(2, patches)
    mu[0, 5] = 1e-3  # what is seen least; and nothing at all
    with torch.inference_mode():
        found = embed_sums(tower, sum_segments(table, mu))
        expected = tower.project(values[:, 5].flatten(1))
    torch.testing.assert_close(found[:1], expected, rtol=1e-4, atol=1e-5)
    assert found.isfinite().all()


@pytest.mark.parametrize("size", [(48, 48), (48, 80), (37, 53), (5, 7)])
@pytest.mark.parametrize("grid", [(12, 12), (7, 7), (14, 9)])
def test_labels_cover_patches_as_masks_do(size: tuple[int, int], grid: tuple[int, int]) -> None:
    masks = np.stack(list(tile_masks(*size, 6).values()))
    found = cover_labels(tile(*size, 6), 6, grid)
    np.testing.assert_allclose(found, cover(masks, grid), atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=0), 1.0, rtol=1e-5)


@pytest.mark.parametrize("mode", ["dense", "global_subtraction", "crop"])
def test_unions_of_a_tiling_are_embedded_as_their_masks_are(mode: Mode) -> None:
    embedder = embedder_of("timm, class token").variant(mode, 1, 5.0)
    unions = Unions(Tiling(tile(48, 80, 6), 6), [(0,), (5,), (1, 4), (0, 2, 3)])
    leaves = list(tile_masks(48, 80, 6).values())
    masks = [np.any([leaves[part] for part in parts], axis=0) for parts in unions.parts]
    encoded = embedder.encode([torch.from_numpy(image_of())])
    by_masks, by_labels = (embedder.embed(encoded, [given])[0] for given in (masks, unions))
    np.testing.assert_allclose(by_masks, by_labels, atol=1e-5)


def test_a_hundred_segments_cost_hardly_more_than_ten() -> None:
    model = open_clip.create_model("ViT-B-32", load_weights=False)
    embedder = ClipEmbedder(model, lambda texts: torch.zeros(1), "ViT-B-32", "dense")

    def operations(segments: int) -> int:
        with FlopCounterMode(display=False) as counter:
            embed(embedder, np.stack(list(tile_masks(48, 80, segments).values())))
        return int(counter.get_total_flops())

    assert operations(100) < 1.1 * operations(10)


@pytest.mark.parametrize("name", ["RN50", "coca_ViT-B-32", "EVA02-E-14"])
def test_other_towers_are_refused_with_models_that_work(name: str) -> None:
    with torch.device("meta"):
        model = open_clip.create_model(name, load_weights=False, device="meta")
    with pytest.raises(ValueError, match="MobileCLIP2-B"):
        ClipEmbedder(model, lambda texts: torch.zeros(1), name, "dense")
