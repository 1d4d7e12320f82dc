"""Embedded vocabularies on disk: as many of the first phrases as are done.

A cache that can't be read or written costs the time of computing, never the result.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

Embeddings = NDArray[np.float32]

FORMAT = "first phrases, with their checksum"
"""Part of a file's name, so that files of other versions are not taken for damaged ones."""
MAX_DIMENSIONS = 16_384
MAX_BYTES = 4 << 30
"""Size of all files together, above which those that were not used for longest go."""
HEADER = 4096

logger = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where embedded vocabularies are kept: ``$XDG_CACHE_HOME/zgs_ros/vocabularies``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "zgs_ros" / "vocabularies"


def read(path: Path, phrases: int) -> Embeddings | None:
    """Rows of the first phrases of a vocabulary, float32 (at most `phrases`, dimensions).

    Returns:
        None if there is no such file, or it is not what `write` wrote; then it is removed.
    """
    try:
        if path.stat().st_size > phrases * MAX_DIMENSIONS * 4 + HEADER:
            raise ValueError("it is larger than this vocabulary can be")
        with safe_open(path, "np") as file:
            rows: Embeddings = file.get_tensor("embeddings")
            expected = (file.metadata() or {}).get("sha256", "")
        if rows.ndim != 2 or rows.dtype != np.float32 or not 0 < len(rows) <= phrases:
            raise ValueError(f"it holds {rows.dtype} {rows.shape} for {phrases} phrases")
        if _digest(rows) != expected:
            raise ValueError("its content was changed")
        os.utime(path)
        return rows
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError, ValueError) as error:
        logger.warning("vocabulary cache %s can't be used (%s): computing it again", path, error)
        with suppress(OSError):
            path.unlink()  # so that a better one is not taken for a worse
        return None


def write(path: Path, rows: Embeddings) -> bool:
    """Keeps the rows of a vocabulary's first phrases, unless another process has kept more.

    It writes under a temporary name first, so that another process never reads half a file.

    Returns:
        Whether that went well; if not, there is a warning.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if _rows_in(path) > len(rows):
            return True
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".partial", delete=False) as file:
            temporary = Path(file.name)
        rows = np.ascontiguousarray(rows)
        save_file({"embeddings": rows}, temporary, {"sha256": _digest(rows)})
        temporary.replace(path)
        _prune(path)
        return True
    except (OSError, SafetensorError) as error:
        logger.warning(
            "vocabulary cache %s can't be written (%s): it will be computed at each start",
            path,
            error,
        )
        return False
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _rows_in(path: Path) -> int:
    """Number of rows that a file says it has, 0 if it says nothing."""
    try:
        with safe_open(path, "np") as file:
            return int(file.get_slice("embeddings").get_shape()[0])
    except (OSError, SafetensorError, IndexError):
        return 0


def _digest(rows: Embeddings) -> str:
    return hashlib.sha256(np.ascontiguousarray(rows).tobytes()).hexdigest()


def _prune(newest: Path) -> None:
    """Removes the files that were not used for longest while all are too large."""
    files = [
        entry
        for entry in newest.parent.iterdir()
        if re.fullmatch(r"[0-9a-f]{32}\.safetensors", entry.name) and entry.is_file()
    ]
    files.sort(key=lambda entry: entry.stat().st_mtime)
    total = sum(entry.stat().st_size for entry in files)
    for entry in files:
        if total <= MAX_BYTES or entry == newest:
            return
        total -= entry.stat().st_size
        entry.unlink()
