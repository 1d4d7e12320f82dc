"""What a node is asked on demand: a table of services, and how they are answered."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import Any, TypeVar

from zgs_ros.config import NodeSettings
from zgs_ros.streaming import messages
from zgs_ros.streaming.answers import MAX_TEXT, ServiceError, Services
from zgs_ros.streaming.images import BadImage
from zgs_ros.streaming.messages import MessageFactory
from zgs_ros.streaming.stream import SegmentationStream
from zgs_ros.texts import bounded

logger = logging.getLogger(__name__)


T = TypeVar("T")


@dataclass(frozen=True)
class ByTopic:
    """How a service is asked where services don't reach: on ``~/NAME/request``, ``~/NAME/result``.

    Attributes:
        request_type: Of the messages that ask, which have the fields of the service's requests.
        result_type: Of the answers.
        make: An answer to a request, of the fields of a response: ``success`` and ``message`` are
            among them, all others only where it went well.
    """

    request_type: str
    result_type: str
    make: Callable[[MessageFactory, Any, dict[str, Any]], Any]


def query_result(factory: MessageFactory, query: Any, fields: dict[str, Any]) -> Any:
    """zgs_ros/QueryResult; of long texts it repeats the beginning."""
    if max(len(query.text), len(query.camera)) > MAX_TEXT:
        query = factory.create(
            "zgs_ros/msg/Query",
            text=bounded(query.text, MAX_TEXT),
            max_results=query.max_results,
            camera=bounded(query.camera, MAX_TEXT),
        )
    nothing = {
        "camera": query.camera,
        "header": messages.header(factory, 0),
        "position_frame": "",
        "segments": [],
    }
    return factory.create("zgs_ros/msg/QueryResult", query=query, **{**nothing, **fields})


def classes_result(factory: MessageFactory, request: Any, fields: dict[str, Any]) -> Any:
    """zgs_ros/ClassesResult."""
    return factory.create("zgs_ros/msg/ClassesResult", **{"open": False, "groups": [], **fields})


def watches_result(factory: MessageFactory, request: Any, fields: dict[str, Any]) -> Any:
    """zgs_ros/WatchesResult."""
    return factory.create("zgs_ros/msg/WatchesResult", **{"watches": [], **fields})


@dataclass(frozen=True)
class Service:
    """A service of a node.

    Attributes:
        name: Below the node's own name.
        type_name: Such as ``"zgs_ros/srv/QuerySegments"``.
        respond: Fields of a response to a request, on the stream's thread.
        meaning: What it does; for the reference.
        exists: Whether a node with these settings has it, from configuring on; None where every node
            has it in all of its states.
        explains: Whether responses have ``success`` and ``message``; without them a response that is
            empty says that there is none, and the log says why.
        by_topic: How else it is asked, None if it isn't.
    """

    name: str
    type_name: str
    respond: Callable[[Services, Any], dict[str, Any]]
    meaning: str
    exists: Callable[[NodeSettings], bool] | None = None
    explains: bool = True
    by_topic: ByTopic | None = None


SERVICES = (
    Service(
        "object_cloud",
        "zgs_ros/srv/ObjectCloud",
        Services.respond_to_object,
        "The points of one object of the latest result, and an oriented box around them.",
    ),
    Service(
        "query",
        "zgs_ros/srv/QuerySegments",
        Services.respond_to_query,
        "Ranks the segments of the latest result by similarity to a text.",
        by_topic=ByTopic("zgs_ros/msg/Query", "zgs_ros/msg/QueryResult", query_result),
    ),
    Service(
        "segment_image",
        "zgs_ros/srv/SegmentImage",
        Services.respond_to_image,
        "Segments one image on demand, also while the stream is inactive.",
    ),
    Service(
        "embed",
        "semantic_inference_msgs/srv/EncodeFeature",
        Services.respond_to_encode,
        "The embedding of a text, to compare those of feature_image with. With publish_features.",
        exists=lambda settings: settings.publish_features,
        explains=False,
    ),
    Service(
        "segment_mask",
        "zgs_ros/srv/SegmentMask",
        Services.respond_to_mask,
        "The pixels of one segment of the latest result as an image.",
    ),
    Service(
        "set_classes",
        "zgs_ros/srv/SetClasses",
        Services.respond_to_classes,
        "Replaces the groups of phrases that are classes, until the node is configured again.",
        by_topic=ByTopic("zgs_ros/msg/Classes", "zgs_ros/msg/ClassesResult", classes_result),
    ),
    Service(
        "watch",
        "zgs_ros/srv/SetWatches",
        Services.respond_to_watches,
        "Watches for phrases, in place of those before: alerts tell when a segment fits one.",
        by_topic=ByTopic("zgs_ros/msg/Watches", "zgs_ros/msg/WatchesResult", watches_result),
    ),
    Service(
        "enable",
        "std_srvs/srv/SetBool",
        Services.respond_to_enable,
        "Has images processed, or dropped until it is asked again; the node stays as it is.",
    ),
)
"""All of them."""


def submit(stream: SegmentationStream, function: Callable[[], T]) -> Future[T]:
    """Has work done on the stream's thread; where it takes none, that is the `outcome`."""
    try:
        return stream.call(function)
    except RuntimeError as error:
        refused: Future[T] = Future()
        refused.set_exception(ServiceError(str(error)))
        return refused


def outcome(done: Future[T]) -> T:
    """What came out of work on the stream's thread.

    Raises:
        ServiceError: Whatever went wrong; the text is for who asked.
    """
    try:
        return done.result()
    except ServiceError:
        raise
    except BadImage as error:
        raise ServiceError(str(error)) from error
    except CancelledError:
        raise ServiceError("the node was stopped before the request was answered") from None
    except Exception as error:
        logger.exception("a request failed:")
        raise ServiceError(f"failed: {error}") from error
