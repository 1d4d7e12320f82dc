"""The machine: versions, device, disk, clock, socket buffers, cv_bridge."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from huggingface_hub import constants

import zgs_ros
from zgs_ros.config import NodeSettings
from zgs_ros.labeling.phrase_cache import cache_folder
from zgs_ros.models.loading import ModelError, pull, resolve_device
from zgs_ros.models.precision import resolve_precision
from zgs_ros.tools.doctor.findings import Finding

ROOM = "machine"
PACKAGES = ("torch", "torchvision", "timm", "open_clip_torch", "numpy", "huggingface_hub")
OPTIONAL = {"rosbags": "bags", "cyclonedds": "dds", "transformers": "captions"}
"""Packages that not everyone needs, and the extra that brings each."""
OPENCVS = (
    "opencv-python-headless",
    "opencv-python",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
BUILT = 1_767_225_600
"""2026-01-01: no clock that is right shows less [s since 1970]."""
LITTLE_DISK, NO_DISK = 3 << 30, 256 << 20
"""Bytes: a profile's weights, and an embedded vocabulary with its surroundings."""


def examine_machine(
    settings: NodeSettings, environment: Mapping[str, str] = os.environ
) -> Iterator[Finding]:
    """Findings on this machine, as they come."""
    yield check_versions()
    yield check_opencv()
    yield check_ros(environment)
    yield check_device(settings)
    yield check_disk(
        "disk for weights", Path(constants.HF_HUB_CACHE), needs_room=not _are_here(settings)
    )
    yield check_disk("disk for vocabularies", cache_folder(), needs_room=False)
    yield check_clock()
    yield from check_bridge(environment)


def check_versions() -> Finding:
    """What is installed."""
    versions = [f"zgs_ros {zgs_ros.__version__}", f"Python {platform.python_version()}"]
    versions += [f"{name} {_version(name)}" for name in PACKAGES]
    versions += [f"{name} {_version(name)}" for name in OPTIONAL if _version(name)]
    missing = [f"{name} (extra {extra})" for name, extra in OPTIONAL.items() if not _version(name)]
    without = f"; without {', '.join(missing)}" if missing else ""
    system = f"{platform.system()} {platform.machine()}"
    return Finding(ROOM, "versions", "ok", f"{', '.join(versions)}; {system}{without}")


def check_opencv() -> Finding:
    """Whether one OpenCV is installed, of a version that ROS's cv_bridge knows."""
    import cv2

    installed = [name for name in OPENCVS if _version(name)]
    if int(cv2.__version__.split(".")[0]) >= 5:
        return Finding(
            ROOM,
            "OpenCV",
            "warning",
            f"{cv2.__version__} has types that ROS's cv_bridge does not know",
            "pip install 'opencv-python-headless<5'",
        )
    if len(installed) > 1:
        return Finding(
            ROOM,
            "OpenCV",
            "warning",
            f"{' and '.join(installed)} overwrite each other's files; {cv2.__version__} won",
            f"keep one: pip uninstall {' '.join(installed)}, then install one of them",
        )
    return Finding(ROOM, "OpenCV", "ok", cv2.__version__)


def check_ros(environment: Mapping[str, str]) -> Finding:
    """Whether ROS is sourced, and its middleware is one that fits."""
    distro, middleware = (environment.get(n, "") for n in ("ROS_DISTRO", "RMW_IMPLEMENTATION"))
    if not distro:
        return Finding(
            ROOM, "ROS", "ok", "is not sourced; zgs run and everything else work without"
        )
    text = f"{distro}, middleware {middleware or 'by default'}"
    if "zenoh" in middleware:
        return Finding(
            ROOM,
            "ROS",
            "warning",
            f"{text}: zgs run speaks DDS, which nodes on Zenoh don't hear",
            "use the rclpy node (ros2 launch zgs_ros segment.launch.py), or rmw_cyclonedds_cpp",
        )
    return Finding(ROOM, "ROS", "ok", text)


def check_device(settings: NodeSettings) -> Finding:
    """Where the models run, and in which arithmetic."""
    try:
        device = resolve_device(settings.device)
    except ModelError as error:
        return Finding(ROOM, "device", "error", str(error), "device=cpu always works")
    precision = str(resolve_precision(settings, device)).removeprefix("torch.")
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        free, total = (size / 1e9 for size in torch.cuda.mem_get_info(device))
        text = f"{device}, {name}, {free:.1f} of {total:.1f} GB free, in {precision}"
        if free < 2:
            return Finding(
                ROOM,
                "device",
                "warning",
                f"{text}: little memory is free",
                "see who uses it (nvidia-smi), or use profile=fast",
            )
        return Finding(ROOM, "device", "ok", text)
    text = f"{device}, {torch.get_num_threads()} threads, in {precision}"
    if device.type == "cpu" and settings.device == "auto" and shutil.which("nvidia-smi"):
        return Finding(
            ROOM,
            "device",
            "warning",
            f"{text}: there is a GPU's driver, but PyTorch sees no GPU (built for CUDA "
            f"{torch.version.cuda or 'not at all'})",
            "install PyTorch for CUDA (pytorch.org); in a container, start it with --gpus all",
        )
    if precision == "float16" and device.type == "cpu":
        return Finding(
            ROOM, "device", "warning", f"{text}: slow on a CPU", "precision=auto or bfloat16"
        )
    return Finding(ROOM, "device", "ok", text)


def check_disk(name: str, folder: Path, needs_room: bool) -> Finding:
    """Whether a cache can be written, and has room."""
    place = next(path for path in (folder, *folder.parents) if path.is_dir())
    remedy = "make room, or set HF_HOME (weights) or XDG_CACHE_HOME (vocabularies) elsewhere"
    if not os.access(place, os.W_OK | os.X_OK):
        return Finding(
            ROOM,
            name,
            "warning",
            f"{folder} can't be written by this user, so nothing is kept",
            remedy,
        )
    free = shutil.disk_usage(place).free
    text = f"{folder} has {free / 1e9:.1f} GB free"
    if free < NO_DISK:
        return Finding(ROOM, name, "error", text, remedy)
    if free < LITTLE_DISK and needs_room:
        return Finding(
            ROOM, name, "warning", f"{text}, and weights, which are not here, may take 3 GB", remedy
        )
    return Finding(ROOM, name, "ok", text)


def check_clock(now: Callable[[], float] = time.time) -> Finding:
    """Whether the wall clock can be right; stamps of images are compared with it."""
    shown = time.strftime("%Y-%m-%d", time.gmtime(now()))
    if now() < BUILT:
        return Finding(
            ROOM,
            "clock",
            "error",
            f"shows {shown}, before this program was written: latencies and TLS will be wrong",
            "set it: sudo timedatectl set-ntp true, or chrony from another machine of the robot",
        )
    return Finding(ROOM, "clock", "ok", f"shows {shown} (UTC)")


def check_bridge(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Whether cv_bridge works; only where ROS is sourced."""
    if not environment.get("ROS_DISTRO") or importlib.util.find_spec("rclpy") is None:
        return
    from zgs_ros.ros.bridge import find_bridge_problem

    if problem := find_bridge_problem():
        text, _, remedy = problem.partition(": ")
        # The node decodes images itself then.
        yield Finding(ROOM, "cv_bridge", "warning", f"{text}; the node goes on without it", remedy)
    else:
        yield Finding(ROOM, "cv_bridge", "ok", "works")


def _are_here(settings: NodeSettings) -> bool:
    try:
        pull(settings, download=False)
    except ModelError:
        return False
    return True


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
