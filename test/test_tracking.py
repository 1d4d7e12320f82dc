"""Tracking: the same thing keeps its id, and its label does not flicker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from zgs_ros.config import TrackingSettings
from zgs_ros.evaluation.noisy_vision import NoisyVision
from zgs_ros.evaluation.tracking import TrackingScore, match_truth, score_tracking
from zgs_ros.segmentation import Label, Roi, Segment, Segmentation
from zgs_ros.tracking import Tracker

HEIGHT, WIDTH = 60, 80
LOOKS = {
    "floor": (1.0, 0.0, 0.0),
    "mug": (0.0, 1.0, 0.0),
    "twin": (0.0, 1.0, 0.0),
    "chair": (0.0, 0.0, 1.0),
}
Box = tuple[int, int, int, int]
"""Left, top, width, height."""


def segment(number: int, mask: NDArray[np.bool_], look: Any, *labels: Label) -> Segment:
    rows, columns = np.nonzero(mask)
    left, top = int(columns.min()), int(rows.min())
    return Segment(
        id=number,
        labels=labels,
        roi=Roi(left, top, int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1),
        area=len(rows),
        centroid=(float(columns.mean()), float(rows.mean())),
        embedding=np.asarray(look, np.float32),
    )


def picture(things: Mapping[str, Box], size: tuple[int, int] = (HEIGHT, WIDTH)) -> Segmentation:
    """Boxes on a floor, in an order of numbers that changes with the things."""
    label_map = np.ones(size, np.uint16)
    names = ["floor", *things]
    for number, (left, top, width, height) in enumerate(things.values(), start=2):
        label_map[max(top, 0) : top + height, max(left, 0) : left + width] = number
    present = [number for number in range(1, len(names) + 1) if (label_map == number).any()]
    return Segmentation(
        label_map,
        tuple(
            segment(n, label_map == n, LOOKS[names[n - 1]], Label(names[n - 1], 0.5))
            for n in present
        ),
        "boxes",
    )


class Film:
    """A tracker that is shown pictures; tells who has which id."""

    def __init__(self, rate: float = 10.0, **settings: Any) -> None:
        self.tracker = Tracker(TrackingSettings(**settings))
        self.now, self._step = 100.0, 1.0 / rate

    def show(self, size: tuple[int, int] = (HEIGHT, WIDTH), **things: Box) -> dict[str, int]:
        self.now += self._step
        seen = self.tracker.update(picture(things, size), self.now)
        return {segment.label: segment.track_id for segment in seen.segments}


def test_ids_begin_at_one_and_stay_while_things_stand_still() -> None:
    film = Film()
    first = film.show(mug=(10, 10, 20, 20), chair=(50, 20, 20, 30))
    assert sorted(first.values()) == [1, 2, 3]
    for _ in range(5):
        assert film.show(chair=(50, 20, 20, 30), mug=(10, 10, 20, 20)) == first


@pytest.mark.parametrize("step", [1, 5, 10, 15])
def test_a_moving_thing_keeps_its_id(step: int) -> None:
    film = Film()
    [first, *later] = [film.show(mug=(x, 10, 10, 10)) for x in range(0, 70, step)]
    assert later == [first] * len(later)


def test_things_that_look_the_same_are_told_apart_by_their_place() -> None:
    film = Film(smoothing=0)
    first = film.show(mug=(5, 10, 10, 10), twin=(60, 10, 10, 10))
    for x in range(5, 21):
        assert film.show(mug=(x, 10, 10, 10), twin=(65 - x, 10, 10, 10)) == first


def test_things_in_the_same_place_are_told_apart_by_their_look() -> None:
    film = Film()
    first = film.show(mug=(20, 10, 20, 20), chair=(40, 10, 20, 20))
    # Both half way into the other's place: the masks alone say nothing.
    assert film.show(mug=(30, 10, 20, 10), chair=(30, 20, 20, 10)) == first


@pytest.mark.parametrize(
    ("hidden_frames", "max_age", "keeps"),
    [(5, 2.0, True), (15, 2.0, True), (25, 2.0, False), (25, 3.0, True), (1, 0.05, False)],
)
def test_a_thing_that_was_hidden_is_known_again_within_max_age(
    hidden_frames: int, max_age: float, keeps: bool
) -> None:
    film = Film(max_age=max_age)
    before = film.show(mug=(20, 20, 10, 10))
    for _ in range(hidden_frames):
        assert "mug" not in film.show()
    after = film.show(mug=(23, 20, 10, 10))
    assert (after["mug"] == before["mug"]) == keeps
    assert film.show(mug=(23, 20, 10, 10)) == after


def test_a_thing_that_passes_behind_another_comes_out_as_itself() -> None:
    film = Film()
    chair = (30, 0, 20, 60)
    ids = set()
    for x in range(0, 70, 2):
        shown = {} if 20 < x < 50 else {"mug": (x, 20, 10, 10)}
        ids.add(film.show(**shown, chair=chair).get("mug"))
    assert len(ids - {None}) == 1


def test_a_stranger_where_something_was_lost_is_somebody_else() -> None:
    film = Film()
    before = film.show(mug=(5, 5, 10, 10))
    film.show()
    after = film.show(chair=(55, 40, 20, 15))
    assert after["chair"] not in before.values()


def test_an_id_is_never_given_to_two_segments() -> None:
    film = Film()
    film.show(mug=(10, 10, 30, 30))
    halves = film.show(mug=(10, 10, 15, 30), twin=(25, 10, 15, 30))
    assert len(set(halves.values())) == 3


STARTS = [
    ("a jump back in time", {"now": -50.0}, {}),
    ("another size of image", {}, {"size": (30, 80)}),
]


@pytest.mark.parametrize(("why", "clock", "changes"), STARTS)
def test_tracks_start_anew_after(why: str, clock: dict[str, float], changes: dict) -> None:
    film = Film()
    before = film.show(mug=(10, 10, 10, 10))
    film.now += clock.get("now", 0.0)
    after = film.show(**changes, mug=(10, 10, 10, 10))
    assert not set(before.values()) & set(after.values()), why


def test_tracks_start_anew_with_another_embedding_space() -> None:
    tracker = Tracker(TrackingSettings())
    first = tracker.update(picture({}), 1.0)
    other = replace(picture({}), model="other")
    wide = replace(other, segments=tuple(replace(s, embedding=np.ones(7)) for s in other.segments))
    assert tracker.update(wide, 1.1).segments[0].track_id != first.segments[0].track_id


def test_pictures_without_segments_or_embeddings_are_tracked_too() -> None:
    tracker = Tracker(TrackingSettings())
    empty = Segmentation(np.zeros((HEIGHT, WIDTH), np.uint16), (), "boxes")
    assert tracker.update(empty, 1.0).segments == ()
    boxes = picture({"mug": (10, 10, 10, 10)})
    none = np.empty(0, np.float32)
    bare = replace(boxes, segments=tuple(replace(s, embedding=none) for s in boxes.segments))
    ids = [[s.track_id for s in tracker.update(bare, 1.0 + n).segments] for n in range(1, 4)]
    assert ids == [[1, 2]] * 3
    assert tracker.update(empty, 5.0).segments == ()


def test_what_is_no_label_or_id_stays_as_it_was() -> None:
    seen = picture({"mug": (10, 10, 20, 20)})
    tracked = Tracker(TrackingSettings()).update(seen, 1.0)
    assert tracked.label_map is seen.label_map
    assert [replace(s, track_id=0).__dict__ for s in tracked.segments] == [
        s.__dict__ for s in seen.segments
    ]


def test_large_pictures_with_thin_things_are_tracked() -> None:
    film = Film()
    big = (1080, 1920)
    first = film.show(size=big, mug=(500, 0, 1, 1080), chair=(1000, 500, 2, 2))
    assert film.show(size=big, mug=(501, 0, 1, 1080), chair=(1001, 500, 2, 2)) == first


@pytest.mark.parametrize(
    ("smoothing", "shown"),
    [
        (0.0, ["cup", "mug", "cup", "cup", "mug"]),
        (1.0, ["cup", "cup", "cup", "cup", "cup"]),
    ],
)
def test_a_label_that_wins_now_and_then_shows_only_without_smoothing(
    smoothing: float, shown: list[str]
) -> None:
    tracker = Tracker(TrackingSettings(smoothing=smoothing))
    readings = [(0.32, 0.30), (0.30, 0.31), (0.33, 0.29), (0.32, 0.30), (0.30, 0.31)]
    got = []
    for frame, (cup, mug) in enumerate(readings):
        labels = sorted([Label("cup", cup), Label("mug", mug)], key=lambda label: -label.score)
        [seen] = picture({}).segments
        seen = replace(seen, labels=tuple(labels))
        frame_seen = replace(picture({}), segments=(seen,))
        got.append(tracker.update(frame_seen, 0.1 * frame).segments[0])
    assert [segment.label for segment in got] == shown
    assert all(a.score >= b.score for s in got for a, b in [s.labels])
    if smoothing:
        assert got[1].score == pytest.approx((0.32 * np.exp(-0.1) + 0.30) / (1 + np.exp(-0.1)))


def test_probabilities_are_averaged_like_scores() -> None:
    tracker = Tracker(TrackingSettings(smoothing=1.0))
    [seen] = picture({}).segments
    frames = [(Label("cup", 0.3, 0.9),), (Label("cup", 0.3, 0.5),), (Label("cup", 0.3),)]
    got = [
        tracker.update(replace(picture({}), segments=(replace(seen, labels=labels),)), 0.1 * number)
        for number, labels in enumerate(frames)
    ]
    first, second, unknown = (frame.segments[0].labels[0].probability for frame in got)
    assert first == pytest.approx(0.9)
    assert second == pytest.approx((0.9 * np.exp(-0.1) + 0.5) / (1 + np.exp(-0.1)))
    assert unknown is None


def test_a_label_follows_when_the_thing_really_changes() -> None:
    tracker = Tracker(TrackingSettings(smoothing=1.0))
    got = []
    for frame in range(60):
        [seen] = picture({}).segments
        best, other = ("closed door", "open door") if frame < 30 else ("open door", "closed door")
        seen = replace(seen, labels=(Label(best, 0.3), Label(other, 0.2)))
        tracked = tracker.update(replace(picture({}), segments=(seen,)), 0.1 * frame)
        got.append(tracked.segments[0].label)
    changes = [frame for frame in range(1, 60) if got[frame] != got[frame - 1]]
    assert len(changes) == 1
    assert 31 <= changes[0] <= 40, "about a time constant later, once"


@pytest.mark.parametrize(
    ("cosine", "shown"), [(0.9, ["floor", "floor"]), (0.5, ["water", "water"])], ids=str
)
def test_what_looks_different_in_the_same_place_has_labels_of_its_own(
    cosine: float, shown: list[str]
) -> None:
    """As behind a cut in a film."""
    tracker = Tracker(TrackingSettings(smoothing_similarity=0.6))
    floor, water = Label("floor", 0.5), Label("water", 0.4)
    [seen] = picture({}).segments
    look = np.array([cosine, np.sqrt(1 - cosine**2), 0.0], np.float32)
    before = replace(seen, labels=(floor, replace(water, score=0.2)))
    after = replace(seen, labels=(water, replace(floor, score=0.3)), embedding=look)
    got = [
        tracker.update(replace(picture({}), segments=(part,)), 0.1 * number).segments[0]
        for number, part in enumerate([*[before] * 20, after, after])
    ]
    assert [segment.label for segment in got[:20]] == ["floor"] * 20
    assert [segment.label for segment in got[20:]] == shown
    assert len({segment.track_id for segment in got}) == 1


def test_a_segment_without_labels_gets_those_of_its_track_only_if_it_reports_some() -> None:
    tracker = Tracker(TrackingSettings())
    [named] = picture({}).segments
    for number, labels in enumerate([(Label("floor", 0.5),), (), (Label("floor", 0.4),)]):
        frame = replace(picture({}), segments=(replace(named, labels=labels),))
        [seen] = tracker.update(frame, 0.1 * number).segments
        assert len(seen.labels) == len(labels)


SEGMENT = picture({}).segments[0]
SEQUENCES: list[tuple[str, list[dict[int, tuple[int, str]]], TrackingScore]] = [
    ("nothing", [], TrackingScore(0, 0, 0, 0, 0, 0)),
    ("steady", [{1: (5, "a")}] * 4, TrackingScore(4, 1, 4, 0, 0, 0)),
    (
        "there and back: two switches, one further id",
        [{1: (5, "a")}, {1: (6, "a")}, {}, {1: (5, "b")}],
        TrackingScore(4, 1, 3, 2, 1, 1),
    ),
    (
        "two things swap ids",
        [{1: (5, "a"), 2: (6, "b")}, {1: (6, "a"), 2: (5, "b")}],
        TrackingScore(2, 2, 4, 2, 2, 0),
    ),
]


@pytest.mark.parametrize(("what", "frames", "expected"), SEQUENCES)
def test_switches_fragments_and_flips_are_counted(
    what: str, frames: list[dict[int, tuple[int, str]]], expected: TrackingScore
) -> None:
    sequence = [
        {
            thing: replace(SEGMENT, track_id=track, labels=(Label(label, 0.5),))
            for thing, (track, label) in frame.items()
        }
        for frame in frames
    ]
    score = score_tracking(sequence)
    assert score == expected, what
    assert score.per_100_frames(1) == pytest.approx(100 / max(score.frames, 1))


def test_segments_are_matched_to_the_things_that_they_show() -> None:
    seen = picture({"mug": (10, 10, 10, 10), "chair": (40, 10, 20, 20)})
    truth = np.full((HEIGHT, WIDTH), 100, np.uint16)
    truth[10:20, 10:16] = 7  # 60 of the mug's 100 pixels
    truth[10:30, 40:48] = 8  # 160 of the chair's 400
    matched = match_truth(truth, seen)
    assert {thing: segment.label for thing, segment in matched.items()} == {100: "floor", 7: "mug"}


def world(seed: int, frames: int) -> tuple[dict[int, str], Iterator[NDArray[np.uint16]]]:
    from zgs_ros.synthetic import SyntheticCamera

    camera = SyntheticCamera(seed, height=72, width=96, rate_hz=10.0)
    names = {number: thing.phrase for number, thing in camera.things.items()}
    return names, (camera.frame(index).instances for index in range(frames))


def track(seed: int, frames: int) -> tuple[TrackingScore, TrackingScore]:
    """Scores of the same segments with and without smoothing."""
    names, truths = world(seed, frames)
    vision = NoisyVision(names, seed=seed)
    trackers = [Tracker(TrackingSettings(smoothing=seconds)) for seconds in (2.0, 0.0)]
    seen: list[list[dict[int, Segment]]] = [[], []]
    for frame, truth in enumerate(truths):
        segmentation = vision.see(truth)
        for tracker, matched in zip(trackers, seen, strict=True):
            matched.append(match_truth(truth, tracker.update(segmentation, 0.1 * frame)))
    smooth, raw = (score_tracking(matched) for matched in seen)
    return smooth, raw


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_on_the_synthetic_camera_at_10_hz_ids_hold_and_labels_do_not_flicker(seed: int) -> None:
    smooth, raw = track(seed, 100)
    assert smooth.observations > 400
    assert smooth.per_100_frames(smooth.switches) <= 2
    assert raw.flips > 50, "the noise makes labels flicker"
    assert smooth.flips <= raw.flips / 2
