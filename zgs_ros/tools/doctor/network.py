"""The network: which cameras publish there, and whether the node would hear them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from zgs_ros.config import NodeSettings
from zgs_ros.streaming.names import absolute
from zgs_ros.streaming.port import Offer
from zgs_ros.streaming.topics import input_topics
from zgs_ros.texts import printable
from zgs_ros.tools.doctor.findings import Finding

ROOM = "network"
RAW, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
CLOCK = "/clock"
LISTEN_SECONDS = 4.0
"""Participants announce themselves at once and every few seconds."""
MOST_SHOWN = 12


def examine_network(
    settings: NodeSettings,
    network: Callable[[], Any],
    image_topic: str = "",
    use_sim_time: bool = False,
    seconds: float = LISTEN_SECONDS,
) -> Iterator[Finding]:
    """Findings on the network, as they come.

    Args:
        settings: Of the node that is to run.
        network: Gives a `zgs_ros.dds.network.Network`, where the packages for DDS are installed.
        image_topic: As `zgs run` takes it.
        use_sim_time: Whether the node lives in the time of ``/clock``.
        seconds: How long publishers are looked for.
    """
    try:
        from zgs_ros.dds.network import NetworkError, socket_buffer_warning
        from zgs_ros.dds.node import DdsNode
        from zgs_ros.dds.raw import DdsError
    except ImportError as error:
        text, _, remedy = str(error).partition(": pip")
        yield Finding(ROOM, "DDS", "warning", f"is not looked at: {text}", f"pip{remedy}")
        return
    if hint := socket_buffer_warning():
        text, _, remedy = hint.partition("; ")
        yield Finding(ROOM, "socket buffers", "warning", text, remedy)
    else:
        yield Finding(ROOM, "socket buffers", "ok", "are large enough for images")
    try:
        joined = network()
        with DdsNode("zgs_doctor", network=joined) as node:
            time.sleep(seconds)
            offers = node.all_offers()
    except (NetworkError, DdsError) as error:
        yield Finding(ROOM, "DDS", "error", str(error), "check ROS_DOMAIN_ID and CYCLONEDDS_URI")
        return
    where = f"domain {joined.domain}, range {joined.discovery_range}"
    local = ", 127.0.0.1 only" if joined.loopback_only else ""
    yield Finding(ROOM, "DDS", "ok", f"{where}{local}: {len(offers)} topics are published")
    topics = input_topics(settings.cameras, image_topic)
    yield from check_cameras(settings, [topic.image for topic in topics.values()], offers)
    yield check_sim_time(use_sim_time, offers)


def check_cameras(
    settings: NodeSettings, topics: Sequence[str], offers: Mapping[str, Sequence[Offer]]
) -> Iterator[Finding]:
    """Whether images are published where the node listens, as it listens."""
    compressed = settings.image_transport == "compressed"
    wanted = COMPRESSED if compressed else RAW
    seen = sorted(
        topic
        for topic, given in offers.items()
        if any(o.type_name in (RAW, COMPRESSED) for o in given)
    )
    for topic in topics:
        name = absolute(topic + "/compressed" * compressed, "/zgs")
        given = offers.get(name, ())
        shown = f"camera {printable(name)}"
        if not given:
            others = ", ".join(printable(other) for other in seen[:MOST_SHOWN]) or "none"
            yield Finding(
                ROOM,
                shown,
                "warning",
                f"nobody publishes it; image topics are: {others}",
                "start the camera, or name its topic: --image-topic, image_topic:= with ros2 launch"
                if seen
                else "start the camera; on another machine, see that ROS_DOMAIN_ID is the same there",
            )
            continue
        types = {offer.type_name for offer in given}
        reliable = sum(offer.qos.reliable for offer in given)
        qos = f"{len(given)} publishers, {reliable} of them reliable"
        if types != {wanted}:
            other = COMPRESSED if not compressed else RAW
            remedy = f"set image_transport={'raw' if compressed else 'compressed'}"
            yield Finding(
                ROOM,
                shown,
                "error",
                f"is {' and '.join(printable(t) for t in sorted(types))}, but {wanted} is asked for",
                remedy if other in types else "name another topic: --image-topic",
            )
        elif settings.image_reliability == "reliable" and reliable < len(given):
            yield Finding(
                ROOM,
                shown,
                "error",
                f"{qos}; image_reliability: reliable does not hear the others",
                "set image_reliability=auto",
            )
        else:
            yield Finding(ROOM, shown, "ok", qos)


def check_sim_time(use_sim_time: bool, offers: Mapping[str, Sequence[Offer]]) -> Finding:
    """Whether somebody tells the time, where and only where the node asks for it."""
    count = len(offers.get(CLOCK, ()))
    name = "simulated time"
    if use_sim_time and not count:
        return Finding(
            ROOM,
            name,
            "error",
            "use_sim_time is true, but nobody publishes /clock: time stands still",
            "ros2 bag play --clock, start the simulation, or leave use_sim_time out",
        )
    if count > 1:
        return Finding(
            ROOM,
            name,
            "warning",
            f"{count} publish /clock: time jumps between them",
            "stop all but one",
        )
    if count and not use_sim_time:
        return Finding(
            ROOM,
            name,
            "warning",
            "somebody publishes /clock, but use_sim_time is false: stamps look old, and latency wrong",
            "--use-sim-time, or use_sim_time:=true with ros2 launch",
        )
    return Finding(ROOM, name, "ok", "in use" if count else "not in use")
