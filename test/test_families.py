"""Every family of backbones alike: what features and language towers do, on random weights.

Small variants are the libraries' own models with fewer and narrower layers: everything else (patches,
positions, registers, pooling, activation) is as published. `slow` ones have their full size.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
from open_clip import timm_model
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from zgs_ros.bench.families import FEATURES, LANGUAGE, MODES
from zgs_ros.bench.given import tile_masks
from zgs_ros.bench.models import make_bench
from zgs_ros.config import ClipSettings, DinoSettings, SegmenterSettings, make_settings
from zgs_ros.embedding.clip import ClipEmbedder, Mode
from zgs_ros.models.kinds import find_clip, find_dino
from zgs_ros.models.loading import load_dino
from zgs_ros.oversegmentation.features import DinoFeatures
from zgs_ros.oversegmentation.rotary import turns
from zgs_ros.tools.doctor.clip import check_clip
from zgs_ros.tools.doctor.dino import check_dino
from zgs_ros.tools.doctor.models import exam
from zgs_ros.tools.doctor.pictures import drawings

CPU = torch.device("cpu")
DOCS = Path(__file__).parents[1] / "docs"
VITS = {family.model: family for family in FEATURES}
VITS["vit_small_patch16_dinov3_qkvb.lvd1689m"] = replace(
    VITS["vit_small_patch16_dinov3.lvd1689m"], model="vit_small_patch16_dinov3_qkvb.lvd1689m"
)
ROTARY = sorted(model for model in VITS if "dinov3" in model)
CLIPS = {f"{family.model}, {family.tag}": family for family in LANGUAGE}
MASKED = {"ViT-B-16", "ViT-L-14-336", "MobileCLIP2-B", "MobileCLIP2-L-14"}
"""Plain ViTs with a class token, which masked attention needs."""
PAIRS = [
    (name, mode)
    for name, family in CLIPS.items()
    for mode in MODES
    if family.model in MASKED or mode in ("dense", "crop")
]
WIDTH = 32
NARROW = {"depth": 2, "embed_dim": WIDTH, "num_heads": 2}
SMALL = {
    # Their convolutions are made for the width of what follows.
    "vit_base_mci_224": {"depth": 2},
    "fastvit_mci2": {"layers": (1, 1, 1, 1), "embed_dims": (8, 8, 16, WIDTH)},
}
"""What makes timm's image towers small that are not narrowed by `NARROW`."""


@cache
def small_features(name: str, stride: int | None = None, short_side: int = 64) -> DinoFeatures:
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=0, **NARROW)
    return DinoFeatures(varied(model), short_side, stride or VITS[name].patch)


def small_language(name: str) -> nn.Module:
    torch.manual_seed(0)
    family = CLIPS[name]
    config = copy.deepcopy(open_clip.get_model_config(family.model))
    pretrained = open_clip.get_pretrained_cfg(family.model, family.tag)
    config["embed_dim"] = WIDTH
    config["text_cfg"].update(width=WIDTH, heads=2, layers=1)
    timms = config["vision_cfg"].get("timm_model_name")
    if not timms:
        config["vision_cfg"].update(width=WIDTH, head_width=16, layers=2)
    with pytest.MonkeyPatch.context() as patch:
        create = partial(timm.create_model, **SMALL.get(timms, NARROW))
        patch.setattr(timm_model.timm, "create_model", create)
        make = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
        model = make(**config, quick_gelu=bool(pretrained.get("quick_gelu")))
    # As open_clip's factory sets them.
    model.visual.image_mean = pretrained.get("mean", open_clip.OPENAI_DATASET_MEAN)
    model.visual.image_std = pretrained.get("std", open_clip.OPENAI_DATASET_STD)
    return varied(model)


def varied(model: nn.Module) -> nn.Module:
    """The same where biases and scales are not 0 and 1 or all but, as libraries begin them."""
    generator = torch.Generator().manual_seed(1)
    for weight in model.parameters():
        weight.data.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return model.eval()


def tokens_of(context: int) -> Callable[[list[str]], Tensor]:
    """A tokenizer without files: letters, with an end token of the highest number."""

    def tokenize(texts: list[str]) -> Tensor:
        rows = torch.zeros(len(texts), context, dtype=torch.long)
        for row, text in zip(rows, texts, strict=True):
            letters = [1, *(ord(letter) for letter in text[: context - 2]), 511]
            row[: len(letters)] = torch.tensor(letters)
        return rows

    return tokenize


@cache
def small_crops(name: str, dtype: torch.dtype) -> ClipEmbedder:
    model = small_language(name).to(dtype)
    context = open_clip.get_model_config(CLIPS[name].model)["text_cfg"]["context_length"]
    return ClipEmbedder(model, tokens_of(context), name, "crop")


def small_embedder(name: str, mode: Mode, dtype: torch.dtype = torch.float32) -> ClipEmbedder:
    return small_crops(name, dtype).variant(mode, blocks=1, sigma=5.0)


def image_of(height: int = 48, width: int = 80) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def pixels_of(images: int, side: int) -> Tensor:
    return torch.rand(images, 3, side, side, generator=torch.Generator().manual_seed(2))


# Features


@pytest.mark.parametrize("name", VITS)
def test_a_patch_has_a_feature_of_unit_length(name: str) -> None:
    features = small_features(name, stride=7, short_side=63)
    size = features.resized(63, 84)
    found = features(torch.rand(2, 3, *size))
    rows, columns = ((side - features.patch) // 7 + 1 for side in size)
    assert found.shape == (2, rows, columns, WIDTH)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(2, rows, columns))


@pytest.mark.parametrize("name", VITS)
def test_features_without_overlap_are_the_models_own_keys(name: str) -> None:
    features = small_features(name)
    side = 4 * features.patch
    model, pixels = copy.deepcopy(features.model), pixels_of(1, side)
    model.set_input_size((side, side))
    inputs: list[Tensor] = []
    model.blocks[-1].attn.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    with torch.inference_mode():
        model.forward_features((pixels - features.mean) / features.std)
        [tokens] = inputs
        weight = model.blocks[-1].attn.qkv.weight[WIDTH : 2 * WIDTH]
        bias = model.blocks[-1].attn.qkv.bias
        keys = functional.linear(tokens, weight, None if bias is None else bias[WIDTH : 2 * WIDTH])
    expected = functional.normalize(keys[:, -16:], dim=-1).view(1, 4, 4, WIDTH)
    torch.testing.assert_close(features(pixels), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", VITS)
def test_features_of_an_image_are_the_same_in_a_batch_and_alike_in_bfloat16(name: str) -> None:
    features = small_features(name)
    pixels = pixels_of(2, 4 * features.patch)
    found = features(pixels)
    torch.testing.assert_close(features(pixels[1:]), found[1:], atol=1e-5, rtol=1e-4)
    rounded = copy.deepcopy(features).to(torch.bfloat16)
    assert float((rounded(pixels) * found).sum(-1).min()) > 0.98


@pytest.mark.parametrize("name", VITS)
def test_features_can_be_computed_for_any_stride_and_shape(name: str) -> None:
    for stride in (3, 8):
        features = small_features(name, stride)
        for shape in ((64, 64), (64, 192), (480, 64)):
            size = features.resized(*shape)
            assert features(torch.rand(1, 3, *size)).isfinite().all()


@pytest.mark.parametrize("name", ROTARY)
def test_patches_that_overlap_are_turned_by_where_their_centre_is(name: str) -> None:
    features = small_features(name)
    model, patch = features.model, features.patch
    apart = turns(model, 3, 3, patch, patch)
    torch.testing.assert_close(apart, model.rope.get_embed(shape=[3, 3]))
    overlapping = turns(model, 5, 5, patch, patch // 2).view(5, 5, -1)
    # The same pixels: every second patch lies where one without overlap does.
    torch.testing.assert_close(overlapping[::2, ::2].flatten(0, 1), apart)
    middle = overlapping[2, 2].chunk(2)  # half way between the edges nothing is turned
    torch.testing.assert_close(torch.stack(middle), torch.tensor([0.0, 1.0])[:, None].expand(2, 16))


@pytest.mark.parametrize("name", ROTARY)
def test_attention_to_a_grid_is_refused_where_places_are_turns(name: str) -> None:
    with pytest.raises(ValueError, match=r"dino.attention: grid, but .*; use all"):
        find_dino(DinoSettings(model=name, attention="grid"))


@pytest.mark.parametrize(
    "name",
    [
        "resnet50",
        "eva02_tiny_patch14_224",
        "vit_pe_core_tiny_patch16_384",
        "swin_tiny_patch4_window7_224",
    ],
)
def test_other_backbones_are_refused_with_some_of_each_family(name: str) -> None:
    with pytest.raises(ValueError, match=r"use for example .*\.dino, .*dinov2 or .*dinov3"):
        find_dino(DinoSettings(model=name))


# Language


@pytest.mark.parametrize(("name", "mode"), PAIRS)
def test_segments_have_embeddings_of_their_own_in_any_arithmetic(name: str, mode: Mode) -> None:
    masks = np.stack(list(tile_masks(48, 80, 4).values()))
    found = small_embedder(name, mode).embed_segments([image_of()], [masks])[0]
    assert found.shape == (4, WIDTH)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, rtol=1e-5)
    assert np.abs(found - found[:1])[1:].max(axis=1).min() > 1e-5  # a hundred roundings
    rounded = small_embedder(name, mode, torch.bfloat16).embed_segments([image_of()], [masks])[0]
    assert (rounded * found).sum(axis=1).min() > 0.98


@pytest.mark.parametrize(("name", "mode"), [p for p in PAIRS if p[1] in ("mask", "crop")])
def test_all_of_an_image_has_the_embedding_of_the_image(name: str, mode: Mode) -> None:
    embedder = small_embedder(name, mode)
    with torch.inference_mode():
        pixels = embedder.prepare(torch.from_numpy(image_of()))
        whole = functional.normalize(embedder.model.encode_image(pixels), dim=-1)
    found = embedder.embed_segments([image_of()], [np.ones((1, 48, 80), bool)])[0]
    np.testing.assert_allclose(found, whole.numpy(), atol=2e-5)


@pytest.mark.parametrize("name", CLIPS)
def test_modes_that_a_family_has_not_are_refused_with_one_that_it_has(name: str) -> None:
    family = CLIPS[name]
    given = {"model": family.model, "pretrained": family.tag}
    assert find_clip(ClipSettings(mode="dense", **given)).tag == family.tag
    if family.model not in MASKED:
        with pytest.raises(ValueError, match=r"use clip.mode dense, or an open_clip ViT such"):
            find_clip(ClipSettings(mode="mask", **given))


@pytest.mark.parametrize("name", CLIPS)
def test_texts_are_embedded_and_towers_with_the_same_name_told_apart(name: str) -> None:
    embedder = small_embedder(name, "dense")
    texts = ["Image of a cup.", "Image of a cat.", "Image of"]
    found = embedder.embed_texts(texts)
    assert found.shape == (3, WIDTH)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, rtol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 1e-4
    continued = embedder.embed_continuations(texts, [0, 0, 0]).numpy()
    np.testing.assert_allclose(continued, found, atol=2e-5)
    assert embedder.logit_scale > 0
    other = ClipEmbedder(small_language(name), embedder._tokenizer, name, "dense")
    assert other.fingerprint() == embedder.fingerprint()
    for weight in other.model.parameters():
        weight.data.mul_(2.0)
    assert other.fingerprint() != embedder.fingerprint()


@pytest.mark.parametrize("name", VITS)
def test_the_doctor_looks_at_features_of_every_family(name: str) -> None:
    found = list(check_dino(small_features(name), name, False, drawings()))
    assert {"normalisation", "features"} <= {finding.name for finding in found}


@pytest.mark.slow
@pytest.mark.parametrize("name", CLIPS)
def test_the_doctor_looks_at_every_clip(name: str) -> None:
    family = CLIPS[name]
    settings = ClipSettings(model=family.model, pretrained=family.tag, mode="dense")
    found = check_clip(
        small_embedder(name, "dense"), settings, exam(False), find_clip(settings), True
    )
    assert {finding.name for finding in found} >= {"training", "activation", "logit scale"}


def test_the_page_of_families_says_what_each_can_do() -> None:
    lines = (DOCS / "families.md").read_text().splitlines()
    said = {tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in lines}
    rows = {(row[0], row[1], row[-2], row[-1]) for row in said if len(row) > 3}
    for family in FEATURES:
        attention = "all" if family.model in ROTARY else "all, grid"
        assert (family.name, f"`{family.model}`", attention, family.licence) in rows
    for name, family in CLIPS.items():
        modes = ", ".join(mode for mode in MODES if (name, mode) in PAIRS)
        model = f"`{family.model}`, `{family.tag}`"
        assert (family.name, model, modes, family.licence) in rows


# Full size


@pytest.mark.slow
@pytest.mark.parametrize("name", VITS)
def test_features_of_full_size_come_from_a_file_and_give_segments(
    name: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=0)
    file = tmp_path / "weights.safetensors"
    save_file(model.state_dict(), file)
    patch = VITS[name].patch
    settings = DinoSettings(model=name, weights=str(file), stride=patch)
    pixels = pixels_of(1, 224)
    loaded = load_dino(settings, CPU, torch.float32)
    torch.testing.assert_close(loaded(pixels), DinoFeatures(model, 224, patch)(pixels))
    assert segments_with({"dino.model": name, "dino.short_side": 224, "dino.stride": patch}) == 3


@pytest.mark.slow
@pytest.mark.parametrize("name", CLIPS)
def test_language_towers_of_full_size_embed_segments(name: str) -> None:
    family = CLIPS[name]
    mode = "global_subtraction" if family.model in MASKED else "dense"
    model = {"clip.model": family.model, "clip.pretrained": family.tag, "clip.mode": mode}
    assert segments_with({**model, "clip.masked_blocks": 2}) == 3


def segments_with(values: dict[str, Any]) -> int:
    """Segments of an image by the whole pipeline, of three that are given, none merged."""
    settings = {"profile": "mini", "device": "cpu", "merging.enabled": False, **values}
    bench = make_bench(make_settings(SegmenterSettings, settings), 3)
    result = bench.segmenter.segment(image_of(96, 128))
    np.testing.assert_allclose(np.linalg.norm(result.embeddings, axis=1), 1.0, rtol=1e-5)
    return len(result.segments)
