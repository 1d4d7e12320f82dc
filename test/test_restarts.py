"""Class ids over restarts of processes that classify."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from class_ids_client import labels_of

ROOT = Path(__file__).parents[1]
CLIENT = Path(__file__).with_name("class_ids_client.py")
RESTARTS = 100


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ids_are_the_same_in_a_hundred_processes_whatever_they_see_first(tmp_path: Path) -> None:
    file = tmp_path / "classes.yaml"
    file.write_text("classes: [{id: 2, name: person, phrases: [man, woman]}]\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    together: dict[str, int] = {}
    for seed in range(RESTARTS):
        command = [sys.executable, str(CLIENT), str(file), str(seed)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        ids = json.loads(done.stdout)
        assert set(ids) == set(labels_of(seed))
        for label, number in ids.items():
            assert together.setdefault(label, number) == number, f"{label} in start {seed}"
    numbers = {number for label, number in together.items() if label not in ("man", "woman")}
    assert together["man"] == together["woman"] == 2
    assert numbers == {*range(1, len(numbers) + 2)} - {2}, "each label has a number of its own"
    assert len(numbers) == len(together) - 2 == 70
