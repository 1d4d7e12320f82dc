"""Named sets of values for the model settings; what the user gives wins over them.

Launch files read their names, so that this needs nothing but Python.
"""

from __future__ import annotations

from typing import Any

PROFILES: dict[str, dict[str, Any]] = {
    "paper": {
        "reference": True,
        "dino.stride": 2,
        "clustering.groups": 0,
        "refinement.method": "crf",
        "refinement.components": False,
        "refinement.min_area": 0.0,
        "labeling.method": "zerocap",
    },
    "balanced": {},
    "fast": {
        "dino.stride": 8,
        "clustering.groups": 256,
        "clip.model": "ViT-B-16",
    },
    "edge": {
        "dino.model": "vit_small_patch16_224.dino",
        "dino.short_side": 256,
        "dino.stride": 16,
        "clustering.groups": 0,
        "clip.model": "ViT-B-16",
        "clip.pretrained": "datacomp_xl_s13b_b90k",
        "clip.mode": "dense",
    },
    "mini": {
        "dino.model": "zgs-mini-dino",
        "dino.short_side": 168,
        "dino.stride": 8,
        "clustering.groups": 0,
        "clustering.threshold": 0.92,
        "clip.model": "zgs-mini-clip",
        "clip.pretrained": "bundled",
        "clip.masked_blocks": 1,
        "clip.sigma": 1.0,
        "labeling.vocabulary": "synthetic",
        "refinement.temperature": 0.1,
        "refinement.radius": 16,
        "refinement.min_component": 0.004,
        # Chosen on the synthetic world: cosines of this CLIP's embeddings are not those of others.
        "merging.threshold": 0.65,
        "merging.greedy": True,
        "tracking.min_similarity": 0.9,
        "tracking.smoothing_similarity": 0.6,
    },
}
"""What each profile sets, by dotted path; everything else keeps the default of its field."""

AUTO = "auto"
"""Stands for the profile that fits the machine, see `zgs_ros.config.machine`."""

PROFILE_NAMES = ", ".join((*PROFILES, AUTO))
"""For help texts."""
