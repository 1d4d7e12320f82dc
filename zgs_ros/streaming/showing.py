"""Results on their way into messages: what each output makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from zgs_ros.classes.classifier import Classifier
from zgs_ros.classes.groups import LAST, OTHER
from zgs_ros.clouds import known_points, make_cloud
from zgs_ros.config import NodeSettings
from zgs_ros.drawing import draw_overlay
from zgs_ros.streaming import messages
from zgs_ros.streaming.detections import detection2d_array, detection3d_array
from zgs_ros.streaming.features import feature_image as make_feature_image
from zgs_ros.streaming.markers import marker_array
from zgs_ros.streaming.messages import MessageFactory
from zgs_ros.streaming.stream import Result


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
