"""Loading models: from files, from the bundle, and errors that say what to do."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from timm.layers import trunc_normal_
from torch import nn
from torch.nn import functional
from typer.testing import CliRunner

from zgs_ros.cli import app
from zgs_ros.config import ClipSettings, DinoSettings, SegmenterSettings, make_settings
from zgs_ros.models import loading, precision
from zgs_ros.models.kinds import find_clip
from zgs_ros.models.loading import (
    ModelError,
    bundled_folder,
    load_clip,
    load_dino,
    pull,
    resolve_device,
)
from zgs_ros.models.uninitialised import Uninitialised

CPU = torch.device("cpu")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network and an empty cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    monkeypatch.setattr(
        constants, "ENDPOINT", "http://127.0.0.1:9"
    )  # the discard port: refused at once


def test_dino_weights_from_a_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = timm.create_model("vit_small_patch8_224.dino", pretrained=False)
    path = tmp_path / "dino.safetensors"
    save_file(model.state_dict(), path)
    dino = load_dino(DinoSettings(weights=str(path), short_side=64, stride=8), CPU, torch.float32)
    torch.testing.assert_close(
        dino.model.blocks[3].attn.qkv.weight, model.blocks[3].attn.qkv.weight
    )
    assert tuple(dino(torch.rand(1, 3, 64, 64)).shape) == (1, 8, 8, 384)


@pytest.mark.parametrize(
    "fill",
    [
        nn.init.kaiming_normal_,
        nn.init.kaiming_uniform_,
        nn.init.normal_,
        nn.init.trunc_normal_,
        nn.init.uniform_,
        nn.init.xavier_normal_,
        nn.init.xavier_uniform_,
        trunc_normal_,
        torch.Tensor.normal_,
        torch.Tensor.uniform_,
    ],
)
def test_no_random_numbers_are_drawn_for_weights_that_a_file_replaces(fill: Any) -> None:
    weight = torch.zeros(4, 4)
    before = torch.get_rng_state()
    with Uninitialised():
        fill(weight)
        norm = nn.LayerNorm(4)
    assert not weight.any()
    assert torch.equal(torch.get_rng_state(), before)
    assert (norm.weight == 1).all(), "what is not random is made as ever"
    fill(weight)
    assert weight.any()


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a ViT-B-32 in open_clip's format."""
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32", load_weights=False)
    path = tmp_path_factory.mktemp("clip") / "mine.safetensors"
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
    return path


@pytest.mark.parametrize(
    ("said", "activation"),
    [
        ("openai", "QuickGELU"),
        ("laion2b_s34b_b79k", "GELU"),
        ("quick_gelu", "QuickGELU"),
        ("gelu", "GELU"),
    ],
)
def test_clip_weights_from_a_file_are_what_they_are_said_to_be(
    said: str, activation: str, clip_file: Path
) -> None:
    settings = ClipSettings(model="ViT-B-32", pretrained=said, weights=str(clip_file))
    clip = load_clip(settings, CPU, torch.float32)
    assert clip.name == "ViT-B-32/mine"
    assert type(clip._tower.blocks[0].mlp.gelu).__name__ == activation
    torch.testing.assert_close(dict(clip.model.state_dict()), load_file(clip_file))
    assert clip.logit_scale == pytest.approx(1 / 0.07)


def test_clip_weights_from_a_file_of_which_nothing_is_said(clip_file: Path) -> None:
    settings = ClipSettings(model="ViT-B-32", weights=str(clip_file))
    with pytest.raises(ModelError, match="gelu or quick_gelu; for published ones to their tag"):
        load_clip(settings, CPU, torch.float32)


@pytest.mark.parametrize(
    ("model", "tag", "mean", "std", "interpolation"),
    [
        ("ViT-L-14-336", "", 0.48145466, 0.26862954, "bicubic"),
        ("ViT-L-14", "laion2b_s32b_b82k", 0.5, 0.5, "bicubic"),
        ("MobileCLIP-B", "datacompdr", 0.0, 1.0, "bilinear"),
        ("MobileCLIP2-B", "dfndr2b", 0.0, 1.0, "bilinear"),
    ],
)
def test_a_tag_says_how_its_images_were_prepared(
    model: str, tag: str, mean: float, std: float, interpolation: str
) -> None:
    found = find_clip(ClipSettings(model=model, pretrained=tag)).preprocessing
    assert (found["mean"][0], found["std"][0]) == (mean, std)
    assert found["interpolation"] == interpolation


def test_images_are_prepared_as_in_training(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = open_clip.create_model("MobileCLIP-B", load_weights=False)
    path = tmp_path / "mobile.safetensors"
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
    settings = ClipSettings(model="MobileCLIP-B", pretrained="datacompdr", weights=str(path))
    clip = load_clip(settings, CPU, torch.float32)
    image = torch.randint(0, 256, (300, 400, 3), dtype=torch.uint8)
    expected = functional.interpolate(
        image.permute(2, 0, 1)[None], (224, 224), mode="bilinear", antialias=True
    )
    torch.testing.assert_close(clip.prepare(image), expected / 255, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("keys", "fragment"),
    [
        ({"blocks.0.norm1.weight": 8, "pos_embed": 8}, "is an image tower alone"),
        ({"vision_model.x": 1, "text_model.x": 1}, "is in the format of the library transformers"),
        (
            {"visual.proj": 1, "token_embedding.weight": 1},
            r"300 weights are missing \(.*\), 0 don't belong",
        ),
    ],
)
def test_clip_files_that_hold_something_else(
    keys: dict[str, int], fragment: str, tmp_path: Path
) -> None:
    path = tmp_path / "other.safetensors"
    save_file({name: torch.zeros(size) for name, size in keys.items()}, path)
    settings = ClipSettings(model="ViT-B-32", pretrained="openai", weights=str(path))
    with pytest.raises(ModelError, match=fragment) as caught:
        load_clip(settings, CPU, torch.float32)
    assert len(str(caught.value)) < 600
    assert str(path) in str(caught.value)


def test_clip_files_of_another_size(clip_file: Path) -> None:
    settings = ClipSettings(model="ViT-B-16", pretrained="openai", weights=str(clip_file))
    with pytest.raises(
        ModelError,
        match=re.escape("visual.positional_embedding is (50, 768) instead of (197, 768)"),
    ):
        load_clip(settings, CPU, torch.float32)


@pytest.mark.parametrize("kind", ["dino", "clip"])
def test_without_network_and_cache_the_error_names_three_ways_out(kind: str, offline: None) -> None:
    settings = make_settings(SegmenterSettings, {"profile": "fast"})
    load = load_dino if kind == "dino" else load_clip
    with pytest.raises(ModelError) as caught:
        load(getattr(settings, kind), CPU, torch.float32, "fast")
    message = str(caught.value)
    for way in (
        "zgs models pull --profile fast",
        f"{kind}.weights=FILE.safetensors",
        "profile=mini",
    ):
        assert way in message


def test_pulling_without_a_network_says_so(offline: None) -> None:
    with pytest.raises(ModelError, match="can't be reached"):
        pull(make_settings(SegmenterSettings, {"profile": "balanced"}))


@pytest.mark.parametrize(
    ("content", "name", "fragment"),
    [
        (None, "none.safetensors", "there is no file"),
        (b"pickle", "model.pt", "pickles are not loaded"),
        (b"not safetensors", "broken.safetensors", "can't be read as safetensors"),
    ],
)
def test_weights_files_that_cant_be_used(
    content: bytes | None, name: str, fragment: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=fragment) as caught:
        load_dino(DinoSettings(weights=str(path)), CPU, torch.float32)
    assert str(path) in str(caught.value)


def test_weights_of_another_model_are_named(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"blocks.0.weight": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match="holds another model"):
        load_dino(DinoSettings(weights=str(path)), CPU, torch.float32)


@pytest.mark.parametrize(
    ("settings", "fragment"),
    [
        (ClipSettings(model="ViT-Z-1"), "no model of this name"),
        (ClipSettings(model="ViT-B-32", pretrained="mine"), "is not one of its tags: openai"),
        (
            ClipSettings(model="ViT-B-16-SigLIP", pretrained="webli"),
            "other means than the class token; use clip.mode dense, or an open_clip ViT",
        ),
        (
            ClipSettings(model="RN50"),
            "ModifiedResNet, not a plain ViT; use an open_clip ViT such as",
        ),
        (ClipSettings(model="roberta-ViT-B-32"), "text tower is not of open_clip itself"),
        (ClipSettings(model="ViT-B-32", masked_blocks=13), "ViT-B-32 has 12 blocks"),
        (ClipSettings(model="ViT-L-14-336", pretrained="gelu"), "is not one of its tags: openai"),
    ],
)
def test_clips_that_cant_be_used_are_refused_before_anything_is_fetched(
    settings: ClipSettings, fragment: str, offline: None
) -> None:
    with pytest.raises(ModelError, match=fragment):
        load_clip(settings, CPU, torch.float32)


@pytest.mark.parametrize(
    ("settings", "fragment"),
    [
        (DinoSettings(model="vit_nowhere"), "no model of this name; see timm.list_models"),
        (DinoSettings(model="resnet50"), "ResNet is not a ViT with absolute position embeddings"),
        (DinoSettings(stride=9), "dino.stride: 9"),
    ],
)
def test_dinos_that_cant_be_used_are_refused_before_anything_is_fetched(
    settings: DinoSettings, fragment: str, offline: None
) -> None:
    with pytest.raises(ModelError, match=fragment):
        load_dino(settings, CPU, torch.float32)


@pytest.mark.parametrize("scheme", ["local-dir:{}", "hf-hub:{}", "hf_hub:{}", "{}"])
@pytest.mark.parametrize("kind", ["dino", "clip"])
def test_a_name_never_runs_code_of_a_folder(
    kind: str, scheme: str, tmp_path: Path, clip_file: Path, offline: None
) -> None:
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    tokenizer = {"hf_tokenizer_name": "x", "tokenizer_kwargs": {"trust_remote_code": True}}
    model = {**open_clip.get_model_config("ViT-B-32")}
    model["text_cfg"] = {**model["text_cfg"], **tokenizer}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model}))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"auto_map": {"AutoTokenizer": ["code.Evil", None]}, "tokenizer_class": "Evil"})
    )
    name = scheme.format(folder)
    load, settings = (
        (load_dino, DinoSettings(model=name, weights=str(clip_file)))
        if kind == "dino"
        else (load_clip, ClipSettings(model=name, pretrained="gelu", weights=str(clip_file)))
    )
    with pytest.raises(ModelError, match="they can bring code with them: name the architecture"):
        load(settings, CPU, torch.float32)
    assert not (tmp_path / "ran").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there() -> None:
    with pytest.raises(ModelError, match="'cuda', but PyTorch sees 0 CUDA devices; use device=cpu"):
        resolve_device("cuda")
    assert resolve_device("auto") == CPU


@pytest.mark.parametrize(
    ("given", "device", "native", "expected"),
    [
        ({}, "cpu", True, torch.bfloat16),
        ({}, "cpu", False, torch.float32),
        ({"reference": True}, "cpu", True, torch.float32),
        ({"profile": "paper"}, "cpu", True, torch.float32),
        ({}, "cuda", False, torch.float16),
        ({"precision": "float32"}, "cpu", True, torch.float32),
        ({"precision": "bfloat16"}, "cpu", False, torch.bfloat16),
    ],
)
def test_precision_follows_what_the_processor_multiplies(
    given: dict[str, Any],
    device: str,
    native: bool,
    expected: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: native)
    settings = make_settings(SegmenterSettings, given)
    assert precision.resolve_precision(settings, torch.device(device)) is expected


@pytest.mark.parametrize(
    ("cpu_info", "expected"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 amx_tile", True),
        ("Features\t: fp asimd i8mm bf16", True),
        ("flags\t\t: fpu avx2 avx512f", False),
        ("model name\t: avx512_bf16", False),
        (None, False),
    ],
)
def test_bfloat16_is_told_by_the_processors_flags(
    cpu_info: str | None, expected: bool, tmp_path: Path
) -> None:
    file = tmp_path / "cpuinfo"
    if cpu_info is not None:
        file.write_text(f"processor\t: 0\n{cpu_info}\n")
    assert precision.flags_have_bfloat16(file) is expected


def test_damaged_bundled_models_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mini" / "dino"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"changed")
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  model.safetensors\n")
    monkeypatch.setattr(loading.resources, "files", lambda _: tmp_path)
    with pytest.raises(ModelError, match=re.escape("model.safetensors is missing or damaged")):
        bundled_folder("zgs-mini-dino")


def test_a_tokenizer_that_cant_be_had_is_named(
    offline: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clip_file: Path
) -> None:
    """Some CLIPs take another tokenizer than open_clip's own."""
    model = "ViT-B-32"
    config = {**open_clip.get_model_config(model)}
    config["text_cfg"] = {**config["text_cfg"], "hf_tokenizer_name": str(tmp_path / "none")}
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: copy.deepcopy(config))
    monkeypatch.setattr(open_clip.factory, "get_model_config", lambda name: copy.deepcopy(config))
    monkeypatch.setattr(loading, "_pull_from_hub", lambda *_: tmp_path)
    find_clip.cache_clear()
    settings = {"profile": "mini", "clip.model": model, "clip.pretrained": "openai"}
    try:
        with pytest.raises(ModelError, match=r"its tokenizer .*none can't be had"):
            pull(make_settings(SegmenterSettings, {**settings, "clip.masked_blocks": 1}))
        with pytest.raises(ModelError, match=r"its tokenizer .*none can't be had"):
            load_clip(
                ClipSettings(model=model, pretrained="openai", weights=str(clip_file)),
                CPU,
                torch.float32,
            )
    finally:
        find_clip.cache_clear()


def test_the_bundled_models_are_whole_and_small() -> None:
    folders = [bundled_folder(name) for name in loading.BUNDLED]
    size = sum(path.stat().st_size for folder in folders for path in folder.iterdir())
    assert size <= 25e6


def test_the_command_lists_profiles_and_what_is_here(offline: None) -> None:
    result = CliRunner().invoke(app, ["models", "list"], env={"COLUMNS": "160"})
    assert result.exit_code == 0
    lines = {
        words[1]: line for line in result.output.splitlines() if len(words := line.split()) > 2
    }
    assert "yes" in lines["mini"]
    assert "zgs models pull --profile balanced" in lines["balanced"]


@pytest.mark.parametrize(
    ("profile", "code", "fragment"),
    [("mini", 0, "clip"), ("balanced", 1, "can't be reached"), ("huge", 2, "'huge'")],
)
def test_the_command_pulls_a_profiles_weights(
    profile: str, code: int, fragment: str, offline: None
) -> None:
    result = CliRunner().invoke(app, ["models", "pull", "--profile", profile])
    assert result.exit_code == code
    assert fragment in result.output
