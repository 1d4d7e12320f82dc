"""What the node loads when it is configured, and what to do where that fails."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zgs_ros.config import NodeSettings
from zgs_ros.ros.bridge import find_bridge_problem
from zgs_ros.ros.convert import bridged_decode
from zgs_ros.streaming.images import decode

if TYPE_CHECKING:
    from zgs_ros.segmenter import Segmenter

logger = logging.getLogger(__name__)


class CannotLoad(RuntimeError):
    """Models that can't be loaded; the message says what to do."""


def load_models(settings: NodeSettings) -> Segmenter:
    """Loads the models.

    Raises:
        CannotLoad: If they, or messages that are wanted, can't be loaded; the message says what to do.
    """
    _check_messages(settings)
    try:
        # Here because torch takes seconds to import: until it is needed the node is light, and a
        # misspelt parameter is reported at once.
        from zgs_ros.labeling.vocabulary import VocabularyError
        from zgs_ros.models import ModelError
        from zgs_ros.segmenter import load_segmenter
    except ImportError as error:
        raise CannotLoad(f"{error} (libraries of the models: see docs/install_ros.md)") from error
    try:
        return load_segmenter(settings, begin_early=True)
    except (ModelError, VocabularyError) as error:
        raise CannotLoad(str(error)) from error


def _check_messages(settings: NodeSettings) -> None:
    distro = os.environ.get("ROS_DISTRO", "<distro>")
    if settings.publish_features and importlib.util.find_spec("semantic_inference_msgs") is None:
        raise CannotLoad(
            "publish_features needs the package semantic_inference_msgs: build it from "
            "github.com/MIT-SPARK/semantic_inference in a workspace and source that (docs/hydra.md)"
        )
    if settings.publish_detections and importlib.util.find_spec("vision_msgs") is None:
        raise CannotLoad(
            "publish_detections needs the package vision_msgs: sudo apt install "
            f"ros-{distro}-vision-msgs"
        )


def choose_decode() -> Callable[..., NDArray[np.uint8]]:
    """The decoder of image messages: cv_bridge's where it works."""
    problem = find_bridge_problem()
    if problem:
        logger.warning("images are decoded without cv_bridge. %s", problem)
        return decode
    return bridged_decode()
