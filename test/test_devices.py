"""On a GPU nothing is left behind on the CPU.

PyTorch's fake tensors have a device without there being one, and an operation on values of two devices
raises, so no GPU is needed.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from typing import TypeVar

import open_clip
import pytest
import timm
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from zgs_ros.embedding.clip import ClipEmbedder
from zgs_ros.oversegmentation import refinement, tree
from zgs_ros.oversegmentation.features import DinoFeatures

GPU = torch.device("cuda", 0)
SIZE = (64, 88)
PATCH, STRIDE = 16, 8
WIDTH = 192
M = TypeVar("M", bound=nn.Module)


@cache
def make(name: str) -> nn.Module:
    """A model with values, which those who make it look at."""
    return open_clip.create_model(name) if name == "ViT-B-32" else timm.create_model(name)


@pytest.fixture(params=["vit_tiny_patch16_224", "ViT-B-32"])
def model(request: pytest.FixtureRequest) -> nn.Module:
    return copy.deepcopy(make(request.param))


@pytest.fixture
def fake() -> Iterator[None]:
    """In here tensors have a shape and a device, but no values."""
    with FakeTensorMode(shape_env=ShapeEnv()), torch.inference_mode():
        yield


def on_gpu(model: M) -> M:
    """The model with weights of the same shapes there."""
    for part in model.modules():
        for name, weight in list(part.named_parameters(recurse=False)):
            there = torch.empty(weight.shape, device=GPU)
            setattr(part, name, nn.Parameter(there, requires_grad=False))
        for name, buffer in list(part.named_buffers(recurse=False)):
            setattr(part, name, torch.empty(buffer.shape, device=GPU))
    return model


def empty(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device=GPU)


def test_what_lies_on_two_devices_is_noticed(fake: None) -> None:
    with pytest.raises(RuntimeError, match="devices"):
        empty(3) + torch.empty(3)


@pytest.mark.parametrize("model", ["vit_tiny_patch16_224"], indirect=True)
def test_features_are_computed_where_the_model_is(model: nn.Module, fake: None) -> None:
    features = on_gpu(DinoFeatures(on_gpu(model), SIZE[0], STRIDE))(empty(2, 3, *SIZE))
    assert features.shape == (2, 7, 10, WIDTH)
    assert features.device == GPU


@pytest.mark.parametrize("mode", ["global_subtraction", "mask"])
@pytest.mark.parametrize("model", ["ViT-B-32"], indirect=True)
def test_segments_are_embedded_where_the_model_is(model: nn.Module, fake: None, mode: str) -> None:
    clip = ClipEmbedder(
        on_gpu(model), open_clip.get_tokenizer("ViT-B-32"), "random", mode, 4, 5.0, 8
    )
    shared = clip._share(empty(2, 3, 224, 224))
    rows = clip._masked(shared, [3, 2], empty(5, 7, 7))
    assert rows.shape == (5, clip.dimensions)
    assert shared.states.device == rows.device == GPU


def test_borders_are_found_where_the_features_are(fake: None) -> None:
    grid = refinement.soft_assignment(empty(7, 10, WIDTH), empty(3, WIDTH), 0.1)
    maps = refinement.place_on_pixels(grid, SIZE, PATCH, STRIDE)
    models, guide = refinement._linear_models(maps, empty(3, *SIZE), 4, 1e-3)
    labels = refinement._best(models[:, -1], [0, 1, 2])
    pixels, pair = empty(9, 2, dtype=torch.long), empty(9, 2, dtype=torch.long)
    scores = refinement._scores_at(models, pair, pixels, empty(9, 3), SIZE)
    places = (maps, models, guide, labels, refinement._borders(labels), scores)
    assert {value.device for value in places} == {GPU}


def test_positions_are_grouped_where_the_features_are(fake: None) -> None:
    assert tree._kmeans(empty(7, 10, WIDTH), 16).device == GPU
