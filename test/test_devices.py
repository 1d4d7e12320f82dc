"""On a GPU nothing is left behind on the CPU, and where a CUDA graph may be captured, nothing waits for it.

PyTorch's fake tensors have a device without there being one, and an operation on values of two devices
raises, so no GPU is needed. They have no values either: whoever looks at one, as the CPU does that waits for a
GPU's result, raises too.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Literal, TypeVar

import open_clip
import pytest
import timm
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from zgs_ros.embedding.clip import ClipEmbedder
from zgs_ros.embedding.global_subtraction import Shared
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
    with FakeTensorMode(), torch.inference_mode():
        yield


class Uploads(TorchDispatchMode):
    """Counts what comes from the CPU meanwhile; single numbers go along with the operation."""

    count = 0

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        values = [v for v in tree_leaves((args, kwargs)) if isinstance(v, torch.Tensor) and v.dim()]
        self.count += any(value.device != GPU for value in values)
        return operation(*args, **(kwargs or {}))


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


@pytest.mark.parametrize("look", [torch.Tensor.nonzero, torch.Tensor.unique, lambda v: float(v[0])])
def test_looking_at_values_is_noticed(look: Callable[[torch.Tensor], object], fake: None) -> None:
    with pytest.raises(Exception, match=r"aten\."):
        look(empty(3))


@pytest.mark.parametrize("take", [lambda v: v[[0, 2]], lambda v: v + v.new_tensor([1.0, 2.0, 3.0])])
def test_what_comes_from_the_cpu_is_noticed(
    take: Callable[[torch.Tensor], object], fake: None
) -> None:
    with Uploads() as uploads:
        take(empty(3))
    assert uploads.count


@pytest.mark.parametrize("attention", ["all", "grid"])
@pytest.mark.parametrize("model", ["vit_tiny_patch16_224"], indirect=True)
def test_features_are_computed_where_the_model_is(
    model: nn.Module, fake: None, attention: Literal["all", "grid"]
) -> None:
    dino = on_gpu(DinoFeatures(on_gpu(model), SIZE[0], STRIDE, attention))
    with Uploads() as uploads:
        features = dino(dino.resize([empty(60, 80, 3, dtype=torch.uint8)]))
    assert features.shape == (1, 7, 10, WIDTH)
    assert features.device == GPU
    assert not uploads.count


@pytest.mark.parametrize("mode", ["global_subtraction", "mask"])
@pytest.mark.parametrize("model", ["ViT-B-32"], indirect=True)
def test_segments_are_embedded_where_the_model_is(
    model: nn.Module, fake: None, mode: Literal["global_subtraction", "mask"]
) -> None:
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    clip = ClipEmbedder(on_gpu(model), tokenizer, "random", mode, 4, 5.0, 8)
    with Uploads() as uploads:
        pixels = clip.prepare(empty(60, 80, 3, dtype=torch.uint8))
        shared = Shared(*clip._encode_images(torch.cat([pixels, pixels])))
        (rows,) = clip._embed_segments(empty(5, 1 + 7 * 7), *shared.image(1))
    assert rows.shape == (5, clip.dimensions)
    assert {value.device for value in (*shared, rows)} == {GPU}
    assert not uploads.count


def test_borders_are_found_where_the_features_are(fake: None) -> None:
    with Uploads() as uploads:
        grid = refinement.soft_assignment(empty(7, 10, WIDTH), empty(3, WIDTH), 0.1)
        maps = refinement.place_on_pixels(grid, SIZE, PATCH, STRIDE)
        models, scores = refinement.fit_maps(maps, empty(3, *SIZE), 4, 1e-3)
        labels = refinement._best(scores, [0, 1, 2])
        line, pair = empty(9, dtype=torch.long), empty(9, 2, dtype=torch.long)
        finer = refinement._scores_at(models, pair, line, line, empty(9, 3), SIZE)
    places = (maps, models, scores, labels, refinement._borders(labels), finer)
    assert {value.device for value in places} == {GPU}
    assert not uploads.count


def test_positions_are_grouped_where_the_features_are(fake: None) -> None:
    with Uploads() as uploads:
        found = tree._kmeans(empty(7, 10, WIDTH), 16)
    assert {value.device for value in found} == {GPU}
    assert not uploads.count
