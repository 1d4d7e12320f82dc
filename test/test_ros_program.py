"""The programs as a sourced workspace has them: `zgs` by its name, `zgs_node` and its arguments, Ctrl-C."""

from __future__ import annotations

import shutil
import time

import pytest
from ros_support import Ros

pytestmark = [pytest.mark.ros, pytest.mark.timeout(1800)]


@pytest.mark.one_middleware
def test_zgs_is_called_by_its_name(ros: Ros) -> None:
    program = shutil.which("zgs", path=ros.env["PATH"])
    assert program is not None
    assert "/install/" in program
    done = ros.run("zgs", "models", "--help")
    assert done.returncode == 0
    assert "pull" in done.stdout
    assert (
        ros.run("ros2", "run", "zgs_ros", "zgs", "--help").stdout == ros.run("zgs", "--help").stdout
    )


@pytest.mark.one_middleware
@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--help"], 0, "--autostart"),
        (["--help", "--ros-args", "-p", "profile:=mini"], 0, "--params-file FILE"),
        (["--autostrat"], 2, "unrecognized arguments: --autostrat"),
        (["--auto"], 2, "unrecognized arguments: --auto"),
        (["profile:=mini"], 2, "unrecognized arguments: profile:=mini"),
        (["--autostart", "-p", "profile:=mini"], 2, "unrecognized arguments: -p profile:=mini"),
        (["--ros-args", "-p", "profile:=mini", "--", "mini"], 2, "unrecognized arguments: mini"),
    ],
)
def test_arguments_of_the_node_are_explained_and_checked(
    ros: Ros, arguments: list[str], code: int, text: str
) -> None:
    done = ros.run("ros2", "run", "zgs_ros", "zgs_node", *arguments)
    assert done.returncode == code
    assert text in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize("after", [0.5, 1.5, 4.0])
def test_ctrl_c_on_the_demo_ends_all_of_it_well(ros: Ros, after: float) -> None:
    """Sooner than that Python may be interrupted before it runs a line of the program."""
    with ros.process("ros2", "launch", "zgs_ros", "demo.launch.py") as process:
        process.wait_for("[zgs_node-2]: process started")
        time.sleep(after)
        process.stop()
        assert "process has died" not in process.text
        assert "Traceback" not in process.text
