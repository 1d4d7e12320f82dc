"""CLIP as the pipeline uses it: images with segment masks, and texts, into one embedding space.

A segment goes through `ClipEmbedder.encode` with its image and through `ClipEmbedder.embed` with its mask; the
steps between are in `zgs_ros.embedding.global_subtraction`, in this order.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from zgs_ros.embedding.continuations import embed_continuations, reads_end_token
from zgs_ros.embedding.coverage import Unions, cover, pool, with_class_token
from zgs_ros.embedding.dense import PatchTable, embed_sums, sum_segments, tabulate_patches
from zgs_ros.embedding.dense_tower import DenseTower
from zgs_ros.embedding.global_subtraction import Shared, embed_segments, encode_images
from zgs_ros.embedding.image_tower import WAY_OUT, ImageTower
from zgs_ros.gpu.batches import Batches
from zgs_ros.gpu.graphs import Function, Tensors, graphed
from zgs_ros.gpu.upload import upload
from zgs_ros.resizing import resize_images

TEXT_BATCH = 256
MAX_WORDS = 20_000
"""Words that a tokenizer may remember."""

CPU_CACHE = 40_000_000
"""Bytes of a block's widest values that a CPU goes through at once; more of them is slower."""
CAPTURED_SEGMENTS = (1, 2, 4, 8, 12, 16, 24, 32)
"""Numbers of segments that CUDA graphs are captured for; fewer are filled up, more to multiples of 16."""
Mode = Literal["global_subtraction", "mask", "dense", "crop"]
Masks = NDArray[np.bool_] | Sequence[NDArray[np.bool_]]


@dataclass(frozen=True, eq=False)
class EncodedImages:
    """Images whose shared part is done, for any number of masks: merging asks again for unions.

    Attributes:
        images: uint8 RGB (height, width, 3) each, where the model is.
        shared: What their segments have in common: in the masked blocks, or in mode ``"dense"`` the table
            that all are summed from; None in mode ``"crop"``, where that is nothing.
    """

    images: Sequence[Tensor]
    shared: Shared | PatchTable | None


class ClipEmbedder:
    """Embeds segments and texts with one CLIP model.

    Args:
        model: An open_clip model; masked modes need a ViT image tower with class-token pooling.
        tokenizer: Texts to int64 (texts, context length).
        name: Names the embedding space, for example ``"ViT-L-14-336/openai"``.
        mode: How a segment is embedded: ``"global_subtraction"``, ``"mask"`` (the same with w = 0),
            ``"dense"`` (all from one pass, see `zgs_ros.embedding.dense`), or ``"crop"`` (its bounding box,
            black outside the segment, through the plain model).
        blocks: Number of last blocks whose attention is masked.
        sigma: Strength of global subtraction.
        segment_batch: Segments of an image that go through the masked blocks together.
        cuda_graphs: Whether a GPU replays CUDA graphs, see `zgs_ros.gpu.graphs`.
        reference: Whether the share of a patch that a mask covers is taken as in the authors' code.
        engine: Does what `encode_pixels` does, some other way.

    Raises:
        ValueError: If there is no such mode, or the image tower can't do it: masked modes need a ViT with
            class-token pooling and at least `blocks` blocks.
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
        engine: Function | None = None,
    ) -> None:
        if mode not in get_args(Mode):
            raise ValueError(f"clip.mode: {mode!r} is not one of {', '.join(get_args(Mode))}")
        self.name = name
        self._model: Any = model.eval().requires_grad_(False)
        tower = self._tower = find_tower(model, name, mode, blocks)
        self._device = tower.weight.device
        self._tokenizer = tokenizer
        self._settings = {
            "mode": mode,
            "blocks": blocks,
            "sigma": sigma,
            "segment_batch": segment_batch,
            "cuda_graphs": cuda_graphs,
            "reference": reference,
            "engine": engine,
        }
        self._reference = reference
        self._mode = mode
        together = min(segment_batch, _cacheable_segments(tower))
        self._batches = Batches(sys.maxsize if mode == "dense" else together, "clip.segment_batch")
        visual = self._model.visual
        self._mean, self._std = (
            torch.tensor(values, dtype=torch.float32, device=self._device).view(1, 3, 1, 1)
            for values in (
                getattr(visual, "image_mean", open_clip.OPENAI_DATASET_MEAN),
                getattr(visual, "image_std", open_clip.OPENAI_DATASET_STD),
            )
        )
        encode: Function
        embed: Function
        if isinstance(tower, DenseTower):
            encode = partial(tabulate_patches, tower)
            embed = partial(_embed_dense, tower)
        else:
            subtraction = sigma if mode == "global_subtraction" else None
            encode = partial(encode_images, tower, blocks, subtraction)
            embed = partial(_embed_shared, tower, blocks, subtraction)
        self._encode = encode
        self._encode_images = engine or graphed(encode, "encoding", self._device, cuda_graphs)
        self._embed_segments = graphed(embed, "embedding", self._device, cuda_graphs)

    @property
    def model(self) -> torch.nn.Module:
        """The open_clip model, which all variants share."""
        model: torch.nn.Module = self._model
        return model

    @property
    def dimensions(self) -> int:
        """Length of an embedding."""
        return self._tower.dimensions

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels of what the image tower sees."""
        return self._tower.image_size

    @property
    def encodes(self) -> bool:
        """Whether anything is computed once per image; not so in mode ``"crop"``."""
        return self._mode != "crop"

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of the image tower's patches."""
        return self._tower.grid

    @property
    def logit_scale(self) -> float:
        """What its cosines were multiplied by, in training, before the softmax over texts."""
        return float(self._model.logit_scale.detach().float().exp())

    def variant(self, mode: Mode, blocks: int, sigma: float) -> ClipEmbedder:
        """Another way to embed segments with the same model, whose weights are shared.

        Raises:
            ValueError: If there is no such mode, or the model has fewer blocks than `blocks`.
        """
        return self._with(mode=mode, blocks=blocks, sigma=sigma, engine=None)

    def with_cuda_graphs(self) -> ClipEmbedder:
        """The same, but a GPU replays CUDA graphs; see `zgs_ros.gpu.graphs`."""
        return self._with(cuda_graphs=True)

    def with_engine(self, engine: Function) -> ClipEmbedder:
        """The same, but images are encoded by an engine."""
        return self._with(engine=engine)

    def as_reference(self) -> ClipEmbedder:
        """The same, but masks are reduced to patches as in the authors' code."""
        return self._with(reference=True)

    def _with(self, **changes: Any) -> ClipEmbedder:
        settings: dict[str, Any] = {**self._settings, **changes}
        return ClipEmbedder(self._model, self._tokenizer, self.name, **settings)

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
        return self.embed(self.encode([upload(image, self._device) for image in images]), masks)

    def encode_pixels(self, pixels: Tensor) -> Tensors:
        """What `encode` keeps of images, by PyTorch.

        Args:
            pixels: (images, 3, *image_size), normalised.
        """
        return self._encode(pixels)

    @torch.inference_mode()
    def encode(self, images: Sequence[Tensor]) -> EncodedImages:
        """Runs all that does not depend on segments, once per image.

        Args:
            images: uint8 RGB (height, width, 3) each, where the model is.
        """
        if self._mode == "crop":
            return EncodedImages(images, None)
        pixels = torch.cat([self.prepare(image) for image in images])
        found = self._encode_images(pixels)
        if self._mode == "dense":
            return EncodedImages(images, PatchTable(*found))
        *parts, squares = found
        narrow = [part.to(self._tower.weight.dtype) for part in parts]
        return EncodedImages(images, Shared._make([*narrow, squares]))

    @torch.inference_mode()
    def embed(
        self, encoded: EncodedImages, segments: Sequence[Masks | Unions]
    ) -> list[NDArray[np.float32]]:
        """Embeds segments of encoded images.

        Args:
            encoded: The images, from `encode`.
            segments: Per image, of some there may be none: those of a tiling, whose pixels are looked at
                once for all of them and their unions, or masks (segments, height, width), or as many
                (height, width), booleans or shares in [0, 1].

        Returns:
            Per image float32 (segments, dimensions) of unit norm.
        """
        rows = [
            self._embed_shared(encoded.shared.image(index), self._shares(given))
            if encoded.shared
            else self._embed_cropped(encoded.images[index], _masks_of(given))
            for index, given in zip(range(len(encoded.images)), segments, strict=True)
            if len(given)
        ]
        if not rows:
            return [np.zeros((0, self.dimensions), np.float32) for _ in segments]
        return [part.numpy() for part in torch.cat(rows).cpu().split([len(s) for s in segments])]

    def prepare(self, image: Tensor) -> Tensor:
        """What the image tower is given: resized and normalised.

        Args:
            image: uint8 RGB (height, width, 3), where the model is.

        Returns:
            (1, 3, height, width) in the model's size: squashed, not cropped, so that masks fit.
        """
        mode = _interpolation(self._model.visual)
        pixels = resize_images([image], self._tower.image_size, mode)
        return ((pixels - self._mean) / self._std).to(self._tower.weight.dtype)

    def _shares(self, segments: Masks | Unions) -> NDArray[np.float32]:
        """What each covers of the patches that the mode masks, and of the class token if that is one."""
        grid = self._tower.grid
        if isinstance(segments, Unions) and not self._reference:
            shares = segments.cover(grid)
        else:
            covered = (pool if self._reference else cover)(np.asarray(_masks_of(segments)), grid)
            shares = covered.reshape(len(segments), -1)
        return shares if self._mode == "dense" else with_class_token(shares)

    def _embed_shared(self, shared: Shared | PatchTable, shares: NDArray[np.float32]) -> Tensor:
        """Unit embeddings of segments of one image, (segments, dimensions)."""
        mu = upload(shares, self._device)

        def embed(part: slice) -> Tensor:
            own = mu[part]
            filled = _fill_up(own) if self._embed_segments.captures else own
            return self._embed_segments(filled, *shared)[0][: len(own)]

        return self._batches.run(len(mu), embed)

    def _embed_cropped(self, image: Tensor, masks: Masks) -> Tensor:
        """Unit embeddings of segments of one image, cut out on black, (segments, dimensions)."""
        if masks[0].shape != image.shape[:2]:  # masks of the image as another model sees it
            resized = resize_images([image], masks[0].shape, "bicubic")[0]
            image = (resized * 255.0).round().byte().permute(1, 2, 0)

        def embed(part: slice) -> Tensor:
            pixels = [self.prepare(_crop(image, mask)) for mask in masks[part]]
            return unit(self._model.encode_image(torch.cat(pixels)))

        return self._batches.run(len(masks), embed)

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32 (texts, dimensions) of unit norm."""
        batches = [
            self._model.encode_text(
                self._tokenizer(list(texts[i : i + TEXT_BATCH])).to(self._device)
            )
            for i in range(0, len(texts), TEXT_BATCH)
        ]
        _forget_words(self._tokenizer)
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
            return torch.from_numpy(self.embed_texts(texts)).to(self._device)
        return embed_continuations(tower, self._tokenizer, texts, groups)

    def fingerprint(self) -> str:
        """Hash of the text tower's weights: tells apart models that share a name."""
        digest = hashlib.sha256(self.name.encode())
        text = _text_tower(self._model)
        projection = getattr(
            text.text_projection, "weight", text.text_projection
        )  # a layer, SigLIP's
        for weight in (text.token_embedding.weight[:256], projection):
            digest.update(weight.detach().float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def find_tower(
    model: torch.nn.Module, name: str, mode: Mode, blocks: int
) -> ImageTower | DenseTower:
    """The image tower of an open_clip model, as a mode needs it.

    Raises:
        ValueError: If it can't do that; the message says what works instead.
    """
    if mode in ("dense", "crop"):
        return DenseTower.of(model, name)
    try:
        tower = ImageTower.of(model, name)
    except ValueError as error:
        raise ValueError(f"{error}; {_way_out(model, name)}") from None
    if blocks > len(tower.blocks):
        raise ValueError(f"clip.masked_blocks: {blocks}, but {name} has {len(tower.blocks)} blocks")
    return tower


def _way_out(model: torch.nn.Module, name: str) -> str:
    """What works instead of masked blocks."""
    try:
        DenseTower.of(model, name)
    except ValueError:
        return f"use {WAY_OUT}"
    return f"use clip.mode dense, or {WAY_OUT}"


def _embed_dense(tower: DenseTower, mu: Tensor, *shared: Tensor) -> Tensors:
    return (unit(embed_sums(tower, sum_segments(PatchTable(*shared), mu))),)


def _embed_shared(
    tower: ImageTower, blocks: int, sigma: float | None, mu: Tensor, *shared: Tensor
) -> Tensors:
    return (unit(embed_segments(tower, blocks, sigma, Shared(*shared), mu)),)


def unit(rows: Tensor) -> Tensor:
    """Rows of any type as float32 of unit norm."""
    return functional.normalize(rows.float(), dim=-1)


def _masks_of(segments: Masks | Unions) -> Masks:
    return segments.masks() if isinstance(segments, Unions) else segments


def _forget_words(tokenizer: Any) -> None:
    """Empties what open_clip's tokenizer remembers of every word it ever saw, when it is much."""
    cache = getattr(tokenizer, "cache", None)
    if isinstance(cache, dict) and len(cache) > MAX_WORDS:
        special = {word: parts for word, parts in cache.items() if word == parts}
        cache.clear()
        cache.update(special)


def _interpolation(visual: Any) -> Literal["bilinear", "bicubic"]:
    """That of the images in training; open_clip's default is bicubic."""
    trained_with = getattr(visual, "preprocess_cfg", {}).get("interpolation", "bicubic")
    return "bilinear" if trained_with == "bilinear" else "bicubic"


def _cacheable_segments(tower: ImageTower | DenseTower) -> int:
    """Segments whose MLPs stay within `CPU_CACHE`; on a GPU as many as fit its memory."""
    if tower.weight.device.type != "cpu":
        return sys.maxsize
    tokens = 1 + tower.grid[0] * tower.grid[1]
    middle = 4 * tower.width
    return max(1, CPU_CACHE // (tokens * middle * tower.weight.element_size()))


def _fill_up(mu: Tensor) -> Tensor:
    """Further segments behind (segments, tokens), up to a number that graphs are captured for."""
    count = len(mu)
    wanted = next((n for n in CAPTURED_SEGMENTS if n >= count), 16 * math.ceil(count / 16))
    return functional.pad(mu, (0, 0, 0, wanted - count), value=1.0)


def _crop(image: Tensor, mask: NDArray[np.bool_]) -> Tensor:
    """The segment's bounding box, black outside the segment; the whole image, black, for an empty mask."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return torch.zeros_like(image)
    box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    return image[box] * upload(mask[box] > 0, image.device)[..., None]


def _text_tower(model: Any) -> Any:
    """Where the text tower's layers are: in a part of their own, or beside the image tower."""
    return getattr(model, "text", model)
