"""The tests' own helpers: a run leaves nothing behind, however it ends, and disturbs no other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

HERE = Path(__file__).parent
Eventually = Callable[..., None]

DDS_CHILD = """
from dds_support import DOMAIN, process
with process([sys.executable, "-c", "import time; time.sleep(100)"]) as child:
    print(child.pid, flush=True)
    time.sleep(100)
"""
ROS_CHILDREN = """
from pathlib import Path
from ros_process import Process
command = "import subprocess, sys, time; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(100)']); print(child.pid, flush=True); time.sleep(100)"
output = Path(sys.argv[1])
first = Process([sys.executable, "-c", command], dict(os.environ), output)
while not output.read_text().endswith(chr(10)):
    time.sleep(0.01)
print(first._process.pid, output.read_text(), flush=True)
time.sleep(100)
"""


def run(script: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """Python with the tests' helpers at hand."""
    inherited = {k: v for k, v in os.environ.items() if k != "ZGS_TEST_DOMAIN"}
    return subprocess.Popen(
        [sys.executable, "-c", f"import os, sys, time\n{script}", *arguments],
        env={**inherited, "PYTHONPATH": f"{HERE}:{HERE.parent}", **variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing tells of a parent's death")
@pytest.mark.parametrize("script", [DDS_CHILD, ROS_CHILDREN], ids=["dds", "ros"])
def test_what_killed_tests_started_ends_with_them(
    tmp_path: Path, eventually: Eventually, script: str
) -> None:
    with run(script, str(tmp_path / "output")) as tests:
        assert tests.stdout is not None
        started = [psutil.Process(int(pid)) for pid in tests.stdout.readline().split()]
        assert all(process.is_running() for process in started)
        tests.send_signal(signal.SIGKILL)
    eventually(lambda: not any(map(is_alive, started)), "all have ended", 30)


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


CLAIM = """
from dds_support import DOMAIN
import subprocess
child = subprocess.run([sys.executable, "-c", "from dds_support import DOMAIN; print(DOMAIN)"], capture_output=True, text=True)
print(DOMAIN, child.stdout, flush=True)
sys.stdin.read()
"""


def test_runs_and_their_workers_have_domains_of_their_own() -> None:
    """And the processes of a worker share it."""
    with (
        run(CLAIM) as first,
        run(CLAIM) as second,
        run(CLAIM, PYTEST_XDIST_WORKER="gw0", ZGS_TEST_DOMAIN=":41") as worker,
    ):
        runs = [first, second, worker]
        claimed = [process.stdout.readline().split() for process in runs if process.stdout]
        for process in runs:
            process.kill()
    assert all(own == of_child for own, of_child in claimed)
    assert len({own for own, _ in claimed}) == 3
