"""Loading timm, open_clip and language models with their weights.

Weights come from the bundled models, from a given file, from the local cache, or from the hub, in
that order. Only safetensors are read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
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
from zgs_ros.models.hub import (
    Check,
    HubError,
    fetch,
    find_file,
    find_in_cache,
    licence,
    sha256,
    verify,
    weights_file,
)
from zgs_ros.models.kinds import check_clip_file, check_dino_file, find_clip, find_dino
from zgs_ros.models.language import (
    find_language_model,
    language_model_files,
    read_language_model,
)
from zgs_ros.models.language_model import LanguageModel
from zgs_ros.models.uninitialised import Uninitialised
from zgs_ros.oversegmentation.features import DinoFeatures

BUNDLED = {"zgs-mini-dino": "dino", "zgs-mini-clip": "clip"}
"""Names of the bundled models and their folders in ``zgs_ros/models/mini``."""
CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")
"""Names under which repositories keep open_clip's weights; ``model.safetensors`` is of another library."""
DINO_FILES = ("model.safetensors",)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Weights:
    """Where a model's weights are.

    Attributes:
        kind: dino, clip or captions.
        path: A file, or the folder of a bundled or a language model; None for one of the hub.
        repository: Its name on the hub.
        names: Files there of which one is needed, best first.
        check: Raises ValueError for a file that holds something else.
    """

    kind: str
    path: Path | None = None
    repository: str = ""
    names: tuple[str, ...] = ()
    check: Check = lambda path: None


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
            path = find_weights(dino_weights(settings))
            with Uninitialised():
                model = timm.create_model(name, pretrained=False, num_classes=0)
            model.load_state_dict(load_file(path), strict=False)  # a classifier is left out
        features = DinoFeatures(model, settings.short_side, settings.stride, settings.attention)
    except HubError as error:
        raise ModelError(_no_weights("dino", name, error, profile)) from error
    except (RuntimeError, ValueError, OSError, SafetensorError) as error:
        raise ModelError(f"dino.model {name!r}: {_short(error)}") from error
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
        model, tokenizer, space = _open_clip(settings)
        embedder = make_embedder(model, tokenizer, space, settings, device, precision)
    except HubError as error:
        raise ModelError(_no_weights("clip", name, error, profile)) from error
    except (RuntimeError, ValueError, OSError, ImportError, SafetensorError) as error:
        raise ModelError(f"clip.model {name!r}: {_short(error)}") from error
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
        raise ModelError(f"captions.model {settings.model!r}: {_short(error)}") from error


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


def clip_weights(settings: ClipSettings) -> Weights:
    """Where the weights of the CLIP that the settings name are.

    Raises:
        ValueError: If there is no such CLIP, it can't be used, or has no weights.
    """
    if settings.model in BUNDLED:
        return Weights("clip", path=bundled_folder(settings.model))
    kind = find_clip(settings)
    if not settings.weights and kind.repository.count("/") != 1:
        raise ValueError(
            f"clip.pretrained {kind.tag!r} has no safetensors on the hub; use clip.weights"
        )

    def check(path: Path) -> None:
        check_clip_file(path, kind)

    return Weights("clip", _local(settings.weights), kind.repository, CLIP_FILES, check)


def dino_weights(settings: DinoSettings) -> Weights:
    """Where the weights of the ViT that the settings name are.

    Raises:
        ValueError: If there is no such ViT, it can't be used, or has no weights.
    """
    name = settings.model
    if name in BUNDLED:
        return Weights("dino", path=bundled_folder(name))
    shapes = find_dino(settings)
    config = timm.get_pretrained_cfg(name)
    repository = (config.hf_hub_id if config else "") or ""
    if not settings.weights and not repository:
        raise ValueError("timm has no weights of this name on the hub; use dino.weights")
    repository += name if repository.endswith("/") else ""

    def check(path: Path) -> None:
        check_dino_file(path, shapes)

    return Weights("dino", _local(settings.weights), repository, DINO_FILES, check)


def find_weights(weights: Weights, download: bool = True) -> Path:
    """The file of a model's weights, fetched into the local cache where it is missing.

    Raises:
        ValueError: If a given file is not there, or is not what it should be.
        HubError: If there is none in the cache, and none can be downloaded.
    """
    if not weights.path:
        return weights_file(weights.repository, weights.names, download, weights.check)
    if weights.path.is_dir():  # a bundled model, or a language model
        return weights.path
    if not weights.path.is_file():
        raise ValueError(f"{weights.kind}.weights: there is no file {weights.path}")
    if weights.path.suffix != ".safetensors":
        raise ValueError(
            f"{weights.kind}.weights: {weights.path} is not a .safetensors file; pickles are not "
            "loaded, convert it"
        )
    try:
        weights.check(weights.path)
    except ValueError as error:
        raise ValueError(f"{weights.kind}.weights: {weights.path} {error}") from None
    return weights.path


def all_weights(settings: SegmenterSettings) -> list[Weights]:
    """Where the weights of all models are that the settings name.

    Raises:
        ModelError: If a model can't be used; nothing was fetched then.
    """
    found = []
    for kind, find in (
        ("dino", lambda: dino_weights(settings.dino)),
        ("clip", lambda: clip_weights(settings.clip)),
    ):
        try:
            found.append(find())
        except ValueError as error:
            model = getattr(settings, kind).model
            raise ModelError(f"{kind}.model {model!r}: {_short(error)}") from error
    if settings.labeling.method == "zerocap":
        name = settings.captions.model
        try:
            files = language_model_files(name)
        except ValueError as error:
            raise ModelError(f"captions.model {name!r}: {error}") from error
        if isinstance(files, Path):
            found.append(Weights("captions", files))
        else:
            found += [Weights("captions", names=(file,), repository=name) for file in files]
    return found


def pull(
    settings: SegmenterSettings,
    download: bool = True,
    newest: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Files of a profile's weights, fetched into the local cache where they are missing.

    What the cache has is held against its checksums, and fetched again where it is damaged.

    Args:
        settings: Names the models.
        download: Whether to fetch; otherwise what is not here is an error, and checksums are not asked.
        newest: Whether to go on to the newest revision of each model.
        say: Takes lines on what is found and fetched.

    Raises:
        ModelError: If they can't be had.
    """
    files = []
    for weights in all_weights(settings):
        try:
            if weights.repository and not weights.path and download:
                files.append(_pull_from_hub(weights, newest, say))
            else:
                files.append(find_weights(weights, download))
                say(f"{files[-1]}: here")
        except (HubError, ValueError) as error:
            name = getattr(settings, weights.kind).model
            if isinstance(error, HubError):
                message = _no_weights(weights.kind, name, error, settings.profile)
            else:
                message = f"{weights.kind}.model {name!r}: {_short(error)}"
            raise ModelError(message) from error
    if download:
        _pull_tokenizer(settings.clip, say)
    return files


def _pull_tokenizer(settings: ClipSettings, say: Callable[[str], None]) -> None:
    """Fetches the tokenizer of a CLIP that does not take open_clip's own; without code, as always."""
    if settings.model in BUNDLED or not (name := find_clip(settings).tokenizer):
        return
    try:
        _tokenizer(settings.model, name)
    except ValueError as error:
        raise ModelError(f"clip.model {settings.model!r}: {error}") from error
    say(f"{name}: tokenizer is here")


def _tokenizer(model: str, name: str) -> Callable[[list[str]], torch.Tensor]:
    """The tokenizer of a CLIP of open_clip.

    Args:
        model: The CLIP.
        name: The tokenizer's on the hub, "" for open_clip's own.

    Raises:
        ValueError: If it can't be had.
    """
    try:
        tokenizer: Callable[[list[str]], torch.Tensor] = open_clip.get_tokenizer(model)
    except ImportError as error:
        raise ValueError(
            f'its tokenizer {name} needs transformers ({error}): pip install "zgs_ros[captions]"'
        ) from error
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"its tokenizer {name} can't be had: {_short(error)}\n`zgs models pull` fetches it where "
            "there is a network"
        ) from error
    return tokenizer


def _pull_from_hub(weights: Weights, newest: bool, say: Callable[[str], None]) -> Path:
    repository = weights.repository
    path = None if newest else find_in_cache(repository, weights.names, weights.check)
    if path and verify(path):
        say(f"{path}: here, {path.stat().st_size / 1e6:,.1f} MB")
        return path
    file = find_file(repository, weights.names, newest)
    say(
        f"{repository}: {file.name}, {file.size / 1e6:,.1f} MB, revision {file.revision[:12]}, "
        f"licence {licence(repository)}"
    )
    path = fetch(file, weights.check)
    say(str(path))
    return path


def _open_clip(
    settings: ClipSettings,
) -> tuple[torch.nn.Module, Callable[[list[str]], torch.Tensor], str]:
    """A CLIP of open_clip, its tokenizer, and the name of its embedding space."""
    name = settings.model
    if name in BUNDLED:
        source = f"local-dir:{bundled_folder(name)}"
        model = open_clip.create_model(source, weights_only=True)
        return model, open_clip.get_tokenizer(source), name
    kind = find_clip(settings)
    tokenizer = _tokenizer(name, kind.tokenizer)
    path = find_weights(clip_weights(settings))
    with Uninitialised():
        model = open_clip.create_model(
            name,
            pretrained=str(path),
            force_quick_gelu=kind.quick_gelu,
            force_preprocess_cfg=kind.preprocessing,
            weights_only=True,
        )
    space = f"{name}/{path.stem if settings.weights else kind.tag}"
    return model, tokenizer, space


def _local(weights: str) -> Path | None:
    return Path(weights).expanduser() if weights else None


def _short(error: Exception) -> str:
    """At most three lines of an error; libraries list all that they miss."""
    lines = [line[:600] for line in str(error).strip().splitlines()]
    return "\n".join(lines[:3])


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
