"""A robot around the node, for the tests: does a task per line of JSON on its standard input."""

from __future__ import annotations

import array
import json
import sys
import time
import traceback
from collections.abc import Callable
from itertools import cycle
from typing import Any

import cv2
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.parameter import get_parameter_value, parameter_value_to_python
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from rclpy.serialization import serialize_message
from rclpy.task import Future
from ros_process import ANSWER, PATIENCE
from rosgraph_msgs.msg import Clock
from rosidl_runtime_py import set_message_fields
from rosidl_runtime_py.utilities import get_service
from sensor_msgs.msg import CompressedImage, Image

from zgs_ros.msg import SegmentArray
from zgs_ros.ros.convert import BRIDGED, bridged_decode
from zgs_ros.srv import QuerySegments, SegmentImage
from zgs_ros.streaming.images import decode

CAMERA = "/camera/image_raw"

ASK_AGAIN = 5.0
"""Seconds without a response after which a service is asked again."""

HEIGHT, WIDTH = 96, 128

OUTPUTS = {
    "segments": SegmentArray,
    "label_image": Image,
    "overlay": Image,
    "overlay/compressed": CompressedImage,
}

BROKEN: tuple[dict[str, Any], ...] = (
    {"encoding": "rgb565"},
    {"step": 7},
    {"width": 0},
    {"height": 4000},
    {"data": array.array("B", [1, 2, 3])},
)


def picture() -> np.ndarray:
    """uint8 RGB: a red and a blue box on grey."""
    image = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    image[20:60, 10:50] = (200, 20, 20)
    image[40:90, 70:120] = (20, 20, 200)
    return image


def image_message(node: Node, **changes: Any) -> Image:
    message = Image(height=HEIGHT, width=WIDTH, encoding="rgb8", step=WIDTH * 3)
    message.data = array.array("B", picture().tobytes())
    message.header.stamp = node.get_clock().now().to_msg()
    message.header.frame_id = "camera_optical_frame"
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def compressed_message(node: Node) -> CompressedImage:
    raw = image_message(node)
    jpeg = cv2.imencode(".jpg", picture()[..., ::-1])[1]
    return CompressedImage(header=raw.header, format="jpeg", data=array.array("B", jpeg.tobytes()))


def start_camera(node: Node, options: dict[str, Any]) -> None:
    """Publishes at a rate."""
    compressed = options.get("compressed", False)
    topic = options.get("topic", CAMERA) + ("/compressed" if compressed else "")
    qos = qos_profile_sensor_data if options.get("best_effort") else QoSProfile(depth=1)
    publisher = node.create_publisher(CompressedImage if compressed else Image, topic, qos)
    message = compressed_message if compressed else image_message
    node.create_timer(1.0 / options.get("rate", 10.0), lambda: publisher.publish(message(node)))


def camera(node: Node, options: dict[str, Any]) -> None:
    """Publishes until it is ended."""
    start_camera(node, options)
    print("publishing", flush=True)
    rclpy.spin(node)


def watch(node: Node, options: dict[str, Any]) -> dict[str, Any]:
    """Publishes images and collects what the node makes of them.

    Options: those of the camera; topics to listen to; results to wait for on each of them;
    seconds to wait at most.
    """
    start_camera(node, options)
    return listen(node, options)


def listen(node: Node, options: dict[str, Any]) -> dict[str, Any]:
    """Collects what the node publishes."""
    topics = options.get("topics", ["segments"])
    wanted = options.get("results", 3)
    name = options.get("node", "/zgs")
    seen: dict[str, list[dict[str, Any]]] = {topic: [] for topic in topics}

    def collect(topic: str) -> Callable[[Any], None]:
        return lambda message: seen[topic].append(describe(message))

    for topic in topics:
        kind, path = (
            (DiagnosticArray, topic) if topic[0] == "/" else (OUTPUTS[topic], f"{name}/{topic}")
        )
        node.create_subscription(kind, path, collect(topic), 10)
    spin_until(
        node,
        lambda: all(len(found) >= wanted for found in seen.values()),
        options.get("seconds", PATIENCE / 2),
    )
    return seen


def flood(node: Node, options: dict[str, Any]) -> dict[str, Any]:
    """Publishes images, five of six of them broken, as fast as it can.

    Until so many `frames` came in, some of either kind were looked at, and, afterwards, none is in
    work. Returns the last diagnostics.
    """
    publisher = node.create_publisher(Image, CAMERA, 1)
    results: list[dict[str, Any]] = []
    reports: list[dict[str, Any]] = []
    listener = node.create_subscription(SegmentArray, "/zgs/segments", results.append, 10)
    node.create_subscription(
        DiagnosticArray, "/diagnostics", lambda message: reports.append(describe(message)), 10
    )

    def increase(part: str) -> int:
        return int(reports[-1][part]) - int(reports[0][part]) if reports else 0

    for changes in cycle([*BROKEN, {}]):
        publisher.publish(image_message(node, **changes))
        rclpy.spin_once(node, timeout_sec=0)
        if increase("received") >= options["frames"] and increase("rejected") and results:
            break
    node.destroy_subscription(listener)  # so that images of other cameras are left alone
    spin_until(node, lambda: reports[-1]["pending"] == "0")
    return reports[-1]


def spin_until(node: Node, condition: Callable[[], bool], seconds: float = PATIENCE / 2) -> None:
    """Spins until a condition holds or the time is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not condition():
        rclpy.spin_once(node, timeout_sec=0.1)


def describe(message: Any) -> dict[str, Any]:
    if isinstance(message, DiagnosticArray):
        status = message.status[0]
        return {
            "name": status.name,
            "level": status.level[0],
            "message": status.message,
            **{value.key: value.value for value in status.values},
        }
    fact: dict[str, Any] = {
        "stamp": message.header.stamp.sec,
        "frame_id": message.header.frame_id,
        "age": time.time() - message.header.stamp.sec - message.header.stamp.nanosec * 1e-9,
    }
    if isinstance(message, SegmentArray):
        ids = np.frombuffer(message.label_image.data, np.uint16)
        return {
            **fact,
            "model": message.model,
            "size": [message.label_image.height, message.label_image.width],
            "encoding": message.label_image.encoding,
            "ids_in_image": sorted({int(value) for value in ids} - {0}),
            "ids": [segment.id for segment in message.segments],
            "labels": [segment.label for segment in message.segments],
            "norms": [float(np.linalg.norm(segment.embedding)) for segment in message.segments],
        }
    if isinstance(message, CompressedImage):
        decoded = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)
        return {**fact, "format": message.format, "size": list(decoded.shape[:2])}
    return {**fact, "encoding": message.encoding, "size": [message.height, message.width]}


def segment_image(node: Node, options: dict[str, Any]) -> dict[str, Any]:
    """Calls the service with a good image, or one with wrong fields."""
    request = SegmentImage.Request(image=image_message(node, **options.get("changes", {})))
    response = call(node, SegmentImage, "/zgs/segment_image", request)
    return {
        "success": response.success,
        "message": response.message,
        "frame_id": response.result.header.frame_id,
        "segments": len(response.result.segments),
    }


def query(node: Node, options: dict[str, Any]) -> dict[str, Any]:
    """Asks for a text."""
    request = QuerySegments.Request(**options)
    response = call(node, QuerySegments, "/zgs/query", request)
    return {
        "success": response.success,
        "message": response.message,
        "frame_id": response.header.frame_id,
        "scores": [segment.score for segment in response.segments],
    }


def service(node: Node, options: dict[str, Any]) -> str:
    """Response of any service to a request with some fields, serialized, in hexadecimal digits."""
    kind = get_service(options["type"])
    request = kind.Request()
    set_message_fields(request, options["fields"])
    return str(serialize_message(call(node, kind, options["name"], request)).hex())


def transitions(node: Node, options: dict[str, Any]) -> dict[str, Any]:
    """Sends the node through transitions of its lifecycle, named by label or id.

    Returns which of them succeeded, and the states that the node told meanwhile.
    """
    change = connect_to_transitions(node)
    look = connect(node, GetState, "/zgs/get_state")
    success, states = [], set()
    for name in options["names"]:
        request = ChangeState.Request()
        setattr(request.transition, "label" if isinstance(name, str) else "id", name)
        changed = change.call_async(request)
        while not changed.done():
            states.add(ask(node, look, GetState.Request()).current_state.label)
        success.append(changed.result().success)
    return {"success": success, "states": sorted(states)}


def get_parameters(node: Node, options: dict[str, Any]) -> dict[str, Any]:
    """Values of parameters by name."""
    names = options["names"]
    request = GetParameters.Request(names=names)
    response = call(node, GetParameters, f"{options.get('node', '/zgs')}/get_parameters", request)
    return dict(zip(names, map(parameter_value_to_python, response.values), strict=True))


def set_parameter(node: Node, options: dict[str, Any]) -> str:
    """Sets a parameter to what `ros2 param set` takes a text for; "" or the reason against it."""
    value = get_parameter_value(options["value"])
    request = SetParameters.Request(parameters=[Parameter(name=options["name"], value=value)])
    [result] = call(node, SetParameters, "/zgs/set_parameters", request).results
    assert result.successful == (result.reason == ""), result
    return str(result.reason)


def simulated(node: Node, options: dict[str, Any]) -> dict[str, Any]:
    """As `watch`, with a /clock that runs `speed` times as fast as time itself, from zero."""
    publisher = node.create_publisher(Clock, "/clock", 10)
    began = time.monotonic()

    def tick() -> None:
        nanoseconds = int((time.monotonic() - began) * options["speed"] * 1e9)
        message = Clock()
        message.clock.sec, message.clock.nanosec = divmod(nanoseconds, 1_000_000_000)
        publisher.publish(message)

    node.create_timer(0.01, tick)
    return watch(node, options)


def decoders(node: Node, options: dict[str, Any]) -> dict[str, bool]:
    """Whether cv_bridge and the own decoder see the same, per encoding, with and without padding."""
    random = np.random.default_rng(0)
    bridged = bridged_decode()
    agree = {}
    for encoding, channels in BRIDGED.items():
        for padding in (0, 2):
            step = WIDTH * channels + padding
            data = array.array("B", random.integers(0, 256, HEIGHT * step, np.uint8).tobytes())
            message = image_message(node, encoding=encoding, step=step, data=data)
            same = np.array_equal(bridged(message), decode(message))
            agree[f"{encoding}, {padding} bytes of padding"] = bool(same)
    return agree


def call(node: Node, kind: Any, name: str, request: Any) -> Any:
    """Response of a service to a request that may be made more than once."""
    return ask(node, connect(node, kind, name), request)


def connect(node: Node, kind: Any, name: str) -> Any:
    client = node.create_client(kind, name)
    assert client.wait_for_service(PATIENCE / 2), f"there is no service {name}"
    return client


def connect_to_transitions(node: Node) -> Any:
    """A client whom the node has answered: a transition can't be asked for again."""
    client = connect(node, ChangeState, "/zgs/change_state")
    request = ChangeState.Request()
    request.transition.label = "none of them"
    assert not ask(node, client, request).success
    return client


def ask(node: Node, client: Any, request: Any) -> Any:
    """Response to a request, made again where there is none.

    A server may take a request before it has found the way back to the client; the response is lost then.
    """
    futures: list[Future] = []
    for _ in range(round(PATIENCE / 2 / ASK_AGAIN)):
        futures.append(client.call_async(request))
        rclpy.spin_until_future_complete(node, futures[-1], timeout_sec=ASK_AGAIN)
        for future in futures:
            if future.done():
                return future.result()
    raise AssertionError(f"{client.srv_name} did not answer any of {len(futures)} requests")


TASKS = {
    task.__name__: task
    for task in (
        camera,
        watch,
        listen,
        flood,
        simulated,
        segment_image,
        query,
        service,
        transitions,
        get_parameters,
        set_parameter,
        decoders,
    )
}


def do(task: str, options: dict[str, Any]) -> dict[str, Any]:
    """A task's answer or error; every task gets a node of its own."""
    node = Node("test_client")
    try:
        return {"value": TASKS[task](node, options)}
    except Exception:
        return {"error": traceback.format_exc()}
    finally:
        node.destroy_node()


def main() -> None:
    rclpy.init()
    try:
        for line in sys.stdin:
            print(ANSWER + json.dumps(do(**json.loads(line))), flush=True)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
