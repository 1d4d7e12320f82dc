"""Embeddings of all segments from one pass: CLIP's own pooling, restricted to each segment.

Every image tower ends in a pooling over patches. Per head h, with weights a_hj > 0 and values v_hj of patch j
and the share mu_j of it that the segment covers, a segment's row is

    y_h = sum_j mu_j a_hj v_hj / sum_j mu_j a_hj

which the tower's head then projects. Weights and values are those that the tower pools the whole image with:
the class token's attention in the last block (the attention masking of Rewatbowornwong et al., "Zero-guidance
Segmentation Using Zero Segment Labels", ICCV 2023, in the class token's last row only), the attention pooling
of SigLIP and PE (Xiao et al., "TextRegion", TMLR 2025), equal ones where the mean is taken. Of the last block
only the attention's values are left, without residual and MLP, as in Lan et al., "ClearCLIP", ECCV 2024.

Both sums are linear in mu: a segment costs a row of a matrix product, and the sums of a union of segments are
the sums of theirs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from zgs_ros.embedding.dense_tower import DenseTower


class PatchTable(NamedTuple):
    """What segments are summed from.

    Attributes:
        terms: float32 (images, patches, heads * (1 + head width)): the weights a of all heads, then a v.
    """

    terms: Tensor

    def image(self, index: int) -> PatchTable:
        """That of one image, still with a first dimension of images."""
        return PatchTable(self.terms[index : index + 1])


def tabulate_patches(tower: DenseTower, pixels: Tensor) -> PatchTable:
    """The tower's one pass over images.

    Args:
        tower: The image tower.
        pixels: (images, 3, height, width), normalised, in the tower's size.
    """
    weights, values = tower.attend(pixels)
    weights = weights.float()
    # Only their ratios count: near 1 nothing underflows in the sums.
    weights = weights / weights.amax(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    weighted = weights[..., None] * values.float()
    return PatchTable(torch.cat([weights, weighted.flatten(2)], dim=2))


def sum_segments(table: PatchTable, shares: Tensor) -> Tensor:
    """Both sums of each segment of one image, float32 (segments, heads * (1 + head width)).

    Args:
        table: Of that image.
        shares: float32 (segments, patches), mu.
    """
    return shares @ table.terms[0]


def embed_sums(tower: DenseTower, sums: Tensor) -> Tensor:
    """Embeddings of segments or unions, (segments, dimensions), of any length.

    Args:
        tower: As for `tabulate_patches`.
        sums: From `sum_segments`, or sums of such rows.
    """
    weights, weighted = sums.tensor_split([tower.heads], dim=1)
    weights = weights.clamp_min(torch.finfo(torch.float32).tiny)[..., None]
    rows = weighted.unflatten(1, (tower.heads, -1)) / weights
    return tower.project(rows.flatten(1).to(tower.weight.dtype))
