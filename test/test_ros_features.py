"""Features from the rclpy node: with semantic_inference_msgs as its authors define them, and without."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ros_support
from conformance import NODE
from ros_process import Process
from ros_support import Ros

from zgs_ros.dds.types import TypeSupport
from zgs_ros.semantic_inference_msgs import DEFINITIONS, SERVICES

pytestmark = [pytest.mark.ros, pytest.mark.timeout(1800)]

PACKAGE = "semantic_inference_msgs"
OVERLAY = ros_support.find_overlay(PACKAGE)
BUILT = pytest.mark.skipif(not OVERLAY, reason=f"{PACKAGE} is not built in any /opt/NAME")
WANTED = ("--ros-args", "-p", "publish_features:=true")


@pytest.mark.one_middleware
def test_without_the_messages_configuring_says_what_to_do(ros: Ros) -> None:
    command = ("ros2", "run", "zgs_ros", "zgs_node", "--autostart", *WANTED, "-p", "profile:=mini")
    with ros.process(*command) as node:
        node.wait_for("can't configure: publish_features needs the package semantic_inference_msgs")
        assert not node.has_ended()


@pytest.fixture(scope="module", params=ros_support.RMWS)
def with_features(
    request: pytest.FixtureRequest, ros_workspace: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ros]:
    """ROS with the package, under each middleware in turn."""
    folder = tmp_path_factory.mktemp(request.param)
    found = Ros(ros_workspace, request.param, folder, OVERLAY)
    if not found.has_middleware:
        pytest.skip(f"{request.param} is not installed")
    with found:
        yield found


@pytest.fixture(scope="module")
def node(with_features: Ros) -> Iterator[Process]:
    command = [sys.executable, str(NODE), "--autostart", *WANTED, "-r", "image:=/camera/image_raw"]
    with with_features.process(*command) as process:
        process.wait_for("listens to")
        yield process


@BUILT
def test_every_mask_comes_with_its_embedding(with_features: Ros, node: Process) -> None:
    with with_features.camera():
        shown = with_features.shows(
            {"encoding: 16UC1", "mask_ids:\n- 1\n- 2\n", "- data:\n  - 1.0\n  - 0.0\n"},
            *("topic", "echo", "--once", "/zgs/feature_image"),
        )
    assert shown.count("- data:") == 2


@BUILT
def test_a_text_is_embedded(with_features: Ros, node: Process) -> None:
    request = ("service", "call", "/zgs/embed", f"{PACKAGE}/srv/EncodeFeature")
    assert with_features.shows({"data=[1.0, 0.0]"}, *request, "{prompt: mug}")
    assert with_features.shows({"data=[]"}, *request, "{prompt: ''}")
    node.wait_for("~/embed: text is empty")


@BUILT
@pytest.mark.parametrize(
    "name", [*(f"msg/{m}" for m in DEFINITIONS), *(f"srv/{s}" for s in SERVICES)]
)
def test_the_definitions_without_ros_are_those_of_the_package(name: str) -> None:
    assert OVERLAY is not None
    described = json.loads((OVERLAY / "share" / PACKAGE / f"{name}.json").read_text())
    hashes = {entry["type_name"]: entry["hash_string"] for entry in described["type_hashes"]}
    types = TypeSupport("jazzy")
    own = {name: types.type_hash(name) for name in hashes if types.knows(name) and PACKAGE in name}
    assert own
    assert own == {name: hashes[name] for name in own}
