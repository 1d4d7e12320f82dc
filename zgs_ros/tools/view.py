"""The web viewer: follows a node on the network and shows it in browsers of this machine."""

from __future__ import annotations

import ipaddress
import logging
import re
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Any

from zgs_ros.dds.network import Network
from zgs_ros.dds.node import DdsNode
from zgs_ros.streaming.messages import parse_segment, stamp_ns
from zgs_ros.streaming.port import QUEUED, Port, Subscription
from zgs_ros.tools.following import FramePairs, NodeState, node_statuses, status_values
from zgs_ros.tools.frames import Frame
from zgs_ros.tools.web.board import Board, Health, Picture, describe_segments
from zgs_ros.tools.web.server import QueryFailed, ViewServer

LOOK_SECONDS = 0.5
"""How often it is looked after the node."""

QUERY_SECONDS = 15.0
"""After which a query is given up."""

MAX_RESULTS = 8
"""Segments that a query shows."""

MAX_CAMERAS = 16
"""Cameras that are followed at most, whatever the diagnostics claim."""


CAMERA = re.compile("[A-Za-z][A-Za-z0-9_]*")
"""A camera's name, which becomes part of topics."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ViewOptions:
    """What is shown, and where.

    Attributes:
        network: The network to join.
        node: Full name of the node to show.
        address: IP address to listen at; other than that of this machine alone, everybody who
            reaches it can look and ask.
        port: Port to listen at, 0 for any.
        name: The viewer's own node name.
        distro: ROS distribution of the other nodes, by default ROS_DISTRO.
    """

    network: Network
    node: str = "/zgs"
    address: str = "127.0.0.1"
    port: int = 8088
    name: str = "zgs_view"
    distro: str | None = None

    def __post_init__(self) -> None:
        try:
            ipaddress.ip_address(self.address)
        except ValueError:
            raise ValueError(
                f"address {self.address!r} is not an IP address, such as 127.0.0.1 for this "
                "machine alone or 0.0.0.0 for everybody who reaches it"
            ) from None
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port {self.port} must be in 0 .. 65535")


def run(options: ViewOptions) -> None:
    """Shows the node until it is interrupted.

    Raises:
        zgs_ros.tools.web.server.AddressError: If it can't be listened at address and port.
        zgs_ros.dds.raw.DdsError: If the network can't be joined.
    """
    board = Board(options.node)
    with DdsNode(options.name, network=options.network, distro=options.distro) as node:
        viewer = Viewer(node, board, options)
        with ViewServer(board, viewer.ask, options.address, options.port) as server:
            threading.Thread(target=server.serve_forever, name="zgs-web", daemon=True).start()
            logger.info("%s on domain %d: open %s", options.node, node.network.domain, server.url)
            if not ipaddress.ip_address(options.address).is_loopback:
                logger.warning(
                    "the page is open to everybody who reaches %s port %d: without a password, they "
                    "see what the camera sees",
                    *server.server_address[:2],
                )
            try:
                while True:
                    viewer.look()
                    time.sleep(LOOK_SECONDS)
            finally:
                server.shutdown()


class Viewer:
    """Writes what a node publishes on a board, and has it answer queries.

    Args:
        port: The viewer's own node.
        board: To be written on.
        options: Which node is followed.
    """

    def __init__(self, port: Port, board: Board, options: ViewOptions) -> None:
        self._port = port
        self._domain = options.network.domain
        self._board = board
        self._state = NodeState(options.node)
        self._segments: dict[str, Subscription] = {}
        self._overlays: dict[str, Subscription] = {}
        self._cameras: list[str] = []
        self._lock = threading.Lock()
        self._asked: dict[tuple[str, str], list[Future[Any]]] = {}
        self._follow("")
        subscribe = port.create_subscription
        subscribe("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray", self._diagnose, QUEUED)
        self._requests = port.create_publisher(
            f"{options.node}/query/request", "zgs_ros/msg/Query", QUEUED
        )
        subscribe(f"{options.node}/query/result", "zgs_ros/msg/QueryResult", self._answer, QUEUED)

    def look(self) -> None:
        """Looks whether the node is there; to be called every now and then."""
        state, domain = self._state, self._domain
        cameras = self._cameras
        for camera in cameras:
            self._follow(camera)
        for camera in self._segments.keys() - {"", *cameras}:
            self._leave(camera)
        state.notice(sum(len(self._port.offers(self._topic(camera))) for camera in self._segments))
        gone = state.seen and not state.publishers
        self._board.show_notice(
            state.explain_silence(domain) if gone else f"waiting for {state.next_step(domain)}"
        )

    def ask(self, text: str, camera: str) -> dict[str, Any]:
        """The node's answer to a query, JSON-ready; waits for it.

        Raises:
            QueryFailed: If there is none.
        """
        name = self._state.name
        if not self._requests.subscription_count():
            raise QueryFailed(f"the node {name} does not listen to queries; is it running?")
        future: Future[Any] = Future()
        with self._lock:
            self._asked.setdefault((text, camera), []).append(future)
        create = self._port.factory.create
        try:
            self._requests.publish(
                create("zgs_ros/msg/Query", text=text, max_results=MAX_RESULTS, camera=camera)
            )
            answer = future.result(QUERY_SECONDS)
        except FutureTimeout:
            raise QueryFailed(f"the node {name} did not answer in {QUERY_SECONDS:g} s") from None
        finally:
            with self._lock:
                waiting = self._asked.get((text, camera), [])
                if future in waiting:
                    waiting.remove(future)
                if not waiting:
                    self._asked.pop((text, camera), None)
        if not answer.success:
            raise QueryFailed(answer.message)
        found = [parse_segment(segment) for segment in answer.segments]
        return {"camera": answer.camera, "segments": describe_segments(found)}

    def _follow(self, camera: str) -> None:
        if camera in self._segments:
            return
        topic = self._topic(camera).removesuffix("/segments")
        pairs = FramePairs(overlays=True)

        def add_result(message: Any) -> None:
            pairs.add_result(message, time.time_ns())
            self._show(camera, pairs.take())

        def add_overlay(message: Any) -> None:
            pairs.add_overlay(message)
            self._show(camera, pairs.take())

        subscribe = self._port.create_subscription
        self._overlays[camera] = subscribe(
            f"{topic}/overlay/compressed", "sensor_msgs/msg/CompressedImage", add_overlay, QUEUED
        )
        self._segments[camera] = subscribe(
            f"{topic}/segments", "zgs_ros/msg/SegmentArray", add_result, QUEUED
        )

    def _topic(self, camera: str) -> str:
        """The topic of a camera's segments."""
        return "/".join(filter(None, (self._state.name, camera, "segments")))

    def _leave(self, camera: str) -> None:
        for topics in (self._segments, self._overlays):
            topics.pop(camera).close()

    def _show(self, camera: str, frames: list[Frame]) -> None:
        for frame in frames:
            self._board.show_picture(
                camera,
                Picture(
                    frame.segmentation,
                    frame.overlay or b"",
                    stamp_ns(frame.header),
                    frame.latency,
                    frame.processing_time,
                ),
            )

    def _diagnose(self, message: Any) -> None:
        statuses = {
            name: Health(status.level, status.message, status_values(status))
            for name, status in node_statuses(message, self._state.name).items()
        }
        stream = statuses.pop("stream", None)
        if stream is None:
            return  # another node's
        cameras = {name: health for name, health in statuses.items() if CAMERA.fullmatch(name)}
        self._cameras = [*cameras][:MAX_CAMERAS]
        self._state.diagnostics = dict(stream.values)
        self._board.show_health(stream, {name: cameras[name] for name in self._cameras})

    def _answer(self, message: Any) -> None:
        with self._lock:
            waiting = self._asked.pop((message.query.text, message.query.camera), [])
        for future in waiting:
            future.set_result(message)
