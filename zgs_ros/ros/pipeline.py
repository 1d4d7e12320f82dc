"""What the node has from configure to cleanup: models, the stream around them, and their topics."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

from zgs_ros import __version__
from zgs_ros.config import NodeSettings
from zgs_ros.msg import Query
from zgs_ros.ros.convert import RclpyMessages, RclpyPublisher, message_class
from zgs_ros.ros.loading import load_models
from zgs_ros.streaming.enrichment import Enrichment
from zgs_ros.streaming.outputs import Outputs, make_publishers
from zgs_ros.streaming.services import QueryTopic, Services
from zgs_ros.streaming.stream import Result, SegmentationStream, StreamSettings

RESULT_QOS = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE,
)

QUERY_QOS = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=10,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE,
)


@dataclass(frozen=True, eq=False)
class Pipeline:
    """A running stream and what is around it, until `close`.

    Attributes:
        facts: What was loaded, for the diagnostics.
        stream: Takes the frames.
        enrichment: Completes its results.
        outputs: Publishes them.
        services: Answers requests.
        close: Ends and frees all of it.
    """

    facts: dict[str, str]
    stream: SegmentationStream
    enrichment: Enrichment
    outputs: Outputs
    services: Services
    close: Callable[[], None]


def open_pipeline(
    node: Any,
    settings: NodeSettings,
    decode: Callable[..., NDArray[np.uint8]],
    diagnostics: RclpyPublisher,
) -> Pipeline:
    """Loads the models, makes the topics and starts the stream; all or nothing of it.

    Args:
        node: An rclpy node, which the topics belong to, and a `Clock`, on which the stream counts.
        settings: Of the node.
        decode: Decodes image messages.
        diagnostics: Where the node's state goes.

    Raises:
        zgs_ros.ros.loading.CannotLoad: If the models can't be loaded.
    """
    with ExitStack[None]() as undo:
        segmenter = load_models(settings)
        undo.callback(segmenter.close)

        def publisher(topic: str, type_name: str) -> RclpyPublisher:
            made = make_publisher(node, topic, type_name)
            undo.callback(made.destroy, node)
            return made

        factory = RclpyMessages()
        cameras = {name: make_publishers(name, publisher, settings) for name in settings.cameras}
        outputs = Outputs(factory, cameras, diagnostics, settings)
        limited = partial(decode, max_pixels=settings.max_pixels)
        services = Services(segmenter, factory, limited)
        enrichment = Enrichment(settings, node)

        def publish(result: Result) -> None:
            services.remember(result)
            outputs.publish(result)

        stream = SegmentationStream(
            segmenter,
            publish,
            wanted=outputs.wanted,
            clock=node,
            settings=StreamSettings(settings.max_rate, settings.lazy),
            decode=limited,
            enrich=enrichment,
        )
        answers = publisher("~/query/result", "zgs_ros/msg/QueryResult")
        queries = node.create_subscription(
            Query, "~/query/request", QueryTopic(stream, services, answers), QUERY_QOS
        )
        undo.callback(node.destroy_subscription, queries)
        stream.start()
        undo.callback(stream.stop)
        facts = {
            "version": __version__,
            "model": segmenter.model,
            "device": segmenter.device,
            "profile": settings.profile,
        }
        return Pipeline(facts, stream, enrichment, outputs, services, undo.pop_all().close)


def make_publisher(node: Any, topic: str, type_name: str) -> RclpyPublisher:
    """A publisher of a node whose newest message arrives."""
    made = node.create_publisher(message_class(type_name), topic, RESULT_QOS)
    return RclpyPublisher(made, node.context)
