"""Fixtures that several tests share."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import ros_support

if TYPE_CHECKING:
    from conformance import World


@pytest.fixture(scope="session", autouse=True)
def ros_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nodes of the tests keep their classes where nobody misses them."""
    os.environ["ROS_HOME"] = str(tmp_path_factory.mktemp("ros_home"))


@pytest.fixture(autouse=True)
def log_handlers() -> Iterator[None]:
    """A command that a test runs in this process leaves no handler behind: its stream is closed."""
    loggers = [logging.getLogger(), logging.getLogger("zgs_ros")]
    before = [list(logger.handlers) for logger in loggers]
    yield
    for logger, kept in zip(loggers, before, strict=True):
        for handler in set(logger.handlers) - set(kept):
            if not type(handler).__module__.startswith("_pytest"):
                logger.removeHandler(handler)


@pytest.fixture(scope="session")
def eventually() -> Callable[..., None]:
    """Waits until a condition holds, and fails with its description when it doesn't in time."""

    def wait(condition: Callable[[], object], what: str, seconds: float = 10.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
            time.sleep(0.005)

    return wait


def pytest_addoption(parser: pytest.Parser) -> None:
    """Of test/chaos."""
    group = parser.getgroup("chaos")
    group.addoption(
        "--chaos-hours", type=float, default=0.05, help="that each test of test/chaos takes"
    )
    group.addoption(
        "--chaos-seed", type=int, help="of what happens there; by default another one each time"
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The figures of test/chaos as one table."""
    reports = (r for kind in ("passed", "failed") for r in terminalreporter.stats.get(kind, []))
    rows = [dict(r.user_properties) for r in reports if "chaos" in dict(r.user_properties)]
    if rows:
        terminalreporter.section("chaos")
    for row in rows:
        figures = ", ".join(f"{name} {value}" for name, value in row.items() if name != "chaos")
        terminalreporter.write_line(f"{row['chaos']}: {figures}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what one middleware is enough for, under the others.

    Where several processes share the tests, one has all of a module that use the same middleware.
    """

    def given(item: pytest.Item) -> dict[str, Any]:
        return item.callspec.params if hasattr(item, "callspec") else {}

    def is_repeated(item: pytest.Item) -> bool:
        others = ros_support.RMWS[1:]
        used = (given(item).get(name) for name in ("ros", "world"))
        return bool(item.get_closest_marker("one_middleware")) and any(
            rmw in others for rmw in used
        )

    items[:] = [item for item in items if not is_repeated(item)]
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            if middleware := given(item).get("ros"):
                item.add_marker(pytest.mark.xdist_group(f"{item.path.stem} {middleware}"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips what needs ROS where there is none."""
    if item.get_closest_marker("ros") and (problem := ros_support.find_problem()):
        pytest.skip(problem)
    if item.get_closest_marker("nav2") and (problem := ros_support.find_nav2_problem()):
        pytest.skip(problem)


@pytest.fixture(scope="session")
def ros_workspace(pytestconfig: pytest.Config) -> Iterator[Path]:
    """Workspace with this package, built with colcon and kept from run to run."""
    if problem := ros_support.find_problem():
        pytest.skip(problem)
    folder = pytestconfig.rootpath / ".pytest_cache" / "d" / "ros_workspace"
    with ros_support.built_workspace(folder) as workspace:
        yield workspace


@pytest.fixture(scope="module", params=ros_support.RMWS)
def ros(
    request: pytest.FixtureRequest, ros_workspace: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ros_support.Ros]:
    """ROS under each middleware in turn, for all tests of a module."""
    found = ros_support.Ros(ros_workspace, request.param, tmp_path_factory.mktemp(request.param))
    if not found.has_middleware:
        pytest.skip(f"{request.param} is not installed")
    with found:
        yield found


@pytest.fixture(
    params=[
        "memory",
        "dds",
        *(pytest.param(rmw, marks=pytest.mark.ros) for rmw in ros_support.RMWS),
    ]
)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """The node under each adapter in turn, and an observer."""
    import conformance  # claims a domain, which few tests need

    if request.param == "memory":
        with conformance.MemoryWorld() as made:
            yield made
    elif request.param == "dds":
        with conformance.DdsWorld() as made:
            yield made
    else:
        workspace = request.getfixturevalue("ros_workspace")
        ros = ros_support.Ros(workspace, request.param, tmp_path)
        if not ros.has_middleware:
            pytest.skip(f"{request.param} is not installed")
        with ros, conformance.RosWorld(ros) as made:
            yield made


@pytest.fixture(scope="session")
def ros_models() -> dict[str, str]:
    """Launch arguments that choose models which need no network."""
    return {"profile": "mini"}
