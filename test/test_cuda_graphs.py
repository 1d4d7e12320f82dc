"""Functions that are captured as CUDA graphs and replayed.

PyTorch's tracer captures here, without a GPU: what it replays are a function's operations on memory of their
own, as a CUDA graph does. Whatever the function looked at, or read from elsewhere, would stay as captured.
"""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from zgs_ros.config import SegmenterSettings, make_settings
from zgs_ros.embedding.clip import CAPTURED_SEGMENTS, _fill_up
from zgs_ros.gpu import graphs
from zgs_ros.gpu.graphs import Capture, Function, Graphed, Tensors, make_capture
from zgs_ros.oversegmentation import refinement
from zgs_ros.segmenter import Segmenter, load_segmenter
from zgs_ros.synthetic import SyntheticCamera

LOGGER = "zgs_ros.gpu.graphs"
CRF = {"refinement.method": "crf"}


class Trace:
    """A function's operations, traced."""

    def __init__(self, function: Function, inputs: Tensors) -> None:
        self._inputs = inputs
        self._operations = make_fx(lambda *values: function(*values))(*inputs)  # no bound methods
        self.outputs = tuple(value.clone() for value in self._operations(*inputs))

    def replay(self) -> None:
        results = self._operations(*self._inputs)
        for output, result in zip(self.outputs, results, strict=True):
            output.copy_(result)


def double(values: Tensor, more: Tensor) -> Tensors:
    return (2 * values + more, values - more)


def pair(rows: int, seed: int = 0) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(rows, 3, generator=generator), torch.rand(3, generator=generator)


def test_a_shape_that_comes_again_is_captured_and_replayed() -> None:
    calls = []

    def counted(*inputs: Tensor) -> Tensors:
        calls.append(inputs)
        return double(*inputs)

    graphed = Graphed(counted, "doubling", Trace)
    captured, called = [], []
    for seed in range(4):
        inputs = pair(2, seed)
        for found, expected in zip(graphed(*inputs), double(*inputs), strict=True):
            assert torch.equal(found, expected)
        captured.append(graphed.captured)
        called.append(len(calls))
    assert captured == [0, 1, 1, 1]
    assert called == [1, 3, 3, 3]  # computed, computed and captured, replayed


def test_results_stay_when_others_are_replayed() -> None:
    graphed = Graphed(double, "doubling", Trace)
    found = [graphed(*pair(2, seed)) for seed in range(5)]
    for seed, results in enumerate(found):
        assert torch.equal(results[0], double(*pair(2, seed))[0])


def test_every_shape_and_type_has_a_graph_of_its_own() -> None:
    graphed = Graphed(double, "doubling", Trace)
    for _ in range(3):
        for rows in (2, 5):
            for kind in (torch.float32, torch.float64):
                inputs = tuple(value.to(kind) for value in pair(rows, rows))
                assert torch.equal(graphed(*inputs)[0], double(*inputs)[0])
    assert graphed.captured == 4


def test_only_so_many_shapes_are_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "MAX_GRAPHS", 2)
    graphed = Graphed(double, "doubling", Trace)
    for _ in range(3):
        for rows in range(1, 6):
            assert torch.equal(graphed(*pair(rows))[1], double(*pair(rows))[1])
    assert graphed.captured == 2


def fail(function: Function, inputs: Tensors) -> Trace:
    raise torch.cuda.OutOfMemoryError("no room\nfor it")


def capture_something_else(function: Function, inputs: Tensors) -> Trace:
    return Trace(lambda *values: tuple(1.1 * value for value in function(*values)), inputs)


def capture_nonsense(function: Function, inputs: Tensors) -> Trace:
    return Trace(lambda *values: tuple(value / 0.0 for value in function(*values)), inputs)


@pytest.mark.parametrize(
    ("capture", "reason"),
    [
        pytest.param(fail, "no room", id="no memory"),
        pytest.param(capture_something_else, "its graph is off by 0.1", id="another result"),
        pytest.param(capture_nonsense, "its graph is off by", id="no result"),
    ],
)
def test_what_can_not_be_captured_goes_on_without(
    capture: Capture, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    graphed = Graphed(double, "doubling", capture)
    with caplog.at_level(logging.WARNING, LOGGER):
        for seed in range(4):
            assert torch.equal(graphed(*pair(2, seed))[0], double(*pair(2, seed))[0])
    assert graphed.captured == 0
    (message,) = caplog.messages
    assert message.startswith(
        f"cuda_graphs: doubling can't be captured and goes on without: {reason}"
    )


def test_a_cpu_replays_nothing() -> None:
    assert make_capture(torch.device("cpu"), "doubling") is None


@pytest.fixture
def functions(monkeypatch: pytest.MonkeyPatch) -> list[Graphed]:
    """Segmenters capture by tracing; all functions that may be captured."""
    made: list[Graphed] = []

    class Kept(Graphed):
        def __init__(self, function: Function, name: str, capture: Capture | None) -> None:
            super().__init__(function, name, capture)
            made.append(self)

    monkeypatch.setattr(graphs, "make_capture", lambda device, name: Trace)
    monkeypatch.setattr(graphs, "Graphed", Kept)
    # What a GPU does, since OpenCV can't be traced.
    monkeypatch.setattr(refinement, "_sums_on_cpu", refinement._sums)
    return made


def load(cuda_graphs: bool, **values: str) -> Segmenter:
    settings = {"profile": "mini", "cuda_graphs": cuda_graphs, **values}
    return load_segmenter(make_settings(SegmenterSettings, settings))


@pytest.mark.parametrize("images", [1, 2])
def test_replayed_models_segment_as_they_do_otherwise(
    functions: list[Graphed], images: int, caplog: pytest.LogCaptureFixture
) -> None:
    camera = SyntheticCamera(seed=3, height=120, width=160)
    batches = [[camera.frame(7 * n + i).rgb for i in range(images)] for n in range(5)]
    plain, replaying = load(False), load(True)
    with caplog.at_level(logging.WARNING, LOGGER):
        for batch in batches:
            found, expected = replaying.segment_batch(batch), plain.segment_batch(batch)
            for ours, theirs in zip(found, expected, strict=True):
                assert np.array_equal(ours.label_map, theirs.label_map)
                assert [s.label for s in ours.segments] == [s.label for s in theirs.segments]
                for our, their in zip(ours.segments, theirs.segments, strict=True):
                    np.testing.assert_allclose(our.embedding, their.embedding, atol=1e-5)
    assert not [
        record for record in caplog.records if record.name == LOGGER and record.levelno > 20
    ]
    assert all(function.captured for function in functions[-4:])


def test_a_dense_crf_looks_at_values_and_is_not_captured(functions: list[Graphed]) -> None:
    images = [SyntheticCamera(seed=3, height=60, width=80).frame(n).rgb for n in range(4)]
    plain, replaying = load(False, **CRF), load(True, **CRF)
    for image in images:
        ours, theirs = replaying.segment(image), plain.segment(image)
        assert np.array_equal(ours.label_map, theirs.label_map)
    assert replaying._find_features.captured == 1
    assert replaying._fit_borders.captured == 0


@pytest.mark.parametrize("mode", ["mask", "dense", "crop"])
def test_the_other_ways_to_embed_are_replayed_too(functions: list[Graphed], mode: str) -> None:
    image = SyntheticCamera(seed=3, height=60, width=80).frame(0).rgb
    masks = np.random.default_rng(0).random((5, 60, 80)) > 0.5
    values = {"profile": "mini", "clip.mode": mode}
    plain = load_segmenter(make_settings(SegmenterSettings, values))._clip
    replaying = plain.with_cuda_graphs()
    (expected,) = plain.embed_segments([image], [masks])
    for _ in range(3):
        np.testing.assert_allclose(
            replaying.embed_segments([image], [masks])[0], expected, atol=1e-5
        )
    assert [function.captured for function in functions[-2:]] == (
        [0, 0] if mode == "crop" else [1, 1]
    )


@pytest.mark.parametrize(
    ("count", "filled"), [(1, 1), (3, 4), (9, 12), (32, 32), (33, 48), (100, 112)]
)
def test_few_numbers_of_segments_are_captured(count: int, filled: int) -> None:
    mu = torch.rand(count, 7)
    found = _fill_up(mu)
    assert torch.equal(found[:count], mu)
    assert found.shape == (filled, 7)
    assert (found[count:] == 1.0).all()  # whole images, of which each has an embedding
    assert filled in CAPTURED_SEGMENTS or filled % 16 == 0
