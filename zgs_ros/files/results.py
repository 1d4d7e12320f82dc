"""The folder that results of image files are written to: names, what is done, and whole files only."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from zgs_ros.files.images import ImageFile
from zgs_ros.files.ownership import is_own_png, marked_png, sole_writer, write_whole

OVERLAY, LABELS, DESCRIPTION = ".overlay.png", ".labels.png", ".json"
"""Endings of the three files that are written for an image."""

_LONGEST_NAME = 200
_LONGEST_DESCRIPTION = 1 << 28
_LOCK = ".zgs_label.lock"
_IN_THE_WAY = (errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ELOOP)
"""Errors that are of one name, and not of the folder."""
_FOREIGN = "?"
"""Stands for the owner of files that no run has written, such as the annotations of a data set."""


class CannotWrite(RuntimeError):
    """Results that can't be written; the message names them and the reason."""


class LeadsOutside(ValueError):
    """A link because of which results would land outside the folder; the message names it."""


class NoPlace(ValueError):
    """Results of one image that something is in the way of; the message names it."""


class ResultsFolder:
    """Gives each image a name of its own in a folder, the same one in every run, and writes there.

    An image is called as in its folder, without its ending. Where an image of another name has
    that, the ending is kept; where an image of the same name in another folder has it, the folder
    goes in front; where that does not help, a number goes behind. What no run has written, links
    among it, is never replaced: pictures that are written are marked, and descriptions have a
    fingerprint.

    Args:
        path: The folder; it is made with the first result. Nothing is written outside it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.resolve()
        self._taken: dict[str, str] = {}

    @contextmanager
    def held(self) -> Iterator[None]:
        """The folder, made if it is not there, as this run's alone for the length of the block.

        Raises:
            zgs_ros.files.ownership.InUse: If another run writes there.
            CannotWrite: If nobody can.
        """
        with ExitStack() as stack:
            try:
                self._path.mkdir(parents=True, exist_ok=True)
                stack.enter_context(sole_writer(self._path / _LOCK))
            except OSError as error:
                raise CannotWrite(f"{self._path}: can't be written ({error})") from error
            yield

    def source(self, image: ImageFile) -> str:
        """Path of an image as seen from the folder, so that both can be moved together."""
        return Path(os.path.relpath(os.path.abspath(image.path), self._path)).as_posix()

    def claim(self, image: ImageFile) -> Path:
        """Path of an image's results without their endings; no other image of this run gets it.

        Raises:
            LeadsOutside: If a link would take the results elsewhere.
        """
        source = self.source(image)
        free = None
        for name in map(_shortened, self._candidates(image)):
            owner = self._owner(name)
            if owner == source:
                free = name
                break
            if free is None and (owner is None or self._is_gone(owner)):
                free = name
            if owner is None:
                break
        assert free is not None
        self._taken[str(free).casefold()] = source
        output = self._path / free
        if not output.parent.resolve().is_relative_to(self._path):
            raise LeadsOutside(f"{output.parent} leads out of {self._path}; remove that link")
        return output

    def is_up_to_date(self, output: Path, fingerprint: str) -> bool:
        """Whether all results of an image are there and were made with this fingerprint."""
        if not all(_with_ending(output, ending).is_file() for ending in (OVERLAY, LABELS)):
            return False
        description = _read_description(_with_ending(output, DESCRIPTION))
        return description.get("fingerprint") == fingerprint

    def write(
        self,
        output: Path,
        overlay: NDArray[np.uint8],
        label_map: NDArray[np.uint16],
        description: dict[str, Any],
    ) -> None:
        """Writes an image's results.

        Args:
            output: What `claim` returned.
            overlay: uint8 RGB (height, width, 3).
            label_map: uint16 (height, width).
            description: JSON-ready; ``source`` and ``fingerprint`` are found again by later runs.

        Raises:
            NoPlace: If this image's results can't be written, such as where a folder has their name.
            CannotWrite: If no results can.
        """
        text = json.dumps(description, indent=1, ensure_ascii=False)
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            write_whole(_with_ending(output, OVERLAY), _png(overlay[..., ::-1]))
            write_whole(_with_ending(output, LABELS), _png(label_map))
            # Last, because what it says of the other two must be true.
            data = text.encode("utf-8", "backslashreplace")
            write_whole(_with_ending(output, DESCRIPTION), data)
        except OSError as error:
            if error.errno in _IN_THE_WAY:
                raise NoPlace(f"{output}: can't be written ({error.strerror})") from error
            raise CannotWrite(f"{output}: can't be written ({error.strerror or error})") from error

    def _candidates(self, image: ImageFile) -> Iterator[Path]:
        stem = image.name.with_suffix("")
        yield stem
        owner = self._owner(_shortened(stem))
        if owner is None or Path(owner).name != image.name.name:
            yield image.name
        yield image.folder / stem
        yield image.folder / image.name
        number = 2
        while True:
            yield stem.with_name(f"{stem.name}-{number}")
            number += 1

    def _owner(self, name: Path) -> str | None:
        """Source of the image that has a name, in this run or an earlier one; None if nobody has."""
        taken = self._taken.get(str(name).casefold())
        if taken is not None:
            return taken
        output = self._path / name
        pictures = [_with_ending(output, ending) for ending in (OVERLAY, LABELS)]
        if any(os.path.lexists(path) and not is_own_png(path) for path in pictures):
            return _FOREIGN
        path = _with_ending(output, DESCRIPTION)
        if not os.path.lexists(path):
            return None
        description = _read_description(path)
        return str(description["source"]) if _is_own(description) else _FOREIGN

    def _is_gone(self, source: str) -> bool:
        """Whether the image of an earlier run was moved or removed, so that its name can be had."""
        if source in (_FOREIGN, *self._taken.values()):
            return False
        try:
            return not (self._path / source).exists()
        except (OSError, ValueError):  # a description that was changed: that is no path
            return False


def is_result(path: Path, folder: Path) -> bool:
    """Whether a picture is a result, in this folder or of an earlier run, so not one to label."""
    for ending in (OVERLAY, LABELS):
        if path.name.endswith(ending):
            description = path.with_name(path.name.removesuffix(ending) + DESCRIPTION)
            is_inside = path.parent.resolve().is_relative_to(folder.resolve())
            return is_inside or _is_own(_read_description(description))
    return False


def _is_own(description: dict[str, Any]) -> bool:
    return {"fingerprint", "source"} <= description.keys()


def _read_description(path: Path) -> dict[str, Any]:
    """The description at a path, or nothing where there is none that can be read."""
    try:
        if path.is_symlink() or not path.is_file():
            return {}
        with path.open("rb") as file:
            description = json.loads(file.read(_LONGEST_DESCRIPTION))
    except (OSError, ValueError, RecursionError):
        return {}
    return description if isinstance(description, dict) else {}


def _shortened(name: Path) -> Path:
    """A name that file systems accept with an ending behind it."""
    encoded = os.fsencode(name.name)
    if len(encoded) <= _LONGEST_NAME:
        return name
    return name.with_name(f"{name.name[:40]}-{hashlib.sha256(encoded).hexdigest()[:12]}")


def _with_ending(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _png(pixels: NDArray[Any]) -> bytes:
    return marked_png(bytes(cv2.imencode(".png", pixels)[1]))
