"""What a user or a launch file writes: parameters, vocabularies, names, remappings."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from fuzz.engine import memory_folder, target
from zgs_ros.cli.options import node_parameters, read_remappings
from zgs_ros.config import NodeSettings, SettingsError, load_settings
from zgs_ros.labeling.vocabulary import VocabularyError, load_vocabulary
from zgs_ros.streaming.names import NodeNames
from zgs_ros.streaming.topics import input_topics

logging.disable(logging.CRITICAL)


@cache
def _path(name: str) -> Path:
    return Path(tempfile.mkdtemp(prefix="zgs_fuzz_", dir=memory_folder())) / name


def _parameter_seeds() -> Iterator[bytes]:
    yield from (
        b"/**:\n  ros__parameters:\n    profile: mini\n    max_rate: 2.0\n",
        b"/robot1/**:\n  ros__parameters: {clip: {sigma: 1.5}, cameras: [front, rear]}\n",
        b"robot1:\n  zgs:\n    ros__parameters:\n      dino.stride: 8\n",
        b"profile: mini\nlabeling.templates: ['a {}']\n",
        b"/zgs:\n  ros__parameters:\n    use_sim_time: true\n    qos_overrides./x: 1\n",
        b"a: &a {x: 1}\nb: *a\n",
        b"a: !!bool x\nb: 0x_\nc: .nan\nd: 2001-99-99\n",
        b"--- \na: 1\n---\nb: [1, 2]\n",
        b"%YAML 1.1\n--- !!map {? a : 'b', \"c\": |\n  x\n}\n",
    )


@target(SettingsError, seeds=_parameter_seeds)
def parameters(data: bytes) -> None:
    """A parameters file."""
    path = _path("parameters.yaml")
    path.write_bytes(data)
    load_settings(NodeSettings, path, ("/robot1", "zgs"))


@target(SettingsError, seeds=lambda: [b"max_rate=2", b"cameras=[front, rear]", b"clip={sigma: 1}"])
def pairs(data: bytes) -> None:
    """KEY=VALUE of ``--set``."""
    node_parameters(None, {}, [data.decode("utf-8", "surrogateescape")])


@target(VocabularyError, seeds=lambda: [b"mug\nred mug\n# x\n", "\ufefftable\r\n\r\nmug".encode()])
def vocabulary(data: bytes) -> None:
    """A vocabulary."""
    path = _path("words.txt")
    path.write_bytes(data)
    assert load_vocabulary(str(path))


@target(ValueError, seeds=lambda: [b"~/segments:=/labels|front|/x", b"image:=/rear/image|zgs|/a/b"])
def names(data: bytes) -> None:
    """A remapping, a node's name and its namespace."""
    text = data.decode("utf-8", "replace")
    rule, name, space = (text.split("|") + ["zgs", "/"])[:3]
    node = NodeNames(name, space, read_remappings([rule]))
    for topic in ("~/segments", "image", "/tf"):
        assert node.resolve(topic).startswith("/")


@target(ValueError, seeds=lambda: [b"front,rear|/{camera}/image||", b"|/camera|/depth|/info"])
def topics(data: bytes) -> None:
    """Names of cameras, and patterns of their topics."""
    text = data.decode("utf-8", "replace")
    cameras, image, depth, info = (text.split("|") + [""] * 4)[:4]
    input_topics(cameras.split(","), image, depth, info)
