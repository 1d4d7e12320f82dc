"""Zero-guidance segmentation of images, stage by stage.

image -> DINO features -> segment tree -> pixels -> CLIP embeddings -> labels -> merging -> Segmentation
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from zgs_ros.config import RefinementSettings, SegmenterSettings
from zgs_ros.embedding.clip import ClipEmbedder, EncodedImages
from zgs_ros.embedding.coverage import Tiling, Unions
from zgs_ros.engines.loading import load_engines
from zgs_ros.engines.manifest import EngineError
from zgs_ros.engines.running import Engine, WithEngine
from zgs_ros.gpu.graphs import Tensors, graphed
from zgs_ros.gpu.streams import SideStream
from zgs_ros.gpu.upload import upload
from zgs_ros.labeling.labeler import Labeler, load_labeler, text_encoder
from zgs_ros.labeling.retrieval import embed_phrases
from zgs_ros.merging import (
    Description,
    Merging,
    Parts,
    Region,
    merge_greedily,
    merge_siblings,
    merge_together,
)
from zgs_ros.models.loading import BUNDLED, ModelError, load_clip, load_dino, resolve_device
from zgs_ros.models.precision import resolve_precision
from zgs_ros.oversegmentation.components import drop_small, split_components
from zgs_ros.oversegmentation.dense_crf import CrfParameters, mean_field
from zgs_ros.oversegmentation.features import DinoFeatures
from zgs_ros.oversegmentation.refinement import (
    decide_pixels,
    filter_places,
    fit_maps,
    place_on_pixels,
    soft_assignment,
    squared_distances,
    stretch_to_pixels,
)
from zgs_ros.oversegmentation.tree import Groups, SegmentTree, group_positions, split_groups
from zgs_ros.pictures import check_size
from zgs_ros.runs import Runs
from zgs_ros.segmentation import MAX_SEGMENT_ID, Segment, Segmentation, find_extents
from zgs_ros.stages import StageClock, mark_for

logger = logging.getLogger(__name__)

Image = NDArray[np.uint8]
V = TypeVar("V", bound=np.generic)
FLAT = 2
"""An image whose values differ by no more than this, per channel, is one thing."""


@dataclass(frozen=True, eq=False)
class Partition:
    """Segments that tile an image.

    Attributes:
        labels: (height, width), to which segment each pixel belongs, as its place in `numbers`.
        numbers: Heap numbers of the segments; each has pixels.
    """

    labels: NDArray[np.integer]
    numbers: tuple[int, ...]

    @cached_property
    def tiling(self) -> Tiling:
        """Its segments as they are embedded."""
        return Tiling(self.labels, len(self.numbers))


class Segmenter:
    """Segments images and names the segments.

    Deterministic for fixed input and settings. Not thread-safe: one thread owns it.

    Args:
        settings: All knobs, see `zgs_ros.config`.
        dino: Feature model of the over-segmentation.
        clip: Embeds segments and texts.
        labeler: Names embeddings.
        engines: What computes features and encoding instead of PyTorch, by these names.
    """

    def __init__(
        self,
        settings: SegmenterSettings,
        dino: DinoFeatures,
        clip: ClipEmbedder,
        labeler: Labeler,
        engines: Mapping[str, Engine] | None = None,
    ) -> None:
        self._settings = settings
        if settings.reference:
            dino, clip = dino.as_reference(), clip.as_reference()
        self._dino = dino
        self._clip = clip.with_cuda_graphs() if settings.cuda_graphs else clip
        self._labeler = labeler
        self._device = dino.mean.device
        graphs = settings.cuda_graphs
        self._find_features: Callable[..., Tensors] = graphed(
            lambda pixels: (dino(pixels),), "features", self._device, graphs
        )
        engines = engines or {}
        if "features" in engines:
            self._find_features = WithEngine(self._find_features, engines["features"], "features")
        if "encoding" in engines:
            encode = WithEngine(clip.encode_pixels, engines["encoding"], "encoding")
            self._clip = self._clip.with_engine(encode)
        self._fit_borders = graphed(
            partial(_fit_borders, settings.refinement, dino.patch, dino.stride, settings.reference),
            "borders",
            self._device,
            graphs and settings.refinement.method != "crf",  # which looks at values
        )
        self._side_stream = SideStream(self._device)
        self._blas = ThreadpoolController()

    @property
    def model(self) -> str:
        """Names the embedding space."""
        return self._clip.name

    @property
    def device(self) -> str:
        """Where the models run, for example ``"cuda:0"``."""
        return str(self._device)

    def segment(self, image: Image) -> Segmentation:
        """Segments one image.

        Args:
            image: uint8 RGB (height, width, 3), at least 1x1.

        Raises:
            ValueError: If the image is of another shape or type, or of a size that is not accepted.
        """
        return self.segment_batch([image])[0]

    def segment_batch(self, images: Sequence[Image]) -> list[Segmentation]:
        """Segments several images, of equal or different sizes, in one pass through the models.

        Raises:
            ValueError: If an image is of another shape or type than uint8 RGB (height, width, 3).
        """
        for image in images:
            _check_image(image, self._settings.max_pixels)
        if not images:
            return []
        # NumPy's BLAS keeps its threads spinning after each product, in the way of PyTorch's.
        with self._blas.limit(limits=1, user_api="blas"):
            try:
                return self._run_stages(images)
            finally:
                self._side_stream.join()  # for the next to come, where a stage failed

    def _run_stages(self, images: Sequence[Image]) -> list[Segmentation]:
        clock = StageClock(len(images), mark_for(self._device))
        clustering = self._settings.clustering
        with clock.stage("features"):
            frames = [upload(image, self._device) for image in images]
            self._side_stream.fork()
            pixels, features = self._extract_features(frames)
        with self._side_stream.beside(), clock.stage("encoding"):
            # A GPU does it beside the features and while Ward keeps the CPU busy.
            encoded = self._clip.encode(frames)
        with clock.stage("clustering"):
            groups = [group_positions(found, clustering.groups) for found in features]
            trees = [self._split(*pair) for pair in zip(images, groups, strict=True)]
        with clock.stage("refinement"):
            partitions = [
                self._refine(*parts) for parts in zip(frames, pixels, features, trees, strict=True)
            ]
        self._side_stream.join()
        with clock.stage("embedding"):
            alone = [partition.tiling.alone() for partition in partitions]
            embeddings = self._clip.embed(encoded, alone)
        with clock.stage("labeling"):
            regions = [
                dict(
                    zip(found.numbers, map(Region, given.parts, self._describe(rows)), strict=True)
                )
                for found, given, rows in zip(partitions, alone, embeddings, strict=True)
            ]
        with clock.stage("merging"):
            if self._settings.merging.enabled:
                regions = self._merge(encoded, partitions, regions)
        times = clock.read()
        return [
            self._assemble(partition, list(found.values()), image.shape[:2], times)
            for image, partition, found in zip(images, partitions, regions, strict=True)
        ]

    def over_segment(self, image: Image) -> NDArray[np.uint16]:
        """The segments before anything is named or merged: ids (height, width) from 1 on.

        Raises:
            ValueError: If the image is of another shape or type than uint8 RGB (height, width, 3), or
                of a size that is not accepted, see `zgs_ros.pictures`.
        """
        _check_image(image, self._settings.max_pixels)
        frame = upload(image, self._device)
        pixels, features = self._extract_features([frame])
        groups = group_positions(features[0], self._settings.clustering.groups)
        partition = self._refine(frame, pixels[0], features[0], self._split(image, groups))
        return _enlarge(partition.labels, image.shape[:2]).astype(np.uint16) + np.uint16(1)

    def describe_masks(self, image: Image, masks: NDArray[np.bool_]) -> list[Description]:
        """Embeds and names given masks, without segmenting or merging.

        Args:
            image: uint8 RGB (height, width, 3).
            masks: bool (segments, height, width).

        Raises:
            ValueError: If image or masks are of the wrong shape.
        """
        _check_image(image, self._settings.max_pixels)
        return self._describe(self._clip.embed_segments([image], [masks])[0])

    def embed_text(self, text: str) -> NDArray[np.float32]:
        """float32 (dimensions,), unit norm: a text in the space of the segments' embeddings."""
        return self._clip.embed_texts([text])[0]

    def embed_phrases(self, phrases: Sequence[str]) -> NDArray[np.float32]:
        """float32 (phrases, dimensions), unit norm: phrases as those of a vocabulary are embedded.

        Their cosines can be compared with the scores of labels.
        """
        return embed_phrases(phrases, self._settings.labeling.templates, text_encoder(self._clip))

    def close(self) -> None:
        """Frees the models and the GPU memory that they held; the segmenter can't be used any more."""
        del self._dino, self._clip, self._labeler, self._find_features, self._fit_borders
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _extract_features(
        self, frames: Sequence[torch.Tensor]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Per image its pixels (3, h, w) as DINO sees them and its features (rows, columns, width)."""
        pixels: list[torch.Tensor] = [torch.empty(0)] * len(frames)
        features = list(pixels)
        for group in _by_size(frames):
            resized = self._dino.resize([frames[i] for i in group])
            (found,) = self._find_features(resized)
            for i, pixel, feature in zip(group, resized, found, strict=True):
                pixels[i], features[i] = pixel, feature
        return pixels, features

    def _split(self, image: Image, groups: Groups) -> SegmentTree:
        clustering = self._settings.clustering
        # The first split is always accepted; where there is nothing to see it would be a made-up one.
        splits = 0 if _is_flat(image) else clustering.splits
        return split_groups(groups, splits, clustering.threshold)

    def _refine(
        self, frame: torch.Tensor, pixels: torch.Tensor, features: torch.Tensor, tree: SegmentTree
    ) -> Partition:
        """The leaves that have pixels, or their parts; they tile the image.

        In the authors' code they stay at the size in which DINO sees the image.
        """
        settings = self._settings.refinement
        leaves = tree.leaves
        centroids = upload(np.stack([leaf.centroid for leaf in leaves]), features.device)
        models, scores = self._fit_borders(features, centroids, pixels)
        if self._settings.reference:
            frame = (pixels * 255.0).round().byte().permute(1, 2, 0)
        labels: NDArray[np.integer] = decide_pixels(models, scores, frame, settings.min_area)
        numbers = [leaf.id for leaf in leaves]
        # At the image's resolution borders have moved, so that what was large enough may not be any more.
        if settings.components:
            labels, numbers = split_components(
                labels, numbers, settings.min_area, settings.min_component
            )
        else:
            labels = drop_small(labels, settings.min_area)
        present = np.flatnonzero(np.bincount(labels.ravel(), minlength=len(numbers)))
        if len(present) < len(numbers):
            labels = np.searchsorted(present, labels)
        return Partition(labels, tuple(numbers[index] for index in present))

    def _describe(self, embeddings: NDArray[np.float32]) -> list[Description]:
        labels = self._labeler.label(embeddings)
        return [
            Description(row, self._labeler.text_embedding(found[0].text), found)
            for row, found in zip(embeddings, labels, strict=True)
        ]

    def _merge(
        self,
        encoded: EncodedImages,
        partitions: Sequence[Partition],
        regions: Sequence[dict[int, Region]],
    ) -> list[dict[int, Region]]:
        """Merges the regions of each image."""
        settings = self._settings.merging

        def merge(found: dict[int, Region]) -> Merging:
            found = yield from merge_siblings(found, settings.threshold)
            if settings.greedy:
                found = yield from merge_greedily(found, settings.threshold)
            return found

        def describe(unions: list[list[Parts]]) -> list[list[Description]]:
            given = [Unions(of.tiling, parts) for of, parts in zip(partitions, unions, strict=True)]
            return [self._describe(rows) for rows in self._clip.embed(encoded, given)]

        return merge_together([merge(found) for found in regions], describe)

    def _assemble(
        self,
        partition: Partition,
        regions: Sequence[Region],
        size: tuple[int, int],
        times: dict[str, float],
    ) -> Segmentation:
        """Numbers the segments from 1, the largest first."""
        labels = _enlarge(partition.labels, size)
        runs = Runs.of(labels)
        areas = np.bincount(runs.label, runs.length, len(partition.numbers))
        area_of = [int(areas[list(region.parts)].sum()) for region in regions]
        order = sorted(range(len(regions)), key=lambda place: -area_of[place])
        found = [regions[place] for place in order if area_of[place]][:MAX_SEGMENT_ID]
        number_of = np.zeros(len(areas), np.uint16)
        for number, region in enumerate(found, start=1):
            number_of[list(region.parts)] = number
        extents = find_extents(replace(runs, label=number_of[runs.label]), len(found))
        segments = tuple(
            Segment(
                id=number,
                labels=region.description.labels,
                roi=extent.roi,
                area=extent.area,
                centroid=extent.centroid,
                embedding=region.description.embedding,
            )
            for number, (region, extent) in enumerate(zip(found, extents, strict=True), start=1)
        )
        return Segmentation(number_of[labels], segments, self.model, times)


def load_segmenter(settings: SegmenterSettings, begin_early: bool = False) -> Segmenter:
    """Loads the models and the vocabulary, if there is one.

    Args:
        settings: All knobs.
        begin_early: Whether to begin with the most frequent phrases where the vocabulary was not embedded
            before: a camera doesn't wait, but labels of files must not depend on time.

    Raises:
        zgs_ros.models.ModelError: If a model can't be loaded; the message says what to do.
        zgs_ros.labeling.vocabulary.VocabularyError: If the vocabulary can't be used.
    """
    if settings.clip.model in BUNDLED or settings.dino.model in BUNDLED:
        logger.warning(
            "the mini models only know the synthetic world; choose another profile for real images"
        )
    device = resolve_device(settings.device)
    precision = resolve_precision(settings, device)
    dino = load_dino(settings.dino, device, precision, settings.profile)
    clip = load_clip(settings.clip, device, precision, settings.profile)
    try:
        engines = load_engines(settings, dino, clip, precision)
    except EngineError as error:
        raise ModelError(str(error)) from error
    labeler = load_labeler(settings, clip, device, begin_early)
    return Segmenter(settings, dino, clip, labeler, engines)


def _check_image(image: Image, max_pixels: int) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ValueError(
            f"an image must be uint8 RGB (height, width, 3), got {image.dtype} {image.shape}"
        )
    check_size(image.shape[1], image.shape[0], max_pixels)


def _is_flat(image: Image) -> bool:
    # A few pixels tell most images apart from flat ones, without looking at all of them.
    return all((np.ptp(part, axis=(0, 1)) <= FLAT).all() for part in (image[::16, ::16], image))


def _enlarge(labels: NDArray[V], size: tuple[int, int]) -> NDArray[V]:
    """Labels in another size, by the nearest of their pixels; themselves if they have that size."""
    if labels.shape == size:
        return labels
    rows, columns = (
        np.arange(length) * given // length
        for length, given in zip(size, labels.shape, strict=True)
    )
    return labels[np.ix_(rows, columns)]


def _fit_borders(
    settings: RefinementSettings,
    patch: int,
    stride: int,
    reference: bool,
    features: torch.Tensor,
    centroids: torch.Tensor,
    pixels: torch.Tensor,
) -> Tensors:
    """The models and scores of `fit_maps` for segments with these centroids."""
    size = (pixels.shape[-2], pixels.shape[-1])
    radius = settings.radius if settings.method == "guided" else 0
    if settings.method == "crf":
        distances = squared_distances(features, centroids)
        energies = (
            stretch_to_pixels(distances, size)
            if reference
            else place_on_pixels(distances, size, patch, stride)
        )
        maps = mean_field(energies, pixels, CrfParameters().for_short_side(min(size)))
    else:
        grid = soft_assignment(features, centroids, settings.temperature)
        maps = place_on_pixels(grid, size, patch, stride, filter_places(size, radius))
    return fit_maps(maps, pixels, radius, settings.epsilon)


def _by_size(frames: Sequence[torch.Tensor]) -> Iterator[list[int]]:
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, frame in enumerate(frames):
        groups.setdefault(frame.shape, []).append(index)
    yield from groups.values()
