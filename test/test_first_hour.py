"""A new user's first hour, with real processes: fetch, look, label a picture, run a node, go offline.

The hub is on localhost. Files have the layouts and names of weights that are published, and models of
DINO and CLIP a real size, but random values: `zgs doctor` has to say so. Only the GPT-2 of captions is a
tiny one. What would take an hour on a CPU is made smaller, see `SMALLER`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fake_hub
import pytest
import torch
from dds_support import DOMAIN
from fake_hub import Hub
from PIL import Image
from ros_support import RMWS, Ros
from safetensors.torch import load_file, save_file

from zgs_ros.bench.measuring import camera_frames
from zgs_ros.bench.models import random_clip, random_dino
from zgs_ros.config import PROFILES, SegmenterSettings, make_settings
from zgs_ros.models.loading import BUNDLED, CLIP_FILES, DINO_FILES, all_weights
from zgs_ros.tools.processes import dies_with_parent

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
REVISION = "c" * 40
NOWHERE = "http://127.0.0.1:9"
"""No hub is there."""
PATIENCE = 1500
SMALL_CLIP = {"clip.model": "ViT-B-32"}
"""OpenAI's smallest, in place of the largest: 50 positions instead of 577, a quarter of the file."""
FEW_PHRASES = {"labeling.vocabulary": "synthetic"}
"""Instead of thousands that a first start embeds."""
SMALLER: dict[str, dict[str, Any]] = {
    "paper": {
        **SMALL_CLIP,
        "dino.short_side": 56,  # a tenth of the positions, which attend to each other
        "clustering.splits": 2,  # three segments
        "captions.max_tokens": 1,  # a label of one word
        "captions.steps": 1,
    },
    "balanced": {**SMALL_CLIP, **FEW_PHRASES, "dino.short_side": 112, "clustering.splits": 3},
    "edge": FEW_PHRASES,
}
"""Settings of profiles that would take long on a CPU; the others' are their own."""
UNTRAINED = {("dino", "training"), ("dino", "positions"), ("clip", "training"), ("clip", "names")}
"""What `zgs doctor` has to find wrong with random weights, at least."""


@dataclass(frozen=True)
class Newcomer:
    """Somebody with an empty home folder, and the hub.

    Attributes:
        env: Environment of the programs that they start.
        home: Their home folder.
        hub: Where weights are.
    """

    env: dict[str, str]
    home: Path
    hub: Hub

    def zgs(self, *arguments: str, offline: bool = False) -> subprocess.CompletedProcess[str]:
        """A command that ends by itself."""
        return subprocess.run(
            [sys.executable, "-m", "zgs_ros", *arguments],
            env={**self.env, **({"HF_ENDPOINT": NOWHERE} if offline else {})},
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def log(self, command: str) -> Path:
        """What a running command wrote."""
        return self.home / f"{command}.log"

    @contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """A command that runs until Ctrl-C, where no hub can be reached."""
        with (
            self.log(arguments[0]).open("w") as log,
            subprocess.Popen(
                [sys.executable, "-m", "zgs_ros", *arguments, *PLACE],
                env={**self.env, "HF_ENDPOINT": NOWHERE},
                cwd=self.home,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=dies_with_parent(),
            ) as process,
        ):
            try:
                yield process
            finally:
                process.kill()


PLACE = ("--local", "--domain", str(DOMAIN))


@pytest.fixture(scope="module")
def newcomer() -> Iterator[Newcomer]:
    """Nothing is in the home folder but a picture."""
    with tempfile.TemporaryDirectory() as folder, fake_hub.serve() as hub:
        home = Path(folder, "home")
        home.mkdir()
        Image.fromarray(camera_frames(320, 240)[0][0]).save(home / "picture.png")
        env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        env |= {"HF_ENDPOINT": hub.url, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
        env |= {"HOME": str(home), "HF_HOME": str(home / "hf"), "XDG_CACHE_HOME": str(home / "c")}
        yield Newcomer(env, home, hub)


def publish(settings: SegmenterSettings, hub: Hub, folder: Path) -> bool:
    """Puts random weights of models on the hub, as real ones are published, where it has none yet.

    Returns:
        Whether it had not all of them.
    """
    folder.mkdir(exist_ok=True)
    before = len(hub.files)
    for weights in all_weights(settings):
        if weights.path or weights.repository in hub.files:
            continue
        if weights.kind == "captions":
            hub.put(weights.repository, REVISION, gpt2_files(folder / "gpt2"))
            continue
        make, names = {"dino": (random_dino, DINO_FILES), "clip": (random_clip, CLIP_FILES)}[
            weights.kind
        ]
        model: Any = make(getattr(settings, weights.kind), CPU, torch.float32).model
        path = folder / f"{weights.repository.replace('/', '_')}.safetensors"
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path)
        hub.put(weights.repository, REVISION, {names[0]: path})
    return len(hub.files) > before


def gpt2_files(folder: Path) -> dict[str, bytes | Path]:
    """A tiny GPT-2 in OpenAI's layout: without a prefix, and with the masks of its attention."""
    from tiny_gpt2 import write_gpt2

    write_gpt2(folder)
    path = folder / "model.safetensors"
    weights = {k.removeprefix("transformer."): v for k, v in load_file(path).items()}
    mask = torch.ones(1, 1, 64, 64).tril()
    save_file({**weights, **{f"h.{layer}.attn.bias": mask.clone() for layer in range(2)}}, path)
    return {name: folder / name for name in ("config.json", "tokenizer.json", "model.safetensors")}


def options(profile: str, **more: Any) -> list[str]:
    """Of every command: the profile, and what is made smaller."""
    pairs = (f"{key}={value}" for key, value in {**SMALLER.get(profile, {}), **more}.items())
    return ["--profile", profile, *(part for pair in pairs for part in ("--set", pair))]


def settings_of(profile: str) -> SegmenterSettings:
    """What `options` stand for."""
    values = SMALLER.get(profile, {}).items()
    return make_settings(SegmenterSettings, {"profile": profile, **nested(values)})


def nested(values: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Settings by section and name instead of by dotted path."""
    found: dict[str, Any] = {}
    for path, value in values:
        section, name = path.split(".")
        found.setdefault(section, {})[name] = value
    return found


@pytest.fixture(scope="module", params=PROFILES)
def profile(request: pytest.FixtureRequest, newcomer: Newcomer) -> str:
    """Each profile, its weights fetched."""
    name: str = request.param
    settings = settings_of(name)
    is_new = publish(settings, newcomer.hub, newcomer.home.with_name("published"))
    asked = newcomer.hub.requests.total()
    pulled = newcomer.zgs("models", "pull", "--no-check", *options(name))
    assert pulled.returncode == 0, pulled.stdout + pulled.stderr
    assert "Traceback" not in pulled.stderr
    assert (newcomer.hub.requests.total() > asked) == is_new
    for weights in all_weights(settings):
        assert (weights.repository.replace("/", "--") or str(weights.path)) in pulled.stdout
    return name


def test_the_doctor_says_what_is_wrong_and_nothing_else(profile: str, newcomer: Newcomer) -> None:
    done = newcomer.zgs("doctor", "--json", *PLACE, *options(profile), offline=True)
    found = {(f["room"], f["name"]): f for f in json.loads(done.stdout)["findings"]}
    wrong = {key for key, finding in found.items() if finding["level"] == "error"}
    trained = settings_of(profile).clip.model in BUNDLED
    assert done.returncode == (0 if trained else 1)
    assert wrong >= (set() if trained else UNTRAINED)
    assert {room for room, _ in wrong} <= {"dino", "clip", "captions"}
    assert all(found[key]["remedy"] for key in wrong)
    for room in ("dino", "clip"):
        assert found[room, "loading"]["level"] == found[room, "normalisation"]["level"] == "ok"
    assert found["clip", "activation"]["level"] == "ok"


def test_a_picture_gets_labels_without_a_network(profile: str, newcomer: Newcomer) -> None:
    given = ("--out", f"labelled_{profile}", *options(profile, **FEW_PHRASES))
    done = newcomer.zgs("label", "picture.png", *given, offline=True)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    out = newcomer.home / f"labelled_{profile}"
    described = json.loads((out / "picture.json").read_text())
    assert described["segments"]
    assert all(segment["label"].strip() for segment in described["segments"])
    assert Image.open(out / "picture.overlay.png").size == (320, 240)


def test_a_node_names_what_a_camera_sees_without_a_network(
    profile: str, newcomer: Newcomer
) -> None:
    with (
        newcomer.running("run", *options(profile)) as node,
        newcomer.running("camera", "picture.png", "--rate", "2") as camera,
        newcomer.running(
            *("watch", "--frames", "1", "--timeout", str(PATIENCE)),
            *("--node-timeout", str(PATIENCE), "--out", f"seen_{profile}"),
        ) as viewer,
    ):
        log = newcomer.log("run")
        assert viewer.wait(PATIENCE) == 0, newcomer.log("watch").read_text() + log.read_text()
        for process in (camera, node):
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 0, log.read_text()
        assert "Traceback" not in log.read_text()
    [line] = (newcomer.home / f"seen_{profile}" / "segments.jsonl").read_text().splitlines()
    segments = json.loads(line)["segments"]
    assert segments
    assert all(segment["label"].strip() for segment in segments)


@pytest.mark.ros
@pytest.mark.parametrize(("profile", "ros"), [("mini", RMWS[0]), ("fast", RMWS[1])], indirect=True)
def test_the_launch_file_starts_a_node_without_a_network(
    profile: str, newcomer: Newcomer, ros: Ros, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HOME", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.setitem(ros.env, name, newcomer.env[name])
    monkeypatch.setitem(ros.env, "HF_ENDPOINT", NOWHERE)
    with ros.launched(profile=profile, max_rate="5.0") as process:
        process.wait_for("listens to /camera/image_raw", PATIENCE)
        seen = ros.ask("watch", results=1, seconds=PATIENCE)
    assert seen["segments"][0]["labels"]
    assert "Traceback" not in process.text
