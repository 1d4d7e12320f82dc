"""Alerts: they begin when something fits a phrase, and end when it does no more, once each."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from zgs_ros.classes.groups import ClassError
from zgs_ros.classes.watching import MAX_WATCHES, Alert, Watch, Watcher, checked_watches
from zgs_ros.segmentation import Roi, Segment, Segmentation

MAX_AGE = 2.0


def embed(text: str) -> NDArray[np.float32]:
    return np.array([1.0, 0.0] if text == "fire" else [0.0, 1.0], np.float32)


def seen(*cosines: float, tracked: bool = True) -> Segmentation:
    """Segments with these cosines with "fire", each of a track of its own; NaN: out of sight."""
    label_map = np.arange(1, len(cosines) + 1, dtype=np.uint16)[None]
    segments = tuple(
        Segment(
            number,
            (),
            Roi(number - 1, 0, 1, 1),
            1,
            (0.0, 0.0),
            np.array([cosine, math.sqrt(1 - cosine**2)], np.float32),
            track_id=number if tracked else 0,
        )
        for number, cosine in enumerate(cosines, start=1)
        if not math.isnan(cosine)
    )
    return Segmentation(label_map, segments)


def watcher(*watches: Watch) -> Watcher:
    made = Watcher(embed)
    made.replace_watches(watches)
    made.embed_some()
    return made


FIRE = Watch("fire", 0.5, 0.1)
GONE = math.nan
CASES: dict[str, tuple[list[list[float]], list[str]]] = {
    "once while it is seen": ([[0.6], [0.7], [0.6]], ["0 begins 1"]),
    "not below the threshold": ([[0.49], [0.45]], []),
    "what wavers within the margin goes on": ([[0.5], [0.45], [0.5]], ["0 begins 1"]),
    "over below the margin": ([[0.5], [0.39], [0.45]], ["0 begins 1", "1 ends 1"]),
    "and again": ([[0.5], [0.3], [0.6]], ["0 begins 1", "1 ends 1", "2 begins 1"]),
    "each track by itself": ([[0.6, 0.1], [0.6, 0.7]], ["0 begins 1", "1 begins 2"]),
    "out of sight for short": ([[0.6], [GONE], [0.6]], ["0 begins 1"]),
    "out of sight for long": ([[0.6], [GONE], [GONE], [GONE]], ["0 begins 1", "3 ends 1"]),
}


@pytest.mark.parametrize("case", CASES)
def test_alerts_begin_and_end(case: str) -> None:
    images, expected = CASES[case]
    made, told = watcher(FIRE), []
    for second, cosines in enumerate(images):
        for alert in made.look("front", seen(*cosines), second, MAX_AGE):
            told.append(f"{second} {'begins' if alert.active else 'ends'} {alert.segment.track_id}")
    assert told == expected


def test_without_tracks_the_best_segment_stands_for_all() -> None:
    made = watcher(FIRE)
    [alert] = made.look("", seen(0.6, 0.9, 0.7, tracked=False), 0.0, MAX_AGE)
    assert (alert.active, alert.segment.id) == (True, 2)
    assert alert.score == pytest.approx(0.9)
    assert made.look("", seen(0.1, 0.6, tracked=False), 1.0, MAX_AGE) == []


def test_a_margin_of_0_is_a_small_one() -> None:
    made = watcher(Watch("fire", 0.5))
    scores = [0.5, 0.495, 0.48]
    told = [made.look("", seen(score), number, MAX_AGE) for number, score in enumerate(scores)]
    assert [[alert.active for alert in alerts] for alerts in told] == [[True], [], [False]]


def test_each_camera_sees_for_itself_and_a_jump_of_time_ends_what_was() -> None:
    made = watcher(FIRE)
    assert len(made.look("front", seen(0.6), 10.0, MAX_AGE)) == 1
    assert len(made.look("left", seen(0.6), 10.0, MAX_AGE)) == 1
    told = made.look("front", seen(GONE), 5.0, MAX_AGE)
    assert [alert.active for alert in told] == [False]


def test_what_goes_on_being_watched_for_is_not_told_again() -> None:
    made = watcher(FIRE)
    made.look("", seen(0.6), 0.0, MAX_AGE)
    made.replace_watches([FIRE, Watch("water", 0.9)])
    assert made.missing == 1, "only the new phrase is embedded"
    assert made.look("", seen(0.6), 1.0, MAX_AGE) == []
    made.replace_watches([])
    assert made.look("", seen(0.6), 2.0, MAX_AGE) == []


def test_an_image_without_segments_is_no_trouble() -> None:
    empty = Segmentation(np.zeros((1, 1), np.uint16), ())
    alerts: list[Alert] = watcher(FIRE).look("", empty, 0.0, MAX_AGE)
    assert alerts == []


@pytest.mark.parametrize(
    ("watches", "problem"),
    [
        ([Watch("", 0.3)], "a phrase to watch for is empty"),
        ([Watch("x" * 300, 0.3)], "has 300 characters, at most 200"),
        ([Watch("fire", 0.3), Watch(" fire", 0.4)], "'fire' is to be watched for twice"),
        ([Watch("fire", 1.5)], r"the threshold of 'fire' must be a cosine in -1 .. 1"),
        ([Watch("fire", math.nan)], "got nan"),
        ([Watch("fire", 0.3, math.inf)], r"the margin of 'fire' must be in 0 .. 2, got inf"),
        (
            [Watch("fire", 0.3)] * (MAX_WATCHES + 1),
            "there are 101 phrases to watch for, at most 100",
        ),
    ],
)
def test_what_can_not_be_watched_for_is_refused(watches: list[Watch], problem: str) -> None:
    with pytest.raises(ClassError, match=problem):
        checked_watches(watches)
