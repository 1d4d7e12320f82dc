"""The documentation speaks of the settings that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from zgs_ros.config import PROFILES, NodeSettings, list_settings

DOCS = Path(__file__).parents[1] / "docs"
SETTINGS = {setting.path: setting for setting in list_settings(NodeSettings)}
SECTIONS = {path.split(".")[0] for path in SETTINGS if "." in path}


def test_every_setting_is_explained_in_the_tuning_page() -> None:
    text = (DOCS / "tuning.md").read_text()
    explained = {
        name
        for line in re.findall(r"^- (`.*?)[:(]", text, re.M)
        for name in re.findall(r"`(.+?)`", line)
    }
    assert explained == set(SETTINGS) - {"profile"}
    assert all(f"`{profile}`" in text for profile in PROFILES)


def test_the_tuning_page_marks_the_live_settings() -> None:
    text = (DOCS / "tuning.md").read_text()
    lines = re.findall(r"^- (`[^:(]*`) \(\*live\*\)", text, re.M)
    marked = {name for line in lines for name in re.findall(r"`(.+?)`", line)}
    assert marked == {path for path, setting in SETTINGS.items() if setting.live}


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_settings_that_are_mentioned_exist(page: Path) -> None:
    mentioned = re.findall(
        rf"\b((?:{'|'.join(SECTIONS)})\.(?!(?:py|yaml)\b)[a-z_]+)\b(?!\()", page.read_text()
    )
    assert set(mentioned) <= set(SETTINGS)


def test_each_promise_names_tests_that_exist() -> None:
    contract = (DOCS / "reliability.md").read_text().partition("## What is not")[0]
    promises = [line for line in contract.splitlines() if re.match(r"\| [A-Z]", line)]
    assert len(promises) > 15
    sources = (path.read_text() for path in Path(__file__).parent.rglob("test_*.py"))
    tests = {name for text in sources for name in re.findall(r"^def (test_\w+)", text, re.M)}
    for promise in promises:
        named = re.findall(r"`(test_\w+)`", promise)
        assert named, f"no test holds: {promise}"
        assert set(named) <= tests, set(named) - tests
