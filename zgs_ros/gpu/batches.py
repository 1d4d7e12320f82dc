"""Batches that fit a GPU's memory: smaller when it runs out, and later larger again."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

PATIENCE = 50
"""Calls with enough memory after which the batch is doubled; twice as many each time it ran out again ..."""
MAX_PATIENCE = 3200
"""... up to so many."""

logger = logging.getLogger(__name__)


class Batches:
    """Does work in batches of a given size, or of as many items as fit the memory.

    When memory runs out the batch is halved and the work goes on. Who else took the memory may give it
    back, so after some calls the batch is doubled again, up to the given size.

    Args:
        size: The most items that go together.
        setting: Its name, for the warning.

    Attributes:
        size: Items that go together now.
    """

    def __init__(self, size: int, setting: str) -> None:
        self.size = size
        self._limit = size
        self._setting = setting
        self._lowest_told = size
        self._calls = 0
        self._patience = PATIENCE // 2

    def run(self, items: int, work: Callable[[slice], Tensor]) -> Tensor:
        """The results of all items, (items, ...).

        Args:
            items: At least one.
            work: From a range of the items to their results.

        Raises:
            torch.cuda.OutOfMemoryError: If there is no room for a single item.
        """
        results: list[Tensor] = []
        start, too_many = 0, 0
        while start < items:
            batch = min(self.size, items - start)
            try:
                results.append(work(slice(start, start + batch)))
            except torch.cuda.OutOfMemoryError:
                if batch == 1:
                    raise
                self.size, too_many = batch // 2, too_many or batch
            else:
                start += batch
                continue
            # Only here, where no traceback holds the tensors of the batch any more.
            torch.cuda.empty_cache()
        self._learn(too_many)
        return torch.cat(results)

    def _learn(self, too_many: int) -> None:
        """Tells once of a batch that was too large, and decides when to try a larger one again."""
        self._calls += 1
        if too_many:
            self._calls, self._patience = 0, min(2 * self._patience, MAX_PATIENCE)
            if self.size < self._lowest_told:
                self._lowest_told = self.size
                logger.warning(
                    "%s: the GPU's memory has no room for %d segments together; going on with %d, "
                    "and trying more again later",
                    self._setting,
                    too_many,
                    self.size,
                )
        elif self.size < self._limit and self._calls >= self._patience:
            self.size, self._calls = min(2 * self.size, self._limit), 0
