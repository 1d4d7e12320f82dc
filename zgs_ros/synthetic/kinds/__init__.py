"""Build functions of all kinds, by noun."""

from __future__ import annotations

from zgs_ros.synthetic.kinds import household, nature, vehicles
from zgs_ros.synthetic.kinds.registry import REGISTRY, Kind

__all__ = ["REGISTRY", "Kind", "household", "nature", "vehicles"]
