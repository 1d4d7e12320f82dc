"""What the page shows: the newest frame of every camera and the node's health, as JSON."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zgs_ros.drawing.palette import colour_of
from zgs_ros.segmentation import Segment, Segmentation, rounded

KEPT_FRAMES = 4
"""Frames whose overlay can still be fetched: who has just heard of one may be a little late."""

RATE_FRAMES = 20
"""Frames that the rate is told from."""

ALTERNATIVES = 2


@dataclass(frozen=True, eq=False)
class Picture:
    """One result with its overlay.

    Attributes:
        segmentation: What was seen.
        overlay: JPEG file content.
        stamp_ns: Of the image.
        latency: Seconds from the image's stamp to its arrival here; None for a stamp of another clock.
        processing_time: Seconds that the node worked on it.
    """

    segmentation: Segmentation
    overlay: bytes
    stamp_ns: int
    latency: float | None
    processing_time: float


@dataclass(frozen=True)
class Health:
    """How the node, or one of its cameras, says that it is.

    Attributes:
        level: 0 = OK, 1 = warning, 2 = error, as in diagnostic_msgs.
        message: One line.
        values: Numbers and facts by their names.
    """

    level: int
    message: str
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(eq=False)
class _Camera:
    number: int = 0
    pictures: dict[int, Picture] = field(default_factory=dict)
    arrivals: deque[float] = field(default_factory=lambda: deque(maxlen=RATE_FRAMES))
    health: Health | None = None

    def add(self, picture: Picture) -> None:
        self.number += 1
        self.pictures[self.number] = picture
        self.pictures.pop(self.number - KEPT_FRAMES, None)
        self.arrivals.append(time.monotonic())


class Board:
    """Takes in news from one side and hands them out to any number of viewers, from any thread.

    Only what is newest is kept, so that a viewer who is slow misses frames and holds up nobody.

    Args:
        node: Full name of the node that is shown.
    """

    def __init__(self, node: str) -> None:
        self._node = node
        self._changed = threading.Condition()
        self._cameras: dict[str, _Camera] = {"": _Camera()}
        self._health: tuple[Health, float] | None = None
        self._notice = ""
        self._versions: Counter[str | None] = Counter()

    def show_picture(self, camera: str, picture: Picture) -> None:
        """Makes a picture the newest of its camera."""
        with self._changed:
            self._cameras.setdefault(camera, _Camera()).add(picture)
            self._advance(camera)

    def show_health(self, stream: Health, cameras: Mapping[str, Health]) -> None:
        """Shows how the node is, and which cameras with a name it has; none for a single one."""
        with self._changed:
            self._health = stream, time.monotonic()
            self._cameras = {name: self._cameras.get(name, _Camera()) for name in cameras or [""]}
            for name, health in cameras.items():
                self._cameras[name].health = health
            for gone in self._versions.keys() - {None, *self._cameras}:
                del self._versions[gone]
            self._advance(None)

    def show_notice(self, text: str) -> None:
        """Says what is missing, "" where nothing is."""
        with self._changed:
            if text != self._notice:
                self._notice = text
                self._advance(None)

    def state(self, camera: str = "", after: int = -1, seconds: float = 0.0) -> dict[str, Any]:
        """All that the page shows, JSON-ready.

        Args:
            camera: Whose picture; one that there is not gives the first one's.
            after: Version that the viewer has already: the answer waits for another one.
            seconds: That it waits at most.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._version(camera) != after, seconds)
            version = self._version(camera)
            name = camera if camera in self._cameras else next(iter(self._cameras))
            shown = self._cameras[name]
            return {
                "version": version,
                "node": self._node,
                "notice": self._notice,
                "cameras": [known for known in self._cameras if known],
                "camera": name,
                "frame": _frame(shown),
                "health": self._health and _health(*self._health),
                "camera_health": shown.health and _health(shown.health),
            }

    def overlay(self, camera: str = "", number: int = 0) -> bytes | None:
        """JPEG file content of a camera's frame, 0 for its newest; None where it is gone."""
        with self._changed:
            shown = self._cameras.get(camera)
            picture = shown and shown.pictures.get(number or shown.number)
            return picture.overlay if picture else None

    def _version(self, camera: str) -> int:
        return self._versions[None] + self._versions[camera]

    def _advance(self, camera: str | None) -> None:
        self._versions[camera] += 1
        self._changed.notify_all()


def describe_segments(
    segments: Sequence[Segment], size: tuple[int, int] | None = None
) -> list[dict[str, Any]]:
    """Segments as the page wants them.

    Args:
        segments: In the order in which they are shown.
        size: (height, width) of their image, for the share of it that each covers.
    """
    pixels = size[0] * size[1] if size else 0
    return [
        {
            "id": segment.id,
            "track": segment.track_id,
            "label": segment.label,
            "score": rounded(segment.score, 4),
            "others": [label.text for label in segment.alternatives[:ALTERNATIVES]],
            "colour": "#{:02x}{:02x}{:02x}".format(*colour_of(segment.label or f"#{segment.id}")),
            "box": [segment.roi.x, segment.roi.y, segment.roi.width, segment.roi.height],
            "share": segment.area / pixels if pixels else None,
            "position": segment.placement and [rounded(v, 4) for v in segment.placement.position],
        }
        for segment in segments
    ]


def _frame(camera: _Camera) -> dict[str, Any] | None:
    if not camera.number:
        return None
    picture, arrivals = camera.pictures[camera.number], camera.arrivals
    height, width = picture.segmentation.size
    span = arrivals[-1] - arrivals[0]
    by_area = sorted(picture.segmentation.segments, key=lambda segment: -segment.area)
    return {
        "number": camera.number,
        "stamp": picture.stamp_ns * 1e-9,
        "age": round(time.monotonic() - arrivals[-1], 3),
        "rate": round((len(arrivals) - 1) / span, 2) if span else None,
        "latency": rounded(picture.latency, 4),
        "processing_time": rounded(picture.processing_time, 4),
        "width": width,
        "height": height,
        "model": picture.segmentation.model,
        "segments": describe_segments(by_area, (height, width)),
    }


def _health(health: Health, since: float | None = None) -> dict[str, Any]:
    return {
        "level": health.level,
        "message": health.message,
        "values": dict(health.values),
        "age": None if since is None else round(time.monotonic() - since, 3),
    }
