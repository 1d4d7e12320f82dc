"""Functions that are captured once per shape as CUDA graphs, and then replayed.

A GPU is told each of a transformer's hundreds of operations by the CPU, which for small models takes longer
than doing them. A graph is told as a whole. It reads its input from, and leaves its output in, memory of its
own, so what goes in and comes out is copied.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from zgs_ros.gpu.streams import cuda_stream

Tensors = tuple[Tensor, ...]
Function = Callable[..., Tensors]
MAX_GRAPHS = 16
"""Shapes of one function that are captured; its further ones are not, so that memory stays bounded."""
TOLERANCE = 1e-2
"""Largest relative difference of a graph from the function itself: half precision, other kernels."""

logger = logging.getLogger(__name__)


class Graph(Protocol):
    """A function's operations on given input.

    Attributes:
        outputs: What the last replay left, to be copied before the next one.
    """

    outputs: Tensors

    def replay(self) -> None:
        """Does the operations again, on what the input holds now."""
        ...


Capture = Callable[[Function, Tensors], Graph]
"""Captures a function on input whose memory stays its own."""


class Graphed:
    """A function of tensors that is captured for shapes that come again.

    A shape is computed as usual at first; when it comes the second time it is computed and captured, and
    the graph compared with the result. From then on the graph is replayed. Where capture fails, everything
    goes on without.

    Args:
        function: Takes tensors and returns a tuple of tensors. It may neither look at values nor keep
            anything, and its result may depend on nothing but the input.
        name: For messages.
        capture: None to do without graphs.
    """

    def __init__(self, function: Function, name: str, capture: Capture | None) -> None:
        self._function = function
        self._name = name
        self._capture = capture
        self._seen: set[object] = set()
        self._graphs: dict[object, Graph] = {}
        self._inputs: dict[object, Tensor] = {}

    @property
    def captures(self) -> bool:
        """Whether shapes that come again are captured, so that few different ones are worth while."""
        return self._capture is not None

    @property
    def captured(self) -> int:
        """Number of shapes that are replayed."""
        return len(self._graphs)

    def __call__(self, *inputs: Tensor) -> Tensors:
        """The function's result, in memory that nothing else uses."""
        if self._capture is None:
            return self._function(*inputs)
        shapes = tuple((value.shape, value.dtype) for value in inputs)
        if shapes in self._graphs:
            return self._replay(self._graphs[shapes], inputs)
        results = self._function(*inputs)
        if shapes not in self._seen:
            self._seen.add(shapes)
        elif len(self._graphs) < MAX_GRAPHS:
            self._try_capture(self._capture, shapes, inputs, results)
        return results

    def _replay(self, graph: Graph, inputs: Tensors) -> Tensors:
        self._place(inputs)
        graph.replay()
        return tuple(output.clone() for output in graph.outputs)

    def _place(self, inputs: Tensors) -> Tensors:
        """Copies to where graphs read their input, those of equal shapes from the same memory."""
        places = []
        for index, value in enumerate(inputs):
            key = (index, value.shape, value.dtype)
            if key not in self._inputs:
                self._inputs[key] = torch.empty_like(value)
            places.append(self._inputs[key].copy_(value))
        return tuple(places)

    def _try_capture(
        self, capture: Capture, shapes: object, inputs: Tensors, results: Tensors
    ) -> None:
        try:
            graph = capture(self._function, self._place(inputs))
            difference = _relative_difference(self._replay(graph, inputs), results)
            if not difference <= TOLERANCE:
                raise RuntimeError(f"its graph is off by {difference:.2g}")
        except RuntimeError as error:  # CUDA's errors and lack of memory are of this kind
            reason = str(error).partition("\n")[0]
            logger.warning(
                "cuda_graphs: %s can't be captured and goes on without: %s", self._name, reason
            )
            self._capture = None
            self._graphs.clear()
            self._inputs.clear()
        else:
            self._graphs[shapes] = graph


def graphed(function: Function, name: str, device: torch.device, wanted: bool = True) -> Graphed:
    """A function that is captured and replayed if that is wanted and its device can do it."""
    return Graphed(function, name, make_capture(device, name) if wanted else None)


def make_capture(device: torch.device, name: str) -> Capture | None:
    """What captures the function of that name, or None where the device knows no graphs."""
    return CudaCapture(device, name) if device.type == "cuda" else None


class CudaCapture:
    """Captures CUDA graphs of one function.

    Each has a stream and memory of its own, since two functions may be replayed side by side.

    Args:
        device: Where the function computes.
        name: Of the function; other functions of the process have others.
    """

    def __init__(self, device: torch.device, name: str) -> None:
        self._stream = cuda_stream(device, f"capturing {name}")
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, function: Function, inputs: Tensors) -> Graph:
        """Captures the function's operations on these inputs."""
        with _one_capture:
            return _CudaGraph(function, inputs, self._stream, self._pool)


class _CudaGraph:
    def __init__(
        self, function: Function, inputs: Tensors, stream: torch.cuda.Stream, pool: Any
    ) -> None:
        self._graph = torch.cuda.CUDAGraph()
        current = torch.cuda.current_stream(stream.device)
        stream.wait_stream(current)
        # The outer context brings back the current stream, which a capture that fails does not do.
        with torch.cuda.stream(current):
            with torch.cuda.stream(stream):
                function(*inputs)  # so that libraries take their memory outside of the graph's
            with torch.cuda.graph(self._graph, pool, stream, capture_error_mode="thread_local"):
                self.outputs = function(*inputs)
        current.wait_stream(stream)

    def replay(self) -> None:
        self._graph.replay()


_one_capture = threading.Lock()
"""CUDA knows only one at a time in a process."""


def _relative_difference(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Of the results that differ most, by norm; not a number where one of them is not."""
    differences = [
        float((ours.float() - theirs.float()).norm() / theirs.float().norm().clamp_min(1e-12))
        for ours, theirs in zip(found, expected, strict=True)
    ]
    return float(torch.tensor(differences).max())
