"""Which topics of a bag are labelled, and under which names the results go."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from zgs_ros.bags.bag import BagError, Topic
from zgs_ros.streaming.outputs import output_topic
from zgs_ros.streaming.topics import InputTopics, input_topics

IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
CAMERA_INFOS = ("sensor_msgs/msg/CameraInfo",)
COMPRESSED = "/compressed"
DEPTH_ENDINGS = ("", "/compressedDepth", COMPRESSED)
"""What follows a depth topic's name where it is compressed, in the order in which it is looked for."""

NODE = "zgs"


@dataclass(frozen=True)
class LabelledCamera:
    """A topic that is labelled.

    Attributes:
        name: In the results' topics, "" for the only one.
        topics: Where its messages are.
    """

    name: str
    topics: InputTopics

    def output(self, topic: str) -> str:
        """Full name of a result's topic, as the node has it: ``/zgs/segments``."""
        return output_topic(self.name, topic).replace("~", f"/{NODE}")


def choose_cameras(
    topics: Mapping[str, Topic],
    wanted: Sequence[str],
    names: Sequence[str] = ("",),
    depth: str = "",
    camera_info: str = "",
) -> list[LabelledCamera]:
    """The cameras whose images are labelled.

    Args:
        topics: What the bag has.
        wanted: Image topics; none where the bag's only one is meant.
        names: Names of the cameras in the order of `wanted`; where their number is another, the
            names are made of the topics.
        depth: Topic of the depth, with ``{camera}`` for the name, as `input_topics` has it.
        camera_info: Likewise.

    Raises:
        BagError: If a topic is not there, holds no images, or has to be chosen.
    """
    images = {name: topic for name, topic in topics.items() if topic.type in IMAGES}
    if not images:
        raise BagError(f"the bag has no images; its topics are {_listed(topics) or 'none'}")
    if not wanted:
        likely = [name for name in images if "depth" not in name.lower()]
        if len(likely) != 1:
            raise BagError(f"choose what to label by --topics: the bag has {_listed(images)}")
        wanted = likely
    for name in wanted:
        if name not in images:
            problem = f"holds {topics[name].type}" if name in topics else "is not in the bag"
            raise BagError(f"--topics {name}: {problem}; it has images on {_listed(images)}")
        if not images[name].is_cdr:
            raise BagError(f"--topics {name}: is not serialized as CDR, which alone is understood")
    wanted = list(dict.fromkeys(wanted))
    if len(names) != len(wanted):
        names = _names(wanted)
    input_topics(names, "", depth, camera_info)  # refuses one depth for several cameras
    cameras = []
    for camera, topic in zip(names, wanted, strict=True):
        beside = topic.removesuffix(COMPRESSED)
        inputs = input_topics([camera], beside, depth, camera_info)[camera]
        cameras.append(LabelledCamera(camera, replace(inputs, image=topic)))
    return cameras


def with_depth(
    cameras: Sequence[LabelledCamera], topics: Mapping[str, Topic]
) -> list[LabelledCamera]:
    """The cameras with the topics that their depth is really on: as it is, or compressed.

    Raises:
        BagError: If depth or camera_info is not in the bag, or is something else.
    """
    found = []
    for camera in cameras:
        named = [camera.topics.depth + ending for ending in DEPTH_ENDINGS]
        depth = next((name for name in named if name in topics), camera.topics.depth)
        for name in (depth, camera.topics.camera_info):
            if name not in topics:
                raise BagError(
                    f"{name}: is not in the bag, and depth needs it; name the right one by "
                    "--depth-topic and --camera-info-topic, or leave it by --no-depth"
                )
        _check_kind("--depth-topic", topics[depth], IMAGES)
        _check_kind("--camera-info-topic", topics[camera.topics.camera_info], CAMERA_INFOS)
        found.append(replace(camera, topics=replace(camera.topics, depth=depth)))
    return found


def check_camera_infos(
    cameras: Sequence[LabelledCamera], topics: Mapping[str, Topic], output: str
) -> None:
    """Makes sure that the cameras' camera_info is there, which an output is made of.

    Raises:
        BagError: If it is not in the bag, or is something else.
    """
    for camera in cameras:
        name = camera.topics.camera_info
        if name not in topics:
            raise BagError(
                f"{name}: is not in the bag, and {output} needs it; name the right one by "
                "--camera-info-topic, or leave the output away"
            )
        _check_kind("--camera-info-topic", topics[name], CAMERA_INFOS)


def _check_kind(option: str, topic: Topic, kinds: Sequence[str]) -> None:
    if topic.type not in kinds:
        raise BagError(f"{option} {topic.name}: holds {topic.type}, not {' or '.join(kinds)}")
    if not topic.is_cdr:
        raise BagError(
            f"{option} {topic.name}: is not serialized as CDR, which alone is understood"
        )


def _names(topics: Sequence[str]) -> list[str]:
    """Names for cameras: what their topics don't have in common, ``/front/image_raw`` is front."""
    if len(topics) == 1:
        return [""]
    parts = [topic.removesuffix(COMPRESSED).strip("/").split("/") for topic in topics]
    places = [part[:-1] for part in parts]  # the last one is what the driver calls the image
    if len({tuple(place) for place in places}) < len(topics):
        places = [topic.strip("/").split("/") for topic in topics]
    while all(len(place) > 1 and place[0] == places[0][0] for place in places):
        places = [place[1:] for place in places]
    names = [re.sub(r"\W", "_", "_".join(place)) for place in places]
    names = [name if re.match(r"[A-Za-z]", name) else f"camera_{name}" for name in names]
    if len(set(names)) < len(names):
        names = [f"{name}_{number}" for number, name in enumerate(names, start=1)]
    return names


def _listed(topics: Mapping[str, Topic]) -> str:
    return ", ".join(
        f"{topic.name} ({topic.type}, {topic.count} messages)"
        for topic in sorted(topics.values(), key=lambda topic: topic.name)
    )
