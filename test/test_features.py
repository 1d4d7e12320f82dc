"""Segments for semantic_inference and Hydra: masks with embeddings, and the embedding of a text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from conformance import DdsWorld, MemoryWorld, World
from dds_support import ServiceClient

from zgs_ros.dds.types import TypeSupport
from zgs_ros.segmentation import Label, Roi, Segment, Segmentation
from zgs_ros.streaming import messages
from zgs_ros.streaming.features import feature_image

TYPES = TypeSupport("jazzy")
HEADER = messages.header(TYPES, 1_700_000_000_123_456_789, "camera")
FEATURES = "semantic_inference_msgs/msg/FeatureImage"
ENCODE = "semantic_inference_msgs/srv/EncodeFeature"


def over_the_wire(message: Any) -> Any:
    return TYPES.deserialize(bytes(TYPES.serialize(message)), message.__msgtype__)


def seen(*ids: int) -> Segmentation:
    """A row per segment, whose embedding begins with its id."""
    label_map = np.repeat(np.array([*ids, 0], np.uint16)[:, None], 5, axis=1)
    segments = [
        Segment(
            number,
            (Label("thing", 0.5),),
            Roi(0, row, 5, 1),
            5,
            (2.0, row),
            np.array([number, 1], np.float32),
        )
        for row, number in enumerate(ids)
    ]
    return Segmentation(label_map, tuple(segments))


@pytest.mark.parametrize("ids", [(1, 2), (3, 40_000), ()], ids=str)
def test_every_mask_has_its_embedding(ids: tuple[int, ...]) -> None:
    segmentation = seen(*ids)
    message = over_the_wire(feature_image(TYPES, HEADER, segmentation))
    assert message.header == message.image.header == HEADER
    assert message.image.encoding == "16UC1"
    pixels = message.image.data.view("<u2").reshape(message.image.height, message.image.width)
    np.testing.assert_array_equal(pixels, segmentation.label_map)
    features = {
        number: f.data.tolist()
        for number, f in zip(message.mask_ids, message.features, strict=True)
    }
    assert features == {number: [number, 1.0] for number in ids}


@pytest.fixture(params=[MemoryWorld, DdsWorld])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with request.param() as made:
        yield made


def test_a_node_publishes_them_where_they_are_wanted(world: World) -> None:
    world.start(max_rate=1000.0, publish_features=True)
    got = world.listen("/zgs/feature_image", FEATURES)
    world.diagnosed(lambda seen: seen.values.get("result subscribers") == "yes")
    header = world.header()
    world.image(header)
    world.until(lambda: got, "a result")
    [message] = got
    assert message.header.stamp == header.stamp
    assert list(message.mask_ids) == [1, 2]
    assert [list(feature.data) for feature in message.features] == [[1.0, 0.0]] * 2


def test_a_text_is_embedded_and_a_bad_one_gets_an_empty_answer() -> None:
    with DdsWorld() as world:
        world.start(publish_features=True)
        client = ServiceClient(world.port, "/zgs/embed", ENCODE)
        world.until(client.is_connected, "the service is seen")
        client.ask(1, prompt="something to sit on")
        client.ask(2, prompt=" ")
        got: dict[bytes, Any] = {}
        world.until(lambda: got.update(client.answers()) or len(got) == 2, "both answers")
    answers = [got[who].feature.feature.data.tolist() for who in sorted(got)]
    assert answers == [[1.0, 0.0], []]


def test_without_the_setting_there_is_neither_topic_nor_service() -> None:
    with MemoryWorld() as world:
        world.start()
        assert not world.port.offers("/zgs/feature_image")
        with pytest.raises(LookupError, match="nobody offers"):
            world.bus.call("/zgs/embed", object())
