"""What a node answers on demand: a table of services, and the queries that come by topic."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from zgs_ros.clouds import CloudTooLarge, object_cloud, oriented_box, places
from zgs_ros.config import NodeSettings
from zgs_ros.segmentation import ImageSegmenter, Label, Segment, Segmentation
from zgs_ros.streaming import features, messages
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
        position_frame: Of their positions.
        segments: zgs_ros/Segments, best first; score is the cosine with the text.
    """

    camera: str
    header: Any
    position_frame: str
    segments: list[Any]


class Services:
    """The answers; those with the models belong on the stream's thread, see its `call`.

    Of each camera the latest result is kept, and nothing else.

    Args:
        segmenter: Only used in `segment_image` and `query`.
        factory: Makes the messages.
        decode: sensor_msgs/Image to RGB; raises `BadImage`.
    """

    def __init__(
        self,
        segmenter: ImageSegmenter,
        factory: MessageFactory,
        decode: Callable[[Any], NDArray[np.uint8]] = decode_image,
    ) -> None:
        self._segmenter = segmenter
        self._factory = factory
        self._decode = decode
        self._latest: dict[str, Result] = {}

    def remember(self, result: Result) -> None:
        """Makes a result the one of its camera that `query` and `object_cloud` look at."""
        self._latest[result.camera] = replace(result, depth=None)

    def segment_image(self, image: Any) -> Any:
        """zgs_ros/SegmentArray of one sensor_msgs/Image.

        Raises:
            BadImage: If the message is no image.
        """
        began = time.perf_counter()
        [segmentation] = self._segmenter.segment_batch([self._decode(image)])
        seconds = time.perf_counter() - began
        return messages.segment_array(self._factory, image.header, segmentation, seconds)

    def query(self, text: str, max_results: int = 0, camera: str = "") -> Found:
        """Ranks the segments of a camera's latest result by similarity to a text.

        Args:
            text: For example ``"something to sit on"``.
            max_results: How many of the best are wanted; 0 for all.
            camera: Whose result; "" for the one with the best segment.

        Raises:
            ServiceError: If the text is empty or long, or there is no result yet.
        """
        check_text(text)
        self._check_latest(camera)
        wanted = self._segmenter.embed_text(text)
        ranked = {
            name: _ranked(result.segmentation, wanted)
            for name, result in self._latest.items()
            if name == camera or not camera
        }
        best = max(ranked, key=lambda name: ranked[name][0].score if ranked[name] else -np.inf)
        found = ranked[best][: max_results or None]
        latest = self._latest[best]
        segments = [messages.segment(self._factory, one) for one in found]
        return Found(best, latest.header, latest.position_frame, segments)

    def object_cloud(
        self, track_id: int, segment_id: int = 0, camera: str = ""
    ) -> tuple[Result, Segment, NDArray[np.void]]:
        """The points of an object of a camera's latest result, `zgs_ros.clouds.POINT` (n,), n > 0.

        Args:
            track_id: Which one; 0 for the one of `segment_id`.
            segment_id: Which one where it is not tracked.
            camera: Whose result; "" for the first one that has it.

        Raises:
            ServiceError: If there is no such object, or where it is is not known.
        """
        self._check_latest(camera)
        wanted = f"track_id {track_id}" if track_id else f"id {segment_id}"
        for name, result in self._latest.items():
            if camera not in ("", name):
                continue
            for segment in result.segmentation.segments:
                if (segment.track_id == track_id) if track_id else (segment.id == segment_id):
                    break
            else:
                continue
            if result.surface is None:
                raise ServiceError(
                    "the latest result has no places in space: it needs depth.enabled, depth and "
                    "camera_info, and with target_frame its transform; see /diagnostics"
                )
            try:
                cloud = object_cloud(result.surface, result.image, result.segmentation, segment)
            except CloudTooLarge as error:
                raise ServiceError(str(error)) from error
            if not len(cloud):
                raise ServiceError(f"the segment of {wanted} has no pixel with depth")
            return result, segment, cloud
        raise ServiceError(f"no segment of the latest result has {wanted}")

    def respond_to_query(self, request: Any) -> dict[str, Any]:
        """Fields of a QuerySegments response to its request.

        Raises:
            ServiceError: See `query`.
        """
        found = self.query(request.text, request.max_results, request.camera)
        return vars(found)

    def respond_to_object(self, request: Any) -> dict[str, Any]:
        """Fields of an ObjectCloud response to its request.

        Raises:
            ServiceError: See `object_cloud`.
        """
        result, segment, cloud = self.object_cloud(
            request.track_id, request.segment_id, request.camera
        )
        assert result.surface is not None
        box = oriented_box(places(cloud), result.surface.upright)
        create = self._factory.create
        header = messages.header(
            self._factory, messages.stamp_ns(result.header), result.surface.frame
        )
        return {
            "camera": result.camera,
            "label": segment.label,
            "track_id": segment.track_id,
            "segment_id": segment.id,
            "cloud": messages.point_cloud(self._factory, header, cloud, True),
            "pose": messages.pose(self._factory, box.pose.translation, box.pose.quaternion),
            "size": create("geometry_msgs/msg/Vector3", **dict(zip("xyz", box.size, strict=True))),
        }

    def respond_to_image(self, request: Any) -> dict[str, Any]:
        """Fields of a SegmentImage response to its request.

        Raises:
            BadImage: If the message is no image.
        """
        return {"result": self.segment_image(request.image)}

    def respond_to_encode(self, request: Any) -> dict[str, Any]:
        """Fields of an EncodeFeature response to its request.

        Raises:
            ServiceError: If the prompt is empty or long.
        """
        check_text(request.prompt)
        embedding = self._segmenter.embed_text(request.prompt)
        return {"feature": features.feature(self._factory, embedding)}

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
            position_frame=found.position_frame,
            segments=found.segments,
        )

    def _check_latest(self, camera: str) -> None:
        """Makes sure that there is a result, of a camera where one is named."""
        if not self._latest:
            raise ServiceError(
                "there is no result yet: activate the node, send images, and subscribe to its "
                "segments or set lazy to false"
            )
        if camera and camera not in self._latest:
            raise ServiceError(
                f"there is no result of a camera {quoted(camera)} (there are: {', '.join(self._latest)})"
            )


@dataclass(frozen=True)
class Service:
    """A service of a node.

    Attributes:
        name: Below the node's own name.
        type_name: Such as ``"zgs_ros/srv/QuerySegments"``.
        respond: Fields of a response to a request, on the stream's thread.
        meaning: What it does; for the reference.
        exists: Whether a node with these settings has it, from configuring on; None where every node
            has it in all of its states.
        explains: Whether responses have ``success`` and ``message``; without them a response that is
            empty says that there is none, and the log says why.
    """

    name: str
    type_name: str
    respond: Callable[[Services, Any], dict[str, Any]]
    meaning: str
    exists: Callable[[NodeSettings], bool] | None = None
    explains: bool = True


SERVICES = (
    Service(
        "object_cloud",
        "zgs_ros/srv/ObjectCloud",
        Services.respond_to_object,
        "The points of one object of the latest result, and an oriented box around them.",
    ),
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
    Service(
        "embed",
        "semantic_inference_msgs/srv/EncodeFeature",
        Services.respond_to_encode,
        "The embedding of a text, to compare those of feature_image with. With publish_features.",
        exists=lambda settings: settings.publish_features,
        explains=False,
    ),
)
"""All of them."""


def check_text(text: str) -> None:
    """Makes sure that a text can be embedded.

    Raises:
        ServiceError: If it is empty or long.
    """
    if len(text) > MAX_TEXT:
        raise ServiceError(f"text has {len(text)} characters, at most {MAX_TEXT} are allowed")
    if not text.strip():
        raise ServiceError("text is empty; say what to look for, such as 'something to sit on'")


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
        position_frame="",
        segments=[],
    )


def _ranked(segmentation: Segmentation, wanted: NDArray[np.float32]) -> list[Segment]:
    scored = [
        _scored(segment, float(segment.embedding @ wanted)) for segment in segmentation.segments
    ]
    return sorted(scored, key=lambda segment: -segment.score)


def _scored(segment: Segment, score: float) -> Segment:
    return replace(segment, labels=(Label(segment.label, score), *segment.alternatives))
