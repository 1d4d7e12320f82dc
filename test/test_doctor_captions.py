"""The doctor tells whether a language model learnt something, and whether its tokenizer fits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers")

from tiny_gpt2 import BEGIN, write_gpt2
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from zgs_ros.config import SegmenterSettings, make_settings
from zgs_ros.models.language import read_language_model
from zgs_ros.models.language_model import LanguageModel
from zgs_ros.tools.doctor.captions import (
    SENTENCES,
    check_language_model,
    check_perplexity,
    check_tokenizer,
    perplexity,
)
from zgs_ros.tools.doctor.findings import Finding
from zgs_ros.tools.doctor.models import examine_models

NOTHING_ELSE = {"profile": "mini", "dino.model": "none", "clip.model": "none"}


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("untrained")
    write_gpt2(folder)
    return folder


@pytest.fixture(scope="module")
def trained(untrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It has read nothing but the sentences that it is asked about, some hundred times."""
    model, tokenizer = read_language_model(untrained)
    texts = [[0, *tokenizer.encode(sentence).ids] for sentence in SENTENCES]
    longest = max(map(len, texts))
    tokens = torch.tensor([text + [-100] * (longest - len(text)) for text in texts])
    begin = model.config.bos_token_id
    tokens[:, 0] = begin
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    model.train()
    for _ in range(60):
        loss = model(input_ids=tokens.clamp_min(0), labels=tokens).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    folder = tmp_path_factory.mktemp("trained")
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def levels(findings: list[Finding]) -> dict[str, str]:
    return {finding.name: finding.level for finding in findings}


def load(folder: Path) -> LanguageModel:
    return LanguageModel(*read_language_model(folder))


def test_one_that_learnt_is_well(trained: Path) -> None:
    found = list(check_language_model(load(trained)))
    assert levels(found) == {"tokenizer": "ok", "perplexity": "ok"}


def test_perplexity_is_that_of_the_definition(untrained: Path) -> None:
    model = load(untrained)
    ids = model.encode("Image of a mug.")
    logits = model._model(input_ids=ids).logits[0].log_softmax(-1)
    chances = [float(logits[place, token]) for place, token in enumerate(ids[0, 1:].tolist())]
    expected = torch.tensor(-sum(chances) / len(chances)).exp()
    assert perplexity(model, ("Image of a mug.",)) == pytest.approx(float(expected), rel=1e-4)


def test_damaged_and_untrained_ones_are_told(trained: Path, untrained: Path) -> None:
    assert check_perplexity(load(untrained)).level == "error"
    damaged = load(trained)
    with torch.no_grad():
        rows = damaged._model.transformer.wpe.weight
        rows.copy_(rows.roll(5, dims=0))
        for block in damaged._model.transformer.h:
            block.mlp.c_fc.weight.copy_(block.mlp.c_fc.weight.flip(0))
    assert check_perplexity(damaged).level == "error"


@pytest.mark.parametrize("tokens", [300, 5000])
def test_the_tokenizer_of_another_model_is_told(tokens: int, trained: Path) -> None:
    model, _ = read_language_model(trained)
    found = check_tokenizer(LanguageModel(model, other_tokenizer(tokens)))
    assert (found.level, f"has {tokens} tokens" in found.text) == ("error", True)


def test_a_tokenizer_of_the_right_size_with_other_tokens_is_told(trained: Path) -> None:
    model, _ = read_language_model(trained)
    other = other_tokenizer(model.config.vocab_size)
    assert levels(list(check_language_model(LanguageModel(model, other))))["perplexity"] == "error"


def other_tokenizer(size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=[BEGIN], initial_alphabet=alphabet, show_progress=False
    )
    words = [f" {first}{second}ing" for first in "abcdefghijklmnopqrstuvwxyz" for second in "aeiou"]
    words += [f" {word}" for word in map(str, range(8000))]
    tokenizer.train_from_iterator(words, trainer)
    return tokenizer


def test_the_doctor_looks_at_it_where_captions_are_asked_for(untrained: Path) -> None:
    settings = make_settings(
        SegmenterSettings,
        {**NOTHING_ELSE, "labeling.method": "zerocap", "captions.model": str(untrained)},
    )
    found = {f.name: f.level for f in examine_models(settings) if f.room == "captions"}
    assert found == {"loading": "ok", "tokenizer": "ok", "perplexity": "error"}


def test_one_that_is_not_there_is_told_with_a_way_out(tmp_path: Path) -> None:
    settings = make_settings(
        SegmenterSettings,
        {**NOTHING_ELSE, "labeling.method": "zerocap", "captions.model": str(tmp_path)},
    )
    [found] = [f for f in examine_models(settings) if f.room == "captions"]
    assert (found.name, found.level) == ("loading", "error")
    assert "the folder lacks config.json" in found.text
