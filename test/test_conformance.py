"""The same node under every adapter: topics, types, QoS, diagnostics, counts, pairing, error texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance import World, made

from zgs_ros.streaming.inputs import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE
from zgs_ros.streaming.interface import DIAGNOSTICS, endpoints
from zgs_ros.streaming.port import QosProfile

SEGMENTS = "zgs_ros/msg/SegmentArray"
FAST: dict[str, Any] = {"max_rate": 1000.0}

VALUES = {
    *("version", "model", "device", "profile", "image topic", "image publishers"),
    *("image reliability", "silent topics subscribed anew", "result subscribers", "memory [MB]"),
    *("lost before they came", "classes", "labels that share the class other"),
    *("received", "processed", "dropped", "rejected", "pending", "results per second", "segments"),
    *("image age [s]", "result age [s]", "latency p50 [ms]", "latency p95 [ms]"),
    *(f"stage {stage} [ms]" for stage in ("decode", "dino", "classes", "tracking", "publish")),
}
"""What diagnostics say of a stream at work."""


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


@pytest.mark.one_middleware
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


@pytest.mark.one_middleware
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


@pytest.mark.one_middleware
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


@pytest.mark.one_middleware
@pytest.mark.parametrize(
    ("transport", "kind"),
    [
        ("compressedDepth", "32FC1 png"),
        ("compressedDepth", "16UC1 rvl"),
        ("compressed", "png alone"),
    ],
)
def test_compressed_depth_gives_places(world: World, transport: str, kind: str) -> None:
    world.start(**FAST, depth__enabled=True, depth__transport=transport)
    got = world.listen("/zgs/segments", SEGMENTS)
    world.diagnosed(lambda seen: seen.values.get("result subscribers") == "yes")
    world.publisher("/camera/image_raw", IMAGE)
    world.camera_info()
    first, second = world.header(), world.header()
    topic = f"/camera/depth/image_raw/{transport}"
    world.compressed_depth(first, 1.5, kind, topic)
    world.image(first)
    world.until(lambda: len(got) == 1, "a result")
    assert [round(s.position.z, 2) for s in got[0].segments if s.position_valid] == [1.5, 1.5]
    world.publisher(topic, COMPRESSED_IMAGE).publish(
        world.types.create(COMPRESSED_IMAGE, header=second, format="?", data=np.zeros(9, np.uint8))
    )
    world.image(second)
    world.until(lambda: len(got) == 2, "a result without places")
    assert [(s.label, s.position_valid) for s in got[1].segments] == [
        ("left", False),
        ("right", False),
    ]
    seen = world.diagnosed(lambda seen: seen.values["processed"] == "2")
    assert seen.values["depth: unusable depth or camera_info"] == "1"
    assert "is neither compressedDepth" in seen.message


@pytest.mark.one_middleware
def test_cameras_that_are_turned_have_results_in_their_own_pixels(world: World) -> None:
    """The left half of what is upright is the lower half of an image that is turned by 90 degrees."""
    world.start(**FAST, cameras=["front", "left"], rotation=[0, 90])
    got = {name: world.listen(f"/zgs/{name}/segments", SEGMENTS) for name in ("front", "left")}
    world.diagnosed(lambda seen: seen.values.get("result subscribers") == "yes")
    header = world.header()
    for name in got:
        world.publisher(f"/{name}/image_raw", IMAGE)
    for name in got:
        world.image(header, f"/{name}/image_raw")
    world.until(lambda: got["front"] and got["left"], "a result of each")
    boxes = {
        name: [
            (s.label, s.roi.x_offset, s.roi.y_offset, s.roi.width, s.roi.height)
            for s in got[name][0].segments
        ]
        for name in got
    }
    assert boxes["front"] == [("left", 0, 0, 8, 12), ("right", 8, 0, 8, 12)]
    assert boxes["left"] == [("left", 0, 6, 16, 6), ("right", 0, 0, 16, 6)]
    image = got["left"][0].label_image
    assert (image.height, image.width) == (12, 16)


@pytest.mark.one_middleware
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


@pytest.mark.one_middleware
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


@pytest.mark.one_middleware
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


IMAGE_OUTPUTS = ("label_mask", "label_mask_16", "confidence", "instances")
LABEL_INFO = "vision_msgs/msg/LabelInfo"
BEST_EFFORT = QosProfile(reliable=False, depth=50)
LATCHED = QosProfile(depth=1, transient_local=True)


def names(message: Any) -> dict[int, str]:
    return {entry.class_id: entry.class_name for entry in message.class_map}


def pixels(message: Any) -> Any:
    """The image's left and right column, as numbers."""
    kinds = {"mono8": "u1", "mono16": "<u2", "32SC1": "<i4"}
    data = np.frombuffer(bytes(message.data), kinds[message.encoding])
    return data.reshape(message.height, message.width)[0, [0, -1]].tolist()


def test_classes_are_images_of_one_stamp_and_names_that_late_comers_get(
    world: World, tmp_path: Path
) -> None:
    """As Nav2's semantic layer listens: best effort, and transient local for the names."""
    file = tmp_path / "classes.yaml"
    file.write_text("classes:\n  - {id: 7, name: port, phrases: [left]}\n")
    world.start(**FAST, classes__file=str(file))
    info = world.listen("/zgs/label_info", LABEL_INFO, LATCHED)
    world.until(lambda: info, "the names before the first mask")
    assert names(info[-1]) == {7: "port", 255: "other"}
    got = {name: world.listen(f"/zgs/{name}", IMAGE, BEST_EFFORT) for name in IMAGE_OUTPUTS}
    segments = world.listen("/zgs/segments", SEGMENTS)
    world.diagnosed(lambda seen: seen.values.get("result subscribers") == "yes")
    header = world.header()
    world.image(header)
    world.until(lambda: segments and all(got.values()), "a result")
    for message in (segments[0], *(images[0] for images in got.values())):
        assert (message.header.stamp, message.header.frame_id) == (header.stamp, "optical")
    assert [segment.class_id for segment in segments[0].segments] == [7, 1]
    sizes = {(images[0].height, images[0].width) for images in got.values()}
    assert sizes == {(12, 16)}
    seen = {name: (images[0].encoding, pixels(images[0])) for name, images in got.items()}
    assert seen == {
        "label_mask": ("mono8", [7, 1]),
        "label_mask_16": ("mono16", [7, 1]),
        "confidence": ("mono8", [128, 128]),
        "instances": ("32SC1", [7 << 16 | 1, 1 << 16 | 2]),
    }
    late = world.listen("/zgs/label_info", LABEL_INFO, LATCHED)
    world.until(lambda: late, "the names for who comes late")
    assert names(late[-1]) == {1: "right", 7: "port", 255: "other"}
    assert file.read_text().endswith("seen:\n  right: 1\n")


def test_who_reads_only_the_names_wants_no_results(world: World) -> None:
    world.start(**FAST)
    world.listen("/zgs/label_info", LABEL_INFO, LATCHED)
    world.image(world.header())
    seen = world.diagnosed(lambda seen: seen.values["dropped"] == "1")
    assert seen.values["result subscribers"] == "no"


@pytest.mark.one_middleware
def test_classes_are_replaced_while_the_node_runs(world: World) -> None:
    world.start(**FAST, classes__file="")
    info = world.listen("/zgs/label_info", LABEL_INFO, LATCHED)
    masks = world.listen("/zgs/label_mask", IMAGE)
    world.diagnosed(lambda seen: seen.values.get("result subscribers") == "yes")
    world.image(world.header())
    world.until(lambda: len(masks) == 1, "a mask")
    assert pixels(masks[0]) == [1, 2]

    def replace(*groups: tuple[int, str, list[str]], **fields: Any) -> Any:
        made = [
            world.types.create("zgs_ros/msg/ClassGroup", id=number, name=name, phrases=phrases)
            for number, name, phrases in groups
        ]
        request = world.types.create("zgs_ros/msg/Classes", groups=made, **fields)
        return world.request("set_classes", request, "zgs_ros/msg/ClassesResult")

    refused = replace((0, "a", ["left"]), (0, "b", ["Left"]), open=False)
    assert (refused.success, refused.groups) == (False, [])
    assert refused.message == "the phrase 'left' is of two classes, 'a' and 'b'; it can be of one"
    done = replace((9, "starboard", ["right"]), open=False)
    assert (done.success, done.message, done.open) == (True, "", False)
    assert [(g.id, g.name, g.phrases) for g in done.groups] == [
        (9, "starboard", ["starboard", "right"])
    ]
    world.until(lambda: 9 in names(info[-1]), "the new name, before any image")
    world.image(world.header())
    world.until(lambda: len(masks) == 2, "a mask")
    assert pixels(masks[1]) == [0, 9]
    assert names(info[-1]) == {1: "left", 2: "right", 9: "starboard", 255: "other"}


@pytest.mark.one_middleware
def test_alerts_tell_once_when_something_comes_into_view(world: World) -> None:
    world.start(**FAST, classes__file="")
    alerts = world.listen("/zgs/alerts", "zgs_ros/msg/Alert")

    def watch(threshold: float) -> Any:
        create = world.types.create
        made = create("zgs_ros/msg/Watch", phrase="half", threshold=threshold, margin=0.0)
        request = create("zgs_ros/msg/Watches", watches=[made])
        return world.request("watch", request, "zgs_ros/msg/WatchesResult")

    refused = watch(float("nan"))
    assert not refused.success
    assert "the threshold of 'half' must be a cosine in -1 .. 1" in refused.message
    assert [entry.phrase for entry in watch(0.9).watches] == ["half"]
    headers = [world.header() for _ in range(2)]
    for number, header in enumerate(headers, start=1):
        world.image(header)
        world.diagnosed(lambda seen, n=number: seen.values["processed"] == str(n))
    world.until(lambda: len(alerts) == 2, "an alert for each half")
    assert {alert.header.stamp.sec for alert in alerts} == {headers[0].stamp.sec}
    assert [(a.active, a.segment.label, a.watch.phrase) for a in alerts] == [
        (True, "left", "half"),
        (True, "right", "half"),
    ]


def test_images_are_dropped_while_the_node_is_disabled(world: World) -> None:
    world.start(**FAST)
    got = world.listen("/zgs/segments", SEGMENTS)
    world.diagnosed(lambda seen: seen.values.get("result subscribers") == "yes")
    off = world.call("enable", "std_srvs/srv/SetBool", data=False)
    assert (off.success, off.message) == (True, "images are dropped")
    world.image(world.header())
    seen = world.diagnosed(lambda seen: seen.values.get("dropped: disabled") == "1")
    assert seen.message == "disabled: call /zgs/enable with data: true"
    assert world.call("enable", "std_srvs/srv/SetBool", data=True).success
    world.image(world.header())
    world.until(lambda: got, "a result")
    assert len(got) == 1


@pytest.mark.one_middleware
def test_a_segments_mask_is_had_by_its_track(world: World) -> None:
    world.start(**FAST)
    got = world.listen("/zgs/segments", SEGMENTS)
    world.diagnosed(lambda seen: seen.values.get("result subscribers") == "yes")
    world.image(header := world.header())
    world.until(lambda: got, "a result")
    [_, right] = got[0].segments
    found = world.call("segment_mask", "zgs_ros/srv/SegmentMask", track_id=right.track_id)
    assert (found.success, found.segment.label) == (True, "right")
    assert (found.mask.encoding, pixels(found.mask)) == ("mono8", [0, 255])
    assert found.mask.header.stamp == header.stamp
    gone = world.call("segment_mask", "zgs_ros/srv/SegmentMask", track_id=1000)
    assert gone.message == "the latest result has no segment with track_id 1000"


@pytest.mark.one_middleware
def test_an_objects_own_points_and_box_are_in_the_target_frame(world: World) -> None:
    world.start(**FAST, depth__enabled=True, target_frame="map", transform_timeout=5.0)
    got = world.listen("/zgs/segments", SEGMENTS)
    world.diagnosed(lambda seen: seen.values.get("result subscribers") == "yes")
    world.publisher("/camera/image_raw", IMAGE)
    header = world.header()
    world.transform(header, "map", "optical", 10.0, static=True)
    world.camera_info()
    world.depth(header)
    world.image(header)
    world.until(lambda: got, "a result")
    [_, right] = got[0].segments
    found = world.call("object_cloud", "zgs_ros/srv/ObjectCloud", track_id=right.track_id)
    assert (found.success, found.message) == (True, "")
    assert (found.label, found.track_id, found.segment_id) == ("right", right.track_id, right.id)
    cloud = found.cloud
    assert (cloud.header.frame_id, cloud.header.stamp) == ("map", header.stamp)
    assert (cloud.height, cloud.is_dense) == (1, True)
    floats = np.frombuffer(bytes(cloud.data), "<f4").reshape(cloud.width, -1)
    # Right of the optical axis by 0.5 .. 7.5 pixels, of which the border to the left half is cut off.
    assert (floats[:, 0].min(), floats[:, 0].max()) == pytest.approx((10.15, 10.75), abs=0.01)
    assert floats[:, 2] == pytest.approx(2.0)
    middle = found.pose.position
    assert (middle.x, middle.y, middle.z) == pytest.approx((10.45, 0.0, 2.0), abs=0.05)
    # Its x axis is the longer side: 11 pixels down at 10 pixels a metre.
    assert (found.size.x, found.size.y, found.size.z) == pytest.approx((1.1, 0.6, 0.0), abs=0.05)
    gone = world.call("object_cloud", "zgs_ros/srv/ObjectCloud", track_id=1000)
    assert (gone.success, gone.message) == (
        False,
        "the latest result has no segment with track_id 1000",
    )


@pytest.mark.one_middleware
def test_a_class_has_masks_and_camera_info_of_its_own(world: World, tmp_path: Path) -> None:
    file = tmp_path / "classes.yaml"
    file.write_text("classes: [{id: 3, name: port, phrases: [left], mask_topic: port_mask}]\n")
    world.start(**FAST, classes__file=str(file))
    masks = world.listen("/zgs/port_mask/image", IMAGE)
    infos = world.listen("/zgs/port_mask/camera_info", CAMERA_INFO)
    world.diagnosed(lambda seen: seen.values.get("result subscribers") == "yes")
    world.image(world.header())
    world.until(lambda: len(masks) == 1, "a mask though there is no camera_info")
    world.camera_info()
    header = world.header()

    def paired() -> bool:
        world.image(header)
        world.until(lambda: infos, "camera_info", 1.0, strict=False)
        return bool(infos)

    world.until(paired, "camera_info with a mask")
    assert (infos[0].header.stamp, infos[0].width) == (header.stamp, 16)
    assert infos[0].k[0] == 20.0
    assert pixels(masks[-1]) == [255, 0]


@pytest.mark.one_middleware
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
