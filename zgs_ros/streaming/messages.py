"""Results to ROS messages and back, for any implementation of the messages."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from zgs_ros.classes.watching import Alert, Watch
from zgs_ros.segmentation import Label, Placement, Roi, Segment, Segmentation
from zgs_ros.streaming.images import check_image

FIELD_TYPES = {"f": 7, "u": 6}
"""FLOAT32 and UINT32 of sensor_msgs/PointField, by NumPy's kind."""


class MessageFactory(Protocol):
    """Makes messages of one implementation (rclpy's classes, rosbags' dataclasses)."""

    def create(self, type_name: str, **fields: Any) -> Any:
        """A message such as ``"sensor_msgs/msg/Image"`` with all of its fields given."""
        ...

    def octets(self, values: NDArray[np.uint8]) -> Any:
        """A contiguous uint8 array as this implementation's value of a ``uint8[]`` field."""
        ...

    def floats(self, values: NDArray[np.float32]) -> Any:
        """A contiguous float32 array as this implementation's value of a ``float32[]`` field."""
        ...

    def ints(self, values: NDArray[np.int32]) -> Any:
        """A contiguous int32 array as this implementation's value of an ``int32[]`` field."""
        ...

    def knows(self, type_name: str) -> bool:
        """Whether there are messages of a type here."""
        ...

    def octet(self, value: int) -> Any:
        """A number as this implementation's value of a ``byte`` field."""
        ...


def segment_array(
    factory: MessageFactory,
    header: Any,
    segmentation: Segmentation,
    processing_time: float,
    embeddings: bool = True,
    position_frame: str = "",
) -> Any:
    """A zgs_ros/SegmentArray.

    Args:
        factory: Makes the messages.
        header: The input image's header, which is used as it is.
        segmentation: What was seen.
        processing_time: Seconds from taking the image to the finished segmentation.
        embeddings: Whether the segments carry their embeddings.
        position_frame: Frame of their positions, "" for the image's.
    """
    return factory.create(
        "zgs_ros/msg/SegmentArray",
        header=header,
        position_frame=position_frame or header.frame_id,
        model=segmentation.model,
        label_image=label_image(factory, header, segmentation),
        segments=[segment(factory, seen, embeddings) for seen in segmentation.segments],
        processing_time=duration(factory, processing_time),
    )


def segment(factory: MessageFactory, seen: Segment, embeddings: bool = True) -> Any:
    """A zgs_ros/Segment."""
    roi = seen.roi
    create = factory.create
    x, y, z = seen.placement.position if seen.placement else (0.0, 0.0, 0.0)
    across, down, deep = seen.placement.size if seen.placement else (0.0, 0.0, 0.0)
    return create(
        "zgs_ros/msg/Segment",
        id=seen.id,
        track_id=seen.track_id,
        class_id=seen.class_id,
        label=seen.label,
        score=float(seen.score),
        alternatives=[
            create("zgs_ros/msg/Label", text=label.text, score=float(label.score))
            for label in seen.alternatives
        ],
        roi=create(
            "sensor_msgs/msg/RegionOfInterest",
            x_offset=roi.x,
            y_offset=roi.y,
            height=roi.height,
            width=roi.width,
            do_rectify=False,
        ),
        area=seen.area,
        centroid_x=float(seen.centroid[0]),
        centroid_y=float(seen.centroid[1]),
        embedding=factory.floats(seen.embedding if embeddings else np.empty(0, np.float32)),
        position_valid=seen.placement is not None,
        position=create("geometry_msgs/msg/Point", x=x, y=y, z=z),
        size=create("geometry_msgs/msg/Vector3", x=across, y=down, z=deep),
    )


def watch(factory: MessageFactory, wanted: Watch) -> Any:
    """A zgs_ros/Watch."""
    return factory.create(
        "zgs_ros/msg/Watch",
        phrase=wanted.phrase,
        threshold=wanted.threshold,
        margin=wanted.margin,
    )


def alert(
    factory: MessageFactory, header: Any, camera: str, seen: Alert, embeddings: bool = True
) -> Any:
    """A zgs_ros/Alert of what a camera saw."""
    return factory.create(
        "zgs_ros/msg/Alert",
        header=header,
        camera=camera,
        watch=watch(factory, seen.watch),
        active=seen.active,
        score=seen.score,
        segment=segment(factory, seen.segment, embeddings),
    )


def label_image(factory: MessageFactory, header: Any, segmentation: Segmentation) -> Any:
    """A mono16 sensor_msgs/Image: 0 = none, otherwise the segment's id."""
    return encoded_image(factory, header, "mono16", segmentation.label_map)


def mono8_image(factory: MessageFactory, header: Any, image: NDArray[np.uint8]) -> Any:
    """A mono8 sensor_msgs/Image of a uint8 array (height, width)."""
    return encoded_image(factory, header, "mono8", image)


def mono16_image(factory: MessageFactory, header: Any, image: NDArray[np.uint16]) -> Any:
    """A mono16 sensor_msgs/Image of a uint16 array (height, width)."""
    return encoded_image(factory, header, "mono16", image)


def int_image(factory: MessageFactory, header: Any, image: NDArray[np.int32]) -> Any:
    """A 32SC1 sensor_msgs/Image of an int32 array (height, width)."""
    return encoded_image(factory, header, "32SC1", image)


def label_info(factory: MessageFactory, header: Any, names: Mapping[int, str]) -> Any:
    """A vision_msgs/LabelInfo of the names of ids."""
    create = factory.create
    classes = [
        create("vision_msgs/msg/VisionClass", class_id=number, class_name=name)
        for number, name in names.items()
    ]
    return create("vision_msgs/msg/LabelInfo", header=header, class_map=classes, threshold=0.0)


_CAMERA_INFO = (
    *("height", "width", "distortion_model", "d", "k", "r", "p", "binning_x", "binning_y", "roi"),
)


def camera_info(factory: MessageFactory, header: Any, info: Any) -> Any:
    """A sensor_msgs/CameraInfo with another header."""
    fields = {name: getattr(info, name) for name in _CAMERA_INFO}
    return factory.create("sensor_msgs/msg/CameraInfo", header=header, **fields)


def rgb_image(factory: MessageFactory, header: Any, image: NDArray[np.uint8]) -> Any:
    """An rgb8 sensor_msgs/Image of a uint8 RGB array (height, width, 3)."""
    return encoded_image(factory, header, "rgb8", image)


def depth_image(factory: MessageFactory, header: Any, depth: NDArray[np.float32]) -> Any:
    """A 32FC1 sensor_msgs/Image of a float32 array (height, width) in metres."""
    return encoded_image(factory, header, "32FC1", depth)


def jpeg_image(factory: MessageFactory, header: Any, image: NDArray[np.uint8], quality: int) -> Any:
    """A JPEG sensor_msgs/CompressedImage of a uint8 RGB array (height, width, 3)."""
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality]
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), flags)
    if not done:
        raise ValueError(f"an image of {image.shape} can't be written as JPEG")
    # The format as image_transport's own plugin writes it for an rgb8 image.
    return factory.create(
        "sensor_msgs/msg/CompressedImage",
        header=header,
        format="rgb8; jpeg compressed bgr8",
        data=factory.octets(data.reshape(-1)),
    )


def point_cloud(
    factory: MessageFactory, header: Any, cloud: NDArray[np.void], is_dense: bool
) -> Any:
    """A sensor_msgs/PointCloud2.

    Args:
        factory: Makes the messages.
        header: With the frame of the points.
        cloud: `zgs_ros.clouds.POINT` (height, width), or (n,), which has height 1; fields of 4 bytes.
        is_dense: Whether every point's place is known.
    """
    cloud = np.ascontiguousarray(np.atleast_2d(cloud))
    height, width = cloud.shape
    fields = [
        factory.create(
            "sensor_msgs/msg/PointField",
            name=name,
            offset=4 * number,
            datatype=FIELD_TYPES[cloud.dtype[name].kind],
            count=1,
        )
        for number, name in enumerate(cloud.dtype.names or ())
    ]
    return factory.create(
        "sensor_msgs/msg/PointCloud2",
        header=header,
        height=height,
        width=width,
        fields=fields,
        is_bigendian=sys.byteorder == "big",
        point_step=cloud.itemsize,
        row_step=cloud.itemsize * width,
        data=factory.octets(cloud.reshape(-1).view(np.uint8)),
        is_dense=is_dense,
    )


def transform_stamped(
    factory: MessageFactory,
    stamp: int,
    parent: str,
    child: str,
    translation: Iterable[float],
    quaternion: Iterable[float] = (0.0, 0.0, 0.0, 1.0),
) -> Any:
    """A geometry_msgs/TransformStamped: where a frame is in its parent, at a time [ns]; as `pose`."""
    create = factory.create
    place = dict(zip("xyz", map(float, translation), strict=True))
    turn = dict(zip("xyzw", map(float, quaternion), strict=True))
    value = create(
        "geometry_msgs/msg/Transform",
        translation=create("geometry_msgs/msg/Vector3", **place),
        rotation=create("geometry_msgs/msg/Quaternion", **turn),
    )
    return create(
        "geometry_msgs/msg/TransformStamped",
        header=header(factory, stamp, parent),
        child_frame_id=child,
        transform=value,
    )


def pose(
    factory: MessageFactory,
    position: Iterable[float],
    quaternion: Iterable[float] = (0.0, 0.0, 0.0, 1.0),
) -> Any:
    """A geometry_msgs/Pose of (x, y, z) in metres and a quaternion (x, y, z, w)."""
    create = factory.create
    place = dict(zip("xyz", map(float, position), strict=True))
    turn = dict(zip("xyzw", map(float, quaternion), strict=True))
    return create(
        "geometry_msgs/msg/Pose",
        position=create("geometry_msgs/msg/Point", **place),
        orientation=create("geometry_msgs/msg/Quaternion", **turn),
    )


def header(factory: MessageFactory, stamp_ns: int, frame_id: str = "") -> Any:
    """A std_msgs/Header."""
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    stamp = factory.create("builtin_interfaces/msg/Time", sec=seconds, nanosec=nanoseconds)
    return factory.create("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)


def stamp_ns(header: Any) -> int:
    """The stamp of a std_msgs/Header in nanoseconds."""
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)


def duration(factory: MessageFactory, seconds: float) -> Any:
    """A builtin_interfaces/Duration."""
    whole, nanoseconds = divmod(round(seconds * 1e9), 1_000_000_000)
    return factory.create("builtin_interfaces/msg/Duration", sec=whole, nanosec=nanoseconds)


def parse_segment_array(message: Any) -> Segmentation:
    """A zgs_ros/SegmentArray back to a `Segmentation`.

    Raises:
        ValueError: If its label image is not one, or does not fit the segments.
    """
    picture = message.label_image
    if picture.encoding != "mono16":
        raise ValueError(f"label_image.encoding must be mono16, got {picture.encoding!r}")
    check_image(picture)
    order = ">u2" if picture.is_bigendian else "<u2"
    rows = np.frombuffer(picture.data, np.uint8).reshape(picture.height, picture.step)
    labels = np.ascontiguousarray(rows[:, : 2 * picture.width]).view(order)
    segments = tuple(parse_segment(entry) for entry in message.segments)
    return Segmentation(labels.astype(np.uint16, copy=False), segments, message.model)


def parse_segment(message: Any) -> Segment:
    """A zgs_ros/Segment back to a `Segment`."""
    best = [Label(message.label, message.score)] if message.label else []
    roi, place, extent = message.roi, message.position, message.size
    placement = Placement((place.x, place.y, place.z), (extent.x, extent.y, extent.z))
    return Segment(
        id=message.id,
        labels=(*best, *(Label(entry.text, entry.score) for entry in message.alternatives)),
        roi=Roi(roi.x_offset, roi.y_offset, roi.width, roi.height),
        area=message.area,
        centroid=(message.centroid_x, message.centroid_y),
        embedding=np.asarray(message.embedding, np.float32),
        track_id=message.track_id,
        placement=placement if message.position_valid else None,
        class_id=message.class_id,
    )


def encoded_image(factory: MessageFactory, header: Any, encoding: str, array: NDArray[Any]) -> Any:
    """A sensor_msgs/Image of an array (height, width[, channels]) whose type fits the encoding."""
    array = np.ascontiguousarray(array)
    height, width = array.shape[:2]
    return factory.create(
        "sensor_msgs/msg/Image",
        header=header,
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=int(sys.byteorder == "big"),
        step=array.nbytes // height,
        data=factory.octets(array.reshape(-1).view(np.uint8)),
    )
