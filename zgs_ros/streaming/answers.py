"""The answers to what a node is asked: of the latest results, of images, and changes of what it looks for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zgs_ros.classes.classifier import Classifier
from zgs_ros.classes.groups import ClassError, ClassGroup
from zgs_ros.classes.watching import Watch, Watcher
from zgs_ros.clouds import CloudTooLarge, object_cloud, oriented_box, places
from zgs_ros.rotation import segment_upright
from zgs_ros.segmentation import ImageSegmenter, Label, Segment, Segmentation
from zgs_ros.streaming import features, messages
from zgs_ros.streaming.images import decode_image
from zgs_ros.streaming.messages import MessageFactory
from zgs_ros.streaming.stream import Result
from zgs_ros.texts import quoted

PIECE_SECONDS = 0.1
"""For how long phrases are embedded at once, so that images don't wait for more."""


MAX_TEXT = 500
"""Longest text of a query, in characters; CLIP sees some 70 words of it."""


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
    """The answers; all of them belong on the stream's thread, see its `call`.

    Of each camera the latest result is kept, and nothing else.

    Args:
        segmenter: What sees and embeds.
        factory: Makes the messages.
        decode: sensor_msgs/Image to RGB; raises `BadImage`.
        rotations: By how many degrees clockwise each camera's images are turned to be upright.
        classifier: Gives segments their classes; None for none.
        enable: Has the stream process images, or drop them.
        changed: Called when classes or what is watched for have changed.

    Attributes:
        watcher: What is watched for.
    """

    def __init__(
        self,
        segmenter: ImageSegmenter,
        factory: MessageFactory,
        decode: Callable[[Any], NDArray[np.uint8]] = decode_image,
        rotations: Mapping[str, int] = MappingProxyType({"": 0}),
        classifier: Classifier | None = None,
        enable: Callable[[bool], None] = lambda enabled: None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.watcher = Watcher(segmenter.embed_text)
        self._classifier = classifier
        self._enable = enable
        self._changed = changed
        self._segmenter = segmenter
        self._factory = factory
        self._decode = decode
        self._rotations = rotations
        self._latest: dict[str, Result] = {}

    def remember(self, result: Result) -> None:
        """Makes a result the one of its camera that `query` and `object_cloud` look at."""
        self._latest[result.camera] = replace(result, depth=None)

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
        if self._classifier:
            segmentation = self._classifier.find_classes(segmentation)
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
            camera: Whose result; "" for the one that has the track, or the only one.

        Raises:
            ServiceError: If there is no such object, or where it is is not known.
        """
        result, segment = self._find(track_id, segment_id, camera)
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
            raise ServiceError(f"the segment {segment.label!r} has no pixel with depth")
        return result, segment, cloud

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
            ServiceError: See `segment_image`.
        """
        return {"result": self.segment_image(request.image, request.camera)}

    def respond_to_encode(self, request: Any) -> dict[str, Any]:
        """Fields of an EncodeFeature response to its request.

        Raises:
            ServiceError: If the prompt is empty or long.
        """
        check_text(request.prompt)
        embedding = self._segmenter.embed_text(request.prompt)
        return {"feature": features.feature(self._factory, embedding)}

    def respond_to_mask(self, request: Any) -> dict[str, Any]:
        """Fields of a SegmentMask response to its request.

        Raises:
            ServiceError: If the latest results have no such segment.
        """
        result, segment = self._find(request.track_id, request.segment_id, request.camera)
        mask = (result.segmentation.label_map == segment.id).view(np.uint8) * np.uint8(255)
        return {
            "camera": result.camera,
            "mask": messages.mono8_image(self._factory, result.header, mask),
            "segment": messages.segment(self._factory, segment),
        }

    def respond_to_classes(self, request: Any) -> dict[str, Any]:
        """Fields of a SetClasses response to its request.

        Raises:
            ServiceError: If the classes can't be used; then nothing changes.
        """
        classifier = self._classifier
        if classifier is None:
            raise ServiceError("this node has no classes")
        groups = [ClassGroup(int(g.id), g.name, tuple(g.phrases)) for g in request.groups]
        try:
            classifier.replace_groups(groups, bool(request.open))
        except ClassError as error:
            raise ServiceError(str(error)) from None
        missing = classifier.embed_some(PIECE_SECONDS)
        self._changed()
        made = [
            self._factory.create(
                "zgs_ros/msg/ClassGroup", id=g.id, name=g.name, phrases=list(g.phrases)
            )
            for g in classifier.groups
        ]
        return {"message": _later(missing), "open": classifier.is_open, "groups": made}

    def respond_to_watches(self, request: Any) -> dict[str, Any]:
        """Fields of a SetWatches response to its request.

        Raises:
            ServiceError: If they can't be watched for; then nothing changes.
        """
        watches = [Watch(w.phrase, float(w.threshold), float(w.margin)) for w in request.watches]
        try:
            self.watcher.replace_watches(watches)
        except ClassError as error:
            raise ServiceError(str(error)) from None
        missing = self.watcher.embed_some(PIECE_SECONDS)
        self._changed()
        made = [messages.watch(self._factory, watch) for watch in self.watcher.watches]
        return {"message": _later(missing), "watches": made}

    def respond_to_enable(self, request: Any) -> dict[str, Any]:
        """Fields of a SetBool response to its request."""
        self._enable(bool(request.data))
        return {"message": "images are processed" if request.data else "images are dropped"}

    def _find(self, track_id: int, segment_id: int, camera: str) -> tuple[Result, Segment]:
        """A segment of the latest results, by its track or by its id."""
        self._check_latest(camera)
        if bool(track_id) == bool(segment_id):
            raise ServiceError("ask by track_id or by segment_id: one of them must be above 0")
        if segment_id and not camera and len(self._latest) > 1:
            raise ServiceError(
                f"ids are a camera's own: say which one (there are: {', '.join(self._latest)})"
            )
        for result in self._latest.values():
            if camera not in ("", result.camera):
                continue
            for segment in result.segmentation.segments:
                if (segment.track_id == track_id) if track_id else (segment.id == segment_id):
                    return result, segment
        what = f"track_id {track_id}" if track_id else f"segment_id {segment_id}"
        where = f" of the camera {quoted(camera)}" if camera else ""
        raise ServiceError(f"the latest result{where} has no segment with {what}")

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

    @property
    def missing(self) -> int:
        """Phrases of classes and of what is watched for that are not embedded yet."""
        return self.watcher.missing + (self._classifier.missing if self._classifier else 0)

    def embed_some(self) -> None:
        """Embeds some of them."""
        if self.watcher.missing:
            self.watcher.embed_some(PIECE_SECONDS)
        elif self._classifier:
            self._classifier.embed_some(PIECE_SECONDS)


def check_text(text: str) -> None:
    """Makes sure that a text can be embedded.

    Raises:
        ServiceError: If it is empty or long.
    """
    if len(text) > MAX_TEXT:
        raise ServiceError(f"text has {len(text)} characters, at most {MAX_TEXT} are allowed")
    if not text.strip():
        raise ServiceError("text is empty; say what to look for, such as 'something to sit on'")


def _later(missing: int) -> str:
    return f"{missing} phrases are embedded between the next images" if missing else ""


def _ranked(segmentation: Segmentation, wanted: NDArray[np.float32]) -> list[Segment]:
    scored = [
        _scored(segment, float(segment.embedding @ wanted)) for segment in segmentation.segments
    ]
    return sorted(scored, key=lambda segment: -segment.score)


def _scored(segment: Segment, score: float) -> Segment:
    return replace(segment, labels=(Label(segment.label, score), *segment.alternatives))
