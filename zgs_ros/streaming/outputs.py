"""What a node publishes of each camera's results: one table, which all else follows from.

To add an output, add a row to `OUTPUTS` and the function that makes its message to
`zgs_ros.streaming.showing`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from zgs_ros.classes.groups import ClassGroup
from zgs_ros.config import NodeSettings
from zgs_ros.streaming import showing
from zgs_ros.streaming.port import LATCHED, RELIABLE, QosProfile
from zgs_ros.streaming.showing import Showing


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
        showing.segments,
        "Everything that was seen in an image, with the image's header.",
        in_bag=_always,
    ),
    Output(
        "label_image",
        "sensor_msgs/msg/Image",
        showing.label_image,
        "mono16, the size of the input image: 0 = none, otherwise Segment.id. While subscribed.",
    ),
    Output(
        "label_mask",
        "sensor_msgs/msg/Image",
        showing.label_mask,
        "mono8, the size of the input image: 0 = none, otherwise Segment.class_id, all above 254 as 255, "
        "'other'. While subscribed.",
    ),
    Output(
        "label_mask_16",
        "sensor_msgs/msg/Image",
        showing.label_mask_16,
        "mono16: the same with all class ids. While subscribed.",
    ),
    Output(
        "confidence",
        "sensor_msgs/msg/Image",
        showing.confidence,
        "mono8: 255 times the probability of the pixel's class, 0 where it has none. While subscribed.",
    ),
    Output(
        "label_info",
        "vision_msgs/msg/LabelInfo",
        showing.label_info,
        "What label_mask calls its ids: before the first mask, and again before the first one with a new "
        "id. Reliable and transient local: who comes late gets it too.",
        qos=LATCHED,
        names=True,
    ),
    Output(
        "label_info_16",
        "vision_msgs/msg/LabelInfo",
        showing.label_info_16,
        "The same for label_mask_16 and Segment.class_id.",
        qos=LATCHED,
        names=True,
    ),
    Output(
        "instances",
        "sensor_msgs/msg/Image",
        showing.instances,
        "32SC1: Segment.class_id in the high, Segment.id in the low 16 bits. While subscribed.",
    ),
    Output(
        "overlay",
        "sensor_msgs/msg/Image",
        showing.overlay,
        "rgb8: the image with segments tinted and named. Drawn while subscribed.",
    ),
    Output(
        "overlay/compressed",
        "sensor_msgs/msg/CompressedImage",
        showing.overlay_compressed,
        "The overlay as JPEG. Drawn while subscribed.",
        in_bag=_always,
    ),
    Output(
        "markers",
        "visualization_msgs/msg/MarkerArray",
        showing.markers,
        "Boxes and labels in space, in the frame of positions, for RViz. With depth, while "
        "subscribed.",
        in_bag=_with_depth,
    ),
    Output(
        "detections",
        "vision_msgs/msg/Detection2DArray",
        showing.detections,
        "Boxes in pixels, labels with probabilities, track_id as id. With publish_detections, "
        "while subscribed.",
        exists=_with_detections,
        in_bag=_with_detections,
    ),
    Output(
        "detections_3d",
        "vision_msgs/msg/Detection3DArray",
        showing.detections_3d,
        "Boxes in metres, in the frame of positions. With publish_detections and depth, while subscribed.",
        exists=_with_detections_3d,
        in_bag=_with_detections_3d,
    ),
    Output(
        "points",
        "sensor_msgs/msg/PointCloud2",
        showing.points,
        "Every pixel of the image in space, height x width as the image: x, y, z (nan where depth is "
        "not known), rgb, label (class_id), instance (Segment.id). Up to 4K. With depth, while "
        "subscribed, also best effort.",
        exists=_with_depth,
    ),
    Output(
        "labelled_points",
        "sensor_msgs/msg/PointCloud2",
        showing.labelled_points,
        "The same points without those that are not known. With depth, while subscribed, also best "
        "effort.",
        exists=_with_depth,
    ),
    Output(
        "feature_image",
        "semantic_inference_msgs/msg/FeatureImage",
        showing.feature_image,
        "16UC1, 0 = none, otherwise Segment.id, with the embedding of each; for Hydra. With "
        "publish_features, while subscribed.",
        exists=_with_features,
        in_bag=_with_features,
    ),
)
"""All of them. Nothing is made for nobody."""


OUTPUT_NAMES = tuple(row.topic for row in OUTPUTS)


MASK_MEANING = (
    "mono8: 255 where the class is, otherwise 0. Of a class with mask_topic in the file of classes, while "
    "subscribed."
)


MASK_INFO_MEANING = "The camera's latest camera_info with the header of the mask."


def bag_outputs(settings: NodeSettings) -> tuple[str, ...]:
    """Topics that a bag is written with where nothing else is asked for."""
    return tuple(row.topic for row in OUTPUTS if row.in_bag(settings))


def mask_outputs(groups: Sequence[ClassGroup]) -> tuple[Output, ...]:
    """The outputs of classes that have a ``mask_topic``."""
    rows = []
    for group in groups:
        if group.mask_topic:
            topic, make = group.mask_topic, partial(showing.class_mask, group.name)
            rows += [
                Output(f"{topic}/image", "sensor_msgs/msg/Image", make, MASK_MEANING),
                Output(
                    f"{topic}/camera_info",
                    "sensor_msgs/msg/CameraInfo",
                    showing.mask_camera_info,
                    MASK_INFO_MEANING,
                ),
            ]
    return tuple(rows)


def output_topic(camera: str, topic: str) -> str:
    """Topic of a camera's output: ``~/segments``, or ``~/front/segments``."""
    return "/".join(filter(None, ("~", camera, topic)))
