"""Nodes and processes on a DDS domain of the test run's own, on 127.0.0.1."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from cyclonedds.pub import DataWriter
from cyclonedds.sub import DataReader
from numpy.typing import NDArray

from zgs_ros.config import NodeSettings
from zgs_ros.dds import claim, raw
from zgs_ros.dds.node import SERVICE, DdsNode
from zgs_ros.dds.peer import PeerOptions, open_peer
from zgs_ros.dds.service import service_id, split_request
from zgs_ros.segmentation import Label, Roi, Segment, Segmentation
from zgs_ros.tools.processes import dies_with_parent

PEER = Path(__file__).with_name("dds_peer.py")
DOMAINS = range(41, 66)
CLAIM = "ZGS_TEST_DOMAIN"
"""Environment variable by which the processes of a test know its domain."""


def claim_domain() -> int:
    """A domain that nobody else on this machine uses: no other run of the tests, no worker of this one.

    It is this process's and of those that it starts, until the last of them ends.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    claimed_by, _, claimed = os.environ.get(CLAIM, "").partition(":")
    if claimed and claimed_by == worker:
        return int(claimed)
    domain, held = claim.claim_domain(DOMAINS)
    _claims.append(held)
    os.environ[CLAIM] = f"{worker}:{domain}"
    return domain


_claims: list[socket.socket] = []
DOMAIN = claim_domain()


class Peer:
    """The node on the network, configured and active, in this process.

    Args:
        segmenter: What it has for models.
        settings: Of the node.
        options: Its place in the graph.
    """

    def __init__(self, segmenter: Any, settings: NodeSettings, options: PeerOptions) -> None:
        self._open = ExitStack()
        opened = open_peer(settings, options, lambda settings: segmenter)
        self.port, self.node = self._open.enter_context(opened)
        self.node.configure()
        self.node.activate()
        loaded = self.node._loaded
        assert loaded is not None
        self.stream, self.outputs = loaded.stream, loaded.outputs

    @property
    def image_topics(self) -> list[str]:
        """Full names of the topics that images come from."""
        return [camera.image.topic for camera in self.node.cameras]

    def close(self) -> None:
        """Leaves the graph."""
        self._open.close()


class HalvesSegmenter:
    """Sees a left and a right half in every image, wider than one pixel, and names them so."""

    model = "halves"
    device = "cpu"

    def __init__(self, work: Callable[[], object] = lambda: None) -> None:
        self._work = work

    def segment_batch(self, images: Sequence[NDArray[np.uint8]]) -> list[Segmentation]:
        self._work()
        return [self._segment(image) for image in images]

    def embed_text(self, text: str) -> NDArray[np.float32]:
        return np.array([1.0, 0.0], np.float32)

    def embed_phrases(self, phrases: Sequence[str]) -> NDArray[np.float32]:
        return np.tile(np.array([0.0, 1.0], np.float32), (len(phrases), 1))

    def close(self) -> None:
        pass

    def _segment(self, image: NDArray[np.uint8]) -> Segmentation:
        height, width = image.shape[:2]
        middle = max(width // 2, 1)
        label_map = np.full((height, width), 1, np.uint16)
        label_map[:, middle:] = 2
        spans = [(1, "left", 0, middle), (2, "right", middle, width)]
        segments = tuple(
            Segment(
                id=number,
                labels=(Label(name, 0.5), Label("half", 0.25)),
                roi=Roi(start, 0, end - start, height),
                area=(end - start) * height,
                centroid=((start + end - 1) / 2, (height - 1) / 2),
                embedding=np.array([1.0, 0.0], np.float32),
            )
            for number, name, start, end in spans
            if end > start
        )
        return Segmentation(label_map, segments, self.model, {"dino": 0.001})


class ServiceClient:
    """Asks a service as rmw_cyclonedds_cpp does.

    Args:
        node: That asks.
        name: Full name of the service.
        type_name: Such as ``"zgs_ros/srv/QuerySegments"``.
    """

    def __init__(self, node: DdsNode, name: str, type_name: str) -> None:
        self._types, self._type_name = node.types, type_name
        qos = raw.endpoint_qos(SERVICE, "", service_id())
        request = node._topic(f"rq{name}Request", f"{type_name}_Request")
        reply = node._topic(f"rr{name}Reply", f"{type_name}_Response")
        self.writer = DataWriter(node._participant, request, qos=qos)
        self.reader = DataReader(node._participant, reply, qos=qos)

    def is_connected(self) -> bool:
        """Whether the service is seen, and what it answers can be heard."""
        return bool(
            self.writer.get_matched_subscriptions() and self.reader.get_matched_publications()
        )

    def ask(self, number: int, **fields: Any) -> None:
        """Sends a request; fields that are not given are zero or empty."""
        request = self._types.create_partly(f"{self._type_name}_Request", **fields)
        cdr = bytes(self._types.serialize(request))
        raw.write(self.writer, memoryview(cdr[:4] + identity(number) + cdr[4:]))

    def answers(self) -> list[tuple[bytes, Any]]:
        """The answers that came since, each with the identity of its request."""
        found = [split_request(cdr) for cdr in raw.take(self.reader, 20)]
        kind = f"{self._type_name}_Response"
        return [(who, self._types.deserialize(body, kind)) for who, body in found]


def identity(number: int) -> bytes:
    """Of the request with a number."""
    return np.array([42, number], "<u8").tobytes()


def cli(*arguments: object) -> list[str]:
    """Command line of `zgs` on the test's domain."""
    command = [sys.executable, "-m", "zgs_ros", *map(str, arguments)]
    return [*command, "--local", "--domain", str(DOMAIN)]


def peer(**settings: object) -> list[str]:
    """Command line of a node that uses `HalvesSegmenter`."""
    return [sys.executable, str(PEER), *(f"{key}={value}" for key, value in settings.items())]


@contextmanager
def process(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Runs a command for the length of the block, then kills it if it is still there."""
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root, "PYTHONUNBUFFERED": "1", "COLUMNS": "200"}
    child = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=dies_with_parent(),
        pass_fds=[held.fileno() for held in _claims],  # the domain is claimed as long as it lives
        **options,
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def interrupt(child: subprocess.Popen[str], number: int = signal.SIGINT) -> str:
    """Sends a signal and returns what the process wrote; it must end by itself."""
    child.send_signal(number)
    output, _ = child.communicate(timeout=60)
    return output
