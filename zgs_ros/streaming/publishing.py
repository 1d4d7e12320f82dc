"""Publishes results: on every topic of the table of outputs that somebody listens to."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from zgs_ros.classes.classifier import Classifier
from zgs_ros.clouds import CloudTooLarge
from zgs_ros.config import NodeSettings
from zgs_ros.segmentation import Segmentation
from zgs_ros.streaming.messages import MessageFactory
from zgs_ros.streaming.outputs import OUTPUTS, Output, mask_outputs, output_topic
from zgs_ros.streaming.port import Port, Publisher
from zgs_ros.streaming.showing import Showing
from zgs_ros.streaming.stream import Result
from zgs_ros.streaming.throttle import ThrottledLog

logger = logging.getLogger(__name__)


Publishers = Mapping[str, Publisher]
"""A camera's publishers, by `Output.topic`."""


class Outputs:
    """Turns results into messages for those who listen.

    Args:
        factory: Makes the messages.
        cameras: Where each camera's go, by its name.
        settings: Embeddings, opacity and JPEG quality; replace `settings` to change them.
        classifier: What gives segments their classes, None if nothing does.
        rows: The outputs; `mask_outputs` may be among them.
        camera_info: The latest one of a camera, None if none is known.
    """

    def __init__(
        self,
        factory: MessageFactory,
        cameras: Mapping[str, Publishers],
        settings: NodeSettings,
        classifier: Classifier | None = None,
        rows: Sequence[Output] = OUTPUTS,
        camera_info: Callable[[str], Any] = lambda camera: None,
    ) -> None:
        self.settings = settings
        self._factory = factory
        self._cameras = cameras
        self._classifier = classifier
        self._rows = rows
        self._camera_info = camera_info
        self._named: dict[str, int] = {}  # version of the names that a camera's listeners know
        self._lock = threading.Lock()  # held while names are published, which several threads do
        self._left_out: Counter[str] = Counter()
        self._log = ThrottledLog(logger)

    def wanted(self, camera: str | None = None) -> bool:
        """Whether anybody listens to results of a camera, or of any; diagnostics don't count."""
        cameras: Collection[Publishers] = (
            self._cameras.values() if camera is None else [self._cameras[camera]]
        )
        return any(
            publishers[row.topic].subscription_count()
            for publishers in cameras
            for row in self._rows
            if row.topic in publishers and not row.names
        )

    def publish(self, result: Result) -> None:
        """Publishes a result on every topic that somebody listens to, with the input's header."""
        showing = self._showing(result)
        self._publish_names(result.camera, showing)
        for row, publisher in self._open_rows(result.camera, names=False):
            if publisher.subscription_count():
                self._send(row, publisher, showing)

    def publish_names(self, header: Any) -> None:
        """Publishes what ids are called for each camera, if that has changed."""
        nothing = np.zeros((1, 1, 3), np.uint8)
        for camera in self._cameras:
            empty = Segmentation(np.zeros((1, 1), np.uint16), ())
            self._publish_names(camera, self._showing(Result(camera, header, nothing, empty, 0.0)))

    def facts(self) -> dict[str, str]:
        """How many messages were left out since they would be too large; for the diagnostics."""
        return {f"left out: {topic}": str(count) for topic, count in dict(self._left_out).items()}

    def close(self) -> None:
        """Takes the topics from the graph."""
        for publishers in self._cameras.values():
            for publisher in publishers.values():
                publisher.close()

    def _showing(self, result: Result) -> Showing:
        info = self._camera_info(result.camera)
        return Showing(self._factory, result, self.settings, self._classifier, info)

    def _publish_names(self, camera: str, showing: Showing) -> None:
        if self._classifier is None:
            return
        with self._lock:
            version = self._classifier.registry.version
            if self._named.get(camera) == version:
                return
            self._named[camera] = version
            for row, publisher in self._open_rows(camera, names=True):
                self._send(row, publisher, showing)

    def _send(self, row: Output, publisher: Publisher, showing: Showing) -> None:
        try:
            message = row.make(showing)
        except CloudTooLarge as error:  # which costs the clouds alone
            self._left_out[row.topic] += 1
            self._log.log(logging.WARNING, row.topic, f"{row.topic} is left out: {error}")
            return
        if message is not None:
            publisher.publish(message)

    def _open_rows(self, camera: str, names: bool) -> Iterator[tuple[Output, Publisher]]:
        publishers = self._cameras[camera]
        for row in self._rows:
            if row.topic in publishers and row.names == names:
                yield row, publishers[row.topic]


def open_outputs(
    port: Port,
    settings: NodeSettings,
    classifier: Classifier | None = None,
    camera_info: Callable[[str], Any] = lambda camera: None,
) -> Outputs:
    """The outputs of a node, for all of its cameras.

    Args:
        port: That publishes.
        settings: Of the node.
        classifier: See `Outputs`; classes that have masks of their own get topics.
        camera_info: See `Outputs`.
    """
    rows = (*OUTPUTS, *mask_outputs(classifier.groups if classifier else ()))
    missing = [
        row for row in rows if row.exists(settings) and not port.factory.knows(row.type_name)
    ]
    for row in missing:
        logger.warning(
            "there is no %s: the package of %s is not installed", row.topic, row.type_name
        )
    cameras = {
        camera: {
            row.topic: port.create_publisher(
                output_topic(camera, row.topic), row.type_name, row.qos
            )
            for row in rows
            if row.exists(settings) and row not in missing
        }
        for camera in settings.cameras
    }
    return Outputs(port.factory, cameras, settings, classifier, rows, camera_info)
