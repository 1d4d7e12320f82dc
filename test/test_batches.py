"""Batches that shrink when a GPU's memory runs out, and grow again."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor

from zgs_ros.gpu.batches import MAX_PATIENCE, PATIENCE, Batches


class Memory:
    """Room for so many items; what it was asked to hold."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.asked: list[int] = []

    def __call__(self, part: slice) -> Tensor:
        self.asked.append(part.stop - part.start)
        if self.asked[-1] > self.room:
            raise torch.cuda.OutOfMemoryError("no room")
        return torch.arange(part.start, part.stop)


def run(batches: Batches, memory: Memory, items: int, times: int = 1) -> list[int]:
    """Batch sizes that were asked for; every item has its result, whatever they are."""
    memory.asked.clear()
    for _ in range(times):
        assert batches.run(items, memory).tolist() == list(range(items))
    return list(memory.asked)


@pytest.mark.parametrize(
    ("room", "items", "asked"),
    [
        (8, 8, [8]),
        (8, 19, [8, 8, 3]),
        (3, 8, [8, 4, 2, 2, 2, 2]),
        (1, 3, [3, 1, 1, 1]),
    ],
)
def test_a_batch_without_room_is_halved_and_the_work_goes_on(
    room: int, items: int, asked: list[int]
) -> None:
    assert run(Batches(8, "clip.segment_batch"), Memory(room), items) == asked


def test_without_room_for_one_there_is_no_way() -> None:
    with pytest.raises(torch.cuda.OutOfMemoryError):
        Batches(8, "clip.segment_batch").run(3, Memory(0))


def test_it_says_so_once_with_both_numbers(caplog: pytest.LogCaptureFixture) -> None:
    batches, memory = Batches(32, "clip.segment_batch"), Memory(5)
    with caplog.at_level(logging.WARNING, "zgs_ros.gpu.batches"):
        run(batches, memory, 32, times=20 * PATIENCE)
    (message,) = caplog.messages
    assert message.startswith("clip.segment_batch: ")
    assert "32 segments" in message
    assert "going on with 4" in message
    memory.room = 2
    with caplog.at_level(logging.WARNING, "zgs_ros.gpu.batches"):
        run(batches, memory, 32, times=PATIENCE)
    assert len(caplog.messages) == 2
    assert "4 segments" in caplog.messages[1]
    assert "going on with 2" in caplog.messages[1]


def test_memory_that_comes_back_is_used_again() -> None:
    batches, memory = Batches(8, "clip.segment_batch"), Memory(2)
    run(batches, memory, 8)
    assert run(batches, memory, 8, times=PATIENCE - 1) == [2] * 4 * (PATIENCE - 1)
    memory.room = 100
    run(batches, memory, 8, times=1)
    assert run(batches, memory, 8) == [4, 4]
    run(batches, memory, 8, times=PATIENCE)
    assert run(batches, memory, 20) == [8, 8, 4]  # and never more than the setting
    run(batches, memory, 8, times=2 * PATIENCE)
    assert run(batches, memory, 20) == [8, 8, 4]


def test_tries_that_fail_become_rare() -> None:
    """A try costs time, so where memory stays short there are few of them."""
    batches, memory = Batches(8, "clip.segment_batch"), Memory(4)
    asked = run(batches, memory, 8, times=64 * PATIENCE)
    assert asked.count(8) == 7  # at first, and after 1, 2, 4, 8, 16 and 32 times as many calls
    run(batches, memory, 8, times=10 * MAX_PATIENCE)
    assert run(batches, memory, 8, times=2 * MAX_PATIENCE).count(8) == 2  # but they go on
