"""Training of the mini CLIP on the synthetic world.

1. The convolutions of the image tower learn names from crops around objects (`train_stem`).
2. The text tower is drawn to directions of its own for every noun and colour (`naming.Directions`),
   captions to the mean of what they mention.
3. The whole image tower learns from crops and, more and more, from whole pictures: segments as the
   package embeds them, by masked attention, and every patch are contrasted with all phrases and nouns
   of the world, whole pictures with the captions of their batch, as CLIP is trained.
"""

from __future__ import annotations

import copy
import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional

from zgs_ros.embedding.coverage import token_masks
from zgs_ros.embedding.global_subtraction import masked_blocks, share_attention
from zgs_ros.embedding.image_tower import ImageTower
from zgs_ros.models.mini_tower import Stem
from zgs_ros.synthetic import COLOURS
from zgs_ros.training.common import (
    Journal,
    follow,
    load_state,
    naming_loss,
    patch_loss,
    ramp,
    save_state,
)
from zgs_ros.training.examples import MIN_SHARE, Examples, Grid, ObjectCrops, WholePictures
from zgs_ros.training.muon import Muon
from zgs_ros.training.naming import NOUN_OF_PHRASE, NOUNS, PHRASES, TEMPLATES, Directions
from zgs_ros.training.pool import ScenePool

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClipTraining:
    """How the mini CLIP is trained."""

    steps: int = 3_000
    batch: int = 64
    """Crops per step."""
    pictures: int = 12
    """Whole pictures per step; a step sees either."""
    window: int = 8
    """Patches per side of a crop."""
    recolour: float = 0.5
    regions: int = 6
    text_steps: int = 300
    rate: float = 1.5e-3
    stem_rate: float = 5e-4
    matrix_rate: float = 0.02
    warmup: int = 60
    decay: float = 0.4
    weight_decay: float = 0.02
    scale: float = 20.0
    average: float = 0.995
    seed: int = 0


def load_config(config: Path) -> dict[str, Any]:
    """The model's part of ``open_clip_config.json``."""
    described = json.loads((config / "open_clip_config.json").read_text(encoding="utf-8"))
    model: dict[str, Any] = described["model_cfg"]
    return model


def grid_of(config: Path) -> Grid:
    """Patches of the model that a folder describes."""
    tower = ImageTower.of(open_clip.CLIP(**load_config(config)), config.name)
    return Grid(tower.grid[0], tower.image_size[0] // tower.grid[0])


class TextTower:
    """The text side of an open_clip model, trained to given directions.

    Args:
        model: open_clip model.
        directions: Where names lie in the embedding space.
    """

    def __init__(self, model: Any, directions: Directions) -> None:
        self._model = model
        self._directions = directions
        self._tokenizer = open_clip.SimpleTokenizer(context_length=model.context_length)
        self._seen = torch.zeros(model.vocab_size, dtype=torch.bool)

    def train(self, captions: list[str], steps: int, seed: int) -> None:
        """Draws phrases, nouns and captions to their directions."""
        rng = np.random.default_rng(seed)
        device = self._model.token_embedding.weight.device
        goals = torch.cat([self._directions.phrase, self._directions.noun]).to(device)
        named = [*PHRASES, *NOUNS]
        parameters = [p for n, p in self._model.named_parameters() if not n.startswith("visual.")]
        optimizer = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=0.0)
        for step in range(steps):
            template = str(rng.choice(TEMPLATES))
            chosen = rng.choice(len(named), size=min(160, len(named)), replace=False)
            told = [captions[int(i)] for i in rng.integers(len(captions), size=48)]
            texts = [template.format(named[int(i)]) for i in chosen] + told
            wanted = torch.cat(
                [goals[chosen], torch.stack([self._directions.caption(t) for t in told]).to(device)]
            )
            loss = 1.0 - (self(texts) * wanted).sum(-1).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            for group in optimizer.param_groups:
                group["lr"] = 2e-3 * ramp(step, steps, 20, 1.0)
            optimizer.step()
            if step % 50 == 0:
                logger.info("text step %d: cosine %.3f", step, 1.0 - float(loss.detach()))

    def __call__(self, texts: list[str]) -> Tensor:
        """`model.encode_text` without the padding that no text needs; unit norm.

        The tower is causal, so that the padding changes nothing.
        """
        model = self._model
        tokens = self._tokenizer(texts)
        self._seen[tokens.flatten()] = True
        length = int((tokens != 0).sum(dim=1).max())
        tokens = tokens[:, :length].to(model.token_embedding.weight.device)
        states = model.token_embedding(tokens) + model.positional_embedding[:length]
        states = model.transformer(states, attn_mask=model.attn_mask[:length, :length])
        states = model.ln_final(states)[torch.arange(len(tokens)), tokens.argmax(dim=1)]
        return functional.normalize(states @ model.text_projection, dim=-1)

    @torch.no_grad()
    def vocabulary(self, template: str) -> Directions:
        """Phrases and nouns as the tower embeds them."""
        noun, phrase = (
            self([template.format(text) for text in names]) for names in (NOUNS, PHRASES)
        )
        return Directions(noun, phrase)

    @torch.no_grad()
    def forget_unused_words(self) -> None:
        """Zeroes the embeddings of tokens that were never seen, so that they add no noise to a text."""
        weight = self._model.token_embedding.weight
        weight[~self._seen.to(weight.device)] = 0.0


class ClipTrainer:
    """Holds model, optimisers and their state on disk.

    Args:
        config: Folder with ``open_clip_config.json``.
        pool: Rendered scenes.
        crops: Crops around the objects of `pool`.
        stem: Trained convolutions, and the head that names what they give.
        directions: Where names lie in the embedding space.
        out: Folder for the log and the resumable state.
        training: How to train.
    """

    def __init__(
        self,
        config: Path,
        pool: ScenePool,
        crops: ObjectCrops,
        stem: tuple[Stem, nn.Linear],
        directions: Directions,
        out: Path,
        training: ClipTraining,
    ) -> None:
        torch.manual_seed(training.seed)
        self._training = training
        self._pool = pool
        self._crops = crops
        self._grid = grid_of(config)
        self._pictures = WholePictures(pool, self._grid, training.regions)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model: Any = open_clip.CLIP(**load_config(config)).to(self._device)
        trunk = self.model.visual.trunk
        trunk.patch_embed.backbone.load_state_dict(stem[0].state_dict())
        trunk.head.load_state_dict(stem[1].state_dict())
        self._tower = ImageTower.of(self.model, "mini")
        convolutions: list[Tensor] = list(trunk.patch_embed.parameters())
        matrices: list[Tensor] = [p for p in trunk.blocks.parameters() if p.ndim == 2]
        known = {id(p) for p in (*convolutions, *matrices)}
        others: list[Tensor] = [p for p in trunk.parameters() if id(p) not in known]
        groups: list[dict[str, Any]] = [
            {"params": others},
            {"params": convolutions, "lr": training.stem_rate},
        ]
        self._optimizers: dict[str, torch.optim.Optimizer] = {
            "muon": Muon(matrices, lr=training.matrix_rate, weight_decay=0.01),
            "adam": torch.optim.AdamW(
                groups,
                lr=training.rate,
                weight_decay=training.weight_decay,
                betas=(0.9, 0.98),
            ),
        }
        self._rates = {
            name: [group["lr"] for group in optimizer.param_groups]
            for name, optimizer in self._optimizers.items()
        }
        self._text = TextTower(self.model, directions)
        self._state_file = out / "clip.pt"
        self._journal = Journal(out / "clip.jsonl")
        self.step = 0
        if state := load_state(self._state_file, self._device):
            self._restore(state)
        else:
            captions = [text for n in range(len(pool)) for text in pool[n].captions]
            self._text.train(captions, training.text_steps, training.seed)
            self._text.forget_unused_words()
        self.average: Any = copy.deepcopy(self.model).requires_grad_(False)
        if state:
            self.average.load_state_dict(state["average"])
        self._vocabularies = {t: self._text.vocabulary(t) for t in TEMPLATES}

    def _restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        for name, optimizer in self._optimizers.items():
            optimizer.load_state_dict(state[name])
        self.step = state["step"]
        logger.info("resumed at step %d", self.step)

    def save(self) -> None:
        """Writes the resumable state."""
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "step": self.step,
            **{name: optimizer.state_dict() for name, optimizer in self._optimizers.items()},
        }
        save_state(self._state_file, state)

    def run(self, held_out: ScenePool, evaluate_every: int = 500) -> None:
        """Trains to the last step; evaluates and saves every `evaluate_every` steps."""
        training = self._training
        rng = np.random.default_rng([training.seed, self.step])  # fresh examples when resumed
        while self.step < training.steps:
            started = time.monotonic()
            if rng.random() < 1.2 * self.step / training.steps:
                examples = self._pictures.sample(training.pictures, rng)
            else:
                examples = self._crops.sample(training.batch, rng)
            values = self._train_step(examples, rng)
            self.step += 1
            self._journal.add(self.step, {**values, "seconds": time.monotonic() - started})
            if self.step % evaluate_every == 0 or self.step == training.steps:
                self._journal.write({"step": self.step, **self.evaluate(held_out)})
                self.save()

    def _train_step(self, examples: Examples, rng: np.random.Generator) -> dict[str, float]:
        training = self._training
        share = ramp(self.step, training.steps, training.warmup, training.decay)
        for name, optimizer in self._optimizers.items():
            for group, rate in zip(optimizer.param_groups, self._rates[name], strict=True):
                group["lr"] = rate * share
        self.model.visual.train()
        texts = self._vocabularies[str(rng.choice(TEMPLATES))]
        patches, pictures, regions = self._embed(examples, rng)
        targets = examples.targets.to(self._device)
        nouns_only = examples.recoloured.to(self._device)[examples.owners.to(self._device)]
        losses = {
            "regions": naming_loss(regions, targets, nouns_only, texts, training.scale),
            "patches": patch_loss(patches, examples, texts, training.scale),
        }
        loss = losses["regions"] + 0.5 * losses["patches"]
        if examples.captions:
            with torch.no_grad():
                captions = self._text(examples.captions)
            losses["captions"] = _clip_loss(pictures, captions, training.scale)
            loss = loss + 0.3 * losses["captions"]
        self.model.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.visual.parameters(), 1.0)
        for optimizer in self._optimizers.values():
            optimizer.step()
        keep = min(training.average, (1 + self.step) / (10 + self.step))
        follow(self.average, self.model, 1.0 - keep)
        nouns = NOUN_OF_PHRASE.to(self._device)[targets]
        right = (regions.detach() @ texts.noun.T).argmax(1) == nouns
        measured = {name: float(value.detach()) for name, value in losses.items()}
        return {**measured, "noun": float(right.float().mean())}

    def _embed(self, examples: Examples, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Unit embeddings of patches (pictures, patches, dimensions), of pictures, and of regions.

        The number of masked blocks and the strength of global subtraction vary, so that the trained
        model favours none of the settings that the package offers.
        """
        trunk, blocks = self.model.visual.trunk, self._tower.blocks
        masked = int(rng.choice(4, p=[0.7, 0.15, 0.1, 0.05])) + 1
        sigma = [None, 1.0, 2.0, 5.0][int(rng.choice(4, p=[0.5, 0.1, 0.1, 0.3]))]
        states = trunk.patch_embed.backbone(examples.pixels.to(self._device))
        states = states.flatten(2).transpose(1, 2)
        # Patches of a crop lie at the positions that they would have in a whole picture.
        states = states + trunk.pos_embed[0, 1:][examples.positions.to(self._device)]
        first = (trunk.cls_token[0] + trunk.pos_embed[0, :1]).expand(len(states), 1, -1)
        layers = [torch.cat([first, states], dim=1)]
        for block in blocks:
            layers.append(block(layers[-1]))
        mu = functional.pad(examples.masks.to(self._device), (1, 0), value=1.0)
        counts = torch.bincount(examples.owners, minlength=len(states)).tolist()
        shared = share_attention(blocks[-masked], layers[-1 - masked], sigma)
        regions = torch.cat(
            [
                masked_blocks(blocks[-masked:], sigma, shared.image(picture), part)
                for picture, part in enumerate(mu.split(counts))
                if len(part)
            ]
        )
        last = self._unit(layers[-1].flatten(0, 1)).unflatten(0, layers[-1].shape[:2])
        return last[:, 1:], last[:, 0], self._unit(regions)

    def _unit(self, states: Tensor) -> Tensor:
        return functional.normalize(self._tower.project(states), dim=-1)

    @torch.no_grad()
    def evaluate(self, pool: ScenePool) -> dict[str, float]:
        """Share of right names for the true masks of held-out scenes, by the averaged weights."""
        tower = ImageTower.of(self.average.eval(), "mini")
        size = tower.image_size[0]
        texts = self._vocabularies[TEMPLATES[0]].phrase
        hits: dict[str, list[float]] = {}
        for number in range(len(pool)):
            scene = pool[number]
            rgb = cv2.resize(
                np.ascontiguousarray(scene.rgb), (size, size), interpolation=cv2.INTER_AREA
            )
            pixels = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255.0
            shown = [
                t for t in scene.things.values() if (scene.instances == t.id).mean() >= MIN_SHARE
            ]
            masks = np.stack([(scene.instances == t.id).astype(np.float32) for t in shown])
            tokens = tower.embed(((pixels - 0.5) / 0.25).to(self._device))
            *blocks, last = tower.blocks
            for block in blocks:
                tokens = block(tokens)
            mu = torch.from_numpy(token_masks(masks, tower.grid)).to(self._device)
            shared = share_attention(last, tokens, None)
            rows = tower.project(masked_blocks([last], None, shared, mu))
            for thing, best in zip(shown, (rows @ texts.T).argmax(1).tolist(), strict=True):
                _count(hits, PHRASES[best], thing.phrase, thing.noun, thing.is_stuff)
        return {name: round(float(np.mean(values)), 3) for name, values in hits.items()}


def _count(
    hits: dict[str, list[float]], named: str, phrase: str, noun: str, is_stuff: bool
) -> None:
    if is_stuff:
        hits.setdefault("ground", []).append(named == phrase)
        return
    colour, _, name = named.partition(" ")
    hits.setdefault("noun", []).append(colour in COLOURS and name == noun)
    hits.setdefault("phrase", []).append(named == phrase)


def _clip_loss(images: Tensor, texts: Tensor, scale: float) -> Tensor:
    logits = scale * images @ texts.T
    targets = torch.arange(len(images), device=images.device)
    return 0.5 * (
        functional.cross_entropy(logits, targets) + functional.cross_entropy(logits.T, targets)
    )
