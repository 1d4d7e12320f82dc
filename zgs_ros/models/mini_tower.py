"""Image tower of the bundled mini CLIP: a small ViT whose patches come from a few convolutions.

Built like MobileCLIP-B's (convolutions, then plain ViT blocks with a class token), and registered with
timm, so that open_clip makes it from a configuration with ``"timm_model_name": "vit_zgs_mini_192"``.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from timm.layers import HybridEmbed
from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

WIDTH = 128


class Residual(nn.Module):
    """Two convolutions around which the input passes unchanged."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, states: Tensor) -> Tensor:
        """(images, width, rows, columns) to the same."""
        return functional.relu(states + self.second(functional.relu(self.first(states))))


class Stem(nn.Module):
    """Pixels to one vector for every 8 x 8 of them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 24, 3, stride=2, padding=1)
        self.wider = nn.Conv2d(24, 48, 3, padding=1)
        self.second = nn.Conv2d(48, 64, 3, stride=2, padding=1)
        self.fine = Residual(64)
        self.third = nn.Conv2d(64, WIDTH, 3, stride=2, padding=1)
        self.coarse = nn.Sequential(Residual(WIDTH), Residual(WIDTH))

    def forward(self, pixels: Tensor) -> Tensor:
        """(images, 3, height, width) to (images, WIDTH, height / 8, width / 8)."""
        states = pixels
        for layer in (self.first, self.wider, self.second):
            states = functional.relu(layer(states))
        states = functional.relu(self.third(self.fine(states)))
        coarse: Tensor = self.coarse(states)
        return coarse


@register_model  # type: ignore[untyped-decorator]
def vit_zgs_mini_192(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """192 x 192 pixels, 24 x 24 patches, four blocks; weights come with the CLIP that it is part of."""
    if pretrained:
        raise ValueError("vit_zgs_mini_192 has no weights of its own; load the CLIP zgs-mini-clip")
    unused = ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")
    options = {name: value for name, value in kwargs.items() if name not in unused}
    return VisionTransformer(
        img_size=192,
        patch_size=1,
        embed_dim=WIDTH,
        depth=4,
        num_heads=4,
        embed_layer=partial(HybridEmbed, backbone=Stem(), proj=False),
        **options,
    )
