"""Queues of work for a GPU, beside the one that is in use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch


@cache
def cuda_stream(device: torch.device, purpose: str) -> torch.cuda.Stream:
    """The stream for a purpose, always the same: libraries keep memory for each that they have worked in."""
    return torch.cuda.Stream(device)


class SideStream:
    """A CUDA stream that branches off the current one and comes back to it.

    Between `fork` and `join` both streams go on by themselves. The caller keeps what the side stream reads
    until the join, and what it made until the current stream is through with it, as happens by itself where
    the last step fetches a result. On other devices than CUDA's all is done in the order of the calls.

    Args:
        device: Where the work is done.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = cuda_stream(device, "side") if device.type == "cuda" else None

    def fork(self) -> None:
        """What follows beside may use what the current stream has been asked for until now."""
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))

    @contextmanager
    def beside(self) -> Iterator[None]:
        """What is asked for in here is done beside the current stream."""
        if self._stream is None:
            yield
            return
        with torch.cuda.stream(self._stream):
            yield

    def join(self) -> None:
        """What follows in the current stream may use what has been asked for beside."""
        if self._stream is not None:
            torch.cuda.current_stream(self._stream.device).wait_stream(self._stream)
