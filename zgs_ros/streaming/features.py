"""Segments as semantic_inference has them, which Hydra builds open-set scene graphs of."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from zgs_ros.segmentation import Segmentation
from zgs_ros.streaming.messages import MessageFactory, encoded_image, header

INTERFACES = "semantic_inference_msgs"
"""The package that defines the messages."""


def feature_image(factory: MessageFactory, image_header: Any, segmentation: Segmentation) -> Any:
    """A semantic_inference_msgs/FeatureImage: every segment's mask and embedding.

    Args:
        factory: Makes the messages.
        image_header: The image's header, which is used as it is.
        segmentation: What was seen.
    """
    return factory.create(
        f"{INTERFACES}/msg/FeatureImage",
        header=image_header,
        # All of them, though they may be left out where they have no gaps: Hydra asks for as many
        # as there are features.
        mask_ids=factory.ints(np.array([one.id for one in segmentation.segments], np.int32)),
        # Of semantic_inference's own encoding: what OpenCV calls unsigned numbers of 16 bits.
        image=encoded_image(factory, image_header, "16UC1", segmentation.label_map),
        features=[_vector(factory, segment.embedding) for segment in segmentation.segments],
    )


def feature(factory: MessageFactory, embedding: NDArray[np.float32]) -> Any:
    """A semantic_inference_msgs/FeatureVectorStamped of what has no image, such as a text.

    Args:
        factory: Makes the messages.
        embedding: float32 (dimensions,).
    """
    vector = _vector(factory, embedding)
    kind = f"{INTERFACES}/msg/FeatureVectorStamped"
    return factory.create(kind, header=header(factory, 0), feature=vector)


def _vector(factory: MessageFactory, embedding: NDArray[np.float32]) -> Any:
    return factory.create(f"{INTERFACES}/msg/FeatureVector", data=factory.floats(embedding))
