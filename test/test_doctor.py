"""The doctor is content with what is well, and tells what is wrong."""

from __future__ import annotations

import getpass
import json
import math
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import torch
from open_clip.transformer import QuickGELU
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

from zgs_ros.bench.models import random_clip
from zgs_ros.cli import app
from zgs_ros.config import NodeSettings, SegmenterSettings, make_settings
from zgs_ros.embedding.clip import ClipEmbedder
from zgs_ros.models.kinds import find_clip
from zgs_ros.models.loading import load_clip, load_dino
from zgs_ros.oversegmentation.features import DinoFeatures
from zgs_ros.streaming.port import Offer, QosProfile
from zgs_ros.tools.doctor import clip as of_clip
from zgs_ros.tools.doctor import dino as of_dino
from zgs_ros.tools.doctor.clip import NORMALISATIONS, Exam, check_clip
from zgs_ros.tools.doctor.exact import check_answers, clip_answers, dino_answers
from zgs_ros.tools.doctor.findings import Finding, exit_code, without_private, write_report
from zgs_ros.tools.doctor.machine import BUILT, check_clock, check_disk, check_ros
from zgs_ros.tools.doctor.models import TEMPLATE, exam, examine_clip, examine_models
from zgs_ros.tools.doctor.network import check_cameras, check_sim_time, examine_network
from zgs_ros.tools.doctor.pictures import DISTRACTORS, DRAWINGS, drawings, scene_names, scenes

CPU, FULL = torch.device("cpu"), torch.float32
MINI = make_settings(SegmenterSettings, {"profile": "mini"})


@pytest.fixture(scope="module")
def exams() -> tuple[Exam, Exam]:
    """On the synthetic world, and on the drawings."""
    return exam(True), exam(False)


@pytest.fixture
def clip() -> ClipEmbedder:
    return load_clip(MINI.clip, CPU, FULL)


@pytest.fixture
def dino() -> DinoFeatures:
    return load_dino(MINI.dino, CPU, FULL)


def errors(findings: Iterator[Finding]) -> set[str]:
    return {finding.name for finding in findings if finding.level == "error"}


# -- pictures


def test_drawings_are_a_dozen_different_things() -> None:
    pictures = drawings()
    assert len(pictures) == len(DRAWINGS) == 12
    assert not set(DRAWINGS) & set(DISTRACTORS)
    assert all(0.02 < picture.thing.mean() < 0.7 for picture in pictures)
    assert len({picture.image.tobytes() for picture in pictures}) == 12
    assert all((a.image == b.image).all() for a, b in zip(pictures, drawings(), strict=True))


def test_scenes_have_several_things() -> None:
    assert sum(len(picture.names) for picture in scenes()) >= 24


# -- the bundled models


def test_the_bundled_models_are_well() -> None:
    findings = list(examine_models(MINI))
    assert [finding.line() for finding in findings if finding.level != "ok"] == []
    assert {finding.room for finding in findings} == {"dino", "clip"}
    assert {finding.name for finding in findings} >= {"names", "positions", "answers", "other ways"}


def test_bfloat16_is_near_enough() -> None:
    settings = make_settings(SegmenterSettings, {"profile": "mini", "precision": "bfloat16"})
    findings = list(examine_models(settings))
    assert exit_code(findings) == 0
    assert sum(finding.name == "precision" for finding in findings) == 2


def wrong_mean(model: Any) -> None:
    model.visual.image_mean, model.visual.image_std = NORMALISATIONS["0.5 and 0.5"]


def quick_gelu(model: Any) -> None:
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.GELU):
                setattr(module, name, QuickGELU())


@torch.no_grad()
def shuffled_positions(model: Any) -> None:
    rows = model.visual.trunk.pos_embed
    order = torch.randperm(rows.shape[1] - 1, generator=torch.Generator().manual_seed(1))
    rows[:, 1:] = rows[:, 1:][:, order]


@torch.no_grad()
def other_tower(model: Any) -> None:
    """That of a model with another embedding space."""
    head = next(p for p in reversed(list(model.visual.parameters())) if p.ndim == 2)
    torch.nn.init.orthogonal_(head, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def new_tower(model: Any) -> None:
    torch.manual_seed(1)
    model.visual.load_state_dict(open_clip_like(model).visual.state_dict())


def open_clip_like(model: Any) -> Any:
    from zgs_ros.models.loading import bundled_folder

    return open_clip.create_model(
        f"local-dir:{bundled_folder('zgs-mini-clip')}", load_weights=False, weights_only=True
    )


@pytest.mark.parametrize(
    ("spoil", "caught"),
    [
        (wrong_mean, {"normalisation", "other ways", "answers"}),
        (quick_gelu, {"activation", "answers"}),
        (shuffled_positions, {"positions", "answers"}),
        (other_tower, {"names", "answers"}),
        (new_tower, {"training", "positions", "names", "answers"}),
    ],
)
def test_a_spoilt_clip_is_caught(
    spoil: Callable[[Any], None], caught: set[str], clip: ClipEmbedder, exams: tuple[Exam, Exam]
) -> None:
    spoil(clip.model)
    spoilt = clip.variant("global_subtraction", 1, 1.0)
    found = errors(check_clip(spoilt, MINI.clip, exams[0], None, False))
    answers = check_answers("clip", clip_answers(spoilt, exams[1]), FULL)
    assert caught <= found | ({"answers"} if answers.level == "error" else set())


@pytest.mark.parametrize("given", ["gelu", "quick_gelu"])
def test_the_true_activation_does_better_whichever_is_given(given: str, clip: ClipEmbedder) -> None:
    """The bundled CLIP was trained with GELU."""
    if given == "quick_gelu":
        quick_gelu(clip.model)
    asked = Exam(scenes(30), scene_names(), TEMPLATE, "global_subtraction")
    compared = of_clip.compare_activations(clip, asked)
    assert compared[0] == "gelu"
    assert compared[2] > of_clip.CLEARLY
    unsaid = of_clip.check_activation_by_names(compared, None)
    assert (unsaid.level, "set clip.pretrained=gelu" in unsaid.remedy) == ("error", True)
    assert of_clip.check_activation_by_names(compared, "gelu").level == "ok"
    assert of_clip.check_activation_by_names(compared, "quick_gelu").level == "warning"


@pytest.mark.parametrize(
    ("compared", "said", "level", "part"),
    [
        (("quick_gelu", 1.2, 5.0), "gelu", "error", "the weights were trained that way"),
        (("quick_gelu", 1.2, 2.0), "gelu", "ok", "which tells nothing"),
        (("quick_gelu", 1.2, 2.0), None, "error", "ask who trained them; set clip.pretrained to"),
    ],
)
def test_an_activation_that_nothing_tells_is_asked_for(
    compared: Any, said: Any, level: str, part: str
) -> None:
    found = of_clip.check_activation_by_names(compared, said)
    assert found.level == level
    assert part in found.line()


@torch.no_grad()
def shuffled_dino(features: DinoFeatures) -> None:
    rows = features.model.pos_embed
    order = torch.randperm(rows.shape[1] - 1, generator=torch.Generator().manual_seed(1))
    rows[:, 1:] = rows[:, 1:][:, order]


def dino_with_wrong_mean(features: DinoFeatures) -> None:
    features.mean = torch.zeros_like(features.mean)


@torch.no_grad()
def dino_without_norms(features: DinoFeatures) -> None:
    for module in features.model.modules():
        if isinstance(module, nn.LayerNorm):
            module.reset_parameters()


@pytest.mark.parametrize(
    ("spoil", "caught"),
    [
        (shuffled_dino, {"positions"}),
        (dino_with_wrong_mean, {"normalisation"}),
        (dino_without_norms, {"training"}),
    ],
)
def test_a_spoilt_dino_is_caught(
    spoil: Callable[[DinoFeatures], None], caught: set[str], dino: DinoFeatures
) -> None:
    spoil(dino)
    assert caught <= errors(of_dino.check_dino(dino, "zgs-mini-dino", True, scenes()))
    assert check_answers("dino", dino_answers(dino, drawings()), FULL).level == "error"


def test_looking_at_other_ways_changes_nothing(
    clip: ClipEmbedder, exams: tuple[Exam, Exam]
) -> None:
    before = clip_answers(clip, exams[1])
    images, texts = exams[0].images(clip), exams[0].texts(clip)
    list(of_clip.check_alternatives(clip, exams[0], images, texts))
    after = clip_answers(clip, exams[1])
    assert all((before[what] == after[what]).all() for what in before)


def test_damaged_arithmetic_is_told(clip: ClipEmbedder, exams: tuple[Exam, Exam]) -> None:
    rough = load_clip(MINI.clip, CPU, torch.bfloat16)
    assert of_clip.check_precision(rough, clip, exams[0]).level == "ok"
    with torch.no_grad():
        for weight in rough.model.parameters():
            weight.mul_(1 + 0.5 * (torch.arange(weight.numel()) % 2).view_as(weight))
    found = of_clip.check_precision(rough, clip, exams[0])
    assert (found.level, found.remedy) == ("error", "use precision=float32")


def test_pictures_as_a_whole_go_through_the_plain_model(
    clip: ClipEmbedder, exams: tuple[Exam, Exam]
) -> None:
    one = exams[1].pictures[0]
    pixels = clip.prepare(torch.from_numpy(one.image))
    plain = torch.nn.functional.normalize(clip.model.encode_image(pixels), dim=-1)[0]
    asked = Exam([one], exams[1].names, exams[1].template).images(clip)[0]
    assert float(plain.detach() @ torch.from_numpy(asked)) > 1 - 1e-5


# -- models of real size, as far as random weights go


@pytest.mark.parametrize(
    ("name", "tag", "quick", "zero"),
    [
        ("ViT-B-32", "openai", True, False),
        ("ViT-B-32", "laion2b_s34b_b79k", False, False),
        ("MobileCLIP-B", "datacompdr", False, True),
    ],
)
def test_what_a_tag_says_is_held_against_the_model(
    name: str, tag: str, quick: bool, zero: bool
) -> None:
    kind = find_clip(
        make_settings(SegmenterSettings, {"clip": {"model": name, "pretrained": tag}}).clip
    )
    wanted = NORMALISATIONS["0 and 1" if zero else "OpenAI's"]
    other = NORMALISATIONS["OpenAI's" if zero else "0 and 1"]
    with torch.device("meta"):
        model: Any = open_clip.CLIP(
            64,
            {"layers": 1, "width": 64, "patch_size": 16, "image_size": 32},
            {"layers": 1, "width": 64, "heads": 1},
            quick_gelu=quick,
        )
    assert of_clip.check_activation(model, kind.quick_gelu).level == "ok"
    assert of_clip.check_activation(model, not kind.quick_gelu).level == "error"
    for given, level in ((wanted, "ok"), (other, "error")):
        model.visual.image_mean, model.visual.image_std = given
        found = of_clip.check_normalisation(model, *of_clip.published_normalisation(kind))
        assert found.level == level


@pytest.mark.parametrize(
    ("tag", "other"), [("openai", "bilinear"), ("datacompdr", "bicubic")], ids=lambda text: text
)
def test_a_wrong_interpolation_is_told(tag: str, other: str, exams: tuple[Exam, Exam]) -> None:
    name = "MobileCLIP-B" if tag == "datacompdr" else "ViT-B-32"
    kind = find_clip(
        make_settings(SegmenterSettings, {"clip": {"model": name, "pretrained": tag}}).clip
    )
    model: Any = open_clip.CLIP(
        64,
        {"layers": 1, "width": 64, "patch_size": 32, "image_size": 224},
        {"layers": 1, "width": 64, "heads": 1},
    )
    model.visual.image_mean, model.visual.image_std = of_clip.published_normalisation(kind)
    for interpolation, level in ((kind.preprocessing["interpolation"], "ok"), (other, "error")):
        model.visual.preprocess_cfg = {"interpolation": interpolation}
        small = ClipEmbedder(model, open_clip.get_tokenizer("ViT-B-32"), "random", blocks=1)
        found = of_clip.check_resizing(small, kind, exams[1].pictures)
        assert found.level == level, found.text
        assert kind.preprocessing["interpolation"] in found.text


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_an_initial_logit_scale_is_told_in_every_arithmetic(precision: torch.dtype) -> None:
    clip = load_clip(MINI.clip, CPU, precision)
    for scale, level in ((1 / 0.07, "error"), (14.6, "warning"), (100.0, "ok")):
        clip.model.logit_scale.data.fill_(math.log(scale))
        assert of_clip.check_logit_scale(clip).level == level


@pytest.mark.slow
def test_random_weights_of_real_size_are_told(tmp_path: Path) -> None:
    torch.manual_seed(0)
    clip = open_clip.create_model("ViT-B-32")
    save_file(
        {k: v.contiguous() for k, v in clip.state_dict().items()}, tmp_path / "clip.safetensors"
    )
    dino = timm.create_model("vit_small_patch16_224.dino", pretrained=False, num_classes=0)
    save_file(dino.state_dict(), tmp_path / "dino.safetensors")
    settings = make_settings(
        SegmenterSettings,
        {
            "dino": {
                "model": "vit_small_patch16_224.dino",
                "weights": str(tmp_path / "dino.safetensors"),
            },
            "clip": {
                "model": "ViT-B-32",
                "pretrained": "openai",
                "weights": str(tmp_path / "clip.safetensors"),
            },
            "device": "cpu",
        },
    )
    findings = list(examine_models(settings))
    wrong = {(f.room, f.name) for f in findings if f.level == "error"}
    assert wrong >= {
        *(("dino", name) for name in ("training", "positions")),
        *(("clip", name) for name in ("training", "positions", "logit scale", "names", "cosines")),
    }
    levels = {(f.room, f.name): f.level for f in findings}
    assert levels["clip", "activation"] == levels["clip", "normalisation"] == "ok"
    assert levels["clip", "resizing"] == levels["clip", "activation by names"] == "ok"
    assert (
        "clip",
        "other ways",
    ) not in levels  # which takes as long as all else, and could tell nothing
    assert levels["dino", "normalisation"] == "ok"
    unsaid = make_settings(
        SegmenterSettings, {"clip": {**settings.clip.model_dump(), "pretrained": ""}}
    )
    [asked] = [f for f in examine_clip(unsaid, CPU, FULL) if f.name == "activation by names"]
    assert asked.level == "error"
    assert "nothing says with which activation" in asked.text
    assert "clip.pretrained to gelu or quick_gelu, or to the tag" in asked.remedy


@torch.no_grad()
def as_if_trained(model: Any) -> None:
    """Gives random weights what every trained CLIP has, and no knowledge."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.weight.add_(0.1 * torch.randn(module.weight.shape, generator=generator))
    model.logit_scale.fill_(math.log(100.0))
    rows = model.visual.positional_embedding
    side = round((len(rows) - 1) ** 0.5)
    places = torch.stack(torch.meshgrid(*2 * [torch.arange(side) / side], indexing="ij"), -1)
    waves = torch.randn(2, rows.shape[1], generator=generator)
    rows[1:] = (3 * places.flatten(0, 1) @ waves).sin() * rows.std()


@torch.no_grad()
def shuffled_rows(model: Any) -> None:
    rows = model.visual.positional_embedding
    rows[1:] = rows[1:][torch.randperm(len(rows) - 1, generator=torch.Generator().manual_seed(1))]


def plain_gelu(model: Any) -> None:
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, QuickGELU):
                setattr(module, name, nn.GELU())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "caught"),
    [
        (lambda model: None, set()),
        (wrong_mean, {"normalisation"}),
        (plain_gelu, {"activation"}),
        (shuffled_rows, {"positions"}),
    ],
    ids=["as it is", "wrong mean", "no QuickGELU", "shuffled positions"],
)
def test_a_spoilt_clip_of_real_size_is_caught(
    spoil: Callable[[Any], None], caught: set[str], exams: tuple[Exam, Exam]
) -> None:
    """What needs knowledge is wrong with random weights in any case; a foreign tower shows in nothing else."""
    settings = make_settings(SegmenterSettings, {"clip": {"model": "ViT-B-16"}}).clip
    clip = random_clip(settings, CPU, FULL)
    as_if_trained(clip.model)
    spoil(clip.model)
    spoilt = clip.variant("mask", 1, 1.0)
    found = errors(check_clip(spoilt, settings, exams[1], find_clip(settings), True))
    assert "names" in found
    knowledge = {"names", "cosines", "different pictures", "different names", "other ways"}
    assert found - knowledge - {"resizing"} == caught


def test_models_that_cant_be_loaded_are_findings_with_a_way_out() -> None:
    settings = make_settings(SegmenterSettings, {"profile": "mini", "clip": {"model": "ViT-X"}})
    [finding] = [f for f in examine_models(settings) if f.room == "clip"]
    assert (finding.name, finding.level) == ("loading", "error")
    assert "open_clip has no model of this name" in finding.text


# -- machine and network


def test_a_clock_of_the_past_is_told() -> None:
    assert check_clock(lambda: BUILT - 1.0).level == "error"
    assert check_clock(lambda: BUILT + 1.0).level == "ok"


def test_a_full_disk_and_a_foreign_middleware_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    for free, level in ((1 << 20, "error"), (1 << 30, "warning"), (1 << 40, "ok")):
        monkeypatch.setattr(shutil, "disk_usage", lambda place, free=free: usage(0, 0, free))
        assert check_disk("disk", tmp_path / "not" / "there", needs_room=True).level == level
    zenoh = {"ROS_DISTRO": "kilted", "RMW_IMPLEMENTATION": "rmw_zenoh_cpp"}
    assert check_ros(zenoh).level == "warning"
    assert check_ros({"ROS_DISTRO": "jazzy"}).level == "ok"


RAW, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"


@pytest.mark.parametrize(
    ("settings", "topic", "offers", "level", "said"),
    [
        ({}, "/a", {"/a": [(RAW, False)]}, "ok", "1 publishers, 0 of them reliable"),
        ({}, "/a", {"/b": [(RAW, False)]}, "warning", "image topics are: /b"),
        ({}, "/a", {}, "warning", "image topics are: none"),
        ({}, "/a", {"/a": [(COMPRESSED, True)]}, "error", "set image_transport=compressed"),
        ({}, "/a", {"/a": [("std_msgs/msg/String", True)]}, "error", "--image-topic"),
        (
            {"image_transport": "compressed"},
            "/a",
            {"/a/compressed": [(COMPRESSED, True)]},
            "ok",
            "1 of them reliable",
        ),
        (
            {"image_reliability": "reliable"},
            "/a",
            {"/a": [(RAW, True), (RAW, False)]},
            "error",
            "set image_reliability=auto",
        ),
    ],
)
def test_cameras(
    settings: dict[str, Any],
    topic: str,
    offers: dict[str, list[tuple[str, bool]]],
    level: str,
    said: str,
) -> None:
    given = {
        name: [Offer(kind, QosProfile(reliable=reliable)) for kind, reliable in found]
        for name, found in offers.items()
    }
    [finding] = check_cameras(make_settings(NodeSettings, settings), [topic], given)
    assert finding.level == level
    assert said in finding.line()


@pytest.mark.parametrize(
    ("in_use", "count", "level"),
    [
        (False, 0, "ok"),
        (True, 1, "ok"),
        (True, 0, "error"),
        (False, 1, "warning"),
        (True, 2, "warning"),
    ],
)
def test_simulated_time(in_use: bool, count: int, level: str) -> None:
    offers = {"/clock": [Offer("rosgraph_msgs/msg/Clock", QosProfile())] * count}
    assert check_sim_time(in_use, offers).level == level


# -- the report


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at {home}/.cache here", "at ~/.cache here"),
        ("at /home/anna/x and /Users/anna", "at ~/x and ~"),
        ("{user} on {host}.", "USER on HOST."),
        ("192.168.1.20:7400, fe80::1 and 127.0.0.1", "ADDRESS:7400, ADDRESS and 127.0.0.1"),
        (
            "torch 2.14.1, stamp 10:12:13, zgs_ros::msg",
            "torch 2.14.1, stamp 10:12:13, zgs_ros::msg",
        ),
    ],
)
def test_nothing_private_is_reported(
    text: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "bertha")
    monkeypatch.setattr(socket, "gethostname", lambda: "robot-7.lab")
    monkeypatch.setenv("HOME", "/srv/people/bertha")
    given = text.format(home="/srv/people/bertha", user="bertha", host="robot-7")
    assert without_private(given) == shown


def test_only_reports_are_overwritten(tmp_path: Path) -> None:
    path, finding = tmp_path / "report.txt", Finding("machine", "clock", "ok", "shows now")
    for _ in range(2):
        write_report(path, [finding])
    assert "ok" in path.read_text()
    path.write_text("my own notes")
    with pytest.raises(FileExistsError, match="is no report of zgs doctor"):
        write_report(path, [finding])
    assert path.read_text() == "my own notes"
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(FileExistsError):
        write_report(tmp_path / "link", [finding])


# -- the command


def test_the_command_writes_json_and_a_report(tmp_path: Path) -> None:
    report = tmp_path / "report.txt"
    arguments = ["doctor", "--profile", "mini", "--no-network", "--json", "--report", str(report)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    written = json.loads(result.stdout)
    assert written["healthy"] is True
    assert {"machine", "dino", "clip"} == {finding["room"] for finding in written["findings"]}
    assert "clip, names" in report.read_text()


def test_the_command_ends_with_1_where_something_is_wrong(tmp_path: Path) -> None:
    arguments = ["doctor", "--no-network", "--profile", "mini", "--set", "clip.model=ViT-X"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "error    clip, loading" in result.output


def test_the_command_looks_at_the_network() -> None:
    pytest.importorskip("cyclonedds")
    arguments = ["doctor", "--no-models", "--profile", "mini", "--local", "--domain", "87"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "network, DDS: domain 87" in result.output
    assert "nobody publishes it; image topics are: none" in result.output


def test_a_camera_on_the_network_is_found_with_its_qos() -> None:
    pytest.importorskip("cyclonedds")
    from zgs_ros.dds.network import Network
    from zgs_ros.dds.node import DdsNode
    from zgs_ros.streaming.port import SENSOR

    network = Network(domain=88, loopback_only=True)
    with DdsNode("camera", network=network) as node:
        node.create_publisher("/camera/image_raw", RAW, SENSOR)
        settings = make_settings(NodeSettings, {"profile": "mini"})
        found = {f.name: f for f in examine_network(settings, lambda: network, seconds=1.0)}
    assert found["camera /camera/image_raw"].text == "1 publishers, 0 of them reliable"
    assert found["simulated time"].level == "ok"
