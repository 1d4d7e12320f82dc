"""What a node publishes of each camera's results: one table, which all else follows from.

To add an output, add a row to `OUTPUTS` and the function that makes its message.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zgs_ros.clouds import CloudTooLarge, known_points, make_cloud
from zgs_ros.config import NodeSettings
from zgs_ros.drawing import draw_overlay
from zgs_ros.streaming import messages
from zgs_ros.streaming.detections import detection2d_array, detection3d_array
from zgs_ros.streaming.features import feature_image as make_feature_image
from zgs_ros.streaming.markers import marker_array
from zgs_ros.streaming.messages import MessageFactory
from zgs_ros.streaming.port import RELIABLE, Port, Publisher, QosProfile
from zgs_ros.streaming.stream import Result
from zgs_ros.streaming.throttle import ThrottledLog

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Showing:
    """A result on its way into messages; what several of them need is made once.

    Attributes:
        factory: Makes the messages.
        result: What was seen.
        settings: Of the node.
    """

    factory: MessageFactory
    result: Result
    settings: NodeSettings

    @cached_property
    def overlay(self) -> NDArray[np.uint8]:
        """uint8 RGB (height, width, 3): the image with its segments tinted and named."""
        result = self.result
        return draw_overlay(result.image, result.segmentation, self.settings.overlay_opacity)

    @cached_property
    def position_header(self) -> Any:
        """The image's stamp with the frame of positions."""
        header, frame = self.result.header, self.result.position_frame
        if frame == header.frame_id:
            return header
        return messages.header(self.factory, messages.stamp_ns(header), frame)

    @cached_property
    def cloud(self) -> NDArray[np.void] | None:
        """`zgs_ros.clouds.POINT` (height, width), None where the surface is not known.

        Raises:
            zgs_ros.clouds.CloudTooLarge: See `make_cloud`.
        """
        result = self.result
        if result.surface is None:
            return None
        return make_cloud(result.surface, result.image, result.segmentation)


def segments(showing: Showing) -> Any:
    """A zgs_ros/SegmentArray."""
    result, embeddings = showing.result, showing.settings.publish_embeddings
    return messages.segment_array(
        showing.factory,
        result.header,
        result.segmentation,
        result.processing_time,
        embeddings,
        result.position_frame,
    )


def label_image(showing: Showing) -> Any:
    """A mono16 sensor_msgs/Image."""
    result = showing.result
    return messages.label_image(showing.factory, result.header, result.segmentation)


def overlay(showing: Showing) -> Any:
    """An rgb8 sensor_msgs/Image."""
    return messages.rgb_image(showing.factory, showing.result.header, showing.overlay)


def overlay_compressed(showing: Showing) -> Any:
    """A sensor_msgs/CompressedImage."""
    quality = showing.settings.jpeg_quality
    return messages.jpeg_image(showing.factory, showing.result.header, showing.overlay, quality)


def markers(showing: Showing) -> Any:
    """A visualization_msgs/MarkerArray, None without depth."""
    result = showing.result
    if result.depth is None:
        return None
    viewpoint = None
    if result.surface and result.surface.upright:
        viewpoint = result.surface.transform.translation.tolist()
    return marker_array(showing.factory, showing.position_header, result.segmentation, viewpoint)


def detections(showing: Showing) -> Any:
    """A vision_msgs/Detection2DArray."""
    return detection2d_array(showing.factory, showing.result.header, showing.result.segmentation)


def detections_3d(showing: Showing) -> Any:
    """A vision_msgs/Detection3DArray."""
    return detection3d_array(showing.factory, showing.position_header, showing.result.segmentation)


def points(showing: Showing) -> Any:
    """A sensor_msgs/PointCloud2 aligned with the image, None where the surface is not known."""
    if showing.cloud is None:
        return None
    return messages.point_cloud(showing.factory, showing.position_header, showing.cloud, False)


def labelled_points(showing: Showing) -> Any:
    """A sensor_msgs/PointCloud2 of known points, None where the surface is not known."""
    if showing.cloud is None:
        return None
    cloud = known_points(showing.cloud)
    return messages.point_cloud(showing.factory, showing.position_header, cloud, True)


def feature_image(showing: Showing) -> Any:
    """A semantic_inference_msgs/FeatureImage."""
    return make_feature_image(showing.factory, showing.result.header, showing.result.segmentation)


def _always(settings: NodeSettings) -> bool:
    return True


def _never(settings: NodeSettings) -> bool:
    return False


def _with_depth(settings: NodeSettings) -> bool:
    return settings.depth.enabled


def _with_detections(settings: NodeSettings) -> bool:
    return settings.publish_detections


def _with_features(settings: NodeSettings) -> bool:
    return settings.publish_features


def _with_detections_3d(settings: NodeSettings) -> bool:
    return settings.publish_detections and settings.depth.enabled


@dataclass(frozen=True)
class Output:
    """A topic of a camera's results.

    Attributes:
        topic: Its name: ``~/TOPIC``, of a camera with a name ``~/NAME/TOPIC``.
        type_name: Of its messages.
        make: A result to a message, None where there is nothing to send.
        meaning: What is in it, and when it comes; for the reference.
        exists: Whether a node with these settings has it.
        in_bag: Whether a bag is written with it where nothing else is asked for.
        qos: Of its publisher.
    """

    topic: str
    type_name: str
    make: Callable[[Showing], Any]
    meaning: str
    exists: Callable[[NodeSettings], bool] = _always
    in_bag: Callable[[NodeSettings], bool] = _never
    qos: QosProfile = RELIABLE


OUTPUTS = (
    Output(
        "segments",
        "zgs_ros/msg/SegmentArray",
        segments,
        "Everything that was seen in an image, with the image's header.",
        in_bag=_always,
    ),
    Output(
        "label_image",
        "sensor_msgs/msg/Image",
        label_image,
        "mono16, the size of the input image: 0 = none, otherwise Segment.id. While subscribed.",
    ),
    Output(
        "overlay",
        "sensor_msgs/msg/Image",
        overlay,
        "rgb8: the image with segments tinted and named. Drawn while subscribed.",
    ),
    Output(
        "overlay/compressed",
        "sensor_msgs/msg/CompressedImage",
        overlay_compressed,
        "The overlay as JPEG. Drawn while subscribed.",
        in_bag=_always,
    ),
    Output(
        "markers",
        "visualization_msgs/msg/MarkerArray",
        markers,
        "Boxes and labels in space, in the frame of positions, for RViz. With depth, while "
        "subscribed.",
        in_bag=_with_depth,
    ),
    Output(
        "detections",
        "vision_msgs/msg/Detection2DArray",
        detections,
        "Boxes in pixels, labels with probabilities, track_id as id. With publish_detections, "
        "while subscribed.",
        exists=_with_detections,
        in_bag=_with_detections,
    ),
    Output(
        "detections_3d",
        "vision_msgs/msg/Detection3DArray",
        detections_3d,
        "Boxes in metres, in the frame of positions. With publish_detections and depth, while subscribed.",
        exists=_with_detections_3d,
        in_bag=_with_detections_3d,
    ),
    Output(
        "points",
        "sensor_msgs/msg/PointCloud2",
        points,
        "Every pixel of the image in space, height x width as the image: x, y, z (nan where depth is "
        "not known), rgb, label (class_id), instance (Segment.id). Up to 4K. With depth, while "
        "subscribed, also best effort.",
        exists=_with_depth,
    ),
    Output(
        "labelled_points",
        "sensor_msgs/msg/PointCloud2",
        labelled_points,
        "The same points without those that are not known. With depth, while subscribed, also best "
        "effort.",
        exists=_with_depth,
    ),
    Output(
        "feature_image",
        "semantic_inference_msgs/msg/FeatureImage",
        feature_image,
        "16UC1, 0 = none, otherwise Segment.id, with the embedding of each; for Hydra. With "
        "publish_features, while subscribed.",
        exists=_with_features,
        in_bag=_with_features,
    ),
)
"""All of them. Nothing is made for nobody."""

OUTPUT_NAMES = tuple(row.topic for row in OUTPUTS)


def bag_outputs(settings: NodeSettings) -> tuple[str, ...]:
    """Topics that a bag is written with where nothing else is asked for."""
    return tuple(row.topic for row in OUTPUTS if row.in_bag(settings))


Publishers = Mapping[str, Publisher]
"""A camera's publishers, by `Output.topic`."""


class Outputs:
    """Turns results into messages for those who listen.

    Args:
        factory: Makes the messages.
        cameras: Where each camera's go, by its name.
        settings: Embeddings, opacity and JPEG quality; replace `settings` to change them.
    """

    def __init__(
        self, factory: MessageFactory, cameras: Mapping[str, Publishers], settings: NodeSettings
    ) -> None:
        self.settings = settings
        self._factory = factory
        self._cameras = cameras
        self._left_out: Counter[str] = Counter()
        self._log = ThrottledLog(logger)

    def wanted(self, camera: str | None = None) -> bool:
        """Whether anybody listens to results of a camera, or of any; diagnostics don't count."""
        cameras: Collection[Publishers] = (
            self._cameras.values() if camera is None else [self._cameras[camera]]
        )
        return any(
            publisher.subscription_count()
            for publishers in cameras
            for publisher in publishers.values()
        )

    def publish(self, result: Result) -> None:
        """Publishes a result on every topic that somebody listens to, with the input's header."""
        showing = Showing(self._factory, result, self.settings)
        publishers = self._cameras[result.camera]
        for row in OUTPUTS:
            publisher = publishers.get(row.topic)
            if publisher is None or not publisher.subscription_count():
                continue
            try:
                message = row.make(showing)
            except CloudTooLarge as error:  # which costs the clouds alone
                self._left_out[row.topic] += 1
                self._log.log(logging.WARNING, row.topic, f"{row.topic} is left out: {error}")
                continue
            if message is not None:
                publisher.publish(message)

    def facts(self) -> dict[str, str]:
        """How many messages were left out since they would be too large; for the diagnostics."""
        return {f"left out: {topic}": str(count) for topic, count in dict(self._left_out).items()}

    def close(self) -> None:
        """Takes the topics from the graph."""
        for publishers in self._cameras.values():
            for publisher in publishers.values():
                publisher.close()


def open_outputs(port: Port, settings: NodeSettings) -> Outputs:
    """The outputs of a node, for all of its cameras."""
    cameras = {
        camera: {
            row.topic: port.create_publisher(
                output_topic(camera, row.topic), row.type_name, row.qos
            )
            for row in OUTPUTS
            if row.exists(settings)
        }
        for camera in settings.cameras
    }
    return Outputs(port.factory, cameras, settings)


def output_topic(camera: str, topic: str) -> str:
    """Topic of a camera's output: ``~/segments``, or ``~/front/segments``."""
    return "/".join(filter(None, ("~", camera, topic)))
