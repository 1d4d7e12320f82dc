"""Training of the mini CLIP on the synthetic world.

Three contrastive losses share one image and one text tower:

- captions: class token of the whole image against the scenes' captions (plain CLIP);
- regions: class token under masked attention, as the package embeds segments, against the region's phrase;
- patches: every patch token against the phrase of the thing that covers it (dense, so it learns fastest).

Regions and patches are contrasted with *all* phrases of the world and, separately, with the bare nouns,
so that every step holds the same-colour and the same-noun hard negatives.

Most steps show the tower only a window of patches around an object (at their true positions): most of
a picture is ground, so that this teaches as many objects at less than half the cost. The last steps see
whole pictures.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from zgs_ros.embedding.global_subtraction import masked_blocks, token_mask
from zgs_ros.synthetic import BACKDROPS, COLOURS, GROUNDS, KINDS, phrases
from zgs_ros.synthetic.muon import Muon
from zgs_ros.synthetic.pool import PooledScene, ScenePool, shuffled

logger = logging.getLogger(__name__)

PHRASES = phrases()
NOUNS = [*KINDS, *GROUNDS, *BACKDROPS]
TEMPLATES = ("Image of a {}.", "Image of a {}.", "{}", "a {}", "a photo of a {}")
NOUN_OF_PHRASE = torch.tensor(
    [NOUNS.index(p if p in NOUNS else p.split(" ", 1)[1]) for p in PHRASES]
)
MIN_SHARE = 0.004
"""Things below this share of the picture are too small to learn a name from."""


@dataclass(frozen=True)
class ClipTraining:
    """How the mini CLIP is trained."""

    steps: int = 4_000
    batch: int = 32
    window: int = 9
    whole_share: float = 0.2
    text_steps: int = 250
    text_every: int = 4
    closeup: float = 0.8
    regions: int = 6
    rate: float = 1.5e-3
    matrix_rate: float = 0.02
    warmup: int = 300
    weight_decay: float = 0.02
    average: float = 0.999
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Batch:
    """Training examples.

    Attributes:
        pixels: float32 (images, 3, size, size), normalised.
        shown: int64 (images, patches), indices of the patches that the tower sees.
        captions: One per image.
        owners: int64 (regions,), image of each region.
        masks: float32 (regions, patches), covered share of each patch that is shown.
        targets: int64 (regions,), index into PHRASES.
        patches: int64 (images, patches), index into PHRASES of the thing that covers most of a
            patch, -1 where it is mixed.
    """

    pixels: Tensor
    shown: Tensor
    captions: list[str]
    owners: Tensor
    masks: Tensor
    targets: Tensor
    patches: Tensor


def make_batch(
    pool: ScenePool,
    numbers: list[int],
    grid: tuple[int, int],
    window: int,
    regions: int,
    closeup: float,
    rng: np.random.Generator,
) -> Batch:
    """Crops, flips and disturbs scenes of the pool and samples regions of them.

    Args:
        pool: Rendered scenes.
        numbers: Which of them.
        grid: Pixels per side of the picture, and patches per side.
        window: Patches per side of the part that the tower sees.
        regions: Regions per picture, at most.
        closeup: Share of pictures that are cropped close to an object.
        rng: Source of randomness.
    """
    size, side = grid
    images, shown, captions, owners, masks, targets, patches = [], [], [], [], [], [], []
    for row, number in enumerate(numbers):
        scene = pool[number]
        rgb, ids = _crop(scene, size, closeup, rng)
        images.append(_disturb(rgb, rng))
        captions.append(str(rng.choice(scene.captions)))
        lookup = np.full(256, -1, np.int64)
        for thing in scene.things.values():
            lookup[thing.id] = PHRASES.index(thing.phrase)
        inside = _window(scene, ids, side, window, rng)
        shown.append(inside)
        patches.append(_patch_targets(ids, side, lookup)[inside])
        for mask, number in _sample_regions(scene, ids, regions, rng):
            covered = cv2.resize(mask, (side, side), interpolation=cv2.INTER_AREA).ravel()
            if covered[inside].sum() > 0.6 * covered.sum():
                owners.append(row)
                masks.append(covered[inside])
                targets.append(int(lookup[number]))
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255.0
    return Batch(
        pixels=(pixels - 0.5) / 0.25,
        shown=torch.from_numpy(np.stack(shown)),
        captions=captions,
        owners=torch.tensor(owners),
        masks=torch.from_numpy(np.stack(masks)),
        targets=torch.tensor(targets),
        patches=torch.from_numpy(np.stack(patches)),
    )


def _window(
    scene: PooledScene, ids: NDArray[np.uint8], side: int, window: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Indices of a square of patches, around a random object where there is one."""
    seen = np.unique(ids)
    objects = [t.id for t in scene.things.values() if not t.is_stuff and t.id in seen]
    middle = rng.uniform(0, side, 2)
    if objects and rng.random() < 0.9:
        pixels = np.argwhere(ids == rng.choice(objects))
        middle = pixels.mean(axis=0) * side / len(ids) + rng.uniform(-1.5, 1.5, 2)
    first = np.clip(np.round(middle - window / 2), 0, side - window).astype(np.int64)
    rows, columns = first[0] + np.arange(window), first[1] + np.arange(window)
    return (rows[:, None] * side + columns).ravel()


def _crop(
    scene: PooledScene, size: int, closeup: float, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A random part of the scene, squashed to a square as CLIP's input is; sometimes close to an object."""
    height, width = scene.instances.shape
    objects = [thing.id for thing in scene.things.values() if not thing.is_stuff]
    if objects and rng.random() < closeup:
        rows, columns = np.nonzero(scene.instances == rng.choice(objects))
        extent = max(float(np.ptp(rows)), float(np.ptp(columns)), 16.0) / rng.uniform(0.3, 0.7)
        h, w = min(height, int(extent)), min(width, int(extent * rng.uniform(1.0, 1.33)))
        middle = (
            rows.mean() - h * rng.uniform(0.35, 0.65),
            columns.mean() - w * rng.uniform(0.35, 0.65),
        )
        top, left = (
            int(np.clip(m, 0, limit))
            for m, limit in zip(middle, (height - h, width - w), strict=True)
        )
    else:
        share = 1.0 if rng.random() < 0.35 else float(rng.uniform(0.45, 1.0))
        h, w = int(height * share), int(width * share * rng.uniform(0.85, 1.0))
        top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
    box = np.s_[top : top + h, left : left + w]
    rgb = cv2.resize(
        np.ascontiguousarray(scene.rgb[box]), (size, size), interpolation=cv2.INTER_AREA
    )
    ids = cv2.resize(
        np.ascontiguousarray(scene.instances[box]), (size, size), interpolation=cv2.INTER_NEAREST
    )
    if rng.random() < 0.5:
        rgb, ids = np.ascontiguousarray(rgb[:, ::-1]), np.ascontiguousarray(ids[:, ::-1])
    return rgb.astype(np.uint8), ids.astype(np.uint8)


def _disturb(rgb: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Small changes of exposure and contrast, and noise; colours must stay nameable."""
    gain, lift = rng.uniform(0.9, 1.1), rng.uniform(-8, 8)
    values = (rgb.astype(np.float32) - 128.0) * gain + 128.0 + lift
    if rng.random() < 0.3:
        values += rng.normal(0.0, rng.uniform(1.0, 6.0), values.shape).astype(np.float32)
    return np.clip(values, 0, 255).astype(np.uint8)


def _patch_targets(
    ids: NDArray[np.uint8], grid: int, lookup: NDArray[np.int64]
) -> NDArray[np.int64]:
    side = ids.shape[0] // grid
    cells = ids.reshape(grid, side, grid, side).transpose(0, 2, 1, 3).reshape(grid * grid, -1)
    cells = np.sort(cells, axis=1)
    middle = cells[:, cells.shape[1] // 2]  # the majority, where there is one
    covered = (cells == middle[:, None]).mean(axis=1)
    return np.where(covered > 0.6, lookup[middle], -1)


def _sample_regions(
    scene: PooledScene, ids: NDArray[np.uint8], count: int, rng: np.random.Generator
) -> list[tuple[NDArray[np.float32], int]]:
    """Up to `count` masks with their things: objects first, sometimes imprecise or only a part."""
    areas = np.bincount(ids.ravel(), minlength=256) / ids.size
    seen = [t for t in scene.things.values() if areas[t.id] >= MIN_SHARE]
    order = sorted(seen, key=lambda thing: (thing.is_stuff and rng.random() < 0.6, rng.random()))
    found = []
    for thing in order[:count]:
        mask = (ids == thing.id).astype(np.uint8)
        if rng.random() < 0.4:
            kernel = np.ones((3, 3), np.uint8)
            change = cv2.dilate if rng.random() < 0.5 else cv2.erode
            changed = change(mask, kernel, iterations=int(rng.integers(1, 4)))
            mask = changed.astype(np.uint8) if changed.any() else mask
        if rng.random() < 0.15:
            mask = _part(mask, rng)
        found.append((mask.astype(np.float32), thing.id))
    return found


def _part(mask: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """One side of the mask along a random line through its middle, as an over-segmentation cuts it."""
    rows, columns = np.nonzero(mask)
    angle = rng.uniform(0, 2 * math.pi)
    yy, xx = np.indices(mask.shape)
    side = (xx - columns.mean()) * math.cos(angle) + (yy - rows.mean()) * math.sin(angle) > 0
    part = mask * side.astype(np.uint8)
    return part if part.sum() > 0.3 * mask.sum() else mask


@torch.no_grad()
def start_local(visual: Any, sharpness: float = 10.0) -> None:
    """Starts the attention heads of a ViT as shifts: each looks at one neighbour of a patch.

    A plain ViT needs very many pictures to find out that neighbouring patches belong together. With
    positions given as sines and cosines, "the patch that is (dx, dy) away" is a rotation of the query,
    so the projections of all but the last two blocks are set such that a block begins as a convolution with one tap a head (the idea
    of Zheng et al., "Structured Initialization for Attention in Vision Transformers", 2024). Everything
    stays free to learn.

    Args:
        visual: open_clip ViT.
        sharpness: Logit of the neighbour that a head looks at, above that of far patches.
    """
    rows, columns = visual.grid_size
    block = visual.transformer.resblocks[0]
    width, heads, head_width = visual.conv1.out_channels, block.attn.num_heads, block.attn.head_dim
    half = head_width // 4  # frequencies per axis: sine and cosine, for x and for y
    frequencies = math.pi / 2 ** torch.linspace(0.5, 3.5, half)
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    angles = [axis.flatten()[:, None] * frequencies for axis in (x, y)]
    waves = torch.cat([f(a) for a in angles for f in (torch.cos, torch.sin)], dim=1)
    # Positions must outweigh the content at first, or no head finds its neighbour.
    visual.conv1.weight.mul_(0.3)
    visual.positional_embedding.zero_()
    visual.positional_embedding[1:, :head_width] = waves
    offsets = [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1), (1, -1), (-1, 1)]
    gain = (sharpness * head_width**0.5 / (0.7 * width)) ** 0.5  # positions have 0.7 of the norm
    for depth, resblock in enumerate(visual.transformer.resblocks[:-2]):
        reach = 1 if depth < 2 else 2
        for head in range(heads):
            dx, dy = offsets[(head + depth * (heads - 1)) % len(offsets)] if head else (0, 0)
            query = resblock.attn.in_proj_weight[head * head_width : (head + 1) * head_width]
            key = resblock.attn.in_proj_weight[
                width + head * head_width : width + (head + 1) * head_width
            ]
            query.mul_(0.3)
            key.mul_(0.3)
            query[:, :head_width] += gain * _shift(dx * reach, dy * reach, frequencies)
            key[:, :head_width] += gain * torch.eye(head_width)


def _shift(dx: int, dy: int, frequencies: Tensor) -> Tensor:
    """Rotation that turns the sines and cosines of a position into those of its neighbour."""
    blocks = []
    for offset in (dx, dy):
        cosine, sine = (
            torch.diag(torch.cos(offset * frequencies)),
            torch.diag(torch.sin(offset * frequencies)),
        )
        blocks.append(torch.cat([torch.cat([cosine, -sine], 1), torch.cat([sine, cosine], 1)]))
    return torch.block_diag(*blocks)


class ClipTrainer:
    """Holds model, optimiser and their state on disk.

    Args:
        config: Folder with ``open_clip_config.json``.
        pool: Rendered scenes.
        out: Folder for the log and the resumable state.
        training: How to train.
    """

    def __init__(self, config: Path, pool: ScenePool, out: Path, training: ClipTraining) -> None:
        torch.manual_seed(training.seed)
        self._training = training
        self._pool = pool
        self._out = out
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        source = f"local-dir:{config}"
        logging.getLogger().setLevel(logging.WARNING)
        self.model: Any = open_clip.create_model(source, load_weights=False).to(self._device)
        logger.setLevel(logging.INFO)
        self._tokenizer = open_clip.get_tokenizer(source)
        start_local(self.model.visual)
        # Muon learns the blocks' matrices from about half the examples that AdamW needs.
        matrices = [p for n, p in self.model.named_parameters() if "resblocks" in n and p.ndim == 2]
        chosen = {id(p) for p in matrices}
        others = [p for p in self.model.parameters() if id(p) not in chosen]
        self._optimizers: dict[str, torch.optim.Optimizer] = {
            "muon": Muon(matrices, lr=training.matrix_rate, weight_decay=training.weight_decay),
            "adam": torch.optim.AdamW(
                others, lr=training.rate, betas=(0.9, 0.98), weight_decay=0.0
            ),
        }
        self._base_rates = {"muon": training.matrix_rate, "adam": training.rate}
        self.average: Any = copy.deepcopy(self.model).requires_grad_(False)
        self._tokens = {
            (kind, template): _trim(self._tokenizer([template.replace("{}", t) for t in texts]))
            for template in set(TEMPLATES)
            for kind, texts in (("phrase", PHRASES), ("noun", NOUNS))
        }
        self._last_texts: tuple[Tensor, Tensor] | None = None
        self.step = 0
        if not self._resume():
            self._spread_texts()

    @property
    def _state_file(self) -> Path:
        return self._out / "state.pt"

    def _spread_texts(self) -> None:
        """Trains the text tower alone until its phrases point into different directions.

        A fresh text tower gives all phrases nearly the same embedding, and the image tower then hardly
        learns before they have drifted apart. Here phrases are drawn to the sum of one random direction
        for the colour and one for the noun, which is also what later lets colours and nouns generalise.
        """
        generator = torch.Generator().manual_seed(self._training.seed)
        width = self.model.text_projection.shape[1]
        nouns = torch.randn(len(NOUNS), width, generator=generator)
        colours = torch.randn(len(COLOURS), width, generator=generator)
        names = [phrase.split(" ", 1)[0] for phrase in PHRASES]
        bare = torch.tensor([phrase in NOUNS for phrase in PHRASES])
        order = list(COLOURS)
        tint = colours[torch.tensor([order.index(n) if n in order else 0 for n in names])]
        goals = {
            "noun": functional.normalize(nouns, dim=-1).to(self._device),
            "phrase": functional.normalize(
                nouns[NOUN_OF_PHRASE] + 0.7 * tint * ~bare[:, None], dim=-1
            ).to(self._device),
        }
        rng = np.random.default_rng(self._training.seed)
        towers = [p for n, p in self.model.named_parameters() if not n.startswith("visual.")]
        optimizer = torch.optim.AdamW(towers, lr=2e-3, weight_decay=0.0)
        for step in range(self._training.text_steps):
            template = str(rng.choice(TEMPLATES))
            losses = [
                1.0 - (self._texts(kind, template) * goal).sum(-1).mean()
                for kind, goal in goals.items()
            ]
            loss = torch.stack(losses).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            for group in optimizer.param_groups:
                group["lr"] = (
                    2e-3 * min(1.0, (step + 1) / 20) * (1.0 - step / self._training.text_steps)
                )
            optimizer.step()
        self.average.load_state_dict(self.model.state_dict())
        logger.info("text tower spread: cosine to the goals %.3f", 1.0 - float(loss.detach()))

    def _resume(self) -> bool:
        if self._state_file.exists():
            state = torch.load(self._state_file, weights_only=True, map_location=self._device)
            self.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            for name, optimizer in self._optimizers.items():
                optimizer.load_state_dict(state[name])
            self.step = state["step"]
            logger.info("resumed at step %d", self.step)
        return self.step > 0

    def save(self) -> None:
        """Writes the resumable state; a killed run never leaves half a file."""
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "step": self.step,
            **{name: optimizer.state_dict() for name, optimizer in self._optimizers.items()},
        }
        temporary = self._state_file.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(self._state_file)

    def forget_unused_words(self) -> None:
        """Zeroes the embeddings of tokens that training never saw, so that they add no noise to a text."""
        seen = torch.zeros(self.average.vocab_size, dtype=torch.bool)
        for tokens in self._tokens.values():
            seen[tokens.flatten()] = True
        for number in range(len(self._pool)):
            seen[self._tokenizer(self._pool[number].captions).flatten()] = True
        with torch.no_grad():
            self.average.token_embedding.weight[~seen.to(self._device)] = 0.0

    def run(self, evaluate_every: int = 500, held_out: ScenePool | None = None) -> None:
        """Trains to the last step; logs every 50 steps, evaluates and saves every `evaluate_every`."""
        training = self._training
        visual = self.model.visual
        grid = (visual.image_size[0], visual.grid_size[0])
        # Seeded by the step it starts from: a resumed run continues with fresh scenes.
        rng = np.random.default_rng([training.seed, self.step])
        order = shuffled(len(self._pool), rng)
        started, first = time.monotonic(), self.step
        sums: dict[str, float] = {}
        while self.step < training.steps:
            numbers = [next(order) for _ in range(training.batch)]
            whole = self.step >= training.steps * (1.0 - training.whole_share)
            window = grid[1] if whole else training.window
            closeup = training.closeup * (1.0 - self.step / training.steps)
            batch = make_batch(self._pool, numbers, grid, window, training.regions, closeup, rng)
            losses = self._train_step(batch, rng)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value
            self.step += 1
            if self.step % 50 == 0:
                seconds = (time.monotonic() - started) / (self.step - first)
                means = {name: round(total / 50, 3) for name, total in sums.items()}
                self._log({"step": self.step, "seconds_per_step": round(seconds, 2), **means})
                sums = {}
            if self.step % evaluate_every == 0 or self.step == training.steps:
                if held_out is not None:
                    self._log({"step": self.step, **self.evaluate(held_out)})
                self.save()

    def _log(self, entry: dict[str, float]) -> None:
        logger.info("%s", entry)
        with (self._out / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def _rate(self) -> float:
        """Share of the full learning rates: linear warm-up, then a cosine."""
        training = self._training
        if self.step < training.warmup:
            return (self.step + 1) / training.warmup
        progress = (self.step - training.warmup) / max(1, training.steps - training.warmup)
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress))

    def _train_step(self, batch: Batch, rng: np.random.Generator) -> dict[str, float]:
        self.model.train()
        for name, optimizer in self._optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = self._base_rates[name] * self._rate()
        phrase_texts, noun_texts = self._vocabulary(rng)
        caption_texts = self._encode(_trim(self._tokenizer(batch.captions)))
        images, patches, regions = self._embed(batch, rng)
        scale = self.model.logit_scale.exp()
        losses = {
            "captions": _clip_loss(images, caption_texts, scale),
            "regions": self._name_loss(regions, batch.targets, phrase_texts, noun_texts, scale),
            "patches": self._patch_loss(patches, batch.patches, phrase_texts, noun_texts, scale),
        }
        loss = 0.3 * losses["captions"] + losses["regions"] + 0.5 * losses["patches"]
        self.model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self._optimizers.values():
            optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0.0, math.log(60.0))
            keep = min(self._training.average, (1 + self.step) / (10 + self.step))
            for mean, value in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(value, 1.0 - keep)
        return {name: float(value.detach()) for name, value in losses.items()}

    def _vocabulary(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Embedded phrases and nouns; in most steps the last ones, since they change slowly and cost much."""
        if self._last_texts is None or self.step % self._training.text_every == 0:
            template = str(rng.choice(TEMPLATES))
            texts = (self._texts("phrase", template), self._texts("noun", template))
            self._last_texts = (texts[0].detach(), texts[1].detach())
            return texts
        return self._last_texts

    def _texts(self, kind: str, template: str) -> Tensor:
        return self._encode(self._tokens[kind, template])

    def _encode(self, tokens: Tensor) -> Tensor:
        """`model.encode_text` for tokens whose padding was cut; unit norm."""
        model, tokens = self.model, tokens.to(self._device)
        length = tokens.shape[1]
        states = model.token_embedding(tokens) + model.positional_embedding[:length]
        states = model.transformer(states, attn_mask=model.attn_mask[:length, :length])
        states = model.ln_final(states)[torch.arange(len(tokens)), tokens.argmax(dim=1)]
        return functional.normalize(states @ model.text_projection, dim=-1)

    def _embed(self, batch: Batch, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Unit embeddings of images, of patches (images, patches, d), and of regions.

        The number of masked blocks and the strength of global subtraction vary, so that the trained
        model favours none of the settings that the package offers.
        """
        visual = self.model.visual
        blocks = visual.transformer.resblocks
        masked = int(rng.choice(4, p=[0.75, 0.15, 0.05, 0.05])) + 1
        sigma = [None, 1.0, 2.0, 5.0][int(rng.choice(4, p=[0.5, 0.1, 0.1, 0.3]))]
        tokens = self._window_tokens(batch)
        for block in blocks[:-masked]:
            tokens = block(tokens)
        mu = functional.pad(batch.masks.to(self._device), (1, 0), value=1.0)
        regions = masked_blocks(blocks[-masked:], tokens, batch.owners.to(self._device), mu, sigma)
        for block in blocks[-masked:]:
            tokens = block(tokens)
        tokens = self._project(tokens)
        return tokens[:, 0], tokens[:, 1:], self._project(regions)

    def _window_tokens(self, batch: Batch) -> Tensor:
        """What `visual._embeds` gives, for the class token and the patches that are shown."""
        visual = self.model.visual
        patches = visual.conv1(batch.pixels.to(self._device)).flatten(2).transpose(1, 2)
        states = patches + visual.positional_embedding[1:]
        shown = batch.shown.to(self._device)[..., None].expand(-1, -1, states.shape[-1])
        first = (visual.class_embedding + visual.positional_embedding[0]).expand(len(states), 1, -1)
        return visual.ln_pre(torch.cat([first, states.gather(1, shown)], dim=1))

    def _project(self, states: Tensor) -> Tensor:
        visual = self.model.visual
        return functional.normalize(visual.ln_post(states) @ visual.proj, dim=-1)

    def _name_loss(
        self, rows: Tensor, targets: Tensor, phrase_texts: Tensor, noun_texts: Tensor, scale: Tensor
    ) -> Tensor:
        targets = targets.to(rows.device)
        by_phrase = functional.cross_entropy(scale * rows @ phrase_texts.T, targets)
        nouns = NOUN_OF_PHRASE.to(rows.device)[targets]
        return by_phrase + functional.cross_entropy(scale * rows @ noun_texts.T, nouns)

    def _patch_loss(
        self,
        patches: Tensor,
        targets: Tensor,
        phrase_texts: Tensor,
        noun_texts: Tensor,
        scale: Tensor,
    ) -> Tensor:
        """Ground and backdrop cover most patches; they are thinned out to as many as objects have."""
        flat, wanted = patches.flatten(0, 1), targets.flatten().to(patches.device)
        is_object = (wanted >= 0) & (wanted < len(PHRASES) - len(GROUNDS) - len(BACKDROPS))
        stuff = torch.nonzero((wanted >= 0) & ~is_object).flatten()
        objects = torch.nonzero(is_object).flatten()
        chosen = torch.cat(
            [objects, stuff[torch.randperm(len(stuff))[: max(32, len(objects) // 2)]]]
        )
        return self._name_loss(flat[chosen], wanted[chosen], phrase_texts, noun_texts, scale)

    @torch.no_grad()
    def evaluate(self, pool: ScenePool) -> dict[str, float]:
        """Share of right names for the true masks of held-out scenes, by the averaged weights."""
        model = self.model
        self.model = self.average.eval()
        try:
            return self._evaluate(pool)
        finally:
            self.model = model

    def _evaluate(self, pool: ScenePool) -> dict[str, float]:
        visual = self.model.visual
        size, grid = visual.image_size[0], visual.grid_size[0]
        blocks = visual.transformer.resblocks
        texts = self._texts("phrase", TEMPLATES[0])
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
            tokens = visual._embeds(((pixels - 0.5) / 0.25).to(self._device))
            for block in blocks[:-1]:
                tokens = block(tokens)
            mu = token_mask(torch.from_numpy(masks).to(self._device), (grid, grid))
            owners = torch.zeros(len(shown), dtype=torch.long, device=self._device)
            rows = self._project(masked_blocks(blocks[-1:], tokens, owners, mu, None))
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


def _clip_loss(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    logits = scale * images @ texts.T
    targets = torch.arange(len(images), device=images.device)
    return 0.5 * (
        functional.cross_entropy(logits, targets) + functional.cross_entropy(logits.T, targets)
    )


def _trim(tokens: Tensor) -> Tensor:
    """Cuts the padding that no text of the batch needs; the text tower is causal, so nothing changes."""
    return tokens[:, : int((tokens != 0).sum(dim=1).max())]
