"""Memory of the process and of its GPU: what is in use, and giving back what is not."""

from __future__ import annotations

import ctypes
import resource
import sys
from contextlib import suppress
from pathlib import Path


def memory_facts(device: str) -> dict[str, str]:
    """Memory of this process, and on a CUDA device what its tensors hold there, in MB."""
    facts = {"memory [MB]": f"{_resident_bytes() / 1e6:.0f}"}
    torch = sys.modules.get("torch")  # not loaded here: where it is not in use, there is no GPU
    if torch is not None and device.startswith("cuda"):
        facts["GPU memory [MB]"] = f"{torch.cuda.memory_reserved(device) / 1e6:.0f}"
    return facts


def trim_memory() -> None:
    """Gives memory that was freed back to the system, where the allocator keeps it (glibc)."""
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _resident_bytes() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # not Linux: the most that it ever was, which macOS gives in bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return pages * resource.getpagesize()
