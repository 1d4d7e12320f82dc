"""The image tower of a CLIP as the masked blocks need it, whichever library defines it.

open_clip has a ViT of its own (OpenAI's and LAION's CLIPs) and wraps those of timm (MobileCLIP-B, whose
patches come from convolutions, and the bundled mini CLIP). Both become the same thing here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from open_clip.timm_model import TimmModel
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer
from torch import Tensor, nn

from zgs_ros.timm_block import is_plain

WAY_OUT = "an open_clip ViT such as ViT-B-16, ViT-L-14-336 or MobileCLIP2-B"


@dataclass(frozen=True, eq=False)
class ImageTower:
    """A ViT with class-token pooling; its weights are those of the model that it was taken from.

    Attributes:
        embed: float (images, 3, *image_size), normalised, to the tokens that the first block sees,
            (images, 1 + patches, width).
        blocks: All blocks, first to last.
        project: Class tokens behind the last block, (rows, width), to (rows, dimensions).
        image_size: (height, width) of the input.
        grid: (rows, columns) of patches.
        dimensions: Length of an embedding.
        weight: One of the weights: where and in which arithmetic the tower computes.
        width: Length of a token.
    """

    embed: Callable[[Tensor], Tensor]
    blocks: Sequence[ResidualAttentionBlock]
    project: Callable[[Tensor], Tensor]
    image_size: tuple[int, int]
    grid: tuple[int, int]
    dimensions: int
    weight: Tensor
    width: int

    @classmethod
    def of(cls, model: nn.Module, name: str) -> ImageTower:
        """The tower of an open_clip model.

        Raises:
            ValueError: If it is not a ViT, pools by other means than the class token, or its blocks
                have an attention of their own.
        """
        visual = getattr(model, "visual", None)
        if isinstance(visual, VisionTransformer):
            return _of_open_clip(visual, name)
        if isinstance(visual, TimmModel) and isinstance(visual.trunk, TimmVisionTransformer):
            return _of_timm(visual, name)
        kind = type(getattr(visual, "trunk", visual)).__name__
        raise ValueError(f"{name}: its image tower is {kind}, not a plain ViT")


def _of_open_clip(visual: VisionTransformer, name: str) -> ImageTower:
    if visual.pool_type != "tok" or visual.attn_pool is not None:
        raise ValueError(f"{name}: its image tower pools by other means than the class token")
    blocks = list(visual.transformer.resblocks)
    if not all(isinstance(block, ResidualAttentionBlock) for block in blocks):
        raise ValueError(f"{name}: its blocks have an attention of their own")
    return ImageTower(
        embed=visual._embeds,
        blocks=blocks,
        project=lambda rows: visual.ln_post(rows) @ visual.proj,
        image_size=visual.image_size,
        grid=visual.grid_size,
        dimensions=int(visual.output_dim),
        weight=visual.conv1.weight,
        width=int(visual.conv1.out_channels),
    )


def _of_timm(visual: TimmModel, name: str) -> ImageTower:
    trunk: Any = visual.trunk
    if trunk.global_pool != "token" or trunk.cls_token is None or trunk.num_prefix_tokens != 1:
        raise ValueError(f"{name}: its image tower pools by other means than the class token")

    def embed(pixels: Tensor) -> Tensor:
        tokens: Tensor = trunk.norm_pre(trunk._pos_embed(trunk.patch_embed(pixels)))
        return tokens

    def project(rows: Tensor) -> Tensor:
        embedded: Tensor = visual.head(trunk.head(trunk.fc_norm(trunk.norm(rows))))
        return embedded

    with torch.no_grad():
        weight = next(trunk.parameters())
        probe = torch.zeros(1, trunk.num_features, dtype=weight.dtype, device=weight.device)
        dimensions = project(probe).shape[1]
    return ImageTower(
        embed=embed,
        blocks=[_as_open_clip(block, name) for block in trunk.blocks],
        project=project,
        image_size=visual.image_size,
        grid=trunk.patch_embed.grid_size,
        dimensions=dimensions,
        weight=weight,
        width=int(trunk.num_features),
    )


def _as_open_clip(block: Any, name: str) -> ResidualAttentionBlock:
    """open_clip's block around the layers and weights of a timm block, which computes the same."""
    if not is_plain(block):
        raise ValueError(f"{name}: its blocks have an attention of their own")
    attention, width = block.attn, block.attn.qkv.in_features
    bias = attention.qkv.bias
    same = ResidualAttentionBlock(width, attention.num_heads, mlp_ratio=1.0)
    same.ln_1, same.ln_2, same.mlp = block.norm1, block.norm2, block.mlp
    same.ls_1, same.ls_2 = block.ls1, block.ls2
    same.attn.in_proj_weight = attention.qkv.weight
    same.attn.in_proj_bias = (
        bias
        if bias is not None
        else nn.Parameter(attention.qkv.weight.new_zeros(3 * width), requires_grad=False)
    )
    same.attn.out_proj = attention.proj
    return same.train(block.training)
