"""The viewer's face: a live table on a terminal, calm lines everywhere else."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from zgs_ros.drawing.palette import colour_of
from zgs_ros.texts import printable
from zgs_ros.tools.frames import Frame

MAX_ROWS = 16
"""Segments that are shown; the largest come first."""


class Display:
    """Shows frames on a console, from ``__enter__`` to ``__exit__``.

    Args:
        console: A terminal gets a table that is updated in place, anything else a line per frame.
        node: Name of the watched node.
    """

    def __init__(self, console: Console, node: str) -> None:
        self._console = console
        self._node = node
        self._waiting = ""
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def wait(self, step: str) -> None:
        """Says what the viewer waits for, once."""
        if step == self._waiting:
            return
        self._waiting = step
        text = Text(f"waiting for {printable(step)}", style="yellow")
        if self._live:
            self._live.update(text, refresh=True)
        else:
            self._console.print(text, soft_wrap=True)

    def show(self, frame: Frame, diagnostics: Mapping[str, str]) -> None:
        """Shows a frame and the node's counts."""
        if self._live:
            self._live.update(_table(self._node, frame, diagnostics), refresh=True)
        else:
            self._console.print(
                _line(frame, diagnostics), soft_wrap=True, highlight=False, markup=False
            )

    def __enter__(self) -> Display:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()


def _table(node: str, frame: Frame, diagnostics: Mapping[str, str]) -> Group:
    height, width = frame.segmentation.size
    table = Table(title=f"{node}  frame {frame.number}", title_justify="left", expand=False)
    table.add_column("")
    table.add_column("label", min_width=24)
    table.add_column("score", justify="right")
    table.add_column("area", justify="right")
    table.add_column("or", style="dim")
    by_area = sorted(frame.segmentation.segments, key=lambda segment: -segment.area)
    for segment in by_area[:MAX_ROWS]:
        red, green, blue = colour_of(segment.label or f"#{segment.id}")
        table.add_row(
            Text("  ", style=f"on rgb({red},{green},{blue})"),
            Text(printable(segment.label)),
            f"{segment.score:.2f}",
            f"{segment.area / (width * height):.0%}",
            Text(", ".join(printable(label.text) for label in segment.alternatives[:2])),
        )
    if len(by_area) > MAX_ROWS:
        table.add_row("", f"and {len(by_area) - MAX_ROWS} smaller ones", "", "", "")
    return Group(table, Text(_footer(frame, diagnostics), style="dim"))


def _line(frame: Frame, diagnostics: Mapping[str, str]) -> str:
    by_area = sorted(frame.segmentation.segments, key=lambda segment: -segment.area)
    seen = ", ".join(
        f"{printable(segment.label)} {segment.score:.2f}" for segment in by_area[:MAX_ROWS]
    )
    return f"frame {frame.number}: {seen or 'no segments'} | {_footer(frame, diagnostics)}"


def _footer(frame: Frame, diagnostics: Mapping[str, str]) -> str:
    parts = [f"{len(frame.segmentation.segments)} segments"]
    if frame.latency is not None:
        parts.append(f"latency {frame.latency:.2f} s")
    if diagnostics:
        parts += [
            f"{_value(diagnostics, 'results per second', '0')} results/s",
            f"{_value(diagnostics, 'received')} images received",
            f"{_value(diagnostics, 'dropped')} dropped",
            f"{_value(diagnostics, 'rejected')} rejected",
        ]
    return ", ".join(parts)


def _value(diagnostics: Mapping[str, str], name: str, missing: str = "?") -> str:
    return printable(diagnostics.get(name, missing), 20)
