"""The machine's limit: the best rate of matrix products that any library here reaches, and the processor's."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from zgs_ros.bench.probes import WALL, Clock, Product, synchronise

MIN_SECONDS = 0.05
"""A matrix product is repeated until its measurement takes this long."""

Multiply = Callable[[], object]
"""Does one product, of given rows with given weights."""
Library = Callable[[Tensor, Tensor], Multiply]
"""Makes a product of rows (rows, inner) and weights (columns, inner)."""

FLOPS_PER_CYCLE = {
    torch.float32: (("avx512_f", 64), ("avx2", 32), ("neon", 16)),
    torch.bfloat16: (("amx_bf16", 2048), ("avx512_bf16", 128), ("bf16", 64)),
}
"""Operations of a core per cycle at most: two units that multiply and add a vector, or AMX's tiles."""


class ProductRate:
    """How many operations per second the machine does in matrix products of one size.

    Args:
        product: The size, that of a linear layer.
        device: Where.
        dtype: In which arithmetic.
        clock: What time is.
        library: What multiplies; PyTorch by default.
    """

    def __init__(
        self,
        product: Product,
        device: torch.device,
        dtype: torch.dtype,
        clock: Clock = WALL,
        library: Library | None = None,
    ) -> None:
        self._clock = clock
        self._device = device
        rows, inner, columns = product
        generator = torch.Generator().manual_seed(0)
        left = torch.randn(rows, inner, generator=generator).to(device, dtype)
        weight = torch.randn(columns, inner, generator=generator).to(device, dtype)
        self._multiply = (library or with_torch)(left, weight)
        self._flops = 2 * rows * inner * columns

    @torch.inference_mode()
    def measure(self) -> float:
        """Operations per second, in products that take `MIN_SECONDS` together."""
        count, seconds = 0, 0.0
        batch = 1
        while seconds < MIN_SECONDS:
            start = self._clock()
            for _ in range(batch):
                self._multiply()
            synchronise(self._device)
            count, seconds = batch, self._clock() - start
            batch *= 2
        return count * self._flops / seconds


def libraries(device: torch.device, dtype: torch.dtype) -> dict[str, Library]:
    """What can multiply here, by name; on other devices than CPUs only PyTorch as it is."""
    found: dict[str, Library] = {"PyTorch": with_torch}
    if device.type != "cpu" or dtype not in (torch.float32, torch.bfloat16):
        return found
    if torch.backends.mkldnn.is_available():
        found["oneDNN, packed"] = with_onednn
    if importlib.util.find_spec("openvino"):
        found["OpenVINO"] = with_openvino
    return found


def with_torch(rows: Tensor, weight: Tensor) -> Multiply:
    """PyTorch's linear layer: MKL's product in float32, oneDNN's in bfloat16."""
    return lambda: functional.linear(rows, weight)


def with_onednn(rows: Tensor, weight: Tensor) -> Multiply:
    """oneDNN's product with weights in its own order, as `torch.utils.mkldnn` makes it."""
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=weight.dtype)
    layer.weight.data = weight
    from torch.utils import mkldnn  # type: ignore[attr-defined]

    packed = mkldnn.to_mkldnn(layer.eval(), dtype=weight.dtype)
    left = rows.to_mkldnn()
    return lambda: packed(left)


def with_openvino(rows: Tensor, weight: Tensor) -> Multiply:
    """OpenVINO's product with constant weights, on as many threads as PyTorch."""
    import openvino as ov
    from openvino import opset13 as ops

    given = ops.parameter(list(rows.shape), ov.Type.f32)
    constant = ops.constant(weight.float().numpy())
    model = ov.Model([ops.matmul(given, constant, False, True)], [given])
    options: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "bf16" if weight.dtype == torch.bfloat16 else "f32",
    }
    request = ov.Core().compile_model(model, "CPU", options).create_infer_request()
    request.set_input_tensor(ov.Tensor(rows.float().numpy()))
    return request.infer


def processor_peak(threads: int, dtype: torch.dtype) -> float | None:
    """Operations per second that the processor's vector units can do at most, None where that is unknown.

    Args:
        threads: One for each core.
        dtype: Arithmetic.
    """
    ask = getattr(torch.cpu, "get_capabilities", None)
    hertz = _hertz()
    if ask is None or hertz is None:
        return None
    has = ask()
    for name, flops in FLOPS_PER_CYCLE.get(dtype, ()):
        if has.get(name):
            return threads * hertz * flops
    return None


def _hertz() -> float | None:
    """The fastest core's clock, as Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found = [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]
    return 1e6 * max(found) if found else None
