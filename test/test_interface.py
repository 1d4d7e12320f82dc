"""The documented topics and services are those that a node has."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cyclonedds.builtin import (
    BuiltinDataReader,
    BuiltinTopicDcpsPublication,
    BuiltinTopicDcpsSubscription,
)
from cyclonedds.domain import DomainParticipant
from cyclonedds.qos import Policy
from dds_support import DOMAIN, HalvesSegmenter, Peer

from zgs_ros.config import NodeSettings, SettingsError, make_settings
from zgs_ros.dds import raw
from zgs_ros.dds.network import Network
from zgs_ros.dds.node import DdsNode
from zgs_ros.dds.peer import PeerOptions
from zgs_ros.streaming.interface import (
    NODE_TOPICS,
    Endpoint,
    check_cameras,
    endpoints,
    reserved_names,
)
from zgs_ros.streaming.outputs import OUTPUT_NAMES, OUTPUTS
from zgs_ros.streaming.port import SENSOR, QosProfile

ROOT = Path(__file__).parents[1]
REFERENCE = runpy.run_path(str(ROOT / "scripts" / "write_reference.py"))
DDS_PREFIXES = ("rt/", "rq/", "rr/")
INPUTS = ("image", "depth", "camera_info")
NETWORK = Network(DOMAIN, loopback_only=True)

CASES: tuple[dict[str, Any], ...] = (
    {},
    {"depth.enabled": True},
    {"publish_detections": True, "image_transport": "compressed"},
    {"cameras": ["front", "left"], "depth.enabled": True, "publish_detections": True},
    {"publish_features": True},
)


@pytest.mark.parametrize("page", REFERENCE["PAGES"])
def test_the_reference_is_written_from_the_code(page: str) -> None:
    expected = REFERENCE["PAGES"][page]()
    written = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert written == expected, "run: python scripts/write_reference.py"


def described(endpoint: Endpoint) -> Iterator[tuple[str, str, str]]:
    """Direction, name and type of the DDS topics of an endpoint, on a node `/zgs`."""
    name = endpoint.name.replace("~", "/zgs")
    name = name if name.startswith("/") else f"/{name}"
    if endpoint.direction == "service":
        yield "in", f"rq{name}Request", endpoint.type_name
        yield "out", f"rr{name}Reply", endpoint.type_name
    else:
        yield endpoint.direction, f"rt{name}", endpoint.type_name


def discovered(participant: DomainParticipant, peer: Peer) -> set[tuple[str, str, str]]:
    """The same of what another participant sees of a peer."""
    kinds = {"out": BuiltinTopicDcpsPublication, "in": BuiltinTopicDcpsSubscription}
    mine = peer.port._participant.guid
    return {
        (direction, found.topic_name, ros_type(found.type_name))
        for direction, kind in kinds.items()
        for found in BuiltinDataReader(participant, kind).take(N=200)
        if found.participant_key == mine and found.topic_name.startswith(DDS_PREFIXES)
    }


def ros_type(dds_name: str) -> str:
    """``sensor_msgs::msg::dds_::Image_`` to ``sensor_msgs/msg/Image``; that of a service's parts."""
    package, kind, _, name = dds_name.split("::")
    name = name.removesuffix("_").removesuffix("_Request").removesuffix("_Response")
    return f"{package}/{kind}/{name}"


QOS = {
    "/diagnostics": QosProfile(reliable=True, depth=10, transient_local=False),
    **{
        f"~/{name}": QosProfile(reliable=True, depth=10, transient_local=False)
        for name in (
            *("alerts", "query/request", "query/result", "watch/request", "watch/result"),
            *("set_classes/request", "set_classes/result"),
        )
    },
}
RESULTS = QosProfile(reliable=True, depth=1, transient_local=False)


def test_the_qos_that_others_rely_on() -> None:
    assert {end.name: end.qos for end in NODE_TOPICS} == QOS
    latched = QosProfile(reliable=True, depth=1, transient_local=True)
    expected = {
        **dict.fromkeys(OUTPUT_NAMES, RESULTS),
        "label_info": latched,
        "label_info_16": latched,
    }
    assert {row.topic: row.qos for row in OUTPUTS} == expected


@pytest.mark.parametrize("qos", [*QOS.values(), RESULTS, SENSOR, QosProfile(transient_local=True)])
def test_a_qos_is_what_dds_is_given(qos: QosProfile) -> None:
    policies = set(raw.endpoint_qos(qos, "RIHS01_0"))
    reliable = any(isinstance(policy, Policy.Reliability.Reliable) for policy in policies)
    kept = Policy.Durability.TransientLocal in policies
    assert (reliable, kept) == (qos.reliable, qos.transient_local)
    assert Policy.History.KeepLast(qos.depth) in policies


RESERVED = {
    *("segments", "label_image", "overlay", "markers", "detections", "detections_3d"),
    *("query", "segment_image", "feature_image", "embed"),
    *(
        "label_mask",
        "label_mask_16",
        "confidence",
        "label_info",
        "label_info_16",
        "instances",
        "alerts",
    ),
    *("query", "segment_image", "segment_mask", "set_classes", "watch", "enable"),
    *("points", "labelled_points", "object_cloud"),
}


def test_cameras_can_not_be_called_like_topics_of_the_node() -> None:
    assert reserved_names() == RESERVED
    for name in RESERVED:
        settings = make_settings(NodeSettings, {"cameras": ["front", name]})
        with pytest.raises(SettingsError, match=f"'{name}' is a topic of the node itself"):
            check_cameras(settings)
    check_cameras(make_settings(NodeSettings, {"cameras": ["front", "left"]}))


@pytest.mark.parametrize("given", CASES, ids=lambda given: ", ".join(given) or "defaults")
def test_a_node_has_what_is_documented(
    given: dict[str, Any], eventually: Callable[..., None]
) -> None:
    settings = make_settings(NodeSettings, given)
    expected = {row for endpoint in endpoints(settings) for row in described(endpoint)}
    one = settings.cameras == ("",)
    parts = {part: f"/{part}" if one else f"/{{camera}}/{part}" for part in INPUTS}
    options = PeerOptions(NETWORK, **{f"{part}_topic": topic for part, topic in parts.items()})
    peer = Peer(HalvesSegmenter(), settings, options)
    try:
        with DdsNode("observer", network=NETWORK) as observer:
            seen = partial(discovered, observer._participant, peer)
            eventually(lambda: seen() == expected, f"the node has {expected}")
    finally:
        peer.close()
