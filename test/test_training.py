"""Training of the mini DINO, patch by patch: views that find each other, and keys that tell things apart."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from zgs_ros.models.hub import sha256
from zgs_ros.oversegmentation.features import DinoFeatures
from zgs_ros.training.pool import ScenePool
from zgs_ros.training.train import export
from zgs_ros.training.train_dense import DenseTrainer, DenseTraining
from zgs_ros.training.views import View, random_view, stack

QUICK = DenseTraining(
    steps=120, batch=6, size=32, warmup=5, prototypes=16, rate=3e-3, teacher_momentum=0.95
)


def view(top: int = 0, left: int = 0, size: int = 64, flipped: bool = False) -> View:
    return View(np.zeros((32, 32, 3), np.float32), top, left, size, size, flipped)


@pytest.mark.parametrize(
    ("own", "other", "first", "last"),  # x, y of the first and the last patch
    [
        (view(), view(), (-0.75, -0.75), (0.75, 0.75)),
        (view(), view(flipped=True), (0.75, -0.75), (-0.75, 0.75)),
        (view(flipped=True), view(flipped=True), (-0.75, -0.75), (0.75, 0.75)),
        (view(), view(left=32), (-1.75, -0.75), (-0.25, 0.75)),
        (view(size=32), view(), (-0.875, -0.875), (-0.125, -0.125)),
    ],
    ids=["same", "flipped", "both flipped", "to the right", "inside"],
)
def test_patches_are_found_in_the_other_view(
    own: View, other: View, first: tuple[float, float], last: tuple[float, float]
) -> None:
    places = own.locate(other, 4)
    assert places.shape == (4, 4, 2)
    assert places[0, 0].tolist() == pytest.approx(first)
    assert places[-1, -1].tolist() == pytest.approx(last)


def test_a_view_shows_the_part_of_the_scene_that_it_names() -> None:
    rows, columns = np.mgrid[:96, :128]
    scene = np.stack([rows + 60, columns + 60, rows], axis=-1).astype(np.uint8)
    rng = np.random.default_rng(0)
    for _ in range(20):
        seen = random_view(scene, 32, (0.2, 0.9), rng)
        y, x = seen.centres(32)
        # Light changes values but keeps their order, which tells where they are from.
        assert np.corrcoef(seen.pixels[:, :, 0].mean(axis=1), y)[0, 1] > 0.99
        assert np.corrcoef(seen.pixels[:, :, 1].mean(axis=0), x)[0, 1] > 0.99


@pytest.fixture
def pool(tmp_path: Path) -> ScenePool:
    """Noisy scenes of level stripes above upright ones, which meet at different heights."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :64]
    levels = [
        np.where(rows < 20 + 3 * number, rows // 2 % 2, columns // 2 % 2) * 120
        + rng.integers(40, 100, (64, 64))
        for number in range(8)
    ]
    scenes = np.stack(levels)[..., None].repeat(3, axis=3).astype(np.uint8)
    np.save(tmp_path / "0.rgb.npy", scenes)
    np.save(tmp_path / "0.ids.npy", np.zeros((8, 64, 64), np.uint8))
    (tmp_path / "0.json").write_text(json.dumps([{"things": [], "captions": []}] * 8))
    return ScenePool(tmp_path)


def tiny_vit() -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model(
        "vit_tiny_patch16_224", pretrained=False, num_classes=0, img_size=32, patch_size=8,
        embed_dim=32, depth=2, num_heads=2, dynamic_img_size=True,
    )  # fmt: skip


def separation(model: torch.nn.Module, scene: np.ndarray, border: int) -> float:
    """How much more alike the keys of one texture are than those of two."""
    features = DinoFeatures(model, 64, stride=8)
    keys = features(features.resize([torch.tensor(scene)]))[0].flatten(0, 1)
    above = (torch.arange(64) // 8 + 1) * 8 <= border
    same = above[:, None] == above
    cosines = keys @ keys.T
    return float(cosines[same].mean() - cosines[~same].mean())


def test_keys_learn_to_tell_textures_apart(pool: ScenePool, tmp_path: Path) -> None:
    scene = np.ascontiguousarray(pool[4].rgb)
    before = separation(tiny_vit(), scene, border=32)
    trainer = DenseTrainer(tiny_vit(), pool, tmp_path, QUICK)
    trainer.run()
    assert separation(trainer.model, scene, border=32) > before + 0.3


def test_training_goes_on_where_it_stopped(pool: ScenePool, tmp_path: Path) -> None:
    DenseTrainer(tiny_vit(), pool, tmp_path, replace(QUICK, steps=3)).run()
    resumed = DenseTrainer(tiny_vit(), pool, tmp_path, replace(QUICK, steps=4))
    assert resumed.step == 3
    resumed.run()
    assert resumed.step == 4
    assert stack([view(), view()]).shape == (2, 3, 32, 32)


def test_weights_written_elsewhere_come_with_configuration_and_checksums(tmp_path: Path) -> None:
    config = Path(str(resources.files("zgs_ros.models"))) / "mini" / "dino" / "config.json"
    model = timm.create_model(f"local-dir:{config.parent}", pretrained=False, num_classes=0)
    export(model, tmp_path / "out", "model.safetensors", config)
    loaded = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True, num_classes=0)
    for name, value in loaded.state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[name].half().float())
    sums = (tmp_path / "out" / "SHA256SUMS").read_text().split()
    assert sums[1::2] == ["config.json", "model.safetensors"]
    assert sums[0] == sha256(config)
