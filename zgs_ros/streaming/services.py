"""What a node answers on demand: a table of services, and the queries that come by topic."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from zgs_ros.rotation import segment_upright
from zgs_ros.segmentation import ImageSegmenter, Label, Segment, Segmentation
from zgs_ros.streaming import messages
from zgs_ros.streaming.images import BadImage, decode_image
from zgs_ros.streaming.messages import MessageFactory
from zgs_ros.streaming.stream import Result, SegmentationStream
from zgs_ros.texts import bounded, quoted

MAX_TEXT = 500
"""Longest text of a query, in characters; CLIP sees some 70 words of it."""

logger = logging.getLogger(__name__)

T = TypeVar("T")


class ServiceError(ValueError):
    """A request that can't be answered; the text says why and what to do."""


@dataclass(frozen=True, eq=False)
class Found:
    """The answer to a query.

    Attributes:
        camera: That the segments were seen by, "" for the only one.
        header: Of the image that they belong to.
        segments: zgs_ros/Segments, best first; score is the cosine with the text.
    """

    camera: str
    header: Any
    segments: list[Any]


class Services:
    """The answers; `segment_image` and `query` belong on the stream's thread, see its `call`.

    Args:
        segmenter: Only used in `segment_image` and `query`.
        factory: Makes the messages.
        decode: sensor_msgs/Image to RGB; raises `BadImage`.
        rotations: By how many degrees clockwise each camera's images are turned to be upright.
    """

    def __init__(
        self,
        segmenter: ImageSegmenter,
        factory: MessageFactory,
        decode: Callable[[Any], NDArray[np.uint8]] = decode_image,
        rotations: Mapping[str, int] = MappingProxyType({"": 0}),
    ) -> None:
        self._segmenter = segmenter
        self._factory = factory
        self._decode = decode
        self._rotations = rotations
        self._latest: dict[str, tuple[Any, Segmentation]] = {}

    def remember(self, result: Result) -> None:
        """Makes a result the one of its camera that `query` searches."""
        self._latest[result.camera] = (result.header, result.segmentation)

    def segment_image(self, image: Any, camera: str = "") -> Any:
        """zgs_ros/SegmentArray of one sensor_msgs/Image.

        Args:
            image: The message.
            camera: Whose rotation it is turned by; "" where all have the same.

        Raises:
            BadImage: If the message is no image.
            ServiceError: If there is no such camera, or the camera makes a difference.
        """
        degrees = self._rotation(camera)
        began = time.perf_counter()
        [segmentation] = segment_upright(self._segmenter, [self._decode(image)], [degrees])
        seconds = time.perf_counter() - began
        return messages.segment_array(self._factory, image.header, segmentation, seconds)

    def _rotation(self, camera: str) -> int:
        there = ", ".join(self._rotations)
        if camera:
            if camera not in self._rotations:
                raise ServiceError(f"there is no camera {quoted(camera)} (there are: {there})")
            return self._rotations[camera]
        if len(set(self._rotations.values())) > 1:
            raise ServiceError(f"cameras are turned differently; say whose image it is: {there}")
        return next(iter(self._rotations.values()))

    def query(self, text: str, max_results: int = 0, camera: str = "") -> Found:
        """Ranks the segments of a camera's latest result by similarity to a text.

        Args:
            text: For example ``"something to sit on"``.
            max_results: How many of the best are wanted; 0 for all.
            camera: Whose result; "" for the one with the best segment.

        Raises:
            ServiceError: If the text is empty or long, or there is no result yet.
        """
        if len(text) > MAX_TEXT:
            raise ServiceError(f"text has {len(text)} characters, at most {MAX_TEXT} are allowed")
        if not text.strip():
            raise ServiceError("text is empty; say what to look for, such as 'something to sit on'")
        if not self._latest:
            raise ServiceError(
                "there is no result yet: activate the node, send images, and subscribe to its "
                "segments or set lazy to false"
            )
        if camera and camera not in self._latest:
            raise ServiceError(
                f"there is no result of a camera {quoted(camera)} (there are: {', '.join(self._latest)})"
            )
        wanted = self._segmenter.embed_text(text)
        ranked = {
            name: _ranked(segmentation, wanted)
            for name, (_, segmentation) in self._latest.items()
            if name == camera or not camera
        }
        best = max(ranked, key=lambda name: ranked[name][0].score if ranked[name] else -np.inf)
        found = ranked[best][: max_results or None]
        header, _ = self._latest[best]
        return Found(best, header, [messages.segment(self._factory, one) for one in found])

    def respond_to_query(self, request: Any) -> dict[str, Any]:
        """Fields of a QuerySegments response to its request.

        Raises:
            ServiceError: See `query`.
        """
        found = self.query(request.text, request.max_results, request.camera)
        return {"camera": found.camera, "header": found.header, "segments": found.segments}

    def respond_to_image(self, request: Any) -> dict[str, Any]:
        """Fields of a SegmentImage response to its request.

        Raises:
            BadImage: If the message is no image.
            ServiceError: See `segment_image`.
        """
        return {"result": self.segment_image(request.image, request.camera)}

    def answer(self, query: Any) -> Any:
        """zgs_ros/QueryResult of a zgs_ros/Query, whatever is wrong with it."""
        create = self._factory.create
        try:
            found = self.query(query.text, query.max_results, query.camera)
        except ServiceError as error:
            return refusal(self._factory, query, str(error))
        return create(
            "zgs_ros/msg/QueryResult",
            query=query,
            success=True,
            message="",
            camera=found.camera,
            header=found.header,
            segments=found.segments,
        )


@dataclass(frozen=True)
class Service:
    """A service of a node.

    Attributes:
        name: Below the node's own name.
        type_name: Such as ``"zgs_ros/srv/QuerySegments"``; responses have ``success`` and ``message``.
        respond: Fields of a response to a request, on the stream's thread.
        meaning: What it does; for the reference.
    """

    name: str
    type_name: str
    respond: Callable[[Services, Any], dict[str, Any]]
    meaning: str


SERVICES = (
    Service(
        "query",
        "zgs_ros/srv/QuerySegments",
        Services.respond_to_query,
        "Ranks the segments of the latest result by similarity to a text.",
    ),
    Service(
        "segment_image",
        "zgs_ros/srv/SegmentImage",
        Services.respond_to_image,
        "Segments one image on demand, also while the stream is inactive.",
    ),
)
"""All of them."""


def submit(stream: SegmentationStream, function: Callable[[], T]) -> Future[T]:
    """Has work done on the stream's thread; where it takes none, that is the `outcome`."""
    try:
        return stream.call(function)
    except RuntimeError as error:
        refused: Future[T] = Future()
        refused.set_exception(ServiceError(str(error)))
        return refused


def outcome(done: Future[T]) -> T:
    """What came out of work on the stream's thread.

    Raises:
        ServiceError: Whatever went wrong; the text is for who asked.
    """
    try:
        return done.result()
    except ServiceError:
        raise
    except BadImage as error:
        raise ServiceError(str(error)) from error
    except CancelledError:
        raise ServiceError("the node was stopped before the request was answered") from None
    except Exception as error:
        logger.exception("a request failed:")
        raise ServiceError(f"failed: {error}") from error


def refusal(factory: MessageFactory, query: Any, reason: str) -> Any:
    """zgs_ros/QueryResult that says why there is none; of long texts it repeats the beginning."""
    if max(len(query.text), len(query.camera)) > MAX_TEXT:
        query = factory.create(
            "zgs_ros/msg/Query",
            text=bounded(query.text, MAX_TEXT),
            max_results=query.max_results,
            camera=bounded(query.camera, MAX_TEXT),
        )
    return factory.create(
        "zgs_ros/msg/QueryResult",
        query=query,
        success=False,
        message=reason,
        camera=query.camera,
        header=messages.header(factory, 0),
        segments=[],
    )


def _ranked(segmentation: Segmentation, wanted: NDArray[np.float32]) -> list[Segment]:
    scored = [
        _scored(segment, float(segment.embedding @ wanted)) for segment in segmentation.segments
    ]
    return sorted(scored, key=lambda segment: -segment.score)


def _scored(segment: Segment, score: float) -> Segment:
    return replace(segment, labels=(Label(segment.label, score), *segment.alternatives))
