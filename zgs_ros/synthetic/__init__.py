"""A synthetic world: scenes with complete ground truth, rendered on demand.

It trains the bundled mini models, is the ground truth of the evaluation, and the camera of the
demo. Names are imported on first use, so that importing the package stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zgs_ros.synthetic.camera import SyntheticCamera
    from zgs_ros.synthetic.captioning import captions
    from zgs_ros.synthetic.catalogue import (
        BACKDROPS,
        COLOURS,
        GROUNDS,
        HELD_OUT_KINDS,
        KINDS,
        PATTERNS,
        phrases,
    )
    from zgs_ros.synthetic.frame import Frame, Thing
    from zgs_ros.synthetic.renderer import render
    from zgs_ros.synthetic.sampling import sample_scene
    from zgs_ros.synthetic.scene import Scene

_HOME = {
    "BACKDROPS": "catalogue",
    "COLOURS": "catalogue",
    "GROUNDS": "catalogue",
    "KINDS": "catalogue",
    "PATTERNS": "catalogue",
    "phrases": "catalogue",
    "HELD_OUT_KINDS": "catalogue",
    "SyntheticCamera": "camera",
    "captions": "captioning",
    "Frame": "frame",
    "Thing": "frame",
    "render": "renderer",
    "sample_scene": "sampling",
    "Scene": "scene",
}

__all__ = [
    "BACKDROPS",
    "COLOURS",
    "GROUNDS",
    "HELD_OUT_KINDS",
    "KINDS",
    "PATTERNS",
    "Frame",
    "Scene",
    "SyntheticCamera",
    "Thing",
    "captions",
    "phrases",
    "render",
    "sample_scene",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
