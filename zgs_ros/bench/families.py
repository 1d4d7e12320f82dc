"""Families of backbones that can be used, with one model of each, and what such a model costs here."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

import torch
from torch import Tensor

from zgs_ros.bench.given import tile
from zgs_ros.bench.measuring import camera_frames
from zgs_ros.bench.models import random_clip, random_dino
from zgs_ros.bench.probes import WALL, Clock, flop_counter, timed
from zgs_ros.config import ClipSettings, DinoSettings
from zgs_ros.embedding.clip import Mode
from zgs_ros.embedding.coverage import Tiling
from zgs_ros.evaluation.tables import Table
from zgs_ros.gpu.upload import upload
from zgs_ros.models.kinds import find_clip, find_dino

MODES: tuple[Mode, ...] = get_args(Mode)
SEGMENTS = 20
CPU = torch.device("cpu")
V = TypeVar("V")
Work = tuple[Callable[[], object], torch.nn.Module]
"""What is measured, and the tower that sees the image."""


@dataclass(frozen=True)
class Features:
    """A family of ViTs for the over-segmentation.

    Attributes:
        name: Of the family.
        model: timm's name of one of them.
        patch: Side of its patches in pixels.
        licence: Of its weights.
    """

    name: str
    model: str
    patch: int
    licence: str


@dataclass(frozen=True)
class Language:
    """A family of CLIPs.

    Attributes:
        name: Of the family.
        model: open_clip's name of one of them.
        tag: Of its weights.
        licence: Of these.
    """

    name: str
    model: str
    tag: str
    licence: str


FEATURES = (
    Features("DINO", "vit_small_patch8_224.dino", 8, "Apache-2.0"),
    Features("DINO", "vit_small_patch16_224.dino", 16, "Apache-2.0"),
    Features("DINOv2", "vit_small_patch14_dinov2.lvd142m", 14, "Apache-2.0"),
    Features("DINOv2 with registers", "vit_small_patch14_reg4_dinov2.lvd142m", 14, "Apache-2.0"),
    Features("DINOv3", "vit_small_patch16_dinov3.lvd1689m", 16, "DINOv3 License"),
)
LANGUAGE = (
    Language("OpenAI", "ViT-B-16", "openai", "MIT"),
    Language("OpenAI", "ViT-L-14-336", "openai", "MIT"),
    Language("OpenCLIP", "ViT-B-16", "datacomp_xl_s13b_b90k", "MIT"),
    Language("MobileCLIP2", "MobileCLIP2-B", "dfndr2b", "Apple AMLR: research only"),
    Language("MobileCLIP2", "MobileCLIP2-L-14", "dfndr2b", "Apple AMLR: research only"),
    Language("MobileCLIP2, FastViT", "MobileCLIP2-S2", "dfndr2b", "Apple AMLR: research only"),
    Language("SigLIP2", "ViT-B-16-SigLIP2", "webli", "Apache-2.0"),
    Language("PE-Core", "PE-Core-B-16", "meta", "Apache-2.0"),
    Language("EVA-02", "EVA02-B-16", "merged2b_s8b_b131k", "MIT"),
)


@dataclass(frozen=True)
class Cost:
    """What a model costs per image.

    Attributes:
        parameters: Of the tower that sees images.
        flops: Operations, see `zgs_ros.bench.probes.NOT_COUNTED`.
        seconds: Median.
    """

    parameters: int
    flops: int
    seconds: float


def modes_of(family: Language) -> list[Mode]:
    """Values of ``clip.mode`` that a family's image tower can do."""
    given = {"model": family.model, "pretrained": family.tag}
    return _accepted(MODES, lambda mode: find_clip(ClipSettings(**given, mode=mode)))


def attentions_of(family: Features) -> list[str]:
    """Values of ``dino.attention`` that a family's ViT can do."""
    values = get_args(DinoSettings.model_fields["attention"].annotation)
    return _accepted(
        values, lambda attention: find_dino(DinoSettings(model=family.model, attention=attention))
    )


def _accepted(values: Sequence[V], find: Callable[[V], object]) -> list[V]:
    found = []
    for value in values:
        try:
            find(value)
        except ValueError:
            continue
        found.append(value)
    return found


def measure(
    family: Features | Language,
    size: tuple[int, int],
    precision: torch.dtype,
    repeats: int,
    clock: Clock = WALL,
) -> Cost:
    """What one image takes on the CPU, with random weights.

    Of features at the stride of a patch; of language with 20 segments in ``clip.mode: dense``.

    Args:
        family: Whose.
        size: (width, height) of the image in pixels.
        precision: In which arithmetic.
        repeats: Calls measured, after one more.
        clock: What time is.
    """
    image = upload(camera_frames(*size)[0][0], CPU)
    if isinstance(family, Features):
        work, tower = _features(family, image, precision)
    else:
        work, tower = _language(family, image, precision)
    with flop_counter() as counter:
        work()
    seconds = [timed(work, CPU, clock)[0] for _ in range(repeats)]
    parameters = sum(weight.numel() for weight in tower.parameters())
    return Cost(parameters, counter.get_total_flops(), statistics.median(seconds))


def _features(family: Features, image: Tensor, precision: torch.dtype) -> Work:
    dino = random_dino(DinoSettings(model=family.model, stride=family.patch), CPU, precision)
    pixels = dino.resize([image])
    return lambda: dino(pixels), dino.model


def _language(family: Language, image: Tensor, precision: torch.dtype) -> Work:
    settings = ClipSettings(model=family.model, pretrained=family.tag, mode="dense")
    clip = random_clip(settings, CPU, precision)
    labels = tile(image.shape[0], image.shape[1], SEGMENTS)

    def embed() -> object:
        # A new tiling each time, since what it covers is kept.
        return clip.embed(clip.encode([image]), [Tiling(labels, SEGMENTS).alone()])

    visual: Any = clip.model.visual
    return embed, visual


COLUMNS = ("family", "model", "parameters [M]", "GFLOP", "ms")


def features_table(costs: dict[Features, Cost]) -> Table:
    """One row per family of features."""
    return Table(
        "Features (`dino.model`)",
        (*COLUMNS, "`dino.attention`", "licence of the weights"),
        tuple(
            (*_row(family, cost), ", ".join(attentions_of(family)), family.licence)
            for family, cost in costs.items()
        ),
    )


def language_table(costs: dict[Language, Cost]) -> Table:
    """One row per family of CLIPs."""
    return Table(
        "Language (`clip.model`, `clip.pretrained`)",
        (*COLUMNS, "`clip.mode`", "licence of the weights"),
        tuple(
            (*_row(family, cost), ", ".join(modes_of(family)), family.licence)
            for family, cost in costs.items()
        ),
    )


def _row(family: Features | Language, cost: Cost) -> tuple[str, ...]:
    model = f"`{family.model}`"
    if isinstance(family, Language):
        model += f", `{family.tag}`"
    return (
        family.name,
        model,
        f"{cost.parameters / 1e6:.0f}",
        f"{cost.flops / 1e9:.1f}",
        f"{1e3 * cost.seconds:.0f}",
    )
