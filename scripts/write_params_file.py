"""Writes config/segment.yaml from the list of settings."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import yaml

from zgs_ros.config import PROFILES, NodeSettings, Setting, list_settings

PATH = Path(__file__).parents[1] / "config" / "segment.yaml"

HEAD = """\
# Parameters of the zgs node with their defaults, for
#   ros2 launch zgs_ros segment.launch.py params_file:=segment.yaml
#   zgs run --params segment.yaml
# What is commented out is decided by the profile; the values shown are those of "balanced".
# [live] can be changed while the node runs: ros2 param set /zgs max_rate 2.0
/**:
  ros__parameters:
"""


def params_text() -> str:
    """The file's content."""
    of_profiles = {path for values in PROFILES.values() for path in values}
    lines = []
    section = ""
    for setting in sorted(list_settings(NodeSettings), key=lambda setting: "." in setting.path):
        name, _, key = setting.path.rpartition(".")
        if name != section:
            section = name
            lines.append(f"\n    {name}:")
        indent = "      " if name else "    "
        lines += textwrap.wrap(
            comment(setting), 110, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# "
        )
        lines.append(
            f"{indent}{'# ' if setting.path in of_profiles else ''}{key}: {inline(setting.default)}"
        )
    return HEAD + "\n".join(lines).strip("\n") + "\n"


def comment(setting: Setting) -> str:
    """Description, allowed values and whether a running node can change it."""
    text = setting.description
    if setting.choices:
        text += f" One of {', '.join(setting.choices)}."
    elif setting.minimum is not None and setting.maximum is not None:
        above = "above " if setting.exclusive_minimum else ""
        text += f" {above.capitalize()}{setting.minimum:.7g} to {setting.maximum:.7g}."
    return f"{text} [live]" if setting.live else text


def inline(value: Any) -> str:
    """One line of YAML."""
    plain = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(plain, default_flow_style=True, width=1000).removesuffix("...\n").strip()


if __name__ == "__main__":
    PATH.write_text(params_text(), encoding="utf-8")
