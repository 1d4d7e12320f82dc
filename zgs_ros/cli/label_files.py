"""``zgs label``: labels image files under a progress bar, and reports what became of them."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from zgs_ros.cli.terminal import INTERRUPTED, Interrupt, plain
from zgs_ros.config import NodeSettings, SegmenterSettings
from zgs_ros.files.images import ImageFile, NoImages, find_images
from zgs_ros.files.labeling import (
    ImageSegmenter,
    LabelOptions,
    Outcome,
    State,
    classes_key,
    label_files,
    settings_key,
)
from zgs_ros.files.results import is_result
from zgs_ros.rotation import rotations

FAILED = 1
"""Exit code where an image has no results."""


@dataclass(frozen=True)
class LabelRequest:
    """What the user asked for.

    Attributes:
        paths: Image files and folders of them.
        out: Folder for the results.
        embeddings: Whether to write the segments' embeddings too.
        overwrite: Whether to redo images whose results are up to date.
        recursive: Whether to look into subfolders.
    """

    paths: list[Path]
    out: Path
    embeddings: bool = False
    overwrite: bool = False
    recursive: bool = False


def run(request: LabelRequest, settings: NodeSettings) -> int:
    """Labels image files.

    Returns:
        The exit code: 0 when every image has its results, 1 when some could not be labelled, 130
        after Ctrl-C.

    Raises:
        ValueError: If there is a rotation for each of several cameras.
        zgs_ros.files.images.NoImages: If there is nothing to do, or no folder for the results.
        zgs_ros.classes.groups.ClassError: If the file of classes can't be used.
        zgs_ros.labeling.vocabulary.VocabularyError: If the vocabulary can't be used.
        zgs_ros.models.ModelError: If the models can't be loaded.
        zgs_ros.files.results.CannotWrite: If results can't be written.
        zgs_ros.files.ownership.InUse: If another run writes to the folder.
    """
    console = Console(stderr=True, highlight=False)
    [rotation] = rotations(settings.rotation, ["image files"]).values()
    options = LabelOptions(
        out=request.out,
        settings_key=settings_key(settings) + classes_key(settings.classes),
        embeddings=request.embeddings,
        overwrite=request.overwrite,
        opacity=settings.overlay_opacity,
        max_pixels=settings.max_pixels,
        rotation=rotation,
    )
    unlisted: list[OSError] = []

    def report_folder(problem: OSError) -> None:
        unlisted.append(problem)
        console.print(
            f"[red]failed:[/] {plain(problem.filename)}: {plain(problem.strerror)}", soft_wrap=True
        )

    images = find_images(
        request.paths,
        request.recursive,
        lambda path: is_result(path, request.out),
        report_folder,
    )
    _make_folder(request.out)
    outcomes, interrupted = _label(images, settings, options, console)
    code = _report(images, outcomes, request.out, interrupted, console)
    return code or (FAILED if unlisted else 0)


def load_segmenter(settings: SegmenterSettings) -> ImageSegmenter:
    """Loads the models, only when an image needs them: torch alone takes seconds to import."""
    from zgs_ros import segmenter

    return segmenter.load_segmenter(settings)


def _make_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise NoImages(f"--out {out}: is a file; give a folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NoImages(f"--out {out}: can't be made ({error.strerror or error})") from None


def _label(
    images: list[ImageFile], settings: NodeSettings, options: LabelOptions, console: Console
) -> tuple[list[Outcome], bool]:
    """Labels the images under a progress bar; returns their outcomes and whether Ctrl-C came."""
    interrupt = Interrupt(console)
    outcomes: list[Outcome] = []

    def load() -> ImageSegmenter:
        progress.update(task, description="loading models")
        with interrupt.at_once():
            return load_segmenter(settings)

    now = TextColumn("{task.description}")
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), now)
    try:
        with Progress(*columns, console=console) as progress, interrupt, ExitStack() as stack:
            task = progress.add_task("", total=len(images))
            labelling = label_files(images, load, options, settings.classes)
            for outcome in stack.enter_context(closing(labelling)):
                outcomes.append(outcome)
                name = plain(outcome.image.path)
                progress.update(task, advance=1, description=name)
                if outcome.state is State.FAILED:
                    progress.console.print(
                        f"[red]failed:[/] {name}: {plain(outcome.problem)}", soft_wrap=True
                    )
                if interrupt.came:
                    break
    except KeyboardInterrupt:
        return outcomes, True
    return outcomes, interrupt.came


def _report(
    images: list[ImageFile], outcomes: list[Outcome], out: Path, interrupted: bool, console: Console
) -> int:
    counts = Counter(outcome.state for outcome in outcomes)
    parts = [f"{counts[state]} {state.value}" for state in State if counts[state]]
    console.print(f"{', '.join(parts) or 'nothing done'}; results in {plain(out)}")
    failures = [outcome for outcome in outcomes if outcome.state is State.FAILED]
    if failures:
        console.print("[red]These images have no results:[/]")
        for outcome in failures:
            console.print(
                f"  {plain(outcome.image.path)}: {plain(outcome.problem)}", soft_wrap=True
            )
    if interrupted and len(outcomes) < len(images):
        console.print(
            f"Stopped after {len(outcomes)} of {len(images)} images. "
            "Start the same command again to go on from there."
        )
        return INTERRUPTED
    return FAILED if failures else 0
