"""Loading timm, open_clip and language models with their weights.

Weights come from the bundled models, from a given file, from the local cache, or from the hub, in
that order. Only safetensors are read.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import open_clip
import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

import zgs_ros.models.mini_tower  # noqa: F401  registers the mini CLIP's image tower with timm
from zgs_ros.config import CaptionSettings, ClipSettings, DinoSettings, SegmenterSettings
from zgs_ros.embedding.clip import ClipEmbedder
from zgs_ros.models.hub import HubError, weights_file
from zgs_ros.models.language import find_language_model, read_language_model
from zgs_ros.models.language_model import LanguageModel
from zgs_ros.oversegmentation.features import DinoFeatures

BUNDLED = {"zgs-mini-dino": "dino", "zgs-mini-clip": "clip"}
"""Names of the bundled models and their folders in ``zgs_ros/models/mini``."""
CLIP_FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "model.safetensors",
)

logger = logging.getLogger(__name__)


class ModelError(RuntimeError):
    """A model that can't be loaded; the message says what to do."""


def resolve_device(name: str) -> torch.device:
    """The device that ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps`` stands for.

    Raises:
        ModelError: If this machine does not have it.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise ModelError(
                f"device: {name!r}, but PyTorch sees {count} CUDA devices; use device=cpu or auto"
            )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ModelError("device: 'mps' is not available on this machine; use device=cpu or auto")
    return device


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """The arithmetic that a precision stands for; ``auto`` is float16 on a GPU and float32 on a CPU."""
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.float16
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]


def load_dino(
    settings: DinoSettings, device: torch.device, precision: torch.dtype, profile: str = ""
) -> DinoFeatures:
    """Loads the feature model of the over-segmentation.

    Raises:
        ModelError: If there is no such model, its weights can't be had, or it is of an unusable kind.
    """
    name = settings.model
    try:
        if name in BUNDLED:
            folder = bundled_folder(name)
            model = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0)
        else:
            model = timm.create_model(name, pretrained=False, num_classes=0)
            path = Path(settings.weights) if settings.weights else _timm_weights(name)
            _load_backbone(model, _read_weights(path, "dino.weights"), path)
        features = DinoFeatures(model, settings.short_side, settings.stride, settings.attention)
    except HubError as error:
        raise ModelError(_no_weights("dino", name, error, profile)) from error
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"dino.model {name!r}: {error}") from error
    return features.to(device=device, dtype=precision).eval()


def load_clip(
    settings: ClipSettings, device: torch.device, precision: torch.dtype, profile: str = ""
) -> ClipEmbedder:
    """Loads the CLIP that embeds segments and texts.

    Raises:
        ModelError: If there is no such model, its weights can't be had, or it is of an unusable kind.
    """
    name = settings.model
    try:
        source, space, weights = _clip_source(settings)
        quick_gelu = _is_quick_gelu(settings)
        model = open_clip.create_model(
            source, pretrained=weights, force_quick_gelu=quick_gelu, weights_only=True
        )
        tokenizer = open_clip.get_tokenizer(source)
        embedder = make_embedder(model, tokenizer, space, settings, device, precision)
    except HubError as error:
        raise ModelError(_no_weights("clip", name, error, profile)) from error
    except (RuntimeError, ValueError, OSError, SafetensorError) as error:
        raise ModelError(f"clip.model {name!r}: {error}") from error
    return embedder


def make_embedder(
    model: torch.nn.Module,
    tokenizer: Callable[[list[str]], torch.Tensor],
    space: str,
    settings: ClipSettings,
    device: torch.device,
    precision: torch.dtype,
) -> ClipEmbedder:
    """Sets up an open_clip model as the settings want it.

    Raises:
        ValueError: If it is of an unusable kind.
    """
    return ClipEmbedder(
        # Channels last is what convolutions in front of a ViT are fastest with.
        model.to(device=device, dtype=precision).to(memory_format=torch.channels_last),
        tokenizer,
        space,
        mode=settings.mode,
        blocks=settings.masked_blocks,
        sigma=settings.sigma,
        segment_batch=settings.segment_batch,
    )


def load_language_model(
    settings: CaptionSettings, device: torch.device, profile: str = ""
) -> LanguageModel:
    """Loads the language model that writes captions.

    Raises:
        ModelError: If ``transformers`` is not installed, or the model can't be had or used.
    """
    try:
        model, tokenizer = read_language_model(find_language_model(settings.model))
        return LanguageModel(model.to(device), tokenizer)
    except ImportError as error:
        raise ModelError(
            f"labeling.method: zerocap needs transformers ({error}): "
            'pip install "zgs_ros[captions]"; labeling.method: retrieval works without'
        ) from error
    except HubError as error:
        raise ModelError(_no_weights("captions", settings.model, error, profile)) from error
    except (RuntimeError, ValueError, OSError, SafetensorError) as error:
        raise ModelError(f"captions.model {settings.model!r}: {error}") from error


def bundled_folder(name: str) -> Path:
    """Folder of a bundled model, its files checked against their checksums.

    Raises:
        ModelError: If a file is missing or damaged.
    """
    folder = Path(str(resources.files("zgs_ros.models") / "mini")) / BUNDLED[name]
    sums = folder / "SHA256SUMS"
    if not sums.is_file():
        raise ModelError(
            f"{name}: the bundled model is not installed at {folder}; install zgs_ros anew"
        )
    for line in sums.read_text(encoding="utf-8").splitlines():
        expected, file = line.split()
        if not (folder / file).is_file() or sha256(folder / file) != expected:
            raise ModelError(f"{name}: {folder / file} is missing or damaged; install zgs_ros anew")
    return folder


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def pull(settings: SegmenterSettings, download: bool = True) -> list[Path]:
    """Files of a profile's weights, fetched into the local cache where they are missing.

    Args:
        settings: Names the models.
        download: Whether to fetch; otherwise what is not here is an error.

    Raises:
        ModelError: If they can't be had.
    """
    files = []
    for kind, section in (("dino", settings.dino), ("clip", settings.clip)):
        try:
            if section.model in BUNDLED:
                files.append(bundled_folder(section.model))
            elif section.weights:
                files.append(Path(section.weights))
            elif kind == "dino":
                files.append(_timm_weights(section.model, download))
            else:
                files.append(Path(_clip_source(settings.clip, download)[2] or ""))
        except HubError as error:
            raise ModelError(_no_weights(kind, section.model, error, settings.profile)) from error
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"{kind}.model {section.model!r}: {error}") from error
    if settings.labeling.method == "zerocap":
        name = settings.captions.model
        try:
            files.append(find_language_model(name, download))
        except HubError as error:
            raise ModelError(_no_weights("captions", name, error, settings.profile)) from error
        except ValueError as error:
            raise ModelError(f"captions.model {name!r}: {error}") from error
    return files


def _clip_source(settings: ClipSettings, download: bool = True) -> tuple[str, str, str | None]:
    """open_clip's model name, the name of the embedding space, and the weights file."""
    if settings.model in BUNDLED:
        return f"local-dir:{bundled_folder(settings.model)}", settings.model, None
    if settings.weights:
        path = Path(settings.weights)
        _check_weights_file(path, "clip.weights")
        return settings.model, f"{settings.model}/{path.stem}", str(path)
    config = _pretrained_config(settings)
    repository = str(config.get("hf_hub", "")).rstrip("/")
    if repository.count("/") != 1:
        raise ValueError(
            f"clip.pretrained {settings.pretrained!r} has no safetensors on the hub; use clip.weights"
        )
    return (
        settings.model,
        f"{settings.model}/{settings.pretrained}",
        str(weights_file(repository, CLIP_FILES, download)),
    )


def _pretrained_config(settings: ClipSettings) -> dict[str, object]:
    if settings.model not in open_clip.list_models():
        raise ValueError("open_clip has no model of this name; see open_clip.list_models()")
    config = open_clip.get_pretrained_cfg(settings.model, settings.pretrained)
    if not config:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(settings.model))
        raise ValueError(f"clip.pretrained {settings.pretrained!r} is not one of its tags: {tags}")
    return dict(config)


def _is_quick_gelu(settings: ClipSettings) -> bool:
    """Whether the weights were trained with QuickGELU; a file is taken to be of the given tag."""
    if settings.model in BUNDLED:
        return False
    config = open_clip.get_pretrained_cfg(settings.model, settings.pretrained) or {}
    return bool(config.get("quick_gelu", False))


def _timm_weights(name: str, download: bool = True) -> Path:
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:
        raise ValueError("timm has no weights of this name on the hub; use dino.weights")
    repository = config.hf_hub_id + (name if config.hf_hub_id.endswith("/") else "")
    return weights_file(repository, ("model.safetensors",), download)


def _read_weights(path: Path, setting: str) -> dict[str, torch.Tensor]:
    _check_weights_file(path, setting)
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{setting}: {path} can't be read as safetensors ({error})") from None


def _check_weights_file(path: Path, setting: str) -> None:
    if not path.is_file():
        raise ValueError(f"{setting}: there is no file {path}")
    if path.suffix != ".safetensors":
        raise ValueError(
            f"{setting}: {path} is not a .safetensors file; pickles are not loaded, convert it"
        )


def _load_backbone(model: torch.nn.Module, weights: dict[str, torch.Tensor], path: Path) -> None:
    """Loads all weights that the features need; a classifier head in the file is left out."""
    result = model.load_state_dict(weights, strict=False)
    extra = [key for key in result.unexpected_keys if not key.startswith(("head.", "fc_norm."))]
    if result.missing_keys or extra:
        raise ValueError(
            f"{path} holds another model: {len(result.missing_keys)} weights are missing "
            f"({', '.join(result.missing_keys[:3])}), {len(extra)} don't belong ({', '.join(extra[:3])})"
        )


def _no_weights(kind: str, name: str, error: HubError, profile: str) -> str:
    option = f" --profile {profile}" if profile else ""
    local, without = (
        ("folder, captions.model=FOLDER", "name segments without it, labeling.method=retrieval")
        if kind == "captions"
        else (
            f"file, {kind}.weights=FILE.safetensors",
            "take the bundled models, profile=mini (they know only the synthetic world)",
        )
    )
    return (
        f"{kind}.model {name!r}: its weights can't be loaded: {error}. Three ways out: "
        f"fetch them beforehand with `zgs models pull{option}` where there is a network; "
        f"give a local {local}; or {without}"
    )
