"""Labels: vocabularies that are text files, nearest phrases, and embeddings computed once."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from zgs_ros.evaluation.datasets.published import CONTEXT_CLASSES, PLAIN_ENGLISH, VOC_CLASSES
from zgs_ros.labeling.retrieval import RetrievalLabeler, cached_phrase_embeddings, embed_phrases
from zgs_ros.labeling.vocabulary import VocabularyError, load_vocabulary, shipped_vocabularies
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


def test_the_synthetic_vocabulary_is_that_of_the_synthetic_world() -> None:
    assert sorted(load_vocabulary("synthetic")) == sorted(phrases())
    assert shipped_vocabularies() == ["everyday", "synthetic"]


def test_a_users_file_replaces_or_extends(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("# my things\n  Left   gripper \n\nworkpiece\n", encoding="utf-8")
    assert load_vocabulary(str(path)) == ("Left gripper", "workpiece")
    extended = load_vocabulary("synthetic", str(path))
    assert extended[-2:] == ("Left gripper", "workpiece")
    assert extended[:-2] == load_vocabulary("synthetic")


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


def test_an_unknown_vocabulary_names_the_shipped_ones() -> None:
    with pytest.raises(
        VocabularyError, match=r"'nowhere' is neither a file nor shipped \(everyday, synthetic\)"
    ):
        load_vocabulary("nowhere")


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


def test_embeddings_are_computed_once_per_model_and_content(tmp_path: Path) -> None:
    calls: list[list[str]] = []

    def counting(texts: Sequence[str]) -> np.ndarray:
        calls.append(list(texts))
        return letters(texts)

    def embed(phrases: list[str], template: str = "{}", model: str = "m") -> np.ndarray:
        return cached_phrase_embeddings(phrases, [template], counting, model, tmp_path)

    first = embed(["a", "b"])
    assert np.array_equal(embed(["a", "b"]), first)
    assert len(calls) == 1
    embed(["b", "a"])
    embed(["a", "b"], template="a {}")
    embed(["a", "b"], model="other")
    assert len(calls) == 4


@pytest.mark.parametrize("damage", [b"", b"garbage that is no safetensors file"])
def test_a_damaged_cache_is_computed_again(damage: bytes, tmp_path: Path) -> None:
    expected = cached_phrase_embeddings(["a"], ["{}"], letters, "m", tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage)
    assert np.array_equal(cached_phrase_embeddings(["a"], ["{}"], letters, "m", tmp_path), expected)
    assert np.array_equal(cached_phrase_embeddings(["a"], ["{}"], letters, "m", tmp_path), expected)


def test_a_cache_that_cant_be_written_costs_no_result(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    embedded = cached_phrase_embeddings(["a"], ["{}"], letters, "m", blocked / "cache")
    assert embedded.tolist() == [[1.0, 0.0]]
