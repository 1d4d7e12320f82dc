"""Captions: a real GPT-2, tiny and untrained, steered by the bundled CLIP."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from torch import Tensor

pytest.importorskip("transformers")

from tiny_gpt2 import write_gpt2

from zgs_ros.config import CaptionSettings, SegmenterSettings, make_settings
from zgs_ros.embedding.clip import ClipEmbedder
from zgs_ros.labeling import zerocap
from zgs_ros.labeling.beams import Beams
from zgs_ros.labeling.candidates import Candidates
from zgs_ros.labeling.steering import steer
from zgs_ros.labeling.zerocap import NEW_WORD, ZeroCapLabeler, cut
from zgs_ros.models.language_model import Context, LanguageModel
from zgs_ros.models.loading import ModelError, load_clip, load_language_model, pull
from zgs_ros.segmenter import load_segmenter
from zgs_ros.synthetic import render, sample_scene

CPU = torch.device("cpu")
COLOURS = ("red", "green", "blue", "yellow", "black", "white")


@pytest.fixture(scope="module")
def clip() -> ClipEmbedder:
    settings = make_settings(SegmenterSettings, {"profile": "mini"})
    return load_clip(settings.clip, CPU, torch.float32)


@pytest.fixture(scope="module")
def uniform(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    folder = tmp_path_factory.mktemp("uniform")
    write_gpt2(folder, width=256, uniform=True)
    return load_language_model(CaptionSettings(model=str(folder)), CPU)


@pytest.fixture(scope="module")
def random_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("random")
    write_gpt2(folder)
    return folder


@pytest.fixture(scope="module")
def random_model(random_folder: Path) -> LanguageModel:
    return load_language_model(CaptionSettings(model=str(random_folder)), CPU)


def embed(clip: ClipEmbedder, phrases: Sequence[str]) -> np.ndarray:
    return clip.embed_texts([f"Image of a {phrase}" for phrase in phrases])


# Steering


def test_steering_alone_finds_the_nearest_words(clip: ClipEmbedder, uniform: LanguageModel) -> None:
    """To a uniform model all words are alike: what it says is what CLIP finds nearest."""
    segments = embed(clip, COLOURS)
    words = [text for text in uniform.texts if NEW_WORD.fullmatch(text)]
    cosines = segments @ clip.embed_texts([f"Image of a{word}" for word in words]).T
    labeler = ZeroCapLabeler(uniform, clip, max_tokens=1, beams=1)
    for row, (label,) in zip(cosines, labeler.label(segments), strict=True):
        # CLIP's text cosines of some words are almost equal; so are these words' chances then.
        assert row[words.index(f" {label.text}")] > row.max() - 0.02
    unsteered = ZeroCapLabeler(uniform, clip, max_tokens=1, beams=1, steps=0).label(segments)
    far = [
        row[words.index(f" {label.text}")] for row, (label,) in zip(cosines, unsteered, strict=True)
    ]
    assert min(cosines.max(1) - far) > 0.02  # it says the same of everything


def test_steering_alone_finds_phrases(clip: ClipEmbedder, uniform: LanguageModel) -> None:
    phrases = ["red wall", "green lamp", "white snow"]
    segments = embed(clip, phrases)
    labels = ZeroCapLabeler(uniform, clip, max_tokens=2, beams=3).label(segments)
    own = clip.embed_texts([f"Image of a {phrase}." for phrase in phrases])
    for row, text, found in zip(segments, own, labels, strict=True):
        assert found[0].score > float(row @ text) - 0.05


def test_the_objective_never_increases(clip: ClipEmbedder, random_model: LanguageModel) -> None:
    labeler = ZeroCapLabeler(random_model, clip, max_tokens=3, beams=2)
    labeler.label(embed(clip, ["red ball", "white wall"]))
    history = torch.cat(list(labeler.cost.objectives), dim=1)
    assert history.shape == (
        6,
        2 + 4 + 4,
    )  # five steps; one beam at first, then two of each segment
    assert (history[1:] <= history[:-1]).all()
    assert (history[-1] < history[0]).all()


def test_the_objective_is_the_published_one(
    clip: ClipEmbedder, random_model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CE(q, p) + 0.2 KL(p, p0), q of the 512 likeliest continuations at temperature 0.01."""
    seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def look(
        run: Callable[[Context], Tensor],
        context: Context,
        objective: Callable[[Tensor], Tensor],
        steps: int,
        **options: Any,
    ) -> tuple[Tensor, Tensor]:
        logits = run(context)
        changed = logits + torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))
        seen.append((logits.log_softmax(1)[0], changed.log_softmax(1)[0], objective(changed)))
        return steer(run, context, objective, steps, **options)

    monkeypatch.setattr(zerocap, "steer", look)
    segment = embed(clip, ["red ball"])
    ZeroCapLabeler(random_model, clip, max_tokens=1, beams=1, steps=0).label(segment)
    ((log_p0, log_p, found),) = seen
    likeliest = log_p.topk(min(512, len(log_p))).indices
    texts = [f"Image of a{random_model.texts[token]}" for token in likeliest.tolist()]
    q = (torch.from_numpy(clip.embed_texts(texts) @ segment[0]) / 0.01).softmax(0)
    cross_entropy = -(q * log_p[likeliest]).sum()
    divergence = (log_p.exp() * (log_p - log_p0)).sum()
    assert divergence > 0.2
    assert float(found) == pytest.approx(float(cross_entropy + 0.2 * divergence), abs=0.02)


def test_a_step_too_far_is_taken_back() -> None:
    """Distances 5 and 0.01 from the minimum of x^2: a step of 0.3 |g|^0.1 helps one, not the other."""
    start = torch.tensor([5.0, 0.01]).view(2, 1, 1, 1)
    logits, history = steer(
        lambda context: context[0].view(2, 1),
        [start],
        lambda values: values[:, 0] ** 2,
        steps=3,
    )
    # Row 0: g = 2 x; the steps are 0.3 * 10^0.1 = 0.37768, 0.3 * 9.24464^0.1 = 0.37473, ...
    assert history[0].tolist() == pytest.approx([25.0, 1e-4])
    assert history[1:3, 0].tolist() == pytest.approx([4.62232**2, 4.24759**2], rel=1e-4)
    assert history[:, 1].tolist() == pytest.approx([1e-4] * 4)  # 0.2, 0.1 and 0.05 are all too far
    assert float(logits[0, 0]) == pytest.approx(history[-1, 0] ** 0.5)
    assert float(logits[1, 0]) == pytest.approx(0.01)


def test_without_steps_nothing_changes() -> None:
    logits, history = steer(lambda c: c[0], [torch.ones(2, 3)], lambda x: x.sum(1), steps=0)
    assert torch.equal(logits, torch.ones(2, 3))
    assert history.tolist() == [[3.0, 3.0]]


# Search


def test_beams_find_what_exhaustive_search_finds() -> None:
    """Three tokens, 0 ends; probabilities depend on the token before (row 3: at the start)."""
    generator = torch.Generator().manual_seed(0)
    table = torch.rand(4, 3, generator=generator).log_softmax(1)
    everything = {}
    for length in (1, 2, 3):
        for text in itertools.product(range(3), repeat=length):
            if 0 in text[:-1] or (length < 3 and text[-1] != 0):
                continue
            logs = [table[a, b] for a, b in zip((3, *text), text, strict=False)]
            everything[text] = float(sum(logs)) / length
    expected = sorted(everything, key=lambda text: -everything[text])

    beams = Beams(2, 27, 0, CPU)
    last = torch.full((2,), 3)
    for _ in range(3):
        parents = beams.grow(table[last])
        assert len(parents) == len(beams.active)
        last = beams.written[:, -1]
    for found in beams.texts():
        assert found == [[t for t in text if t != 0] for text in expected]


def test_a_finished_beam_keeps_its_place() -> None:
    beams = Beams(1, 2, 0, CPU)
    beams.grow(torch.tensor([[0.6, 0.3, 0.1]]).log())  # "end" 0.6, "1" 0.3
    assert beams.segments.tolist() == [0]
    assert beams.written.tolist() == [[1]]
    parents = beams.grow(torch.tensor([[0.1, 0.1, 0.8]]).log())  # "1 2": sqrt(0.3 * 0.8) = 0.49
    assert parents.tolist() == [0]
    assert beams.texts() == [[[], [1, 2]]]


@pytest.mark.parametrize(("beams", "tokens", "alternatives"), [(1, 1, 4), (3, 2, 4), (4, 3, 1)])
def test_beams_and_lengths_are_limits(
    clip: ClipEmbedder, random_model: LanguageModel, beams: int, tokens: int, alternatives: int
) -> None:
    labeler = ZeroCapLabeler(
        random_model, clip, beams=beams, max_tokens=tokens, alternatives=alternatives, steps=1
    )
    for found in labeler.label(embed(clip, ["red ball", "white wall"])):
        assert 1 <= len(found) <= min(beams, 1 + alternatives)
        assert len({label.text for label in found}) == len(found)
        scores = [label.score for label in found]
        assert scores == sorted(scores, reverse=True)
        for label in found:
            assert all(word.isalnum() for word in label.text.split())
            assert label.text == label.text.lower()
            longest = max(len(text) for text in random_model.texts)
            assert len(label.text) <= tokens * longest
    assert labeler.cost.rows <= 2 * (1 + beams * (tokens - 1))


def test_text_ends_at_the_end_token(clip: ClipEmbedder, random_folder: Path) -> None:
    """A model that always wants to stop is not asked further, and its full stop is not in the label."""
    model = load_language_model(CaptionSettings(model=str(random_folder)), CPU)
    head = torch.nn.Linear(64, len(model.texts))
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    head.bias.data[model.end] = 30.0
    model._model.lm_head = head.requires_grad_(False)
    labeler = ZeroCapLabeler(model, clip, beams=2, max_tokens=8)
    found = labeler.label(embed(clip, ["red ball"]))
    assert all(len(label.text.split()) == 1 and "." not in label.text for label in found[0])
    assert labeler.cost.rows == 1 + 2


def test_the_authors_captions_are_compared_as_they_come(
    clip: ClipEmbedder, random_model: LanguageModel
) -> None:
    """With their space in front and their full stop, in the template, which brings its own."""
    segments = embed(clip, ["red ball"])
    labeler = ZeroCapLabeler(random_model, clip, max_tokens=3, beams=3, reference=True)
    captions = labeler._write(segments)[0]
    assert all(caption.startswith(" ") for caption in captions)
    rows = clip.embed_texts([f"Image of a {caption}." for caption in captions])
    best = int((rows @ segments[0]).argmax())
    label = labeler.label(segments)[0][0]
    assert label.text == cut(captions[best])
    assert label.score == pytest.approx(float(rows[best] @ segments[0]), abs=1e-6)
    np.testing.assert_allclose(labeler.text_embedding(label.text), rows[best], atol=1e-6)
    assert captions[best] not in (label.text, f" {label.text}")


def test_segments_of_a_batch_give_what_they_give_alone(
    clip: ClipEmbedder, random_model: LanguageModel
) -> None:
    segments = embed(clip, ["red ball", "white wall", "blue box"])
    options = {"beams": 2, "max_tokens": 2, "steps": 2}
    together = ZeroCapLabeler(random_model, clip, batch=16, **options).label(segments)
    one_by_one = ZeroCapLabeler(random_model, clip, batch=1, **options).label(segments)
    for first, second in zip(together, one_by_one, strict=True):
        assert [label.text for label in first] == [label.text for label in second]
    assert ZeroCapLabeler(random_model, clip).label(segments[:0]) == []


# Candidates


def test_a_continuation_is_embedded_once() -> None:
    asked: list[str] = []

    def embed_texts(texts: Sequence[str], groups: Sequence[int]) -> Tensor:
        asked.extend(texts)
        assert sorted(set(groups)) == list(range(max(groups) + 1))
        return torch.nn.functional.normalize(torch.tensor([[len(t), 1.0] for t in texts]), dim=1)

    segments = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    candidates = Candidates(embed_texts, [" a", " bb", " ccc"], ["x", "x", "yy"], segments)
    first = candidates.cosines(torch.tensor([[0, 1], [1, 2], [2, 0]]))
    assert sorted(asked) == ["x a", "x bb", "x ccc", "yy a", "yy ccc"]
    # Lengths 3, 4 (with x), 4, 5 and 6, 4: cosine with (1, 0) is n / sqrt(n^2 + 1), with (0, 1) 1 / ..
    expected = [[3 / 10**0.5, 4 / 17**0.5], [1 / 17**0.5, 1 / 26**0.5], [6 / 37**0.5, 4 / 17**0.5]]
    torch.testing.assert_close(first, torch.tensor(expected))
    again = candidates.cosines(torch.tensor([[0, 2], [0, 1], [0, 1]]))
    assert asked[5:] == ["yy bb"]
    assert candidates.embedded == 6
    assert again.shape == (3, 2)


# Loading


def test_without_transformers_it_says_what_to_do(
    random_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModelError) as caught:
        load_language_model(CaptionSettings(model=str(random_folder)), CPU)
    assert 'pip install "zgs_ros[captions]"' in str(caught.value)
    assert "labeling.method: retrieval works without" in str(caught.value)


def test_without_network_and_cache_the_error_names_three_ways_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError) as caught:
        load_language_model(CaptionSettings(), CPU, "paper")
    ways = ("zgs models pull --profile paper", "captions.model=FOLDER", "labeling.method=retrieval")
    for way in ways:
        assert way in str(caught.value)


def test_pulling_includes_the_language_model(random_folder: Path) -> None:
    values = {
        "profile": "mini",
        "labeling.method": "zerocap",
        "captions.model": str(random_folder),
    }
    assert random_folder in pull(make_settings(SegmenterSettings, values))


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def other_kind(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))


def damaged(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"no safetensors")


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")


def sparse(folder: Path, name: str) -> None:
    with (folder / name).open("r+b") as file:
        file.truncate(1 << 33)


@pytest.mark.parametrize(
    ("damage", "fragment"),
    [
        (pickled, "lacks model.safetensors; pickles are not loaded"),
        (other_kind, "is of the kind 'llama', not gpt2"),
        (lambda folder: (folder / "config.json").write_text("[1]"), "is no object of JSON"),
        (lambda folder: (folder / "config.json").write_text("[" * 10**5), "is no object of JSON"),
        (lambda folder: (folder / "config.json").write_bytes(b"\xff"), "is no object of JSON"),
        (
            lambda folder: (folder / "config.json").write_text('{"model_type": ["gpt2"]}'),
            "is of the kind .*, not gpt2",
        ),
        (
            lambda folder: sparse(folder, "config.json"),
            "8589934592 bytes, at most 1048576 are read",
        ),
        (lambda folder: sparse(folder, "tokenizer.json"), "at most 67108864 are read"),
        (damaged, "captions.model"),
        (no_tokenizer, "tokenizer.json can't be read"),
    ],
)
def test_folders_that_cant_be_used(damage: object, fragment: str, tmp_path: Path) -> None:
    write_gpt2(tmp_path)
    assert callable(damage)
    damage(tmp_path)
    with pytest.raises(ModelError, match=fragment):
        load_language_model(CaptionSettings(model=str(tmp_path)), CPU)


@pytest.mark.parametrize("name", ["gpt2", "/nowhere/gpt2", "./gpt2"])
def test_a_name_that_is_nothing(name: str) -> None:
    with pytest.raises(ModelError, match="neither a folder nor a name on the hub"):
        load_language_model(CaptionSettings(model=name), CPU)


# The whole pipeline


def test_the_segmenter_names_by_captions(random_folder: Path) -> None:
    values = {
        "profile": "mini",
        "device": "cpu",
        "precision": "float32",
        "labeling.method": "zerocap",
        "captions.model": str(random_folder),
        "captions.max_tokens": 1,
        "captions.steps": 1,
        "captions.beams": 2,
    }
    segmenter = load_segmenter(make_settings(SegmenterSettings, values))
    result = segmenter.segment(render(sample_scene(2_000_000_003, aspect=4 / 3), 60, 80).rgb)
    for segment in result.segments:
        assert 1 <= len(segment.labels) <= 2
        text = segmenter.embed_text(f"Image of a {segment.label}.")
        assert segment.score == pytest.approx(float(segment.embedding @ text), abs=1e-5)
