"""Whether cv_bridge can be used, and what to do where it can't."""

from __future__ import annotations

import os
import subprocess
import sys

PROBE = """
import cv2
import numpy
print(cv2.__version__, numpy.__version__, flush=True)
from cv_bridge import CvBridge
from sensor_msgs.msg import Image
message = Image(height=1, width=2, step=6, encoding="bgr8", data=bytes(range(6)))
assert CvBridge().imgmsg_to_cv2(message, "rgb8").tolist() == [[[2, 1, 0], [5, 4, 3]]]
"""


def find_bridge_problem(timeout: float = 60.0) -> str:
    """Tries cv_bridge in a process of its own, because a broken build can crash the interpreter.

    Args:
        timeout: Seconds after which the trial is given up.

    Returns:
        "" if cv_bridge works, else what is wrong and what to do.
    """
    try:
        trial = subprocess.run(
            [sys.executable, "-c", PROBE],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"cv_bridge did not answer within {timeout:g} s"
    if trial.returncode == 0:
        return ""
    return explain(trial.stdout, trial.stderr, os.environ.get("ROS_DISTRO", "<distro>"))


def explain(versions: str, errors: str, distro: str) -> str:
    """What to do about a failed trial.

    Args:
        versions: ``"<cv2 version> <numpy version>"`` as the trial printed it, or "".
        errors: Its standard error.
        distro: ROS distribution, for the name of the package.
    """
    lines = errors.strip().splitlines()
    reason = lines[-1] if lines else "the interpreter crashed"
    if "No module named 'cv_bridge'" in errors:
        return f"cv_bridge is not installed: sudo apt install ros-{distro}-cv-bridge"
    opencv, _, numpy = versions.strip().partition(" ")
    if opencv.split(".")[0].isdigit() and int(opencv.split(".")[0]) >= 5:
        return (
            f"cv_bridge does not work with OpenCV {opencv} ({reason}): "
            "pip install 'opencv-python-headless<5'"
        )
    if numpy.startswith("2."):
        return (
            f"cv_bridge does not work with NumPy {numpy} ({reason}): build vision_opencv from "
            "source in this environment, or pip install 'numpy<2' 'opencv-python-headless<4.12'"
        )
    return (
        f"cv_bridge does not work ({reason}): build vision_opencv from source in this environment"
    )
