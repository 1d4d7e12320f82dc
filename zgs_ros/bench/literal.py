"""The published steps as published: one segment after the other, with explicit attention matrices.

What the package's own path is compared with, on the same weights and in the same arithmetic. Every
segment takes the image through all blocks of CLIP, and the masked ones form M and A row by row of the
paper (Rewatbowornwong et al., "Zero-guidance Segmentation Using Zero Segment Labels", ICCV 2023).
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage
from torch import Tensor
from torch.nn import functional

from zgs_ros.embedding.blocks import finish_block, project_heads
from zgs_ros.embedding.image_tower import ImageTower


@torch.inference_mode()
def embed_segments(
    tower: ImageTower, pixels: Tensor, masks: Tensor, blocks: int, sigma: float
) -> Tensor:
    """Embeds the segments of an image, each on its own.

    Args:
        tower: The image tower.
        pixels: (1, 3, height, width), normalised, in the tower's size.
        masks: float32 (segments, rows, columns), covered share of each patch.
        blocks: Number of last blocks with masked attention.
        sigma: Strength of global subtraction.

    Returns:
        float32 (segments, dimensions), unit norm.
    """
    rows = [_embed_segment(tower, pixels, mask.flatten(), blocks, sigma) for mask in masks]
    return functional.normalize(torch.cat(rows).float(), dim=-1)


def _embed_segment(
    tower: ImageTower, pixels: Tensor, patches: Tensor, blocks: int, sigma: float
) -> Tensor:
    mu = functional.pad(patches, (1, 0), value=1.0).to(pixels.dtype)
    states = tower.embed(pixels)  # (1, tokens, width)
    for block in tower.blocks[:-blocks]:
        states = block(states)
    for block in tower.blocks[-blocks:]:
        queries, keys, values = project_heads(block, states)  # (1, heads, tokens, head width)
        logits = queries @ keys.transpose(-2, -1) / queries.shape[-1] ** 0.5
        attention = logits.softmax(-1)  # A, (1, heads, tokens, tokens)
        masked = attention * mu
        masked = masked / masked.sum(-1, keepdim=True)  # M
        saliency = functional.cosine_similarity(masked, attention, dim=-1).mean()
        weight = torch.exp(-((saliency + 1.0) ** 2) / sigma)
        subtracted = masked - weight * attention[:, :, :1]  # M'
        attended = (subtracted @ values).transpose(1, 2).flatten(2)
        states = finish_block(block, states, attended)
    return tower.project(states[:, 0])


def cover(masks: NDArray[np.bool_], grid: tuple[int, int]) -> Tensor:
    """Covered share of each patch, float32 (segments, rows, columns), of (segments, height, width)."""
    size = (grid[1], grid[0])
    shares = [cv2.resize(m.astype(np.float32), size, interpolation=cv2.INTER_AREA) for m in masks]
    return torch.from_numpy(np.stack(shares))


def cluster(features: Tensor) -> None:
    """Ward clustering of all positions, without connectivity, of features (rows, columns, width)."""
    linkage(features.flatten(0, 1).double().cpu().numpy(), "ward")
