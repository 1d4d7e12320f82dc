"""Labels: vocabularies that are text files, nearest phrases, and embeddings computed once."""

from __future__ import annotations

import logging
import os
import re
import resource
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from zgs_ros import progress
from zgs_ros.config import SegmenterSettings, make_settings
from zgs_ros.evaluation.datasets.published import CONTEXT_CLASSES, PLAIN_ENGLISH, VOC_CLASSES
from zgs_ros.labeling import phrase_cache
from zgs_ros.labeling.labeler import FIRST_PHRASES, text_encoder
from zgs_ros.labeling.retrieval import (
    PhraseEmbeddings,
    RetrievalLabeler,
    embed_phrases,
)
from zgs_ros.labeling.vocabulary import VocabularyError, load_vocabulary, shipped_vocabularies
from zgs_ros.models.loading import load_clip
from zgs_ros.synthetic import phrases

CLASS_NAMES = Path(__file__).parent / "class_names"

# Vocabularies


def test_the_everyday_vocabulary_is_broad_and_clean() -> None:
    everyday = load_vocabulary("everyday")
    assert len(everyday) >= 3000
    assert len({phrase.replace("-", "").replace(" ", "") for phrase in everyday}) == len(everyday)
    odd = [p for p in everyday if not re.fullmatch(r"[a-z][a-z '-]*[a-z]", p) or len(p.split()) > 4]
    assert odd == []


@pytest.mark.parametrize(
    "phrase",
    [
        "mug",
        "door handle",
        "traffic cone",
        "pallet",
        "sidewalk",
        "gravel",
        "dog",
        "banana",
        "pipette",
        "sky",
        "curtain",
    ],
)
def test_the_everyday_vocabulary_has_what_robots_see(phrase: str) -> None:
    assert phrase in load_vocabulary("everyday")


def class_names(file: Path) -> list[list[str]]:
    """Names of each class of a data set: plainly, then the usual synonyms."""
    return [line.split(", ") for line in file.read_text("utf-8").splitlines()]


def joined(phrase: str) -> str:
    """Without what spellings differ in: hot-air balloon, hot air balloon."""
    return phrase.replace("-", "").replace(" ", "")


@pytest.mark.parametrize(
    ("data_set", "classes"),
    [
        ("coco", 80),
        ("pascal_voc", 20),
        ("pascal_context_59", 59),
        ("pascal_context_459", 458),  # one is called unknown
        ("coco_stuff", 171),
        ("ade20k", 150),
        ("cityscapes", 28),
    ],
)
def test_the_everyday_vocabulary_has_every_class_of_the_usual_data_sets(
    data_set: str, classes: int
) -> None:
    """A label can only be a phrase of the vocabulary: without the word "bottle" there is no bottle."""
    listed = class_names(CLASS_NAMES / f"{data_set}.txt")
    everyday = {joined(phrase) for phrase in load_vocabulary("everyday")}
    assert len(listed) == classes
    assert [name for names in listed for name in names if joined(name) not in everyday] == []


def test_the_everyday_vocabulary_has_a_name_of_every_class_of_lvis() -> None:
    """Its own names are those of a dictionary, some of them rare; one of the synonyms is enough."""
    listed = class_names(CLASS_NAMES / "lvis.txt")
    everyday = {joined(phrase) for phrase in load_vocabulary("everyday")}
    assert len(listed) == 1203
    assert [names for names in listed if everyday.isdisjoint(map(joined, names))] == []


@pytest.mark.parametrize(
    ("names", "file"), [(VOC_CLASSES, "pascal_voc"), (CONTEXT_CLASSES, "pascal_context_59")]
)
def test_the_lists_are_those_that_the_evaluation_reads(names: tuple[str, ...], file: str) -> None:
    spoken = [PLAIN_ENGLISH.get(name, name).split("/")[0] for name in names]
    assert [first for first, *_ in class_names(CLASS_NAMES / f"{file}.txt")] == spoken


@pytest.mark.parametrize(
    "phrase",
    [
        "person",
        "door",
        "wall",
        "floor",
        "ceiling",
        "window",
        "chair",
        "table",
        "dog",
        "car",
        "tree",
        "cup",
    ],
)
def test_what_is_seen_most_is_embedded_first(phrase: str) -> None:
    assert phrase in load_vocabulary("everyday")[:FIRST_PHRASES]


def test_the_synthetic_vocabulary_is_that_of_the_synthetic_world() -> None:
    assert sorted(load_vocabulary("synthetic")) == sorted(phrases())
    assert shipped_vocabularies() == ["everyday", "synthetic"]


def test_a_users_file_replaces_or_extends(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("# my things\n  Left   gripper \n\nworkpiece\n", encoding="utf-8")
    assert load_vocabulary(str(path)) == ("Left gripper", "workpiece")
    extended = load_vocabulary("synthetic", str(path))
    assert extended[:2] == ("Left gripper", "workpiece"), "what a user adds is embedded first"
    assert extended[2:] == load_vocabulary("synthetic")


def test_duplicates_are_used_once_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("mug\ncup\nmug\n")
    with caplog.at_level(logging.WARNING):
        assert load_vocabulary(str(path)) == ("mug", "cup")
    assert "1 duplicate" in caplog.text


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (b"", "is empty"),
        (b"\n  \n# only a comment\n", "is empty"),
        (b"\x89PNG\r\n\x1a\n\xff\xd8", "byte 0 is not UTF-8 text"),
        (b"mug\0cup", "binary file"),
        (b"mug\n" + b"x" * 300, "line 2 has 300 characters"),
    ],
)
def test_files_that_are_no_vocabulary(content: bytes, fragment: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_bytes(content)
    with pytest.raises(VocabularyError, match=re.escape(fragment)) as caught:
        load_vocabulary(str(path))
    assert str(path) in str(caught.value)


def test_a_file_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "hole.txt"
    path.touch()
    os.truncate(path, 60 << 30)
    with pytest.raises(VocabularyError, match="has more than 67108864 bytes"):
        load_vocabulary(str(path))


@pytest.mark.parametrize("name", ["nowhere", "x" * 5000, "\0", "~nobody/words.txt", "."])
def test_an_unknown_vocabulary_names_the_shipped_ones(name: str) -> None:
    with pytest.raises(
        VocabularyError, match=r"' is neither a file nor shipped \(everyday, synthetic\)"
    ):
        load_vocabulary(name)


# Retrieval


def test_nearest_phrases_come_first() -> None:
    labeler = RetrievalLabeler(["mug", "cup", "dog"], np.eye(3, dtype=np.float32), alternatives=1)
    embedding = np.array([[0.6, 0.8, 0.0]], np.float32)
    (labels,) = labeler.label(embedding)
    assert [(label.text, round(label.score, 6)) for label in labels] == [("cup", 0.8), ("mug", 0.6)]
    assert labeler.text_embedding("dog").tolist() == [0.0, 0.0, 1.0]


def test_equal_scores_come_in_the_vocabularys_order() -> None:
    labeler = RetrievalLabeler(["b", "a"], np.ones((2, 1), np.float32))
    assert [label.text for label in labeler.label(np.ones((1, 1), np.float32))[0]] == ["b", "a"]


def test_fewer_phrases_than_alternatives() -> None:
    labeler = RetrievalLabeler(["only"], np.ones((1, 2), np.float32), alternatives=10)
    assert len(labeler.label(np.ones((3, 2), np.float32))[0]) == 1
    assert labeler.label(np.zeros((0, 2), np.float32)) == []


def letters(texts: Sequence[str]) -> np.ndarray:
    """A text encoder that can be worked by hand: counts of a and b, normalised."""
    counts = np.array([[text.count("a"), text.count("b")] for text in texts], np.float32)
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def test_templates_are_averaged() -> None:
    # "a" in "{}" is (1, 0), in "b{}" (1, 1) / sqrt(2): the mean has the direction (1 + .7071, .7071)
    embedded = embed_phrases(["a"], ["{}", "b{}"], letters)
    np.testing.assert_allclose(embedded, [[0.92388, 0.38268]], atol=1e-5)


def kept_embeddings(phrases: Sequence[str], *rest: Any) -> np.ndarray:
    found = PhraseEmbeddings(phrases, *rest)
    found.embed(len(phrases))
    return found.rows


def test_embeddings_are_computed_once_per_model_and_content(tmp_path: Path) -> None:
    calls: list[list[str]] = []

    def counting(texts: Sequence[str]) -> np.ndarray:
        calls.append(list(texts))
        return letters(texts)

    def embed(phrases: list[str], template: str = "{}", model: str = "m") -> np.ndarray:
        return kept_embeddings(phrases, [template], counting, model, tmp_path)

    first = embed(["a", "b"])
    assert np.array_equal(embed(["a", "b"]), first)
    assert len(calls) == 1
    embed(["b", "a"])
    embed(["a", "b"], template="a {}")
    embed(["a", "b"], model="other")
    assert len(calls) == 4


def cached(folder: Path, phrases: Sequence[str] = ("a", "b", "ab")) -> np.ndarray:
    return kept_embeddings(phrases, ["{}"], letters, "m", folder)


def replace_by(*rows: np.ndarray, name: str = "embeddings") -> Callable[[Path], object]:
    return lambda path: save_file({name: np.array(rows[0])}, path)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(b"garbage that is no safetensors file"),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:20]),
    "a byte changed": lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\7"),
    "wrong width": replace_by(np.zeros((3, 1), np.float32)),
    "one-dimensional": replace_by(np.zeros(3, np.float32)),
    "zero-dimensional": replace_by(np.float32(1)),
    "integers": replace_by(np.zeros((3, 2), np.int64)),
    "not a number": replace_by(np.full((3, 2), np.nan, np.float32)),
    "other name": replace_by(np.zeros((3, 2), np.float32), name="x"),
    "too large": lambda path: os.truncate(path, 10**9),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "dangling link": lambda path: (path.unlink(), path.symlink_to("/nowhere/x")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_computed_again(damage: str, tmp_path: Path) -> None:
    expected = cached(tmp_path)
    (file,) = tmp_path.iterdir()
    DAMAGES[damage](file)
    assert np.array_equal(cached(tmp_path), expected)
    assert np.array_equal(cached(tmp_path), expected)
    assert [path.name for path in tmp_path.iterdir()] == [file.name], "nothing is left behind"


def test_a_cache_that_cant_be_written_costs_no_result(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    np.testing.assert_allclose(cached(blocked / "cache"), letters(["a", "b", "ab"]), atol=1e-6)
    assert "can't be written" in caplog.text


def test_a_full_disk_costs_no_result(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))  # files can't get larger
    try:
        embedded = cached(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    np.testing.assert_allclose(embedded, letters(["a", "b", "ab"]), atol=1e-6)
    assert "can't be written" in caplog.text
    assert [*tmp_path.iterdir()] == []


def test_the_caches_together_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phrase_cache, "MAX_BYTES", 500)
    (tmp_path / "mine.safetensors").write_bytes(bytes(1000))
    for count in range(1, 6):
        cached(tmp_path, ["a"] * count)
    left = {path.name for path in tmp_path.iterdir()}
    assert "mine.safetensors" in left
    assert 1 <= len(left) - 1 < 5


# Vocabularies that are embedded step by step


class Encoder:
    """`letters`, which counts its texts and can be stopped."""

    def __init__(self, stop_after: int = 10**9) -> None:
        self.texts: list[str] = []
        self.stop_after = stop_after

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        if len(self.texts) >= self.stop_after:
            raise KeyboardInterrupt
        self.texts += texts
        return letters(texts)


PHRASES = ["a" * (number % 7 + 1) + "b" * (number % 5) for number in range(99)] + ["a" + "b" * 9]


def phrase_embeddings(folder: Path, encoder: Encoder) -> PhraseEmbeddings:
    return PhraseEmbeddings(PHRASES, ["{}"], encoder, "m", folder)


def test_a_run_that_was_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zgs_ros.labeling.retrieval.CHUNK", 10)
    with pytest.raises(KeyboardInterrupt):
        phrase_embeddings(tmp_path, Encoder(stop_after=20)).embed(100)
    again = Encoder()
    source = phrase_embeddings(tmp_path, again)
    known = 100 - source.missing
    assert known == 20
    source.embed(100)
    assert again.texts == PHRASES[known:]
    np.testing.assert_allclose(source.rows, letters(PHRASES), atol=1e-6)


def test_more_phrases_on_disk_are_not_replaced_by_fewer(tmp_path: Path) -> None:
    early, whole = phrase_embeddings(tmp_path, Encoder()), phrase_embeddings(tmp_path, Encoder())
    whole.embed(100)
    early.embed(10)
    assert phrase_embeddings(tmp_path, Encoder()).missing == 0


def test_a_labeler_begins_with_the_first_phrases_and_completes_between_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("zgs_ros.labeling.retrieval.time.monotonic", lambda: now[0])

    def slow(texts: Sequence[str]) -> np.ndarray:
        now[0] += 0.01 * len(texts)
        return letters(texts)

    source = PhraseEmbeddings(PHRASES, ["{}"], slow, "m", tmp_path)
    source.embed(32)
    labeler = RetrievalLabeler(PHRASES, source, alternatives=0)
    wanted = letters(PHRASES[-1:])
    assert labeler.label(wanted)[0][0].text != PHRASES[-1]
    frames = 0
    while source.missing:
        now[0] += 1.0  # a frame
        before = now[0]
        labels = labeler.label(wanted)
        assert now[0] - before <= 0.25 + 1e-6, "a quarter of the time between frames at most"
        frames += 1
    assert frames == 3  # 68 phrases at 25 a frame
    complete = RetrievalLabeler(PHRASES, letters(PHRASES), alternatives=0)
    assert labels[0][0].text == complete.label(wanted)[0][0].text == PHRASES[-1]
    assert phrase_embeddings(tmp_path, Encoder()).missing == 0, "and keeps them"


def test_progress_is_shown_while_a_vocabulary_is_embedded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zgs_ros.labeling.retrieval.CHUNK", 40)
    seen: list[str] = []

    def watching(texts: Sequence[str]) -> np.ndarray:
        seen.append(progress.current())
        return letters(texts)

    PhraseEmbeddings(PHRASES, ["{}"], watching, "m", tmp_path).embed(100)
    assert seen[0] == "embedding the vocabulary: 0 of 100 phrases"
    assert seen[1] == "embedding the vocabulary: 40 of 100 phrases, 0 s left"
    assert progress.current() == ""


# Probabilities


def test_probabilities_are_clips_softmax_over_the_vocabulary() -> None:
    # exp(0), exp(-ln 2), exp(-ln 4) at a scale of 10 ln 2: 4/7, 2/7, 1/7
    rows = np.array([[0.9], [0.8], [0.7]], np.float32)
    labeler = RetrievalLabeler(["x", "y", "z"], rows, 1, logit_scale=float(10 * np.log(2)))
    (labels,) = labeler.label(np.ones((1, 1), np.float32))
    assert [label.probability for label in labels] == pytest.approx([4 / 7, 2 / 7], rel=1e-5)
    assert [label.score for label in labels] == pytest.approx([0.9, 0.8])


def test_without_a_scale_there_are_no_probabilities() -> None:
    labeler = RetrievalLabeler(["x"], np.ones((1, 1), np.float32))
    assert labeler.label(np.ones((1, 1), np.float32))[0][0].probability is None


def test_continuations_serve_vocabularies() -> None:
    settings = make_settings(SegmenterSettings, {"profile": "mini"})
    clip = load_clip(settings.clip, torch.device("cpu"), torch.float32)
    texts = [f"Image of a {phrase}." for phrase in load_vocabulary("everyday")[:50]]
    np.testing.assert_allclose(text_encoder(clip)(texts), clip.embed_texts(texts), atol=2e-6)
