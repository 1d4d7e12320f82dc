"""Writing the models' steps as ONNX files, each held against PyTorch on random input."""

from __future__ import annotations

import importlib.metadata
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zgs_ros.config import SegmenterSettings
from zgs_ros.embedding.clip import ClipEmbedder
from zgs_ros.engines.manifest import (
    FORMAT,
    MANIFEST,
    EngineError,
    Manifest,
    Step,
    deciding,
    digests,
)
from zgs_ros.engines.running import Backend, open_engine
from zgs_ros.models.hub import sha256
from zgs_ros.oversegmentation.features import DinoFeatures

CPU = torch.device("cpu")
TOLERANCE = 1e-4
"""Largest relative difference from PyTorch, both in float32."""
LIBRARIES = ("torch", "onnx", "onnxscript", "openvino", "onnxruntime")


@dataclass(frozen=True)
class _Subject:
    """A step to be written: a function of one float32 tensor, and such a tensor."""

    function: Callable[[Tensor], tuple[Tensor, ...]]
    owner: nn.Module
    example: Tensor


class _Module(nn.Module):
    def __init__(self, subject: _Subject) -> None:
        super().__init__()
        self.owner = subject.owner  # whose weights go into the file
        self._function = subject.function

    def forward(self, given: Tensor) -> tuple[Tensor, ...]:
        return self._function(given)


def make_engines(
    settings: SegmenterSettings,
    dino: DinoFeatures,
    clip: ClipEmbedder,
    folder: Path,
    size: tuple[int, int] = (640, 480),
    say: Callable[[str], None] = lambda line: None,
) -> Manifest:
    """Writes features and encoding to a folder, with a manifest.

    Args:
        settings: What the models were loaded by.
        dino: In float32, on the CPU.
        clip: Likewise.
        folder: Is made where it is missing; engines in it are replaced.
        size: (width, height) of the camera's images in pixels.
        say: Takes a line on each step.

    Raises:
        EngineError: If onnx and onnxscript are not installed, a step can't be written, or is off.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = digests(dino, clip)
    steps = {}
    for name, subject in _subjects(dino, clip, size).items():
        path = folder / f"{name}.onnx"
        with torch.no_grad():
            expected = subject.function(subject.example)
        _write(subject, name, path)
        difference = _check(path, name, subject.example, expected)
        steps[name] = Step(
            file=path.name,
            sha256=sha256(path),
            inputs=[tuple(subject.example.shape)],
            outputs=[tuple(value.shape) for value in expected],
            settings=deciding(name, settings),
            weights=weights[name],
            difference=difference,
        )
        found = ", ".join(f"{backend} {value:.1e}" for backend, value in difference.items())
        say(f"{path}: {path.stat().st_size / 1e6:,.1f} MB, off by {found or 'no backend is here'}")
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    manifest = Manifest(format=FORMAT, profile=settings.profile, versions=versions, steps=steps)
    text = json.dumps(manifest.model_dump(mode="json"), indent=1)
    (folder / MANIFEST).write_text(f"{text}\n", encoding="utf-8")
    return manifest


def _subjects(dino: DinoFeatures, clip: ClipEmbedder, size: tuple[int, int]) -> dict[str, _Subject]:
    generator = torch.Generator().manual_seed(0)
    width, height = size
    pixels = torch.rand(1, 3, *dino.resized(height, width), generator=generator)
    found = {"features": _Subject(lambda given: (dino.keys(given),), dino, pixels)}
    if clip.encodes:
        image = torch.randn(1, 3, *clip.image_size, generator=generator)
        tower: Any = clip.model.visual
        found["encoding"] = _Subject(clip.encode_pixels, tower, image)
    return found


def _write(subject: _Subject, name: str, path: Path) -> None:
    try:
        program: Any = torch.onnx.export(
            _Module(subject).eval(), (subject.example,), dynamo=True, verbose=False
        )
        program.save(str(path), external_data=False)
    except ImportError as error:
        raise EngineError(
            f'engines need onnx and onnxscript ({error}): pip install "zgs_ros[export]"'
        ) from None
    except Exception as error:  # the exporter's errors have no common class
        line = str(error).strip().partition("\n")[0][:300]
        raise EngineError(f"engines: {name} can't be written as ONNX: {line}") from error


def _check(
    path: Path, name: str, example: Tensor, expected: tuple[Tensor, ...]
) -> dict[str, float]:
    """Largest relative difference of each backend that is installed.

    Raises:
        EngineError: If one is off by more than `TOLERANCE`.
    """
    found: dict[str, float] = {}
    backends: tuple[Backend, ...] = ("onnxruntime", "openvino")
    for backend in backends:
        try:
            engine = open_engine(path, [tuple(example.shape)], backend, CPU, torch.float32)
        except EngineError as error:
            logging.getLogger(__name__).info("%s", error)
            continue
        found[backend] = max(
            float((ours - theirs.float()).norm() / theirs.float().norm().clamp_min(1e-12))
            for ours, theirs in zip(engine(example), expected, strict=True)
        )
        if not found[backend] <= TOLERANCE:
            raise EngineError(
                f"engines: {name} by {backend} is off by {found[backend]:.2g}, more than {TOLERANCE}"
            )
    return found
