"""Recorded bags for the tests, written by rosbags as a recorder would have."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.enums import CompressionFormat, CompressionMode

from zgs_ros.message_types import MessageTypes
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
