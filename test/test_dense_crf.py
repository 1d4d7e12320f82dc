"""The dense CRF against its definition: every pixel joined to every other, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from zgs_ros.config import SegmenterSettings, make_settings
from zgs_ros.oversegmentation.dense_crf import CrfParameters, Lattice, mean_field
from zgs_ros.segmenter import load_segmenter
from zgs_ros.synthetic import render, sample_scene


def exact_kernel(features: Tensor) -> Tensor:
    """exp(-|f_i - f_j|^2 / 2) between all points of (dimensions, height, width), normalised."""
    points = features.flatten(1).T.double()
    kernel = torch.exp(-0.5 * torch.cdist(points, points) ** 2)
    root = kernel.sum(1).rsqrt()
    return root[:, None] * kernel * root[None]


def exact_mean_field(energies: Tensor, guide: Tensor, parameters: CrfParameters) -> Tensor:
    segments, height, width = energies.shape
    rows, columns = torch.meshgrid(
        torch.arange(height, dtype=torch.float64),
        torch.arange(width, dtype=torch.float64),
        indexing="ij",
    )
    positions = torch.stack([rows, columns])
    colours = guide.double() * 255 / parameters.edge_colour_sigma
    smooth = exact_kernel(positions / parameters.smooth_sigma)
    edge = exact_kernel(torch.cat([positions / parameters.edge_sigma, colours]))
    kernel = parameters.smooth_weight * smooth + parameters.edge_weight * edge
    unary = energies.double().flatten(1)
    found = (-unary).softmax(0)
    for _ in range(parameters.iterations):
        found = (found @ kernel - unary).softmax(0)
    return found.view(segments, height, width)


def two_colours(height: int = 20, width: int = 24, noise: float = 0.03) -> Tensor:
    """A bluish left half and a reddish right half."""
    guide = torch.empty(3, height, width)
    guide[:, :, : width // 2] = torch.tensor([0.2, 0.3, 0.7])[:, None, None]
    guide[:, :, width // 2 :] = torch.tensor([0.7, 0.3, 0.2])[:, None, None]
    generator = torch.Generator().manual_seed(1)
    return (guide + noise * torch.randn(guide.shape, generator=generator)).clamp(0, 1)


@pytest.mark.parametrize(
    ("dimensions", "extent", "points"), [(1, 6.0, 200), (2, 4.0, 400), (3, 3.0, 800), (5, 2.0, 900)]
)
def test_the_lattice_filters_like_a_gaussian(dimensions: int, extent: float, points: int) -> None:
    generator = torch.Generator().manual_seed(0)
    features = extent * torch.rand(dimensions, 1, points, generator=generator)
    values = torch.rand(3, 1, points, generator=generator)
    lattice = Lattice(features)
    root = lattice.filter(torch.ones_like(values[:1])).rsqrt()
    filtered = (root * lattice.filter(root * values)).double().flatten(1)
    expected = values.double().flatten(1) @ exact_kernel(features)
    # The lattice is an approximation: a few percent, as in its publication.
    assert float((filtered - expected).norm() / expected.norm()) < 0.03


@pytest.mark.parametrize("iterations", [0, 1, 10])
def test_mean_field_equals_brute_force(iterations: int) -> None:
    """Weak kernels, so that probabilities stay between 0 and 1 and differences show."""
    generator = torch.Generator().manual_seed(0)
    guide, energies = two_colours(), torch.rand(3, 20, 24, generator=generator)
    parameters = CrfParameters(
        smooth_weight=0.5, edge_weight=1.0, edge_sigma=4.0, iterations=iterations
    )
    found = mean_field(energies, guide, parameters)
    torch.testing.assert_close(found.sum(0), torch.ones(20, 24))
    expected = exact_mean_field(energies, guide, parameters)
    assert float((found - expected).abs().max()) < (1e-6 if iterations == 0 else 0.04)


def test_published_weights_decide_as_brute_force_does() -> None:
    generator = torch.Generator().manual_seed(0)
    guide = two_colours(28, 32)
    # Rough unaries: right on average, noisy, and the border three pixels off.
    energies = torch.rand(2, 28, 32, generator=generator)
    energies[0, :, 19:] += 0.5
    energies[1, :, :19] += 0.5
    parameters = CrfParameters()
    labels = mean_field(energies, guide, parameters).argmax(0)
    expected = exact_mean_field(energies, guide, parameters).argmax(0)
    assert float((labels == expected).double().mean()) > 0.99
    assert (labels[:, :16] == 0).all()
    assert (labels[:, 16:] == 1).all()


def test_lengths_scale_with_the_image() -> None:
    parameters = CrfParameters().for_short_side(448)
    assert (parameters.smooth_sigma, parameters.edge_sigma) == (2.0, 10.0)
    assert parameters.edge_colour_sigma == CrfParameters().edge_colour_sigma == 13.0


def test_one_segment_and_one_pixel() -> None:
    ones = mean_field(torch.rand(1, 5, 6), torch.rand(3, 5, 6))
    torch.testing.assert_close(ones, torch.ones(1, 5, 6))
    assert mean_field(torch.tensor([[[0.0]], [[5.0]]]), torch.rand(3, 1, 1)).argmax() == 0


def test_the_same_input_gives_the_same_result() -> None:
    guide, energies = two_colours(), torch.rand(3, 20, 24)
    assert torch.equal(mean_field(energies, guide), mean_field(energies, guide))


def test_the_segmenter_refines_with_it() -> None:
    settings = {"profile": "mini", "device": "cpu", "merging.enabled": False}
    image = render(sample_scene(2_000_000_007, aspect=4 / 3), 120, 160).rgb
    results = {
        method: load_segmenter(
            make_settings(
                SegmenterSettings,
                {**settings, "refinement.method": method, "refinement.min_area": 0.0},
            )
        ).segment(image)
        for method in ("crf", "none")
    }
    assert sum(segment.area for segment in results["crf"].segments) == 120 * 160
    # Borders lie on the picture's edges: colours on their two sides differ more.
    contrast = {method: _contrast_at_borders(image, r.label_map) for method, r in results.items()}
    assert contrast["crf"] > 1.1 * contrast["none"] > 0


def _contrast_at_borders(image: NDArray[np.uint8], label_map: NDArray[np.uint16]) -> float:
    """Mean difference of colour between neighbouring pixels of different segments."""
    steps = []
    for axis in (0, 1):
        border = np.diff(label_map.astype(int), axis=axis) != 0
        steps.append(np.abs(np.diff(image.astype(int), axis=axis)).sum(axis=-1)[border])
    return float(np.concatenate(steps).mean())
