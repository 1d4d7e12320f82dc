"""How long the tests here take, from which seed, and the row that each adds to the table at the end."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import pytest
from given import Chaos

START_SECONDS = 900
"""For what a test does beside the time that it is given, on a loaded machine."""


@pytest.fixture
def chaos(request: pytest.FixtureRequest, record_property: Callable[[str, Any], None]) -> Chaos:
    """Time, seed and table."""
    seed = request.config.getoption("--chaos-seed")
    if seed is None:
        seed = secrets.randbelow(10**6)

    def tell(**figures: Any) -> None:
        for name, value in figures.items():
            record_property(name, value)

    tell(chaos=request.node.name, seed=seed)
    print(f"seed {seed}: make chaos SEED={seed}")
    return Chaos(60 * request.config.getoption("--chaos-hours"), seed, tell)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """All of them are chaos, and may take as long as they are asked to."""
    seconds = 3600 * config.getoption("--chaos-hours") + START_SECONDS
    for item in items:
        if item.path.parent.name == "chaos":
            item.add_marker(pytest.mark.chaos)
            item.add_marker(pytest.mark.timeout(2 * seconds))
