"""Steps that are recorded and replayed.

PyTorch's tracer records here, without a GPU: what it replays are a function's operations on memory of their
own, as a CUDA graph does. Whatever the function looked at, or read from elsewhere, would stay as recorded.
"""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from zgs_ros.config import SegmenterSettings, make_settings
from zgs_ros.embedding.masked_tower import REPLAYED_SEGMENTS, _fill_up
from zgs_ros.gpu import replay
from zgs_ros.gpu.replay import Function, Recorder, Replayed, Tensors, make_recorder
from zgs_ros.segmenter import Segmenter, load_segmenter
from zgs_ros.synthetic import SyntheticCamera

LOGGER = "zgs_ros.gpu.replay"
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


def test_a_shape_that_comes_again_is_recorded_and_replayed() -> None:
    calls = []

    def counted(*inputs: Tensor) -> Tensors:
        calls.append(inputs)
        return double(*inputs)

    replayed = Replayed(counted, "doubling", Trace)
    recorded, called = [], []
    for seed in range(4):
        inputs = pair(2, seed)
        for found, expected in zip(replayed(*inputs), double(*inputs), strict=True):
            assert torch.equal(found, expected)
        recorded.append(replayed.recorded)
        called.append(len(calls))
    assert recorded == [0, 1, 1, 1]
    assert called == [1, 3, 3, 3]  # computed, computed and recorded, replayed


def test_results_stay_when_others_are_replayed() -> None:
    replayed = Replayed(double, "doubling", Trace)
    found = [replayed(*pair(2, seed)) for seed in range(5)]
    for seed, results in enumerate(found):
        assert torch.equal(results[0], double(*pair(2, seed))[0])


def test_every_shape_and_type_has_a_recording_of_its_own() -> None:
    replayed = Replayed(double, "doubling", Trace)
    for _ in range(3):
        for rows in (2, 5):
            for kind in (torch.float32, torch.float64):
                inputs = tuple(value.to(kind) for value in pair(rows, rows))
                assert torch.equal(replayed(*inputs)[0], double(*inputs)[0])
    assert replayed.recorded == 4


def test_only_so_many_shapes_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "MAX_RECORDINGS", 2)
    replayed = Replayed(double, "doubling", Trace)
    for _ in range(3):
        for rows in range(1, 6):
            assert torch.equal(replayed(*pair(rows))[1], double(*pair(rows))[1])
    assert replayed.recorded == 2


def fail(function: Function, inputs: Tensors) -> Trace:
    raise torch.cuda.OutOfMemoryError("no room\nfor it")


def record_something_else(function: Function, inputs: Tensors) -> Trace:
    return Trace(lambda *values: tuple(1.1 * value for value in function(*values)), inputs)


def record_nonsense(function: Function, inputs: Tensors) -> Trace:
    return Trace(lambda *values: tuple(value / 0.0 for value in function(*values)), inputs)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        pytest.param(fail, "no room", id="no memory"),
        pytest.param(record_something_else, "its replay is off by 0.1", id="another result"),
        pytest.param(record_nonsense, "its replay is off by", id="no result"),
    ],
)
def test_what_can_not_be_recorded_goes_on_without(
    record: Recorder, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    replayed = Replayed(double, "doubling", record)
    with caplog.at_level(logging.WARNING, LOGGER):
        for seed in range(4):
            assert torch.equal(replayed(*pair(2, seed))[0], double(*pair(2, seed))[0])
    assert replayed.recorded == 0
    (message,) = caplog.messages
    assert message.startswith(
        f"cuda_graphs: doubling can't be recorded and goes on without: {reason}"
    )


def test_a_cpu_replays_nothing() -> None:
    assert make_recorder(torch.device("cpu"), "doubling") is None


@pytest.fixture
def recorders(monkeypatch: pytest.MonkeyPatch) -> list[Replayed]:
    """Segmenters record by tracing; all that they record."""
    made: list[Replayed] = []

    class Kept(Replayed):
        def __init__(self, function: Function, name: str, record: Recorder | None) -> None:
            super().__init__(function, name, record)
            made.append(self)

    monkeypatch.setattr(replay, "make_recorder", lambda device, name: Trace)
    monkeypatch.setattr(replay, "Replayed", Kept)
    return made


def load(cuda_graphs: bool, **values: str) -> Segmenter:
    settings = {"profile": "mini", "cuda_graphs": cuda_graphs, **values}
    return load_segmenter(make_settings(SegmenterSettings, settings))


@pytest.mark.parametrize("images", [1, 2])
def test_replayed_models_segment_as_they_do_otherwise(
    recorders: list[Replayed], images: int, caplog: pytest.LogCaptureFixture
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
    assert all(step.recorded for step in recorders[-4:])


def test_a_dense_crf_looks_at_values_and_is_not_recorded(recorders: list[Replayed]) -> None:
    images = [SyntheticCamera(seed=3, height=60, width=80).frame(n).rgb for n in range(4)]
    plain, replaying = load(False, **CRF), load(True, **CRF)
    for image in images:
        ours, theirs = replaying.segment(image), plain.segment(image)
        assert np.array_equal(ours.label_map, theirs.label_map)
    assert replaying._find_features.recorded == 1
    assert replaying._fit_borders.recorded == 0


@pytest.mark.parametrize("mode", ["mask", "crop"])
def test_the_other_ways_to_embed_are_replayed_too(recorders: list[Replayed], mode: str) -> None:
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
    assert [step.recorded for step in recorders[-2:]] == ([1, 1] if mode == "mask" else [0, 0])


@pytest.mark.parametrize(
    ("count", "filled"), [(1, 1), (3, 4), (9, 12), (32, 32), (33, 48), (100, 112)]
)
def test_few_numbers_of_segments_are_recorded(count: int, filled: int) -> None:
    masks = torch.rand(count, 2, 3)
    found = _fill_up(masks)
    assert torch.equal(found[:count], masks)
    assert found.shape == (filled, 2, 3)
    assert not found[count:].any()
    assert filled in REPLAYED_SEGMENTS or filled % 16 == 0
