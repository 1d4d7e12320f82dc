"""Imperfections of a camera."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from zgs_ros.synthetic.scene import Sensor


def apply_sensor(rgb: NDArray[np.uint8], sensor: Sensor) -> NDArray[np.uint8]:
    """Blur, vignette, exposure, white balance and noise, in the order light meets them.

    Args:
        rgb: (H, W, 3).
        sensor: Strength of each effect; at zero or one an effect costs nothing.

    Returns:
        A new picture, or the same array if there is nothing to do.
    """
    if sensor == Sensor(seed=sensor.seed):
        return rgb
    height, width = rgb.shape[:2]
    sigma = sensor.blur * min(height, width)
    if sigma > 0.15:
        rgb = np.asarray(cv2.GaussianBlur(rgb, (0, 0), sigma), np.uint8)
    gain = np.asarray(sensor.balance, np.float32) * sensor.exposure
    image = rgb * gain
    if sensor.vignette > 0:
        x = np.linspace(-1, 1, width, dtype=np.float32)
        y = np.linspace(-1, 1, height, dtype=np.float32)
        image *= (1 - sensor.vignette * 0.5 * (x[None, :] ** 2 + y[:, None] ** 2))[..., None]
    if sensor.noise > 0:
        rng = np.random.default_rng(sensor.seed)
        grain = rng.standard_normal((height, width), np.float32)[..., None]
        tint = rng.standard_normal((height, width, 3), np.float32)
        image += (0.8 * grain + 0.6 * tint) * np.float32(sensor.noise * 255)
    return np.clip(image + 0.5, 0, 255).astype(np.uint8)
