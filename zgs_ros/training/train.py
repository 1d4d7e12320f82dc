"""Trains the bundled mini models: ``python -m zgs_ros.training.train dino|clip``."""

from __future__ import annotations

import argparse
import logging
import shutil
from collections.abc import Sequence
from dataclasses import fields, replace
from importlib import resources
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

from zgs_ros.models.hub import sha256
from zgs_ros.training.examples import ObjectCrops
from zgs_ros.training.naming import Directions
from zgs_ros.training.pool import SHARD, ScenePool, render_pool
from zgs_ros.training.train_clip import ClipTrainer, ClipTraining, grid_of, load_config
from zgs_ros.training.train_dense import DenseTrainer, DenseTraining
from zgs_ros.training.train_dino import DinoTrainer, DinoTraining
from zgs_ros.training.train_stem import StemTrainer, StemTraining

HELD_OUT_SEED = 2_100_000_000
"""Scenes from here on are never trained on."""

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Renders the scenes that are missing, trains (resuming where it stopped), writes the weights."""
    options = _parse(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if options.threads:
        torch.set_num_threads(options.threads)
    work: Path = options.work
    render_pool(work / "scenes", options.scenes, workers=options.workers)
    pool = ScenePool(work / "scenes")
    out = work / options.model
    out.mkdir(parents=True, exist_ok=True)
    config = Path(str(resources.files("zgs_ros.models") / "mini")) / options.model
    given = {name: getattr(options, name) for name in ("steps", "batch", "seed")}
    given = {name: value for name, value in given.items() if value is not None}
    if options.model == "dino":
        dino_settings = replace(DinoTraining(), **given)
        dino = DinoTrainer(config, pool, out, dino_settings)
        dino.run()
        backbone = first_blocks(dino.model, config)
        dense = DenseTrainer(backbone, pool, out, DenseTraining(seed=dino_settings.seed))
        dense.run()
        export(dense.model, options.output or config, "model.safetensors", config / "config.json")
    else:
        render_pool(work / "held_out", SHARD, HELD_OUT_SEED, workers=1)
        settings = replace(ClipTraining(), **given)
        directions = Directions.make(load_config(config)["embed_dim"], settings.seed)
        crops = ObjectCrops(pool, grid_of(config), settings.window, settings.recolour)
        stem = StemTrainer(crops, directions, out, StemTraining(seed=settings.seed)).run()
        clip = ClipTrainer(config, pool, crops, stem, directions, out, settings)
        clip.run(held_out=ScenePool(work / "held_out"))
        export(
            clip.average,
            options.output or config,
            "open_clip_model.safetensors",
            config / "open_clip_config.json",
        )


def first_blocks(model: torch.nn.Module, config: Path) -> torch.nn.Module:
    """The model of the configuration with the weights of a deeper one's first blocks."""
    shallow = timm.create_model(f"local-dir:{config}", pretrained=False, num_classes=0)
    weights = model.state_dict()
    shallow.load_state_dict({name: weights[name] for name in shallow.state_dict()})
    return shallow


def export(model: torch.nn.Module, folder: Path, weights: str, config: Path) -> None:
    """Writes the weights in float16, the configuration, and the checksums that loading verifies."""
    folder.mkdir(parents=True, exist_ok=True)
    if folder.resolve() != config.parent.resolve():
        shutil.copyfile(config, folder / config.name)
    tensors = {
        name: value.detach().half().contiguous() for name, value in model.state_dict().items()
    }
    save_file(tensors, folder / weights)
    (folder / weights).chmod(0o644)  # whoever installs the package reads it
    lines = [f"{sha256(folder / name)}  {name}\n" for name in (config.name, weights)]
    (folder / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")
    logger.info("wrote %s (%.1f MB)", folder / weights, (folder / weights).stat().st_size / 1e6)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    defaults = {field.name: field.default for field in fields(ClipTraining)}
    parser = argparse.ArgumentParser(prog="python -m zgs_ros.training.train", description=__doc__)
    parser.add_argument("model", choices=("dino", "clip"))
    parser.add_argument(
        "--work", type=Path, default=Path("training"), help="scenes, logs and state"
    )
    parser.add_argument(
        "--output", type=Path, help="folder for the weights; default: inside the package"
    )
    parser.add_argument("--scenes", type=int, default=12_000, help="rendered scenes to train on")
    parser.add_argument(
        "--steps", type=int, help=f"clip: {defaults['steps']}, dino: {DinoTraining().steps}"
    )
    parser.add_argument("--batch", type=int, help="scenes per step")
    parser.add_argument("--seed", type=int, help="of weights, order and augmentation")
    parser.add_argument("--workers", type=int, default=2, help="rendering processes")
    parser.add_argument("--threads", type=int, help="CPU threads of the training")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
