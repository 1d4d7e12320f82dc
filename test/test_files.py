"""`zgs label`: every image gets its three files, bad images cost only themselves, runs can be resumed."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

import zgs_ros
from zgs_ros.cli import app
from zgs_ros.cli import label_files as label_command
from zgs_ros.config import NodeSettings, make_settings
from zgs_ros.files.images import BadImageFile, NoImages, decode_image, find_images
from zgs_ros.files.labeling import (
    LabelOptions,
    Outcome,
    State,
    classes_key,
    label_files,
    settings_key,
)
from zgs_ros.files.ownership import InUse, sole_writer
from zgs_ros.files.results import is_result
from zgs_ros.segmentation import Label, Roi, Segment, Segmentation

MINI = Path(zgs_ros.__file__).parent / "models" / "mini"
MINI_IS_BUNDLED = all((MINI / part / "SHA256SUMS").is_file() for part in ("dino", "clip"))


class LeftAndRight:
    """A small segmenter: halves, named by their brightness; it counts what it did."""

    def __init__(self) -> None:
        self.seen = 0

    def segment_batch(self, images: Sequence[NDArray[np.uint8]]) -> list[Segmentation]:
        return [self.segment(image) for image in images]

    def embed_phrases(self, phrases: Sequence[str]) -> NDArray[np.float32]:
        return np.tile(np.array([0.8, -0.6], np.float32), (len(phrases), 1))

    def segment(self, image: NDArray[np.uint8]) -> Segmentation:
        self.seen += 1
        height, width = image.shape[:2]
        label_map = np.ones((height, width), np.uint16)
        label_map[:, width // 2 :] = 300
        segments = []
        for number in (1, 300):
            rows, columns = np.nonzero(label_map == number)
            if len(rows) == 0:
                continue
            name = "bright" if image[label_map == number].mean() > 127 else "dark"
            left, top = int(columns.min()), int(rows.min())
            roi = Roi(left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1)
            centre = float(columns.mean()), float(rows.mean())
            embedding = np.array([0.6, 0.8], np.float32)
            segments.append(Segment(number, (Label(name, 0.5),), roi, len(rows), centre, embedding))
        return Segmentation(label_map, tuple(segments), "left-and-right")


class FailsOnWhite(LeftAndRight):
    def segment(self, image: NDArray[np.uint8]) -> Segmentation:
        if image.min() == 255:
            raise RuntimeError("too bright")
        return super().segment(image)


def picture(path: Path, value: int = 100, size: tuple[int, int] = (64, 48), **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((size[1], size[0], 3), value, np.uint8)
    pixels[:, size[0] // 2 :] = 255 - value if value != 255 else 255
    Image.fromarray(pixels).save(path, **options)
    return path


def run(
    paths: list[Path],
    out: Path,
    segmenter: LeftAndRight | None = None,
    key: str = "settings",
    recursive: bool = False,
    **options: Any,
) -> list[Outcome]:
    images = find_images(paths, recursive, lambda path: is_result(path, out))
    return list(
        label_files(images, lambda: segmenter or LeftAndRight(), LabelOptions(out, key, **options))
    )


def written(out: Path) -> set[str]:
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}


def states(outcomes: list[Outcome]) -> list[State]:
    return [outcome.state for outcome in outcomes]


def files_of(*names: str) -> set[str]:
    return {name + ending for name in names for ending in (".overlay.png", ".labels.png", ".json")}


# What is written


def test_an_image_gets_an_overlay_a_label_map_and_a_description(tmp_path: Path) -> None:
    image = picture(tmp_path / "in" / "scene.png")
    assert states(run([image], tmp_path / "out")) == [State.LABELLED]
    assert written(tmp_path / "out") == files_of("scene")
    labels = cv2.imread(str(tmp_path / "out" / "scene.labels.png"), cv2.IMREAD_UNCHANGED)
    assert labels is not None
    assert labels.dtype == np.uint16
    assert labels.shape == (48, 64)
    assert np.unique(labels).tolist() == [1, 300]
    with Image.open(tmp_path / "out" / "scene.overlay.png") as overlay:
        assert overlay.size == (64, 48)
        assert overlay.mode == "RGB"
    description = json.loads((tmp_path / "out" / "scene.json").read_text())
    assert description["file"] == "scene.png"
    assert (description["width"], description["height"]) == (64, 48)
    assert [(s["id"], s["label"]) for s in description["segments"]] == [
        (1, "dark"),
        (300, "bright"),
    ]
    assert "embedding" not in description["segments"][0]


def test_the_overlays_colours_are_in_order(tmp_path: Path) -> None:
    Image.new("RGB", (64, 48), (250, 10, 10)).save(tmp_path / "red.png")
    run([tmp_path / "red.png"], tmp_path / "out", opacity=0.0)
    with Image.open(tmp_path / "out" / "red.overlay.png") as overlay:
        assert overlay.getpixel((1, 1)) == (250, 10, 10)


def test_embeddings_are_written_when_asked_for(tmp_path: Path) -> None:
    image = picture(tmp_path / "scene.png")
    run([image], tmp_path / "out", embeddings=True)
    description = json.loads((tmp_path / "out" / "scene.json").read_text())
    assert description["segments"][0]["embedding"] == pytest.approx([0.6, 0.8])


def test_names_need_not_be_ascii_nor_short_nor_even_text(tmp_path: Path) -> None:
    folder = tmp_path / "Bilder"
    picture(folder / "Küche [rot].png")
    picture(folder / ("l" * 245 + ".png"))
    picture(tmp_path / "plain.png").rename(os.fsdecode(os.fsencode(folder) + b"/\xff.png"))
    assert states(run([folder], tmp_path / "out")) == [State.LABELLED] * 3
    assert states(run([folder], tmp_path / "out")) == [State.UP_TO_DATE] * 3
    assert (
        json.loads((tmp_path / "out" / "Küche [rot].json").read_text())["file"] == "Küche [rot].png"
    )


# What is found


@pytest.mark.parametrize(
    ("recursive", "expected"),
    [(False, ["A.JPG", "b.png"]), (True, ["A.JPG", "b.png", "deep/er/d.bmp"])],
)
def test_a_folder_stands_for_its_images(
    tmp_path: Path, recursive: bool, expected: list[str]
) -> None:
    for name in ("b.png", "A.JPG", "deep/er/d.bmp", ".hidden.png", ".cache/e.png"):
        picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "folder.png").mkdir()
    found = find_images([tmp_path], recursive)
    assert [image.name.as_posix() for image in found] == expected


def test_an_image_that_is_named_twice_is_found_once(tmp_path: Path) -> None:
    image = picture(tmp_path / "a.png")
    assert len(find_images([image, tmp_path, tmp_path / "." / "a.png"])) == 1


def test_linked_folders_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "sub" / "a.png")
    picture(tmp_path / "elsewhere" / "b.png")
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "sub" / "circle").symlink_to(tmp_path / "in")
    (tmp_path / "elsewhere" / "self").symlink_to(".")
    found = find_images([tmp_path / "in"], recursive=True)
    assert sorted(image.name.as_posix() for image in found) == ["linked/b.png", "sub/a.png"]


def test_pipes_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "pipe.png")
    with pytest.raises(NoImages, match="no images in"):
        find_images([tmp_path])
    with pytest.raises(NoImages, match="not a regular file"):
        find_images([tmp_path / "pipe.png"])


def test_results_are_not_labelled_in_turn(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    for out in (tmp_path, tmp_path / "out"):
        for _ in range(2):
            assert len(run([tmp_path], out, recursive=True)) == 1


# What is decoded


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def sixteen_bit(ending: str) -> bytes:
    return bytes(cv2.imencode(ending, np.full((4, 6), 0x8040, np.uint16))[1])


PALETTE = Image.new("RGB", (6, 4), (10, 200, 30)).convert("P", palette=Image.Palette.ADAPTIVE)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(encoded(Image.new("L", (6, 4), 90), "PNG"), (90, 90, 90), id="grey"),
        pytest.param(
            encoded(Image.new("1", (6, 4), 1), "PNG"), (255, 255, 255), id="black and white"
        ),
        pytest.param(encoded(Image.new("RGB", (6, 4), (1, 2, 3)), "BMP"), (1, 2, 3), id="bmp"),
        pytest.param(encoded(Image.new("RGB", (6, 4), (1, 2, 3)), "PPM"), (1, 2, 3), id="ppm"),
        pytest.param(
            encoded(Image.new("RGB", (6, 4), (1, 2, 3)), "WEBP", lossless=True),
            (1, 2, 3),
            id="webp",
        ),
        pytest.param(encoded(PALETTE, "PNG"), (10, 200, 30), id="palette"),
        pytest.param(encoded(PALETTE, "GIF"), (10, 200, 30), id="gif"),
        pytest.param(
            encoded(Image.new("RGBA", (6, 4), (9, 8, 7, 255)), "PNG"), (9, 8, 7), id="rgba"
        ),
        pytest.param(
            encoded(Image.new("RGBA", (6, 4), (9, 8, 7, 0)), "PNG"),
            (255, 255, 255),
            id="transparent",
        ),
        pytest.param(
            encoded(Image.new("LA", (6, 4), (50, 255)), "PNG"), (50, 50, 50), id="grey alpha"
        ),
        pytest.param(
            encoded(Image.new("CMYK", (6, 4), (0, 255, 255, 0)), "TIFF"), (255, 0, 0), id="cmyk"
        ),
        pytest.param(sixteen_bit(".png"), (128, 128, 128), id="16-bit png"),
        pytest.param(sixteen_bit(".tiff"), (128, 128, 128), id="16-bit tiff"),
        pytest.param(b"P5 6 4 65535\n" + b"\x80\x40" * 24, (128, 128, 128), id="16-bit pgm"),
        pytest.param(
            bytes(cv2.imencode(".png", np.full((4, 6, 3), 0x8040, np.uint16))[1]),
            (128, 128, 128),
            id="16-bit rgb",
        ),
    ],
)
def test_any_kind_of_image_becomes_rgb(data: bytes, expected: tuple[int, int, int]) -> None:
    pixels = decode_image(data)
    assert pixels.shape == (4, 6, 3)
    assert pixels.dtype == np.uint8
    assert pixels.reshape(-1, 3).tolist() == [list(expected)] * 24


@pytest.mark.parametrize(
    ("orientation", "corner"),
    [(1, (0, 0)), (3, (-1, -1)), (6, (0, -1)), (8, (-1, 0)), (2, (0, -1))],
)
def test_the_cameras_orientation_is_applied(orientation: int, corner: tuple[int, int]) -> None:
    image = Image.new("RGB", (6, 4))
    image.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = decode_image(encoded(image, "PNG", exif=exif))
    assert pixels.shape[:2] == ((6, 4) if orientation in (6, 8) else (4, 6))
    assert pixels[corner].tolist() == [255, 255, 255]


BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "text": (b"I am not an image, whatever my name says", "not an image"),
    "truncated jpeg": (encoded(Image.effect_noise((99, 99), 50), "JPEG")[:-500], "broken"),
    "truncated png": (encoded(Image.effect_noise((99, 99), 50), "PNG")[:-500], "broken"),
    "png head only": (encoded(Image.new("L", (9, 9)), "PNG")[:20], "(broken|not an image)"),
    "huge": (b"P5 100000 100000 255\n", "at most 33554432 pixels are accepted"),
    "large": (b"P5 10000 10000 255\n", "at most 33554432 are accepted.*max_pixels"),
    "tall": (b"P5 1 4194304 255\n" + bytes(2**22), "has a side above 32768 pixels"),
    "floats": (encoded(Image.new("F", (9, 9)), "TIFF"), "floating-point"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_data_is_named(kind: str) -> None:
    data, message = BROKEN[kind]
    with pytest.raises(BadImageFile, match=message):
        decode_image(data)


def test_bad_images_cost_only_themselves(tmp_path: Path) -> None:
    for index, (data, _) in enumerate(BROKEN.values()):
        (tmp_path / f"{index}.png").write_bytes(data)
    picture(tmp_path / "white.png", 255)
    picture(tmp_path / "whole.png")
    (tmp_path / "dangling.png").symlink_to("nowhere")
    outcomes = run([tmp_path], tmp_path / "out", FailsOnWhite())
    failed = {o.image.name.name: o.problem for o in outcomes if o.state is State.FAILED}
    assert len(failed) == len(BROKEN) + 2
    assert "too bright" in failed["white.png"]
    assert "No such file" in failed["dangling.png"]
    assert written(tmp_path / "out") == files_of("whole")


def test_what_is_in_the_way_of_one_image_costs_only_it(tmp_path: Path) -> None:
    """A hole of 60 GB, a folder that is called like a picture or a result, JSON without an end."""
    source, out = tmp_path / "in", tmp_path / "out"
    for name in ("a.png", "b.png", "c.png", f"{'d' * 250}.png", "sub/e.png"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        picture(source / name)
    with (source / "hole.png").open("wb") as file:
        file.truncate(60 * 10**9)
    (source / "folder.png").mkdir()
    (out / "a.overlay.png").mkdir(parents=True)
    (out / "b.json").write_text("[" * 100_000)
    (out / "c.json").write_text('{"source": "' + "x" * 10_000 + '", "fingerprint": ""}')
    (out / "sub").write_text("a file where a folder would be")
    outcomes = {o.image.name.name: o for o in run([source], out, recursive=True)}
    states = {name: o.state for name, o in outcomes.items()}
    assert states.pop("hole.png") is State.FAILED
    assert "has more than 536870912 bytes" in outcomes["hole.png"].problem
    assert states.pop("e.png") is State.FAILED
    assert "can't be written (File exists)" in outcomes["e.png"].problem
    assert set(states.values()) == {State.LABELLED}
    assert len(states) == 4
    assert (out / "b.json").read_text() == "[" * 100_000
    assert (out / "sub").read_text() == "a file where a folder would be"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_image_without_permission_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "secret.png").chmod(0)
    (outcome,) = run([tmp_path], tmp_path / "out")
    assert outcome.state is State.FAILED
    assert "Permission denied" in outcome.problem


# Names


def test_images_of_the_same_stem_have_results_of_their_own(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a.png")
    picture(tmp_path / "in" / "a.jpg", 200)
    picture(tmp_path / "in" / "a.png.bmp")
    picture(tmp_path / "other" / "a.png")
    paths = [tmp_path / "in", tmp_path / "other", tmp_path / "other" / "a.png"]
    segmenter = LeftAndRight()
    for _ in range(2):
        outcomes = run(paths, tmp_path / "out", segmenter)
        sources = {
            json.loads((tmp_path / "out" / f"{o.output}.json").read_text())["source"]
            for o in outcomes
        }
        assert len(outcomes) == len(sources) == segmenter.seen == 4
    assert {"a.json", "a.png.json", "other/a.json"} <= written(tmp_path / "out")


def test_a_later_run_does_not_take_the_results_of_an_earlier_one(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first, second = picture(tmp_path / "x" / "a.png", 10), picture(tmp_path / "y" / "a.png", 20)
    run([first], out)
    before = (out / "a.json").read_bytes()
    run([second], out)
    assert (out / "a.json").read_bytes() == before
    assert written(out) == files_of("a", "y/a")
    first.unlink()
    assert states(run([second], out)) == [State.UP_TO_DATE]


def test_annotations_beside_the_images_are_left_alone(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "a.json").write_text('{"shapes": []}')
    picture(tmp_path / "b.png")
    (tmp_path / "b.json").write_text("not even JSON")
    outcomes = run([tmp_path], tmp_path)
    assert states(outcomes) == [State.LABELLED] * 2
    assert (tmp_path / "a.json").read_text() == '{"shapes": []}'
    assert (tmp_path / "b.json").read_text() == "not even JSON"


@pytest.mark.parametrize("given", ["in/../in/a.png", "in/sub/../a.png"])
def test_dots_in_a_path_do_not_lead_outside(tmp_path: Path, given: str) -> None:
    picture(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "sub").mkdir()
    run([tmp_path / given], tmp_path / "out")
    assert written(tmp_path / "out") == files_of("a")


def test_links_in_the_output_folder_do_not_lead_outside(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "sub" / "a.png")
    picture(tmp_path / "in" / "b.png")
    out, outside = tmp_path / "out", tmp_path / "outside"
    out.mkdir()
    outside.mkdir()
    (outside / "precious").write_text("precious")
    (out / "sub").symlink_to(outside)
    for name in ("b.overlay.png", ".b.overlay.png.part"):
        (out / name).symlink_to(outside / "precious")
    for _ in range(2):
        outcomes = run([tmp_path / "in"], out, recursive=True)
        assert [o.state is State.FAILED for o in outcomes] == [False, True]
        assert outcomes[0].output == out / "b.png"  # the link has the name b
    assert written(outside) == {"precious"}
    assert (outside / "precious").read_text() == "precious"
    assert (out / "b.overlay.png").is_symlink()


def _write(path: Path) -> None:
    path.write_bytes(b"drawn by hand for hours")


def _draw(path: Path) -> None:
    Image.new("RGB", (64, 48)).save(path, "PNG")


@pytest.mark.parametrize("make", [_write, _draw, Path.mkdir, lambda path: path.symlink_to("x")])
@pytest.mark.parametrize("ending", [".overlay.png", ".labels.png", ".json"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_no_run_has_written_is_never_replaced(
    tmp_path: Path, make: Callable[[Path], None], ending: str, overwrite: bool
) -> None:
    picture(tmp_path / "in" / "a.jpg")
    out = tmp_path / "out"
    out.mkdir()
    make(out / f"a{ending}")
    before = os.lstat(out / f"a{ending}")
    for state in (State.LABELLED, State.LABELLED if overwrite else State.UP_TO_DATE):
        [outcome] = run([tmp_path / "in"], out, overwrite=overwrite)
        assert (outcome.state, outcome.output) == (state, out / "a.jpg")
    assert os.lstat(out / f"a{ending}") == before
    assert files_of("a.jpg") <= written(out)


def test_a_result_that_was_redrawn_by_hand_is_not_replaced(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a.jpg")
    out = tmp_path / "out"
    run([tmp_path / "in"], out)
    with Image.open(out / "a.labels.png") as labels:
        labels.load()
        labels.save(out / "a.labels.png")
    mine = (out / "a.labels.png").read_bytes()
    run([tmp_path / "in"], out, overwrite=True)
    assert (out / "a.labels.png").read_bytes() == mine
    assert files_of("a.jpg") <= written(out)


@pytest.mark.parametrize(
    "content",
    [
        "[" * 200_000,
        '{"source": "x\\u0000y", "fingerprint": "1"}',
        '{"source": "\\ud800", "fingerprint": "1"}',
        json.dumps({"source": "x" * 100_000, "fingerprint": "1"}),
        '{"source": ' + "1" * 5000 + ', "fingerprint": "1"}',
        '{"source": null, "fingerprint": "1"}',
        '{"fingerprint": "1"}',
    ],
)
def test_an_odd_description_costs_no_image(tmp_path: Path, content: str) -> None:
    picture(tmp_path / "in" / "a.jpg")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.json").write_text(content)
    assert states(run([tmp_path / "in"], tmp_path / "out")) == [State.LABELLED]
    assert states(run([tmp_path / "in"], tmp_path / "out")) == [State.UP_TO_DATE]


def test_two_runs_do_not_write_to_the_same_folder(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    out = tmp_path / "out"
    options = LabelOptions(out, "settings")
    first = label_files(find_images([tmp_path / "a.png"]), LeftAndRight, options)
    next(first)
    with pytest.raises(InUse, match=rf"out: another run works on it \(process {os.getpid()} on "):
        run([tmp_path / "b.png"], out)
    first.close()
    assert states(run([tmp_path / "b.png"], out)) == [State.LABELLED]
    assert written(out) == files_of("a", "b")


def test_a_lock_that_a_killed_run_left_does_not_matter(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    script = (
        "import os, sys; from pathlib import Path; from zgs_ros.files.ownership import sole_writer\n"
        "with sole_writer(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    environment = {"PYTHONPATH": str(Path(zgs_ros.__file__).parents[1])}
    command = [sys.executable, "-c", script, str(lock)]
    subprocess.run(command, env=environment, check=False)
    assert lock.exists()
    with sole_writer(lock):
        pass
    assert not lock.exists()


def test_a_lock_is_not_taken_from_a_file_of_the_users(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("a key is under the mat")
    with (
        pytest.raises(FileExistsError, match="something else has that name"),
        sole_writer(tmp_path / "lock"),
    ):
        pass
    assert (tmp_path / "lock").read_text() == "a key is under the mat"
    (tmp_path / "link").symlink_to(tmp_path / "lock")
    with pytest.raises(OSError, match="symbolic link"), sole_writer(tmp_path / "link"):
        pass


# Resuming


def test_images_that_are_done_are_passed_over_without_loading_models(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        picture(tmp_path / name)
    run([tmp_path], tmp_path / "out")

    def load() -> LeftAndRight:
        raise AssertionError("not needed")

    options = LabelOptions(tmp_path / "out", "settings")
    outcomes = list(label_files(find_images([tmp_path]), load, options))
    assert states(outcomes) == [State.UP_TO_DATE] * 2


def change_content(folder: Path) -> dict[str, Any]:
    picture(folder / "a.png", 3)
    return {}


def drop(ending: str) -> Callable[[Path], dict[str, Any]]:
    def change(folder: Path) -> dict[str, Any]:
        (folder / "out" / f"a{ending}").unlink()
        return {}

    return change


def break_description(folder: Path) -> dict[str, Any]:
    path = folder / "out" / "a.json"
    description = json.loads(path.read_text())
    path.write_text(json.dumps({**description, "fingerprint": "other"}))
    return {}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(change_content, id="other content"),
        pytest.param(drop(".overlay.png"), id="overlay missing"),
        pytest.param(drop(".labels.png"), id="labels missing"),
        pytest.param(drop(".json"), id="description missing"),
        pytest.param(break_description, id="other fingerprint"),
        pytest.param(lambda folder: {"key": "other"}, id="other settings"),
        pytest.param(lambda folder: {"embeddings": True}, id="embeddings wanted"),
        pytest.param(lambda folder: {"opacity": 0.1}, id="other opacity"),
        pytest.param(lambda folder: {"overwrite": True}, id="overwrite"),
    ],
)
def test_an_image_is_done_again_when(
    tmp_path: Path, change: Callable[[Path], dict[str, Any]]
) -> None:
    picture(tmp_path / "a.png")
    run([tmp_path / "a.png"], tmp_path / "out")
    options = change(tmp_path)
    assert states(run([tmp_path / "a.png"], tmp_path / "out", **options)) == [State.LABELLED]
    assert written(tmp_path / "out") == files_of("a")
    options.pop("overwrite", None)
    assert states(run([tmp_path / "a.png"], tmp_path / "out", **options)) == [State.UP_TO_DATE]


def test_a_moved_data_set_stays_done(tmp_path: Path) -> None:
    picture(tmp_path / "here" / "in" / "a.png")
    run([tmp_path / "here" / "in"], tmp_path / "here" / "out")
    (tmp_path / "here").rename(tmp_path / "there")
    outcomes = run([tmp_path / "there" / "in"], tmp_path / "there" / "out")
    assert states(outcomes) == [State.UP_TO_DATE]


def test_a_failed_write_leaves_no_half_file(tmp_path: Path, monkeypatch: Any) -> None:
    picture(tmp_path / "a.png")

    def fail(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        run([tmp_path / "a.png"], tmp_path / "out")
    monkeypatch.undo()
    assert written(tmp_path / "out") == set()
    assert states(run([tmp_path / "a.png"], tmp_path / "out")) == [State.LABELLED]


def test_settings_keys_differ_where_results_would(tmp_path: Path) -> None:
    vocabulary = tmp_path / "words.txt"

    def key(words: str = "mug\n", **values: Any) -> str:
        vocabulary.write_text(words)
        given = {"labeling.vocabulary": str(vocabulary), **values}
        return settings_key(make_settings(NodeSettings, given))

    same = [key(), key(), key(max_rate=1.0)]
    others = [key(words="cup\n"), key(profile="fast"), key(clip={"sigma": 1.0})]
    assert len(set(same)) == 1
    assert len({*same, *others}) == 4


# The command


def zgs_label(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["label", *map(str, arguments)])
    return result.exit_code, " ".join(result.output.split())


@pytest.fixture
def small_segmenter(monkeypatch: Any) -> None:
    monkeypatch.setattr(label_command, "load_segmenter", lambda settings: FailsOnWhite())


@pytest.mark.usefixtures("small_segmenter")
def test_the_command_labels_a_folder(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a.png")
    code, output = zgs_label(tmp_path / "in", "--out", tmp_path / "out")
    assert code == 0
    assert "1 labelled" in output
    assert written(tmp_path / "out") == files_of("a")
    code, output = zgs_label(tmp_path / "in", "--out", tmp_path / "out")
    assert code == 0
    assert "1 up to date" in output


@pytest.mark.usefixtures("small_segmenter")
def test_the_command_ends_with_1_and_a_list_when_images_failed(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a.png")
    picture(tmp_path / "in" / "white[1].png", 255)
    (tmp_path / "in" / "z.png").write_bytes(b"")
    code, output = zgs_label(tmp_path / "in", "-o", tmp_path / "out")
    assert code == 1
    assert "1 labelled, 2 failed" in output
    listed = output.split("no results:")[1]
    assert "white[1].png" in listed
    assert "too bright" in listed
    assert "z.png" in listed


@pytest.mark.usefixtures("small_segmenter")
def test_the_command_ends_with_1_when_results_cannot_be_written(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "sub" / "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").write_text("a file where a folder is needed")
    code, output = zgs_label(tmp_path / "in", "-o", tmp_path / "out", "--recursive")
    assert code == 1
    assert "can't be written" in output


def test_the_command_ends_with_1_when_models_cannot_be_loaded(
    tmp_path: Path, monkeypatch: Any
) -> None:
    def fail(settings: Any) -> LeftAndRight:
        raise RuntimeError("no weights here: fetch them")

    monkeypatch.setattr(label_command, "load_segmenter", fail)
    code, output = zgs_label(picture(tmp_path / "a.png"), "-o", tmp_path / "out")
    assert code == 1
    assert "no weights here: fetch them" in output
    assert written(tmp_path / "out") == set()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{in}/nothing.png", "--out", "{out}"], "does not exist"),
        (["{in}/empty", "--out", "{out}"], "no images in"),
        (["{in}", "--out", "{in}/a.png"], "is a file"),
        (["{in}", "--out", "{in}/a.png/sub"], "can't be made"),
        (["{in}", "--out", "{out}", "--set", "clip.sigmma=2"], "did you mean 'clip.sigma'"),
        (["{in}", "--out", "{out}", "--set", "clip.sigma"], "needs KEY=VALUE"),
        (["{in}", "--out", "{out}", "--set", "clip.sigma=-1"], "got -1"),
        (["{in}", "--out", "{out}", "--profile", "turbo"], "'turbo' is not one of paper"),
        (["{in}", "--out", "{out}", "--device", "tpu"], "got 'tpu'"),
        (["{in}", "--out", "{out}", "--params", "{in}/none.yaml"], "can't be read"),
        (["{in}", "--out", "{out}", "--set", "labeling.vocabulary=/none.txt"], "/none.txt"),
        (["{in}"], "Missing option"),
        (["--out", "{out}"], "Missing argument"),
    ],
)
def test_wrong_usage_ends_with_2(tmp_path: Path, arguments: list[str], message: str) -> None:
    picture(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "empty").mkdir()
    places = {"in": tmp_path / "in", "out": tmp_path / "out"}
    code, output = zgs_label(*[argument.format(**places) for argument in arguments])
    assert code == 2
    assert message.replace(" ", "") in output.replace(" ", "").replace("│", "")
    assert not (tmp_path / "out").exists()


def class_ids(description: Path) -> dict[str, int]:
    segments = json.loads(description.read_text())["segments"]
    return {segment["label"]: segment["class_id"] for segment in segments}


def test_descriptions_have_the_class_ids_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(tmp_path / "a.png")
    file = tmp_path / "classes.yaml"
    monkeypatch.setattr(label_command, "load_segmenter", lambda settings: LeftAndRight())
    command = ("-o", tmp_path / "out", "--set", f"classes.file={file}")
    zgs_label(tmp_path / "a.png", *command)
    [written] = (tmp_path / "out").glob("*.json")
    assert class_ids(written) == {"bright": 1, "dark": 2}
    file.write_text(f"classes: [{{id: 7, name: night, phrases: [dark]}}]\n{file.read_text()}")
    assert "1 labelled" in zgs_label(tmp_path / "a.png", *command)[1], "its classes are others now"
    assert class_ids(written) == {"bright": 1, "dark": 7}
    file.write_text("seen: [")
    code, output = zgs_label(tmp_path / "a.png", *command)
    assert (code, "is not valid YAML" in output.replace("\n", " ")) == (2, True)


def test_the_nodes_parameter_file_serves_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(tmp_path / "a.png")
    params = tmp_path / "p.yaml"
    params.write_text(
        "/**:\n  ros__parameters: {profile: fast, max_rate: 2.0, overlay_opacity: 1.0}\n"
        "/other:\n  ros__parameters: {profile: paper, overlay_opacity: 0.0}\n"
    )
    used = []
    monkeypatch.setattr(
        label_command, "load_segmenter", lambda settings: used.append(settings) or LeftAndRight()
    )
    code, _ = zgs_label(tmp_path / "a.png", "-o", tmp_path / "out", "--params", params)
    assert code == 0
    [settings] = used
    assert (settings.profile, settings.max_rate, settings.clip.model) == ("fast", 2.0, "ViT-B-16")
    made = make_settings(NodeSettings, {"profile": "fast"})
    key = settings_key(made) + classes_key(made.classes)
    for opacity, state in ((1.0, State.UP_TO_DATE), (0.35, State.LABELLED)):
        assert states(run([tmp_path / "a.png"], tmp_path / "out", key=key, opacity=opacity)) == [
            state
        ]


SLOW_LABELLING = """
import sys, time
sys.path.insert(0, {tests!r})
from test_files import LeftAndRight
from zgs_ros.cli import label_files as label_command
from zgs_ros.cli import app

class Slow(LeftAndRight):
    def segment(self, image):
        time.sleep(0.4)
        return super().segment(image)

label_command.load_segmenter = lambda settings: Slow()
app()
"""


def test_ctrl_c_finishes_the_image_in_work_and_says_how_to_go_on(tmp_path: Path) -> None:
    for index in range(50):
        picture(tmp_path / "in" / f"{index:02}.png")
    out = tmp_path / "out"
    script = SLOW_LABELLING.format(tests=str(Path(__file__).parent))
    command = [sys.executable, "-c", script, "label", str(tmp_path / "in"), "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while not (out / "00.json").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, output = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Start the same command again" in " ".join(output.split())
    done = sorted(out.glob("*.json"))
    assert 1 <= len(done) < 50
    assert written(out) == files_of(*(path.stem for path in done))


def test_a_killed_run_leaves_nothing_that_looks_done(tmp_path: Path) -> None:
    for index in range(50):
        picture(tmp_path / "in" / f"{index:02}.png")
    out = tmp_path / "out"
    script = SLOW_LABELLING.format(tests=str(Path(__file__).parent)).replace("0.4", "0.02")
    command = [sys.executable, "-c", script, "label", str(tmp_path / "in"), "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not (out / "03.json").exists() and time.monotonic() < deadline:
            time.sleep(0.002)
    finally:
        process.kill()
        process.wait()
    for path in out.glob("[!.]*.png"):
        assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED) is not None
    key = json.loads((out / "00.json").read_text())["fingerprint"]
    assert key
    for path in out.glob("*.json"):
        assert json.loads(path.read_text())["segments"]
        assert path.with_suffix(".labels.png").exists()
        assert path.with_suffix(".overlay.png").exists()


@pytest.mark.skipif(not MINI_IS_BUNDLED, reason="the mini models are not bundled")
def test_the_bundled_models_label_a_picture(tmp_path: Path) -> None:
    from zgs_ros.synthetic import render, sample_scene

    frame = render(sample_scene(3), 240, 320)
    Image.fromarray(frame.rgb).save(tmp_path / "scene.png")
    arguments = [tmp_path / "scene.png", "--out", tmp_path / "out", "--profile", "mini"]
    code, output = zgs_label(*arguments, "--device", "cpu", "--embeddings")
    assert code == 0, output
    description = json.loads((tmp_path / "out" / "scene.json").read_text())
    labels = cv2.imread(str(tmp_path / "out" / "scene.labels.png"), cv2.IMREAD_UNCHANGED)
    assert labels is not None
    assert labels.shape == (240, 320)
    assert sorted(np.unique(labels)) == [segment["id"] for segment in description["segments"]]
    assert all(segment["label"] for segment in description["segments"])
    norms = [np.linalg.norm(segment["embedding"]) for segment in description["segments"]]
    assert norms == pytest.approx([1.0] * len(norms), abs=1e-4)
    code, output = zgs_label(*arguments, "--device", "cpu", "--embeddings")
    assert code == 0
    assert "1 up to date" in output
