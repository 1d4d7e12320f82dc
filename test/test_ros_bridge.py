"""What is said about a cv_bridge that does not work; no ROS is needed to say it."""

from __future__ import annotations

import pytest

from zgs_ros.ros.bridge import explain, find_bridge_problem

NUMPY_1 = "ImportError: A module that was compiled using NumPy 1.x cannot be run in NumPy 2.4.6"


@pytest.mark.parametrize(
    ("versions", "errors", "advice"),
    [
        (
            "4.14.0 2.4.6",
            "ModuleNotFoundError: No module named 'cv_bridge'",
            "sudo apt install ros-jazzy-cv-bridge",
        ),
        ("4.14.0 2.4.6", f"Traceback\n{NUMPY_1}", "NumPy 2.4.6"),
        ("4.14.0 2.4.6", f"Traceback\n{NUMPY_1}", "pip install 'numpy<2'"),
        ("5.0.1 2.4.6", "KeyError: 24", "pip install 'opencv-python-headless<5'"),
        ("4.11.0 1.26.4", "ImportError: libopencv.so", "ImportError: libopencv.so"),
        ("4.11.0 1.26.4", "", "the interpreter crashed"),
        ("", "ModuleNotFoundError: No module named 'cv2'", "No module named 'cv2'"),
    ],
)
def test_the_reason_comes_with_a_way_out(versions: str, errors: str, advice: str) -> None:
    assert advice in explain(versions, errors, "jazzy")


def test_a_trial_that_hangs_is_given_up() -> None:
    assert find_bridge_problem(timeout=0.001) == "cv_bridge did not answer within 0.001 s"
