"""How threads wait for each other: to be settled before PyTorch is imported."""

from __future__ import annotations

import os


def wait_without_spinning() -> None:
    """Lets OpenMP's threads sleep while they wait, unless the environment says something else.

    By default they spin. Beside other processes a thread that waits for one which has no core then takes the
    core that this one needs.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
