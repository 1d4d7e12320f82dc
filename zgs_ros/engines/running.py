"""ONNX files run by OpenVINO or ONNX Runtime, in place of a function of tensors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zgs_ros.engines.manifest import EngineError

Backend = Literal["openvino", "onnxruntime"]
Arrays = list[NDArray[np.float32]]
Run = Callable[[Sequence[NDArray[np.float32]]], Arrays]
Tensors = tuple[Tensor, ...]

PROVIDERS = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")
"""ONNX Runtime's, best first; TensorRT is documented by NVIDIA and ONNX Runtime, and was not tried here."""

logger = logging.getLogger(__name__)


class Engine:
    """A file that computes one step for inputs of fixed shapes.

    Args:
        run: Computes it.
        shapes: Of its inputs.
        runs_on: What computes, for messages, such as ``"OpenVINO on CPU in bf16"``.
    """

    def __init__(self, run: Run, shapes: Sequence[tuple[int, ...]], runs_on: str) -> None:
        self._run = run
        self.shapes = [tuple(shape) for shape in shapes]
        self.runs_on = runs_on

    def fits(self, inputs: Sequence[Tensor]) -> bool:
        """Whether it is made for inputs of these shapes."""
        return [tuple(value.shape) for value in inputs] == self.shapes

    def __call__(self, *inputs: Tensor) -> Tensors:
        """Its outputs, float32, on the inputs' device."""
        device = inputs[0].device
        arrays = [value.detach().float().cpu().contiguous().numpy() for value in inputs]
        return tuple(torch.from_numpy(np.array(found)).to(device) for found in self._run(arrays))


class WithEngine:
    """A function of tensors that an engine computes where the shapes fit, and PyTorch elsewhere.

    Args:
        function: In PyTorch.
        engine: For some shapes.
        name: For messages.
    """

    captures = False

    def __init__(self, function: Callable[..., Tensors], engine: Engine, name: str) -> None:
        self._function = function
        self._engine = engine
        self._name = name
        self._told = False

    def __call__(self, *inputs: Tensor) -> Tensors:
        """The result of either."""
        if self._engine.fits(inputs):
            return self._engine(*inputs)
        if not self._told:
            self._told = True
            given = ", ".join("x".join(map(str, value.shape)) for value in inputs)
            made = ", ".join("x".join(map(str, shape)) for shape in self._engine.shapes)
            logger.warning(
                "engines: %s gets %s, but its engine is made for %s; PyTorch computes it. "
                "`zgs export --size WIDTHxHEIGHT` makes one for the camera's images",
                self._name,
                given,
                made,
            )
        return self._function(*inputs)


def open_engine(
    path: Path,
    shapes: Sequence[tuple[int, ...]],
    backend: Backend,
    device: torch.device,
    precision: torch.dtype,
) -> Engine:
    """Loads an ONNX file.

    Args:
        path: The file.
        shapes: Of its inputs.
        backend: What runs it.
        device: Where.
        precision: In which arithmetic, as far as the backend has it.

    Raises:
        EngineError: If the backend is not installed, or can't run the file.
    """
    opening = {"openvino": _open_openvino, "onnxruntime": _open_onnxruntime}[backend]
    try:
        run, runs_on = opening(path, device, precision)
    except ImportError as error:
        raise EngineError(
            f'backend: {backend} is not installed ({error}); pip install "zgs_ros[{backend}]", '
            "or set backend to torch"
        ) from None
    except EngineError:
        raise
    except Exception as error:  # neither library has an error of its own
        line = str(error).strip().partition("\n")[0][:300]
        raise EngineError(f"backend: {backend} can't run {path}: {line}") from error
    return Engine(run, shapes, runs_on)


def _open_openvino(path: Path, device: torch.device, precision: torch.dtype) -> tuple[Run, str]:
    import openvino as ov

    if device.type != "cpu":
        raise EngineError(
            f"backend: openvino runs on the CPU, not on {device}; set device=cpu, or "
            "backend=onnxruntime"
        )
    hint = "bf16" if precision == torch.bfloat16 else "f32"
    compiled = ov.Core().compile_model(
        str(path),
        "CPU",
        {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": hint,
        },
    )
    request = compiled.create_infer_request()

    def run(arrays: Sequence[NDArray[np.float32]]) -> Arrays:
        found = request.infer(list(arrays), share_inputs=True)
        return [found[output] for output in compiled.outputs]

    return run, f"OpenVINO {ov.__version__.partition('-')[0]} on the CPU in {hint}"


def _open_onnxruntime(path: Path, device: torch.device, precision: torch.dtype) -> tuple[Run, str]:
    import onnxruntime

    available = onnxruntime.get_available_providers()
    wanted = PROVIDERS if device.type == "cuda" else PROVIDERS[-1:]
    missing = [name for name in wanted if name not in available]
    if device.type == "cuda" and len(missing) == len(PROVIDERS) - 1:
        raise EngineError(
            f"backend: onnxruntime has none of {', '.join(missing)}, but device is {device}; install "
            "onnxruntime-gpu (on a Jetson NVIDIA's wheel), or set device=cpu"
        )
    for name in missing:
        logger.warning("backend: onnxruntime has no %s here and goes on without", name)
    providers: list[Any] = [
        (name, _options(name, path, device, precision)) for name in wanted if name in available
    ]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    names = [value.name for value in session.get_inputs()]

    def run(arrays: Sequence[NDArray[np.float32]]) -> Arrays:
        found: Arrays = session.run(None, dict(zip(names, arrays, strict=True)))
        return found

    used = session.get_providers()[0].removesuffix("ExecutionProvider")
    return run, f"ONNX Runtime {onnxruntime.__version__} on {used}"


def _options(name: str, path: Path, device: torch.device, precision: torch.dtype) -> dict[str, Any]:
    """Of a provider of ONNX Runtime; TensorRT keeps the engines that it builds beside the file."""
    if name == "TensorrtExecutionProvider":
        return {
            "device_id": device.index or 0,
            "trt_fp16_enable": precision == torch.float16,
            "trt_engine_cache_enable": True,
            "trt_engine_cache_path": str(path.parent / "tensorrt"),
            "trt_timing_cache_enable": True,
            "trt_timing_cache_path": str(path.parent / "tensorrt"),
        }
    if name == "CUDAExecutionProvider":
        return {"device_id": device.index or 0}
    return {}
