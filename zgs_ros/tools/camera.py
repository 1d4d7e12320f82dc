"""A camera: publishes pictures from any source as ROS images, without ROS."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zgs_ros.dds.network import Network
from zgs_ros.dds.node import DdsNode
from zgs_ros.streaming import messages
from zgs_ros.streaming.frames import DEPTH as TF_DEPTH
from zgs_ros.streaming.frames import TF, TF_STATIC, TF_TYPE
from zgs_ros.streaming.port import Port, Publisher, QosProfile
from zgs_ros.tools.sources import SYNTHETIC, Picture, SourceOptions, open_source
from zgs_ros.transforms import Transform

WORLD = "map"

OPTICAL = Transform(np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]), np.zeros(3))
"""From the axes of a camera's optics (z forward) to those of a body (x forward), as in REP 103."""

LOOK_SECONDS = 5.0
JPEG_QUALITY = 90

QOS = QosProfile(reliable=False, depth=5)
"""As drivers of cameras publish (``rclcpp::SensorDataQoS``)."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CameraOptions:
    """How a camera appears on the network.

    Attributes:
        network: The network to join.
        source: See `zgs_ros.tools.sources.open_source`.
        reading: How the source is read.
        topic: Image topic; camera_info and depth/image_raw are published beside it.
        rate: Pictures per second.
        frame_id: Frame of the headers.
        base_frame: Frame of the robot that carries a camera whose pose is known; with depth the
            transforms from ``map`` to it and on to the camera are published. "" = none are.
        transport: ``raw`` (sensor_msgs/Image) or ``compressed`` (JPEG, on ``TOPIC/compressed``).
        name: Node name.
        distro: ROS distribution of the other nodes, by default ROS_DISTRO.
    """

    network: Network
    source: str = "synthetic"
    reading: SourceOptions = field(default_factory=SourceOptions)
    topic: str = "/camera/image_raw"
    rate: float = 10.0
    frame_id: str = "camera"
    base_frame: str = "base_link"
    transport: str = "raw"
    name: str = "camera"
    distro: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1000:
            raise ValueError(f"rate {self.rate:g} Hz must be in 0 < rate <= 1000")
        if self.transport not in ("raw", "compressed"):
            raise ValueError(f"transport {self.transport!r} must be raw or compressed")


class CameraPublishers:
    """The publishers of one camera.

    Args:
        port: Of the node that the camera belongs to.
        options: How it appears.
    """

    def __init__(self, port: Port, options: CameraOptions) -> None:
        self._port = port
        self._options = options
        compressed = options.transport == "compressed"
        topic = port.resolve(options.topic)
        self.images: Publisher = port.create_publisher(
            f"{topic}/compressed" if compressed else topic,
            f"sensor_msgs/msg/{'CompressedImage' if compressed else 'Image'}",
            QOS,
        )
        base = topic.rsplit("/", 1)[0]
        self._info = port.create_publisher(f"{base}/camera_info", "sensor_msgs/msg/CameraInfo", QOS)
        self._depth = (
            port.create_publisher(f"{base}/depth/image_raw", "sensor_msgs/msg/Image", QOS)
            if options.reading.depth
            else None
        )
        self._moving: Publisher | None = None
        if options.reading.depth and options.base_frame and options.source == SYNTHETIC:
            self._moving = port.create_publisher(TF, TF_TYPE, QosProfile(depth=TF_DEPTH))
            static = QosProfile(transient_local=True)
            self._static = port.create_publisher(TF_STATIC, TF_TYPE, static)
            self._static.publish(self._transforms(0, {options.frame_id: (self._link, OPTICAL)}))

    @property
    def _link(self) -> str:
        """The camera's frame with the axes of a body: x forward, y left, z up."""
        return f"{self._options.frame_id}_link"

    def publish(self, picture: Picture, stamp_ns: int) -> None:
        """Publishes a picture with everything that belongs to it, under one header."""
        types = self._port.factory
        header = messages.header(types, stamp_ns, self._options.frame_id)
        if self._moving and picture.pose is not None:
            self._moving.publish(self._transforms(stamp_ns, self._places(picture.pose)))
        if self._depth and picture.depth is not None:
            self._depth.publish(messages.depth_image(types, header, picture.depth))
        self._info.publish(self._camera_info(header, picture))
        if self._options.transport == "compressed":
            image = messages.jpeg_image(types, header, picture.rgb, JPEG_QUALITY)
        else:
            image = messages.rgb_image(types, header, picture.rgb)
        self.images.publish(image)

    def _places(self, pose: NDArray[np.float64]) -> dict[str, tuple[str, Transform]]:
        """The robot on the ground below the camera, and the camera on its mast."""
        link = Transform.of(pose) @ OPTICAL.inverse()
        forward = link.rotation[:, 0]
        heading = float(np.arctan2(forward[1], forward[0]))
        turn = (0.0, 0.0, math.sin(heading / 2), math.cos(heading / 2))
        base = Transform.of_quaternion((*link.translation[:2].tolist(), 0.0), turn)
        name = self._options.base_frame
        return {name: (WORLD, base), self._link: (name, base.inverse() @ link)}

    def _transforms(self, stamp_ns: int, places: dict[str, tuple[str, Transform]]) -> Any:
        """A tf2_msgs/TFMessage of frames: their parents, and the transforms to them."""
        types = self._port.factory
        made = [
            messages.transform_stamped(
                types, stamp_ns, parent, child, transform.translation, transform.quaternion
            )
            for child, (parent, transform) in places.items()
        ]
        return types.create(TF_TYPE, transforms=made)

    def _camera_info(self, header: Any, picture: Picture) -> Any:
        height, width = picture.rgb.shape[:2]
        create = self._port.factory.create
        # A zero matrix says "not calibrated", as in ROS.
        matrix = np.zeros((3, 3)) if picture.intrinsics is None else picture.intrinsics
        return create(
            "sensor_msgs/msg/CameraInfo",
            header=header,
            height=height,
            width=width,
            distortion_model="plumb_bob",
            d=np.zeros(5),
            k=matrix.reshape(9),
            r=np.eye(3).reshape(9),
            p=np.hstack([matrix, np.zeros((3, 1))]).reshape(12),
            binning_x=0,
            binning_y=0,
            roi=create(
                "sensor_msgs/msg/RegionOfInterest",
                x_offset=0,
                y_offset=0,
                height=0,
                width=0,
                do_rectify=False,
            ),
        )


def run(options: CameraOptions) -> None:
    """Publishes until the source ends.

    Raises:
        zgs_ros.tools.sources.SourceError: If the source can't be read.
        ValueError: If an option is not possible.
        zgs_ros.dds.raw.DdsError: If the network can't be joined.
    """
    pictures = open_source(options.source, options.reading)
    with DdsNode(options.name, network=options.network, distro=options.distro) as node:
        camera = CameraPublishers(node, options)
        logger.info(
            "%s -> %s at %g Hz on domain %d",
            options.source,
            node.resolve(options.topic),
            options.rate,
            options.network.domain,
        )
        published, listeners, next_look = 0, -1, 0.0
        try:
            for picture in paced(pictures, options.rate):
                camera.publish(picture, time.time_ns())
                published += 1
                if time.monotonic() >= next_look:
                    next_look = time.monotonic() + LOOK_SECONDS
                    before, listeners = listeners, camera.images.subscription_count()
                    if listeners != before:
                        logger.info("%d subscribed", listeners)
        finally:
            logger.info("stopped after %d pictures", published)


def paced(pictures: Iterator[Picture], rate: float) -> Iterator[Picture]:
    """Hands pictures out at a rate; where one comes late, those behind it don't hurry."""
    due = time.monotonic()
    for picture in pictures:
        time.sleep(max(0.0, due - time.monotonic()))
        yield picture
        due = max(due + 1.0 / rate, time.monotonic())
