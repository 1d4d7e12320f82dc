"""Engines of a folder, for the models that are loaded."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from zgs_ros.config import SegmenterSettings
from zgs_ros.embedding.clip import ClipEmbedder
from zgs_ros.engines.manifest import EngineError, check_step, digests, read_manifest
from zgs_ros.engines.running import Engine, open_engine
from zgs_ros.oversegmentation.features import DinoFeatures

logger = logging.getLogger(__name__)


def load_engines(
    settings: SegmenterSettings, dino: DinoFeatures, clip: ClipEmbedder, precision: torch.dtype
) -> dict[str, Engine]:
    """Engines by the name of their step, none with ``backend: torch``; what runs where is logged.

    Raises:
        EngineError: If they are missing, damaged, of other models or settings, or can't be run.
    """
    if settings.backend == "torch":
        return {}
    if settings.reference:
        raise EngineError("backend: reference is done by torch, as in the authors' code")
    if not settings.engines:
        raise EngineError(
            f"engines: backend {settings.backend} needs a folder of them; make one with "
            f"`zgs export --profile {settings.profile} --out FOLDER`, or set backend to torch"
        )
    folder = Path(settings.engines).expanduser()
    steps = read_manifest(folder).steps
    weights = digests(dino, clip)
    engines = {}
    for name in ("features", *(["encoding"] if clip.encodes else [])):
        if name not in steps:
            raise EngineError(f"engines: {folder} has none for {name}; make them with `zgs export`")
        step = steps[name]
        path = check_step(folder, name, step, settings, weights[name])
        engine = open_engine(path, step.inputs, settings.backend, dino.mean.device, precision)
        logger.info("%s runs on %s", name, engine.runs_on)
        engines[name] = engine
    return engines
