"""Nav2's costmap with its semantic layer, fed by the node: costs are where the things are."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ros_support
import yaml
from numpy.typing import NDArray
from ros_support import Ros

from zgs_ros.dds.network import Network
from zgs_ros.dds.node import DdsNode
from zgs_ros.streaming.port import QosProfile
from zgs_ros.synthetic.camera import SyntheticCamera
from zgs_ros.tools.camera import CameraOptions, CameraPublishers
from zgs_ros.tools.sources import Picture, SourceOptions

pytestmark = [pytest.mark.ros, pytest.mark.nav2, pytest.mark.timeout(1800)]

CONFIG = Path(__file__).parents[1] / "config"
SEED, HEIGHT, WIDTH = 0, 240, 320
LETHAL = 100
"""What a costmap's 254 is in an OccupancyGrid."""

Cells = set[tuple[int, int]]


@dataclass(frozen=True)
class Scene:
    """A picture of the synthetic world, and which cells of a costmap its things stand on.

    Attributes:
        picture: To publish.
        avoided: Cells that are to be forbidden: of things whose class is.
        ground: Cells of the ground, seen from above nothing else.
    """

    picture: Picture
    avoided: Cells
    ground: Cells


def test_costs_are_where_the_named_things_are(ros_workspace: Path, tmp_path: Path) -> None:
    overlay = ros_support.find_overlay(*ros_support.NAV2)
    scene = render()
    got: list[Any] = []
    with Ros(ros_workspace, ros_support.RMWS[0], tmp_path, overlay) as ros:
        network = Network.from_environment(environment=ros.env)
        with DdsNode("camera", network=network, distro="jazzy") as node:
            grid = ("/local_costmap/costmap", "nav_msgs/msg/OccupancyGrid")
            node.create_subscription(*grid, got.append, QosProfile(transient_local=True))
            options = CameraOptions(network, reading=SourceOptions(depth=True))
            camera = CameraPublishers(node, options)
            launch = ("ros2", "launch", "zgs_ros", "nav2_costmap.launch.py")
            given = ("profile:=mini", "device:=cpu", "global_frame:=map")
            with ros.process(*launch, *given) as process:
                best = 0.0
                end = time.monotonic() + 600
                while best < 0.6:
                    assert time.monotonic() < end, f"recall is {best:.2f}:\n{process.text}"
                    assert not process.has_ended(), process.text
                    camera.publish(scene.picture, time.time_ns())
                    time.sleep(0.1)
                    if got:
                        best = share(scene.avoided, forbidden(got[-1]))
                found = forbidden(got[-1])
                assert "process has died" not in process.text
    assert share(found, grown(scene.avoided, 2)) > 0.8, "little is forbidden farther than 10 cm"
    assert share(scene.ground, found) < 0.05, "the ground is free"


def render() -> Scene:
    """The synthetic camera's first picture, with the cells that its depth and its poses make of it."""
    camera = SyntheticCamera(seed=SEED, height=HEIGHT, width=WIDTH, moving=False)
    frame, pose = camera.frame(0), camera.scene(0).camera.pose()
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    ahead = np.nan_to_num(frame.depth, nan=0.0, posinf=0.0)  # the sky, nearer than all limits
    (fx, _, cx), (_, fy, cy), _ = frame.intrinsics
    seen = np.stack([(u - cx) / fx * ahead, (v - cy) / fy * ahead, ahead], axis=-1)
    limits = parameters()["camera"]
    distance = np.linalg.norm(seen, axis=-1)
    near = (distance > limits["min_obstacle_distance"]) & (
        distance < limits["max_obstacle_distance"]
    )
    points = seen @ pose[:3, :3].T + pose[:3, 3]
    things = [thing.id for thing in camera.things.values() if not thing.is_stuff]
    is_thing = np.isin(frame.instances, things)
    avoided = cells(points[is_thing & near])
    ground = cells(points[~is_thing & near & (points[..., 2] < 0.02)])
    picture = Picture(frame.rgb, frame.depth, frame.intrinsics, pose)
    return Scene(picture, avoided, ground - grown(avoided, 3))


def parameters() -> dict[str, Any]:
    """Of the layer."""
    text = (CONFIG / "nav2_semantic_layer.yaml").read_text()
    found = yaml.safe_load(text)["local_costmap"]["local_costmap"]["ros__parameters"]
    return {**found["semantic_layer"], "resolution": found["resolution"]}


def cells(points: NDArray[np.float64]) -> Cells:
    """Cells of the costmap that points (n, 3) in its frame are in."""
    flat = np.floor(points[:, :2] / parameters()["resolution"]).astype(int)
    return {(int(x), int(y)) for x, y in np.unique(flat, axis=0)}


def grown(some: Cells, by: int = 1) -> Cells:
    """Cells with those around them."""
    around = range(-by, by + 1)
    return {(x + dx, y + dy) for x, y in some for dx in around for dy in around}


def forbidden(grid: Any) -> Cells:
    """Lethal cells of a nav_msgs/OccupancyGrid."""
    info = grid.info
    values = np.asarray(grid.data, np.int8).reshape(info.height, info.width)
    left, below = (
        round(float(value) / info.resolution)
        for value in (info.origin.position.x, info.origin.position.y)
    )
    rows, columns = np.nonzero(values == LETHAL)
    return {(int(x) + left, int(y) + below) for x, y in zip(columns, rows, strict=True)}


def share(of: Cells, within: Cells) -> float:
    """Which part of some cells is among others."""
    return len(of & within) / max(len(of), 1)
