"""Models of real size without their weights: costs don't depend on what a network has learnt."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import open_clip
import timm
import torch

from zgs_ros.bench.given import GivenLabels, GivenSegmenter, random_units
from zgs_ros.config import (
    ClipSettings,
    DinoSettings,
    SegmenterSettings,
    SettingsError,
    flatten,
    make_settings,
)
from zgs_ros.embedding.clip import ClipEmbedder
from zgs_ros.embedding.dense_tower import DenseTower
from zgs_ros.embedding.image_tower import ImageTower
from zgs_ros.engines.loading import load_engines
from zgs_ros.engines.making import make_engines
from zgs_ros.engines.manifest import EngineError
from zgs_ros.engines.running import Engine
from zgs_ros.labeling.labeler import load_labeler
from zgs_ros.labeling.retrieval import RetrievalLabeler
from zgs_ros.labeling.vocabulary import load_vocabulary
from zgs_ros.models.kinds import DEFAULT_TAG
from zgs_ros.models.loading import (
    BUNDLED,
    ModelError,
    load_clip,
    load_dino,
    make_embedder,
    resolve_device,
)
from zgs_ros.models.precision import resolve_precision
from zgs_ros.oversegmentation.features import DinoFeatures
from zgs_ros.segmenter import Segmenter

SEED = 0


@dataclass(frozen=True, eq=False)
class Bench:
    """What is measured.

    Attributes:
        settings: All knobs.
        segmenter: The whole pipeline.
        dino: Its feature model.
        clip: Its embedder.
        device: Where they compute.
        precision: In which arithmetic.
        segments: Segments of every image, which are given; 0: those that the models find.
        engines: What computes instead of PyTorch.
    """

    settings: SegmenterSettings
    segmenter: Segmenter
    dino: DinoFeatures
    clip: ClipEmbedder
    device: torch.device
    precision: torch.dtype
    segments: int
    engines: Mapping[str, Engine] = field(default_factory=dict)

    @property
    def tower(self) -> ImageTower | DenseTower:
        """The image tower of the embedder."""
        return self.clip._tower

    def with_settings(self, settings: SegmenterSettings) -> Bench:
        """The same models under other settings of the steps between them."""
        segmenter = _segmenter(
            settings, self.dino, self.clip, self.device, self.segments, self.engines
        )
        return replace(self, settings=settings, segmenter=segmenter)


def make_bench(
    settings: SegmenterSettings, segments: int, size: tuple[int, int] = (640, 480)
) -> Bench:
    """Sets up models for measuring: bundled ones as they are, others randomly initialised.

    Args:
        settings: Labels must come by retrieval; captions have a benchmark of their own.
        segments: Segments of every image, which are given; 0 takes those that the models find.
        size: (width, height) of the images, which engines of another backend than torch are made for.

    Raises:
        SettingsError: If labels are captions.
        ModelError: If there is no such model, or this machine lacks the device.
        zgs_ros.labeling.vocabulary.VocabularyError: If the vocabulary can't be used.
    """
    if settings.labeling.method != "retrieval":
        raise SettingsError(
            f"labeling.method: {settings.labeling.method!r} is measured by benchmarks/captions.py; "
            "here it must be retrieval"
        )
    device = resolve_device(settings.device)
    precision = resolve_precision(settings, device)
    dino = random_dino(settings.dino, device, precision)
    clip = random_clip(settings.clip, device, precision)
    engines = _engines(settings, dino, clip, precision, size)
    segmenter = _segmenter(settings, dino, clip, device, segments, engines)
    return Bench(settings, segmenter, dino, clip, device, precision, segments, engines)


def _engines(
    settings: SegmenterSettings,
    dino: DinoFeatures,
    clip: ClipEmbedder,
    precision: torch.dtype,
    size: tuple[int, int],
) -> dict[str, Engine]:
    """Engines of these models, made for the occasion unless there is a folder of them.

    Raises:
        ModelError: If they can't be made or run.
    """
    if settings.backend == "torch":
        return {}
    try:
        if settings.engines:
            return load_engines(settings, dino, clip, precision)
        cpu = torch.device("cpu")
        exact = (
            random_dino(settings.dino, cpu, torch.float32),
            random_clip(settings.clip, cpu, torch.float32),
        )
        with tempfile.TemporaryDirectory() as folder:
            make_engines(settings, *exact, Path(folder), size)
            given = make_settings(type(settings), {**flatten(settings), "engines": folder})
            return load_engines(given, dino, clip, precision)
    except EngineError as error:
        raise ModelError(str(error)) from error


def _segmenter(
    settings: SegmenterSettings,
    dino: DinoFeatures,
    clip: ClipEmbedder,
    device: torch.device,
    segments: int,
    engines: Mapping[str, Engine],
) -> Segmenter:
    if not segments and settings.clip.model in BUNDLED:
        return Segmenter(settings, dino, clip, load_labeler(settings, clip, device), engines)
    phrases = load_vocabulary(settings.labeling.vocabulary, settings.labeling.extra_vocabulary)
    texts = random_units(len(phrases), clip.dimensions)
    labeler = RetrievalLabeler(phrases, texts, settings.labeling.alternatives)
    if not segments:
        return Segmenter(settings, dino, clip, labeler, engines)
    given = GivenLabels(labeler, segments, clip.dimensions)
    return GivenSegmenter(settings, dino, clip, given, segments, engines)


def random_dino(
    settings: DinoSettings, device: torch.device, precision: torch.dtype
) -> DinoFeatures:
    """The feature model, its weights random unless it is a bundled one.

    Raises:
        ModelError: If there is no such model or it is of an unusable kind.
    """
    if settings.model in BUNDLED:
        return load_dino(settings, device, precision)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            model = timm.create_model(settings.model, pretrained=False, num_classes=0)
        features = DinoFeatures(model, settings.short_side, settings.stride, settings.attention)
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"dino.model {settings.model!r}: {error}") from error
    return features.to(device=device, dtype=precision).eval()


def random_clip(
    settings: ClipSettings, device: torch.device, precision: torch.dtype
) -> ClipEmbedder:
    """The CLIP, its weights random unless it is a bundled one.

    Raises:
        ModelError: If there is no such model or it is of an unusable kind.
    """
    if settings.model in BUNDLED:
        return load_clip(settings, device, precision)
    tag = settings.pretrained or DEFAULT_TAG
    known = open_clip.get_pretrained_cfg(settings.model, tag) or {}
    try:
        with torch.random.fork_rng(devices=[]), _no_warnings():
            torch.manual_seed(SEED)
            model = open_clip.create_model(
                settings.model, force_quick_gelu=bool(known.get("quick_gelu", False))
            )
        space = f"{settings.model}/random"
        return make_embedder(model, _tokenizer(settings.model), space, settings, device, precision)
    except (RuntimeError, ValueError, OSError) as error:
        raise ModelError(f"clip.model {settings.model!r}: {error}") from error


def _tokenizer(model: str) -> Callable[[list[str]], torch.Tensor]:
    """A tokenizer that is had when it is first asked: that of some models is on the hub."""
    get = cache(open_clip.get_tokenizer)
    return lambda texts: get(model)(texts)


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Without open_clip's warning that weights are random, which is what is wanted here."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
