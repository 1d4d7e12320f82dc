"""The processes that ``zgs bench --live`` and ``--advise`` start.

`python -m zgs_ros.cli.bench_processes node|camera|advise OPTIONS`, where the options are JSON: the node with
models as they are measured, its camera, and what measures one choice after the other.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import cycle
from typing import Any

from zgs_ros.bench.advising import BEGUN, measure_choices
from zgs_ros.bench.measuring import camera_frames
from zgs_ros.bench.models import make_bench
from zgs_ros.cli.options import command
from zgs_ros.config import NodeSettings, SegmenterSettings, make_settings
from zgs_ros.dds import peer
from zgs_ros.dds.network import Network
from zgs_ros.dds.node import DdsNode
from zgs_ros.segmentation import ImageSegmenter
from zgs_ros.streaming.ending import END_SECONDS
from zgs_ros.tools.camera import CameraOptions, CameraPublishers, paced
from zgs_ros.tools.sources import Picture


def run_node(domain: int, settings: dict[str, Any], segments: int, size: tuple[int, int]) -> None:
    """The node of `zgs run`, with random weights where models are not bundled, see `make_bench`.

    Args:
        domain: DDS domain, on 127.0.0.1 only.
        settings: By dotted path.
        segments: That are given in every image; 0: as they are found.
        size: (width, height) of the images in pixels.
    """

    def load(given: NodeSettings) -> ImageSegmenter:
        return make_bench(given, segments, size).segmenter

    options = peer.PeerOptions(Network(domain, loopback_only=True))
    peer.run(make_settings(NodeSettings, settings), options, load)


def run_camera(domain: int, rate: float, size: tuple[int, int]) -> None:
    """A camera whose pictures of the synthetic world are rendered beforehand, until it is interrupted.

    Args:
        domain: As for `run_node`.
        rate: Pictures per second.
        size: (width, height) in pixels.
    """
    pictures = [Picture(frame) for [frame] in camera_frames(*size)]
    options = CameraOptions(Network(domain, loopback_only=True), rate=rate)
    with DdsNode(options.name, network=options.network) as node:
        camera = CameraPublishers(node, options)
        for picture in paced(cycle(pictures), rate):
            camera.publish(picture, time.time_ns())


def advise(settings: dict[str, Any], wanted: float, size: tuple[int, int], segments: int) -> None:
    """Prints a line of JSON when it begins to measure, and one for each trial.

    Args:
        settings: Device and precision.
        wanted: Images per second.
        size: (width, height) of the images in pixels.
        segments: Of every image, which are given.
    """

    def say(line: object) -> None:
        print(json.dumps(line), flush=True)

    given = make_settings(SegmenterSettings, settings)
    for trial in measure_choices(given, wanted, size, segments, lambda: say(BEGUN)):
        say(asdict(trial))


def main() -> None:
    """One of the processes."""
    role, text = sys.argv[1:]
    roles: dict[str, Callable[..., None]] = {
        "node": run_node,
        "camera": run_camera,
        "advise": advise,
    }
    with command(END_SECONDS):
        roles[role](**json.loads(text))


if __name__ == "__main__":
    main()
