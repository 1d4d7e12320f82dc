"""What Nav2's semantic layer relies on, seen from outside: subscriptions as it makes them.

From its source (kiwicampus/semantic_segmentation_layer, branch jazzy): mask and confidence are read by
``data[v * width + u]``, whatever the step; all three have to be of one size, and are put together by
their stamps; a mask that comes before the names of its classes ends the costmap's process.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conformance import HEIGHT, WIDTH, World
from numpy.typing import NDArray

from zgs_ros.streaming import messages
from zgs_ros.streaming.port import QosProfile

IMAGE, CLOUD = "sensor_msgs/msg/Image", "sensor_msgs/msg/PointCloud2"
LABELS = "vision_msgs/msg/LabelInfo"
SENSOR_DATA = QosProfile(reliable=False, depth=50)
LATCHED = QosProfile(reliable=True, depth=5, transient_local=True)

FLOAT32 = 7
"""Of sensor_msgs/PointField."""


class Layer:
    """The layer's subscriptions, in the order in which it makes them; keeps what comes, and when."""

    def __init__(self, world: World) -> None:
        self.arrived: list[str] = []
        self.got: dict[str, list[Any]] = {}
        topics = [
            ("label_mask", IMAGE, SENSOR_DATA),
            ("confidence", IMAGE, SENSOR_DATA),
            ("label_info", LABELS, LATCHED),
            ("points", CLOUD, SENSOR_DATA),
        ]
        for name, kind, qos in topics:
            self.got[name] = world.listen(f"/zgs/{name}", kind, qos)

    def sets(self) -> list[tuple[Any, Any, Any]]:
        """Mask, confidence and points of one stamp each."""
        by_stamp = [
            {messages.stamp_ns(m.header): m for m in self.got[name]}
            for name in ("label_mask", "confidence", "points")
        ]
        common = sorted(set.intersection(*map(set, by_stamp)))
        return [(by_stamp[0][t], by_stamp[1][t], by_stamp[2][t]) for t in common]


def pixels(image: Any) -> NDArray[np.uint8]:
    """As the layer reads them."""
    return np.asarray(image.data, np.uint8).reshape(image.height, image.width)


def points(cloud: Any) -> NDArray[np.float32]:
    """x, y and z of every pixel, (height, width, 3)."""
    offsets = {field.name: field.offset for field in cloud.fields}
    raw = np.asarray(cloud.data, np.uint8).reshape(cloud.height, cloud.width, cloud.point_step)
    return np.concatenate(
        [raw[..., o : o + 4].copy().view("<f4") for o in map(offsets.get, "xyz")], -1
    )


@pytest.fixture
def started(world: World) -> World:
    world.start(max_rate=1000.0, depth__enabled=True, classes__file="")
    return world


def test_a_late_layer_knows_the_classes_of_the_first_mask_that_it_gets(started: World) -> None:
    first = started.listen("/zgs/label_mask", IMAGE)
    show(started)
    started.until(lambda: first, "a mask before the layer is there")
    layer = Layer(started)
    started.until(lambda: layer.got["label_info"], "the names of the classes, without an image")
    show(started)
    started.until(lambda: layer.got["label_mask"], "a mask")
    named = {entry.class_id for entry in layer.got["label_info"][-1].class_map}
    assert {*pixels(layer.got["label_mask"][0]).ravel()} - {0} <= named


@pytest.mark.one_middleware
def test_mask_confidence_and_points_are_one_picture(started: World) -> None:
    layer = Layer(started)
    headers = seen_by(started, layer)
    mask, confidence, cloud = layer.sets()[0]
    assert [m.header for m in (mask, confidence, cloud)] == [mask.header] * 3
    assert mask.header in headers
    assert [(m.height, m.width) for m in (mask, confidence, cloud)] == [(HEIGHT, WIDTH)] * 3
    assert [(m.encoding, m.step, len(m.data)) for m in (mask, confidence)] == [
        ("mono8", WIDTH, HEIGHT * WIDTH)
    ] * 2
    assert {(f.name, f.datatype, f.count) for f in cloud.fields} >= {
        (axis, FLOAT32, 1) for axis in "xyz"
    }
    assert (cloud.row_step, bool(cloud.is_bigendian)) == (WIDTH * cloud.point_step, False)


@pytest.mark.one_middleware
def test_every_point_is_that_of_its_pixel_and_unknown_ones_are_nan(started: World) -> None:
    layer = Layer(started)
    seen_by(started, layer, hole=True)
    found = points(layer.sets()[0][2])
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    assert np.isnan(found[0, 0]).all(), "where depth is not known"
    known = np.isfinite(found[..., 2])
    assert known.sum() == HEIGHT * WIDTH - 1
    # Of the camera of World.camera_info: focal length 20, centre (7.5, 5.5).
    u = found[..., 0] / found[..., 2] * 20 + 7.5
    v = found[..., 1] / found[..., 2] * 20 + 5.5
    np.testing.assert_allclose(found[..., 2][known], 2.0, atol=1e-3)
    np.testing.assert_allclose(u[known], columns[known], atol=1e-2)
    np.testing.assert_allclose(v[known], rows[known], atol=1e-2)


@pytest.mark.one_middleware
def test_ids_are_named_and_sure_where_something_is_seen(started: World) -> None:
    layer = Layer(started)
    seen_by(started, layer)
    mask, confidence = map(pixels, layer.sets()[0][:2])
    names = {c.class_id: c.class_name for m in layer.got["label_info"] for c in m.class_map}
    assert {names[number] for number in {*mask.ravel()}} == {"left", "right"}
    assert (names[mask[0, 0]], names[mask[0, -1]]) == ("left", "right")
    assert set(names) <= set(range(1, 256)), "the layer keeps the low byte of an id only"
    assert (confidence > 0).all()


def seen_by(world: World, layer: Layer, hole: bool = False) -> list[Any]:
    """Shows images, whose headers it returns, until a set of three has come of one.

    The first may come before the node knows of all of the layer's subscriptions.
    """
    headers: list[Any] = []

    def shown() -> bool:
        headers.append(show(world, hole))
        world.until(layer.sets, "", 2.0, strict=False)
        return bool(layer.sets())

    world.until(shown, "three messages of one stamp")
    return headers


def show(world: World, hole: bool = False) -> Any:
    """Publishes an image with depth of 2 m; with a hole where that is not known."""
    world.camera_info()
    header = world.header()
    metres = np.full((HEIGHT, WIDTH), 2.0, np.float32)
    if hole:
        metres[0, 0] = 0.0
    message = messages.depth_image(world.types, header, metres)
    world.publisher("/camera/depth/image_raw", IMAGE).publish(message)
    world.image(header)
    return header
