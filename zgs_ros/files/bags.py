"""Which paths are bags; needs nothing but Python, so that images need no library for bags."""

from __future__ import annotations

from pathlib import Path

MCAP, SQLITE3 = "mcap", "sqlite3"
"""Names of the storages, as rosbag2 has them."""

SUFFIXES = {".mcap": MCAP, ".db3": SQLITE3}
"""Storages by the ending of their files."""

ROS1_SUFFIX = ".bag"


def storage_of(path: Path) -> str | None:
    """Storage of a file, by its ending; also of one that is compressed as a whole (``.db3.zstd``)."""
    return SUFFIXES.get((path.with_suffix("") if path.suffix == ".zstd" else path).suffix)


def is_bag(path: Path) -> bool:
    """Whether a path is meant as a bag: a file by its ending, a folder by what is in it."""
    if path.is_dir():
        return (path / "metadata.yaml").is_file() or any(map(storage_of, path.iterdir()))
    return storage_of(path) is not None or path.suffix == ROS1_SUFFIX
