"""What captions cost per segment, and what each saving brings: `python benchmarks/captions.py`.

Weights are random, for times don't depend on them; how often a continuation is known already does,
so that figure is of an untrained GPT-2 with the words of the everyday vocabulary.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import open_clip
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel

from zgs_ros.config import SegmenterSettings, make_settings
from zgs_ros.embedding import continuations
from zgs_ros.labeling.steering import steer
from zgs_ros.labeling.vocabulary import load_vocabulary
from zgs_ros.labeling.zerocap import ZeroCapLabeler
from zgs_ros.models.language_model import LanguageModel
from zgs_ros.models.loading import load_clip

BEGIN = "<|endoftext|>"
CPU = torch.device("cpu")


def cpu_seconds(work: Callable[[], object]) -> float:
    """Seconds of one core, which a busy machine changes little."""
    start = time.process_time()
    work()
    return time.process_time() - start


def candidates(count: int) -> None:
    """Embedding continuations of "Image of a" with ViT-L/14's text tower."""
    model = open_clip.create_model("ViT-L-14", load_weights=False).eval()
    tokenizer = open_clip.get_tokenizer("ViT-L-14")
    texts = [f"Image of a {word}" for word in load_vocabulary("everyday") if " " not in word]
    texts = texts[:: max(1, len(texts) // count)][:count]
    shared = continuations._shared_lengths

    def separate(tokens: torch.Tensor, ends: torch.Tensor, owner: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(shared(tokens, ends, owner))  # the start token only

    def continued() -> None:
        continuations.embed_continuations(model, tokenizer, texts, [0] * len(texts))

    with torch.inference_mode():
        whole = cpu_seconds(lambda: model.encode_text(tokenizer(texts)))
        continuations._shared_lengths = separate
        to_the_end = cpu_seconds(continued)
        continuations._shared_lengths = shared
        both = cpu_seconds(continued)
    for name, seconds in (
        ("all 77 tokens", whole),
        ("up to the end token", to_the_end),
        ("and one beginning for all", both),
    ):
        each = 1000 * seconds / len(texts)
        print(f"embed a candidate, {name}: {each:.1f} ms, {whole / seconds:.1f} x as fast")


def language_model(rows: int) -> None:
    """One steered token of GPT-2 medium, five beams, in the middle of a caption."""
    config = GPT2Config(n_embd=1024, n_layer=24, n_head=16)
    model = GPT2LMHeadModel(config).eval().requires_grad_(False)
    reader = LanguageModel.__new__(LanguageModel)
    reader._model = model
    tokens = torch.randint(0, 50257, (rows, 12))
    context = reader.read(tokens[:, :-1])

    def one_token() -> None:
        steer(
            lambda changed: reader.continue_from(tokens[:, -1], changed)[0],
            context,
            lambda logits: -logits.log_softmax(1)[:, 0],
            steps=5,
        )

    print(f"steer a token of {rows} beams, GPT-2 medium: {cpu_seconds(one_token):.1f} s")


def known(segments: int, tokens: int) -> None:
    """How many continuations are known already."""
    words = load_vocabulary("everyday")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=8000,
        special_tokens=[BEGIN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator([f"Image of a {word}." for word in words], trainer)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=tokenizer.get_vocab_size(),
        n_embd=256,
        n_layer=4,
        n_head=4,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = LanguageModel(GPT2LMHeadModel(config), tokenizer)
    clip = load_clip(make_settings(SegmenterSettings, {"profile": "mini"}).clip, CPU, torch.float32)
    labeler = ZeroCapLabeler(model, clip, max_tokens=tokens)
    labeler.label(clip.embed_texts([f"Image of a {word}." for word in words[:segments]]))
    cost = labeler.cost
    print(
        f"{segments} segments, {tokens} tokens: {cost.candidates} continuations compared, "
        f"{cost.embedded} embedded: {cost.candidates / cost.embedded:.1f} x fewer"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=64, help="candidates to embed")
    parser.add_argument("--segments", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    candidates(options.texts)
    language_model(rows=5)
    known(options.segments, options.tokens)
