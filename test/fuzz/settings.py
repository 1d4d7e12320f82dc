"""What a user or a launch file writes: parameters, vocabularies, names, remappings."""

from __future__ import annotations

from collections.abc import Iterator

from fuzz.engine import Refused, scratch, target
from zgs_ros.classes.file import HEAD, ClassFile, Content
from zgs_ros.classes.groups import LAST, OTHER, ClassError
from zgs_ros.classes.registry import ClassRegistry
from zgs_ros.cli.options import node_parameters, read_remappings
from zgs_ros.config import NodeSettings, SettingsError, load_settings
from zgs_ros.labeling.vocabulary import VocabularyError, load_vocabulary
from zgs_ros.streaming.names import NodeNames
from zgs_ros.streaming.topics import input_topics


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
    path = scratch() / "parameters.yaml"
    path.write_bytes(data)
    load_settings(NodeSettings, path, ("/robot1", "zgs"))


@target(SettingsError, seeds=lambda: [b"max_rate=2", b"cameras=[front, rear]", b"clip={sigma: 1}"])
def pairs(data: bytes) -> None:
    """KEY=VALUE of ``--set``."""
    node_parameters(None, {}, [data.decode("utf-8", "surrogateescape")])


@target(VocabularyError, seeds=lambda: [b"mug\nred mug\n# x\n", "\ufefftable\r\n\r\nmug".encode()])
def vocabulary(data: bytes) -> None:
    """A vocabulary."""
    path = scratch() / "words.txt"
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


def _class_seeds() -> Iterator[bytes]:
    fixed = (
        "classes:\n"
        "  - {id: 1, name: floor, phrases: [floor, carpet], mask_topic: floor_mask}\n"
        "  - {name: 'no'}\n"
    )
    for text in (
        "",
        HEAD,
        fixed,
        HEAD + '  mug: 2\n  "red \\t mug": 300\n',
        fixed + "seen: {mug: 2, chair: 3}\nversion: 1\n",
        fixed.replace("\n", "\r\n") + "seen:\r\n    mug: 254 # a mug\r\n",
        "seen: ~\n",
        "seen: &a {mug: 2}\n",
        "version: 2\n",
        "seen:\n  mug: 2\n  MUG: 3\n",
    ):
        yield text.encode()


@target(ClassError, seeds=_class_seeds, longest=2048)
def classes(data: bytes) -> None:
    """A file of classes: what stands in it stays, and a node that reads it can number labels."""
    path = scratch() / "classes.yaml"
    path.write_bytes(data)
    before = ClassFile(path).read()
    registry = ClassRegistry(ClassFile(path), patience=None)
    assert path.read_bytes() == data or any(not group.id for group in before.groups)
    ids = registry.number(["fuzzed mug", "floor"])
    assert all(1 <= number <= LAST for number in ids.values()), ids
    path.write_bytes(data)

    def choose(content: Content) -> dict[str, int]:
        taken = {*content.seen.values(), *(group.id for group in content.groups), OTHER}
        return {'fuzzed: "mug"': next(n for n in range(1, LAST) if n not in taken)}

    try:
        after = ClassFile(path).add(choose)
    except ClassError:
        if path.read_bytes() != data:
            raise AssertionError("it was changed, though it can't be added to") from None
        raise Refused from None
    assert ClassFile(path).read() == after
    assert after.groups == before.groups
    assert before.seen.items() < after.seen.items()
