"""Threads that wait leave their core to others."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CALL = """
import atexit, os, sys
sys.argv = ["zgs", "--help"]
atexit.register(lambda: print(os.environ["OMP_WAIT_POLICY"], "torch" in sys.modules))
from zgs_ros.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("given", "expected"), [({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")]
)
def test_how_they_wait_is_settled_before_pytorch_is_imported(
    given: dict[str, str], expected: str
) -> None:
    rest = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    process = subprocess.run(
        [sys.executable, "-c", CALL],
        env={**rest, **given},
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout.split()[-2:] == [expected, "False"]
