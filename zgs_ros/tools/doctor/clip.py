"""Whether a CLIP is what it is said to be: its weights, how its images are prepared, its arithmetic."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from open_clip.transformer import QuickGELU
from PIL import Image as Pillow
from torch import nn

from zgs_ros.config import ClipSettings
from zgs_ros.embedding.clip import ClipEmbedder
from zgs_ros.models.kinds import OWN, Activation, ClipKind
from zgs_ros.tools.doctor.findings import Finding, Level
from zgs_ros.tools.doctor.pictures import Picture
from zgs_ros.tools.doctor.weights import ANOTHER_FILE, check_positions, check_training

Rows = NDArray[np.float32]
ROOM = "clip"

FEW_RIGHT, SOME_RIGHT = 0.5, 0.75
"""Shares of right names below which something is wrong, or may be.

OpenAI's ViT-L/14@336 names 89 % of ImageNet-R's renditions among 200 classes and 60 % of
ImageNet-Sketch's sketches among 1,000 (Radford et al. 2021, figure 13); these drawings are plainer, and among few
names."""

MATCHING = (0.15, 0.4)
"""Range of the mean cosine of pictures and their own names, of OpenAI's CLIPs.

CLIPScore found all cosines between zero and about 0.4 (Hessel et al. 2021); LAION-400M took pairs above
0.3 to match (Schuhmann et al. 2021), and short names come a little lower than captions."""
LEAST_MARGIN = 0.03
"""By which matching pairs exceed the others at least: three nats at the logit scale of 100."""
ALIKE = 0.99
"""Mean cosine of different pictures, or names, from which on a tower doesn't tell them apart."""
NEW_LOGIT_SCALE = 1 / 0.07
"""Before training (Radford et al. 2021, section 2.5)."""
ROUNDING = 0.01
"""Relative: weights hold its logarithm, and where that is in bfloat16 it is 0.3 % off."""

CLEARLY = 3.0
"""Standard errors by which another way must do better before it is taken for the right one."""
BETTER = 1.05
"""Factor on the margin, likewise."""

LEAST_AGREEMENT = {torch.float16: 0.998, torch.bfloat16: 0.98}
"""Cosine with what float32 gives: with 10 and 7 bits of mantissa, through some ten blocks."""

SAYS_IT = "set clip.pretrained to the tag of the weights, which says it"
ACTIVATIONS: dict[Activation, str] = {"gelu": "GELU", "quick_gelu": "QuickGELU"}
INTERPOLATIONS = {
    "bicubic": Pillow.Resampling.BICUBIC,
    "bilinear": Pillow.Resampling.BILINEAR,
}
"""Of which a tag names one, as Pillow has them."""

NORMALISATIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "OpenAI's": (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD),
    "ImageNet's": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "0.5 and 0.5": ((0.5,) * 3, (0.5,) * 3),
    "0 and 1": ((0.0,) * 3, (1.0,) * 3),
    "0.5 and 0.25": ((0.5,) * 3, (0.25,) * 3),
}
"""Mean and standard deviation that image models are trained with."""


@dataclass(frozen=True, eq=False)
class Exam:
    """What a CLIP is asked.

    Attributes:
        pictures: What is shown.
        names: What could be shown.
        template: Sentence around a name.
        mode: How what a mask shows is embedded; masks of whole pictures with ``"crop"``, which every
            CLIP can do, are plain CLIP.
    """

    pictures: Sequence[Picture]
    names: Sequence[str]
    template: str
    mode: Any = "crop"

    @property
    def answers(self) -> NDArray[np.int64]:
        """Number of the right name of each thing."""
        return np.array([self.names.index(n) for p in self.pictures for n in p.names])

    def images(self, clip: ClipEmbedder) -> Rows:
        """Embeddings of all things, (things, dimensions)."""
        given = clip.variant(self.mode, 1, 1.0)
        images, masks = zip(*((p.image, p.masks) for p in self.pictures), strict=True)
        return np.concatenate(given.embed_segments(images, masks))

    def texts(self, clip: ClipEmbedder) -> Rows:
        """Embeddings of all names, (names, dimensions)."""
        return clip.embed_texts([self.template.format(name) for name in self.names])

    def margins(self, images: Rows, texts: Rows) -> NDArray[np.float64]:
        """By which the cosine with the right name exceeds the mean of the others, (things,)."""
        cosines = (images @ texts.T).astype(np.float64)
        right = np.take_along_axis(cosines, self.answers[:, None], axis=1)[:, 0]
        return right - (cosines.sum(axis=1) - right) / (len(self.names) - 1)


def check_clip(
    clip: ClipEmbedder,
    settings: ClipSettings,
    exam: Exam,
    kind: ClipKind | None,
    of_this_world: bool,
) -> Iterator[Finding]:
    """Looks at everything that needs no second model.

    Args:
        clip: As it was loaded.
        settings: That it was loaded with.
        exam: What it is asked.
        kind: As its tag says it is; None for the bundled one.
        of_this_world: Whether it was trained on photographs, so that published numbers apply.
    """
    training = check_training(ROOM, clip.model)
    yield training
    if (positions := positions_of(clip.model)) is not None:
        yield check_positions(ROOM, positions, clip.grid)
    if kind is None:
        yield check_activation(clip.model, quick_gelu=False)
        yield check_normalisation(clip.model, *NORMALISATIONS["0.5 and 0.25"])
    else:
        yield check_activation(clip.model, kind.quick_gelu)
        if kind.tag not in OWN:  # of which nothing is published
            yield check_normalisation(clip.model, *published_normalisation(kind))
            yield check_resizing(clip, kind, exam.pictures)
    if of_this_world:
        yield check_logit_scale(clip)
    images, texts = exam.images(clip), exam.texts(clip)
    if not (np.isfinite(images).all() and np.isfinite(texts).all()):
        yield Finding(
            ROOM,
            "numbers",
            "error",
            "embeddings are infinite or no numbers",
            "try precision=float32; where that gives numbers, this device can't do the other",
        )
        return
    names = check_names(exam, images, texts)
    yield names
    yield from check_cosines(exam, images, texts, _is_openai(kind))
    if training.level == "ok" and (names.level != "ok" or settings.weights or kind is None):
        # Untrained weights do nothing well any way, and take as long. Weights of the hub, whose checksum
        # was verified, are those of their tag.
        yield from check_alternatives(clip, exam, images, texts)


def check_activation(model: nn.Module, quick_gelu: bool) -> Finding:
    """Whether the blocks have the activation that the weights were trained with."""
    found = {type(module) for module in model.modules()} & {nn.GELU, QuickGELU}
    wanted = QuickGELU if quick_gelu else nn.GELU
    names = " and ".join(sorted(kind.__name__ for kind in found)) or "neither GELU nor QuickGELU"
    if found != {wanted}:
        return Finding(
            ROOM,
            "activation",
            "error",
            f"is {names}, but these weights were trained with {wanted.__name__}",
            SAYS_IT,
        )
    return Finding(ROOM, "activation", "ok", f"is {names}, as the weights were trained")


def check_normalisation(
    model: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]
) -> Finding:
    """Whether images are normalised as the weights' images were."""
    visual: Any = model.visual
    used = tuple(getattr(visual, "image_mean", open_clip.OPENAI_DATASET_MEAN))
    used_std = tuple(getattr(visual, "image_std", open_clip.OPENAI_DATASET_STD))
    if not (np.allclose(used, mean, atol=1e-3) and np.allclose(used_std, std, atol=1e-3)):
        return Finding(
            ROOM,
            "normalisation",
            "error",
            f"mean {_shown(used)} and deviation {_shown(used_std)} are used, but the weights were trained "
            f"with {_shown(mean)} and {_shown(std)}",
            SAYS_IT,
        )
    return Finding(
        ROOM, "normalisation", "ok", f"mean {_shown(mean)}, deviation {_shown(std)}, as published"
    )


def check_resizing(clip: ClipEmbedder, kind: ClipKind, pictures: Sequence[Picture]) -> Finding:
    """Whether images get the size and the interpolation that the weights' images had.

    What the model is given is held against what Pillow makes of the same pictures.
    """
    name = str(kind.preprocessing.get("interpolation", "bicubic"))  # open_clip's own
    height, width = clip.image_size
    mean, std = (np.array(values)[:, None, None] for values in published_normalisation(kind))
    off = dict.fromkeys(INTERPOLATIONS, 0.0)
    for picture in pictures:
        given = clip.prepare(torch.from_numpy(picture.image))[0].float().cpu().numpy()
        for other, filter_ in INTERPOLATIONS.items():
            resized = Pillow.fromarray(picture.image).resize((width, height), filter_)
            pixels = np.asarray(resized, np.float64).transpose(2, 0, 1) / 255.0
            off[other] += float(np.abs((pixels - mean) / std - given).mean()) / len(pictures)
    nearest = min(off, key=lambda other: off[other])
    text = f"{name} to {width} x {height}"
    if nearest != name:
        return Finding(
            ROOM,
            "resizing",
            "error",
            f"is not {text}, as the weights were trained, but nearer to {nearest}",
            SAYS_IT,
        )
    is_squash = kind.preprocessing.get("resize_mode") == "squash"
    squashed = "" if is_squash else "; squashed instead of cropped, so that masks fit"
    return Finding(ROOM, "resizing", "ok", f"is {text}, as the weights were trained{squashed}")


def check_logit_scale(clip: ClipEmbedder) -> Finding:
    """Whether it left its initial value; of trained CLIPs it is at or near 100."""
    scale = clip.logit_scale
    text = f"is {scale:.1f}"
    if abs(scale / NEW_LOGIT_SCALE - 1) < ROUNDING:
        return Finding(
            ROOM,
            "logit scale",
            "error",
            f"{text}, as before training: the file lacks it, or was never trained",
            ANOTHER_FILE,
        )
    if not 20 < scale < 120:
        return Finding(
            ROOM, "logit scale", "warning", f"{text}; of published CLIPs near 100", ANOTHER_FILE
        )
    return Finding(ROOM, "logit scale", "ok", text)


def check_names(exam: Exam, images: Rows, texts: Rows) -> Finding:
    """Whether things are called by their names."""
    answers, given = exam.answers, (images @ texts.T).argmax(axis=1)
    right = answers == given
    share = float(right.mean())
    wrong = [
        f"{exam.names[answer]} ({exam.names[other]})"
        for answer, other in zip(answers[~right], given[~right], strict=True)
    ]
    missed = f"; instead of {', '.join(wrong[:4])}" if wrong else ""
    text = (
        f"{int(right.sum())} of {len(right)} things got their name out of {len(exam.names)}"
        f"{missed}{' ...' if len(wrong) > 4 else ''}"
    )
    if share >= SOME_RIGHT:
        return Finding(ROOM, "names", "ok", text)
    level: Level = "error" if share < FEW_RIGHT else "warning"
    chance = 1 / len(exam.names)
    guess = (
        "that is guessing: image and text tower are of different models, or weights are damaged"
        if share < 3 * chance
        else "images are prepared in another way than in training, or weights are damaged"
    )
    return Finding(
        ROOM, "names", level, f"{text}: {guess}", f"{ANOTHER_FILE}; check clip.pretrained"
    )


def check_cosines(exam: Exam, images: Rows, texts: Rows, is_openai: bool) -> Iterator[Finding]:
    """Whether cosines are where published ones are."""
    margins = exam.margins(images, texts)
    right = float((images * texts[exam.answers]).sum(axis=1).mean())
    margin = float(margins.mean())
    text = f"with their names {right:.3f}, with others {right - margin:.3f}"
    low, high = MATCHING
    if margin < LEAST_MARGIN:
        yield Finding(
            ROOM,
            "cosines",
            "error" if margin < LEAST_MARGIN / 3 else "warning",
            f"{text}: names are hardly told apart",
            ANOTHER_FILE,
        )
    elif is_openai and not low <= right <= high:
        yield Finding(
            ROOM,
            "cosines",
            "warning",
            f"{text}; of OpenAI's CLIPs {low:g} to {high:g} with their names",
            "check clip.pretrained and precision",
        )
    else:
        yield Finding(ROOM, "cosines", "ok", text)
    for what, rows in (("pictures", images), ("names", texts)):
        alike = _mean_cosine(rows)
        if alike > ALIKE:
            yield Finding(
                ROOM,
                f"different {what}",
                "error",
                f"have a mean cosine of {alike:.3f}: all look the same to it",
                ANOTHER_FILE,
            )
        else:
            yield Finding(ROOM, f"different {what}", "ok", f"have a mean cosine of {alike:.2f}")


def check_alternatives(
    clip: ClipEmbedder, exam: Exam, images: Rows, texts: Rows
) -> Iterator[Finding]:
    """Whether the model tells names apart better with another normalisation.

    Trained weights do best as they were trained, so that this tells without a published number.
    """
    own = exam.margins(images, texts)
    others = {}
    for title, (mean, std) in NORMALISATIONS.items():
        with _other_normalisation(clip.model, mean, std) as is_other:
            if is_other:
                pixels = exam.images(clip.variant(exam.mode, 1, 1.0))
                others[f"{title} mean and deviation"] = exam.margins(pixels, texts)
    best = max(others, key=lambda title: float(others[title].mean()))
    gain = others[best] - own
    error = float(gain.std(ddof=1)) / np.sqrt(len(gain))
    ratio = float(others[best].mean()) / max(float(own.mean()), 1e-6)
    text = f"with {best} names are told apart {ratio:.2f} times as well"
    if float(gain.mean()) > CLEARLY * error and ratio > BETTER and _tells(others[best]):
        yield Finding(
            ROOM,
            "other ways",
            "error",
            f"{text}: the weights were trained that way",
            SAYS_IT,
        )
    else:
        yield Finding(ROOM, "other ways", "ok", f"none is clearly better; {text}")


def check_activation_by_names(
    compared: tuple[Activation, float, float], said: Activation | None
) -> Finding:
    """Whether names are told apart better with the activation that is not said to be the weights'.

    Trained weights do best with their own. For GELU and QuickGELU, which differ little, the difference is
    small too, but of one sign: what counts is how it compares with its scatter over the things.

    Args:
        compared: What `compare_activations` found.
        said: The activation that is said to be the weights'; None where nothing is said.
    """
    better, ratio, errors = compared
    other = ACTIVATIONS["quick_gelu" if better == "gelu" else "gelu"]
    text = (
        f"with {ACTIVATIONS[better]} names are told apart {ratio:.4f} times as well as with {other}, "
        f"{errors:.1f} standard errors"
    )
    is_clear = errors > CLEARLY
    name, ask = "activation by names", "ask who trained them"
    if said is None:
        remedy = (
            f"set clip.pretrained={better}, or to the tag of the weights"
            if is_clear
            else f"{ask}; set clip.pretrained to gelu or quick_gelu, or to the tag of the weights"
        )
        unsaid = "nothing says with which activation the weights were trained"
        return Finding(ROOM, name, "error", f"{unsaid}; {text}", remedy)
    if is_clear and better != said:
        level: Level = "error" if ratio > BETTER else "warning"
        return Finding(
            ROOM, name, level, f"{text}: the weights were trained that way", f"{ask}; {SAYS_IT}"
        )
    unclear = "" if is_clear else ", which tells nothing"
    return Finding(ROOM, name, "ok", f"{text}{unclear}")


def compare_activations(clip: ClipEmbedder, exam: Exam) -> tuple[Activation, float, float]:
    """With which activation a model tells names apart better.

    Returns:
        The activation; how many times as well as with the other one; and their difference in standard
        errors over the things of the exam, 0 where names are not told apart at all.
    """
    margins: dict[Activation, NDArray[np.float64]] = {}
    for activation in ACTIVATIONS:
        with _activation(clip.model, activation):
            given = clip.variant(exam.mode, 1, 1.0)
            margins[activation] = exam.margins(exam.images(given), exam.texts(given))
    better, other = sorted(margins, key=lambda name: -float(margins[name].mean()))
    gain = margins[better] - margins[other]
    scatter = float(gain.std(ddof=1)) / np.sqrt(len(gain))
    ratio = float(margins[better].mean()) / max(float(margins[other].mean()), 1e-6)
    if not _tells(margins[better]) or not scatter:
        return better, ratio, 0.0
    return better, ratio, float(gain.mean()) / scatter


def check_precision(clip: ClipEmbedder, exact: ClipEmbedder, exam: Exam) -> Finding:
    """Whether the arithmetic in use gives what float32 gives."""
    precision = next(clip.model.parameters()).dtype
    least = LEAST_AGREEMENT[precision]
    pairs = ((exam.images(clip), exam.images(exact)), (exam.texts(clip), exam.texts(exact)))
    agreement = min(float((a * b).sum(axis=1).min()) for a, b in pairs)
    name = str(precision).removeprefix("torch.")
    text = f"embeddings in {name} have a cosine of at least {agreement:.4f} with those in float32"
    if not agreement >= least:
        return Finding(
            ROOM, "precision", "error", f"{text}; {least:g} is usual", "use precision=float32"
        )
    return Finding(ROOM, "precision", "ok", text)


def positions_of(model: nn.Module) -> torch.Tensor | None:
    """Embeddings of the image tower's positions, (..., rows, width), those of patches last.

    None where it has none, as convolutions and towers with turns alone.
    """
    visual: Any = model.visual
    trunk = getattr(visual, "trunk", None)
    positions: torch.Tensor | None = (
        visual.positional_embedding if trunk is None else getattr(trunk, "pos_embed", None)
    )
    return positions


def published_normalisation(
    kind: ClipKind,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation that the images of a tag were normalised with."""
    usual = NORMALISATIONS["OpenAI's"]  # open_clip's own, where a tag says nothing
    mean, std = (kind.preprocessing.get(key, usual[i]) for i, key in enumerate(("mean", "std")))
    return tuple(mean), tuple(std)


@contextmanager
def _activation(model: nn.Module, activation: Activation) -> Iterator[None]:
    """Gives all blocks one activation for the length of the block."""
    make = QuickGELU if activation == "quick_gelu" else nn.GELU
    replaced: list[tuple[nn.Module, str, nn.Module]] = []
    for module in list(model.modules()):
        for child, before in list(module.named_children()):
            if isinstance(before, (nn.GELU, QuickGELU)):
                setattr(module, child, make())
                replaced.append((module, child, before))
    try:
        yield
    finally:
        for module, child, before in replaced:
            setattr(module, child, before)


@contextmanager
def _other_normalisation(
    model: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]
) -> Iterator[bool]:
    """Sets mean and deviation for the length of the block; False where they are these already."""
    visual: Any = model.visual
    before = visual.image_mean, visual.image_std
    visual.image_mean, visual.image_std = mean, std
    try:
        yield not np.allclose([before[0], before[1]], [mean, std], atol=1e-3)
    finally:
        visual.image_mean, visual.image_std = before


def _is_openai(kind: ClipKind | None) -> bool:
    return kind is not None and kind.tag == "openai"


def _tells(margins: NDArray[np.float64]) -> bool:
    """Whether names are told apart at all."""
    return float(margins.mean()) > LEAST_MARGIN


def _mean_cosine(rows: Rows) -> float:
    cosines = rows @ rows.T
    count = len(rows)
    return float((cosines.sum() - np.trace(cosines)) / (count * (count - 1)))


def _shown(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.3f}" for value in values) + ")"
