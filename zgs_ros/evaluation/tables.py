"""Results as tables, for the terminal, Markdown and HTML alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from zgs_ros.evaluation.metrics import SIZES, TEXT_THRESHOLD

Cell = str | float | int | None


@dataclass(frozen=True)
class Table:
    """A table of results.

    Attributes:
        title: One line.
        columns: Headings; the first column holds names.
        rows: Cells; floats are shares and shown in percent, None is undefined.
        note: How the numbers are defined.
        rank: Whether the best number of each column is to be marked.
        brief: The columns to show where there is no room for all; () for all.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    rank: bool = False
    brief: tuple[int, ...] = ()

    def texts(self) -> list[list[str]]:
        """The cells as text."""
        return [[_text(cell) for cell in row] for row in self.rows]

    def shortened(self) -> Table:
        """The same with the columns of `brief` only."""
        shown = self.brief or tuple(range(len(self.columns)))
        return replace(
            self,
            columns=tuple(self.columns[column] for column in shown),
            rows=tuple(tuple(row[column] for column in shown) for row in self.rows),
            brief=(),
        )

    def best(self) -> set[tuple[int, int]]:
        """Places (row, column) of the best shares, if the table ranks."""
        if not self.rank:
            return set()
        places = set()
        for column in range(1, len(self.columns)):
            shares = [(row[column], i) for i, row in enumerate(self.rows) if _is_share(row[column])]
            # What is shown as equal is equally good.
            top = max((_text(share) for share, _ in shares), key=float, default="")
            places |= {(i, column) for share, i in shares if _text(share) == top}
        return places


def evaluation_tables(results: Mapping[str, Any]) -> list[Table]:
    """The tables of one evaluation, see `scoring.summarise`."""
    return [
        _main(results),
        _reference(results),
        _labels(results),
        _sizes(results),
        _times(results),
        _classes(results),
    ]


def ablation_table(results: Mapping[str, Any]) -> Table:
    """The table of `ablation.ablate_embedding`."""
    variants: Mapping[str, Any] = results["variants"]
    first: Mapping[str, Any] = next(iter(variants.values()))
    groups = [
        key for key in ("objects", "objects_with_colour", "grounds", "backdrops") if key in first
    ]
    sizes = [size.name for size in SIZES if first["by_size"][size.name]["regions"]]
    counts = {size: first["by_size"][size]["regions"] for size in sizes}
    kind = "objects" if "objects" in groups else "regions"
    last = 4 + (len(groups) or 1) + len(sizes)
    return Table(
        "Label quality on ground-truth masks, by embedding",
        (
            "embedding",
            *(["all"] if not groups else []),
            *("with colour" if group == "objects_with_colour" else group for group in groups),
            *(f"{size} ({counts[size]})" for size in sizes),
            f"{kind}, 95 %",
            "lost/won",
            "p",
            "ms/image",
        ),
        tuple(
            (
                name,
                *([quality["all"]] if not groups else []),
                *(quality[group] for group in groups),
                *(quality["by_size"][size]["right"] for size in sizes),
                _interval(quality["interval"]),
                "" if name == results["baseline"] else f"{quality['lost']}/{quality['won']}",
                "" if name == results["baseline"] else f"{quality['p']:.2g}",
                f"{1000 * quality['seconds_per_image']:.0f}",
            )
            for name, quality in variants.items()
        ),
        f"Share of right labels [%]. Sizes split the {kind} by the share of the image that they "
        f"cover ({_size_borders()}); their number is in brackets. The interval of the {kind}' share is a "
        f"bootstrap over images; {kind} lost and won are those that '{results['baseline']}' names "
        "rightly or wrongly and this one not, p by McNemar's exact test.",
        rank=True,
        brief=(0, 1, *range(last - 3, last + 1)),
    )


def comparison_table(results: Mapping[str, Mapping[str, Any]]) -> Table:
    """One row per variant of `comparison.compare_settings`."""
    rows = []
    for name, result in results.items():
        text = result["text_generation_quality"]
        speed = result["speed"].get("frames_per_second")
        rows.append(
            (
                name,
                result["iou"]["data_set"],
                result["iou"]["per_image"],
                result["segment_recall"],
                result["over_segmentation"]["all"],
                text.get("objects", text["all"]),
                text.get("objects_with_colour"),
                "" if speed is None else f"{speed:.2f}",
            )
        )
    return Table(
        "Comparison of settings",
        (
            "settings",
            "mIoU",
            "mIoU per image",
            "segment recall",
            "best IoU of instances",
            "labels right",
            "with colour",
            "frames/s",
        ),
        tuple(rows),
        "[%], see the definitions in the results of each variant.",
        rank=True,
        brief=(0, 1, 3, 5, 7),
    )


def to_markdown(table: Table) -> str:
    """A Markdown table with title and note; the best numbers are bold."""
    best = table.best()
    lines = [f"### {table.title}", ""]
    lines.append("| " + " | ".join(_escape(column) for column in table.columns) + " |")
    lines.append("|" + "|".join([" --- ", *([" ---: "] * (len(table.columns) - 1))]) + "|")
    for i, row in enumerate(table.texts()):
        cells = [
            f"**{_escape(cell)}**" if (i, j) in best else _escape(cell)
            for j, cell in enumerate(row)
        ]
        lines.append("| " + " | ".join(cells) + " |")
    if table.note:
        lines += ["", table.note]
    return "\n".join(lines) + "\n"


def _main(results: Mapping[str, Any]) -> Table:
    iou = results["iou"]
    over = results["over_segmentation"]
    rows: list[tuple[Cell, ...]] = [
        ("mIoU, data set", iou["data_set"]),
        ("mIoU, mean over images", iou["per_image"]),
        ("segment recall", results["segment_recall"]),
        ("best IoU of instances, whatever their label", over["all"]),
        *((f"best IoU of {g}", over[g]) for g in ("objects", "grounds", "backdrops") if g in over),
    ]
    if iou["data_set_with_background"] != iou["data_set"]:
        rows.insert(1, ("mIoU, data set, background as a class", iou["data_set_with_background"]))
    return Table(
        f"Segmentation, nothing given ({results['images']} images)",
        ("metric", "%"),
        tuple(rows),
        f"Labels were mapped to classes by {results['identity']['mapping']}. "
        "Data set: one confusion matrix over all images. Mean "
        "over images: per image over the classes in ground truth or prediction. Segment recall: "
        "share of an image's classes with a segment of that class at IoU >= t, averaged over "
        "t = 0.00, 0.01 .. 1.00 and over images.",
    )


def _reference(results: Mapping[str, Any]) -> Table:
    found = results["reference"]
    return Table(
        "As the reference defines it",
        ("metric", "%"),
        (
            ("mIoU, mean over images", found["iou"]),
            ("segment recall", found["segment_recall"]),
            ("text generation quality", found["text_generation_quality"]),
        ),
        "For comparison with the publication. Predictions on classes that the data set leaves out are "
        "wrong; segment recall is over the classes in ground truth or prediction; labels are those of "
        "whole classes' ground-truth masks, averaged within each image, then over images.",
    )


def _labels(results: Mapping[str, Any]) -> Table:
    text = results["text_generation_quality"]
    names = {
        "all": "all",
        "objects": "objects, exact noun",
        "objects_with_colour": "objects, exact colour and noun",
        "grounds": "grounds",
        "backdrops": "backdrops",
    }
    rows = tuple((title, text[key]) for key, title in names.items() if key in text)
    how = (
        f"cosine of sentence embeddings of label and class >= {TEXT_THRESHOLD}"
        if results["identity"]["mapping"] == "tt"
        else "the label equals the class name or ends with it"
    )
    return Table(
        f"Labels of ground-truth masks ({text['regions']} regions)",
        ("regions", "right [%]"),
        rows,
        f"Text generation quality: share of right labels; right means that {how}.",
    )


def _sizes(results: Mapping[str, Any]) -> Table:
    labels = results["text_generation_quality"]["by_size"]
    over = results["over_segmentation"]["by_size"]
    rows = tuple(
        (
            size.name,
            str(over[size.name]["regions"]),
            results["recall_by_size"][size.name]["recall"],
            over[size.name]["best_iou"],
            labels[size.name]["right"],
        )
        for size in SIZES
    )
    return Table(
        "By size",
        ("size", "regions", "recall [%]", "best IoU [%]", "labels right [%]"),
        rows,
        f"Size is the share of the image that a region covers: {_size_borders()}. "
        "Recall as segment recall, for instances. Labels right: of objects where there are any.",
    )


def _times(results: Mapping[str, Any]) -> Table:
    speed = results["speed"]
    if not speed:
        return Table("Time per image", ("stage", "ms"), ())
    rows = [(stage, f"{1000 * s:.1f}") for stage, s in speed["stages"].items()]
    rows.append(("whole image", f"{1000 * speed['seconds_per_image']:.1f}"))
    return Table(
        f"Time per image: {speed['frames_per_second']:.2f} frames/s",
        ("stage", "ms"),
        tuple(rows),
        "Medians over all images but a first one for warming up.",
    )


def _classes(results: Mapping[str, Any]) -> Table:
    rows = sorted(results["classes"].items(), key=lambda item: -(item[1]["iou"] or 0.0))
    return Table(
        "Classes",
        ("class", "regions", "IoU [%]", "labels right [%]"),
        tuple((name, str(v["regions"]), v["iou"], v["right"]) for name, v in rows),
    )


def _interval(bounds: Sequence[float | None]) -> str:
    return " .. ".join(_text(bound) for bound in bounds)


def _size_borders() -> str:
    return ", ".join(
        f"{size.name} up to {100 * size.share:.2g} %" if size.share < 1 else f"{size.name} above"
        for size in SIZES
    )


def _text(cell: Cell) -> str:
    if cell is None:
        return "-"
    return f"{100 * cell:.1f}" if isinstance(cell, float) else str(cell)


def _is_share(cell: Cell) -> bool:
    return isinstance(cell, float)


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


def markdown_report(title: str, facts: Sequence[tuple[str, str]], tables: Sequence[Table]) -> str:
    """A Markdown page: what was evaluated, and the tables."""
    lines = [f"# {title}", "", *(f"- {key}: {value}" for key, value in facts), ""]
    return "\n".join([*lines, *(to_markdown(table) for table in tables)])
