"""Engines: the same numbers as PyTorch, only for what they were made for."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from zgs_ros.cli import app
from zgs_ros.config import SegmenterSettings, make_settings
from zgs_ros.engines import running
from zgs_ros.engines.manifest import MANIFEST, EngineError, read_manifest, weights_digest
from zgs_ros.models import ModelError
from zgs_ros.segmenter import Segmenter, load_segmenter
from zgs_ros.synthetic import SyntheticCamera

BACKENDS = ["openvino", "onnxruntime"]
SIZE = (128, 96)
for library in ("onnx", "onnxscript", *BACKENDS):
    pytest.importorskip(library)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Engines of the mini models for images of 128 x 96, dense."""
    path = tmp_path_factory.mktemp("engines")
    arguments = ["--profile", "mini", "--set", "clip.mode=dense", "--size", "128x96"]
    result = CliRunner().invoke(app, ["export", *arguments, "--out", str(path)])
    assert result.exit_code == 0, result.output
    return path


def settings_of(**values: Any) -> SegmenterSettings:
    given = {"profile": "mini", "device": "cpu", "clip.mode": "dense", "precision": "float32"}
    return make_settings(SegmenterSettings, {**given, **values})


def segmenter_of(backend: str, folder: Path) -> Segmenter:
    return load_segmenter(settings_of(backend=backend, engines=str(folder)))


def image_of(width: int, height: int) -> np.ndarray:
    return SyntheticCamera(seed=3, height=height, width=width).frame(0).rgb


def test_the_manifest_says_what_the_files_belong_to(folder: Path) -> None:
    manifest = read_manifest(folder)
    assert manifest.profile == "mini"
    assert set(manifest.steps) == {"features", "encoding"}
    for step in manifest.steps.values():
        assert (folder / step.file).is_file()
        assert set(step.difference) == set(BACKENDS)
        assert max(step.difference.values()) < 1e-4
    assert manifest.steps["encoding"].settings["clip.mode"] == "dense"
    assert "onnx" in manifest.versions


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_segments_and_names_as_pytorch_does(
    backend: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = image_of(*SIZE)
    expected = load_segmenter(settings_of()).segment(image)
    with caplog.at_level(logging.INFO):
        found = segmenter_of(backend, folder).segment(image)
    assert "features runs on O" in caplog.text
    assert "encoding runs on O" in caplog.text
    assert [s.label for s in found.segments] == [s.label for s in expected.segments]
    assert np.mean(found.label_map == expected.label_map) > 0.999
    np.testing.assert_allclose(found.embeddings, expected.embeddings, atol=1e-3)


def test_images_of_another_shape_are_left_to_pytorch(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = image_of(96, 96)
    expected = load_segmenter(settings_of()).segment(image)
    segmenter = segmenter_of("onnxruntime", folder)
    for _ in range(2):
        found = segmenter.segment(image)
    assert [s.label for s in found.segments] == [s.label for s in expected.segments]
    told = [record for record in caplog.records if "its engine is made for" in record.message]
    assert len(told) == 1


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("harm", "settings", "message"),
    [
        (lambda f: None, {"engines": ""}, "needs a folder of them"),
        (lambda f: shutil.rmtree(f), {}, "can't be read"),
        (lambda f: (f / MANIFEST).write_text("{"), {}, "Invalid JSON"),
        (lambda f: change(f / MANIFEST, format=7), {}, "is of format 7, not 1"),
        (lambda f: change(f / MANIFEST, steps={}), {}, "has none for features"),
        (lambda f: damage(f / "features.onnx"), {}, "features.onnx is damaged"),
        (lambda f: (f / "encoding.onnx").unlink(), {}, "encoding.onnx can't be read"),
        (lambda f: None, {"clip.mode": "mask"}, "was made for clip.mode=dense, not mask"),
        (lambda f: None, {"dino.stride": 4}, "was made for dino.stride=8, not 4"),
        (lambda f: None, {"reference": True}, "reference is done by torch"),
    ],
)
def test_what_does_not_belong_is_refused_with_a_way_out(
    harm: Any, settings: dict[str, Any], message: str, folder: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "engines"
    shutil.copytree(folder, copy)
    harm(copy)
    given = {"backend": "onnxruntime", "engines": str(copy), **settings}
    with pytest.raises(ModelError, match=r"torch|zgs export") as caught:
        load_segmenter(settings_of(**given))
    assert message in str(caught.value)


def test_weights_are_told_apart_in_any_arithmetic() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(8, 8)
    same = torch.nn.Linear(8, 8)
    same.load_state_dict(layer.state_dict())
    digest = weights_digest(layer)
    assert weights_digest(same.bfloat16()) == digest
    layer.weight.data[0, 0] += 1.0
    assert weights_digest(layer) != digest


def test_a_backend_that_is_not_installed_is_told_with_what_installs_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(EngineError, match=r'pip install "zgs_ros\[openvino\]"'):
        running.open_engine(
            folder / "features.onnx", [], "openvino", torch.device("cpu"), torch.float32
        )


def test_a_gpu_without_a_provider_is_told(folder: Path) -> None:
    with pytest.raises(EngineError, match="has none of TensorrtExecutionProvider"):
        running.open_engine(
            folder / "features.onnx", [], "onnxruntime", torch.device("cuda", 0), torch.float16
        )
