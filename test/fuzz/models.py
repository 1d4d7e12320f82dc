"""Names of models, and what is read of their files before a library sees them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from safetensors.numpy import save

from fuzz.engine import scratch, target
from zgs_ros.config import ClipSettings, DinoSettings
from zgs_ros.models.kinds import check_dino_file, find_clip, find_dino
from zgs_ros.models.language import language_model_files


def _weights_seeds() -> Iterator[bytes]:
    one = np.zeros((2, 3), np.float32)
    yield save({"a": one})
    yield save({"a": one, "head.weight": one}, {"format": "pt"})
    yield save({"vision_model.x": one.astype(np.float16)})


@target(ValueError, seeds=_weights_seeds)
def weights(data: bytes) -> None:
    """The header of a file of weights."""
    path = scratch() / "model.safetensors"
    path.write_bytes(data)
    check_dino_file(path, {"a": (2, 3)})


def _name_seeds() -> list[bytes]:
    return [
        b"vit_tiny_patch16_224",
        b"ViT-B-32",
        b"hf-hub:owner/model",
        b"local-dir:folder",
        b"owner/model",
        b"../x/../y",
        b"vit_tiny_patch16_224.augreg_in21k",
    ]


@target(ValueError, seeds=_name_seeds, megabytes=700, seconds=20.0, longest=200)
def name(data: bytes) -> None:
    """The name of a model, of each kind."""
    text = data.decode("utf-8", "surrogateescape")
    refusals = 0
    for find in (
        lambda: find_clip(ClipSettings(model=text)),
        lambda: find_dino(DinoSettings(model=text)),
        lambda: language_model_files(text),
    ):
        try:
            find()
        except Exception as error:
            if type(error) is not ValueError:
                raise
            refusals += 1
    if refusals == 3:
        raise ValueError
