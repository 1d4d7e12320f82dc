"""Which models can be used, and which file holds which: told before anything is fetched or loaded.

Names are those of the libraries' own lists. Anything else that the libraries would take for a name, such
as ``hf-hub:OWNER/MODEL`` or ``local-dir:FOLDER``, can bring code and pickles with it, so it is refused.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import open_clip
import timm
import torch
from safetensors import SafetensorError, safe_open

from zgs_ros.config import ClipSettings, DinoSettings
from zgs_ros.embedding.clip import find_tower
from zgs_ros.embedding.image_tower import WAY_OUT
from zgs_ros.oversegmentation.features import DinoFeatures

Shapes = Mapping[str, tuple[int, ...]]
"""Shape of each weight, by name."""
Activation = Literal["gelu", "quick_gelu"]

DEFAULT_TAG = "openai"
OWN: tuple[Activation, ...] = ("gelu", "quick_gelu")
"""What ``clip.pretrained`` says of weights that have no tag of open_clip."""
APPLE = "image_encoder.model.patch_emb.0.block.conv.weight"
"""Tells files in the format of Apple's MobileCLIP, which open_clip converts."""
HEAD = ("head.", "fc_norm.")
"""Weights of a ViT's classifier, which no feature needs."""
PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")


@dataclass(frozen=True)
class ClipKind:
    """A CLIP of open_clip that can be used.

    Attributes:
        model: open_clip's name of its architecture.
        tag: open_clip's name of its weights, or one of `OWN`.
        quick_gelu: Whether its weights were trained with QuickGELU.
        preprocessing: Mean, standard deviation and interpolation that they were trained with.
        repository: Where the hub has them, "" if nowhere.
        shapes: Of all weights.
        tokenizer: Hub name of the tokenizer, "" for open_clip's own.
    """

    model: str
    tag: str
    quick_gelu: bool
    preprocessing: dict[str, Any] = field(hash=False)
    repository: str
    shapes: Shapes = field(hash=False, repr=False)
    tokenizer: str


@lru_cache(maxsize=4)
def find_clip(settings: ClipSettings) -> ClipKind:
    """The CLIP that the settings name. Nothing is fetched, and no weight is made.

    Raises:
        ValueError: If there is none, it can't be used, or nothing says what the file `clip.weights` is.
    """
    name = settings.model
    if name not in open_clip.list_models():
        raise ValueError(
            f"open_clip has no model of this name{_no_scheme(name, 'clip.weights')}; "
            "see open_clip.list_models()"
        )
    config = open_clip.get_model_config(name)
    if "hf_model_name" in config["text_cfg"]:
        raise ValueError(f"its text tower is not of open_clip itself; use {WAY_OUT}")
    shapes = _clip_shapes(name, config, settings)
    tags = open_clip.list_pretrained_tags_by_model(name)
    tag = settings.pretrained or DEFAULT_TAG
    if settings.weights and not settings.pretrained:
        raise ValueError(
            f"clip.weights: nothing says what {settings.weights} holds. For weights of your own set "
            "clip.pretrained to the activation that they were trained with, gelu or quick_gelu; for "
            f"published ones to their tag ({', '.join(tags) or 'this model has none'}). "
            "`zgs doctor` tries both activations"
        )
    if tag in OWN and settings.weights:
        return ClipKind(name, tag, tag == "quick_gelu", {}, "", shapes, "")
    if tag not in tags:
        raise ValueError(f"clip.pretrained {tag!r} is not one of its tags: {', '.join(tags)}")
    pretrained = open_clip.get_pretrained_cfg(name, tag)
    return ClipKind(
        name,
        tag,
        bool(pretrained.get("quick_gelu") or config.get("quick_gelu")),
        {key: pretrained[key] for key in PREPROCESSING if key in pretrained},
        str(pretrained.get("hf_hub", "")).rstrip("/"),
        shapes,
        config["text_cfg"].get("hf_tokenizer_name", ""),
    )


def find_dino(settings: DinoSettings) -> Shapes:
    """Shapes of the weights of the ViT that the settings name. Nothing is fetched, and no weight is made.

    Raises:
        ValueError: If there is none, or it can't be used.
    """
    name = settings.model
    if not re.fullmatch(r"[\w.-]+", name) or not timm.is_model(name):
        raise ValueError(
            f"timm has no model of this name{_no_scheme(name, 'dino.weights')}; "
            "see timm.list_models('vit_*')"
        )
    try:
        with torch.device("meta"):
            model = timm.create_model(name, pretrained=False, num_classes=0)
    except RuntimeError as error:  # such as weights of another name after the dot
        raise ValueError(
            f"timm can't make it: {error}; see timm.list_pretrained('vit_*')"
        ) from None
    DinoFeatures(model, settings.short_side, settings.stride, settings.attention)
    return _shapes(model)


def check_clip_file(path: Path, kind: ClipKind) -> None:
    """Checks by a file's header that it holds a CLIP's weights.

    Raises:
        ValueError: If it is no safetensors file, or holds something else; the message says what.
    """
    found = read_shapes(path)
    if APPLE in found:
        return
    if any(name.startswith("vision_model.") for name in found):
        raise ValueError("is in the format of the library transformers, not of open_clip")
    if not any(name.endswith("token_embedding.weight") for name in found):
        raise ValueError("is an image tower alone, as timm publishes it; its text tower is missing")
    _compare(_as_saved(found, kind.shapes), kind.shapes)


def check_dino_file(path: Path, shapes: Shapes) -> None:
    """Checks by a file's header that it holds a ViT's weights; a classifier may be there too.

    Raises:
        ValueError: If it is no safetensors file, or holds something else; the message says what.
    """
    found = read_shapes(path)
    _compare({name: at for name, at in found.items() if not name.startswith(HEAD)}, shapes)


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of all weights in a safetensors file, of which only the header is read.

    Raises:
        ValueError: If it is none, or cut off.
    """
    try:
        with safe_open(path, "pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ValueError(f"can't be read as safetensors ({str(error)[:200]})") from None


def _clip_shapes(name: str, config: dict[str, Any], settings: ClipSettings) -> Shapes:
    config = copy.deepcopy(config)
    if "timm_model_name" in config["vision_cfg"]:
        config["vision_cfg"]["timm_model_pretrained"] = False
    custom = config.pop("custom_text", False)
    make = open_clip.CLIP if not custom else open_clip.CustomTextCLIP
    if "multimodal_cfg" in config:
        make = open_clip.CoCa
    with torch.device("meta"):
        model = make(**config)
        find_tower(model, name, settings.mode, settings.masked_blocks)
    return _shapes(model)


def _shapes(model: torch.nn.Module) -> Shapes:
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def _as_saved(found: Shapes, wanted: Shapes) -> Shapes:
    """Names and shapes as open_clip makes them fit: older files keep the text tower beside the image's."""
    prefix = "" if "positional_embedding" in wanted else "text."
    if prefix and "positional_embedding" in found:
        kept = ("visual.", "logit_")
        found = {
            name if name.startswith(kept) else f"{prefix}{name}": at for name, at in found.items()
        }
    optional = ("text.transformer.embeddings.position_ids",)
    return {
        name: wanted[name] if name.startswith("logit_") and name in wanted else at
        for name, at in found.items()
        if name not in optional
    }


def _compare(found: Shapes, wanted: Shapes) -> None:
    missing = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in wanted]
    other = [name for name in wanted if name in found and found[name] != wanted[name]]
    if missing or extra:
        raise ValueError(
            f"holds another model: {len(missing)} weights are missing{_some(missing)}, "
            f"{len(extra)} don't belong{_some(extra)}"
        )
    if other:
        raise ValueError(
            f"holds another model: {other[0]} is {found[other[0]]} instead of {wanted[other[0]]}, "
            f"and {len(other) - 1} more"
        )


def _some(names: list[str]) -> str:
    return f" ({', '.join(name[:80] for name in names[:3])})" if names else ""


def _no_scheme(name: str, setting: str) -> str:
    if ":" not in name and "/" not in name:
        return ""
    return (
        ", and models of folders or of any place on the hub are not loaded, because they can bring "
        f"code with them: name the architecture, and its weights with {setting}=FILE.safetensors"
    )
