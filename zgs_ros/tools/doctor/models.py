"""Loads a profile's models and asks them what they know."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from zgs_ros.config import SegmenterSettings
from zgs_ros.models.kinds import Activation, find_clip
from zgs_ros.models.loading import (
    BUNDLED,
    ModelError,
    load_clip,
    load_dino,
    load_language_model,
    resolve_device,
)
from zgs_ros.models.precision import resolve_precision
from zgs_ros.tools.doctor import clip as of_clip
from zgs_ros.tools.doctor import dino as of_dino
from zgs_ros.tools.doctor.captions import check_language_model
from zgs_ros.tools.doctor.clip import Exam
from zgs_ros.tools.doctor.exact import check_answers, clip_answers, dino_answers
from zgs_ros.tools.doctor.findings import Finding
from zgs_ros.tools.doctor.pictures import drawing_names, drawings, scene_names, scenes

TEMPLATE = "Image of a {}."
WAYS_OUT = " Three ways out: "


def examine_models(settings: SegmenterSettings) -> Iterator[Finding]:
    """Findings on the models that the settings need, as they come."""
    try:
        device = resolve_device(settings.device)
    except ModelError as error:
        yield Finding("machine", "device", "error", str(error), "device=cpu always works")
        return
    precision = resolve_precision(settings, device)
    rooms = {"dino": examine_dino, "clip": examine_clip}
    if settings.labeling.method == "zerocap":
        rooms["captions"] = examine_captions
    for room, examine in rooms.items():
        try:
            yield from examine(settings, device, precision)
        except ModelError as error:
            text, _, remedy = str(error).partition(WAYS_OUT)
            yield Finding(room, "loading", "error", text, remedy)
        except torch.cuda.OutOfMemoryError:
            yield Finding(
                "machine",
                "GPU memory",
                "error",
                f"{device} has not enough memory left for the models",
                "see who uses it (nvidia-smi), or use profile=fast",
            )


def examine_dino(
    settings: SegmenterSettings, device: torch.device, precision: torch.dtype
) -> Iterator[Finding]:
    """Findings on the model of the over-segmentation.

    Raises:
        ModelError: If it can't be loaded.
    """
    name = settings.dino.model
    features = load_dino(settings.dino, device, precision, settings.profile)
    yield Finding("dino", "loading", "ok", f"{name} on {device} in {_name(precision)}")
    is_bundled = name in BUNDLED
    pictures = scenes() if is_bundled else tuple(drawings())
    yield from of_dino.check_dino(features, name, is_bundled, pictures)
    if is_bundled:
        yield check_answers("dino", dino_answers(features, drawings()), precision)
    if precision != torch.float32:
        exact = load_dino(settings.dino, device, torch.float32, settings.profile)
        yield of_dino.check_precision(features, exact, pictures)


def examine_clip(
    settings: SegmenterSettings, device: torch.device, precision: torch.dtype
) -> Iterator[Finding]:
    """Findings on the model that embeds segments and texts.

    Raises:
        ModelError: If it can't be loaded.
    """
    given = settings.clip
    is_bundled = given.model in BUNDLED
    asked = exam(is_bundled)
    is_unsaid = bool(given.weights and not given.pretrained) and not is_bundled
    if is_unsaid:
        given = given.model_copy(update={"pretrained": "gelu"})
    clip = load_clip(given, device, precision, settings.profile)
    yield Finding("clip", "loading", "ok", f"{clip.name} on {device} in {_name(precision)}")
    if is_unsaid:
        compared = of_clip.compare_activations(clip, asked)
        yield of_clip.check_activation_by_names(compared, None)
        if compared[0] == "quick_gelu":
            given = given.model_copy(update={"pretrained": "quick_gelu"})
            clip = load_clip(given, device, precision, settings.profile)
    kind = None if is_bundled else find_clip(given)
    yield from of_clip.check_clip(clip, given, asked, kind, not is_bundled)
    if kind and given.weights and not is_unsaid:
        compared = of_clip.compare_activations(clip, asked)
        said: Activation = "quick_gelu" if kind.quick_gelu else "gelu"
        yield of_clip.check_activation_by_names(compared, said)
    if is_bundled:
        yield check_answers("clip", clip_answers(clip, exam(False)), precision)
    if precision != torch.float32:
        exact = load_clip(given, device, torch.float32, settings.profile)
        yield of_clip.check_precision(clip, exact, asked)


def examine_captions(
    settings: SegmenterSettings, device: torch.device, precision: torch.dtype
) -> Iterator[Finding]:
    """Findings on the language model that writes captions, which is in float32 whatever is set.

    Raises:
        ModelError: If it can't be loaded.
    """
    model = load_language_model(settings.captions, device, settings.profile)
    yield Finding("captions", "loading", "ok", f"{settings.captions.model} on {device} in float32")
    yield from check_language_model(model)


def exam(of_synthetic_world: bool) -> Exam:
    """What a CLIP is asked: things of the synthetic world, or drawings."""
    if of_synthetic_world:
        return Exam(scenes(), scene_names(), TEMPLATE, "global_subtraction")
    return Exam(drawings(), drawing_names(), TEMPLATE)


def _name(precision: torch.dtype) -> str:
    return str(precision).removeprefix("torch.")
