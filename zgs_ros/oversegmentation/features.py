"""DINO patch features: the keys of the last block, at overlapping patches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import torch
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torch.nn import functional

from zgs_ros.oversegmentation.grid_attention import Grid, run_block
from zgs_ros.oversegmentation.rotary import has_rotary_positions, turns
from zgs_ros.resizing import resize_images
from zgs_ros.timm_block import KEYS, is_plain, project

KEPT_SIZES = 8
"""Sizes of images whose position embeddings are kept."""
WAY_OUT = (
    "use for example vit_small_patch8_224.dino, vit_small_patch14_reg4_dinov2 or "
    "vit_small_patch16_dinov3"
)
MAX_ASPECT = 3.0
"""Longer images are squashed to this ratio of sides, which bounds time and memory."""


class DinoFeatures(torch.nn.Module):
    """Dense features of a ViT: DINO, DINOv2 with or without registers, DINOv3.

    The feature of a patch is its key in the last block, heads concatenated, L2-normalised. The patch
    convolution runs at a stride below the patch size, so that patches overlap and features are denser;
    position embeddings are interpolated to match. DINOv3's keys are taken before they are turned by where
    the patch is: alike things are alike anywhere.

    Args:
        model: A ViT of timm with fused qkv: a VisionTransformer with absolute position embeddings, or
            one built like DINOv3, see `zgs_ros.oversegmentation.rotary`.
        short_side: Pixels of the short image side that the model sees.
        stride: Pixels between neighbouring patches, in that image.
        attention: What patches attend to: ``"all"`` of them, or a ``"grid"`` that does not overlap, see
            `zgs_ros.oversegmentation.grid_attention`.
        reference: Whether images are resized and positions interpolated as in the authors' code.

    Raises:
        ValueError: If the model is of another kind, or `stride` exceeds its patch size.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: torch.nn.Module,
        short_side: int = 224,
        stride: int = 4,
        attention: Literal["all", "grid"] = "all",
        reference: bool = False,
    ) -> None:
        super().__init__()
        self._turns = has_rotary_positions(model)
        absolute = isinstance(model, VisionTransformer) and model.pos_embed is not None
        if not (self._turns or absolute):
            raise ValueError(
                f"dino.model: {type(model).__name__} is not a ViT with absolute position embeddings, or "
                f"like DINOv3; {WAY_OUT}"
            )
        vit: Any = model  # timm's ViTs have more attributes than their type declares
        self.model: Any = vit.eval().requires_grad_(False)
        self.patch = int(self.model.patch_embed.patch_size[0])
        if stride > self.patch or short_side < self.patch:
            raise ValueError(
                f"dino.stride: {stride} and dino.short_side: {short_side} do not fit patches of "
                f"{self.patch} pixels (1 <= stride <= patch <= short side)"
            )
        if attention == "grid" and not all(is_plain(block) for block in self.model.blocks):
            raise ValueError(
                "dino.attention: grid, but the model's blocks have an attention of their own; use all"
            )
        self.short_side = short_side
        self.stride = stride
        self._looks_at_grid = attention == "grid" and stride < self.patch
        self._reference = reference
        self._positions: dict[tuple[int, int], Tensor] = {}
        config: Any = self.model.pretrained_cfg
        self.register_buffer(
            "mean", torch.tensor(config["mean"]).view(1, 3, 1, 1), persistent=False
        )
        self.register_buffer("std", torch.tensor(config["std"]).view(1, 3, 1, 1), persistent=False)

    def as_reference(self) -> DinoFeatures:
        """The same model, used as in the authors' code."""
        attention: Literal["all", "grid"] = "grid" if self._looks_at_grid else "all"
        features = DinoFeatures(self.model, self.short_side, self.stride, attention, reference=True)
        return features.to(self.mean).eval()

    def resize(self, images: Sequence[Tensor]) -> Tensor:
        """Images of one size, as the model sees them, in [0, 1].

        Args:
            images: uint8 RGB (height, width, 3) each, all of the same size.

        Returns:
            float32 (images, 3, height', width'), short side `short_side`.
        """
        mode: Literal["lanczos", "bilinear"] = "lanczos" if self._reference else "bilinear"
        return resize_images(images, self.resized(*images[0].shape[:2]), mode)

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) in pixels of what the model sees of an image of this size."""
        aspect = min(max(height, width) / min(height, width), MAX_ASPECT)
        if self._reference:
            long_side = int(self.short_side * aspect)
            return (self.short_side, long_side) if height <= width else (long_side, self.short_side)
        # Whole strides, so that the patches reach the image's far edge.
        strides = round((self.short_side * aspect - self.patch) / self.stride)
        long_side = self.patch + strides * self.stride
        return (self.short_side, long_side) if height <= width else (long_side, self.short_side)

    @torch.inference_mode()
    def forward(self, pixels: Tensor) -> Tensor:
        """Keys at every patch position, without gradients; see `keys`."""
        return self.keys(pixels)

    def keys(self, pixels: Tensor) -> Tensor:
        """Keys at every patch position.

        Args:
            pixels: float32 (images, 3, height, width) in [0, 1].

        Returns:
            float32 (images, rows, columns, width), unit norm.
        """
        model = self.model
        projection = model.patch_embed.proj
        pixels = ((pixels - self.mean) / self.std).to(projection.weight.dtype)
        grid = functional.conv2d(pixels, projection.weight, projection.bias, stride=self.stride)
        batch, _, rows, columns = grid.shape
        tokens = model.norm_pre(self._add_positions(grid.flatten(2).transpose(1, 2), rows, columns))
        *blocks, last = model.blocks
        if self._turns:
            rope = turns(model, rows, columns, self.patch, self.stride)
            blocks = [partial(block, rope=rope) for block in blocks]
        if self._looks_at_grid:
            looked_at = Grid.of(tokens, rows, columns, self.patch, self.stride)
            blocks = [partial(run_block, block, grid=looked_at) for block in blocks]
        for block in blocks:
            tokens = block(tokens)
        keys = project(last.attn, last.norm1(tokens[:, -rows * columns :]), KEYS)
        return functional.normalize(keys.float(), dim=-1).view(batch, rows, columns, -1)

    def _add_positions(self, patches: Tensor, rows: int, columns: int) -> Tensor:
        """Class and register tokens in front, positions added where the model was trained to have some."""
        model = self.model
        extra = [
            token.expand(len(patches), -1, -1).to(patches.dtype)
            for token in (model.cls_token, model.reg_token)
            if token is not None
        ]
        if self._turns:
            return torch.cat([*extra, patches], dim=1)
        positions = self._find_positions(rows, columns, patches)
        if model.no_embed_class:
            return torch.cat([*extra, patches + positions], dim=1)
        return torch.cat([*extra, patches], dim=1) + positions

    def _find_positions(self, rows: int, columns: int, like: Tensor) -> Tensor:
        """Position embeddings of a grid of patches, kept for images of one size unless they are in training."""
        if self.training:
            return self._resample_positions(rows, columns).to(like.dtype)
        kept = self._positions.get((rows, columns))
        if kept is not None and kept.device == like.device and kept.dtype == like.dtype:
            return kept
        with torch.inference_mode(False), torch.no_grad():
            positions = self._resample_positions(rows, columns).to(like.dtype)
        if not torch.compiler.is_compiling():  # which has no values
            if len(self._positions) == KEPT_SIZES:
                self._positions.clear()
            self._positions[rows, columns] = positions
        return positions

    def _resample_positions(self, rows: int, columns: int) -> Tensor:
        in_positions = 0 if self.model.no_embed_class else self.model.num_prefix_tokens
        resample = _resample_as_dino if self._reference else resample_abs_pos_embed
        positions: Tensor = resample(
            self.model.pos_embed, [rows, columns], num_prefix_tokens=in_positions
        )
        return positions


def _resample_as_dino(positions: Tensor, size: Sequence[int], num_prefix_tokens: int = 1) -> Tensor:
    """As timm's `resample_abs_pos_embed`, in the way of DINO's own code.

    Cubic convolution with a = -0.75 instead of -0.5, and by factors that a tenth of a position is added
    to (there against rounding down), so that a map grows a little more than its number of positions.
    """
    prefix, grid = positions[:, :num_prefix_tokens], positions[:, num_prefix_tokens:]
    side = round(grid.shape[1] ** 0.5)
    square = grid.float().unflatten(1, (side, side)).permute(0, 3, 1, 2)
    rows, columns = size
    resized = (
        square
        if (rows, columns) == (side, side)
        else functional.interpolate(
            square,
            scale_factor=((rows + 0.1) / side, (columns + 0.1) / side),
            mode="bicubic",
            recompute_scale_factor=False,
        )
    )
    return torch.cat([prefix, resized.flatten(2).transpose(1, 2).to(prefix)], dim=1)
