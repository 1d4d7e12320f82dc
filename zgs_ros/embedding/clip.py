"""CLIP as the pipeline uses it: images with segment masks, and texts, into one embedding space."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from torch import Tensor

from zgs_ros.embedding.continuations import embed_continuations, reads_end_token
from zgs_ros.embedding.coverage import cover, pool
from zgs_ros.embedding.global_subtraction import SharedAttention
from zgs_ros.embedding.image_tower import ImageTower
from zgs_ros.embedding.masked_tower import MaskedTower, ReplayedTower, unit
from zgs_ros.gpu.upload import upload
from zgs_ros.resizing import resize_images

TEXT_BATCH = 256
CPU_CACHE = 40_000_000
"""Bytes of a block's widest values that a CPU goes through at once; more of them is slower."""
Mode = Literal["global_subtraction", "mask", "crop"]
Masks = NDArray[np.bool_] | Sequence[NDArray[np.bool_]]


class ClipEmbedder:
    """Embeds segments and texts with one CLIP model.

    Args:
        model: An open_clip model with a ViT image tower and class-token pooling.
        tokenizer: Texts to int64 (texts, context length).
        name: Names the embedding space, for example ``"ViT-L-14-336/openai"``.
        mode: How a segment is embedded: ``"global_subtraction"``, ``"mask"`` (the same with w = 0), or
            ``"crop"`` (its bounding box, black outside the segment, through the plain model).
        blocks: Number of last blocks whose attention is masked.
        sigma: Strength of global subtraction.
        segment_batch: Segments that go through the masked blocks together.
        cuda_graphs: Whether a GPU replays recorded steps, see `zgs_ros.gpu.replay`.
        reference: Whether the share of a patch that a mask covers is taken as in the authors' code.

    Raises:
        ValueError: If the image tower is not a ViT with class-token pooling, or has fewer blocks than
            `blocks`.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        tokenizer: Callable[[list[str]], Tensor],
        name: str,
        mode: Mode = "global_subtraction",
        blocks: int = 4,
        sigma: float = 5.0,
        segment_batch: int = 32,
        cuda_graphs: bool = False,
        reference: bool = False,
    ) -> None:
        self.name = name
        self._model: Any = model.eval().requires_grad_(False)
        self._tower = _check_blocks(ImageTower.of(model, name), name, blocks)
        self._tokenizer = tokenizer
        self._mode: Mode = mode
        self._blocks = blocks
        self._sigma = sigma
        self._segment_batch = min(segment_batch, _cacheable_segments(self._tower))
        visual, device = self._model.visual, self._tower.weight.device
        self._mean = _channels(getattr(visual, "image_mean", open_clip.OPENAI_DATASET_MEAN), device)
        self._std = _channels(getattr(visual, "image_std", open_clip.OPENAI_DATASET_STD), device)
        self._cuda_graphs = cuda_graphs
        self._reference = reference
        masked = MaskedTower(self._tower, blocks, sigma if mode == "global_subtraction" else None)
        self._masked = ReplayedTower(masked) if cuda_graphs else masked

    @property
    def dimensions(self) -> int:
        """Length of an embedding."""
        return self._tower.dimensions

    def variant(self, mode: Mode, blocks: int, sigma: float) -> ClipEmbedder:
        """Another way to embed segments with the same model, whose weights are shared.

        Raises:
            ValueError: If the model has fewer blocks than `blocks`.
        """
        return self._with(mode=mode, blocks=blocks, sigma=sigma)

    def with_cuda_graphs(self) -> ClipEmbedder:
        """The same, but a GPU replays recorded steps; see `zgs_ros.gpu.replay`."""
        return self._with(cuda_graphs=True)

    def as_reference(self) -> ClipEmbedder:
        """The same, but masks are reduced to patches as in the authors' code."""
        return self._with(reference=True)

    def _with(self, **changes: Any) -> ClipEmbedder:
        settings = {
            "mode": self._mode,
            "blocks": self._blocks,
            "sigma": self._sigma,
            "segment_batch": self._segment_batch,
            "cuda_graphs": self._cuda_graphs,
            "reference": self._reference,
        }
        return ClipEmbedder(self._model, self._tokenizer, self.name, **{**settings, **changes})

    def fingerprint(self) -> str:
        """Hash of the text tower's weights: tells apart models that share a name."""
        digest = hashlib.sha256(self.name.encode())
        text = _text_tower(self._model)
        for weight in (text.token_embedding.weight[:256], text.text_projection):
            digest.update(weight.detach().float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    @torch.inference_mode()
    def embed_segments(
        self, images: Sequence[NDArray[np.uint8]], masks: Sequence[NDArray[np.bool_]]
    ) -> list[NDArray[np.float32]]:
        """Embeds every segment of every image.

        Args:
            images: uint8 RGB (height, width, 3) each.
            masks: (segments, height, width) each, booleans or shares in [0, 1], of the image's size.

        Returns:
            Per image float32 (segments, dimensions) of unit norm.

        Raises:
            ValueError: If a mask does not have the size of its image.
        """
        for image, mask in zip(images, masks, strict=True):
            if mask.shape[1:] != image.shape[:2]:
                raise ValueError(f"masks {mask.shape[1:]} do not fit an image of {image.shape[:2]}")
        device = self._tower.weight.device
        return self.encode([upload(image, device) for image in images]).embed(masks)

    @torch.inference_mode()
    def encode(self, images: Sequence[Tensor]) -> EncodedImages:
        """Runs all that does not depend on segments, once per image; see `EncodedImages.embed`.

        Args:
            images: uint8 RGB (height, width, 3) each, where the model is.
        """
        if self._mode == "crop":
            return EncodedImages(self, images, None)
        pixels = torch.cat([self._preprocess(image) for image in images])
        return EncodedImages(self, images, self._masked.share(pixels))

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32 (texts, dimensions) of unit norm."""
        batches = [
            self._model.encode_text(
                self._tokenizer(list(texts[i : i + TEXT_BATCH])).to(self._tower.weight.device)
            )
            for i in range(0, len(texts), TEXT_BATCH)
        ]
        if not batches:
            return np.zeros((0, self.dimensions), np.float32)
        return unit(torch.cat(batches)).cpu().numpy()

    @torch.no_grad()
    def embed_continuations(self, texts: Sequence[str], groups: Sequence[int]) -> Tensor:
        """As `embed_texts`, but faster for texts of which many begin alike.

        Args:
            texts: At least one.
            groups: Number of each text's group, from 0 on without gaps; texts of a group begin alike.

        Returns:
            float32 (texts, dimensions) of unit norm, on the model's device.
        """
        tower = _text_tower(self._model)
        if not reads_end_token(tower):
            return torch.from_numpy(self.embed_texts(texts)).to(self._tower.weight.device)
        return embed_continuations(tower, self._tokenizer, texts, groups)

    def _preprocess(self, image: Tensor) -> Tensor:
        """(1, 3, height, width) in the model's size: squashed, not cropped, so that masks fit."""
        pixels = resize_images([image], self._tower.image_size, "bicubic")
        return ((pixels - self._mean) / self._std).to(self._tower.weight.dtype)

    def _cropped(self, image: Tensor, masks: Masks) -> Tensor:
        if masks[0].shape != image.shape[:2]:  # masks of the image as another model sees it
            resized = resize_images([image], masks[0].shape, "bicubic")[0]
            image = (resized * 255.0).round().byte().permute(1, 2, 0)
        pixels = torch.cat([self._preprocess(_crop(image, mask)) for mask in masks])
        return unit(self._model.encode_image(pixels))


class EncodedImages:
    """Images whose shared part is done; embeds any number of masks against it.

    Merging asks again for the unions of segments, so the shared part is kept here, not redone.
    """

    def __init__(
        self,
        clip: ClipEmbedder,
        images: Sequence[Tensor],
        shared: SharedAttention | None,
    ) -> None:
        self._clip = clip
        self._images = images
        self._shared = shared

    @torch.inference_mode()
    def embed(self, masks: Sequence[Masks]) -> list[NDArray[np.float32]]:
        """Embeds segments of all images in one batch.

        Args:
            masks: Per image (segments, height, width) or as many (height, width); of some there may be
                none.

        Returns:
            Per image float32 (segments, dimensions) of unit norm.
        """
        counts = [len(mask) for mask in masks]
        if sum(counts) == 0:
            return [np.zeros((0, self._clip.dimensions), np.float32) for _ in masks]
        if self._shared is None:
            rows = torch.cat(
                [
                    self._embed_crops(image, mask)
                    for image, mask in zip(self._images, masks, strict=True)
                    if len(mask)
                ]
            )
        else:
            rows = self._embed_masked(self._shared, masks)
        return [part.numpy() for part in rows.cpu().split(counts)]

    def _embed_crops(self, image: Tensor, masks: Masks) -> Tensor:
        return self._in_chunks(lambda part: self._clip._cropped(image, masks[part]), len(masks))

    def _embed_masked(self, shared: SharedAttention, masks: Sequence[Masks]) -> Tensor:
        grid = self._clip._tower.grid
        reduce = pool if self._clip._reference else cover
        # Images of a batch may differ in size; reduced to the patch grid their masks stack.
        patches = upload(
            np.concatenate([reduce(np.asarray(mask), grid) for mask in masks if len(mask)]),
            shared.states.device,
        )
        owners = np.repeat(np.arange(len(masks)), [len(mask) for mask in masks])

        def embed(part: slice) -> Tensor:
            counts = np.bincount(owners[part], minlength=len(masks)).tolist()
            return self._clip._masked.embed(shared, counts, patches[part])

        return self._in_chunks(embed, len(patches))

    def _in_chunks(self, embed: Callable[[slice], Tensor], segments: int) -> Tensor:
        """Embeds in batches that fit the memory: halves the batch when the GPU runs out, then goes on."""
        rows: list[Tensor] = []
        start = 0
        while start < segments:
            batch = self._clip._segment_batch
            try:
                rows.append(embed(slice(start, start + batch)))
            except torch.cuda.OutOfMemoryError:
                if batch == 1:
                    raise
                self._clip._segment_batch = batch // 2
                torch.cuda.empty_cache()
                continue
            start += batch
        return torch.cat(rows)


def _text_tower(model: Any) -> Any:
    """Where the text tower's layers are: in a part of their own, or beside the image tower."""
    return getattr(model, "text", model)


def _cacheable_segments(tower: ImageTower) -> int:
    """Segments whose MLPs stay within `CPU_CACHE`; on a GPU as many as fit its memory."""
    if tower.weight.device.type != "cpu":
        return sys.maxsize
    tokens = 1 + tower.grid[0] * tower.grid[1]
    middle = 4 * tower.blocks[0].ln_1.normalized_shape[0]
    return max(1, CPU_CACHE // (tokens * middle * tower.weight.element_size()))


def _check_blocks(tower: ImageTower, name: str, blocks: int) -> ImageTower:
    if blocks > len(tower.blocks):
        raise ValueError(f"clip.masked_blocks: {blocks}, but {name} has {len(tower.blocks)} blocks")
    return tower


def _channels(values: Sequence[float], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device).view(1, 3, 1, 1)


def _crop(image: Tensor, mask: NDArray[np.bool_]) -> Tensor:
    """The segment's bounding box, black outside the segment; the whole image, black, for an empty mask."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return torch.zeros_like(image)
    box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    return image[box] * upload(mask[box] > 0, image.device)[..., None]
