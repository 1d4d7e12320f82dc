"""What a folder of engines belongs to: models, weights, settings and shapes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from zgs_ros.config import SegmenterSettings, flatten
from zgs_ros.embedding.clip import ClipEmbedder
from zgs_ros.models.hub import sha256
from zgs_ros.oversegmentation.features import DinoFeatures

MANIFEST = "engines.json"
FORMAT = 1
LARGEST_MANIFEST = 1_000_000
LARGEST_ENGINE = 8_000_000_000
"""Bytes that a file may have."""
DECIDING = {
    "features": ("dino.model", "dino.short_side", "dino.stride", "dino.attention"),
    "encoding": ("clip.model", "clip.mode", "clip.masked_blocks", "clip.sigma"),
}
"""Settings that decide what a step computes, beside the weights."""


class EngineError(ValueError):
    """Engines that can't be made, or don't belong to what they are loaded for; the message says what to do."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Step(_Part):
    """One file.

    Attributes:
        file: Its name, in the folder of the manifest.
        sha256: Of the file.
        inputs: Shape of each float32 input.
        outputs: Shape of each float32 output.
        settings: Those of `DECIDING`.
        weights: `weights_digest` of the model.
        difference: Largest relative difference from PyTorch on random input, by backend.
    """

    file: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,100}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    inputs: list[tuple[int, ...]] = Field(min_length=1, max_length=8)
    outputs: list[tuple[int, ...]] = Field(min_length=1, max_length=8)
    settings: dict[str, Any]
    weights: str
    difference: dict[str, float]


class Manifest(_Part):
    """All files of a folder.

    Attributes:
        format: Of this file.
        profile: That the settings began with.
        versions: Of the libraries that made them.
        steps: By the name of what they do; see `DECIDING`.
    """

    format: int
    profile: str
    versions: dict[str, str]
    steps: dict[str, Step]


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder.

    Raises:
        EngineError: If there is none, or it is damaged or of another version.
    """
    path = folder / MANIFEST
    again = f"make them with `zgs export --out {folder}`"
    try:
        if path.stat().st_size > LARGEST_MANIFEST:
            raise EngineError(f"engines: {path} is larger than {LARGEST_MANIFEST} bytes; {again}")
        manifest = Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise EngineError(f"engines: {path} can't be read ({error.strerror}); {again}") from None
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"])) or "it"
        raise EngineError(f"engines: {path}: {where}: {problem['msg']}; {again}") from None
    if manifest.format != FORMAT:
        raise EngineError(f"engines: {path} is of format {manifest.format}, not {FORMAT}; {again}")
    return manifest


def check_step(
    folder: Path, name: str, step: Step, settings: SegmenterSettings, weights: str
) -> Path:
    """The file of a step, if it is whole and belongs to these settings and weights.

    Raises:
        EngineError: If it does not.
    """
    again = f"make them anew with `zgs export --profile {settings.profile} --out {folder}`"
    values = deciding(name, settings)
    for key, value in values.items():
        if step.settings.get(key) != value:
            raise EngineError(
                f"engines: {name} in {folder} was made for {key}={step.settings.get(key)}, not {value}; "
                f"{again}"
            )
    if step.weights != weights:
        raise EngineError(f"engines: {name} in {folder} was made of other weights; {again}")
    path = folder / step.file
    try:
        if path.stat().st_size > LARGEST_ENGINE or sha256(path) != step.sha256:
            raise EngineError(f"engines: {path} is damaged; {again}")
    except OSError as error:
        raise EngineError(f"engines: {path} can't be read ({error.strerror}); {again}") from None
    return path


def deciding(name: str, settings: SegmenterSettings) -> dict[str, Any]:
    """Values of the settings that decide what a step computes."""
    values = flatten(settings)
    return {key: values[key] for key in DECIDING[name]}


def weights_digest(model: torch.nn.Module) -> str:
    """Hash of a model's weights as float32, whatever it computes in: names, shapes and some of the values.

    Rounded to bfloat16, so that it does not depend on the arithmetic that the model was loaded in.
    """
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)}".encode())
        if value.is_floating_point():
            rounded = value.detach().cpu().to(torch.bfloat16).contiguous()
            digest.update(rounded.view(torch.int16).numpy().tobytes())
    return digest.hexdigest()


def digests(dino: DinoFeatures, clip: ClipEmbedder) -> dict[str, str]:
    """Of the weights of each step."""
    visual: Any = clip.model.visual
    return {"features": weights_digest(dino.model), "encoding": weights_digest(visual)}
