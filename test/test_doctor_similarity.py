"""The doctor measures on the user's images whether the thresholds of cosines fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from zgs_ros.cli import app
from zgs_ros.synthetic.camera import SyntheticCamera
from zgs_ros.tools.doctor.similarity import (
    FEWEST,
    MERGING,
    MIN_SIMILARITY,
    MOST_IMAGES,
    SMOOTHING_SIMILARITY,
    Sample,
    Threshold,
    View,
    check_frames,
    choose,
    judge,
    list_files,
)

DOCTOR = ["doctor", "--profile", "mini", "--no-network", "--no-models", "--json", "--images"]


def spread(low: float, high: float, count: int = 101) -> list[NDArray[np.float32]]:
    """Cosines whose percentiles are as far between both as their number says."""
    return [np.linspace(low, high, count, dtype=np.float32)]


# -- thresholds


@pytest.mark.parametrize(
    ("threshold", "value", "same", "different", "level", "said"),
    [
        (MIN_SIMILARITY, 0.96, (0.9, 1.0), (0.0, 1.0), "ok", "is the smaller harm"),
        (MIN_SIMILARITY, 0.9, (0.93, 0.93), (0.71, 0.71), "ok", "0.93 (5th percentile)"),
        (
            MIN_SIMILARITY,
            0.9,
            (0.93, 0.93),
            (0.71, 0.71),
            "ok",
            "reach 0.71 (95th): 0.9 is between",
        ),
        (MIN_SIMILARITY, 0.6, (0.9, 0.9), (0.7, 0.7), "warning", "set tracking.min_similarity=0.8"),
        (MIN_SIMILARITY, 0.95, (0.9, 0.9), (0.7, 0.7), "warning", "0.95 is too high"),
        (MIN_SIMILARITY, 0.8, (0.8, 0.8), (0.849, 0.849), "warning", "min_similarity=0.85"),
        (SMOOTHING_SIMILARITY, 0.7, (0.9, 0.9), (0.0, 1.0), "ok", "0.50 (50th)"),
        (SMOOTHING_SIMILARITY, 0.7, (0.6, 0.6), (0.4, 0.4), "warning", "smoothing_similarity=0.5"),
        (SMOOTHING_SIMILARITY, 0.7, (0.659, 0.659), (0.8, 0.8), "warning", "similarity=0.65"),
        (SMOOTHING_SIMILARITY, 0.6, (0.659, 0.659), (0.8, 0.8), "ok", "is the smaller harm"),
        (MERGING, 0.8, (0.8, 1.0), (0.6, 0.6), "ok", "0.85 (25th percentile)"),
        (MERGING, 0.8, (0.96, 0.96), (0.9, 0.9), "warning", "different things merge"),
        (MERGING, 0.8, (0.704, 0.704), (0.696, 0.696), "warning", "set merging.threshold=0.7"),
    ],
)
def test_a_threshold_is_held_against_cosines(
    threshold: Threshold,
    value: float,
    same: tuple[float, float],
    different: tuple[float, float],
    level: str,
    said: str,
) -> None:
    finding = judge(threshold, value, spread(*same), spread(*different))
    assert (finding.level, finding.name) == (level, threshold.setting)
    assert said in finding.line()


@pytest.mark.parametrize("threshold", [MIN_SIMILARITY, SMOOTHING_SIMILARITY, MERGING])
@pytest.mark.parametrize("seed", range(5))
def test_what_is_suggested_is_good(threshold: Threshold, seed: int) -> None:
    rng = np.random.default_rng(seed)
    same, different = (
        [rng.uniform(*sorted(rng.uniform(0.2, 1.0, 2)), size=50).astype(np.float32)] for _ in "ab"
    )
    for value in (0.0, 1.0):
        finding = judge(threshold, value, same, different)
        if finding.remedy:
            suggested = float(finding.remedy.partition("=")[2])
            assert judge(threshold, suggested, same, different).level == "ok"


@pytest.mark.parametrize(
    ("same", "different", "said"),
    [
        (0, 100, "0 cosines of the same thing are too few"),
        (100, FEWEST - 1, "19 cosines of different things are too few"),
        (1, 1, "1 cosines of the same thing and 1 cosines of different things are too few"),
    ],
)
def test_few_cosines_judge_nothing(same: int, different: int, said: str) -> None:
    finding = judge(MERGING, 0.8, spread(0.9, 1.0, same), spread(0.0, 0.5, different))
    assert finding.level == "warning"
    assert said in finding.text


# -- which segments are compared

ROWS = np.array([[1.0, 0.0], [0.6, 0.8]], np.float32)


def view(split: int, columns: int = 10, of: int = 10) -> View:
    """Two segments that meet at a column, of a picture that has none behind `of`."""
    label_map = np.zeros((4, columns), np.uint16)
    label_map[:, :split], label_map[:, split:of] = 1, 2
    return View(label_map, [1, 2], ROWS)


def crowd(upright: bool) -> View:
    """One thing that stays, and beside it four stripes."""
    label_map = np.ones((4, 10), np.uint16)
    stripes = np.tile(np.array([2, 3, 4, 5], np.uint16), (4, 1))
    label_map[:, 6:] = stripes if upright else stripes.T
    return View(label_map, [1, 2, 3, 4, 5], ROWS[[0, 1, 1, 1, 1]])


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        (view(5), view(5), [1.0, 1.0]),
        (view(5), view(6), [1.0, 1.0]),
        (view(7), view(3), []),  # moved too far
        (crowd(True), crowd(True), [1.0] * 5),
        (crowd(True), crowd(False), []),  # only the largest stayed
        (view(9), view(7), [1.0]),
        (view(2, of=4), view(2, of=4), []),  # too little of the picture
        (view(5), view(5, columns=12), []),  # another size
        (view(5), View(np.zeros((4, 10), np.uint16), [], np.zeros((0, 0), np.float32)), []),
    ],
)
def test_what_overlaps_in_neighbouring_frames_is_the_same(
    before: View, after: View, same: list[float]
) -> None:
    sample = Sample()
    sample.add(before, None)
    sample.add(after, before)
    assert np.concatenate([[], *sample.same]) == pytest.approx(same)
    assert sample.different[0][:1] == pytest.approx([0.6])
    assert sample.pairs == 1


@pytest.mark.parametrize(("count", "runs"), [(1, [1]), (24, [24]), (25, [3] * 8), (1000, [3] * 8)])
def test_images_are_chosen_in_runs_from_all_over(count: int, runs: list[int]) -> None:
    files = [Path(f"{number}.png") for number in range(count)]
    chosen = choose(files)
    assert [len(run) for run in chosen] == runs
    assert sum(runs) <= MOST_IMAGES
    assert (chosen[0][0], chosen[-1][-1]) == (files[0], files[-1])
    for run in chosen:
        first = int(run[0].stem)
        assert list(run) == files[first : first + len(run)]


def test_files_are_in_natural_order(tmp_path: Path) -> None:
    for number in (10, 9, 1):
        (tmp_path / f"frame{number}.png").write_bytes(b"")
    assert [path.stem for path in list_files(tmp_path)] == ["frame1", "frame9", "frame10"]


@pytest.mark.parametrize(
    ("pairs", "neighbours", "unread", "level", "said"),
    [
        (7, 7, [], "ok", "7 of 7 pairs that follow each other are neighbouring frames"),
        (7, 3, [], "warning", "give frames of one recording"),
        (0, 0, [], "warning", "give frames of one recording"),
        (7, 7, ["a.png: is broken"], "warning", "1 can't be read, the first is a.png: is broken"),
    ],
)
def test_frames(pairs: int, neighbours: int, unread: list[str], level: str, said: str) -> None:
    finding = check_frames(8, Sample([ROWS[0]] * neighbours, [], pairs), unread)
    assert finding.level == level
    assert said in finding.line()


# -- the command


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recording")
    camera = SyntheticCamera(seed=11, height=96, width=128)
    for number in range(5):
        Image.fromarray(camera.frame(number).rgb).save(folder / f"frame{number}.png")
    return folder


def test_thresholds_of_the_mini_models_fit_the_synthetic_world(
    recording: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.txt"
    result = CliRunner().invoke(app, [*DOCTOR, str(recording), "--report", str(report)])
    assert result.exit_code == 0, result.output
    found = {f["name"]: f for f in json.loads(result.stdout)["findings"] if f["room"] == "images"}
    names = ["tracking.min_similarity", "tracking.smoothing_similarity", "merging.threshold"]
    assert list(found) == ["frames", *names]
    assert {name: finding["level"] for name, finding in found.items()} == dict.fromkeys(found, "ok")
    assert "images, merging.threshold: the same thing keeps a cosine of" in report.read_text()


def test_photos_of_different_places_are_told(tmp_path: Path) -> None:
    for seed in (1, 2):
        rgb = SyntheticCamera(seed=seed, height=96, width=128).frame(0).rgb
        Image.fromarray(rgb).save(tmp_path / f"{seed}.png")
    (tmp_path / "3.png").write_bytes(b"no image")
    result = CliRunner().invoke(app, [*DOCTOR, str(tmp_path), "--set", "merging.enabled=false"])
    assert result.exit_code == 0, result.output
    found = {f["name"]: f for f in json.loads(result.stdout)["findings"] if f["room"] == "images"}
    assert "merging.threshold" not in found
    assert {finding["level"] for finding in found.values()} == {"warning"}
    assert "0 of 1 pairs" in found["frames"]["text"]
    assert "3.png: is not an image" in found["frames"]["text"]
    assert "cosines of the same thing" in found["tracking.min_similarity"]["text"]


def test_a_folder_without_images_is_wrong_usage(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [*DOCTOR, str(tmp_path)])
    assert result.exit_code == 2
    assert "no images in" in result.output
