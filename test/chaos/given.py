"""What the tests here are given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random


@dataclass
class Chaos:
    """What a test here is given.

    Attributes:
        minutes: That it should take, about.
        seed: Decides what happens.
        tell: Adds figures, by name, to the test's row of the table.
    """

    minutes: float
    seed: int
    tell: Callable[..., None]
    random: Random = field(init=False)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
