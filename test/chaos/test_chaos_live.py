"""A live node among all that can befall it: every front end lives through the same tables of acts."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import ros_support
from acts import CLOCKS, clock
from given import Chaos
from live import PEER, end, live_node
from soak import Life, live

FRONT_ENDS = [PEER, *(pytest.param(rmw, marks=pytest.mark.ros) for rmw in ros_support.RMWS)]


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_a_node_lives_through_all_that_can_befall_it(
    front_end: str, chaos: Chaos, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    workspace = lambda: request.getfixturevalue("ros_workspace")  # noqa: E731
    life = Life({"front end": front_end, "seed": str(chaos.seed)})
    with live_node(front_end, tmp_path, workspace, seed=chaos.seed, rate=8.0, max_rate=4.0) as node:
        live(node, life, chaos.minutes, chaos.random, tmp_path / "figures.json")
        totals, text = node.ledger.totals, node.process.text
    first, last = life.minutes[0], life.minutes[-1]
    chaos.tell(
        minutes=last.end,
        acts=sum(sum(minute.acts.values()) for minute in life.minutes),
        frames="{received} = {processed} + {dropped} + {rejected} + {pending}".format(**totals),
        lost=last.lost,
        memory=f"{first.memory / 1e6:.0f} -> {last.memory / 1e6:.0f} MB",
        files=f"{first.files} -> {last.files}",
        threads=f"{first.threads} -> {last.threads}",
        recovered_within=f"{max(life.recovery.values(), default=0):.1f} s",
        ended_within=f"{life.end_seconds or 0:.1f} s",
    )
    assert not life.findings, "\n".join([*life.findings, text[-5000:]])


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_no_clock_ends_a_node_and_it_goes_on_with_the_next_one(
    front_end: str, chaos: Chaos, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    workspace = lambda: request.getfixturevalue("ros_workspace")  # noqa: E731
    longest: dict[str, float] = {}
    began = time.monotonic()
    with live_node(front_end, tmp_path, workspace, seed=chaos.seed, simulated=True) as node:
        while not longest or time.monotonic() - began < 20 * chaos.minutes:
            for kind in chaos.random.sample(list(CLOCKS), len(CLOCKS)):
                clock(node, chaos.random, kind)
                longest[kind] = max(longest.get(kind, 0.0), node.wait_for_results())
                node.check()
        seconds, code = end(node)
    chaos.tell(recovered_within=f"{max(longest.values()):.1f} s", ended_within=f"{seconds:.1f} s")
    assert code == 0
