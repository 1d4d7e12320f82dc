"""Writes what the bundled models give for the drawings of `zgs doctor`; to be run when either changes.

python scripts/write_doctor_answers.py
"""

from __future__ import annotations

from pathlib import Path

import torch

from zgs_ros.config import SegmenterSettings, make_settings
from zgs_ros.models.loading import load_clip, load_dino
from zgs_ros.tools.doctor import exact
from zgs_ros.tools.doctor.models import exam
from zgs_ros.tools.doctor.pictures import drawings

FOLDER = Path(__file__).parents[1] / "zgs_ros" / "tools" / "doctor"


def answers_text() -> str:
    """The content of the file, from the bundled models on a CPU in float32."""
    settings = make_settings(SegmenterSettings, {"profile": "mini"})
    where = torch.device("cpu"), torch.float32
    return exact.as_text(
        {
            "dino": exact.dino_answers(load_dino(settings.dino, *where), drawings()),
            "clip": exact.clip_answers(load_clip(settings.clip, *where), exam(False)),
        }
    )


if __name__ == "__main__":
    (FOLDER / exact.FILE).write_text(answers_text(), "utf-8")
