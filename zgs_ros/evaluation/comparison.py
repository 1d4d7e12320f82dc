"""Comparison of settings: the whole evaluation once per variant, in one table."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from zgs_ros.config import SegmenterSettings, SettingsError, flatten, make_settings
from zgs_ros.evaluation import run
from zgs_ros.evaluation.datasets.base import Dataset
from zgs_ros.evaluation.mapping import REFERENCE_ENCODER
from zgs_ros.evaluation.mapping import Mapping as LabelMapping


def parse_variants(text: str) -> dict[str, dict[str, Any]]:
    """Reads a list of settings to compare.

    Args:
        text: ``KEY=VALUE,VALUE...`` for values of one setting ("clip.sigma=1,2,5"), several of them
            separated by spaces for all combinations; or a YAML file that maps names to settings.

    Returns:
        Per name the settings that it changes, by dotted path.

    Raises:
        SettingsError: If it is neither.
    """
    path = Path(text)
    if path.is_file():
        return _read_variants(path)
    axes: list[list[tuple[str, Any]]] = []
    for part in text.split():
        key, equals, values = part.partition("=")
        if not equals or not all(values.split(",")):
            raise SettingsError(
                f"--ablate {text!r}: is neither 'embedding', nor a YAML file, "
                "nor like clip.sigma=1,2,5"
            )
        axes.append([(key, yaml.safe_load(value)) for value in values.split(",")])
    if not axes:
        raise SettingsError(
            "--ablate needs 'embedding', a YAML file, or settings like clip.sigma=1,2,5"
        )
    return {
        ", ".join(f"{key}={value}" for key, value in combination): dict(combination)
        for combination in itertools.product(*axes)
    }


def _read_variants(path: Path) -> dict[str, dict[str, Any]]:
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{path}: can't be read as YAML ({error})") from None
    if not isinstance(content, dict) or not content:
        raise SettingsError(
            f"{path}: must map names to settings, such as 'weak: {{clip.sigma: 1}}'"
        )
    variants = {}
    for name, values in content.items():
        if not isinstance(values, dict | None):
            raise SettingsError(f"{path}: {name!r} must hold settings, got {values!r}")
        variants[str(name)] = flatten(values or {})
    return variants


def compare_settings(
    dataset: Dataset,
    settings: SegmenterSettings,
    variants: Mapping[str, Mapping[str, Any]],
    folder: Path,
    mapping: LabelMapping = "names",
    sentence_model: str = REFERENCE_ENCODER,
    fresh: bool = False,
    track: run.Track = run.silent,
) -> dict[str, run.Outcome]:
    """Evaluates the whole pipeline once per variant, each in a folder of its own.

    Args:
        dataset: Images with ground truth.
        settings: What all variants share.
        variants: Per name the settings that it changes; see `parse_variants`.
        folder: Gets one folder per variant.
        mapping: How labels are mapped to classes.
        sentence_model: For the mapping tt.
        fresh: Forgets earlier runs in the folder.
        track: Shows progress.

    Raises:
        SettingsError: If a variant has a wrong setting, before anything is computed.
    """
    all_settings = {
        name: make_settings(SegmenterSettings, {**_given(settings, values), **values})
        for name, values in variants.items()
    }
    return {
        name: run.evaluate(
            dataset,
            chosen,
            folder / run.file_name(name),
            mapping,
            sentence_model,
            fresh,
            track,
        )
        for name, chosen in all_settings.items()
    }


def _given(settings: SegmenterSettings, changed: Mapping[str, Any]) -> dict[str, Any]:
    """The shared settings; under another profile only those that are not the old one's defaults."""
    shared = flatten(settings)
    if "profile" not in changed:
        return shared
    defaults = flatten(make_settings(SegmenterSettings, {"profile": settings.profile}))
    return {key: value for key, value in shared.items() if value != defaults[key]}
