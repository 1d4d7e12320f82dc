"""Writes the table of live nodes in docs/benchmarks.md from the files in benchmarks/ledger."""

from __future__ import annotations

from pathlib import Path

from zgs_ros.bench.ledger import ledger_table, read_ledger
from zgs_ros.evaluation.tables import to_markdown

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
FOLDER = ROOT / "benchmarks" / "ledger"
BEGIN = "<!-- written by scripts/write_ledger.py from benchmarks/ledger -->\n"
END = "<!-- end -->\n"


def page_text(page: str, folder: Path) -> str:
    """The page with the table of these files.

    Args:
        page: As it is.
        folder: Of the files.

    Raises:
        zgs_ros.bench.ledger.LedgerError: If one is none.
    """
    before, _, rest = page.partition(BEGIN)
    _, _, behind = rest.partition(END)
    ledgers = [read_ledger(path) for path in sorted(folder.glob("*.json"))]
    table = to_markdown(ledger_table(ledgers)).strip() if ledgers else "No machine is in it yet."
    return f"{before}{BEGIN}\n{table}\n\n{END}{behind}"


if __name__ == "__main__":
    PAGE.write_text(page_text(PAGE.read_text(encoding="utf-8"), FOLDER), encoding="utf-8")
