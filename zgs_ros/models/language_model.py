"""A GPT-2 as captions need it: the next token's logits, given keys and values of the context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Context = list[Tensor]
"""Keys and values of all layers in turn, each (rows, heads, tokens, head width)."""


class LanguageModel:
    """GPT-2 and its tokenizer, in float32.

    Args:
        model: A ``GPT2LMHeadModel``.
        tokenizer: Its tokenizer, of the library ``tokenizers``.

    Attributes:
        texts: Text of every token, "" where the tokenizer has none.
        end: The token that ends a caption: the full stop.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model = model.eval().requires_grad_(False).float()
        self._tokenizer = tokenizer
        self.texts: list[str] = tokenizer.decode_batch(
            [[token] for token in range(model.config.vocab_size)], skip_special_tokens=True
        )
        self.end: int = tokenizer.encode(".").ids[0]

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        found: torch.device = self._model.device
        return found

    def encode(self, text: str) -> Tensor:
        """int64 (1, tokens): the text behind the token that begins every text."""
        begin = self._model.config.bos_token_id
        ids = self._tokenizer.encode(text).ids
        return torch.tensor([[begin, *ids]], device=self.device)

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of tokens."""
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))

    @torch.inference_mode()
    def surprise(self, text: str) -> Tensor:
        """float32 (tokens,): negative logarithm of each token's probability, behind those before it."""
        tokens = self.encode(text)
        logits = self._model(input_ids=tokens[:, :-1]).logits[0].float()
        return functional.cross_entropy(logits, tokens[0, 1:], reduction="none")

    @property
    def sizes(self) -> tuple[int, int]:
        """Number of tokens that the tokenizer has, and that the model has."""
        return self._tokenizer.get_vocab_size(), int(self._model.config.vocab_size)

    def read(self, tokens: Tensor) -> Context:
        """Keys and values of int64 (rows, tokens)."""
        return self._run(tokens, [])[1]

    def continue_from(self, last: Tensor, context: Context) -> tuple[Tensor, Context]:
        """What follows.

        Args:
            last: int64 (rows,), the last token.
            context: Of the tokens before it.

        Returns:
            float32 (rows, vocabulary), logits of the next token; and the context with the last token.
        """
        return self._run(last[:, None], context)

    def _run(self, tokens: Tensor, context: Context) -> tuple[Tensor, Context]:
        from transformers import DynamicCache

        cache: Any = DynamicCache()
        for layer, (keys, values) in enumerate(zip(context[::2], context[1::2], strict=True)):
            cache.update(keys, values, layer)
        output = self._model(input_ids=tokens, past_key_values=cache, use_cache=True)
        grown = [part for layer in cache.layers for part in (layer.keys, layer.values)]
        return output.logits[:, -1].float(), grown
