"""The arithmetic that the models compute in, chosen by what the processor can do."""

from __future__ import annotations

import platform
import re
from functools import cache
from pathlib import Path

import torch

from zgs_ros.config import SegmenterSettings

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
CAPABILITIES = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
"""Names that PyTorch has for instructions that multiply bfloat16."""
CPU_INFO = Path("/proc/cpuinfo")
FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""Linux's names for the same: Intel and AMD, Intel, Arm."""


def resolve_precision(settings: SegmenterSettings, device: torch.device) -> torch.dtype:
    """The arithmetic that ``precision`` stands for on a device.

    ``auto`` is float16 on a GPU; on a CPU bfloat16 where it multiplies that by itself, and float32 elsewhere
    and for ``reference``.
    """
    if settings.precision != "auto":
        return DTYPES[settings.precision]
    if device.type != "cpu":
        return torch.float16
    exact = settings.reference or not multiplies_bfloat16()
    return torch.float32 if exact else torch.bfloat16


@cache
def multiplies_bfloat16() -> bool:
    """Whether PyTorch and this processor have instructions that multiply bfloat16.

    Without them it is emulated, which is slower than float32.
    """
    if not torch.backends.mkldnn.is_available():  # which PyTorch multiplies bfloat16 with
        return False
    if ask := getattr(torch.cpu, "get_capabilities", None):
        found = ask()
        return any(bool(found.get(name)) for name in CAPABILITIES)
    if platform.machine() in ("x86_64", "AMD64") and (
        ask := getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    ):
        return bool(ask())
    return flags_have_bfloat16(CPU_INFO)


def flags_have_bfloat16(cpu_info: Path) -> bool:
    """Whether a file as Linux's ``/proc/cpuinfo`` lists an instruction that multiplies bfloat16."""
    try:
        text = cpu_info.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    lines = re.findall(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return any(FLAGS & set(line.split()) for line in lines)
