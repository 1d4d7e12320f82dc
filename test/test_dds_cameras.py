"""The node without ROS, with several cameras, with depth, and with questions: seen from the network."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from dds_support import DOMAIN, HalvesSegmenter, Peer, cli, peer, process

from zgs_ros.config import NodeSettings, make_settings
from zgs_ros.dds.network import Network
from zgs_ros.dds.node import DdsNode
from zgs_ros.dds.peer import PeerOptions
from zgs_ros.streaming import diagnostics
from zgs_ros.streaming.messages import stamp_ns
from zgs_ros.streaming.port import QosProfile
from zgs_ros.tools.camera import CameraOptions, CameraPublishers
from zgs_ros.tools.sources import Picture, SourceOptions

Eventually = Callable[..., None]
NETWORK = Network(DOMAIN, loopback_only=True)
HEIGHT, WIDTH = 48, 64
INTRINSICS = np.array([[60.0, 0.0, 31.5], [0.0, 60.0, 23.5], [0.0, 0.0, 1.0]])
TYPES = {
    "segments": "zgs_ros/msg/SegmentArray",
    "markers": "visualization_msgs/msg/MarkerArray",
    "query/result": "zgs_ros/msg/QueryResult",
    "/diagnostics": "diagnostic_msgs/msg/DiagnosticArray",
}


class Robot:
    """Cameras and a listener around a running peer."""

    def __init__(self, *cameras: str, **settings: Any) -> None:
        values = {"max_rate": 1000.0, "cameras": cameras or ("",), **settings}
        self.peer = Peer(
            HalvesSegmenter(), make_settings(NodeSettings, values), PeerOptions(NETWORK)
        )
        self.node = DdsNode("robot", network=NETWORK)
        self.cameras = {
            name: CameraPublishers(
                self.node,
                CameraOptions(
                    NETWORK,
                    topic=f"/{name or 'camera'}/image_raw",
                    frame_id=f"{name}_optical",
                    reading=SourceOptions(depth=True),
                ),
            )
            for name in cameras or ("",)
        }

    def listen(self, topic: str, eventually: Eventually) -> list[Any]:
        got: list[Any] = []
        name = topic if topic.startswith("/") else f"/zgs/{topic}"
        kind = TYPES.get(topic) or TYPES[topic.split("/")[-1]]
        before = self.peer.outputs.wanted()
        subscription = self.node.create_subscription(name, kind, got.append, QosProfile(depth=50))
        eventually(subscription.publisher_count, "the peer's publisher is seen")
        if kind in (TYPES["segments"], TYPES["markers"]) and not before:
            eventually(self.peer.outputs.wanted, "the listener is seen")
        for camera in self.cameras.values():
            eventually(camera.images.subscription_count, "the peer listens to the camera")
        return got

    def send(self, camera: str = "", depth: Any = None, number: int = 1) -> None:
        pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        picture = Picture(pixels, depth, None if depth is None else INTRINSICS)
        self.cameras[camera].publish(picture, 1_700_000_000_000_000_000 + number)

    def ask(self, text: str, eventually: Eventually, **fields: Any) -> None:
        request = self.node.create_publisher("/zgs/query/request", "zgs_ros/msg/Query")
        eventually(request.subscription_count, "the peer listens to queries")
        create = self.node.types.create
        query = {"text": text, "max_results": 0, "camera": "", **fields}
        request.publish(create("zgs_ros/msg/Query", **query))

    def status(self, got: list[Any], eventually: Eventually) -> dict[str, Any]:
        """The statuses of the peer's diagnosis now."""
        got.clear()

        def arrived() -> bool:
            self.peer.node.look()  # again: the first may come before the connection
            time.sleep(0.05)
            return bool(got)

        eventually(arrived, "a diagnosis")
        return {status.name: status for status in got[-1].status}

    def close(self) -> None:
        self.node.close()
        self.peer.close()


@pytest.fixture
def make_robot() -> Iterator[Callable[..., Robot]]:
    robots: list[Robot] = []

    def make(*cameras: str, **settings: Any) -> Robot:
        robots.append(Robot(*cameras, **settings))
        return robots[-1]

    yield make
    for robot in robots:
        robot.close()


def plane(metres: float) -> Any:
    return np.full((HEIGHT, WIDTH), metres, np.float32)


def test_depth_gives_positions_and_markers(
    make_robot: Callable[..., Robot], eventually: Eventually
) -> None:
    robot = make_robot(**{"depth.enabled": True})
    segments = robot.listen("segments", eventually)
    markers = robot.listen("markers", eventually)
    robot.send(depth=plane(2.0))
    eventually(lambda: segments and markers, "segments and markers")
    left, right = segments[0].segments
    assert (left.position_valid, right.position_valid) == (True, True)
    assert (left.position.x, left.position.z) == (pytest.approx(-0.53, abs=0.05), 2.0)
    assert right.position.x == pytest.approx(0.53, abs=0.05)
    assert (left.size.x, left.size.y) == pytest.approx((1.05, 1.57), abs=0.06)
    texts = [marker.text for marker in markers[0].markers if marker.text]
    assert texts == ["left", "right"]
    assert markers[0].markers[1].header == segments[0].header


TROUBLES = [("no depth at all", None), ("nothing but holes", np.nan), ("zeros", 0.0)]


@pytest.mark.parametrize(("what", "metres"), TROUBLES)
def test_segments_come_without_position_where_there_is_no_depth(
    make_robot: Callable[..., Robot], eventually: Eventually, what: str, metres: float | None
) -> None:
    robot = make_robot(**{"depth.enabled": True})
    got = robot.listen("segments", eventually)
    robot.send(depth=None if metres is None else plane(metres))
    eventually(lambda: got, f"the segments, with {what}")
    assert [segment.position_valid for segment in got[0].segments] == [False, False]


def test_missing_depth_is_a_warning_until_it_comes_back(
    make_robot: Callable[..., Robot], eventually: Eventually
) -> None:
    robot = make_robot(**{"depth.enabled": True})
    got = robot.listen("segments", eventually)
    seen = robot.listen("/diagnostics", eventually)
    robot.send()
    eventually(lambda: got, "the segments")
    status = robot.status(seen, eventually)["zgs: stream"]
    assert status.level == diagnostics.WARN
    assert "the latest image has no depth image" in status.message
    robot.send(depth=plane(2.0), number=2)
    eventually(lambda: len(got) == 2, "the segments with depth")
    status = robot.status(seen, eventually)["zgs: stream"]
    assert (status.level, "depth" in status.message) == (diagnostics.OK, False)
    values = {pair.key: pair.value for pair in status.values}
    assert (values["depth: no depth image"], values["depth: used"]) == ("1", "1")
    assert int(values["memory [MB]"]) > 10


def test_depth_is_not_even_read_unless_it_is_wanted(
    make_robot: Callable[..., Robot], eventually: Eventually
) -> None:
    robot = make_robot()
    got = robot.listen("segments", eventually)
    robot.send(depth=plane(2.0))
    eventually(lambda: got, "the segments")
    assert not got[0].segments[0].position_valid
    assert robot.cameras[""]._depth is not None
    assert robot.cameras[""]._depth.subscription_count() == 0


def test_each_camera_has_its_topics_tracks_and_status(
    make_robot: Callable[..., Robot], eventually: Eventually
) -> None:
    robot = make_robot("front", "left", "back")
    assert robot.peer.image_topics == [f"/{name}/image_raw" for name in ("front", "left", "back")]
    got = {name: robot.listen(f"{name}/segments", eventually) for name in ("front", "left")}
    outputs = robot.peer.outputs
    eventually(lambda: outputs.wanted("front") and outputs.wanted("left"), "both are wanted")
    seen = robot.listen("/diagnostics", eventually)
    for number in range(1, 4):
        for name in ("front", "left", "back"):
            robot.send(name, number=number)
        eventually(lambda n=number: all(len(g) == n for g in got.values()), "results of both")
    for name, results in got.items():
        assert {result.header.frame_id for result in results} == {f"{name}_optical"}
        assert [[s.track_id for s in result.segments] for result in results] == [[1, 2]] * 3
    statuses = robot.status(seen, eventually)
    assert list(statuses) == ["zgs: stream", "zgs: front", "zgs: left", "zgs: back"]
    counts = {
        name: {pair.key: pair.value for pair in status.values} for name, status in statuses.items()
    }
    assert (counts["zgs: front"]["processed"], counts["zgs: back"]["processed"]) == ("3", "0")
    assert counts["zgs: stream"]["dropped: nobody subscribed"] == "3"


def test_queries_are_answered_by_topic(
    make_robot: Callable[..., Robot], eventually: Eventually
) -> None:
    robot = make_robot("front", "left")
    got = robot.listen("left/segments", eventually)
    answers = robot.listen("query/result", eventually)
    robot.ask("left", eventually)
    eventually(lambda: len(answers) == 1, "an answer before there is a result")
    assert (answers[0].success, answers[0].query.text) == (False, "left")
    assert "there is no result yet" in answers[0].message
    robot.send("left", depth=plane(2.0))
    eventually(lambda: got, "segments")
    robot.ask("right", eventually, max_results=1)
    eventually(lambda: len(answers) == 2, "the answer")
    assert (answers[1].success, answers[1].camera) == (True, "left")
    assert answers[1].header == got[0].header
    assert [segment.score for segment in answers[1].segments] == [pytest.approx(1.0)]


def test_cameras_with_the_same_topic_are_refused() -> None:
    settings = make_settings(NodeSettings, {"cameras": ["front", "left"]})
    with pytest.raises(ValueError, match="would be that of 2 cameras"):
        Peer(HalvesSegmenter(), settings, PeerOptions(NETWORK, "/same"))


@pytest.mark.slow
def test_a_synthetic_camera_with_depth_and_the_node_as_processes(eventually: Eventually) -> None:
    results: list[Any] = []
    with (
        process(cli("camera", "--depth", "--size", "64x48")),
        process(peer(**{"depth.enabled": "true", "max_rate": 50})),
        DdsNode("viewer", network=NETWORK) as viewer,
    ):
        viewer.create_subscription("/zgs/segments", TYPES["segments"], results.append)

        def placed() -> list[Any]:
            return [s for result in results for s in result.segments if s.position_valid]

        eventually(lambda: len(placed()) > 4, "segments with a position", 120)
    for segment in placed():
        assert 0.3 < segment.position.z < 20
    stamps = [stamp_ns(result.header) for result in results]
    assert stamps == sorted(stamps)
