"""Fuzzes targets one after the other and prints what came of it.

python -m fuzz [--seconds S] [--out FOLDER] [TARGET ...]   in the folder test
python -m fuzz TARGET FILE ...                             tries inputs again
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from fuzz import engine


def main() -> int:
    """Returns 1 where something was found."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", help="names, or their beginnings; by default all")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each target")
    parser.add_argument("--out", type=Path, help="keeps the corpus, what failed, and report.json")
    options = parser.parse_args()
    inputs = [Path(name) for name in options.targets if Path(name).is_file()]
    if inputs:
        return _again(options.targets[0], inputs)
    wanted = tuple(options.targets)
    names = [name for name in engine.all_targets() if not wanted or name.startswith(wanted)]
    reports = []
    print(HEAD)
    for name in names:
        out = options.out
        corpus, kept = (out / "corpus" / name, out / "found") if out else (None, None)
        reports.append(report := engine.fuzz(name, options.seconds, corpus, kept))
        print(line(report), flush=True)
        if out:
            (out / "report.json").write_text(json.dumps([asdict(r) for r in reports], indent=1))
    total = sum(report.executions for report in reports)
    found = sum(len(report.findings) for report in reports)
    print(f"{total:,} executions of {len(reports)} targets, {found} findings")
    return int(found > 0)


HEAD = (
    f"{'target':34} {'inputs':>10} {'taken':>10} {'corpus':>7} {'memory':>8} {'time':>7}  findings"
)


def line(report: engine.Report) -> str:
    """A row of the table, and a line for each finding."""
    row = (
        f"{report.target:34} {report.executions:>10,} {report.accepted:>10,} {report.corpus:>7,} "
        f"{report.megabytes:>5} MB {report.seconds:>5.0f} s  {len(report.findings)}"
    )
    found = (
        f"\n    {finding.kind} at {finding.where}: {finding.text}\n      input: {finding.file}"
        for finding in report.findings
    )
    return row + "".join(found)


def _again(name: str, inputs: list[Path]) -> int:
    aim, failed = engine.find_target(name), False
    engine.limit_memory()
    for path in inputs:
        taken, finding = engine.check(aim, path.read_bytes())
        failed |= finding is not None
        what = f"{finding.kind} at {finding.where}: {finding.text}" if finding else "well"
        print(f"{path}: {'taken' if taken else 'refused'}, {what}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
