"""A life of a node in a process of its own, as a seed decides: is it the same at its end?

    export PYTHONPATH=.:test
    python test/chaos/soak.py --minutes 120 --front-end peer --out out/soak_peer
    python test/chaos/soak.py --minutes 120 --front-end rmw_cyclonedds_cpp --seed 7 --out out/soak_ros

Two synthetic cameras with depth publish, somebody subscribes to the results, and one act of
`acts.ACTS` after the other happens. Every minute prints one line of figures; all are in
OUT/figures.json. It ends with what was found, or with "no finding".
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import ros_support
from acts import ACTS
from live import FRONT_ENDS, PEER, Finding, LiveNode, cpu_seconds, end, live_node
from scipy.stats import theilslopes

WARM_UP = 0.2
"""Share of the time after which libraries and allocators have what they keep for good."""

GROWTH = 24e6
"""Bytes that the rest of the time may add, and ..."""
RELATIVE_GROWTH = 0.03
"""... as a share of the memory; the larger one counts. A frame of the soak and its depth are 0.5 MB and
a set of models 10 MB: if one in a hundred frames stayed, or the models of two lifecycle rounds, it would
be seen."""

SHORT, GROWTH_OF_SHORT = 30.0, 100e6
"""Minutes below which a life is short, and the bytes that it may add: libraries still prepare for sizes of
images that they have not seen."""

MORE_FILES, MORE_THREADS = 4, 2
"""By which the median number of descriptors and threads may be higher in the last third than in the
first one after the warm-up; participants that come and go move it by one or two."""

ROWS = 20
"""Of figures at least, also of a short life."""

LOG_PER_MINUTE = 20_000
"""Bytes that a node may write to its log per minute, on average."""


@dataclass(frozen=True)
class Minute:
    """The figures of a minute; counts are of it, what the node holds is as at its end.

    Attributes:
        end: Minutes since the start.
        received: Frames that the node tells of, which are `processed`, `dropped`, `rejected` or pending.
        lost: Messages that were lost before they came, since the start.
        seen: Results that came to a subscriber.
        sent: Good pictures that were published.
        memory: Resident bytes, without pages of files.
        files: Descriptors.
        threads: Threads.
        p50: Median seconds from a picture's stamp to its result at the subscriber.
        p99: 99th percentile of them.
        cpu: Cores that were busy.
        acts: What happened.
    """

    end: float
    received: int
    processed: int
    dropped: int
    rejected: int
    pending: int
    lost: int
    seen: int
    sent: int
    memory: int
    files: int
    threads: int
    p50: float
    p99: float
    cpu: float
    acts: dict[str, int]

    def __str__(self) -> str:
        counts = f"{self.received} = {self.processed} + {self.dropped} + {self.rejected}"
        return (
            f"{self.end:6.1f} min: received {counts} + {self.pending} pending, lost {self.lost}, "
            f"sent {self.sent}, seen {self.seen}, {self.memory / 1e6:.0f} MB, {self.files} files, "
            f"{self.threads} threads, latency {self.p50:.2f} s / {self.p99:.2f} s, "
            f"CPU {self.cpu:.0%}, {', '.join(f'{n} x {act}' for act, n in self.acts.items())}"
        )


@dataclass
class Life:
    """What a node lived through.

    Attributes:
        about: Front end, seed, machine and date.
        minutes: Figures.
        recovery: Longest time [s] after each kind of act until all cameras had results again.
        findings: What must not happen and did.
        end_seconds: How long the node took to end, None while it lives.
    """

    about: dict[str, str]
    minutes: list[Minute] = field(default_factory=list)
    recovery: dict[str, float] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    end_seconds: float | None = None


class Recorder:
    """Makes the figures of each minute.

    Args:
        node: That lives.
        life: Where they go.
        out: File that the life is written to after each minute.
    """

    def __init__(self, node: LiveNode, life: Life, out: Path) -> None:
        self._node, self._life, self._out = node, life, out
        self._began = time.monotonic()
        self._acts: Counter[str] = Counter()
        self._last = self._look()

    @property
    def minutes(self) -> float:
        """Since the start."""
        return (time.monotonic() - self._began) / 60

    def count(self, act: str, recovery: float) -> None:
        """Notes that an act was played, and after how many seconds all was as before."""
        self._acts[act] += 1
        longest = self._life.recovery
        longest[act] = max(longest.get(act, 0.0), round(recovery, 2))

    def look(self, least: float) -> None:
        """Adds what happened since the last time to the figures, if that is this many seconds ago."""
        if time.monotonic() - self._last["time"] >= least:
            self._add()

    def _add(self) -> None:
        before, now = self._last, self._look()
        since = {name: now[name] - before[name] for name in ("time", "seen", "sent", "cpu")}
        counts = {name: n - before["totals"][name] for name, n in now["totals"].items()}
        latencies = [s.latency for s in tuple(self._node.results) if s.arrival > before["time"]]
        p50, p99 = np.percentile(latencies, (50, 99)) if latencies else (np.nan, np.nan)
        usage = self._node.process.usage
        minute = Minute(
            end=round(self.minutes, 2),
            **{**counts, "pending": now["totals"]["pending"]},
            lost=self._node.ledger.lost,
            seen=since["seen"],
            sent=since["sent"],
            memory=usage.memory,
            files=usage.files,
            threads=usage.threads,
            p50=round(float(p50), 3),
            p99=round(float(p99), 3),
            cpu=round(since["cpu"] / since["time"], 3),
            acts=dict(self._acts),
        )
        self._acts.clear()
        self._last = now
        self._life.minutes.append(minute)
        print(minute, flush=True)
        self.write()

    def write(self) -> None:
        """Writes all figures."""
        self._out.write_text(json.dumps(asdict(self._life), indent=1))

    def _look(self) -> dict[str, Any]:
        return {
            "time": time.monotonic(),
            "totals": self._node.ledger.totals,
            "seen": self._node.seen,
            "sent": self._node.sent,
            "cpu": cpu_seconds(self._node.process),
        }


def live(node: LiveNode, life: Life, minutes: float, random: Random, out: Path) -> None:
    """Plays acts on a node for a time, then ends it; what is found is in `life`.

    Args:
        node: That publishes results.
        life: Takes the figures and findings.
        minutes: For how long.
        random: Decides what happens.
        out: File for the figures.
    """
    recorder = Recorder(node, life, out)
    acts = [row for row in ACTS if node.ros or not row.needs_ros]
    left: list[Any] = []
    act = "the start"
    try:
        while recorder.minutes < minutes:
            if not left:  # all of them, in another order each time
                left = random.sample(acts, len(acts))
            row = left.pop()
            act = row.name
            row.play(node, random)
            recorder.count(row.name, node.wait_for_results())
            node.check()
            recorder.look(least=min(60.0, 60 * minutes / ROWS))
        act = "the end"
        recorder.look(least=10)
        life.end_seconds, code = end(node)
        if code:
            raise Finding(f"exit code {code}")
    except Exception as error:
        moment = f"{recorder.minutes:.1f} min, {act}"
        life.findings.append(f"{moment}: {error or repr(error)}")
    life.findings += judge(life.minutes)
    lines = node.process.text.splitlines()
    if node.ros:  # not those that the middleware prints past the node
        lines = [line for line in lines if "[zgs]" in line]
    if (logged := sum(map(len, lines))) > LOG_PER_MINUTE * max(minutes, 5):
        life.findings.append(f"{logged} bytes of log in {minutes:g} min")
    recorder.write()


def judge(minutes: Sequence[Minute]) -> list[str]:
    """What grew over the minutes after the warm-up, or is missing in all.

    Memory: the Theil-Sen slope (median of all slopes between two minutes, which single ones don't
    move) times the time. Descriptors and threads: medians of the first and the last third.
    """
    rest = minutes[int(WARM_UP * len(minutes)) :]
    if len(rest) < 6:
        return []  # too short to tell
    memory = [minute.memory for minute in rest]
    slope = theilslopes(memory, [minute.end for minute in rest]).slope
    grown = slope * (rest[-1].end - rest[0].end)
    found = []
    is_short = rest[-1].end < SHORT
    if grown > max(GROWTH_OF_SHORT if is_short else GROWTH, RELATIVE_GROWTH * memory[0]):
        found.append(f"memory grew by {grown / 1e6:.0f} MB from {memory[0] / 1e6:.0f} MB")
    third = len(rest) // 3
    for name, allowed in (("files", MORE_FILES), ("threads", MORE_THREADS)):
        held = [getattr(minute, name) for minute in rest]
        more = float(np.median(held[-third:]) - np.median(held[:third]))
        if more > allowed:
            found.append(f"{name} grew by {more:g} from {np.median(held[:third]):g}")
    return found


def main() -> int:
    options = parse()
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    about = {
        "front end": options.front_end,
        "seed": str(options.seed),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "date": datetime.now().isoformat(" ", "minutes"),
    }
    life = Life(about)
    print(about, flush=True)
    with ExitStack() as stack:

        def workspace() -> Path:
            return stack.enter_context(ros_support.built_workspace(out.absolute() / "workspace"))

        try:
            node = stack.enter_context(
                live_node(
                    options.front_end,
                    out,
                    workspace,
                    seed=options.seed,
                    max_rate=options.max_rate,
                    rate=2 * options.max_rate,
                )
            )
        except Finding as finding:
            life.findings.append(f"at the start: {finding}")
            print((out / "node.txt").read_text())
        else:
            live(node, life, options.minutes, Random(options.seed), out / "figures.json")
    print("longest time until all cameras had results again [s]:", life.recovery)
    print(f"it took {life.end_seconds} s to end")
    print("\n".join(life.findings) if life.findings else "no finding", flush=True)
    return 1 if life.findings else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--seed", type=int, default=1, help="the same one plays the same acts")
    parser.add_argument("--front-end", choices=FRONT_ENDS, default=PEER)
    parser.add_argument("--max-rate", type=float, default=2.0, help="of the node [Hz]")
    parser.add_argument("--out", type=Path, required=True, help="folder for figures and logs")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
