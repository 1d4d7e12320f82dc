"""What the bundled models give for the drawings, to the digit; written by scripts/write_doctor_answers.py."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from zgs_ros.embedding.clip import ClipEmbedder
from zgs_ros.oversegmentation.features import DinoFeatures
from zgs_ros.tools.doctor.clip import Exam
from zgs_ros.tools.doctor.dino import features_of, for_exam
from zgs_ros.tools.doctor.findings import Finding
from zgs_ros.tools.doctor.pictures import Picture

DIGITS = 4
MOST_OFF = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}
"""1 - cosine with the right answer, of rounding alone."""
FILE = "answers.json"

Rows = NDArray[np.float32]


def clip_answers(clip: ClipEmbedder, exam: Exam) -> dict[str, Rows]:
    """Embeddings of the pictures and of the names, (n, dimensions) each."""
    return {"pictures": exam.images(clip), "names": exam.texts(clip)}


def dino_answers(features: DinoFeatures, pictures: list[Picture]) -> dict[str, Rows]:
    """Mean feature of the upper half and of the left half of each picture, (pictures, width) each."""
    found = features_of(for_exam(features), pictures)
    upper = np.stack([grid[: len(grid) // 2].mean(axis=(0, 1)) for grid in found])
    left = np.stack([grid[:, : grid.shape[1] // 2].mean(axis=(0, 1)) for grid in found])
    return {"upper halves": upper, "left halves": left}


def check_answers(room: str, given: dict[str, Rows], precision: torch.dtype) -> Finding:
    """Whether a bundled model gives what it gave where it was made."""
    expected = _read()[room]
    off = {
        what: 1.0 - float(_cosines(rows, np.array(expected[what], np.float32)).min())
        for what, rows in given.items()
    }
    worst = max(off, key=lambda what: off[what])
    text = f"of the {worst} differ by {max(off[worst], 0.0):.1e} at most (1 - cosine)"
    if not off[worst] <= MOST_OFF[precision]:
        return Finding(
            room,
            "answers",
            "error",
            f"{text} from those that this model gives: weights, preprocessing or arithmetic are not its own",
            "install zgs_ros anew; where that does not help, try device=cpu and precision=float32",
        )
    return Finding(room, "answers", "ok", f"{text}, as they should")


def as_text(answers: dict[str, dict[str, Rows]]) -> str:
    """The content of the file."""
    rounded: dict[str, Any] = {
        room: {
            what: [[round(float(value), DIGITS) for value in row] for row in _unit(rows)]
            for what, rows in given.items()
        }
        for room, given in answers.items()
    }
    return json.dumps(rounded, separators=(",", ":")).replace("],[", "],\n[") + "\n"


def _read() -> Any:
    return json.loads((resources.files("zgs_ros.tools.doctor") / FILE).read_text("utf-8"))


def _cosines(first: Rows, second: Rows) -> NDArray[np.float64]:
    if first.shape != second.shape:
        raise ValueError(f"answers {first.shape} do not fit those of the file, {second.shape}")
    return np.asarray((_unit(first) * _unit(second)).sum(axis=1))


def _unit(rows: Rows) -> NDArray[np.float64]:
    exact = rows.astype(np.float64)
    return np.asarray(exact / np.linalg.norm(exact, axis=1, keepdims=True))
