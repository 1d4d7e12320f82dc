"""Services over DDS: who asked gets the answer, and a bad request costs only itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from dds_support import DOMAIN, ServiceClient, identity

from zgs_ros.dds.network import Network
from zgs_ros.dds.node import DdsNode
from zgs_ros.dds.service import join_reply, split_request
from zgs_ros.dds.types import TypeSupport
from zgs_ros.message_types import DISTROS

Eventually = Callable[..., None]
NETWORK = Network(DOMAIN, loopback_only=True)
QUERY = "zgs_ros/srv/QuerySegments"
TYPES = TypeSupport("jazzy")


def test_requests_are_answered_with_their_identity(eventually: Eventually) -> None:
    waiting: list[tuple[Any, Callable[[Any], None]]] = []

    def handle(request: Any, reply: Callable[[Any], None]) -> None:
        if request.text == "bad":
            raise ValueError("a bad day")
        waiting.append((request, reply))

    with DdsNode("server", network=NETWORK) as server, DdsNode("client", network=NETWORK) as other:
        service = server.create_service("~/query", QUERY, handle)
        assert service.name == "/server/query"
        client = ServiceClient(other, service.name, QUERY)
        eventually(client.writer.get_matched_subscriptions, "the service is seen")
        eventually(service._writer.get_matched_subscriptions, "the client is seen")
        for number, text in enumerate(["mug", "bad", "chair"]):
            client.ask(number, text=text)
        eventually(lambda: len(waiting) == 2, "the good requests")
        for request, reply in reversed(waiting):
            reply({"message": request.text})
        got: list[tuple[bytes, Any]] = []
        eventually(lambda: got.extend(client.answers()) or len(got) == 2, "both answers")
    assert {who: answer.message for who, answer in got} == {
        identity(0): "mug",
        identity(2): "chair",
    }
    assert [answer.success for _, answer in got] == [False, False]


def test_a_request_without_an_identity_is_refused() -> None:
    with pytest.raises(ValueError, match="a request has 19 bytes, at least 20"):
        split_request(bytes(19))


@pytest.mark.parametrize("text", ["", "a", "four", "more than eight"])
def test_identities_go_in_and_come_out(text: str) -> None:
    response = TYPES.create_partly(f"{QUERY}_Response", message=text, success=True)
    cdr = TYPES.serialize(response)
    reply = join_reply(identity(7), cdr)
    assert len(reply) % 4 == 0
    who, body = split_request(bytes(reply))
    assert who == identity(7)
    assert TYPES.deserialize(body, f"{QUERY}_Response") == response


@pytest.mark.parametrize("distro", DISTROS)
def test_every_message_of_the_package_can_be_made_empty(distro: str) -> None:
    types = TypeSupport(distro)
    for name in [
        "zgs_ros/msg/SegmentArray",
        f"{QUERY}_Response",
        "zgs_ros/srv/SegmentImage_Request",
    ]:
        empty = types.create_partly(name)
        again = types.deserialize(bytes(types.serialize(empty)), name)
        assert bytes(types.serialize(again)) == bytes(types.serialize(empty))
    info = types.create_partly("sensor_msgs/msg/CameraInfo", width=3)
    assert (info.width, info.k.tolist(), info.distortion_model) == (3, [0.0] * 9, "")
