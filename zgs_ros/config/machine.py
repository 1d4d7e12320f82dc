"""The profile that fits the machine."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from zgs_ros.profiles import AUTO

LEAST_MEMORY = 7.0
"""GPU memory [GB] from which on the large models have room beside what else a robot computes."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Gpu:
    """The CUDA GPU that would be used.

    Attributes:
        name: As its driver says.
        memory: In GB.
    """

    name: str
    memory: float


def resolve_profile(profile: str, device: str) -> str:
    """The profile that a name stands for; what ``auto`` stands for is logged.

    Args:
        profile: Its name, or ``auto``.
        device: The setting ``device``.
    """
    if profile != AUTO:
        return profile
    chosen, reason = choose_profile(find_gpu(device))
    logger.info(
        "profile auto: %s, since %s; `zgs bench --advise` measures what reaches a wanted rate",
        chosen,
        reason,
    )
    return chosen


def choose_profile(gpu: Gpu | None) -> tuple[str, str]:
    """The profile for a machine with this GPU or with none, and why."""
    if gpu is None:
        return "edge", "the models run on a processor"
    if gpu.memory < LEAST_MEMORY:
        return "edge", f"{gpu.name} has {gpu.memory:.1f} GB, below {LEAST_MEMORY:g}"
    return "balanced", f"{gpu.name} has {gpu.memory:.1f} GB"


def find_gpu(device: str) -> Gpu | None:
    """The CUDA GPU that the setting ``device`` stands for, None where it is another device."""
    if device not in (AUTO, "cuda") and not device.startswith("cuda:"):
        return None
    import torch  # takes seconds, which only those wait for who ask

    index = int(device.partition(":")[2] or 0)
    if not torch.cuda.is_available() or index >= torch.cuda.device_count():
        return None
    properties = torch.cuda.get_device_properties(index)
    return Gpu(properties.name, properties.total_memory / 1e9)
