"""All profiles side by side, each in a process of its own, so that memory is its own too."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zgs_ros.config import SegmenterSettings, make_settings


class ProfileFailed(RuntimeError):
    """A profile could not be measured; the message is that of its process."""


def measure_profile(profile: str, arguments: Sequence[str]) -> dict[str, Any]:
    """The results of ``zgs bench --profile PROFILE --json ...`` with further arguments.

    Raises:
        ProfileFailed: If it ends with an error.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.json"
        command = [sys.executable, "-m", "zgs_ros", "bench", "--profile", profile]
        process = subprocess.run(
            [*command, "--json", str(path), *arguments], capture_output=True, text=True, check=False
        )
        if process.returncode:
            lines = process.stderr.strip().splitlines() or [f"exit code {process.returncode}"]
            raise ProfileFailed(f"profile {profile}: {lines[-1]}")
        results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return results


def synthetic_quality(profile: str, scenes: int) -> float:
    """Data-set mIoU of a profile on the synthetic world, the whole pipeline, nothing given.

    Raises:
        zgs_ros.models.ModelError: If a model can't be loaded.
    """
    from zgs_ros.evaluation.datasets.synthetic import SyntheticDataset
    from zgs_ros.evaluation.run import evaluate

    settings = make_settings(SegmenterSettings, {"profile": profile})
    with tempfile.TemporaryDirectory() as folder:
        results = evaluate(SyntheticDataset(scenes), settings, Path(folder)).results
    return float(results["iou"]["data_set"])
