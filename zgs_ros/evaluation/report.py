"""Reports of an evaluation: Markdown, and one HTML file with pictures inside."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from zgs_ros.config import SegmenterSettings, flatten, make_settings
from zgs_ros.drawing import draw_overlay
from zgs_ros.evaluation.datasets.base import Dataset, Sample
from zgs_ros.evaluation.datasets.masks import read_png
from zgs_ros.evaluation.metrics import image_iou
from zgs_ros.evaluation.run import Outcome, label_map_file
from zgs_ros.evaluation.scoring import ImageScores
from zgs_ros.evaluation.tables import Table, evaluation_tables, markdown_report
from zgs_ros.segmentation import Label, Roi, Segment, Segmentation

PICTURE_WIDTH = 480
"""Widest picture of the HTML report, in pixels; larger ones are scaled down."""

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --weak: #888; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1500px; margin: 2em auto; padding: 0 1em; }
h1, h2, h3 { line-height: 1.2; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25em .8em; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child { text-align: left; }
td.best { font-weight: 700; }
p.note, dl.facts, figcaption { color: var(--weak); max-width: 70em; }
dl.facts { display: grid; grid-template-columns: max-content 1fr; gap: 0 1em; }
dd { margin: 0; overflow-wrap: anywhere; }
.case { display: grid; grid-template-columns: repeat(3, 1fr); gap: .6em; margin: 0 0 2em; }
figure { margin: 0; }
img { width: 100%; height: auto; border-radius: 4px; }
"""


def facts(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was evaluated and how, for the head of a report."""
    identity = results["identity"]
    settings = identity["settings"]
    mapping = identity["mapping"]
    if "sentence_model" in identity:
        mapping += f" ({identity['sentence_model']})"
    return [
        ("data set", identity["data_set"]),
        ("profile", settings["profile"]),
        ("models", f"{settings.get('dino.model', '-')}, {settings['clip.model']}"),
        ("settings", ", ".join(_changed(settings)) or "those of the profile"),
        ("label mapping", mapping),
        ("images", f"{results['images']}, skipped {len(results['skipped'])}"),
        ("zgs_ros", identity["version"]),
    ]


def _changed(settings: Mapping[str, Any]) -> list[str]:
    """The settings that are not the profile's."""
    defaults = flatten(make_settings(SegmenterSettings, {"profile": settings["profile"]}))
    return [f"{key}={value}" for key, value in settings.items() if value != defaults[key]]


def write_markdown(path: Path, title: str, results: Mapping[str, Any], tables: list[Table]) -> None:
    """Writes facts and tables as Markdown."""
    path.write_text(markdown_report(title, facts(results), tables), encoding="utf-8")


def write_reports(outcome: Outcome, dataset: Dataset, cases: int = 6) -> None:
    """Writes ``results.md`` and ``report.html`` into the folder of an evaluation.

    Args:
        outcome: Of `run.evaluate`.
        dataset: The same data set; its images are loaded again for the pictures.
        cases: Number of best and of worst images to show.
    """
    title = f"Evaluation on {dataset.title}"
    tables = evaluation_tables(outcome.results)
    write_markdown(outcome.folder / "results.md", title, outcome.results, tables)
    page = html_report(title, outcome, dataset, tables, cases)
    (outcome.folder / "report.html").write_text(page, encoding="utf-8")


def html_report(
    title: str, outcome: Outcome, dataset: Dataset, tables: Sequence[Table], cases: int
) -> str:
    """One self-contained HTML page: facts, tables, and the best and worst images."""
    best, worst = _extremes(outcome.scored, len(dataset.categories), cases)
    sections = [f"<h1>{escape(title)}</h1>", _facts_html(outcome.results)]
    sections += [_table_html(table) for table in tables[:-1]]
    for heading, chosen in (("Worst images", worst), ("Best images", best)):
        if chosen:
            sections.append(f"<h2>{heading}</h2>")
            sections += [_case_html(scores, iou, dataset, outcome.folder) for scores, iou in chosen]
    sections += [_table_html(table) for table in tables[-1:]]
    if outcome.skipped:
        listed = "".join(f"<li>{escape(reason)}</li>" for reason in outcome.skipped)
        sections.append(f"<h2>Skipped ({len(outcome.skipped)})</h2><ul>{listed}</ul>")
    body = "\n".join(sections)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _extremes(
    scored: Sequence[ImageScores], classes: int, cases: int
) -> tuple[list[tuple[ImageScores, float]], list[tuple[ImageScores, float]]]:
    """The best and the worst images by their IoU; an image is never both."""
    rated = [(scores, image_iou(scores.matrix(classes))) for scores in scored]
    ranked = sorted((pair for pair in rated if not np.isnan(pair[1])), key=lambda pair: -pair[1])
    best = ranked[: min(cases, (len(ranked) + 1) // 2)]
    return best, ranked[len(best) :][::-1][:cases]


def _case_html(scores: ImageScores, iou: float, dataset: Dataset, folder: Path) -> str:
    sample = dataset.load(scores.name)
    prediction = read_png(label_map_file(folder, scores.name))
    labels = [label for label, _ in scores.labels]
    names = {region.id: region.phrase for region in sample.regions}
    names |= {
        region.id: dataset.categories[region.category].names[0]
        for region in sample.regions
        if not region.phrase
    }
    pictures = [
        (f"{scores.name}, IoU {100 * iou:.1f} %", sample.image),
        ("ground truth", _overlay(sample, sample.instances, names)),
        ("prediction", _overlay(sample, prediction, dict(_number(prediction, labels)))),
    ]
    figures = (
        f'<figure><img alt="{escape(text, quote=True)}" src="{_data_uri(image)}">'
        f"<figcaption>{escape(text)}</figcaption></figure>"
        for text, image in pictures
    )
    return f'<div class="case">{"".join(figures)}</div>'


def _number(label_map: NDArray[np.integer], labels: Sequence[str]) -> list[tuple[int, str]]:
    """Labels, which are in rising order of segment id, with these ids."""
    ids = np.unique(label_map[label_map > 0]).tolist()
    return list(zip(ids, labels, strict=True))


def _overlay(
    sample: Sample, ids: NDArray[np.integer], names: Mapping[int, str]
) -> NDArray[np.uint8]:
    """The sample's image with named regions."""
    label_map = np.zeros(ids.shape, np.uint16)
    segments = []
    for number, (value, name) in enumerate(sorted(names.items()), start=1):
        rows, columns = np.nonzero(ids == value)
        top, left = int(rows.min()), int(columns.min())
        label_map[rows, columns] = number
        segments.append(
            Segment(
                id=number,
                labels=(Label(name, 1.0),),
                roi=Roi(left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1),
                area=len(rows),
                centroid=(float(columns.mean()), float(rows.mean())),
                embedding=np.zeros(1, np.float32),
            )
        )
    return draw_overlay(sample.image, Segmentation(label_map, tuple(segments)))


def _data_uri(image: NDArray[np.uint8]) -> str:
    height, width = image.shape[:2]
    if width > PICTURE_WIDTH:
        size = (PICTURE_WIDTH, max(1, round(height * PICTURE_WIDTH / width)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    encoded, jpeg = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85]
    )
    assert encoded, "JPEG holds any uint8 RGB image"
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode()


def _facts_html(results: Mapping[str, Any]) -> str:
    rows = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts(results))
    return f'<dl class="facts">{rows}</dl>'


def _table_html(table: Table) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    best = table.best()
    rows = []
    for i, row in enumerate(table.texts()):
        marks = (' class="best"' if (i, j) in best else "" for j in range(len(row)))
        cells = "".join(f"<td{m}>{escape(c)}</td>" for m, c in zip(marks, row, strict=True))
        rows.append(f"<tr>{cells}</tr>")
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return f"<h3>{escape(table.title)}</h3>\n<table><tr>{head}</tr>{''.join(rows)}</table>\n{note}"
