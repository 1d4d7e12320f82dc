"""What a node publishes of each camera's results: one table, which all else follows from.

To add an output, add a row to `OUTPUTS` and the function that makes its message.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from zgs_ros.classes.classifier import Classifier
from zgs_ros.classes.groups import LAST, OTHER, ClassGroup
from zgs_ros.clouds import CloudTooLarge, known_points, make_cloud
from zgs_ros.config import NodeSettings
from zgs_ros.drawing import draw_overlay
from zgs_ros.segmentation import Segmentation
from zgs_ros.streaming import messages
from zgs_ros.streaming.detections import detection2d_array, detection3d_array
from zgs_ros.streaming.features import feature_image as make_feature_image
from zgs_ros.streaming.markers import marker_array
from zgs_ros.streaming.messages import MessageFactory
from zgs_ros.streaming.port import LATCHED, RELIABLE, Port, Publisher, QosProfile
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
        classifier: What gave the segments their classes, None if nothing did.
        info: The camera's latest camera_info, None if none is known.
    """

    factory: MessageFactory
    result: Result
    settings: NodeSettings
    classifier: Classifier | None = None
    info: Any = None

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

    @cached_property
    def class_map(self) -> NDArray[np.uint16]:
        """uint16 (height, width): the class id of each pixel."""
        return self.paint([segment.class_id for segment in self.result.segmentation.segments])

    def paint(
        self, values: Sequence[float] | NDArray[Any], kind: type[np.generic] = np.uint16
    ) -> NDArray[Any]:
        """An array (height, width) with a value for the pixels of each segment, 0 for the others."""
        segments = self.result.segmentation.segments
        narrow = self._narrow_map
        table = np.zeros(1 << (16 if narrow is None else 8), kind)
        table[[segment.id for segment in segments]] = values
        if narrow is not None:
            return cv2.LUT(narrow, table)
        return np.take(table, self.result.segmentation.label_map)

    @cached_property
    def _narrow_map(self) -> NDArray[np.uint8] | None:
        """The label map in bytes, which takes a tenth of the time; None if its ids are larger."""
        label_map = self.result.segmentation.label_map
        return None if label_map.max(initial=0) > 255 else label_map.astype(np.uint8)


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


def label_mask(showing: Showing) -> Any:
    """A mono8 sensor_msgs/Image."""
    ids = [min(segment.class_id, OTHER) for segment in showing.result.segmentation.segments]
    mask = showing.paint(ids, np.uint8)
    return messages.mono8_image(showing.factory, showing.result.header, mask)


def label_mask_16(showing: Showing) -> Any:
    """A mono16 sensor_msgs/Image."""
    return messages.mono16_image(showing.factory, showing.result.header, showing.class_map)


def confidence(showing: Showing) -> Any:
    """A mono8 sensor_msgs/Image."""
    classifier, segments = showing.classifier, showing.result.segmentation.segments
    sure = [classifier.probability(segment) if classifier else 0.0 for segment in segments]
    values = showing.paint([round(255 * one) for one in sure], np.uint8)
    return messages.mono8_image(showing.factory, showing.result.header, values)


def instances(showing: Showing) -> Any:
    """A 32SC1 sensor_msgs/Image."""
    segments = showing.result.segmentation.segments
    # Ids of classes fill 16 bits: above 32767 the number is negative.
    values = np.array([s.class_id << 16 | s.id for s in segments], np.uint32).view(np.int32)
    painted = showing.paint(values, np.int32)
    return messages.int_image(showing.factory, showing.result.header, painted)


def label_info(showing: Showing) -> Any:
    """A vision_msgs/LabelInfo of what `label_mask` has, None without classes."""
    return _label_info(showing, OTHER)


def label_info_16(showing: Showing) -> Any:
    """A vision_msgs/LabelInfo of what `label_mask_16` has, None without classes."""
    return _label_info(showing, LAST)


def _label_info(showing: Showing, last: int) -> Any:
    if showing.classifier is None:
        return None
    names = {n: name for n, name in showing.classifier.registry.names.items() if n <= last}
    return messages.label_info(showing.factory, showing.result.header, names)


def class_mask(name: str, showing: Showing) -> Any:
    """A mono8 sensor_msgs/Image: 255 where the class of a name is."""
    groups = showing.classifier.groups if showing.classifier else ()
    wanted = {group.id for group in groups if group.name == name}
    segments = showing.result.segmentation.segments
    mask = showing.paint([255 * (s.class_id in wanted) for s in segments], np.uint8)
    return messages.mono8_image(showing.factory, showing.result.header, mask)


def mask_camera_info(showing: Showing) -> Any:
    """A sensor_msgs/CameraInfo with the image's header, None where none is known."""
    if showing.info is None:
        return None
    return messages.camera_info(showing.factory, showing.result.header, showing.info)


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
        names: Whether it says what ids are called: it is published when the node is configured, and
            before the first result with a new one, and nobody who reads only this wants results.
    """

    topic: str
    type_name: str
    make: Callable[[Showing], Any]
    meaning: str
    exists: Callable[[NodeSettings], bool] = _always
    in_bag: Callable[[NodeSettings], bool] = _never
    qos: QosProfile = RELIABLE
    names: bool = False


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
        "label_mask",
        "sensor_msgs/msg/Image",
        label_mask,
        "mono8, the size of the input image: 0 = none, otherwise Segment.class_id, all above 254 as 255, "
        "'other'. While subscribed.",
    ),
    Output(
        "label_mask_16",
        "sensor_msgs/msg/Image",
        label_mask_16,
        "mono16: the same with all class ids. While subscribed.",
    ),
    Output(
        "confidence",
        "sensor_msgs/msg/Image",
        confidence,
        "mono8: 255 times the probability of the pixel's class, 0 where it has none. While subscribed.",
    ),
    Output(
        "label_info",
        "vision_msgs/msg/LabelInfo",
        label_info,
        "What label_mask calls its ids: before the first mask, and again before the first one with a new "
        "id. Reliable and transient local: who comes late gets it too.",
        qos=LATCHED,
        names=True,
    ),
    Output(
        "label_info_16",
        "vision_msgs/msg/LabelInfo",
        label_info_16,
        "The same for label_mask_16 and Segment.class_id.",
        qos=LATCHED,
        names=True,
    ),
    Output(
        "instances",
        "sensor_msgs/msg/Image",
        instances,
        "32SC1: Segment.class_id in the high, Segment.id in the low 16 bits. While subscribed.",
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


MASK_MEANING = (
    "mono8: 255 where the class is, otherwise 0. Of a class with mask_topic in the file of classes, while "
    "subscribed."
)
MASK_INFO_MEANING = "The camera's latest camera_info with the header of the mask."

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


def mask_outputs(groups: Sequence[ClassGroup]) -> tuple[Output, ...]:
    """The outputs of classes that have a ``mask_topic``."""
    rows = []
    for group in groups:
        if group.mask_topic:
            topic, make = group.mask_topic, partial(class_mask, group.name)
            rows += [
                Output(f"{topic}/image", "sensor_msgs/msg/Image", make, MASK_MEANING),
                Output(
                    f"{topic}/camera_info",
                    "sensor_msgs/msg/CameraInfo",
                    mask_camera_info,
                    MASK_INFO_MEANING,
                ),
            ]
    return tuple(rows)


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


def output_topic(camera: str, topic: str) -> str:
    """Topic of a camera's output: ``~/segments``, or ``~/front/segments``."""
    return "/".join(filter(None, ("~", camera, topic)))
