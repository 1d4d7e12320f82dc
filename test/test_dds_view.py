"""`zgs view` on the network: with the node and a camera as processes, and a browser."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import chromium
from dds_support import DOMAIN, HalvesSegmenter, Peer, cli, interrupt, peer, process
from PIL import Image as Pillow

from zgs_ros.config import NodeSettings, make_settings
from zgs_ros.dds.network import Network
from zgs_ros.dds.node import DdsNode
from zgs_ros.dds.peer import PeerOptions
from zgs_ros.streaming import messages
from zgs_ros.tools.view import Viewer, ViewOptions
from zgs_ros.tools.web.board import Board
from zgs_ros.tools.web.server import QueryFailed

Eventually = Callable[..., None]
NETWORK = Network(DOMAIN, loopback_only=True)


class Pair:
    """A node and a viewer of it in this process."""

    def __init__(self, **settings: Any) -> None:
        values = {"max_rate": 1000.0, **settings}
        self.peer = Peer(
            HalvesSegmenter(), make_settings(NodeSettings, values), PeerOptions(NETWORK)
        )
        self.node = DdsNode("viewer", network=NETWORK)
        self.board = Board("/zgs")
        self.viewer = Viewer(self.node, self.board, ViewOptions(NETWORK))

    def send(self, topic: str, eventually: Eventually, number: int = 1) -> None:
        camera = self.node.create_publisher(topic, "sensor_msgs/msg/Image")
        eventually(camera.subscription_count, "the node listens to the camera")
        header = messages.header(self.node.types, 1_700_000_000_000_000_000 + number, "camera")
        picture = np.full((48, 64, 3), 90, np.uint8)
        camera.publish(messages.rgb_image(self.node.types, header, picture))

    def close(self) -> None:
        self.node.close()
        self.peer.close()


@pytest.fixture
def make_pair() -> Iterator[Callable[..., Pair]]:
    pairs: list[Pair] = []

    def make(**settings: Any) -> Pair:
        pairs.append(Pair(**settings))
        return pairs[-1]

    yield make
    for pair in pairs:
        pair.close()


def test_cameras_of_a_node_are_found_and_searched(
    make_pair: Callable[..., Pair], eventually: Eventually
) -> None:
    pair = make_pair(cameras=["front", "left"])

    def found() -> bool:
        pair.peer.node.look()
        pair.viewer.look()
        time.sleep(0.05)
        return pair.board.state()["cameras"] == ["front", "left"]

    eventually(found, "both cameras")
    pair.viewer.look()  # as it does every now and then: now it knows whom to follow
    outputs = pair.peer.outputs
    eventually(lambda: outputs.wanted("front") and outputs.wanted("left"), "the viewer listens")
    eventually(lambda: pair.viewer._requests.subscription_count(), "the node listens to queries")
    with pytest.raises(QueryFailed, match="there is no result yet"):
        pair.viewer.ask("a mug", "")
    pair.send("/left/image_raw", eventually)
    eventually(lambda: pair.board.state("left")["frame"], "a frame")
    frame = pair.board.state("left")["frame"]
    assert [segment["label"] for segment in frame["segments"]] == ["left", "right"]
    assert pair.board.overlay("left", frame["number"])[:3] == b"\xff\xd8\xff"
    assert pair.board.state("front")["frame"] is None
    answer = pair.viewer.ask("a mug", "")
    assert answer["camera"] == "left"
    assert [found["score"] for found in answer["segments"]] == [1.0, 1.0]


def test_what_is_missing_is_told(make_pair: Callable[..., Pair], eventually: Eventually) -> None:
    pair = make_pair()

    def notice() -> str:
        pair.peer.node.look()
        pair.viewer.look()
        time.sleep(0.05)
        return str(pair.board.state()["notice"])

    eventually(lambda: notice() == "waiting for a camera on /camera/image_raw", "what is missing")
    pair.peer.close()

    def gone() -> bool:
        pair.viewer.look()
        return "has gone" in str(pair.board.state()["notice"])

    eventually(gone, "the node has gone")
    with pytest.raises(QueryFailed, match="does not listen to queries; is it running"):
        pair.viewer.ask("a mug", "")


def test_diagnostics_of_others_and_odd_cameras_are_passed_over(
    make_pair: Callable[..., Pair], eventually: Eventually
) -> None:
    pair = make_pair()
    types = pair.node.types
    names = ["other/zgs: stream", "zgs: stream", "zgs: front", "zgs: ../../x", "zgs: a b"]
    create = types.create_partly
    statuses = [create("diagnostic_msgs/msg/DiagnosticStatus", name=name) for name in names]
    kind = "diagnostic_msgs/msg/DiagnosticArray"
    pair.viewer._diagnose(create(kind, status=statuses[:1]))
    assert pair.board.state()["health"] is None
    pair.viewer._diagnose(create(kind, status=statuses))
    pair.viewer.look()
    assert pair.board.state()["cameras"] == ["front"]


@pytest.mark.parametrize(
    ("given", "reason"),
    [({"address": "localhost"}, "is not an IP address"), ({"port": 70000}, "in 0 .. 65535")],
)
def test_impossible_places_are_refused(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        ViewOptions(NETWORK, **given)


def address_of(viewer: subprocess.Popen[str]) -> str:
    assert viewer.stdout is not None
    for line in viewer.stdout:
        if found := re.search(r"open (http://127\.0\.0\.1:\d+/)", line):
            return found[1]
    raise AssertionError("the viewer told no address")


@pytest.mark.slow
def test_a_browser_sees_the_overlay_change_the_list_and_an_answer(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for index, grey in enumerate((40, 220)):
        Pillow.fromarray(np.full((48, 64, 3), grey, np.uint8)).save(pictures / f"{index}.png")
    with (
        process(cli("camera", pictures, "--rate", 5)),
        process(peer(max_rate=50)),
        process(cli("view", "--port", 0)) as viewer,
        chromium(tmp_path / "chromium") as page,
    ):
        page.open(address_of(viewer))
        # A dark corner that becomes bright and dark again: tinted, so not exactly as it was sent.
        corner = "byId('picture').getContext('2d').getImageData(2, 2, 1, 1).data[0]"
        for condition in ("< 110", "> 130", "< 110"):
            page.wait_for(f"shownFrame && {corner} {condition}")
        labels = "[...document.querySelectorAll('#list .name')].map(n => n.textContent).join()"
        assert page.wait_for(labels) == "left,right"
        assert page.run("byId('live').innerText") == "live"
        page.wait_for("byId('level').innerText === 'OK'")
        page.run("(byId('text').value = 'the left half', byId('ask').requestSubmit())")
        answer = page.wait_for("byId('found').children.length && byId('answer').innerText")
        assert answer == "Best for “the left half”"
        assert page.run("byId('found').querySelector('.score').textContent") == "1.00"
        assert "Traceback" not in interrupt(viewer)
        assert viewer.returncode == 0
        page.wait_for("byId('live').innerText === 'viewer disconnected'")


def test_the_command_warns_where_others_can_look() -> None:
    with process(cli("view", "--address", "0.0.0.0", "--port", 0)) as viewer:
        assert viewer.stdout is not None
        lines = [viewer.stdout.readline() for _ in range(2)]
    assert "open http://127.0.0.1:" in lines[0]
    assert "open to everybody who reaches 0.0.0.0 port" in lines[1]
