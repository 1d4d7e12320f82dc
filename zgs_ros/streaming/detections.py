"""Segments as vision_msgs detections, for programs that know those and not this package's messages."""

from __future__ import annotations

from typing import Any

import numpy as np

from zgs_ros.segmentation import Label, Segment, Segmentation
from zgs_ros.streaming.messages import MessageFactory, pose

Position = tuple[float, float, float]

NOWHERE: Position = (0.0, 0.0, 0.0)


def detection2d_array(factory: MessageFactory, header: Any, segmentation: Segmentation) -> Any:
    """A vision_msgs/Detection2DArray: the bounding box of every segment, in pixels.

    Boxes are measured between the outer edges of their pixels, so that the centre minus half the
    size is the ``x_offset`` of the segment's region of interest.

    Args:
        factory: Makes the messages.
        header: The image's header, which is used as it is.
        segmentation: What was seen.
    """
    create = factory.create
    detections = []
    for segment in segmentation.segments:
        roi = segment.roi
        position = create(
            "vision_msgs/msg/Point2D", x=roi.x + roi.width / 2, y=roi.y + roi.height / 2
        )
        box = create(
            "vision_msgs/msg/BoundingBox2D",
            center=create("vision_msgs/msg/Pose2D", position=position, theta=0.0),
            size_x=float(roi.width),
            size_y=float(roi.height),
        )
        detections.append(_detection(factory, "Detection2D", header, segment, box, NOWHERE))
    return create("vision_msgs/msg/Detection2DArray", header=header, detections=detections)


def detection3d_array(factory: MessageFactory, header: Any, segmentation: Segmentation) -> Any:
    """A vision_msgs/Detection3DArray: the box in space of every segment that has a place, in metres.

    Args:
        factory: Makes the messages.
        header: With the image's stamp and the frame that the places are in.
        segmentation: What was seen.
    """
    create = factory.create
    detections = []
    for segment in segmentation.segments:
        if segment.placement is None:
            continue
        place = segment.placement
        box = create(
            "vision_msgs/msg/BoundingBox3D",
            center=pose(factory, place.position),
            size=create("geometry_msgs/msg/Vector3", **dict(zip("xyz", place.size, strict=True))),
        )
        detections.append(_detection(factory, "Detection3D", header, segment, box, place.position))
    return create("vision_msgs/msg/Detection3DArray", header=header, detections=detections)


def _detection(
    factory: MessageFactory, kind: str, header: Any, segment: Segment, box: Any, position: Position
) -> Any:
    create = factory.create
    return create(
        f"vision_msgs/msg/{kind}",
        header=header,
        results=[
            create(
                "vision_msgs/msg/ObjectHypothesisWithPose",
                hypothesis=create(
                    "vision_msgs/msg/ObjectHypothesis",
                    class_id=label.text,
                    score=_probability(label),
                ),
                pose=create(
                    "geometry_msgs/msg/PoseWithCovariance",
                    pose=pose(factory, position),
                    covariance=np.zeros(36),
                ),
            )
            for label in segment.labels
        ],
        bbox=box,
        id=str(segment.track_id) if segment.track_id else "",
    )


def _probability(label: Label) -> float:
    """What vision_msgs means by a score; a cosine, as far as it can be one, where there is no better."""
    chance = label.probability if label.probability is not None else label.score
    return min(max(float(chance), 0.0), 1.0)
