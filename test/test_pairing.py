"""Which depth goes with which image: by their stamps, in whatever order and however late they come."""

from __future__ import annotations

import gc
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from zgs_ros.streaming.pairing import QUEUE_LENGTH, DepthFeed, Missing

INFO = SimpleNamespace()


def header(seconds: float) -> Any:
    nanoseconds = round(seconds * 1e9)
    stamp = SimpleNamespace(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)
    return SimpleNamespace(stamp=stamp)


def depth(seconds: float) -> Any:
    return SimpleNamespace(header=header(seconds))


def stamp(message: Any) -> float | None:
    return message and message.header.stamp.sec + message.header.stamp.nanosec * 1e-9


ORDERS: list[tuple[str, list[float], list[float], float | None]] = [
    ("depth first", [1.0], [], 1.0),
    ("depth later", [], [1.0], 1.0),
    ("a little apart", [0.96], [], 0.96),
    ("as far apart as may be", [0.95], [], 0.95),
    ("the nearer one, whatever comes first", [0.96, 1.01], [1.04], 1.01),
    ("the nearer one comes last", [0.96], [1.0], 1.0),
    ("too far apart", [0.9], [1.1], None),
    ("none at all", [], [], None),
    ("the image comes long after its depth", [1.0, 1.2, 1.4, 1.6], [], 1.0),
    ("as long after as the queue holds", [1.0 + 0.1 * n for n in range(QUEUE_LENGTH)], [], 1.0),
    ("longer", [1.0 + 0.1 * n for n in range(QUEUE_LENGTH + 1)], [], None),
    ("the depth comes long after its image", [], [0.8, 0.9, 1.0], 1.0),
]


@pytest.mark.parametrize(("what", "before", "after", "got"), ORDERS, ids=[o[0] for o in ORDERS])
def test_an_image_gets_the_depth_nearest_in_time(
    what: str, before: list[float], after: list[float], got: float | None
) -> None:
    feed = DepthFeed(slop=0.05)
    for seconds in before:
        feed.offer(depth(seconds))
    ticket = feed.expect(header(1.0))
    for seconds in after:
        feed.offer(depth(seconds))
    assert stamp(ticket.message) == (got and pytest.approx(got))


def test_slop_can_be_changed_and_zero_means_equal_stamps() -> None:
    feed = DepthFeed(slop=0.0)
    feed.offer(depth(1.001))
    assert feed.expect(header(1.0)).message is None
    assert feed.expect(header(1.001)).message is not None
    feed.slop = 0.01
    assert feed.expect(header(1.0)).message is not None


SETTLED: list[tuple[str, list[float], int, bool, bool]] = [
    ("nothing came", [], 0, True, False),
    ("depth with the image's stamp", [1.0], 0, True, True),
    ("depth before it: a nearer one may follow", [0.97], 0, True, False),
    ("and it followed", [0.97, 1.01], 0, True, True),
    ("depth on both sides, the second too far", [0.97, 1.2], 0, True, True),
    ("only depth that is too late", [1.2], 0, True, True),
    ("depth that may be followed by a nearer one", [0.8], 0, True, False),
    ("no camera_info", [1.0], 0, False, False),
    ("younger images, one less than the queue", [], QUEUE_LENGTH - 1, True, False),
    ("as many younger images as the queue", [], QUEUE_LENGTH, False, True),
]


@pytest.mark.parametrize(
    ("what", "depths", "younger", "calibrated", "settled"), SETTLED, ids=[s[0] for s in SETTLED]
)
def test_an_image_is_settled_when_nothing_nearer_can_come(
    what: str, depths: list[float], younger: int, calibrated: bool, settled: bool
) -> None:
    feed = DepthFeed(slop=0.05)
    if calibrated:
        feed.offer_info(INFO)
    ticket = feed.expect(header(1.0))
    for seconds in depths:
        feed.offer(depth(seconds))
    for number in range(younger):
        feed.expect(header(2.0 + number))
    assert ticket.settled == settled


@pytest.mark.parametrize("what", ["depth", "camera_info"])
def test_what_is_about_to_come_is_waited_for(what: str) -> None:
    feed = DepthFeed(slop=0.0, patience=30.0)
    first = {"depth": lambda: feed.offer_info(INFO), "camera_info": lambda: feed.offer(depth(1))}
    then = {"depth": lambda: feed.offer(depth(1)), "camera_info": lambda: feed.offer_info(INFO)}
    first[what]()
    ticket = feed.expect(header(1.0))
    camera = threading.Timer(0.2, then[what])
    camera.start()
    assert ticket.wait() is None
    assert ticket.message is not None
    assert ticket.info is INFO
    camera.join()


NOT_WAITED_FOR: list[tuple[str, list[float], int, Missing]] = [
    ("later depth is there", [1.2], 0, Missing.DEPTH),
    ("younger images are there", [], QUEUE_LENGTH, Missing.DEPTH),
    ("younger images, and no camera_info", [1.0], QUEUE_LENGTH, Missing.CAMERA_INFO),
]


@pytest.mark.parametrize(
    ("what", "depths", "younger", "missing"), NOT_WAITED_FOR, ids=[n[0] for n in NOT_WAITED_FOR]
)
def test_what_can_no_longer_come_is_not_waited_for(
    what: str, depths: list[float], younger: int, missing: Missing
) -> None:
    feed = DepthFeed(slop=0.05, patience=60.0)
    ticket = feed.expect(header(1.0))
    for seconds in depths:
        feed.offer(depth(seconds))
    for number in range(younger):
        feed.expect(header(1.1 + number))
    began = time.monotonic()
    assert ticket.wait() is missing
    assert time.monotonic() - began < 30.0


def test_a_source_that_is_silent_is_waited_for_once() -> None:
    feed = DepthFeed(slop=0.05, patience=0.3)
    began = time.monotonic()
    for number in range(20):
        assert feed.expect(header(float(number))).wait() is Missing.DEPTH
    assert 0.3 <= time.monotonic() - began < 3.0, "and not for each image"


def test_a_camera_info_that_nobody_publishes_is_waited_for_once() -> None:
    feed = DepthFeed(slop=0.05, patience=0.3)
    began = time.monotonic()
    for number in range(20):
        feed.offer(depth(float(number)))
        assert feed.expect(header(float(number))).wait() is Missing.CAMERA_INFO
    assert 0.3 <= time.monotonic() - began < 3.0, "and not for each image, though depth goes on"


def test_a_bag_that_begins_again_is_not_paired_with_what_was_before() -> None:
    feed = DepthFeed(slop=0.05, patience=60.0)
    feed.offer_info(INFO)
    feed.expect(header(100.0))
    feed.offer(depth(100.0))
    feed.offer(depth(4.9))
    again = feed.expect(header(5.0))
    assert not again.settled, "the depth of the end says nothing about the beginning"
    assert [stamp(message) for message in feed._recent] == [4.9], "what began again is kept"
    feed.offer(depth(5.0))
    assert (stamp(again.message), again.settled) == (5.0, True)


def test_only_images_on_their_way_hold_depth() -> None:
    feed = DepthFeed(slop=0.05)
    kept = feed.expect(header(1.0))
    for number in range(100):
        feed.expect(header(1.0 + number))
        feed.offer(depth(1.0 + number))
    gc.collect()
    assert list(feed._tickets) == [kept]
    assert len(list(feed._recent)) == QUEUE_LENGTH


def test_depth_and_images_may_come_from_many_threads() -> None:
    feed, tickets = DepthFeed(slop=0.05), []

    def images() -> None:
        for number in range(300):
            tickets.append(feed.expect(header(number)))

    def depths() -> None:
        for number in range(300):
            feed.offer(depth(number))

    threads = [threading.Thread(target=work) for work in (images, depths, images, depths)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(stamp(t.message) in (None, t.stamp_ns // 10**9) for t in tickets)
