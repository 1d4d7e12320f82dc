"""How near clustering in two levels comes to Ward on every position: `python benchmarks/clustering.py`.

On held-out synthetic scenes, with features of the bundled DINO, of a ViT-S/8 with random weights, and with
noise that has no structure at all. Both trees are cut after the same number of splits, and compared by:

- agreement: the adjusted Rand index of the two cuts, 1 for the same one, 0 for chance;
- squares: within-cluster sum of squares, Ward's own criterion, relative to that of Ward on every position;
- best IoU: of every true instance with any cluster, on the grid of patches.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zgs_ros.bench.models import random_dino
from zgs_ros.config import DinoSettings, SegmenterSettings, make_settings
from zgs_ros.evaluation import metrics
from zgs_ros.evaluation.datasets.base import Sample
from zgs_ros.evaluation.datasets.synthetic import SyntheticDataset
from zgs_ros.gpu.upload import upload
from zgs_ros.oversegmentation.features import DinoFeatures
from zgs_ros.oversegmentation.tree import build_tree

CPU = torch.device("cpu")
ACCEPT_ALL = 2.0
"""No cosine reaches it, so that every split is accepted."""

Labels = NDArray[np.int64]
Extract = Callable[[Sample], tuple[Tensor, Labels]]
"""Features (rows, columns, width) of a sample, and the true instance at each (rows, columns)."""


@dataclass
class Quality:
    """Of the cuts of all scenes, against Ward on every position."""

    agreement: list[float] = field(default_factory=list)
    squares: list[float] = field(default_factory=list)
    best_iou: list[float] = field(default_factory=list)


def compare(
    extract: Extract, samples: list[Sample], groups: list[int], splits: int
) -> dict[int, Quality]:
    """Quality by number of groups; 0 is Ward on every position itself."""
    found = {count: Quality() for count in (0, *groups)}
    for sample in samples:
        features, truth = extract(sample)
        cuts = {count: cut(features, count, splits) for count in found}
        least = squares(features, cuts[0])
        for count, labels in cuts.items():
            found[count].agreement.append(metrics.adjusted_rand(cuts[0], labels))
            found[count].squares.append(squares(features, labels) / least)
            ids = [region.id for region in sample.regions if (truth == region.id).any()]
            segments = labels.reshape(truth.shape) + 1
            ious = metrics.iou_matrix(truth, segments, ids, np.unique(segments).tolist())
            found[count].best_iou += metrics.best_ious(ious).tolist()
    return found


def cut(features: Tensor, groups: int, splits: int) -> Labels:
    """(positions,) cluster of every position after so many splits."""
    tree = build_tree(features, groups, splits, ACCEPT_ALL)
    return tree.label_positions(features.shape[0] * features.shape[1])


def squares(features: Tensor, labels: Labels) -> float:
    """Sum of squared distances from the clusters' means."""
    flat = features.flatten(0, 1).double()
    parts = [flat[torch.from_numpy(labels == label)] for label in np.unique(labels)]
    return sum(float((part - part.mean(0)).square().sum()) for part in parts)


def of_model(dino: DinoFeatures) -> Extract:
    """Features of a model."""

    def extract(sample: Sample) -> tuple[Tensor, Labels]:
        pixels = dino.resize([upload(sample.image, CPU)])
        features = dino(pixels)[0]
        return features, at_patches(sample, dino, features, pixels)

    return extract


def of_noise(model: Extract) -> Extract:
    """As many features of the same width as a model's, but every one in a direction of its own."""
    generator = torch.Generator().manual_seed(0)

    def extract(sample: Sample) -> tuple[Tensor, Labels]:
        features, truth = model(sample)
        noise = torch.randn(features.shape, generator=generator)
        return torch.nn.functional.normalize(noise, dim=-1), truth

    return extract


def at_patches(sample: Sample, dino: DinoFeatures, features: Tensor, pixels: Tensor) -> Labels:
    """The true instance at the centre of every patch."""
    places = [
        ((np.arange(count) * dino.stride + dino.patch / 2) * length / seen).astype(int)
        for count, length, seen in zip(
            features.shape[:2], sample.instances.shape, pixels.shape[-2:], strict=True
        )
    ]
    return sample.instances[np.ix_(*places)].astype(np.int64)


def sources(stride: int) -> Iterator[tuple[str, Extract]]:
    mini = make_settings(SegmenterSettings, {"profile": "mini", "dino.stride": stride}).dino
    bundled = of_model(random_dino(mini, CPU, torch.float32))
    yield mini.model, bundled
    large = random_dino(DinoSettings(stride=stride), CPU, torch.float32)
    yield "vit_small_patch8_224, random weights", of_model(large)
    yield "noise", of_noise(bundled)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=30)
    parser.add_argument("--groups", type=int, nargs="+", default=[384, 256])
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--stride", type=int, default=4)
    options = parser.parse_args()
    dataset = SyntheticDataset(options.scenes)
    samples = [dataset.load(name) for name in dataset.names]
    print("| features | positions | groups | agreement | squares | best IoU |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, extract in sources(options.stride):
        positions = extract(samples[0])[0].shape[:2]
        for count, found in compare(extract, samples, options.groups, options.splits).items():
            agreement, relative, iou = (
                np.mean(values) for values in (found.agreement, found.squares, found.best_iou)
            )
            print(
                f"| {name} | {positions[0] * positions[1]} | {count or 'all'} "
                f"| {agreement:.3f} | {relative:.4f} | {iou:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
