"""The demo: three processes that end together, whatever happens to any of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image as Pillow

import zgs_ros
from zgs_ros.dds.claim import claim_domain
from zgs_ros.dds.network import Network
from zgs_ros.dds.node import DdsNode
from zgs_ros.tools.processes import dies_with_parent

Eventually = Callable[..., None]
PATIENCE = 200
"""Seconds after which a test gives up: only a failure takes as long, on however slow a machine."""

MINI = Path(zgs_ros.__file__).parent / "models" / "mini"
needs_models = pytest.mark.skipif(
    not list(MINI.glob("*/*.safetensors")), reason="the bundled mini models are not there yet"
)

# The demo itself with its three commands replaced: real processes, but none that needs models.
STAND_IN = """
import sys
from pathlib import Path
from zgs_ros.cli.options import command
from zgs_ros.tools import demo

camera, node, viewer = (f"import sys, time; {code}" for code in sys.argv[2:5])
commands = {"camera": camera, "run": node, "watch": viewer}
demo.COMMAND = [sys.executable, "-c", "import sys; exec(" + repr(commands) + "[sys.argv[1]])"]
with command():
    demo.run(demo.DemoOptions(out=Path(sys.argv[1])))
"""
STAY = "import signal; signal.signal(signal.SIGINT, lambda *_: sys.exit(0)); time.sleep(100)"
"""A process that would stay, and ends by itself at SIGINT."""

STUBBORN = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(100)"


def start(out: Path, camera: str, node: str, viewer: str) -> subprocess.Popen[str]:
    root = str(Path(__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "-c", STAND_IN, str(out), camera, node, viewer],
        env={**os.environ, "PYTHONPATH": root},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=dies_with_parent(),
    )


def children(process: subprocess.Popen[str], eventually: Eventually) -> list[psutil.Process]:
    parent = psutil.Process(process.pid)
    eventually(lambda: len(parent.children()) == 3, "three processes", PATIENCE)
    return parent.children()


def gone(processes: list[psutil.Process]) -> bool:
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


def test_it_ends_with_the_viewer(tmp_path: Path) -> None:
    process = start(tmp_path, STAY, STAY, "time.sleep(0.5)")
    text, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, text
    assert f"done: look at {tmp_path}" in text


def test_a_viewer_without_results_fails_the_demo_and_shows_the_nodes_log(tmp_path: Path) -> None:
    process = start(tmp_path, STAY, "print('loading'); " + STAY, "time.sleep(1); sys.exit(1)")
    text, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "the viewer got no result (code 1)" in text
    assert "node.log" in text


@pytest.mark.parametrize("is_link", [False, True])
def test_a_log_of_the_users_stays(tmp_path: Path, is_link: bool) -> None:
    out, diary = tmp_path / "out", tmp_path / "out" / "camera.log"
    out.mkdir()
    (tmp_path / "precious").write_text("precious")
    if is_link:
        diary.symlink_to(tmp_path / "precious")
    else:
        diary.write_text("precious")
    process = start(out, STAY, STAY, "time.sleep(0.5)")
    text, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "camera.log: is there, and not written by this program" in text
    assert (tmp_path / "precious").read_text() == diary.read_text() == "precious"


def test_a_second_demo_goes_to_the_same_folder(tmp_path: Path) -> None:
    for _ in range(2):
        process = start(tmp_path, STAY, "print('up', flush=True); " + STAY, "time.sleep(0.5)")
        text, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, text
    assert (tmp_path / "node.log").read_text() == "log made by zgs_ros\nup\n"


@pytest.mark.parametrize(
    ("name", "camera", "node"),
    [
        ("node", STAY, "time.sleep(2); print('no such model'); sys.exit(3)"),
        ("camera", "time.sleep(2); print('no such model'); sys.exit(3)", STAY),
    ],
)
def test_a_process_that_ends_early_fails_the_demo_with_the_end_of_its_log(
    tmp_path: Path, name: str, camera: str, node: str
) -> None:
    process = start(tmp_path, camera, node, STAY)
    text, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert f"the {name} ended with code 3" in text
    assert "no such model" in text
    assert "Traceback" not in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_all_three_cleanly(
    tmp_path: Path, eventually: Eventually, number: int
) -> None:
    process = start(tmp_path, STAY, STAY, STAY)
    started = children(process, eventually)
    time.sleep(0.3)
    process.send_signal(number)
    text, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, text
    assert gone(started)


def test_a_process_that_does_not_listen_is_killed(tmp_path: Path, eventually: Eventually) -> None:
    process = start(tmp_path, STUBBORN, STAY, STAY)
    started = children(process, eventually)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    assert gone(started)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills the children of the dead")
def test_no_process_is_left_when_the_demo_is_killed(tmp_path: Path, eventually: Eventually) -> None:
    process = start(tmp_path, STAY, STUBBORN, STAY)
    started = children(process, eventually)
    process.kill()
    process.communicate(timeout=PATIENCE)
    eventually(lambda: gone(started), "all three have ended")


@pytest.mark.slow
@needs_models
def test_the_demo_shows_the_product_at_work(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "zgs_ros", "demo", "--frames", "5", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in (tmp_path / "segments.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == [1, 2, 3, 4, 5]
    for line in lines:
        assert line["segments"]
        assert all(segment["label"] for segment in line["segments"])
        with Pillow.open(tmp_path / line["overlay"]) as picture:
            assert picture.size == (640, 480)
            assert np.asarray(picture).std() > 10
    log = (tmp_path / "node.log").read_text()
    assert "the mini models only know the synthetic world" in log
    assert "stopped: " in log


def test_a_domain_is_of_one_as_long_as_it_is_claimed_or_somebody_is_there(
    eventually: Eventually,
) -> None:
    candidates = range(20, 39)

    def next_one() -> int:
        domain, claim = claim_domain(candidates)
        claim.close()
        return domain

    domain, claim = claim_domain(candidates)
    with claim:
        assert next_one() != domain
        with pytest.raises(RuntimeError, match=rf"\[{domain}\] are in use"):
            claim_domain([domain])
    with DdsNode("somebody", network=Network(domain, loopback_only=True)):
        eventually(lambda: next_one() != domain, "it is in use")
