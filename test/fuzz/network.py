"""What the environment says of the network, and what others say on it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock
from xml.etree import ElementTree

from cyclonedds.domain import Domain
from cyclonedds.qos import Policy, Qos

from fuzz.engine import target
from zgs_ros.dds import network
from zgs_ros.dds.discovery import _offer
from zgs_ros.dds.network import Network, NetworkError

DOMAIN = 231
"""That nobody else uses."""
_getaddrinfo = socket.getaddrinfo


def _numeric(host: Any, port: Any, family: int = 0, *_: Any, **__: Any) -> Any:
    """Looks nothing up: names would go out to the network."""
    return _getaddrinfo(host, port, family, 0, 0, socket.AI_NUMERICHOST)


def _seeds() -> Iterator[bytes]:
    for peers in (
        "127.0.0.1",
        "10.0.0.1:7400;laptop.invalid",
        "fe80::1",
        "[::1]:7410;x",
        "'\"<&>;]]>;1.2.3.4:99999",
        ";;",
        "1;0x7f.1;127.1",
    ):
        for reach in ("LOCALHOST", "SUBNET", "off", ""):
            yield f"{reach}|{peers}".encode()


@target(NetworkError, seeds=_seeds, longest=1024)
def peers(data: bytes) -> None:
    """ROS_AUTOMATIC_DISCOVERY_RANGE and ROS_STATIC_PEERS, as far as Cyclone DDS takes them."""
    reach, _, names = data.decode("utf-8", "surrogateescape").partition("|")
    environment = {"ROS_AUTOMATIC_DISCOVERY_RANGE": reach, "ROS_STATIC_PEERS": names}
    found = Network.from_environment(DOMAIN, False, environment)
    with (
        mock.patch.object(network, "RESOLVE_SECONDS", 1.0),
        mock.patch.object(socket, "getaddrinfo", _numeric),
    ):
        resolved, _ = found.resolved()
    config = resolved.cyclone_config()
    ElementTree.fromstring(config)
    Domain(DOMAIN, config)


@target(NetworkError, seeds=lambda: [b"0", b"232", b" 7 ", "\u0664".encode(), b"-1"], longest=100)
def domain(data: bytes) -> None:
    """ROS_DOMAIN_ID."""
    text = data.decode("utf-8", "surrogateescape")
    assert 0 <= Network.from_environment(None, False, {"ROS_DOMAIN_ID": text}).domain <= 232


@target(
    seeds=lambda: [b"sensor_msgs::msg::dds_::Image_", b"zgs_ros::srv::dds_::Query_Request_", b"x"]
)
def type_name(data: bytes) -> None:
    """What a publisher on the network calls its type."""
    qos = Qos(Policy.Reliability.BestEffort)
    sample = SimpleNamespace(type_name=data.decode("utf-8", "replace"), qos=qos)
    assert isinstance(_offer(sample).type_name, str)
