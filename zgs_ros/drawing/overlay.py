"""Overlays: an image with its segments tinted, outlined and named."""

from __future__ import annotations

from statistics import NormalDist

import cv2
import numpy as np
from numpy.typing import NDArray

from zgs_ros.drawing.captions import draw_captions
from zgs_ros.drawing.palette import Colour, colour_of
from zgs_ros.segmentation import Roi, Segment, Segmentation

__all__ = ["colour_of", "draw_overlay", "segment_colour"]

_CORE = 0.7
"""Half width of the white line between segments, in pixels of a 640x480 image."""
_CASING = 2.1
"""Half width of the soft dark band around the white line, likewise."""
_CORE_OPACITY = 0.95
_CASING_OPACITY = 0.55
_SMOOTHING = 1.3
"""How far segment borders are rounded (a Gaussian's standard deviation), likewise."""


def draw_overlay(
    image: NDArray[np.uint8], segmentation: Segmentation, opacity: float = 0.35
) -> NDArray[np.uint8]:
    """Draws tinted, outlined and named segments over an image.

    Args:
        image: uint8 (height, width, 3), RGB. It is not changed.
        segmentation: Segments of this image.
        opacity: Of the tint, from 0 (outlines and names only) to 1 (the image is covered).

    Returns:
        uint8 (height, width, 3), RGB, a new array.

    Raises:
        ValueError: If the image is not RGB or not of the segmentation's size, or opacity is out of
            range.
    """
    height, width = segmentation.size
    if image.dtype != np.uint8 or image.shape != (height, width, 3):
        raise ValueError(
            f"image must be uint8 ({height}, {width}, 3) like its segmentation, "
            f"got {image.dtype} {image.shape}"
        )
    if not 0.0 <= opacity <= 1.0:
        raise ValueError(f"opacity must be within 0 .. 1, got {opacity}")
    if not segmentation.segments:
        return image.copy()
    scale = _scale(height, width)
    colours = [segment_colour(segment) for segment in segmentation.segments]
    regions, lead = _regions(segmentation, _SMOOTHING * scale)
    overlay = _tint(image, regions, colours, opacity)
    _outline(overlay, lead, scale)
    draw_captions(overlay, segmentation, colours, scale)
    return overlay


def segment_colour(segment: Segment) -> Colour:
    """The colour of a segment: its label's, or one of its own where it has no label."""
    return colour_of(segment.label or f"#{segment.id}")


def _scale(height: int, width: int) -> float:
    """Size of lines and text, 1 for 640x480: a picture looks the same however fine it is."""
    return float(np.clip(np.sqrt(height * width / (640 * 480)), 0.5, 8.0))


def _regions(
    segmentation: Segmentation, sigma: float
) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Segments with rounded borders.

    Every segment's mask is blurred and each pixel goes to the highest, which turns the staircase of
    a label map into a smooth curve. The lead of the highest over the second is 0 on the curve and
    grows with the distance to it, which is all that an anti-aliased line needs.

    Returns:
        regions: uint16 (height, width), 0 = none, otherwise 1 + index into `Segmentation.segments`.
        lead: uint8 (height, width), 0 on a border, 255 away from all borders.
    """
    label_map = segmentation.label_map
    height, width = label_map.shape
    margin = int(np.ceil(3 * sigma))
    regions = np.zeros((height, width), np.uint16)
    best = np.zeros((height, width), np.uint8)
    second = np.zeros((height, width), np.uint8)
    windows = [
        (region, segment.id, segment.roi) for region, segment in enumerate(segmentation.segments, 1)
    ]
    if not label_map.all():
        windows.append((0, 0, Roi(0, 0, width, height)))
    for region, value, roi in windows:
        rows = slice(max(roi.y - margin, 0), roi.y + roi.height + margin)
        window = rows, slice(max(roi.x - margin, 0), roi.x + roi.width + margin)
        mask = (label_map[window] == value).view(np.uint8) * np.uint8(255)
        share = cv2.GaussianBlur(mask, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
        np.copyto(regions[window], region, where=share > best[window])
        np.maximum(second[window], np.minimum(best[window], share), out=second[window])
        np.maximum(best[window], share, out=best[window])
    return regions, best - second


def _tint(
    image: NDArray[np.uint8], regions: NDArray[np.uint16], colours: list[Colour], opacity: float
) -> NDArray[np.uint8]:
    height, width = regions.shape
    # One 32-bit entry per colour is looked up several times faster than three bytes.
    table = np.array([(0, 0, 0, 0), *((*colour, 0) for colour in colours)], np.uint8).view(
        np.uint32
    )
    tint = table[:, 0].take(regions).view(np.uint8).reshape(height, width, 4)
    tinted = cv2.addWeighted(
        image, 1.0 - opacity, cv2.cvtColor(tint, cv2.COLOR_RGBA2RGB), opacity, 0.0
    )
    if not regions.all():
        np.copyto(tinted, image, where=(regions == 0)[..., None])
    return np.asarray(tinted, np.uint8)


def _outline(overlay: NDArray[np.uint8], lead: NDArray[np.uint8], scale: float) -> None:
    """Draws a white line in a soft dark casing along all borders, in place."""
    core, casing = _CORE * scale, _CASING * scale
    # Across a straight border the shares of the two segments follow the Gaussian's integral.
    quantile = NormalDist(0.0, _SMOOTHING * scale).inv_cdf
    distance = np.array(
        [quantile(0.5 + value / 512) for value in range(256)]
    )  # of each lead [pixels]
    dark = _CASING_OPACITY * ((casing + 0.5 - distance) / (casing - core)).clip(0.0, 1.0)
    white = _CORE_OPACITY * (core + 0.5 - distance).clip(0.0, 1.0)
    factor = ((1.0 - dark) * (1.0 - white)).astype(np.float32)
    near = np.flatnonzero(lead <= np.flatnonzero(factor < 1.0)[-1])
    lead_there = lead.reshape(-1)[near]
    pixels = overlay.reshape(-1, 3)
    kept = pixels[near] * factor[lead_there, None]  # (pixels near a border, 3)
    pixels[near] = (kept + (255.0 * white.astype(np.float32) + 0.5)[lead_there, None]).astype(
        np.uint8
    )
