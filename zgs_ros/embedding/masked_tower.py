"""The two steps of embedding segments: what they share, once per image, and the masked blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from zgs_ros.embedding.blocks import run_block
from zgs_ros.embedding.global_subtraction import SharedAttention, masked_blocks, token_mask
from zgs_ros.embedding.image_tower import ImageTower
from zgs_ros.gpu.replay import replayed

REPLAYED_SEGMENTS = (1, 2, 4, 8, 12, 16, 24, 32)
"""Numbers of segments that are recorded; fewer are filled up, more to multiples of 16."""


@dataclass(frozen=True, eq=False)
class MaskedTower:
    """An image tower whose last blocks see single segments.

    Attributes:
        tower: The blocks and what is around them.
        blocks: Number of last blocks whose attention is masked.
        sigma: Strength of global subtraction; None masks only.
    """

    tower: ImageTower
    blocks: int
    sigma: float | None

    def share(self, pixels: Tensor) -> SharedAttention:
        """All that no segment influences: the blocks before the masked ones, and what these share.

        Args:
            pixels: (images, 3, height, width), normalised, in the tower's size.
        """
        tokens = self.tower.embed(pixels)
        for block in self.tower.blocks[: -self.blocks]:
            tokens = run_block(block, tokens)
        return SharedAttention.of(self.tower.blocks[-self.blocks], tokens, self.sigma)

    def embed(self, shared: SharedAttention, counts: Sequence[int], masks: Tensor) -> Tensor:
        """Embeds segments.

        Args:
            shared: Of their images.
            counts: Segments of each image, at least one in all.
            masks: (segments, rows, columns) in [0, 1], covered share of each patch; image by image.

        Returns:
            float32 (segments, dimensions), unit norm.
        """
        class_tokens = masked_blocks(
            self.tower.blocks[-self.blocks :],
            shared,
            counts,
            token_mask(masks, self.tower.grid),
            self.sigma,
        )
        return unit(self.tower.project(class_tokens))


class ReplayedTower:
    """A masked tower whose steps are recorded and replayed where the device can do that.

    Args:
        masked: The tower.
    """

    def __init__(self, masked: MaskedTower) -> None:
        device = masked.tower.weight.device
        self._share = replayed(lambda pixels: masked.share(pixels).tensors, "encoding", device)
        self._embed = replayed(
            lambda masks, *shared: (
                masked.embed(SharedAttention.of_tensors(shared), [len(masks)], masks),
            ),
            "embedding",
            device,
        )

    def share(self, pixels: Tensor) -> SharedAttention:
        """As `MaskedTower.share`."""
        return SharedAttention.of_tensors(self._share(pixels))

    def embed(self, shared: SharedAttention, counts: Sequence[int], masks: Tensor) -> Tensor:
        """As `MaskedTower.embed`, image by image: all their numbers together would hardly come again."""
        return torch.cat(
            [
                self._embed(_fill_up(part), *shared.image(image).tensors)[0][: len(part)]
                for image, part in enumerate(masks.split(list(counts)))
                if len(part)
            ]
        )


def unit(rows: Tensor) -> Tensor:
    """Rows of any type as float32 of unit norm."""
    return functional.normalize(rows.float(), dim=-1)


def _fill_up(masks: Tensor) -> Tensor:
    """Empty masks behind (segments, rows, columns), up to a number that is recorded."""
    count = len(masks)
    wanted = next((n for n in REPLAYED_SEGMENTS if n >= count), 16 * math.ceil(count / 16))
    return functional.pad(masks, (0, 0, 0, 0, 0, wanted - count))
