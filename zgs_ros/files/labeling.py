"""Labels image files: overlay, label map and description of each, in runs that can be resumed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Generator, Iterable
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from zgs_ros import __version__
from zgs_ros.classes.classifier import load_classifier
from zgs_ros.classes.file import chosen_file
from zgs_ros.classes.registry import ClassRegistry
from zgs_ros.config import ClassesSettings, SegmenterSettings, flatten, list_settings
from zgs_ros.drawing import draw_overlay
from zgs_ros.files.images import BadImageFile, ImageFile, decode_image, read_image
from zgs_ros.files.results import LeadsOutside, NoPlace, ResultsFolder
from zgs_ros.labeling.vocabulary import load_vocabulary
from zgs_ros.pictures import MAX_PIXELS
from zgs_ros.rotation import segment_upright
from zgs_ros.segmentation import ImageSegmenter


class State(Enum):
    """What became of an image."""

    LABELLED = "labelled"
    UP_TO_DATE = "up to date"
    FAILED = "failed"


@dataclass(frozen=True)
class Outcome:
    """One image's result.

    Attributes:
        image: The image file.
        state: What became of it.
        output: Path of the results without their endings; None when there is no place for them.
        problem: What went wrong, "" when nothing did.
    """

    image: ImageFile
    state: State
    output: Path | None
    problem: str = ""


@dataclass(frozen=True)
class LabelOptions:
    """How images are labelled and where the results go.

    Attributes:
        out: Folder of the results; nothing is ever written outside it.
        settings_key: `settings_key` of the settings that the segmenter was made with.
        embeddings: Whether the description holds the segments' embeddings.
        overwrite: Whether to redo images whose results are up to date.
        opacity: Of the overlay's tint, 0 .. 1.
        max_pixels: Largest image that is accepted.
        rotation: By how many degrees clockwise the images are turned to be upright.
    """

    out: Path
    settings_key: str
    embeddings: bool = False
    overwrite: bool = False
    opacity: float = 0.35
    max_pixels: int = MAX_PIXELS
    rotation: int = 0


def settings_key(settings: SegmenterSettings) -> str:
    """A text that differs when the settings, or the files that they name, would give other results.

    Raises:
        zgs_ros.labeling.vocabulary.VocabularyError: If the vocabulary can't be used.
    """
    labeling = settings.labeling
    values = flatten(settings)
    names = [setting.path for setting in list_settings(SegmenterSettings)]
    parts: list[Any] = [__version__, {name: values[name] for name in names}]
    parts.append(load_vocabulary(labeling.vocabulary, labeling.extra_vocabulary))
    for weights in (settings.dino.weights, settings.clip.weights):
        if weights and os.path.exists(weights):
            state = os.stat(weights)
            parts.append((weights, state.st_size, state.st_mtime_ns))
    return _digest(json.dumps(parts).encode())


def classes_key(settings: ClassesSettings) -> str:
    """A text that differs when segments would be of other classes, but for the numbers of labels.

    Raises:
        zgs_ros.classes.groups.ClassError: If the file of classes can't be used.
    """
    registry = ClassRegistry(chosen_file(settings.file), patience=None)
    return _digest(json.dumps([settings.open, [asdict(g) for g in registry.groups]]).encode())


def label_files(
    images: Iterable[ImageFile],
    load: Callable[[], ImageSegmenter],
    options: LabelOptions,
    classes: ClassesSettings | None = None,
) -> Generator[Outcome, None, None]:
    """Labels images one after the other; a bad one costs only itself.

    Per image ``<name>.overlay.png``, ``<name>.labels.png`` (16 bit, 0 = none, otherwise the
    segment's id) and ``<name>.json`` are written. An image is passed over when all three are there
    and come from the same content, settings and models. Between two outcomes nothing is half done,
    so that a caller may stop at any of them.

    Args:
        images: What to label.
        load: Makes the segmenter. Called once, when the first image needs it; what it raises is
            passed on.
        options: Where to and how.
        classes: Which class each segment is of; None for none.

    Raises:
        zgs_ros.files.results.CannotWrite: If results can't be written, which would be no different
            for the next image.
        zgs_ros.files.ownership.InUse: If another run writes to the folder.
        zgs_ros.classes.groups.ClassError: If the file of classes can't be used.
    """
    folder = ResultsFolder(options.out)
    with folder.held():
        run = _Run(load, options, folder, classes)
        for image in images:
            yield run.label(image)


class _Run:
    """What lives as long as a run: the results' names and, once it is needed, the segmenter."""

    def __init__(
        self,
        load: Callable[[], ImageSegmenter],
        options: LabelOptions,
        folder: ResultsFolder,
        classes: ClassesSettings | None,
    ) -> None:
        self._classifier = classes and load_classifier(
            classes, lambda phrases: self._models().embed_phrases(phrases), patience=None
        )
        self._load = load
        self._options = options
        self._folder = folder
        self._segmenter: ImageSegmenter | None = None

    def label(self, image: ImageFile) -> Outcome:
        try:
            output = self._folder.claim(image)
        except LeadsOutside as error:
            return Outcome(image, State.FAILED, None, str(error))
        try:
            data = read_image(image.path)
            fingerprint = _fingerprint(data, self._options)
            if not self._options.overwrite and self._folder.is_up_to_date(output, fingerprint):
                return Outcome(image, State.UP_TO_DATE, output)
            pixels = decode_image(data, self._options.max_pixels)
        except OSError as error:
            problem = f"can't be read: {error.strerror or error}"
            return Outcome(image, State.FAILED, output, problem)
        except BadImageFile as error:
            return Outcome(image, State.FAILED, output, str(error))
        models = self._models()
        if self._classifier and self._classifier.missing:
            self._classifier.embed_some()
        try:
            [segmentation] = segment_upright(models, [pixels], [self._options.rotation])
            if self._classifier:
                segmentation = self._classifier.find_classes(segmentation)
            overlay = draw_overlay(pixels, segmentation, self._options.opacity)
        except Exception as error:  # whatever it is, it need not happen to the other images
            problem = f"segmenting failed: {type(error).__name__}: {error}"
            return Outcome(image, State.FAILED, output, problem)
        description = {
            "file": image.name.as_posix(),
            "source": self._folder.source(image),
            "fingerprint": fingerprint,
            **segmentation.to_dict(self._options.embeddings),
        }
        try:
            self._folder.write(output, overlay, segmentation.label_map, description)
        except NoPlace as error:
            return Outcome(image, State.FAILED, output, str(error))
        return Outcome(image, State.LABELLED, output)

    def _models(self) -> ImageSegmenter:
        if self._segmenter is None:
            self._segmenter = self._load()
        return self._segmenter


def _fingerprint(data: bytes, options: LabelOptions) -> str:
    what = (options.embeddings, options.opacity, options.rotation)
    parts = (options.settings_key, _digest(data), *what)
    return _digest(json.dumps(parts).encode())


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
