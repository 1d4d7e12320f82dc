"""Labels by captions: a language model, steered by CLIP, says what a segment shows.

As in ZeroCap (Tewel et al., CVPR 2022), which zero-guidance segmentation uses. A beam search writes on
behind "Image of a"; for every token the keys and values of the context are changed by gradient steps
that lower

    CE(q, p) + 0.2 KL(p, p0)

with p the distribution of the next token, p0 that of the unchanged context, and q the softmax of the
cosines of the segment and the 512 likeliest continuations at temperature 0.01.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zgs_ros.embedding.clip import ClipEmbedder
from zgs_ros.labeling.beams import Beams
from zgs_ros.labeling.candidates import Candidates
from zgs_ros.labeling.retrieval import embed_phrases, probabilities
from zgs_ros.labeling.steering import steer
from zgs_ros.models.language_model import Context, LanguageModel
from zgs_ros.segmentation import Label

BEGINNING = "Image of a"
CANDIDATES = 512
TEMPERATURE = 0.01
FLUENCY = 0.2
FUSION = 0.99
END_FACTOR = 1.1
KNOWN_TEXTS = 10_000

WORD = re.compile(r" ?[^\W_]+")
NEW_WORD = re.compile(r" [^\W_]+")


@dataclass
class Cost:
    """What captions have cost so far, for benchmarks.

    Attributes:
        segments: Captioned segments.
        rows: Next tokens that were steered: one per segment, beam and position.
        candidates: Continuations that were compared with a segment.
        embedded: Continuations that had to be embedded; the others were known.
        objectives: Of the latest positions the objective before and after each step, (steps + 1, rows).
    """

    segments: int = 0
    rows: int = 0
    candidates: int = 0
    embedded: int = 0
    objectives: deque[Tensor] = field(default_factory=lambda: deque(maxlen=100))

    def add(self, rows: int, candidates: int, embedded: int, objective: Tensor) -> None:
        """Counts one position."""
        self.rows += rows
        self.candidates += candidates
        self.embedded += embedded
        self.objectives.append(objective.cpu())


class ZeroCapLabeler:
    """Names embeddings by captions.

    Args:
        language_model: Writes.
        clip: The CLIP that embedded the segments; judges.
        templates: Sentences in which a caption is compared with its segment.
        beams: Captions per segment that are followed; the nearest one to the segment wins.
        max_tokens: Longest caption.
        steps: Gradient steps per token.
        batch: Segments that are captioned together.
        alternatives: Further labels beside the best one, at most ``beams - 1``.
        reference: Whether captions are searched, compared and cut as in the authors' code.

    Attributes:
        cost: Counts work, for benchmarks.

    Raises:
        ValueError: If the language model's vocabulary has no whole words.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        clip: ClipEmbedder,
        templates: Sequence[str] = (f"{BEGINNING} {{}}.",),
        beams: int = 5,
        max_tokens: int = 15,
        steps: int = 5,
        batch: int = 16,
        alternatives: int = 4,
        reference: bool = False,
    ) -> None:
        self._model = language_model
        self._clip = clip
        self._templates = tuple(templates)
        self._beams = beams
        self._max_tokens = max_tokens
        self._steps = steps
        self._batch = batch
        self._count = 1 + alternatives
        self._reference = reference
        texts = language_model.texts
        words = torch.tensor([WORD.fullmatch(text) is not None for text in texts])
        first = torch.tensor([NEW_WORD.fullmatch(text) is not None for text in texts])
        if not first.any():
            raise ValueError("its tokenizer has no token that is a word behind a space")
        words[language_model.end] = True
        self._words = words.to(language_model.device)
        self._first_words = first.to(language_model.device)
        self._known: dict[str, NDArray[np.float32]] = {}
        self._captions: dict[str, str] = {}  # of labels that are cut from them
        self.cost = Cost()

    def label(self, embeddings: NDArray[np.float32]) -> list[tuple[Label, ...]]:
        """Captions of each embedding.

        Args:
            embeddings: float32 (segments, dimensions), unit norm.

        Returns:
            Per segment different captions in falling order of their cosine with it.
        """
        captions = [
            found
            for start in range(0, len(embeddings), self._batch)
            for found in self._write(embeddings[start : start + self._batch])
        ]
        self._embed([caption for found in captions for caption in found])
        self._captions.clear()
        labels = []
        for row, found in zip(embeddings, captions, strict=True):
            cosines = np.array([row @ self._known[text] for text in found])
            chances = probabilities(cosines, self._clip.logit_scale)
            scored = [
                Label(text, float(cosine), float(chance))
                for text, cosine, chance in zip(found, cosines, chances, strict=True)
            ]
            scored.sort(key=lambda label: -label.score)
            if self._reference:
                scored = self._cut(scored)
            labels.append(tuple(scored[: self._count]))
        return labels

    def _cut(self, captions: Sequence[Label]) -> list[Label]:
        """Different labels, cut from captions, and scored as these."""
        labels: dict[str, Label] = {}
        for caption in captions:
            text = cut(caption.text)
            labels.setdefault(text, Label(text, caption.score))
            self._captions.setdefault(text, caption.text)
        return list(labels.values())

    def text_embedding(self, text: str) -> NDArray[np.float32]:
        """float32 (dimensions,), unit norm: a caption in the labeler's templates.

        In the authors' code it is the caption that the label was cut from when embeddings were labelled last;
        of several captions the first.
        """
        caption = self._captions.get(text, text)
        self._embed([caption])
        return self._known[caption]

    def _embed(self, texts: Sequence[str]) -> None:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if len(self._known) + len(new) > KNOWN_TEXTS:
            self._known.clear()
            new = list(dict.fromkeys(texts))
        if new:
            rows = embed_phrases(new, self._templates, self._clip.embed_texts)
            self._known.update(zip(new, rows, strict=True))

    @torch.inference_mode(False)
    @torch.no_grad()
    def _write(self, embeddings: NDArray[np.float32]) -> list[list[str]]:
        """Different captions of each segment, likeliest first."""
        model = self._model
        segments = torch.from_numpy(np.array(embeddings, np.float32)).to(model.device)
        begun = model.encode(BEGINNING)
        beams = Beams(len(segments), self._beams, model.end, model.device)
        last = begun[0, -1:].expand(len(segments))
        context = [part.expand(len(segments), -1, -1, -1) for part in model.read(begun[:, :-1])]
        self.cost.segments += len(segments)
        for position in range(self._max_tokens):
            texts = [BEGINNING + model.decode(tokens) for tokens in beams.written.tolist()]
            candidates = Candidates(
                self._clip.embed_continuations, model.texts, texts, segments[beams.segments]
            )
            log_p, context = self._next_token(last, context, candidates, first=position == 0)
            parents = beams.grow(
                beams.normalise_together(log_p) if self._reference else log_p.log_softmax(1)
            )
            if not len(parents):
                break
            context = [part[parents] for part in context]
            last = beams.written[:, -1]
        tidy = str if self._reference else _clean
        return [
            list(dict.fromkeys(tidy(model.decode(tokens)) for tokens in found))
            for found in beams.texts(with_end=self._reference)
        ]

    def _next_token(
        self, last: Tensor, context: Context, candidates: Candidates, first: bool
    ) -> tuple[Tensor, Context]:
        """Logarithms of p^0.99 p0^0.01 of each next token (rows, vocabulary), not normalised; and the
        unchanged context with `last`."""
        model = self._model
        unsteered, grown = model.continue_from(last, context)
        log_p0 = unsteered.log_softmax(1)
        asked = 0

        def objective(logits: Tensor) -> Tensor:
            nonlocal asked
            log_p = logits.log_softmax(1)
            likeliest = log_p.detach().topk(min(CANDIDATES, log_p.shape[1]), dim=1).indices
            asked += likeliest.numel()
            wanted = (candidates.cosines(likeliest) / TEMPERATURE).softmax(1)
            guidance = -(wanted * log_p.gather(1, likeliest)).sum(1)
            fluency = (log_p.exp() * (log_p - log_p0)).sum(1)
            return guidance + FLUENCY * fluency

        logits, history = steer(
            lambda changed: model.continue_from(last, changed)[0],
            context,
            objective,
            self._steps,
            take_all=self._reference,
        )
        self.cost.add(len(last), asked, candidates.embedded, history)
        end = logits[:, model.end]
        logits[:, model.end] = torch.where(end > 0, end * END_FACTOR, end / END_FACTOR)
        allowed = self._first_words if first else self._words
        steered = logits.masked_fill(~allowed, -torch.inf).log_softmax(1)
        fused = FUSION * steered + (1 - FUSION) * log_p0
        return fused, grown


def cut(caption: str) -> str:
    """A label from a caption as in the authors' code: the last character is cut off, full stop or not.

    What is left of nothing but that character is the caption itself, for a label needs a text.
    """
    label = caption[:-1].lower().replace(".", "").strip()
    return label or _clean(caption)


def _clean(text: str) -> str:
    return " ".join(text.lower().split())
