"""Progress and tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table as RichTable

if TYPE_CHECKING:  # its imports take long: not for --help
    from zgs_ros.evaluation.tables import Table


def track(names: Sequence[str], title: str) -> Iterable[str]:
    """Passes names on under a progress bar."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[name]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=len(names), name="")
        for name in names:
            progress.update(task, name=escape(name))
            yield name
            progress.advance(task)


def print_table(table: Table, console: Console) -> None:
    """Prints a table; where it is too wide, its most important columns."""
    printed = _rich_table(table)
    if table.brief and _width(printed, console) > console.width:
        printed = _rich_table(table.shortened())
        hidden = set(range(len(table.columns))) - set(table.brief)
        more = ", ".join(table.columns[column] for column in sorted(hidden))
        printed.caption = f"[dim]in results.md, too: {escape(more)}[/]"
    console.print(printed)
    if table.note:
        console.print(f"[dim]{escape(table.note)}[/]\n")


def _rich_table(table: Table) -> RichTable:
    printed = RichTable(title=table.title, title_justify="left", caption_justify="left")
    for number, column in enumerate(table.columns):
        # Numbers stay on one line; names give way.
        printed.add_column(column, justify="right" if number else "left", no_wrap=number > 0)
    best = table.best()
    for i, row in enumerate(table.texts()):
        printed.add_row(
            *(f"[bold]{escape(c)}[/]" if (i, j) in best else escape(c) for j, c in enumerate(row))
        )
    return printed


def _width(table: RichTable, console: Console) -> int:
    """Columns of the terminal that a table takes when nothing is cut."""
    return console.measure(table, options=console.options.update(width=10_000)).maximum
