"""``zgs export``: engines for OpenVINO and ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zgs_ros.cli.options import Profile, Sets


def export(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where to; made if missing.")],
    profile: Profile = None,
    size: Annotated[
        str, typer.Option(metavar="WxH", help="Of the camera's images: engines have fixed shapes.")
    ] = "640x480",
    set_: Sets = None,
) -> None:
    """Write the models as ONNX files for backend=openvino and backend=onnxruntime.

    Each file is run by what is installed of both, and held against PyTorch on random input. Afterwards:
    zgs run --set backend=openvino --set engines=FOLDER
    """
    from zgs_ros.cli.options import command, image_size, node_settings

    with command():
        import torch
        from rich.console import Console

        from zgs_ros.engines.making import make_engines
        from zgs_ros.models.loading import load_clip, load_dino

        width_height = image_size(size)
        settings = node_settings(None, {"profile": profile}, set_ or [])
        device = torch.device("cpu")
        dino = load_dino(settings.dino, device, torch.float32, settings.profile)
        clip = load_clip(settings.clip, device, torch.float32, settings.profile)
        out_ = Console(highlight=False, soft_wrap=True)
        make_engines(settings, dino, clip, out, width_height, lambda line: out_.print(line))
        out_.print(f"use them with --set backend=openvino --set engines={out}")
