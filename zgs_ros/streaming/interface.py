"""What a node looks like from outside: all that its tables of topics and services come to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from zgs_ros.classes.groups import ClassError, ClassGroup
from zgs_ros.config import NodeSettings, SettingsError
from zgs_ros.rotation import rotations
from zgs_ros.streaming.inputs import INPUTS, input_topic
from zgs_ros.streaming.outputs import OUTPUTS, output_topic
from zgs_ros.streaming.port import QUEUED, RELIABLE, QosProfile
from zgs_ros.streaming.services import SERVICES, Service

Direction = Literal["in", "out", "service"]


@dataclass(frozen=True)
class Endpoint:
    """A topic or service.

    Attributes:
        name: As the node resolves it: ``~/x`` is its own, ``x`` its namespace's.
        type_name: Such as ``"sensor_msgs/msg/Image"``.
        direction: Whether the node reads it, writes it, or answers it.
        meaning: What is in it, and when it comes.
        qos: Of a topic; subscriptions to cameras follow their publishers instead.
    """

    name: str
    type_name: str
    direction: Direction
    meaning: str
    qos: QosProfile = RELIABLE


DIAGNOSTICS = Endpoint(
    "/diagnostics",
    "diagnostic_msgs/msg/DiagnosticArray",
    "out",
    "How the node and its cameras are, once a second.",
    QUEUED,
)
ALERTS = Endpoint(
    "~/alerts",
    "zgs_ros/msg/Alert",
    "out",
    "When a segment begins to fit a phrase that is watched for, and when that is over.",
    QUEUED,
)


def request_topic(service: Service) -> Endpoint:
    """The topic that a service is asked on where services don't reach."""
    assert service.by_topic is not None
    meaning = f"As the service {service.name}, where services don't reach."
    name = f"~/{service.name}/request"
    return Endpoint(name, service.by_topic.request_type, "in", meaning, QUEUED)


def result_topic(service: Service) -> Endpoint:
    """The topic that it is answered on."""
    assert service.by_topic is not None
    name = f"~/{service.name}/result"
    return Endpoint(name, service.by_topic.result_type, "out", "The answers.", QUEUED)


_BY_TOPIC = [service for service in SERVICES if service.by_topic]
NODE_TOPICS = (
    DIAGNOSTICS,
    ALERTS,
    *(make(service) for service in _BY_TOPIC for make in (request_topic, result_topic)),
)
"""Topics that a node has once, whatever its cameras."""


def camera_endpoints(camera: str, settings: NodeSettings) -> Iterator[Endpoint]:
    """What a node has for one of its cameras.

    Args:
        camera: Its name, "" for the only one.
        settings: Of the node.
    """
    for source in INPUTS:
        if source.exists(settings):
            topic = input_topic(camera, source) + source.ending(settings)
            yield Endpoint(topic, source.type_name(settings), "in", source.meaning)
    for row in OUTPUTS:
        if row.exists(settings):
            topic = output_topic(camera, row.topic)
            yield Endpoint(topic, row.type_name, "out", row.meaning, row.qos)


def node_endpoints(settings: NodeSettings) -> list[Endpoint]:
    """What a node has once."""
    services = [
        Endpoint(f"~/{service.name}", service.type_name, "service", service.meaning)
        for service in SERVICES
        if service.exists is None or service.exists(settings)
    ]
    return [*NODE_TOPICS, *services]


def endpoints(settings: NodeSettings) -> list[Endpoint]:
    """All topics and services of a node with these settings."""
    cameras = [end for name in settings.cameras for end in camera_endpoints(name, settings)]
    return [*cameras, *node_endpoints(settings)]


def reserved_names() -> set[str]:
    """Topics and services of a node, which can't be names of cameras."""
    own = [row.topic for row in OUTPUTS] + [service.name for service in SERVICES]
    own += [end.name[2:] for end in NODE_TOPICS if end.name.startswith("~/")]
    return {name.split("/")[0] for name in own}


def check_mask_topics(groups: Sequence[ClassGroup], cameras: Sequence[str]) -> None:
    """Makes sure that topics of classes are not those of the node or of its cameras.

    Raises:
        ClassError: If a mask_topic begins like one of them.
    """
    for group in groups:
        if group.mask_topic.split("/")[0] in reserved_names() | set(cameras) - {""}:
            raise ClassError(
                f"mask_topic {group.mask_topic!r} of the class {group.name!r} is a topic of the node "
                f"itself; choose another name, such as {group.mask_topic.split('/')[0]}_mask"
            )


def check_cameras(settings: NodeSettings) -> None:
    """Makes sure that topics of cameras are not those of the node, and that each has one rotation.

    Raises:
        SettingsError: If a camera is called like one of them, or there are too few or many rotations.
    """
    try:
        rotations(settings.rotation, settings.cameras)
    except ValueError as error:
        raise SettingsError(str(error)) from None
    for name in settings.cameras:
        if name in reserved_names():
            raise SettingsError(
                f"cameras: {name!r} is a topic of the node itself; choose another name"
            )
