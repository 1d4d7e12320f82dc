"""The node's lifecycle: each transition does what it says, and can be repeated for ever."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ros_process import Process
from ros_support import Ros

pytestmark = [pytest.mark.ros, pytest.mark.timeout(3600)]

CLIENT = Path(__file__).with_name("ros_lifecycle_client.py")

WARM_UP = 50
"""Rounds after which libraries and allocators have what they keep for good."""

GROWTH = 40e6
"""Bytes that a hundred rounds may add. Measured were 5 MB with Cyclone DDS and 27 MB with Fast DDS, where
it ends: 1053, 1085 and 1105 MB in all after 50, 100 and 150 rounds, then 1097 to 1107 MB up to 450. Models
that stay (those of the smallest profile are above 10 MB) would add a gigabyte."""


@contextmanager
def node(ros: Ros, **parameters: object) -> Iterator[Process]:
    """The node, unconfigured."""
    given = {"profile": "mini", "device": "cpu", "max_rate": 50.0, **parameters}
    values = [part for name, value in given.items() for part in ("-p", f"{name}:={value}")]
    remappings = ["-r", "image:=/camera/image_raw", "-r", "depth:=/camera/depth"]
    command = ["ros2", "run", "zgs_ros", "zgs_node", "--ros-args", *values, *remappings]
    with ros.process(*command) as process:
        yield process


def go(ros: Ros, *names: str) -> list[bool]:
    return list(ros.ask("transitions", names=names)["success"])


def go_round(ros: Ros, names: list[str], rounds: int, **options: Any) -> list[bool]:
    """Success of the last round's transitions."""
    given = json.dumps({"names": names, "rounds": rounds, **options})
    done = ros.run(sys.executable, str(CLIENT), given, timeout=1800)
    lines = [line for line in done.stdout.splitlines() if line.startswith("found: ")]
    assert lines, done.stdout
    return list(json.loads(lines[-1].removeprefix("found: ")))


def test_deactivating_keeps_the_models_or_frees_them(ros: Ros) -> None:
    with node(ros) as process:
        assert go(ros, "configure", "activate", "deactivate") == [True] * 3
        assert ros.ask("segment_image")["success"]
        assert ros.ask("set_parameter", name="keep_models", value="false") == ""
        assert go(ros, "activate", "deactivate") == [True] * 2
        refused = ros.ask("segment_image")
        assert not refused["success"]
        assert "ros2 lifecycle set /zgs activate" in refused["message"]
        assert process.text.count("loading the models") == 1
        assert go(ros, "activate") == [True]
        assert process.text.count("loading the models") == 2
        assert ros.ask("watch", results=1)["segments"]
        assert go(ros, "deactivate", "cleanup") == [True] * 2
        refused = ros.ask("segment_image")
        assert "ros2 lifecycle set /zgs configure" in refused["message"]


@pytest.mark.one_middleware
def test_an_error_is_told_and_leads_back_to_unconfigured(
    ros: Ros, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "message_filters.py").write_text("raise ImportError('broken installation')\n")
    monkeypatch.setitem(ros.env, "PYTHONPATH", f"{tmp_path}:{ros.env['PYTHONPATH']}")
    with node(ros, **{"depth.enabled": True}) as process:
        for _ in range(2):
            assert go(ros, "configure", "activate") == [True, False]
            assert ros.shows({"unconfigured [1]"}, "lifecycle", "get", "/zgs")
        assert process.text.count("ImportError: broken installation") == 2
        process.wait_for("to try again: ros2 lifecycle set /zgs configure")
        assert ros.ask("set_parameter", name="depth.enabled", value="false") == ""
        assert go(ros, "configure", "activate") == [True, True]
        assert ros.ask("watch", results=1)["segments"]


ALL = ["configure", "activate", "deactivate", "activate", "deactivate", "cleanup"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "success", "rounds", "parameters"),
    [
        pytest.param(ALL, True, 100, {}, id="all transitions"),
        pytest.param(
            *(ALL, True, 100, {"keep_models": False}),
            id="freed when deactivated",
            marks=pytest.mark.one_middleware,
        ),
        pytest.param(
            *(["configure"], False, 100, {"device": "cuda:99"}),
            id="failed configuration",
            marks=pytest.mark.one_middleware,
        ),
    ],
)
def test_a_hundred_rounds_leave_nothing_behind(
    ros: Ros, names: list[str], success: bool, rounds: int, parameters: dict[str, Any]
) -> None:
    expected = [success] * len(names)
    with node(ros, **parameters) as process:
        assert go_round(ros, names, WARM_UP) == expected
        before = process.usage
        assert go_round(ros, names, rounds) == expected
        after = process.usage
    assert after.memory - before.memory < GROWTH, f"{before} -> {after}"
    assert after.threads <= before.threads
    assert after.files <= before.files
