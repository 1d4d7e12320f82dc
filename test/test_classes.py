"""Classes: ids that keep their meaning, the file that they are kept in, and groups of phrases."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from zgs_ros.classes import registry as registry_module
from zgs_ros.classes.classifier import Classifier
from zgs_ros.classes.file import HEAD, ClassFile, chosen_file, parse, with_seen
from zgs_ros.classes.groups import (
    LAST,
    MAX_GROUPS,
    MAX_PHRASES,
    ClassError,
    ClassGroup,
    checked_groups,
)
from zgs_ros.classes.registry import OFTEN, ClassRegistry
from zgs_ros.segmentation import Label, Roi, Segment, Segmentation

FLOOR = "{id: 1, name: floor, phrases: [floor, carpet, tiles]}"
PERSON = "{id: 2, name: person, phrases: [person, man]}"
FIXED = f"classes:\n  - {FLOOR}\n  - {PERSON}\n"


def opened(path: Path) -> ClassRegistry:
    return ClassRegistry(ClassFile(path), patience=None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "zgs_ros" / "classes.yaml"


# Ids


def test_labels_get_the_lowest_free_ids_in_the_order_in_which_they_come() -> None:
    registry = ClassRegistry()
    assert registry.number(["mug", "chair"]) == {"mug": 1, "chair": 2}
    assert registry.number(["lamp", "mug"]) == {"lamp": 3, "mug": 1}
    assert registry.names == {1: "mug", 2: "chair", 3: "lamp", 255: "other"}


@pytest.mark.parametrize("text", ["red mug", "Red Mug", " red  mug ", "red\tmug"])
def test_case_and_blanks_make_no_other_class(text: str) -> None:
    registry = ClassRegistry()
    registry.number(["red mug"])
    assert registry.number([text]) == {text: 1}
    assert registry.names[1] == "red mug"


def test_ids_are_the_same_in_a_hundred_restarts_whatever_comes_first(path: Path) -> None:
    labels = [f"thing {number}" for number in range(20)]
    first = opened(path).number(labels)
    for restart in range(100):
        order = labels[restart % 20 :] + labels[: restart % 20]
        assert opened(path).number(order) == first


def test_fixed_classes_come_first_and_others_take_what_is_free(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("classes:\n  - {id: 2, name: floor}\n  - {name: wall}\n")
    registry = opened(path)
    assert [(group.id, group.name) for group in registry.groups] == [(2, "floor"), (1, "wall")]
    assert registry.number(["mug", "floor"]) == {"mug": 3, "floor": 2}
    assert [group.id for group in opened(path).groups] == [2, 1], "wall keeps its number"


def test_once_half_of_the_low_ids_are_given_a_label_must_come_often_to_get_one() -> None:
    registry = ClassRegistry()
    registry.number([f"thing {number}" for number in range(127)])
    seen = [registry.number(["rare"])["rare"] for _ in range(OFTEN)]
    assert seen == [255] * (OFTEN - 1) + [128]
    assert registry.number(["once"]) == {"once": 255}
    assert (registry.sharing, registry.names[255]) == (1, "other")


def test_above_254_labels_share_a_byte_and_have_ids_of_their_own_beside_it() -> None:
    registry = ClassRegistry()
    for _ in range(OFTEN):
        ids = registry.number([f"thing {number}" for number in range(300)])
    assert sorted(ids.values()) == [*range(1, 255), *range(256, 302)]
    assert registry.sharing == 46


def test_there_are_not_more_ids_than_there_are_and_65535_is_not_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert LAST == 65534
    monkeypatch.setattr(registry_module, "OFTEN", 0)
    monkeypatch.setattr(registry_module, "LAST", 300)
    registry = ClassRegistry()
    ids = registry.number([f"thing {number}" for number in range(305)])
    assert sum(number == 255 for number in ids.values()) == 6
    assert max(registry.names) == 300
    assert registry.number(["one more"]) == {"one more": 255}


def test_labels_that_come_once_take_a_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "MAX_WAITING", 50)
    registry = ClassRegistry()
    registry.number([f"thing {number}" for number in range(127)])
    for number in range(500):
        registry.number([f"caption {number}"])
    assert registry.sharing == 50


@pytest.mark.parametrize(
    ("claims", "problem"),
    [
        ([ClassGroup(1, "table")], "the id 1 belongs to 'mug', and ids never change their meaning"),
        (
            [ClassGroup(7, "mug")],
            "'mug' has the id 1, and ids never change their meaning: give it 1 or 0",
        ),
    ],
)
def test_an_id_never_changes_its_meaning(claims: list[ClassGroup], problem: str) -> None:
    registry = ClassRegistry()
    registry.number(["mug"])
    with pytest.raises(ClassError, match=problem):
        registry.claim(claims)
    assert registry.names == {1: "mug", 255: "other"}


def test_a_name_that_was_seen_before_it_was_fixed_leaves_its_number_unused(path: Path) -> None:
    assert opened(path).number(["person", "mug"]) == {"person": 1, "mug": 2}
    path.write_text(f"classes:\n  - {{id: 9, name: person}}\n{path.read_text()}")
    registry = opened(path)
    assert registry.number(["person", "lamp"]) == {"person": 9, "lamp": 3}
    assert registry.names == {2: "mug", 3: "lamp", 9: "person", 255: "other"}
    assert registry.problems() == []


# The file


def test_what_the_user_wrote_stays_as_it_is(path: Path) -> None:
    mine = f"# my robot\n{FIXED}  # after\n\nseen:  # by nodes\n    mug: 7   # the red one\n\n# the end"
    path.parent.mkdir()
    path.write_text(mine)
    opened(path).number(["lamp", "no", 'a "b"', "naïve 🚲"])
    lines = path.read_text().split("\n")
    assert [line for line in lines if line in mine.split("\n")] == mine.split("\n")
    added = [line.strip() for line in lines if line not in mine.split("\n")]
    assert added == ["lamp: 3", '"no": 4', '"a \\"b\\"": 5', '"naïve 🚲": 6']
    assert parse(path.read_text()).seen == {"mug": 7, "lamp": 3, "no": 4, 'a "b"': 5, "naïve 🚲": 6}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f"{HEAD}  mug: 1\n"),
        ("# mine", "# mine\nseen:\n  mug: 1\n"),
        ("seen:", "seen:\n  mug: 1\n"),
        ("seen: {}\n", None),
        ("seen: {a b: 2}\nversion: 1\n", "seen: {a b: 2, mug: 1}\nversion: 1\n"),
        ("seen:\n a b: 2\nversion: 1\n", "seen:\n a b: 2\n mug: 1\nversion: 1\n"),
        ("seen:\r\n  a b: 2\r\n", "seen:\r\n  a b: 2\r\n  mug: 1\r\n"),
        (HEAD, f"{HEAD}  mug: 1\n"),
    ],
)
def test_labels_are_added_however_the_file_is_written(
    path: Path, before: str, after: str | None
) -> None:
    path.parent.mkdir()
    path.write_bytes(before.encode())
    registry = opened(path)
    assert registry.number(["mug"]) == {"mug": 1}
    if after is None:
        assert path.read_bytes() == before.encode(), "left alone where a line can't be added"
        assert "plain list of lines" in registry.problems()[0]
    else:
        assert path.read_bytes() == after.encode()
        assert registry.problems() == []


TEXTS = st.text(min_size=1, max_size=30).filter(lambda text: text.strip())


@settings(max_examples=25, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=8))
def test_any_label_comes_back_from_the_file(texts: list[str]) -> None:
    registry = ClassRegistry()
    ids = registry.number(texts)
    written = {name: i for i, name in registry.names.items() if i != 255}
    assert parse(with_seen(HEAD, written)).seen == written if written else not any(ids.values())


BAD_FILES = {
    "seen: [": "is not valid YAML: line",
    "- a\n- b\n": "a file of classes holds lines 'name: value'",
    "clases: []\n": "has 'clases'; there can be version, classes, seen",
    "version: 2\n": "is of version '2', and this zgs_ros knows 1: update it",
    "version: new\n": "is of version 'new'",
    "classes: {id: 1}\n": "`classes` must be a list",
    "classes: [floor]\n": "class 1 of `classes` must be like {id: 1, name: floor}, got 'floor'",
    "classes: [{id: 1, nam: floor}]\n": "has 'nam'; there can be id, name, phrases, mask_topic",
    "classes: [{id: one, name: floor}]\n": "has the id 'one'; it must be a number",
    "classes: [{id: true, name: floor}]\n": "has the id 'True'; it must be a number",
    "classes: [{id: 1, name: 7}]\n": "has a name or topic that is no text",
    "classes: [{id: 1, name: floor, phrases: [yes]}]\n": "phrases must be a list of texts",
    "classes: [{id: 1, name: floor, phrases: floor}]\n": "phrases must be a list of texts",
    "classes: [{id: 1, name: ''}]\n": "a class's name is empty",
    f"classes: [{{id: 1, name: {'x' * 10_000}}}]\n": "has 10000 characters, at most 200 are allowed",
    "classes: [{id: 1, name: floor, phrases: [' ']}]\n": "a phrase of the class 'floor' is empty",
    "classes: [{id: 300, name: floor}]\n": "id 300 of the class 'floor' must be in 1 .. 254",
    "classes: [{id: 255, name: floor}]\n": "id 255 of the class 'floor' must be in 1 .. 254",
    "classes: [{id: -1, name: floor}]\n": "id -1 of the class 'floor' must be in 1 .. 254",
    "classes: [{id: 1, name: Other}]\n": "a class can't be called 'Other'",
    "classes: [{id: 1, name: a}, {id: 1, name: b}]\n": "the id '1' is of two classes, 'a' and 'b'",
    "classes: [{id: 1, name: a}, {id: 2, name: A}]\n": "the name 'a' is of two classes, 'a' and 'A'",
    "classes: [{name: a, phrases: [x]}, {name: b, phrases: [X]}]\n": "the phrase 'x' is of two classes",
    "classes: [{name: a, mask_topic: 1/x}]\n": "mask_topic '1/x' of the class 'a' is no name of a topic",
    "classes: [{name: a, mask_topic: m}, {name: b, mask_topic: m}]\n": "the mask_topic 'm' is of two",
    "seen: [mug]\n": "line 1: `seen` holds lines 'name: value'",
    "seen:\n  mug: cup\n": "line 2: the id of 'mug' must be a number in 1 .. 65534, and not 255",
    "seen:\n  mug: 255\n": "and not 255; got '255'",
    "seen:\n  mug: 65535\n": "must be a number in 1 .. 65534",
    "seen:\n  mug: 1\n  cup: 1\n": "line 3: the id of 'cup' is 1, which 'mug' has already",
    "seen:\n  mug: 1\n  mug: 2\n": "line 3: 'mug' comes twice",
    "seen:\n  mug: 1\n  Mug: 2\n": "line 3: the id of 'Mug' is given twice",
    "classes: [{id: 1, name: floor}]\nseen: {mug: 1}\n": "the id 1 of the class 'floor' was given to 'mug'",
    "a: &a [x, x]\nb: [*a, *a]\n": "has 'a'; there can be",
    "[" * 5000: "is not valid YAML",
    "\x00\x01": "is not valid YAML",
}


@pytest.mark.parametrize("text", BAD_FILES, ids=lambda text: text[:30].replace("\n", " "))
def test_a_file_that_can_not_be_used_is_refused_and_left_alone(path: Path, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(ClassError) as caught:
        opened(path)
    assert BAD_FILES[text] in str(caught.value)
    assert str(path) in str(caught.value)
    assert "or choose by classes.file another file" in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("data", "problem"),
    [(b"seen:\n  m\xffg: 1\n", "byte 9 is not UTF-8"), (b"#" * (1 << 23) + b"\n", "has more than")],
)
def test_what_is_no_text_is_refused(path: Path, data: bytes, problem: str) -> None:
    path.parent.mkdir()
    path.write_bytes(data)
    with pytest.raises(ClassError, match=problem):
        opened(path)


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_file_is_refused(path: Path, kind: str) -> None:
    path.parent.mkdir()
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    with pytest.raises(ClassError, match="is no regular file"):
        opened(path)


def test_a_file_that_is_damaged_while_it_is_in_use_is_left_alone(path: Path) -> None:
    registry = opened(path)
    registry.number(["mug"])
    good = path.read_text()
    path.write_text("seen: [")
    assert registry.number(["mug", "lamp"]) == {"mug": 1, "lamp": 2}
    assert path.read_text() == "seen: ["
    assert "new class ids are in memory only" in registry.problems()[0]
    path.write_text(good)
    registry._next_try = 0.0
    assert registry.number(["chair"]) == {"chair": 3}
    assert registry.problems() == []
    assert opened(path).names == {1: "mug", 2: "lamp", 3: "chair", 255: "other"}, "made up for"


def test_a_place_that_can_not_be_written_costs_only_the_memory() -> None:
    registry = opened(Path("/proc/zgs/classes.yaml"))
    assert registry.number(["mug"]) == {"mug": 1}
    assert "new class ids are in memory only: /proc/zgs/classes.yaml" in registry.problems()[0]


def test_a_read_only_file_is_used_and_not_replaced(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(path).number(["mug"])
    text = path.read_text()
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everything
    registry = opened(path)
    assert registry.number(["mug", "lamp"]) == {"mug": 1, "lamp": 2}
    assert registry.problems() == [f"new class ids are in memory only: {path}: it is read-only"]
    assert path.read_text() == text


def test_classes_that_are_edited_in_use_are_told_and_used_from_the_next_start(path: Path) -> None:
    registry = opened(path)
    registry.number(["mug"])
    path.write_text(f"{FIXED}{path.read_text().replace('mug: 1', 'mug: 7')}")
    registry._next_try = 0.0
    registry.refresh()
    assert registry.number(["mug", "lamp"]) == {"mug": 1, "lamp": 3}, "2 is person's"
    assert "knows otherwise until it is configured again" in registry.problems()[0]
    again = opened(path)
    assert again.number(["mug", "lamp"]) == {"mug": 7, "lamp": 3}
    assert [group.name for group in again.groups] == ["floor", "person"]


def test_a_file_that_goes_comes_again_with_all_that_is_known(path: Path) -> None:
    registry = opened(path)
    registry.number(["mug", "lamp"])
    path.unlink()
    registry.number(["chair"])
    assert opened(path).names == {1: "mug", 2: "lamp", 3: "chair", 255: "other"}


def test_a_link_stays_a_link(path: Path) -> None:
    path.parent.mkdir()
    real = path.with_name("real.yaml")
    real.touch()
    path.symlink_to(real)
    opened(path).number(["mug"])
    assert path.is_symlink()
    assert parse(real.read_text()).seen == {"mug": 1}


def test_an_image_does_not_wait_for_a_file_that_another_process_holds(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = ClassRegistry(ClassFile(path), patience=0.02)
    registry.number(["mug"])
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        def choose(content: object) -> dict[str, int]:
            held.set()
            let_go.wait(10)
            return {"elsewhere": 2}

        ClassFile(path).add(choose)

    other = threading.Thread(target=hold)
    other.start()
    held.wait(10)
    assert registry.number(["mug", "lamp"]) == {"mug": 1, "lamp": 255}, "has no number yet"
    let_go.set()
    other.join()
    registry._patience = None
    assert registry.number(["lamp", "elsewhere"]) == {"lamp": 3, "elsewhere": 2}


def see(path: Path, start: int) -> dict[str, int]:
    """What a process of its own gives to labels that several see, in an order of its own."""
    registry = opened(path)
    ids: dict[str, int] = {}
    for number in range(20):
        ids |= registry.number([f"thing {(start + 7 * number) % 20}", f"only {start} {number % 3}"])
    return ids


def test_processes_share_a_file_without_damage(path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(3) as pool:
        seen = pool.starmap(see, [(path, start) for start in (0, 5, 11)])
    together: dict[str, int] = {}
    for ids in seen:
        assert all(together.setdefault(name, number) == number for name, number in ids.items())
    content = parse(path.read_text())
    assert content.seen == together
    assert len(set(together.values())) == len(together) == 29
    assert sorted(entry.name for entry in path.parent.iterdir()) == [path.name, f"{path.name}.lock"]


@pytest.mark.parametrize(
    ("setting", "home", "expected"),
    [
        ("", "/h", None),
        ("auto", "/h", "/h/zgs_ros/classes.yaml"),
        ("auto", "", str(Path.home() / ".ros/zgs_ros/classes.yaml")),
        ("~/mine.yaml", "/h", str(Path.home() / "mine.yaml")),
        ("/a/b.yaml", "/h", "/a/b.yaml"),
    ],
)
def test_where_the_file_is(
    monkeypatch: pytest.MonkeyPatch, setting: str, home: str, expected: str | None
) -> None:
    monkeypatch.setenv("ROS_HOME", home)
    file = chosen_file(setting)
    assert (str(file.path) if file else None) == expected


# Groups


def test_too_many_classes_and_phrases_are_refused() -> None:
    many = [ClassGroup(0, f"class {number}") for number in range(MAX_GROUPS + 1)]
    with pytest.raises(ClassError, match="there are 1001 classes, at most 1000 are allowed"):
        checked_groups(many)
    phrases = tuple(f"phrase {number}" for number in range(MAX_PHRASES + 1))
    with pytest.raises(ClassError, match="there are 10001 phrases, at most 10000 are allowed"):
        checked_groups([ClassGroup(0, "all", phrases)])


def test_a_name_is_among_its_phrases_unless_it_is_anothers() -> None:
    groups = [ClassGroup(0, "ground", ("floor", "Floor ")), ClassGroup(0, "floor", ("carpet",))]
    assert [group.phrases for group in checked_groups(groups)] == [("ground", "Floor"), ("carpet",)]


VECTORS = {
    "floor": (1.0, 0.0, 0.0),
    "carpet": (0.8, 0.6, 0.0),
    "person": (0.0, 0.0, 1.0),
    "forklift": (0.0, 0.6, 0.8),
}


class Embeds:
    """Embeds `VECTORS`, and counts how often; others are embedded as far from everything."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.calls.append(len(texts))
        return np.array([VECTORS.get(text, (-1.0, 0.0, 0.0)) for text in texts], np.float32)


def segment(label: str, score: float, vector: Sequence[float], *others: Label) -> Segment:
    labels = (Label(label, score, 0.5), *others) if label else ()
    unit = np.array(vector, np.float32)
    return Segment(1, labels, Roi(0, 0, 2, 2), 4, (0.5, 0.5), unit)


def classified(classifier: Classifier, seen: Segment) -> Segment:
    segmentation = Segmentation(np.ones((2, 2), np.uint16), (seen,), "toy")
    [found] = classifier.find_classes(segmentation).segments
    return found


GROUPS = (
    ClassGroup(1, "floor", ("floor", "carpet")),
    ClassGroup(2, "vehicle", ("forklift",)),
)
STAIRS = (0.6, 0.8, 0.0)  # 0.96 from carpet, 0.6 from floor
CASES = {
    "the label is a phrase": (segment("carpet", 0.9, (1, 0, 0)), "floor", 1),
    "the label is a phrase but for case": (segment("Carpet", 2.0, (0, 1, 0)), "Carpet", 1),
    "a phrase is nearer than the label": (segment("stairs", 0.9, STAIRS), "carpet", 1),
    "a phrase is as near": (segment("stairs", 0.96, STAIRS), "carpet", 1),
    "the label is nearer": (segment("stairs", 0.97, STAIRS), "stairs", 3),
    "nothing was named": (segment("", 0.0, (0.0, 0.6, 0.8)), "forklift", 2),
}


@pytest.mark.parametrize("case", CASES)
def test_phrases_of_groups_compete_with_the_label(case: str) -> None:
    classifier = Classifier(ClassRegistry(), Embeds(), GROUPS)
    classifier.embed_some()
    seen, label, class_id = CASES[case]
    found = classified(classifier, seen)
    assert (found.label, found.class_id) == (label, class_id)


@pytest.mark.parametrize(("is_open", "class_id"), [(True, 3), (False, 0)])
def test_what_is_of_no_group_has_its_own_class_where_they_are_open(
    is_open: bool, class_id: int
) -> None:
    classifier = Classifier(ClassRegistry(), Embeds(), GROUPS, is_open)
    assert classified(classifier, segment("mug", 0.9, (0, 1, 0))).class_id == class_id


def test_labels_that_lose_stay_as_alternatives_in_their_number() -> None:
    classifier = Classifier(ClassRegistry(), Embeds(), GROUPS)
    classifier.embed_some()
    found = classified(classifier, segment("stairs", 0.9, STAIRS, Label("step", 0.8, 0.1)))
    assert [label.text for label in found.labels] == ["carpet", "stairs"]
    assert found.labels[0].score == pytest.approx(0.96)
    assert found.labels[0].probability == 0.5


def test_a_class_has_the_probability_of_all_its_labels() -> None:
    classifier = Classifier(ClassRegistry(), Embeds(), GROUPS)
    others = (Label("carpet", 0.7, 0.25), Label("mug", 0.6, 0.125))
    seen = classified(classifier, segment("floor", 0.9, (0, 1, 0), *others))
    assert classifier.probability(seen) == 0.75
    alone = classified(classifier, segment("mug", 0.9, (0, 1, 0), *others))
    assert classifier.probability(alone) == 0.5


def test_phrases_are_embedded_in_pieces_once_and_work_by_text_until_then() -> None:
    embeds = Embeds()
    many = tuple(f"phrase {number}" for number in range(40))
    classifier = Classifier(ClassRegistry(), embeds, [ClassGroup(1, "floor", ("carpet", *many))])
    assert classifier.missing == 42
    assert classified(classifier, segment("carpet", 0.9, (0, 1, 0))).class_id == 1
    assert classified(classifier, segment("stairs", 0.9, STAIRS)).label == "stairs"
    assert classifier.embed_some(0.0) == 26
    assert classified(classifier, segment("stairs", 0.9, STAIRS)).label == "carpet"
    assert classifier.embed_some() == 0
    classifier.replace_groups([ClassGroup(0, "floor", ("carpet", "tiles"))], True)
    assert (classifier.missing, classifier.groups[0].id) == (1, 1)
    assert sum(embeds.calls) == 42


def test_groups_that_can_not_be_used_change_nothing() -> None:
    classifier = Classifier(ClassRegistry(), Embeds(), GROUPS)
    with pytest.raises(ClassError, match="the id 1 belongs to 'floor'"):
        classifier.replace_groups([ClassGroup(1, "table")], False)
    assert [group.name for group in classifier.groups] == ["floor", "vehicle"]
    assert classifier.is_open


def test_embedding_that_fails_can_be_tried_again() -> None:
    def fail(texts: Sequence[str]) -> NDArray[np.float32]:
        raise RuntimeError("out of memory")

    classifier = Classifier(ClassRegistry(), fail, GROUPS)
    with pytest.raises(RuntimeError, match="out of memory"):
        classifier.embed_some()
    assert classifier.missing == 4


def test_a_label_is_of_the_class_that_its_last_words_name() -> None:
    groups = [ClassGroup(3, "cup", ("mug", "paper cup")), ClassGroup(4, "food", ("hot dog",))]
    groups.append(ClassGroup(5, "animal", ("dog",)))
    classifier = Classifier(
        ClassRegistry(),
        lambda texts: np.eye(2, dtype=np.float32)[[0] * len(texts)],
        groups,
        is_open=False,
    )
    cases = {
        "red mug": 3,
        "big paper cup": 3,
        "cup holder": 0,
        "brown dog": 5,
        "hot dog": 4,
        "mug": 3,
    }
    found = {text: classifier._group_of(text) for text in cases}
    assert found == cases
