"""Loading models: from files, from the bundle, and errors that say what to do."""

from __future__ import annotations

import re
from pathlib import Path

import open_clip
import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from typer.testing import CliRunner

from zgs_ros.cli import app
from zgs_ros.config import ClipSettings, DinoSettings, SegmenterSettings, make_settings
from zgs_ros.models import loading
from zgs_ros.models.loading import (
    ModelError,
    bundled_folder,
    load_clip,
    load_dino,
    pull,
    resolve_device,
    resolve_precision,
)

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


def test_clip_weights_from_a_file_with_the_tags_activation(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32", load_weights=False)
    path = tmp_path / "mine.safetensors"
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
    clip = load_clip(ClipSettings(model="ViT-B-32", weights=str(path)), CPU, torch.float32)
    assert clip.name == "ViT-B-32/mine"
    assert type(clip._tower.blocks[0].mlp.gelu).__name__ == "QuickGELU"
    torch.testing.assert_close(clip._model.visual.proj, model.visual.proj)


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
    ],
)
def test_unknown_clip_models_and_tags(settings: ClipSettings, fragment: str) -> None:
    with pytest.raises(ModelError, match=fragment):
        load_clip(settings, CPU, torch.float32)


def test_unknown_dino_models() -> None:
    with pytest.raises(ModelError, match="vit_nowhere"):
        load_dino(DinoSettings(model="vit_nowhere"), CPU, torch.float32)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there() -> None:
    with pytest.raises(ModelError, match="'cuda', but PyTorch sees 0 CUDA devices; use device=cpu"):
        resolve_device("cuda")
    assert resolve_device("auto") == CPU


def test_precision_follows_the_device() -> None:
    assert resolve_precision("auto", CPU) is torch.float32
    assert resolve_precision("auto", torch.device("cuda")) is torch.float16
    assert resolve_precision("bfloat16", CPU) is torch.bfloat16


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
