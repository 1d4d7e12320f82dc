"""Labels the images of a bag, one after the other, as the live node would if it missed none."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import Any

from zgs_ros.bags.bag import Recorded, Storage
from zgs_ros.bags.segmentation_journal import SegmentationJournal
from zgs_ros.bags.topics import CAMERA_INFOS, LabelledCamera
from zgs_ros.bags.writing import BagWriter
from zgs_ros.classes.classifier import load_classifier
from zgs_ros.config import NodeSettings
from zgs_ros.message_types import MessageTypes
from zgs_ros.rotation import rotations, segment_upright
from zgs_ros.segmentation import ImageSegmenter
from zgs_ros.streaming.enrichment import Enrichment
from zgs_ros.streaming.frames import TF, TF_STATIC, TF_TYPE, Frames, frame_name
from zgs_ros.streaming.images import BadImage, decode
from zgs_ros.streaming.messages import stamp_ns
from zgs_ros.streaming.outputs import OUTPUTS, mask_outputs
from zgs_ros.streaming.pairing import QUEUE_LENGTH, DepthFeed, DepthTicket
from zgs_ros.streaming.publishing import Outputs
from zgs_ros.streaming.stream import Result
from zgs_ros.transforms import TransformBuffer


class State(Enum):
    """What became of an image."""

    LABELLED = "labelled"
    RECALLED = "labelled before"
    LEFT_OUT = "left out by --rate"
    FAILED = "failed"


@dataclass(frozen=True)
class Outcome:
    """One image's result.

    Attributes:
        topic: That it was recorded on.
        time: When [ns].
        state: What became of it.
        problem: What went wrong, "" when nothing did.
    """

    topic: str
    time: int
    state: State
    problem: str = ""


@dataclass(frozen=True)
class Plan:
    """What is made of a bag.

    Attributes:
        cameras: Whose images are labelled.
        outputs: Which of the node's topics are written: of `zgs_ros.streaming.outputs.OUTPUTS`, and of
            classes with a mask_topic.
        rate: Results per second of recording and camera at most; 0 = every image.
        copied: Topics that are copied along.
    """

    cameras: Sequence[LabelledCamera]
    outputs: Collection[str]
    rate: float = 0.0
    copied: Collection[str] = ()


class _Clock:
    """The time of the recording; a `zgs_ros.streaming.clock.Clock`."""

    def __init__(self, writer: BagWriter) -> None:
        self._writer = writer

    def now_ns(self) -> int:
        return self._writer.time


@dataclass(frozen=True)
class _Waiting:
    """An image whose depth may still come."""

    camera: LabelledCamera
    recorded: Recorded
    message: Any
    ticket: DepthTicket | None


class BagLabelling:
    """Writes what the node would publish, with the images' headers and times of recording.

    Args:
        plan: What to make.
        settings: As the node has them.
        types: Of the messages.
        journal: What is segmented already.
        writer: Where results go.
        load: Makes the segmenter; called once, when it is needed.

    Raises:
        zgs_ros.classes.groups.ClassError: If the file of classes can't be used.
        ValueError: If the settings have too few or many rotations for the plan's cameras.
    """

    def __init__(
        self,
        plan: Plan,
        settings: NodeSettings,
        types: MessageTypes,
        journal: SegmentationJournal,
        writer: BagWriter,
        load: Callable[[], ImageSegmenter],
    ) -> None:
        self._plan = plan
        self._types = types
        self._journal = journal
        self._writer = writer
        self._load = load
        self._segmenter: ImageSegmenter | None = None
        self._max_pixels = settings.max_pixels
        self._slots: dict[str, float] = {}
        self._waiting: deque[_Waiting] = deque()
        self._longest_queue = QUEUE_LENGTH * len(plan.cameras)
        self._feeds: dict[str, DepthFeed] = {}
        self._depths: dict[str, list[DepthFeed]] = {}
        for camera in plan.cameras if settings.depth.enabled else ():
            self._feeds[camera.name] = feed = DepthFeed(settings.depth.slop, patience=0.0)
            for topic in (camera.topics.depth, camera.topics.camera_info):
                self._depths.setdefault(topic, []).append(feed)
        self._rotations = rotations(settings.rotation, [camera.name for camera in plan.cameras])
        self._images = {camera.topics.image: camera for camera in plan.cameras}
        topics = {camera.name: camera.topics.image for camera in plan.cameras}
        self._classifier = load_classifier(
            settings.classes, lambda phrases: self._models().embed_phrases(phrases), patience=None
        )
        self._enrichment = Enrichment(settings, _Clock(writer), topics, self._classifier)
        self._wait_ns = 0
        if settings.depth.enabled and settings.target_frame:
            self._enrichment.frames = Frames(TransformBuffer(), waits=False)
            self._wait_ns = round(settings.transform_timeout * 1e9)
        every = (*OUTPUTS, *mask_outputs(self._classifier.groups))
        rows = [row for row in every if row.topic in plan.outputs]
        cameras = {
            camera.name: {
                row.topic: writer.create_publisher(
                    camera.output(row.topic), row.type_name, row.qos.transient_local
                )
                for row in rows
            }
            for camera in plan.cameras
        }
        names = {camera.name: camera.topics.camera_info for camera in plan.cameras}
        # The latest camera_info by its topic, where one is written.
        written = any(row.type_name in CAMERA_INFOS for row in rows)
        self._infos: dict[str, Any] = dict.fromkeys(names.values()) if written else {}
        self._outputs = Outputs(
            types,
            cameras,
            settings,
            self._classifier,
            rows,
            lambda camera: self._infos.get(names[camera]),
        )

    def run(self, bag: Storage) -> Iterator[Outcome]:
        """Labels a bag; between two outcomes nothing is half done.

        Raises:
            zgs_ros.bags.bag.DamagedBag: If something in it can't be read.
        """
        kinds = {name: topic.type for name, topic in bag.topics.items()}
        moving = {TF} if self._enrichment.frames else set()
        # What holds for good may be recorded after the first image.
        if moving and TF_STATIC in kinds:
            for recorded in bag.messages({TF_STATIC}):
                self._take_transforms(recorded)
        for topic in self._infos:
            for recorded in islice(bag.messages({topic}), 1):
                self._infos[topic] = self._read(recorded, kinds)
        inputs = {*self._images, *self._depths, *self._infos}
        for recorded in bag.messages({*inputs, *moving, *self._plan.copied}):
            if recorded.topic in self._plan.copied:
                self._writer.write(recorded)
            self._take_source(recorded, kinds)
            if recorded.topic in moving:
                self._take_transforms(recorded)
            if recorded.topic in self._images:
                outcome = self._take(recorded, kinds[recorded.topic])
                if outcome:
                    yield outcome
            while self._waiting and self._is_due(self._waiting[0], recorded.time):
                yield self._label(self._waiting.popleft())
        while self._waiting:
            yield self._label(self._waiting.popleft())

    def lost(self) -> list[str]:
        """How many results have no places though depth is wanted, and why."""
        return self._enrichment.lost()

    def _models(self) -> ImageSegmenter:
        if self._segmenter is None:
            self._segmenter = self._load()
        return self._segmenter

    def _take_source(self, recorded: Recorded, kinds: Mapping[str, str]) -> None:
        """Takes depth and camera_info to where they are wanted."""
        topic = recorded.topic
        feeds = self._depths.get(topic, ())
        if not (feeds or topic in self._infos):
            return
        message = self._read(recorded, kinds)
        if message is None:  # images will be without depth, which is counted
            return
        if topic in self._infos:
            self._infos[topic] = message
        for feed in feeds:
            (feed.offer_info if kinds[topic] in CAMERA_INFOS else feed.offer)(message)

    def _read(self, recorded: Recorded, kinds: Mapping[str, str]) -> Any:
        """What is in a message, None where that can't be read."""
        with suppress(Exception):
            return self._types.deserialize(recorded.data, kinds[recorded.topic])
        return None

    def _take_transforms(self, recorded: Recorded) -> None:
        assert self._enrichment.frames is not None
        try:
            message = self._types.deserialize(recorded.data, TF_TYPE)
        except Exception:  # images that need it will be without places, which is counted
            return
        self._enrichment.frames.offer(message, static=recorded.topic == TF_STATIC)

    def _take(self, recorded: Recorded, kind: str) -> Outcome | None:
        """Lets an image wait for its turn; the outcome of one that needs not."""
        camera = self._images[recorded.topic]
        if self._plan.rate:
            slot = recorded.time * 1e-9 * self._plan.rate // 1
            if self._slots.get(camera.name) == slot:
                return Outcome(recorded.topic, recorded.time, State.LEFT_OUT)
            self._slots[camera.name] = slot
        try:
            message = self._types.deserialize(recorded.data, kind)
        except Exception as error:
            # Whatever the decoder stumbles over in bytes that are no message.
            return _failed(recorded, f"is no {kind}: {str(error) or type(error).__name__}")
        feed = self._feeds.get(camera.name)
        ticket = feed.expect(message.header) if feed else None
        self._waiting.append(_Waiting(camera, recorded, message, ticket))
        return None

    def _is_due(self, image: _Waiting, now: int) -> bool:
        """Whether nothing that may still come belongs to an image, or it has waited for long enough.

        Args:
            image: That waits.
            now: Time of the recording that has been reached [ns].
        """
        if len(self._waiting) > self._longest_queue:
            return True
        depth = image.ticket
        return depth is None or (
            depth.settled
            and (now - image.recorded.time >= self._wait_ns or self._has_transform(image))
        )

    def _has_transform(self, image: _Waiting) -> bool:
        """Whether the transform of an image is known."""
        frames, target = self._enrichment.frames, self._enrichment.settings.target_frame
        header = image.message.header
        source, stamp = frame_name(header.frame_id), max(stamp_ns(header), 0)
        return frames is None or frames.find(image.camera.name, target, source, stamp) is not None

    def _label(self, image: _Waiting) -> Outcome:
        recorded, header = image.recorded, image.message.header
        self._writer.time = recorded.time
        try:
            pixels = decode(image.message, self._max_pixels)
        except BadImage as error:
            return _failed(recorded, str(error))
        rotation = self._rotations[image.camera.name]
        key = self._journal.key(recorded.data, rotation)
        seen, state = self._journal.recall(key), State.RECALLED
        if seen is None:
            models = self._models()
            began = time.perf_counter()
            try:
                [segmentation] = segment_upright(models, [pixels], [rotation])
            except Exception as error:  # whatever it is, it need not happen to the other images
                return _failed(recorded, f"segmenting failed: {type(error).__name__}: {error}")
            seconds = time.perf_counter() - began
            seen, state = self._journal.remember(key, segmentation, seconds), State.LABELLED
        result = Result(image.camera.name, header, pixels, *seen, image.ticket)
        if self._classifier.missing:
            self._classifier.embed_some()
        try:
            result = self._enrichment(result)
        except Exception as error:
            return _failed(recorded, f"tracking or placing failed: {type(error).__name__}: {error}")
        self._outputs.publish(result)
        return Outcome(recorded.topic, recorded.time, state)


def _failed(recorded: Recorded, problem: str) -> Outcome:
    return Outcome(recorded.topic, recorded.time, State.FAILED, problem)
