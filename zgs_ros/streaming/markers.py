"""Segments with a place in space as markers for RViz: a box, and the label above it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from zgs_ros.drawing.palette import colour_of
from zgs_ros.segmentation import Placement, Segment, Segmentation
from zgs_ros.streaming.messages import MessageFactory, duration, pose

CUBE, TEXT = 1, 9
"""Types of visualization_msgs/Marker."""

ADD, DELETE_ALL = 0, 3
"""Its actions."""

LIFETIME = 2.0
"""Seconds after which markers vanish when no new ones come."""

BOX_OPACITY = 0.3

TEXT_HEIGHT = 0.04
"""Height of the letters per metre of distance, so that near and far labels look the same."""

MIN_EXTENT = 0.01
"""Boxes are at least this thick [m]: what is seen from the front has no depth of its own."""


def marker_array(
    factory: MessageFactory,
    header: Any,
    segmentation: Segmentation,
    viewpoint: Sequence[float] | None = None,
) -> Any:
    """A visualization_msgs/MarkerArray that replaces the one before.

    Args:
        factory: Makes the messages.
        header: With the image's stamp and the frame that the places are in.
        segmentation: What was seen; segments without a place have no marker.
        viewpoint: Where the camera is in a frame whose z axis points up; None in the camera's own
            optical frame.
    """
    markers = [_marker(factory, header, action=DELETE_ALL)]
    for segment in segmentation.segments:
        if segment.placement:
            markers += [
                _box(factory, header, segment, segment.placement),
                _label(factory, header, segment, segment.placement, viewpoint),
            ]
    return factory.create("visualization_msgs/msg/MarkerArray", markers=markers)


def _box(factory: MessageFactory, header: Any, segment: Segment, place: Placement) -> Any:
    red, green, blue = colour_of(segment.label or f"#{segment.id}")
    return _marker(
        factory,
        header,
        ns="boxes",
        id=segment.id,
        type=CUBE,
        position=place.position,
        scale=tuple(max(extent, MIN_EXTENT) for extent in place.size),
        colour=(red / 255, green / 255, blue / 255, BOX_OPACITY),
    )


def _label(
    factory: MessageFactory,
    header: Any,
    segment: Segment,
    place: Placement,
    viewpoint: Sequence[float] | None,
) -> Any:
    x, y, z = place.position
    if viewpoint is None:
        height = TEXT_HEIGHT * z
        y -= place.size[1] / 2 + height  # y points down
    else:
        height = TEXT_HEIGHT * math.dist(place.position, viewpoint)
        z += place.size[2] / 2 + height
    return _marker(
        factory,
        header,
        ns="labels",
        id=segment.id,
        type=TEXT,
        position=(x, y, z),
        scale=(0.0, 0.0, height),
        colour=(1.0, 1.0, 1.0, 1.0),
        text=segment.label,
    )


def _marker(
    factory: MessageFactory,
    header: Any,
    *,
    action: int = ADD,
    ns: str = "",
    id: int = 0,
    type: int = 0,
    position: tuple[float, ...] = (0.0, 0.0, 0.0),
    scale: tuple[float, ...] = (1.0, 1.0, 1.0),
    colour: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0),
    text: str = "",
) -> Any:
    create = factory.create
    nothing = factory.octets(np.empty(0, np.uint8))
    return create(
        "visualization_msgs/msg/Marker",
        header=header,
        ns=ns,
        id=id,
        type=type,
        action=action,
        pose=pose(factory, position),
        scale=create("geometry_msgs/msg/Vector3", **dict(zip("xyz", scale, strict=True))),
        color=create("std_msgs/msg/ColorRGBA", **dict(zip("rgba", colour, strict=True))),
        lifetime=duration(factory, LIFETIME),
        frame_locked=False,
        points=[],
        colors=[],
        texture_resource="",
        texture=create("sensor_msgs/msg/CompressedImage", header=header, format="", data=nothing),
        uv_coordinates=[],
        text=text,
        mesh_resource="",
        mesh_file=create(
            "visualization_msgs/msg/MeshFile",
            filename="",
            data=factory.octets(np.empty(0, np.uint8)),
        ),
        mesh_use_embedded_materials=False,
    )
