"""Settings: one typed list, profiles, files, and errors that name what is wrong."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from zgs_ros.config import (
    PROFILES,
    RENAMED,
    NodeSettings,
    SegmenterSettings,
    SettingsError,
    flatten,
    list_settings,
    load_settings,
    machine,
    make_settings,
)
from zgs_ros.pictures import MAX_PIXELS


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_is_valid(profile: str) -> None:
    settings = flatten(make_settings(NodeSettings, {"profile": profile}))
    assert settings["profile"] == profile
    for path, value in PROFILES[profile].items():
        assert settings[path] == value


def test_the_largest_image_is_the_same_without_settings() -> None:
    assert NodeSettings().max_pixels == MAX_PIXELS


def test_what_was_tuned_on_the_mini_models_stays_with_them() -> None:
    """Cosines of embeddings mean something else for another CLIP."""
    tuned = ["merging.threshold", "tracking.min_similarity", "tracking.smoothing_similarity"]
    found = {
        profile: flatten(make_settings(NodeSettings, {"profile": profile})) for profile in PROFILES
    }
    assert set(tuned) <= set(PROFILES["mini"])
    assert {p: [found[p][path] for path in tuned] for p in PROFILES} == {
        "paper": [0.8, 0.9, 0.7],
        "balanced": [0.8, 0.9, 0.7],
        "fast": [0.8, 0.9, 0.7],
        "edge": [0.8, 0.9, 0.7],
        "mini": [0.65, 0.9, 0.6],
    }
    assert make_settings(SegmenterSettings, {"profile": "mini"}).merging.threshold == 0.65


@pytest.mark.parametrize(
    ("device", "gpu", "chosen"),
    [
        ("auto", None, "edge"),
        ("cpu", machine.Gpu("any", 80.0), "edge"),
        ("mps", machine.Gpu("any", 80.0), "edge"),
        ("auto", machine.Gpu("Orin Nano", 4.0), "edge"),
        ("cuda:1", machine.Gpu("RTX", 12.0), "balanced"),
    ],
)
def test_profile_auto_follows_the_machine_and_says_so(
    device: str,
    gpu: machine.Gpu | None,
    chosen: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu is not None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    found = SimpleNamespace(name=gpu and gpu.name, total_memory=gpu and gpu.memory * 1e9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: found)
    with caplog.at_level(logging.INFO):
        settings = make_settings(NodeSettings, {"profile": "auto", "device": device})
    assert settings.profile == chosen
    assert f"profile auto: {chosen}, since" in caplog.text
    given = make_settings(NodeSettings, {"profile": chosen, "device": device})
    assert flatten(settings) == flatten(given)


def test_profile_paper_is_the_published_method() -> None:
    settings = flatten(make_settings(SegmenterSettings, {"profile": "paper"}))
    published = {
        "reference": True,
        "dino.model": "vit_small_patch8_224.dino",
        "dino.short_side": 224,
        "dino.stride": 2,
        "clustering.groups": 0,  # all positions
        "clustering.splits": 10,
        "clustering.threshold": 0.95,
        "refinement.method": "crf",
        "refinement.min_area": 0.0,
        "clip.model": "ViT-L-14-336",
        "clip.pretrained": "",
        "clip.mode": "global_subtraction",
        "clip.masked_blocks": 4,
        "clip.sigma": 5.0,
        "labeling.method": "zerocap",
        "labeling.templates": ("Image of a {}.",),
        "captions.model": "openai-community/gpt2-medium",
        "captions.beams": 5,
        "captions.max_tokens": 15,
        "captions.steps": 5,
        "merging.enabled": True,
        "merging.threshold": 0.8,
        "merging.greedy": False,
    }
    assert {path: settings[path] for path in published} == published


@pytest.mark.parametrize(
    ("cameras", "fragment"),
    [
        ([], "at least one camera is needed"),
        (["front", ""], "letters, digits and underscores"),
        (["front left"], "'front left'"),
        (["1st"], "'1st'"),
        (["front", "front"], "'front' twice"),
    ],
)
def test_cameras_need_names_that_topics_can_have(cameras: list[str], fragment: str) -> None:
    assert make_settings(NodeSettings, {"cameras": ["front", "left_2"]}).cameras == (
        "front",
        "left_2",
    )
    with pytest.raises(SettingsError, match=r"^cameras: ") as caught:
        make_settings(NodeSettings, {"cameras": cameras})
    assert fragment in str(caught.value)


def test_nested_and_dotted_values_mean_the_same() -> None:
    nested = make_settings(SegmenterSettings, {"clip": {"sigma": 2.0, "mode": "mask"}})
    dotted = make_settings(SegmenterSettings, {"clip.sigma": 2.0, "clip.mode": "mask"})
    assert nested == dotted


def test_given_values_win_over_the_profile() -> None:
    settings = make_settings(SegmenterSettings, {"profile": "fast", "dino.stride": 3})
    assert (settings.dino.stride, settings.clip.model) == (3, "ViT-B-16")


@pytest.mark.parametrize(
    ("values", "fragments"),
    [
        ({"max_ratee": 1.0}, ["'max_ratee'", "did you mean 'max_rate'?", "clip.sigma"]),
        ({"clip": {"sgima": 1.0}}, ["'clip.sgima'", "did you mean 'clip.sigma'?"]),
        ({"clip": 3}, ["'clip'"]),
        ({"profile": "huge"}, ["'huge'", "paper, balanced, fast, edge, mini, auto"]),
        ({"max_rate": 0.0}, ["max_rate", "got 0.0", "0 < max_rate <= 1000"]),
        ({"max_rate": "often"}, ["max_rate", "'often'"]),
        ({"clip.mode": "foo"}, ["clip.mode", "'foo'", "global_subtraction, mask, dense, crop"]),
        ({"dino.stride": 0}, ["dino.stride", "got 0", "1 <= dino.stride <= 64"]),
        ({"dino.stride": 2.5}, ["dino.stride", "2.5"]),
        ({"device": "gpu"}, ["device", "'gpu'"]),
        ({"labeling.templates": ["no place"]}, ["labeling.templates", "'no place'"]),
        ({"labeling.templates": []}, ["labeling.templates", "at least one"]),
    ],
)
def test_errors_name_the_setting_the_value_and_what_is_allowed(
    values: dict[str, Any], fragments: list[str]
) -> None:
    with pytest.raises(SettingsError) as caught:
        make_settings(NodeSettings, values)
    for fragment in fragments:
        assert fragment in str(caught.value)


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(SettingsError, match=r"dino\.stride.*clip\.sigma|clip\.sigma.*dino\.stride"):
        make_settings(SegmenterSettings, {"dino.stride": 0, "clip.sigma": -1.0})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max_rate: 2.0\nclip: {sigma: 3.0}\n", (2.0, 3.0)),
        ("/**:\n  ros__parameters:\n    max_rate: 2.0\n    clip: {sigma: 3.0}\n", (2.0, 3.0)),
        (
            "zgs:\n  ros__parameters: {max_rate: 2.0, clip.sigma: 3.0, use_sim_time: true}\n",
            (2.0, 3.0),
        ),
        ("other:\n  ros__parameters: {frobnicate: 1}\n", (5.0, 5.0)),
        ("", (5.0, 5.0)),
    ],
)
def test_files_are_ros_parameter_files_or_plain_mappings(
    text: str, expected: tuple[float, float], tmp_path: Path
) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    settings = load_settings(NodeSettings, path)
    assert (settings.max_rate, settings.clip.sigma) == expected


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (b"max_rate: [", "not valid YAML"),
        (b"- 1\n- 2\n", "must be a mapping"),
        (b"/**:\n  ros__parameters: {max_ratee: 1.0}\n", "did you mean 'max_rate'?"),
        (b"\xff\x00", "not valid YAML"),
    ],
)
def test_file_errors_name_the_file(content: bytes, fragment: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=fragment) as caught:
        load_settings(NodeSettings, path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_an_error_that_names_it() -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.yaml: can't be read"):
        load_settings(NodeSettings, "nowhere.yaml")


def test_overrides_win_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("max_rate: 2.0\n")
    settings = load_settings(NodeSettings, path, max_rate=7.0, clip__sigma=1.0, device=None)
    assert (settings.max_rate, settings.clip.sigma, settings.device) == (7.0, 1.0, "auto")


def test_settings_are_listed_with_all_that_a_front_end_shows() -> None:
    settings = {setting.path: setting for setting in list_settings(NodeSettings, "mini")}
    assert all(setting.description.endswith(".") for setting in settings.values())
    rate = settings["max_rate"]
    assert (rate.kind, rate.minimum, rate.exclusive_minimum, rate.maximum) == (
        float,
        0.0,
        True,
        1000.0,
    )
    assert rate.live
    assert not settings["clip.sigma"].live
    assert settings["clip.mode"].choices == ("global_subtraction", "mask", "dense", "crop")
    assert settings["clip.model"].default == "zgs-mini-clip"
    assert settings["labeling.templates"].kind is tuple


@pytest.mark.parametrize("former", [{"clustering": {"positions": 7}}, {"clustering.positions": 7}])
def test_a_former_name_works_with_a_warning(
    former: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "zgs_ros.config"):
        assert make_settings(NodeSettings, {"profile": "fast", **former}).clustering.groups == 7
    (message,) = caplog.messages
    assert message.startswith("clustering.positions is now called clustering.groups")


def test_a_former_name_beside_the_current_one_is_an_error() -> None:
    with pytest.raises(
        SettingsError, match=r"clustering\.positions is the former name of"
    ) as caught:
        make_settings(NodeSettings, {"clustering.groups": 7, "clustering.positions": 7})
    assert "give only clustering.groups" in str(caught.value)


def test_a_former_name_in_a_file_gives_way_to_the_current_one_behind_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("/**:\n  ros__parameters: {clustering: {positions: 7}}\n")
    with caplog.at_level(logging.WARNING, "zgs_ros.config"):
        assert load_settings(NodeSettings, path).clustering.groups == 7
        assert load_settings(NodeSettings, path, clustering__groups=9).clustering.groups == 9
        assert load_settings(NodeSettings, path, clustering__positions=8).clustering.groups == 8
    path.write_text("clustering: {positions: 7, groups: 7}")
    with pytest.raises(SettingsError, match=r"params\.yaml: clustering\.positions is the former"):
        load_settings(NodeSettings, path)


def test_names_lead_to_settings_and_former_ones_are_no_settings() -> None:
    paths = {setting.path for setting in list_settings(NodeSettings)}
    assert set(RENAMED.values()) <= paths
    assert not set(RENAMED) & paths
