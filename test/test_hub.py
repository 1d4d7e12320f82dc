"""Weights from a hub that misbehaves: the right file or one clear message, and then all is well."""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import fake_hub
import numpy as np
import pytest
import timm
import torch
from fake_hub import Hub
from huggingface_hub import constants
from safetensors.numpy import save as as_safetensors
from typer.testing import CliRunner

from zgs_ros import progress
from zgs_ros.cli import app
from zgs_ros.config import SegmenterSettings, make_settings
from zgs_ros.models import hub as module
from zgs_ros.models.hub import HubError, find_file, verify, weights_file
from zgs_ros.models.kinds import read_shapes
from zgs_ros.models.loading import load_dino

REPOSITORY = "owner/model"
OLD, NEW = "a" * 40, "b" * 40
FIRST, SECOND = NAMES = ("first.safetensors", "second.safetensors")
SIZE = 1 << 20


def weights(seed: int) -> bytes:
    values = np.random.default_rng(seed).standard_normal(SIZE // 4, np.float32)
    return as_safetensors({"visual.proj": values})


RIGHT, OTHER = weights(0), weights(1)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with one model, and an empty cache."""
    for variable in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 2)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", fake_hub.BLOCK)
    monkeypatch.setattr(module, "PAUSES", (0.01, 0.01))
    with fake_hub.serve() as hub:
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        hub.put(REPOSITORY, OLD, {FIRST: RIGHT})
        yield hub


def load() -> bytes:
    """What a start does."""
    return weights_file(
        REPOSITORY, NAMES, check=lambda path: (read_shapes(path), None)[1]
    ).read_bytes()


def mend(hub: Hub) -> None:
    hub.answers, hub.stubborn, hub.headers = {}, False, {}
    hub.cut_after, hub.resumes, hub.pause, hub.damaged = None, True, 0.0, False


class Trouble(NamedTuple):
    """How the hub misbehaves, and what is said; "" if the right file comes all the same."""

    behaviour: dict[str, Any]
    message: str = ""


TROUBLES = {
    "well": Trouble({}),
    "slow": Trouble({"pause": 0.05}),
    "cut off now and then": Trouble({"cut_after": SIZE // 2}),
    "cut off, and parts are not served": Trouble(
        {"cut_after": SIZE // 2, "resumes": False},
        "broke the download off 4 times; try again later",
    ),
    "busy once": Trouble({"answers": {FIRST: [503]}}),
    "busy for ever": Trouble({"answers": {FIRST: [503]}, "stubborn": True}, "answers 503 to first"),
    "too many requests": Trouble(
        {"answers": {FIRST: [429]}, "stubborn": True}, "takes no more requests from here for now"
    ),
    "no login": Trouble({"answers": {FIRST: [401]}}, "log in with `hf auth login` or HF_TOKEN"),
    "gated": Trouble(
        {"answers": {FIRST: [403]}, "headers": {"X-Error-Code": "GatedRepo"}},
        "does not give owner/model to this account: ask for access on http",
    ),
    "forbidden": Trouble({"answers": {FIRST: [403]}}, "ask for access on http"),
    "no repository": Trouble(
        {"answers": {FIRST: [404]}, "headers": {"X-Error-Code": "RepoNotFound"}},
        "the hub has no owner/model, or gives it only to some",
    ),
    "wrong checksum": Trouble({"damaged": True}, "does not have the checksum that the hub names"),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_the_right_file_or_one_clear_message(name: str, hub: Hub) -> None:
    trouble = TROUBLES[name]
    vars(hub).update({key: value for key, value in trouble.behaviour.items() if key != "answers"})
    hub.answers = {key: list(value) for key, value in trouble.behaviour.get("answers", {}).items()}
    if trouble.message:
        with pytest.raises(HubError) as caught:
            load()
        assert trouble.message in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1
        assert hub.requests["HEAD", SECOND] == 0, "only a missing file leads to another name"
        mend(hub)
    assert load() == RIGHT
    asked = hub.requests.total()
    assert load() == RIGHT
    assert hub.requests.total() == asked, "what the cache has is not asked for"
    leftovers = [*Path(constants.HF_HUB_CACHE).rglob("*.incomplete")]
    assert leftovers == []


def test_a_missing_file_leads_to_the_next_name(hub: Hub) -> None:
    hub.put(REPOSITORY, OLD, {SECOND: RIGHT})
    assert load() == RIGHT
    hub.put(REPOSITORY, NEW, {"README.md": b""})
    shutil.rmtree(constants.HF_HUB_CACHE)
    with pytest.raises(HubError, match=r"has none of first.safetensors, second.safetensors"):
        load()


def test_a_file_of_another_kind_is_not_kept(hub: Hub) -> None:
    hub.put(REPOSITORY, OLD, {FIRST: b"no safetensors"})
    with pytest.raises(HubError, match=r"can't be read as safetensors .* It was not kept"):
        load()
    assert not [path for path in Path(constants.HF_HUB_CACHE).rglob("*") if path.name == FIRST]
    hub.put(REPOSITORY, OLD, {FIRST: RIGHT})
    assert load() == RIGHT


def test_a_cached_file_of_another_kind_is_passed_over(hub: Hub) -> None:
    snapshot = Path(constants.HF_HUB_CACHE, "models--owner--model", "snapshots", OLD)
    snapshot.mkdir(parents=True)
    (snapshot / FIRST).write_bytes(RIGHT[: SIZE // 2])
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text(OLD)
    hub.put(REPOSITORY, NEW, {FIRST: RIGHT})
    assert load() == RIGHT
    assert (snapshot / FIRST).exists(), "it may be another program's"


def test_a_download_goes_on_where_it_stopped(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.pause = 0.02
    stopped = progress.Activity.report

    def stop(self: progress.Activity, done: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(progress.Activity, "report", stop)
    with pytest.raises(KeyboardInterrupt):
        load()
    monkeypatch.setattr(progress.Activity, "report", stopped)
    [partial] = Path(constants.HF_HUB_CACHE).rglob("*.incomplete")
    kept = partial.stat().st_size
    assert 0 < kept < len(RIGHT)
    hub.cut_after = len(RIGHT) - kept  # only a request for the rest is served whole
    hub.pause = 0.0
    assert load() == RIGHT
    assert hub.requests["GET", FIRST] == 2


def test_a_revision_is_kept_when_the_hub_moves_on(hub: Hub) -> None:
    hub.put(REPOSITORY, OLD, {FIRST: RIGHT, "more.safetensors": RIGHT})
    assert load() == RIGHT
    hub.put(REPOSITORY, NEW, {FIRST: OTHER, "more.safetensors": OTHER})
    assert weights_file(REPOSITORY, ("more.safetensors",)).read_bytes() == RIGHT
    path = weights_file(REPOSITORY, NAMES)
    path.resolve().write_bytes(bytes(SIZE))
    assert not verify(path)
    assert load() == RIGHT
    assert module.fetch(find_file(REPOSITORY, NAMES, newest=True)).read_bytes() == OTHER
    assert load() == OTHER, "from now on"


def test_a_revision_that_is_gone_names_the_way_out(hub: Hub) -> None:
    path = weights_file(REPOSITORY, NAMES)
    path.resolve().unlink()
    hub.files.clear()
    hub.put(REPOSITORY, NEW, {FIRST: OTHER})
    with pytest.raises(HubError, match="is gone from the hub; `zgs models pull --newest`"):
        load()


def test_a_disk_without_room_is_told_before_it_is_full(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=10_000_000))
    with pytest.raises(
        HubError, match=r"needs 69 MB, but .* has 10 MB free; make room, or set HF_HOME"
    ):
        load()
    monkeypatch.undo()


def test_a_disk_that_gets_full_keeps_nothing(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module._Watched, "write", full)
    with pytest.raises(HubError, match=r"can't be kept: .*No space left on device"):
        load()
    assert [*Path(constants.HF_HUB_CACHE).rglob("*.incomplete")] == []
    monkeypatch.undo()


@pytest.mark.parametrize("spoil", ["dangling", "no refs", "broken pin", "read only"])
def test_stale_caches(spoil: str, hub: Hub) -> None:
    path = weights_file(REPOSITORY, NAMES)
    folder = path.parents[2]
    spoilers: dict[str, Callable[[], Any]] = {
        "dangling": lambda: path.resolve().unlink(),
        "no refs": lambda: shutil.rmtree(folder / "refs"),
        "broken pin": lambda: (folder / "refs" / module.PIN).write_bytes(b"\xff../../.."),
        "read only": lambda: (folder / "refs").chmod(0o500),
    }
    spoilers[spoil]()
    try:
        assert load() == RIGHT
    finally:
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs").chmod(0o700)


def test_of_two_processes_one_downloads(hub: Hub) -> None:
    hub.pause = 0.02
    fork = multiprocessing.get_context("fork")  # a new interpreter would load all libraries anew
    with fork.Pool(2) as pool:
        found = [pool.apply_async(load) for _ in range(2)]
        assert [one.get(timeout=60) for one in found] == [RIGHT] * 2
    assert hub.requests["GET", FIRST] == 1


def test_a_server_that_is_no_hub(hub: Hub) -> None:
    hub.put(REPOSITORY, "../../../..", {FIRST: RIGHT})
    with pytest.raises(HubError, match="names an impossible revision or checksum"):
        load()


def pull(*options: str) -> tuple[int, str]:
    """Runs `zgs models pull`; its exit code, and all that it says."""
    arguments = ["models", "pull", "--no-check", *options]  # the weights are made up
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    return result.exit_code, result.output


def test_the_command_shows_size_and_licence_and_fetches_once(hub: Hub) -> None:
    model = timm.create_model("test_vit.r160_in1k", pretrained=False)
    published = {name: value.numpy() for name, value in model.state_dict().items()}
    hub.put("timm/test_vit.r160_in1k", OLD, {"model.safetensors": as_safetensors(published)})
    options = ("--profile", "mini", "--set", "dino.model=test_vit.r160_in1k")
    code, said = pull(*options)
    assert code == 0, said
    assert "timm/test_vit.r160_in1k: model.safetensors, 1.5 MB" in said
    assert f"revision {OLD[:12]}, licence mit" in said
    code, said = pull(*options)
    assert (code, "test_vit.r160_in1k" in said, "here, 1.5 MB" in said) == (0, True, True)
    assert hub.requests["GET", "model.safetensors"] == 1
    [blob] = Path(constants.HF_HUB_CACHE).glob("*/blobs/*")
    blob.write_bytes(bytes(blob.stat().st_size))
    assert pull(*options)[0] == 0, "a damaged file is fetched again"
    assert hub.requests["GET", "model.safetensors"] == 2
    settings = make_settings(SegmenterSettings, {"dino.model": "test_vit.r160_in1k"})
    loaded = load_dino(settings.dino, torch.device("cpu"), torch.float32)
    torch.testing.assert_close(loaded.model.pos_embed.data, model.pos_embed.data)


def test_a_busy_hub_never_leads_to_the_image_tower_alone(hub: Hub) -> None:
    """timm's CLIP repositories keep the image tower, in timm's own format, as ``model.safetensors``."""
    repository = "timm/vit_base_patch16_clip_224.openai"
    hub.put(repository, OLD, {"model.safetensors": RIGHT})
    name = "open_clip_model.safetensors"
    hub.answers, hub.stubborn = {name: [503]}, True
    options = (
        "--profile",
        "mini",
        "--set",
        "clip.model=ViT-B-16",
        "--set",
        "clip.pretrained=openai",
    )
    code, said = pull(*options)
    assert code == 1
    assert "the hub answers 503 to open_clip_model.safetensors" in said
    mend(hub)
    code, said = pull(*options)
    assert code == 1
    assert "has none of open_clip_model.safetensors, open_clip_pytorch_model.safetensors" in said
    hub.put(repository, OLD, {name: RIGHT})
    code, said = pull(*options)
    assert code == 1
    assert "is an image tower alone" in said
    assert len(said.strip().splitlines()) <= 6, "files that are here, and an error of three lines"
    assert hub.requests["GET", "model.safetensors"] == 0
