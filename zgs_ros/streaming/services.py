"""What a node answers on demand; both front ends only create the services."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from zgs_ros.segmentation import Label, Segment, Segmentation
from zgs_ros.streaming import messages
from zgs_ros.streaming.images import decode_image
from zgs_ros.streaming.messages import MessageFactory
from zgs_ros.streaming.stream import Result


class ServiceError(ValueError):
    """A request that can't be answered; the text says why and what to do."""


class TextSegmenter(Protocol):
    """The part of the segmenter that the services need."""

    def segment_batch(self, images: Sequence[NDArray[np.uint8]]) -> Sequence[Segmentation]:
        """Segments RGB images (height, width, 3)."""
        ...

    def embed_text(self, text: str) -> NDArray[np.float32]:
        """float32 (dimensions,), unit norm."""
        ...


class Services:
    """The answers; `segment_image` and `query` belong on the stream's thread, see its `call`.

    Args:
        segmenter: Only used in `segment_image` and `query`.
        factory: Makes the messages.
        decode: sensor_msgs/Image to RGB; raises `BadImage`.
    """

    def __init__(
        self,
        segmenter: TextSegmenter,
        factory: MessageFactory,
        decode: Callable[[Any], NDArray[np.uint8]] = decode_image,
    ) -> None:
        self._segmenter = segmenter
        self._factory = factory
        self._decode = decode
        self._latest: Result | None = None

    def remember(self, result: Result) -> None:
        """Makes a result the one that `query` searches."""
        self._latest = result

    def segment_image(self, image: Any) -> Any:
        """zgs_ros/SegmentArray of one sensor_msgs/Image.

        Raises:
            BadImage: If the message is no image.
        """
        began = time.perf_counter()
        [segmentation] = self._segmenter.segment_batch([self._decode(image)])
        seconds = time.perf_counter() - began
        return messages.segment_array(self._factory, image.header, segmentation, seconds)

    def query(self, text: str, max_results: int = 0) -> tuple[Any, list[Any]]:
        """Ranks the latest result's segments by similarity to a text.

        Args:
            text: For example ``"something to sit on"``.
            max_results: How many of the best are wanted; 0 for all.

        Returns:
            The header of the result's image; its zgs_ros/Segments, best first, score is the cosine.

        Raises:
            ServiceError: If the text is empty or there is no result yet.
        """
        if not text.strip():
            raise ServiceError("text is empty; say what to look for, such as 'something to sit on'")
        if self._latest is None:
            raise ServiceError(
                "there is no result yet: activate the node, send images, and subscribe to its "
                "segments or set lazy to false"
            )
        segments = self._latest.segmentation.segments
        wanted = self._segmenter.embed_text(text)
        scores = [float(segment.embedding @ wanted) for segment in segments]
        best = np.argsort([-score for score in scores], kind="stable")[: max_results or None]
        found = [messages.segment(self._factory, _scored(segments[i], scores[i])) for i in best]
        return self._latest.header, found


def _scored(segment: Segment, score: float) -> Segment:
    return replace(segment, labels=(Label(segment.label, score), *segment.alternatives))
