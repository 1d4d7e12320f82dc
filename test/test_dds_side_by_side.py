"""Several nodes without ROS beside each other: namespaces, names and remapped topics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import numpy as np
import pytest
from dds_support import DOMAIN, HalvesSegmenter, Peer

from zgs_ros.cli.options import read_remappings
from zgs_ros.config import NodeSettings, make_settings
from zgs_ros.dds.network import Network
from zgs_ros.dds.node import DdsNode
from zgs_ros.dds.peer import PeerOptions
from zgs_ros.streaming import messages
from zgs_ros.streaming.port import QosProfile

Eventually = Callable[..., None]
NETWORK = Network(DOMAIN, loopback_only=True)

NAMES = [
    ({}, "~/segments", "/zgs/segments"),
    ({"namespace": "/robot1/"}, "~/segments", "/robot1/zgs/segments"),
    ({"namespace": "robot1", "name": "eyes"}, "image", "/robot1/image"),
    ({"remappings": {"~/segments": "/labels"}}, "~/segments", "/labels"),
    ({"remappings": {"/zgs/segments": "labels"}, "namespace": "/a"}, "/zgs/segments", "/a/labels"),
    ({"remappings": {"image": "~/picture"}, "namespace": "/a"}, "/a/image", "/a/zgs/picture"),
    ({"remappings": {"~/segments": "/labels"}}, "~/overlay", "/zgs/overlay"),
]


@pytest.mark.parametrize(("options", "topic", "resolved"), NAMES)
def test_names_are_resolved_as_in_ros(options: dict[str, Any], topic: str, resolved: str) -> None:
    with DdsNode(**{"name": "zgs", "network": NETWORK, **options}) as node:
        assert node.resolve(topic) == resolved


@pytest.mark.parametrize("rule", ["~/segments=/labels", ":=/labels", "~/segments:=", "x"])
def test_rules_that_are_none_are_refused(rule: str) -> None:
    assert read_remappings(["~/segments:=/labels"]) == {"~/segments": "/labels"}
    with pytest.raises(ValueError, match="--remap needs FROM:=TO"):
        read_remappings([rule])


def test_names_that_are_not_valid_are_refused() -> None:
    with pytest.raises(ValueError, match="must be letters, digits and underscores"):
        DdsNode("zgs", network=NETWORK, remappings={"~/segments": "/my labels"})


@pytest.fixture
def nodes() -> Iterator[dict[str, Peer]]:
    places = {
        "front": PeerOptions(NETWORK, "/front/image", namespace="/front"),
        "rear": PeerOptions(NETWORK, "/rear/image", namespace="/rear", name="eyes"),
        "side": PeerOptions(
            NETWORK,
            "/side/image",
            name="side",
            remappings={"~/segments": "/labels", "~/query/request": "/find"},
        ),
    }
    settings = make_settings(NodeSettings, {"max_rate": 1000.0})
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(closing(Peer(HalvesSegmenter(), settings, options)))
            for name, options in places.items()
        }


def test_nodes_side_by_side_have_their_own_topics(
    nodes: dict[str, Peer], eventually: Eventually
) -> None:
    assert [peer.port.full_name for peer in nodes.values()] == ["/front/zgs", "/rear/eyes", "/side"]
    topics = {"front": "/front/zgs/segments", "rear": "/rear/eyes/segments", "side": "/labels"}
    with DdsNode("listener", network=NETWORK) as listener:
        got: dict[str, list[Any]] = {name: [] for name in topics}
        for name, topic in topics.items():
            kind, qos = "zgs_ros/msg/SegmentArray", QosProfile(depth=10)
            listener.create_subscription(topic, kind, got[name].append, qos)
            eventually(nodes[name].outputs.wanted, "the listener is seen")
        answers: list[Any] = []
        listener.create_subscription(
            "/side/query/result", "zgs_ros/msg/QueryResult", answers.append, QosProfile(depth=10)
        )
        queries = listener.create_publisher("/find", "zgs_ros/msg/Query")
        for number, name in enumerate(topics, 1):
            camera = listener.create_publisher(f"/{name}/image", "sensor_msgs/msg/Image")
            eventually(camera.subscription_count, "the node listens to its camera")
            header = messages.header(listener.types, number, f"{name}_optical")
            picture = np.full((48, 64, 3), 90, np.uint8)
            camera.publish(messages.rgb_image(listener.types, header, picture))
        eventually(lambda: all(got.values()), "a result of every node")
        for name, [result] in got.items():
            assert result.header.frame_id == f"{name}_optical"
        eventually(queries.subscription_count, "the node listens to queries")
        create = listener.types.create
        queries.publish(create("zgs_ros/msg/Query", text="left", max_results=1, camera=""))
        eventually(lambda: answers, "an answer")
        assert (answers[0].success, answers[0].header.frame_id) == (True, "side_optical")
