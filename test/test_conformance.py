"""The same node under every adapter: topics, types, QoS, diagnostics, counts, pairing, error texts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import ros_support
from conformance import DdsWorld, MemoryWorld, RosWorld, World, made

from zgs_ros.streaming.inputs import CAMERA_INFO, IMAGE
from zgs_ros.streaming.interface import DIAGNOSTICS, endpoints
from zgs_ros.streaming.port import QosProfile

ADAPTERS = [
    "memory",
    "dds",
    *(pytest.param(rmw, marks=pytest.mark.ros) for rmw in ros_support.RMWS),
]
SEGMENTS = "zgs_ros/msg/SegmentArray"
FAST: dict[str, Any] = {"max_rate": 1000.0}

VALUES = {
    *("version", "model", "device", "profile", "image topic", "image publishers"),
    *("image reliability", "silent topics subscribed anew", "result subscribers", "memory [MB]"),
    "lost before they came",
    *("received", "processed", "dropped", "rejected", "pending", "results per second", "segments"),
    *("image age [s]", "result age [s]", "latency p50 [ms]", "latency p95 [ms]"),
    *(f"stage {stage} [ms]" for stage in ("decode", "dino", "tracking", "publish")),
}
"""What diagnostics say of a stream at work."""


@pytest.fixture(params=ADAPTERS)
def world(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[World]:
    if request.param == "memory":
        with MemoryWorld() as made_world:
            yield made_world
    elif request.param == "dds":
        with DdsWorld() as made_world:
            yield made_world
    else:
        workspace = request.getfixturevalue("ros_workspace")
        ros = ros_support.Ros(workspace, request.param, tmp_path)
        if not ros.has_middleware:
            pytest.skip(f"{request.param} is not installed")
        with ros, RosWorld(ros) as made_world:
            yield made_world


CLOUD = "sensor_msgs/msg/PointCloud2"

CASES: list[dict[str, Any]] = [
    {},
    {"depth__enabled": True, "publish_detections": True},
    {"cameras": ["front", "left"], "image_transport": "compressed"},
]


@pytest.mark.parametrize("given", CASES, ids=lambda given: ", ".join(given) or "defaults")
def test_topics_types_and_qos_are_those_of_the_tables(world: World, given: dict[str, Any]) -> None:
    world.start(**given)
    for end in endpoints(made(given)):
        topic = end.name.replace("~", "/zgs")
        if end.direction == "out":

            def offered(topic: str = topic) -> list[Any]:
                return [
                    (offer.type_name, offer.qos.reliable, offer.qos.transient_local)
                    for offer in world.port.offers(topic)
                ]

            wanted = [(end.type_name, end.qos.reliable, end.qos.transient_local)]
            world.until(lambda w=wanted, o=offered: o() == w, f"{topic} is offered as {wanted}")


def test_an_image_becomes_segments_with_its_header_verbatim(world: World) -> None:
    world.start(**FAST)
    got = world.listen("/zgs/segments", SEGMENTS)
    world.diagnosed(lambda seen: seen.values.get("result subscribers") == "yes")
    header = world.header()
    world.image(header)
    world.until(lambda: got, "a result")
    [result] = got
    assert (result.header.stamp, result.header.frame_id) == (header.stamp, "optical")
    assert [segment.label for segment in result.segments] == ["left", "right"]
    assert [segment.area for segment in result.segments] == [96, 96]
    assert result.label_image.encoding == "mono16"


def test_diagnostics_have_the_same_keys_and_values(world: World) -> None:
    world.start(**FAST)
    before = world.diagnosed(lambda seen: "image topic" in seen.values)
    assert before.values["image publishers"] == "0"
    assert before.values["image topic"] == "/camera/image_raw"
    assert (before.level, before.message) == (1, "no image received yet")
    got = world.listen("/zgs/segments", SEGMENTS)
    world.diagnosed(lambda seen: seen.values.get("result subscribers") == "yes")
    world.image(world.header())
    world.until(lambda: got, "a result")
    seen = world.diagnosed(
        lambda seen: seen.values["processed"] == "1" and seen.values["image publishers"] == "1"
    )
    stamps = {"latency p50 [ms]", "latency p95 [ms]"}  # stamps of the tests run ahead of time
    assert set(seen.values) | stamps == VALUES
    values = [seen.values[key] for key in ("model", "device", "profile", "received", "rejected")]
    assert values == ["halves", "cpu", "balanced", "1", "0"]
    assert seen.values["image reliability"] == "reliable"


def test_every_image_is_accounted_for_and_errors_have_the_same_text(world: World) -> None:
    world.start(**FAST)
    got = world.listen("/zgs/segments", SEGMENTS)
    world.diagnosed(lambda seen: seen.values.get("result subscribers") == "yes")
    world.image(world.header(), encoding="made_up")
    seen = world.diagnosed(lambda seen: seen.values["rejected"] == "1")
    assert "bad image: encoding 'made_up' is not supported" in seen.values["last error"]
    for number in range(1, 6):
        world.image(world.header())
        world.until(lambda n=number: len(got) == n, "a result each")
    seen = world.diagnosed(lambda seen: seen.values["processed"] == "5")
    counts = [seen.values[key] for key in ("received", "dropped", "rejected", "pending")]
    assert counts == ["6", "0", "1", "0"]


def test_nothing_is_computed_while_nobody_listens(world: World) -> None:
    world.start(**FAST)
    world.image(world.header())
    seen = world.diagnosed(lambda seen: seen.values["received"] == "1")
    seen = world.diagnosed(lambda seen: seen.values["dropped"] == "1")
    assert seen.values["dropped: nobody subscribed"] == "1"
    assert seen.values["result subscribers"] == "no"


PAIRING: dict[str, list[str]] = {
    "together": ["d0 i0", "d1 i1", "d2 i2"],
    "images first": ["i0", "d0", "i1", "d1", "i2", "d2"],
    "depth two ahead": ["d0", "d1", "d2 i0", "d3 i1", "i2"],
    "camera_info once, before the node": ["d0 i0", "d1 i1", "d2 i2"],
}


@pytest.mark.parametrize("order", PAIRING)
def test_depth_is_paired_by_stamps_whenever_it_comes(world: World, order: str) -> None:
    latched = order.startswith("camera_info")
    if latched:
        world.camera_info(QosProfile(depth=1, transient_local=True))
    world.start(**FAST, depth__enabled=True, depth__slop=0.01)
    got = world.listen("/zgs/segments", SEGMENTS)
    world.diagnosed(lambda seen: seen.values.get("result subscribers") == "yes")
    world.publisher("/camera/image_raw", IMAGE)
    world.publisher("/camera/depth/image_raw", IMAGE)
    if not latched:
        world.publisher("/camera/camera_info", CAMERA_INFO)
    world.diagnosed(lambda seen: seen.values["image publishers"] == "1")
    if not latched:
        world.camera_info()
    headers = [world.header() for _ in range(4)]
    wanted = 0
    for step in PAIRING[order]:
        for kind, number in step.split():
            if kind == "d":
                world.depth(headers[int(number)], 1.0 + int(number))
            else:
                world.image(headers[int(number)])
        ready = step.startswith("d") if order == "images first" else "i" in step
        if ready:
            wanted += 1
            world.until(lambda n=wanted: len(got) == n, "a result for each image")
    metres = [[round(s.position.z, 2) for s in m.segments if s.position_valid] for m in got]
    assert metres == [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]
    values = world.diagnosed(lambda seen: seen.values["processed"] == "3").values
    assert values["depth: used"] == "3"
    assert not [key for key in values if key.startswith("depth: ") and key != "depth: used"]


def test_images_that_stay_without_depth_are_counted_by_reason(world: World) -> None:
    world.start(**FAST, depth__enabled=True)
    got = world.listen("/zgs/segments", SEGMENTS)
    world.diagnosed(lambda seen: seen.values.get("result subscribers") == "yes")
    world.publisher("/camera/image_raw", IMAGE)
    world.camera_info()
    first, second = world.header(), world.header()
    world.depth(second)
    world.image(first)
    world.until(lambda: len(got) == 1, "the image whose depth is another one's")
    seen = world.diagnosed(lambda seen: seen.values["processed"] == "1")
    assert seen.values["depth: no depth image"] == "1"
    assert (seen.level, "has no depth image (depth.slop 0.05 s)" in seen.message) == (1, True)


def test_positions_and_clouds_are_in_the_target_frame_at_the_images_stamp(world: World) -> None:
    world.start(
        **FAST, depth__enabled=True, target_frame="map", transform_timeout=1.0, depth__slop=0.01
    )
    got = world.listen("/zgs/segments", SEGMENTS)
    clouds = world.listen("/zgs/points", CLOUD, QosProfile(reliable=False, depth=50))
    world.diagnosed(lambda seen: seen.values.get("result subscribers") == "yes")
    world.publisher("/camera/image_raw", IMAGE)
    world.publisher("/camera/depth/image_raw", IMAGE)
    world.camera_info()
    first, second, third = (world.header() for _ in range(3))
    world.depth(first)
    world.image(first)
    world.until(lambda: len(got) == 1, "a result without a transform", 30.0)
    assert [segment.position_valid for segment in got[0].segments] == [False, False]
    seen = world.diagnosed(lambda seen: "no transform" in seen.message)
    assert seen.values["depth: no transform to target_frame"] == "1"
    assert (
        "the latest image has no transform to 'map' (target_frame): "
        "nobody publishes a transform to or from 'optical'" in seen.message
    )
    world.transform(second, "base_link", "optical", 1.0, static=True)
    world.transform(second, "map", "base_link", 10.0)
    world.transform(third, "map", "base_link", 20.0)
    world.diagnosed(lambda seen: seen.values["image publishers"] == "1")
    world.depth(third)
    world.image(third)
    world.until(lambda: len(got) == 2, "a result in the map")
    assert got[1].header.frame_id == "optical"
    assert got[1].position_frame == "map"
    # The middles of the halves are 4 pixels from the optical axis: 0.4 m at 2 m.
    placed = [segment.position.x for segment in got[1].segments if segment.position_valid]
    assert placed == pytest.approx([20.6, 21.4], abs=0.1)
    world.until(lambda: clouds, "a cloud")
    [cloud] = clouds
    assert (cloud.header.frame_id, cloud.header.stamp) == ("map", third.stamp)
    assert (cloud.width, cloud.height, cloud.is_dense) == (16, 12, False)
    values = world.diagnosed(lambda seen: seen.values["processed"] == "2").values
    assert values["depth: used"] == "1"


@pytest.mark.parametrize("reliable", [False, True], ids=["best effort", "reliable"])
def test_the_subscription_is_as_reliable_as_the_camera(world: World, reliable: bool) -> None:
    world.start(**FAST)
    world.publisher("/camera/image_raw", IMAGE, QosProfile(reliable=reliable))
    text = "reliable" if reliable else "best effort"
    world.diagnosed(
        lambda seen: (
            (seen.values["image publishers"], seen.values["image reliability"]) == ("1", text)
        )
    )
    world.publisher("/camera/image_raw", IMAGE, QosProfile(reliable=reliable, depth=3))


def test_a_second_camera_on_the_topic_that_is_best_effort_is_heard_too(world: World) -> None:
    world.start(**FAST)
    world.image(world.header())
    world.diagnosed(lambda seen: seen.values["image reliability"] == "reliable")
    late = world.publisher("/camera/image_raw", IMAGE, QosProfile(reliable=False))
    assert late.subscription_count()
    world.diagnosed(lambda seen: seen.values["image reliability"] == "best effort")


def test_a_topic_of_another_type_is_named(world: World) -> None:
    world.start(**FAST)
    other = world.port.create_publisher("/camera/image_raw", CAMERA_INFO)
    try:
        seen = world.diagnosed(lambda seen: "is published as" in seen.message)
    finally:
        other.close()
    assert seen.values["image publishers"] == "0"
    expected = f"/camera/image_raw is published as {CAMERA_INFO}, not as {IMAGE}"
    assert expected in seen.message


def test_queries_have_the_same_answers_and_error_texts(world: World) -> None:
    world.start(**FAST)
    early = world.ask("mug")
    assert (early.success, early.message.split(":")[0]) == (False, "there is no result yet")
    empty = world.ask("  ")
    assert empty.message == ("text is empty; say what to look for, such as 'something to sit on'")
    got = world.listen("/zgs/segments", SEGMENTS)
    world.diagnosed(lambda seen: seen.values.get("result subscribers") == "yes")
    world.image(world.header())
    world.until(lambda: got, "a result")
    found = world.ask("mug")
    assert (found.success, [s.label for s in found.segments]) == (True, ["left", "right"])
    assert "no result of a camera 'rear'" in world.ask("mug", camera="rear").message


def test_each_camera_has_its_own_topics_and_counts(world: World) -> None:
    world.start(**FAST, cameras=["front", "left"])
    got = {name: world.listen(f"/zgs/{name}/segments", SEGMENTS) for name in ("front", "left")}
    world.diagnosed(lambda seen: seen.values.get("result subscribers") == "yes")
    world.image(world.header(), "/left/image_raw")
    world.until(lambda: got["left"], "a result")
    assert got["front"] == []
    seen = world.diagnosed(lambda seen: seen.values["processed"] == "1")
    assert seen.values["image topic"] == "/front/image_raw, /left/image_raw"
    statuses = {s.name for m in world.got[DIAGNOSTICS.name] for s in m.status}
    assert statuses == {"zgs: stream", "zgs: front", "zgs: left"}
