"""zgs bench: what is timed, counted and compared."""

from __future__ import annotations

import importlib.util
import json
import sys
from functools import cache
from itertools import count
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import global_subtraction_reference as reference
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from open_clip.transformer import ResidualAttentionBlock
from torch.nn import functional
from typer.testing import CliRunner

from zgs_ros.bench import literal
from zgs_ros.bench.curves import Curve
from zgs_ros.bench.given import tile_masks
from zgs_ros.bench.limit import ProductRate, libraries, processor_peak
from zgs_ros.bench.measuring import camera_frames
from zgs_ros.bench.models import Bench, make_bench, random_clip
from zgs_ros.bench.probes import count_flops, flop_counter, time_stages
from zgs_ros.cli import app
from zgs_ros.config import SegmenterSettings, make_settings
from zgs_ros.evaluation.metrics import adjusted_rand

STAGES = ["features", "encoding", "clustering", "refinement", "embedding", "labeling", "merging"]
CPU = torch.device("cpu")
SMALL = ["--size", "96x72", "--repeats", "1"]
EXACT = ["--precision", "float32"]


@cache
def bench_of(segments: int, **settings: Any) -> Bench:
    values = {key.replace("__", "."): value for key, value in settings.items()}
    return make_bench(
        make_settings(SegmenterSettings, {"profile": "mini", "device": "cpu", **values}), segments
    )


@cache
def image_of(size: tuple[int, int] = (96, 72)) -> NDArray[np.uint8]:
    return camera_frames(*size)[0][0]


def run(arguments: list[str]) -> Any:
    return CliRunner().invoke(app, ["bench", *arguments], env={"COLUMNS": "160"})


def test_every_stage_is_timed_counted_and_held_against_the_machines_rate(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    result = run(["--profile", "mini", *SMALL, "--segments", "6", "--json", str(file)])
    assert result.exit_code == 0, result.output
    found = json.loads(file.read_text())
    assert found["run"]["profile"] == "mini"
    assert found["run"]["given_segments"] == 6
    measurement = found["measurement"]
    assert list(measurement["stages"]) == [*STAGES, "whole"]
    rate = measurement["rate_flops"]
    rates = [rate for sizes in measurement["rates_flops"].values() for rate in sizes.values()]
    assert rate == max(rates) > 0
    for name, stage in measurement["stages"].items():
        assert stage["p10_s"] <= stage["p50_s"] <= stage["p90_s"] <= stage["p99_s"], name
        assert stage["limit_s"] == pytest.approx(stage["flops"] / rate)
        assert stage["share_of_limit"] == pytest.approx(stage["limit_s"] / stage["p50_s"])
        assert name in result.output
    parts = [measurement["stages"][name] for name in STAGES]
    whole = measurement["stages"]["whole"]
    assert whole["flops"] == sum(stage["flops"] for stage in parts)
    assert whole["p50_s"] >= sum(stage["p50_s"] for stage in parts)
    assert measurement["memory_bytes"]["process"] > 50e6
    assert "not normalisation" in result.output


def test_the_given_number_of_segments_goes_through() -> None:
    apart = bench_of(7, merging__enabled=False).segmenter.segment(image_of())
    assert len(apart.segments) == 7
    merged = bench_of(8, merging__threshold=0.55).segmenter.segment(image_of())
    assert 8 - 2 <= len(merged.segments) < 8  # one sibling pair in four segments is named alike


@pytest.mark.parametrize("cells", [1, 2, 7, 20])
def test_given_segments_tile_the_image_as_leaves_of_a_tree(cells: int) -> None:
    masks = tile_masks(30, 40, cells)
    assert (np.sum(list(masks.values()), axis=0) == 1).all()
    assert all(mask.any() for mask in masks.values())
    assert list(masks) == list(range(cells - 1, 2 * cells - 1))


def test_more_segments_grow_the_embedding_and_nothing_before_it() -> None:
    few, many = (
        count_flops(lambda n=n: bench_of(n, clip__masked_blocks=4).segmenter.segment(image_of()))
        for n in (2, 10)
    )
    assert few["features"] == many["features"]
    assert few["encoding"] == many["encoding"]
    assert 3 * few["embedding"] < many["embedding"] <= 5 * few["embedding"]


def test_operations_of_a_transformer_block_are_those_counted_by_hand() -> None:
    block = ResidualAttentionBlock(64, 4).eval()
    tokens, width = 10, 64
    with torch.inference_mode(), flop_counter() as counter:
        block(torch.zeros(3, tokens, width))
    projections = 2 * tokens * width * width * (3 + 1 + 4 + 4)  # qkv, out, MLP up and down
    attention = 2 * 2 * tokens * tokens * width  # q k^T and A V
    assert counter.get_total_flops() == 3 * (projections + attention)


def test_operations_of_distances_are_counted() -> None:
    with torch.inference_mode(), flop_counter() as counter:
        torch.cdist(torch.zeros(30, 8), torch.zeros(5, 8))
    assert counter.get_total_flops() == 2 * 30 * 5 * 8


def test_operations_of_the_features_are_those_counted_by_hand() -> None:
    bench = bench_of(2, dino__model="vit_tiny_patch16_224", dino__short_side=32, dino__stride=16)
    found = count_flops(lambda: bench.segmenter.segment(image_of((64, 64))))
    width, depth, patches = 192, 12, 4
    tokens = patches + 1
    block = 2 * tokens * width * width * 12 + 4 * tokens * tokens * width
    first = 2 * patches * 3 * 16 * 16 * width
    keys = 2 * patches * width * width
    assert found["features"] == first + (depth - 1) * block + keys


def test_the_rate_is_operations_by_seconds() -> None:
    clock = count()
    rate = ProductRate((3, 5, 7), CPU, torch.float32, clock=lambda: float(next(clock)))
    assert rate.measure() == 2 * 3 * 5 * 7  # one product in one second of this clock


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_all_libraries_multiply_alike(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    rows, weight = (torch.randn(size, 16, generator=generator).to(dtype) for size in (5, 7))
    expected = rows.double() @ weight.double().T
    found = libraries(CPU, dtype)
    assert "PyTorch" in found
    for name, library in found.items():
        with torch.inference_mode():
            result = library(rows, weight)()
        if not isinstance(result, torch.Tensor):  # OpenVINO's
            result = torch.from_numpy(np.array(result[0]))
        result = result.to_dense() if result.is_mkldnn else result
        (
            torch.testing.assert_close(
                result.double(), expected, rtol=0, atol=1e-4 if dtype == torch.float32 else 0.1
            ),
            name,
        )


def test_the_processors_peak_grows_with_its_cores() -> None:
    one, two = processor_peak(1, torch.float32), processor_peak(2, torch.float32)
    assert (one is None and two is None) or two == 2 * one
    assert processor_peak(1, torch.float64) is None


def test_stages_are_timed_by_the_given_clock() -> None:
    clock = count()
    segmenter = bench_of(2).segmenter
    times, result = time_stages(
        lambda: segmenter.segment(image_of()), CPU, lambda: float(next(clock))
    )
    assert times == dict.fromkeys(STAGES, 1.0)
    assert len(result.segments) == 2


def test_the_literal_embedding_is_that_of_the_formulas() -> None:
    """Against the tests' own float64 version, which shares no code with it."""
    sigma = 2.0
    bench = bench_of(2, clip__sigma=sigma, clip__masked_blocks=3, precision="float32")
    pixels = torch.randn(1, 3, *bench.tower.image_size, generator=torch.Generator().manual_seed(1))
    shares = literal.cover(np.stack(list(tile_masks(48, 48, 2).values())), bench.tower.grid)
    found = literal.embed_segments(bench.tower, pixels, shares, 3, sigma)
    visual = random_clip(bench.settings.clip, CPU, torch.float32)._model.visual.double()
    for row, share in zip(found, shares, strict=True):
        expected = reference.segment_embedding(
            visual, pixels.double(), share.flatten().double(), 3, sigma
        )
        expected = functional.normalize(expected.float(), dim=-1)
        torch.testing.assert_close(row, expected, atol=1e-5, rtol=1e-4)


def test_the_literal_way_finds_the_same_embeddings(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    arguments = ["--compare", "reference", "--segments", "5", "--json", str(file), *EXACT]
    result = run(["--profile", "mini", *SMALL, *arguments, "--set", "clip.masked_blocks=4"])
    assert result.exit_code == 0, result.output
    found = json.loads(file.read_text())["comparison"]
    assert found["largest_relative_difference"] < 1e-4
    assert list(found["steps"]) == ["encoding and embedding", "clustering", "refinement"]
    for step in found["steps"].values():
        assert step["ratio"] == pytest.approx(step["literal_s"] / step["own_s"])
        assert step["own_s"] > 0
    assert found["positions"] > 100


@pytest.mark.slow
def test_the_literal_way_finds_the_same_embeddings_of_a_large_model(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    arguments = ["--compare", "reference", "--segments", "4", "--json", str(file), *EXACT]
    result = run(
        [
            *SMALL,
            *arguments,
            "--profile",
            "mini",
            "--set",
            "clip.model=ViT-B-32",
            "--set",
            "clip.pretrained=openai",
            "--set",
            "clip.masked_blocks=4",
        ]
    )
    assert result.exit_code == 0, result.output
    found = json.loads(file.read_text())["comparison"]
    assert found["largest_relative_difference"] < 1e-4
    assert found["steps"]["encoding and embedding"]["ratio"] > 1


@pytest.mark.parametrize(
    ("seconds", "exponent", "line"),
    [
        ((2.0, 4.0, 8.0), 1.0, (0.0, 2.0)),
        ((1.0, 4.0, 16.0), 2.0, None),
        ((5.0, 5.0, 5.0), 0.0, (5.0, 0.0)),
    ],
)
def test_the_exponent_tells_how_a_cost_grows(
    seconds: tuple[float, ...], exponent: float, line: tuple[float, float] | None
) -> None:
    curve = Curve("embedding", "segments", (1, 2, 4), seconds)
    assert curve.exponent == pytest.approx(exponent, abs=1e-9)
    if line:
        assert curve.line == pytest.approx(line, abs=1e-9)


@pytest.mark.parametrize(
    ("what", "stages", "sizes"),
    [("segments", ["embedding"], [1, 2, 4, 5]), ("positions", ["features", "clustering"], None)],
)
def test_a_curve_has_a_point_per_size(
    tmp_path: Path, what: str, stages: list[str], sizes: list[int] | None
) -> None:
    file = tmp_path / "bench.json"
    arguments = ["--curve", what, "--segments", "5", "--json", str(file)]
    small = ["--set", "dino.short_side=32", "--set", "clustering.groups=16"]
    result = run(["--profile", "mini", *SMALL, *arguments, *small])
    assert result.exit_code == 0, result.output
    curves = json.loads(file.read_text())["curves"]
    assert [curve["stage"] for curve in curves] == stages
    for curve in curves:
        assert curve["sizes"] == (sizes or sorted(set(curve["sizes"])))
        assert len(curve["seconds"]) == len(curve["sizes"]) >= 4
        assert f"^{curve['exponent']:.2f}" in result.output


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--size", "640"], 2, "must be WIDTHxHEIGHT"),
        (["--size", "4x4"], 2, "at least 8x8"),
        (["--profile", "huge"], 2, "'huge' is not one of"),
        (["--compare", "minutes"], 2, "is not one of reference, float32"),
        (["--curve", "images"], 2, "not one of segments, positions"),
        (["--compare", "reference", "--curve", "segments"], 2, "one at a time"),
        (["--clock", "sun"], 2, "not one of wall, cpu"),
        (["--profiles", "mini,huge"], 2, "'huge' is not one of all, paper"),
        (["--device", "cuda:99"], 1, "CUDA devices"),
        (["--set", "dino.model=vit_nowhere"], 1, "dino.model 'vit_nowhere'"),
        (["--profile", "mini", "--set", "clip.model=ViT-Q"], 1, "clip.model 'ViT-Q'"),
        (["--profile", "mini", "--set", "labeling.method=zerocap"], 2, "benchmarks/captions.py"),
        (["--profile", "mini", "--compare", "reference"], 2, "needs at least 1"),
        (["--profile", "mini", "--curve", "segments"], 2, "needs at least 2, got 0"),
        (["--profile", "mini", "--size", "8x8", "--segments", "65"], 2, "65 don't fit"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(arguments: list[str], code: int, message: str) -> None:
    result = run([*arguments, "--repeats", "1"])
    assert result.exit_code == code, result.output
    assert message in result.output
    assert len(result.output.strip().splitlines()) == 1


def script_of(root: Path, name: str) -> ModuleType:
    path = root / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclasses look for their names
    spec.loader.exec_module(module)
    return module


def test_the_gpu_script_writes_its_report(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    small = ["--size", "64", "48", "--segments", "3", "--frames", "1", "--warmup", "1"]
    script = script_of(pytestconfig.rootpath, "gpu")
    script.main(["--device", "cpu", "--profiles", "mini", *small, "--out", str(tmp_path)])
    results = json.loads((tmp_path / "gpu.json").read_text())
    ways = [(1, False), (1, True), (4, False), (4, True)]
    assert [(found["images"], found["cuda_graphs"]) for found in results] == ways
    report = (tmp_path / "gpu.md").read_text()
    for graphs, one, four in (("off", 0, 2), ("on", 1, 3)):
        factor = (
            results[four]["stages"]["whole"]["p50_s"] / results[one]["stages"]["whole"]["p50_s"]
        )
        assert f"mini, cuda_graphs {graphs}: 4 cameras take {factor:.2f} times" in report
    for stage in STAGES:
        assert f"| {stage} |" in report


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        pytest.param([0, 0, 1, 1], [1, 1, 0, 0], 1.0, id="other names"),
        pytest.param([0, 0, 1, 1], [0, 0, 1, 2], 4 / 7, id="one split"),
        pytest.param([0, 0, 1, 1], [0, 1, 0, 1], -0.5, id="across"),
        pytest.param([0, 0, 0], [0, 0, 0], 1.0, id="one cluster"),
    ],
)
def test_agreement_is_the_adjusted_rand_index(
    left: list[int], right: list[int], expected: float
) -> None:
    assert adjusted_rand(np.array(left), np.array(right)) == pytest.approx(expected)


def test_clustering_in_two_levels_is_held_against_ward(pytestconfig: pytest.Config) -> None:
    script = script_of(pytestconfig.rootpath, "clustering")
    generator = torch.Generator().manual_seed(0)
    truth = np.repeat(np.arange(1, 5), 36).reshape(12, 12)  # four bands, far apart but for noise
    features = torch.eye(4)[torch.from_numpy(truth - 1)]
    features = features + 0.05 * torch.randn(12, 12, 4, generator=generator)
    sample = SimpleNamespace(regions=[SimpleNamespace(id=number) for number in range(1, 5)])
    found = script.compare(lambda _: (features, truth), [sample], groups=[36], splits=3)
    for quality in found.values():
        assert quality.agreement == [pytest.approx(1.0)]
        assert quality.squares == [pytest.approx(1.0)]
        assert quality.best_iou == [1.0] * 4


def test_bfloat16_is_held_against_float32(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    given = ["--profile", "mini", "--size", "160x120", "--scenes", "2", "--json", str(file)]
    result = run([*given, "--compare", "float32", "--precision", "bfloat16"])
    assert result.exit_code == 0, result.output
    found = json.loads(file.read_text())["agreement"]
    assert found["segments"] >= 2
    assert found["cosine"] > 0.99
    assert min(found["partition"], found["pixels"], found["labels"]) > 0.5
    assert run([*given, "--compare", "float32", "--precision", "float32"]).exit_code == 2


@pytest.mark.slow
def test_profiles_stand_side_by_side(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    rows = "mini,mini+clip.mode=dense"
    result = run([*SMALL, "--profiles", rows, "--scenes", "1", "--json", str(file)])
    assert result.exit_code == 0, result.output
    found = json.loads(file.read_text())
    assert found["profiles"]["mini"]["run"]["profile"] == "mini"
    assert 0 < found["synthetic_miou"]["mini"] <= 1
    costs = [
        found["profiles"][row]["measurement"]["stages"]["embedding"]["flops"]
        for row in rows.split(",")
    ]
    assert costs[1] < 0.5 * costs[0], "a row has settings of its own"
    assert "| mini | zgs-mini-dino, zgs-mini-clip | found |" in result.output
