"""The examples of the documentation, with the real node."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ros_process import Process
from ros_support import Ros

pytestmark = [pytest.mark.ros, pytest.mark.timeout(1800)]

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"


@pytest.fixture(scope="module")
def node(ros: Ros, ros_models: dict[str, str]) -> Iterator[Process]:
    """The node with a camera, working as soon as somebody subscribes."""
    with ros.launched(device="cpu", max_rate="20.0", **ros_models) as process:
        process.wait_for("listens to ")
        with ros.camera():
            yield process


def test_the_python_subscriber_prints_what_is_seen(ros: Ros, node: Process) -> None:
    with ros.process(sys.executable, str(EXAMPLES / "subscriber.py")) as example:
        example.wait_for("of the image")
        assert example.stop() == 0
    assert "#1 " in example.text
    assert "Traceback" not in example.text


@pytest.mark.slow
def test_the_cpp_subscriber_is_built_and_prints_what_is_seen(
    ros: Ros, node: Process, tmp_path: Path
) -> None:
    if not (Path(ros.run("ros2", "pkg", "prefix", "rclcpp").stdout.strip()) / "include").is_dir():
        pytest.skip("rclcpp is not installed")
    for command in (
        [
            "cmake",
            "-S",
            str(EXAMPLES / "cpp"),
            "-B",
            str(tmp_path),
            "-DCMAKE_CXX_FLAGS=-Wall -Werror",
        ],
        ["cmake", "--build", str(tmp_path)],
    ):
        done = ros.run(*command, timeout=1200)
        assert done.returncode == 0, done.stdout
    with ros.process(str(tmp_path / "subscriber")) as example:
        example.wait_for("pixels")
    assert "no position" in example.text
