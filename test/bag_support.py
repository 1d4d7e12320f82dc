"""Recorded bags for the tests, written by rosbags as a recorder would have."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.rosbag2.enums import CompressionFormat, CompressionMode

from zgs_ros.message_types import MessageTypes
from zgs_ros.segmentation import Label, Roi, Segment, Segmentation
from zgs_ros.streaming import messages

CAMERA = "/camera/image_raw"
START = 1_700_000_000_000_000_000
STEP = 100_000_000
TYPES = MessageTypes("jazzy")
LATENCY = 3_000_000
"""By how much images are recorded after they were taken [ns]."""


class Message(NamedTuple):
    """A message to record, with the time of recording."""

    topic: str
    time: int
    value: Any


def scene(index: int, height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    """uint8 RGB: a bright box that moves over a dark ground."""
    image = np.full((height, width, 3), (40, 60, 80), np.uint8)
    image[8:32, 4 + index % 20 : 28 + index % 20] = (230, 210, 190)
    return image


def stamp(index: int) -> int:
    return START + index * STEP


def image(index: int, topic: str = CAMERA, encoding: str = "rgb8") -> Message:
    """The image of an index; `encoding` jpeg is a CompressedImage."""
    header = messages.header(TYPES, stamp(index), "camera_optical_frame")
    if encoding == "jpeg":
        value = messages.jpeg_image(TYPES, header, scene(index), 90)
    elif encoding == "mono8":
        grey = cv2.cvtColor(scene(index), cv2.COLOR_RGB2GRAY)
        value = messages.rgb_image(TYPES, header, np.asarray(grey, np.uint8))
        value.encoding = encoding
    else:
        value = messages.rgb_image(TYPES, header, scene(index))
        value.encoding = encoding
    return Message(topic, stamp(index) + LATENCY, value)


def images(count: int, topic: str = CAMERA, encoding: str = "rgb8") -> list[Message]:
    return [image(index, topic, encoding) for index in range(count)]


def text(index: int, topic: str = "/chatter") -> Message:
    return Message(topic, stamp(index), TYPES.create("std_msgs/msg/String", data=f"text {index}"))


def record(
    folder: Path,
    recorded: Iterable[Message],
    storage: str = "mcap",
    compression: CompressionMode = CompressionMode.NONE,
) -> Path:
    """Writes a rosbag2 folder, its messages in the order of time; returns the folder."""
    writer = Writer(folder, version=9, storage_plugin=StoragePlugin[storage.upper()])
    writer.set_compression(compression, CompressionFormat.ZSTD)
    connections: dict[str, Any] = {}
    with writer:
        for topic, time, value in sorted(recorded, key=lambda message: message.time):
            kind = value.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(
                    topic,
                    kind,
                    msgdef=TYPES.definition(kind),
                    rihs01=TYPES.type_hash(kind),
                )
            writer.write(connections[topic], time, bytes(TYPES.serialize(value)))
    return folder


def bag_file(folder: Path) -> Path:
    """The only file with messages of a rosbag2 folder."""
    [found] = [path for path in folder.iterdir() if path.suffix in (".mcap", ".db3")]
    return found


class BrightAndDark:
    """A small segmenter: the ground is 1, what is bright on it 2; it counts what it saw.

    Args:
        interrupt_at: The image, counted from 1, during which Ctrl-C is pressed.
    """

    def __init__(self, interrupt_at: int = 0) -> None:
        self.seen = 0
        self._interrupt_at = interrupt_at

    def segment_batch(self, images: Sequence[NDArray[np.uint8]]) -> list[Segmentation]:
        return [self.segment(image) for image in images]

    def embed_phrases(self, phrases: Sequence[str]) -> NDArray[np.float32]:
        return np.tile(np.eye(4, dtype=np.float32)[0], (len(phrases), 1))

    def segment(self, image: NDArray[np.uint8]) -> Segmentation:
        self.seen += 1
        if self.seen == self._interrupt_at:
            os.kill(os.getpid(), signal.SIGINT)
        label_map = np.where(image.mean(axis=2) > 127, 2, 1).astype(np.uint16)
        segments = []
        for number, name in ((1, "ground"), (2, "box")):
            rows, columns = np.nonzero(label_map == number)
            if len(rows):
                left, top = int(columns.min()), int(rows.min())
                roi = Roi(left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1)
                labels = (Label(name, 0.7), Label("thing", 0.1))
                centre = float(columns.mean()), float(rows.mean())
                embedding = np.eye(4, dtype=np.float32)[number]
                segments.append(Segment(number, labels, roi, len(rows), centre, embedding))
        return Segmentation(label_map, tuple(segments), "bright-and-dark")


def read(path: Path) -> dict[str, list[tuple[int, Any]]]:
    """Messages with the times of their recording, by topic, as rosbags reads them."""
    found: dict[str, list[tuple[int, Any]]] = {}
    with Reader(path) as reader:
        for connection in reader.connections:
            found[connection.topic] = []
        for connection, time, data in reader.messages():
            message = TYPES.deserialize(data, connection.msgtype)
            found[connection.topic].append((time, message))
    return found


def raw(path: Path) -> list[tuple[str, int, bytes]]:
    """Topic, time and bytes of all messages, as rosbags reads them."""
    with Reader(path) as reader:
        return [(c.topic, time, bytes(data)) for c, time, data in reader.messages()]
