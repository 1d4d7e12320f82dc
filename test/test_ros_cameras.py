"""Depth, several cameras and queries by topic among real ROS 2 nodes, with and without rclpy."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from dds_support import peer
from ros_process import Process
from ros_support import Ros

pytestmark = [pytest.mark.ros, pytest.mark.timeout(1800)]

CLIENT = Path(__file__).with_name("ros_cameras_client.py")
CYCLONE = "rmw_cyclonedds_cpp"


@contextmanager
def rclpy_node(ros: Ros, cameras: list[str], depth: bool) -> Iterator[Process]:
    given = {"profile": "mini", "device": "cpu", "max_rate": "20.0", "depth": str(depth).lower()}
    if cameras != [""]:
        given["cameras"] = ",".join(cameras)
    with ros.launched(**given) as process:
        process.wait_for("listens to ")
        yield process


@contextmanager
def peer_node(ros: Ros, cameras: list[str], depth: bool) -> Iterator[Process]:
    names = json.dumps(cameras)
    settings = {"max_rate": 20, "cameras": names, "depth.enabled": str(depth).lower()}
    command = peer(domain=ros.env["ROS_DOMAIN_ID"], range="LOCALHOST", **settings)
    with ros.process(*command) as process:
        process.wait_for("node /zgs on domain")
        yield process


NODES = pytest.mark.parametrize("start", [rclpy_node, peer_node], ids=["rclpy", "peer"])


def look(ros: Ros, *cameras: str, **options: Any) -> Any:
    given = json.dumps({"cameras": list(cameras), **options})
    done = ros.run(sys.executable, str(CLIENT), given)
    lines = [line for line in done.stdout.splitlines() if line.startswith("found: ")]
    assert lines, done.stdout
    return json.loads(lines[-1].removeprefix("found: "))


@NODES
def test_depth_gives_positions_markers_and_nothing_waits_for_it(ros: Ros, start: Any) -> None:
    with start(ros, [""], True):
        for first in (True, False):
            seen = look(ros, "", depth=2.0, depth_first=first)["cameras"][""]
            assert all(seen["valid"])
            assert seen["z"] == pytest.approx([2.0] * len(seen["z"]))
            assert seen["markers"] == 1 + 2 * len(seen["z"])
        for bad in ("nan", None):
            found = look(ros, "", depth=bad)
            assert not any(found["cameras"][""]["valid"])
        assert "the latest image has no depth image" in found["diagnosis"]["message"]
        assert int(found["diagnosis"]["depth: used"]) > 0


@NODES
def test_several_cameras_share_a_node(ros: Ros, start: Any) -> None:
    with start(ros, ["front", "left"], False):
        found = look(ros, "front", "left")
    for name, seen in found["cameras"].items():
        assert seen["frame_id"] == f"{name}_optical"
        assert len({tuple(ids) for ids in seen["tracks"]}) == 1, "the picture stands still"
        assert all(seen["tracks"][0])
    assert found["statuses"] == ["zgs: stream", "zgs: front", "zgs: left"]
    answer = found["answer"]
    assert (answer["text"], answer["success"]) == ("left half", True)
    assert answer["camera"] in ("front", "left")
    assert answer["segments"] > 0


def test_services_of_the_node_without_ros_answer_cyclone_clients(ros: Ros) -> None:
    if ros.env["RMW_IMPLEMENTATION"] != CYCLONE:
        pytest.skip("Fast DDS carries the client's identity where Cyclone DDS does not look")
    with peer_node(ros, [""], False):
        assert ros.shows({"/zgs/query [zgs_ros/srv/QuerySegments]"}, "service", "list", "-t")
        early = ros.ask("query", text="left")
        assert (early["success"], "no result yet" in early["message"]) == (False, True)
        image = ros.ask("segment_image")
        assert (image["success"], image["segments"]) == (True, 2)
        broken = ros.ask("segment_image", changes={"encoding": "rgb565"})
        assert (broken["success"], "rgb565" in broken["message"]) == (False, True)
        ros.ask("watch", topics=["segments"], results=1)
        answer = ros.ask("query", text="left", max_results=1)
        assert (answer["success"], answer["scores"]) == (True, [pytest.approx(1.0)])
        assert answer["frame_id"] == "camera_optical_frame"
