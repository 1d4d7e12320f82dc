"""The launch files, as users call them."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from ros_process import wait_until
from ros_support import Ros

pytestmark = [pytest.mark.ros, pytest.mark.timeout(1800)]

ARGUMENTS = {
    "image_topic",
    "cameras",
    "depth",
    "depth_topic",
    "camera_info_topic",
    "target_frame",
    "image_transport",
    "profile",
    "device",
    "max_rate",
    "params_file",
    "classes_file",
    "namespace",
    "log_level",
    "fastdds_profile",
    "autostart",
    "use_sim_time",
    "detections",
    "rviz",
    "rviz_frame",
}


def parameters(ros: Ros, *names: str) -> dict[str, Any]:
    """Values of the node's parameters, as soon as it is there."""
    return dict(ros.ask("get_parameters", names=names))


@pytest.mark.one_middleware
def test_every_argument_is_documented(ros: Ros) -> None:
    shown = ros.ros2("launch", "zgs_ros", "segment.launch.py", "--show-args")
    described = dict(re.findall(r"'(\w+)':\s+(\S.*)", shown))
    assert described.keys() == ARGUMENTS
    assert all(len(text) > 20 for text in described.values())


@pytest.mark.one_middleware
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"profile": "quick"}, "balanced"),
        ({"autostart": "maybe"}, "true"),
        ({"max_rate": "often"}, "max_rate: must be in Hz, got 'often'"),
        ({"cameras": "front,left", "image_topic": "/same"}, "would be that of 2 cameras"),
        ({"params_file": "/nowhere/params.yaml"}, "there is no file '/nowhere/params.yaml'"),
        (
            {"fastdds_profile": "/nowhere/dds.xml"},
            "there is no file '/nowhere/dds.xml'; shipped is",
        ),
    ],
)
def test_impossible_arguments_are_refused(ros: Ros, arguments: dict[str, str], reason: str) -> None:
    with ros.launched(**arguments) as process:
        assert process.wait() != 0
    assert reason in process.text


@pytest.mark.one_middleware
def test_params_file_wins_over_defaults_and_arguments_over_both(ros: Ros, tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(
        "zgs:\n  ros__parameters: {profile: fast, max_rate: 3, device: cpu, clip: {sigma: 2.5}}\n"
    )
    with ros.launched(params_file=str(file), max_rate="4.0", autostart="false"):
        expected = {
            "profile": "fast",
            "max_rate": 4.0,
            "clip.sigma": 2.5,
            "device": "cpu",
            "dino.stride": 8,  # of the file's profile
        }
        assert parameters(ros, *expected) == expected
        assert ros.shows({"unconfigured [1]"}, "lifecycle", "get", "/zgs")


def test_namespace_and_topic_place_the_node(ros: Ros, ros_models: dict[str, str]) -> None:
    given = {"namespace": "robot1", "image_topic": "/robot1/front/image", **ros_models}
    with ros.launched(device="cpu", image_transport="compressed", **given) as process:
        process.wait_for("listens to /robot1/front/image/compressed")
        seen = ros.ask("watch", topic="/robot1/front/image", compressed=True, node="/robot1/zgs")
        assert len(seen["segments"]) >= 3


@pytest.mark.one_middleware
def test_rviz_that_is_not_installed_is_told(ros: Ros) -> None:
    if "Package not found" not in ros.run("ros2", "pkg", "prefix", "rviz2").stdout:
        pytest.skip("rviz2 is installed")
    with ros.launched(rviz="true") as process:
        assert process.wait() != 0
    assert "rviz2 is not installed: sudo apt install ros-" in process.text
    assert "zgs view" in process.text


@pytest.mark.one_middleware
def test_rviz_gets_the_configuration_and_the_nodes_topics(
    ros: Ros, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # RViz needs a screen: in its place, what only writes down how it was called.
    program = tmp_path / "lib" / "rviz2" / "rviz2"
    index = tmp_path / "share" / "ament_index" / "resource_index" / "packages" / "rviz2"
    for path in (program, index):
        path.parent.mkdir(parents=True)
    index.touch()
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/called.new\n')
    with program.open("a") as script:
        script.write(f"mv {tmp_path}/called.new {tmp_path}/called\n")
    program.chmod(0o755)
    monkeypatch.setitem(ros.env, "AMENT_PREFIX_PATH", f"{tmp_path}:{ros.env['AMENT_PREFIX_PATH']}")
    given = {"namespace": "robot1", "cameras": "front,left", "rviz_frame": "front_optical"}
    with ros.launched(rviz="true", autostart="false", **given) as process:
        wait_until((tmp_path / "called").exists, process)
        # launch does not survive Ctrl-C while it starts a process: it waits for ever for its end.
        process.wait_for("[zgs_node-1]: process started")
    called = (tmp_path / "called").read_text()
    config = re.search(r"--display-config (\S+)", called)
    assert config is not None
    assert Path(config[1]).is_file()
    for part in (
        "--fixed-frame front_optical",
        "-r /camera/image_raw:=/front/image_raw",
        "-r /zgs/overlay:=/robot1/zgs/front/overlay",
        "-r /zgs/markers:=/robot1/zgs/front/markers",
        "-r /zgs/labelled_points:=/robot1/zgs/front/labelled_points",
    ):
        assert part in called


def test_the_demo_gives_segments_with_positions(ros: Ros) -> None:
    with ros.process("ros2", "launch", "zgs_ros", "demo.launch.py") as process:
        process.wait_for("listens to /camera/image_raw")
        echo = ("topic", "echo", "--once", "/zgs/segments", "--field", "segments")
        assert ros.shows({"position_valid=True"}, *echo)


@pytest.mark.one_middleware
def test_shipped_params_file_is_understood(ros: Ros, ros_workspace: Path) -> None:
    [file] = ros_workspace.glob("install/zgs_ros/share/zgs_ros/config/segment.yaml")
    with ros.launched(params_file=str(file), autostart="false", profile="fast"):
        expected = {"profile": "fast", "clip.model": "ViT-B-16"}
        assert parameters(ros, *expected) == expected


@pytest.mark.one_middleware
def test_misspelt_parameter_ends_the_node_and_names_it(ros: Ros, tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("/**:\n  ros__parameters:\n    clip: {sigmas: 2.5}\n")
    with ros.launched(params_file=str(file)) as process:
        assert process.wait() == 0
    assert "exit code 2" in process.text
    assert "unknown setting 'clip.sigmas'; did you mean 'clip.sigma'?" in process.text
    assert "Traceback" not in process.text


def test_failed_configuration_says_why_and_what_to_do(ros: Ros, ros_models: dict[str, str]) -> None:
    with ros.launched(device="cuda:99", **ros_models) as process:
        process.wait_for("can't configure")
        assert ros.shows({"unconfigured [1]"}, "lifecycle", "get", "/zgs")
        assert ros.ask("set_parameter", name="device", value="cpu") == ""
        answer = ros.ask("transitions", names=["configure", "activate"])
        assert answer["success"] == [True, True]
        assert "configuring" in answer["states"]  # the node answers while it loads
    assert process.text.count("PyTorch sees") == 1


@pytest.mark.one_middleware
def test_node_runs_without_the_launch_file(ros: Ros) -> None:
    with ros.process(
        "ros2", "run", "zgs_ros", "zgs_node", "--ros-args", "-p", "profile:=fast"
    ) as process:
        assert parameters(ros, "profile") == {"profile": "fast"}
    assert "Traceback" not in process.text


@pytest.mark.one_middleware
@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        (["--params-file", "BROKEN"], "Couldn't parse params file"),
        (["--nonsense"], "unknown among --ros-args: ['--nonsense']"),
    ],
)
def test_impossible_ros_arguments_are_refused_in_a_line(
    ros: Ros, tmp_path: Path, argument: list[str], reason: str
) -> None:
    (tmp_path / "BROKEN").write_text("zgs: [")
    given = [str(tmp_path / "BROKEN") if part == "BROKEN" else part for part in argument]
    done = ros.run("ros2", "run", "zgs_ros", "zgs_node", "--ros-args", *given)
    assert reason in done.stdout
    assert "Traceback" not in done.stdout
    assert done.returncode == 2


@pytest.mark.one_middleware
def test_crashing_cv_bridge_does_not_take_the_node_down(
    ros: Ros, ros_models: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cv_bridge").mkdir()
    (tmp_path / "cv_bridge" / "__init__.py").write_text("import os\n\nos.abort()\n")
    monkeypatch.setitem(ros.env, "PYTHONPATH", f"{tmp_path}:{ros.env['PYTHONPATH']}")
    with ros.launched(device="cpu", **ros_models) as process:
        process.wait_for("listens to")
        assert ros.ask("watch", results=1)["segments"]
    assert process.text.count("images are decoded without cv_bridge") == 1


@pytest.mark.one_middleware
def test_cv_bridge_and_the_own_decoder_agree(ros: Ros) -> None:
    problem = ros.run(sys.executable, "-c", "import cv_bridge").stdout
    if problem:
        pytest.skip(f"cv_bridge does not work here: {problem.splitlines()[-1]}")
    agree = ros.ask("decoders")
    assert agree == dict.fromkeys(agree, True) != {}
