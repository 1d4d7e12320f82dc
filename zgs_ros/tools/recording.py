"""Results as a viewer has them, and the folder they are recorded to."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zgs_ros.segmentation import Segmentation


@dataclass(frozen=True, eq=False)
class Frame:
    """One result as it arrived.

    Attributes:
        number: Counts from 1.
        header: Of the input image.
        segmentation: What was seen.
        processing_time: Seconds that the node worked on it.
        latency: Seconds from the image's stamp to the arrival here; None for a stamp of another clock.
        overlay: JPEG file content, None where no overlay is recorded.
    """

    number: int
    header: Any
    segmentation: Segmentation
    processing_time: float
    latency: float | None
    overlay: bytes | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready description, one line of segments.jsonl."""
        stamp = self.header.stamp
        return {
            "frame": self.number,
            "stamp": {"sec": stamp.sec, "nanosec": stamp.nanosec},
            "frame_id": self.header.frame_id,
            "latency": None if self.latency is None else round(self.latency, 4),
            "processing_time": round(self.processing_time, 4),
            "overlay": overlay_name(self.number) if self.overlay else None,
            **self.segmentation.to_dict(),
        }


class Recorder:
    """Writes frames to a folder; what an earlier recording left there is replaced."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if re.fullmatch(r"\d{4,}\.jpg", path.name):
                path.unlink()
        self._lines = folder / "segments.jsonl"
        self._lines.write_text("")

    def write(self, frame: Frame) -> None:
        """Adds a frame: its overlay, then its line, so that every line's picture exists."""
        if frame.overlay:
            (self._folder / overlay_name(frame.number)).write_bytes(frame.overlay)
        with self._lines.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(frame.to_dict()) + "\n")


def overlay_name(number: int) -> str:
    """File name of a frame's overlay."""
    return f"{number:04d}.jpg"
