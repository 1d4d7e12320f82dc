"""Language models for tests: a real GPT-2, tiny, with a tokenizer trained on a few phrases."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel

from zgs_ros.synthetic import phrases

BEGIN = "<|endoftext|>"


def make_tokenizer() -> Tokenizer:
    """Bytes and the words of the synthetic world, as GPT-2's tokenizer has them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        special_tokens=[BEGIN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([f"Image of a {phrase}." for phrase in phrases()], trainer)
    return tokenizer


def write_gpt2(folder: Path, width: int = 64, uniform: bool = False) -> GPT2LMHeadModel:
    """Writes a randomly initialised GPT-2 in the format of the hub.

    Args:
        folder: Where to.
        width: Of its states.
        uniform: Whether, unsteered, every token is equally likely behind every context. States then
            hold nothing of the tokens, and the output layer is orthogonal to the one state there is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=tokenizer.get_vocab_size(),
        n_positions=64,
        n_embd=width,
        n_layer=2,
        n_head=4,
        bos_token_id=tokenizer.token_to_id(BEGIN),
        eos_token_id=tokenizer.token_to_id(BEGIN),
        tie_word_embeddings=not uniform,
    )
    model = GPT2LMHeadModel(config).eval()
    if uniform:
        with torch.no_grad():
            model.transformer.wte.weight.zero_()
            model.transformer.wpe.weight.zero_()
            for name, bias in model.named_parameters():
                if name.endswith("bias"):
                    bias.normal_()
            state = model.transformer(torch.zeros(1, 1, dtype=torch.long)).last_hidden_state[0, 0]
            head = torch.randn_like(model.lm_head.weight)
            model.lm_head.weight.copy_(head - torch.outer(head @ state, state) / state.dot(state))
    model.save_pretrained(folder)
    return model
