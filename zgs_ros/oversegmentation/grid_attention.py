"""Attention to a grid of patches that do not overlap, however many patches look.

At a stride below the patch size every pixel is in several patches, and attention among all of them costs
the square of their number. Here all patches have queries, but only those of a grid that tiles the image
once have keys and values, as the model was trained with; each stands for the patches around it, so its
logit is raised by the logarithm of their number. The cost grows linearly with the patches that look. At
a stride of the patch size nothing changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from zgs_ros.timm_block import KEYS, QUERIES, VALUES, project


@dataclass(frozen=True, eq=False)
class Grid:
    """The tokens that others attend to.

    Attributes:
        tokens: int64 (attended,), their indices among all tokens.
        bias: (1, 1, 1, attended), what is added to their logits.
    """

    tokens: Tensor
    bias: Tensor

    @classmethod
    def of(cls, states: Tensor, rows: int, columns: int, patch: int, stride: int) -> Grid:
        """The grid of patches in tokens (batch, prefix + rows * columns, width); the prefix is in it.

        Args:
            states: The tokens.
            rows: Patches from top to bottom.
            columns: Patches from left to right.
            patch: Pixels of a patch.
            stride: Pixels between neighbouring patches.
        """
        device = states.device
        prefix = states.shape[1] - rows * columns
        down, across = (_spread(count, patch, stride, device) for count in (rows, columns))
        patches = prefix + (down[:, None] * columns + across).flatten()
        tokens = torch.cat([torch.arange(prefix, device=device), patches])
        bias = states.new_zeros(len(tokens))
        bias[prefix:] = math.log(rows * columns / len(patches))
        return cls(tokens, bias[None, None, None])


def run_block(block: Any, states: Tensor, grid: Grid) -> Tensor:
    """A plain timm block in which all tokens attend to the grid's, (batch, tokens, width) to the same."""
    attention, normal = block.attn, block.norm1(states)
    attended_to = normal[:, grid.tokens]
    queries, keys, values = (
        project(attention, tokens, part).unflatten(2, (attention.num_heads, -1)).transpose(1, 2)
        for tokens, part in ((normal, QUERIES), (attended_to, KEYS), (attended_to, VALUES))
    )
    attended = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=grid.bias)
    states = states + block.ls1(attention.proj(attended.transpose(1, 2).flatten(2)))
    output: Tensor = states + block.ls2(block.mlp(block.norm2(states)))
    return output


def _spread(count: int, patch: int, stride: int, device: torch.device) -> Tensor:
    """Of so many patches in a line as few as cover all that these cover, evenly spread."""
    few = math.ceil((count - 1) * stride / patch) + 1
    return torch.linspace(0, count - 1, few, device=device).round().long()
