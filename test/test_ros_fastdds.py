"""Large images under Fast DDS on one machine: the profile that is shipped, and who reads it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import psutil
import pytest
from ros_process import wait_until
from ros_support import Ros

pytestmark = [pytest.mark.ros, pytest.mark.timeout(900)]

SHARED_MEMORY = Path("/dev/shm")
SEGMENT = 16 * 2**20
"""Bytes, in config/fastdds.xml."""
VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")


@pytest.fixture
def fast(ros: Ros) -> Ros:
    """ROS under Fast DDS."""
    if ros.env["RMW_IMPLEMENTATION"] != "rmw_fastrtps_cpp":
        pytest.skip("Fast DDS alone reads its profiles")
    return ros


def test_with_the_profile_at_the_camera_no_image_is_lost(
    fast: Ros, pytestconfig: pytest.Config
) -> None:
    path = pytestconfig.rootpath / "benchmarks" / "fastdds.py"
    spec = importlib.util.spec_from_file_location("benchmarks_fastdds", path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    domain = int(fast.env["ROS_DOMAIN_ID"])
    heard = script.measure(True, False, 60, 20.0, (640, 480), domain, fast.env)
    assert heard == 60


def test_the_node_alone_reads_the_profile_and_has_the_memory(fast: Ros) -> None:
    before = set(SHARED_MEMORY.glob("fastrtps_*"))
    with fast.launched(fastdds_profile="shipped", autostart="false") as process:

        def segments() -> list[int]:
            new = set(SHARED_MEMORY.glob("fastrtps_*")) - before
            return [path.stat().st_size for path in new if path.exists()]

        wait_until(lambda: any(size >= SEGMENT for size in segments()), process)
        launch = psutil.Process(process.pid)
        nodes = [p for p in launch.children(recursive=True) if "zgs_node" in " ".join(p.cmdline())]
        for name in VARIABLES:
            assert name not in launch.environ()
            assert all(Path(node.environ()[name]).name == "fastdds.xml" for node in nodes)
        assert nodes
        assert fast.shows({"unconfigured [1]"}, "lifecycle", "get", "/zgs")
    assert "XMLPARSER" not in process.text
