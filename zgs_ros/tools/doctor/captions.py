"""Whether the language model of captions is what it is said to be, and fits its tokenizer."""

from __future__ import annotations

import random
from collections.abc import Iterator

import torch

from zgs_ros.labeling.zerocap import NEW_WORD
from zgs_ros.models.language_model import LanguageModel
from zgs_ros.tools.doctor.findings import Finding, Level

ROOM = "captions"
ANOTHER = "fetch it anew (zgs models pull), or name another one with captions.model"

SENTENCES = (
    "A man is riding a horse on the beach.",
    "Two children are playing in the garden behind the house.",
    "She put the cup of coffee on the kitchen table.",
    "The train to the city leaves at ten in the morning.",
    "There is a small dog sleeping under the chair.",
    "He opened the door and looked out of the window.",
    "The sun was shining and the sky was blue.",
    "I would like a glass of water, please.",
)
"""What anybody who learnt English expects."""

UNUSUAL = 200.0
"""Perplexity of `SENTENCES` above which something may be wrong.

GPT-2 medium has 22.8 on WikiText-2 and 47.3 on Penn Treebank, the smallest GPT-2 29.4 and 65.9 (Radford et
al. 2019, table 3). These sentences are simpler, but short, with nothing before them."""
LOST = 1 / 25
"""Share of the number of tokens above which something is: of GPT-2's 50,257 about 2,000.

One that learnt nothing has a perplexity of about their number."""
LEAST_TOKENS = 0.98
"""Share of a model's tokens that its tokenizer has: some are left free, to make their number round."""


def check_language_model(model: LanguageModel) -> Iterator[Finding]:
    """Findings on a language model that could be loaded."""
    tokenizer = check_tokenizer(model)
    yield tokenizer
    if tokenizer.level != "error":
        yield check_perplexity(model)


def check_tokenizer(model: LanguageModel) -> Finding:
    """Whether the tokenizer has the model's tokens, and gives back the text that it was given."""
    tokens, known = model.sizes
    text = f"has {tokens} tokens, the model {known}"
    wrong = ""
    if not LEAST_TOKENS * known <= tokens <= known:
        wrong = f"{text}: it belongs to another one"
    elif lost := [s for s in SENTENCES if model.decode(model.encode(s)[0, 1:].tolist()) != s]:
        wrong = f"does not give back {lost[0]!r}"
    elif not any(NEW_WORD.fullmatch(word) for word in model.texts):
        wrong = "has no token that is a word behind a space"
    if wrong:
        return Finding(ROOM, "tokenizer", "error", wrong, ANOTHER)
    return Finding(ROOM, "tokenizer", "ok", f"{text}; texts come back as they were")


def check_perplexity(model: LanguageModel) -> Finding:
    """Whether it expects plain English, and expects it in its order."""
    usual, shuffled = perplexity(model, SENTENCES), perplexity(model, _shuffled())
    text = (
        f"is {usual:.0f} for plain sentences, {shuffled:.0f} with their words shuffled "
        f"(trained: below {UNUSUAL:.0f})"
    )
    if not usual < LOST * model.sizes[1] or not usual < shuffled:
        level: Level = "error"
        text = f"{text}: weights are untrained, damaged, or not those of the tokenizer"
    elif usual > UNUSUAL:
        level = "warning"
        text = f"{text}: it may have been trained on something other than English"
    else:
        return Finding(ROOM, "perplexity", "ok", text)
    return Finding(ROOM, "perplexity", level, text, ANOTHER)


def perplexity(model: LanguageModel, texts: tuple[str, ...]) -> float:
    """exp of the mean negative logarithm of the tokens' probabilities, over all tokens of the texts."""
    return float(torch.cat([model.surprise(text) for text in texts]).mean().exp())


def _shuffled() -> tuple[str, ...]:
    """The sentences with their words in another order."""
    dice = random.Random(0)
    mixed = []
    for sentence in SENTENCES:
        words = sentence.rstrip(".").split()
        dice.shuffle(words)
        mixed.append(f"{' '.join(words)}.")
    return tuple(mixed)
