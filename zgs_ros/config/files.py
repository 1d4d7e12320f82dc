"""Reading settings from a ROS 2 parameters file, without ROS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from zgs_ros.config.settings import (
    S,
    SettingsError,
    flag_values,
    flatten,
    make_settings,
    use_current_names,
)


def load_settings(schema: type[S], path: str | Path, **overrides: Any) -> S:
    """Reads settings from a ROS 2 parameters file (or a plain YAML mapping).

    In a parameters file the blocks of ``/**`` and of nodes named ``zgs`` (in any namespace) apply,
    in the order of the file.

    Args:
        schema: `SegmenterSettings` or `NodeSettings`.
        path: YAML file.
        **overrides: Values that win over the file's; ``None`` means not given. A double underscore
            stands for the dot: ``clip__sigma=2.0``.

    Raises:
        SettingsError: If the file can't be read, is not YAML, or holds a wrong setting.
    """
    path = Path(path)
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: can't be read ({error.strerror or error})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: is not valid YAML: {error}") from None
    values = _parameters(document, path)
    try:
        values = {**use_current_names(values), **use_current_names(flag_values(overrides))}
        return make_settings(schema, values)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from None


def _parameters(document: Any, path: Path) -> dict[str, Any]:
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise SettingsError(f"{path}: must be a mapping of settings, got {type(document).__name__}")
    if not any(isinstance(b, dict) and "ros__parameters" in b for b in document.values()):
        return flatten(document)
    values: dict[str, Any] = {}
    for node, block in document.items():
        if isinstance(block, dict) and (node == "/**" or str(node).rsplit("/", 1)[-1] == "zgs"):
            values.update(flatten(block.get("ros__parameters") or {}))
    values.pop("use_sim_time", None)  # belongs to every ROS node, not to this one's settings
    return values
