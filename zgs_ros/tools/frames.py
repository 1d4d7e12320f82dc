"""Results as a viewer has them, and the folder they are saved to."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

from zgs_ros.files.ownership import MARK, is_own_text, sole_writer, write_whole
from zgs_ros.segmentation import Segmentation, rounded

LIST, LOCK = ".zgs_recording", ".zgs_recording.lock"
"""Files in the folder: what was written to it, and who writes it now."""

MAX_LIST = 1 << 28
"""Largest list [bytes]: of three million pictures."""

MAX_LINE = 4096
MAX_OVERLAY = 1 << 27
"""Larger files are no overlays [bytes]."""

_OVERLAY = re.compile(r"\d{4,}(-\d+)?\.jpg", re.ASCII)


@dataclass(frozen=True, eq=False)
class Frame:
    """One result as it arrived.

    Attributes:
        number: Counts from 1.
        header: Of the input image.
        segmentation: What was seen.
        processing_time: Seconds that the node worked on it.
        latency: Seconds from the image's stamp to the arrival here; None for a stamp of another clock.
        overlay: JPEG file content, None where no overlay is saved.
    """

    number: int
    header: Any
    segmentation: Segmentation
    processing_time: float
    latency: float | None
    overlay: bytes | None = None

    def to_dict(self, overlay: str | None = None) -> dict[str, Any]:
        """JSON-ready description, one line of segments.jsonl.

        Args:
            overlay: Name of its overlay's file, None where there is none.
        """
        stamp = self.header.stamp
        return {
            "frame": self.number,
            "stamp": {"sec": stamp.sec, "nanosec": stamp.nanosec},
            "frame_id": self.header.frame_id,
            "latency": rounded(self.latency, 4),
            "processing_time": rounded(self.processing_time, 4),
            "overlay": overlay,
            **self.segmentation.to_dict(),
        }


class FrameFolder:
    """Writes frames to a folder; what an earlier viewer left there is replaced.

    Nothing else is: a list in the folder says what viewers have written.

    Args:
        folder: Made if it is not there.

    Raises:
        zgs_ros.files.ownership.InUse: If another viewer writes there.
        FileExistsError: If segments.jsonl was not written by a viewer.
        OSError: If the folder can't be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._list, self._lines = folder / LIST, folder / "segments.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            stack.enter_context(sole_writer(folder / LOCK))
            is_own = any(name == self._lines.name for name, _ in self._written())
            if os.path.lexists(self._lines) and not (is_own and _is_file(self._lines)):
                raise FileExistsError(
                    f"{self._lines}: is there, and not written by zgs watch; move it away, or name another "
                    "folder"
                )
            for name, seal in self._written():
                if _OVERLAY.fullmatch(name) and _is_sealed(folder / name, seal):
                    (folder / name).unlink()
            entries = {"": MARK, self._lines.name: ""}
            write_whole(self._list, "".join(map(_line, entries.items())).encode())
            self._lines.write_text("")
            self._lock = stack.pop_all()

    def __enter__(self) -> FrameFolder:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def write(self, frame: Frame) -> None:
        """Adds a frame: its overlay, then its line, so that every line's picture exists."""
        name = None
        if frame.overlay:
            name = self._free_name(frame.number)
            with self._list.open("a", encoding="utf-8") as entries:
                entries.write(_line((name, _seal(frame.overlay))))
            write_whole(self._folder / name, frame.overlay)
        with self._lines.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(frame.to_dict(name), allow_nan=False) + "\n")

    def close(self) -> None:
        """Lets others write to the folder."""
        self._lock.close()

    def _free_name(self, number: int) -> str:
        """File name of a frame's overlay; a picture of the user's keeps its own."""
        names = chain([f"{number:04d}.jpg"], (f"{number:04d}-{again}.jpg" for again in count(2)))
        return next(name for name in names if not os.path.lexists(self._folder / name))

    def _written(self) -> Iterator[tuple[str, str]]:
        """Names and seals of what earlier viewers wrote."""
        if not is_own_text(self._list):
            if os.path.lexists(self._list):
                raise FileExistsError(
                    f"{self._list}: is there, and not written by zgs watch; move it away"
                )
            return
        if (size := self._list.stat().st_size) > MAX_LIST:
            raise FileExistsError(
                f"{self._list}: has {size} bytes, more than a list of pictures (at most {MAX_LIST}); "
                "move it away"
            )
        with self._list.open(encoding="utf-8", errors="replace", newline="\n") as lines:
            while line := lines.readline(MAX_LINE):
                seal, _, name = line.rstrip("\n").partition(" ")
                yield name, seal


def _line(entry: tuple[str, str]) -> str:
    name, seal = entry
    return f"{seal} {name}\n"


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _seal(data: bytes) -> str:
    return f"{len(data)}:{hashlib.sha256(data).hexdigest()}"


def _is_sealed(path: Path, seal: str) -> bool:
    """Whether a file is as it was written."""
    if not _is_file(path):
        return False
    size = path.stat().st_size
    if size > MAX_OVERLAY or str(size) != seal.partition(":")[0]:
        return False
    return _seal(path.read_bytes()) == seal
