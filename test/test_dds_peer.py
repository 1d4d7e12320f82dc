"""The node without ROS, seen from the network: what comes out for what goes in."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
from dds_support import DOMAIN, HalvesSegmenter, Peer, cli, interrupt, peer, process
from PIL import Image as Pillow

from zgs_ros.config import NodeSettings, make_settings
from zgs_ros.dds.network import Network
from zgs_ros.dds.node import DdsNode
from zgs_ros.dds.peer import PeerOptions, status
from zgs_ros.streaming import diagnostics, messages
from zgs_ros.streaming.port import QosProfile

Eventually = Callable[..., None]
NETWORK = Network(DOMAIN, loopback_only=True)
CAMERA = "/camera/image_raw"
KINDS = {
    "segments": "zgs_ros/msg/SegmentArray",
    "label_image": "sensor_msgs/msg/Image",
    "overlay": "sensor_msgs/msg/Image",
    "overlay/compressed": "sensor_msgs/msg/CompressedImage",
}


class Robot:
    """A camera and a listener around a running peer."""

    def __init__(self, **settings: Any) -> None:
        self.release = threading.Event()
        self.release.set()
        self.worked = 0
        values = {"max_rate": 1000.0, **settings}
        self.peer = Peer(
            HalvesSegmenter(self._work),
            make_settings(NodeSettings, values),
            PeerOptions(NETWORK, CAMERA),
        )
        self.node = DdsNode("robot", network=NETWORK)
        compressed = values.get("image_transport") == "compressed"
        self.camera = self.node.create_publisher(
            f"{CAMERA}/compressed" if compressed else CAMERA,
            f"sensor_msgs/msg/{'CompressedImage' if compressed else 'Image'}",
        )
        self.got: dict[str, list[Any]] = {}

    def _work(self) -> None:
        self.worked += 1
        self.release.wait(10)

    def listen(self, topic: str, eventually: Eventually) -> list[Any]:
        """Subscribes to one of the peer's topics and to be heard by it."""
        got = self.got.setdefault(topic, [])
        subscription = self.node.create_subscription(
            f"/zgs/{topic}", KINDS[topic], got.append, QosProfile(depth=50)
        )
        eventually(subscription.publisher_count, "the peer's publisher is seen")
        eventually(lambda: self.outputs[topic].subscription_count(), "the listener is seen")
        eventually(self.camera.subscription_count, "the peer listens to the camera")
        return got

    @property
    def outputs(self) -> dict[str, Any]:
        return dict(self.peer.outputs._cameras[""])

    def header(self, number: int = 1, frame_id: str = "camera") -> Any:
        return messages.header(self.node.types, 1_700_000_000_000_000_000 + number, frame_id)

    def image(self, number: int = 1, **changes: Any) -> Any:
        pixels = np.full((48, 64, 3), number % 200, np.uint8)
        message = messages.rgb_image(self.node.types, self.header(number), pixels)
        for field, value in changes.items():
            setattr(message, field, value)
        return message

    @property
    def counts(self) -> Any:
        return self.peer.stream.statistics.snapshot()

    def close(self) -> None:
        self.release.set()
        self.node.close()
        self.peer.close()


@pytest.fixture
def make_robot() -> Iterator[Callable[..., Robot]]:
    robots: list[Robot] = []

    def make(**settings: Any) -> Robot:
        robots.append(Robot(**settings))
        return robots[-1]

    yield make
    for robot in robots:
        robot.close()


def test_an_image_becomes_segments_with_its_header_verbatim(
    make_robot: Callable[..., Robot], eventually: Eventually
) -> None:
    robot = make_robot()
    got = robot.listen("segments", eventually)
    sent = robot.image(123)
    robot.camera.publish(sent)
    eventually(lambda: got, "the segments")
    [message] = got
    assert message.header == message.label_image.header == sent.header
    assert message.model == "halves"
    assert [segment.label for segment in message.segments] == ["left", "right"]
    assert message.processing_time.sec + message.processing_time.nanosec > 0
    segmentation = messages.parse_segment_array(message)
    assert segmentation.size == (48, 64)
    assert segmentation.mask(1)[:, :32].all()


@pytest.mark.parametrize(("frame_id", "stamp"), [("", 5), ("camera", 0), ("", 0)])
def test_empty_frame_id_and_zero_stamp_go_through(
    make_robot: Callable[..., Robot], eventually: Eventually, frame_id: str, stamp: int
) -> None:
    robot = make_robot()
    got = robot.listen("segments", eventually)
    header = messages.header(robot.node.types, stamp, frame_id)
    robot.camera.publish(robot.image(header=header))
    eventually(lambda: got, "the segments")
    assert got[0].header == header


def test_only_topics_with_a_subscriber_are_published(
    make_robot: Callable[..., Robot], eventually: Eventually
) -> None:
    robot = make_robot()
    segments = robot.listen("segments", eventually)
    robot.camera.publish(robot.image(1))
    eventually(lambda: len(segments) == 1, "the first segments")
    labels = robot.listen("label_image", eventually)
    overlays = robot.listen("overlay", eventually)
    jpegs = robot.listen("overlay/compressed", eventually)
    assert labels == overlays == jpegs == []
    robot.camera.publish(robot.image(2))
    eventually(lambda: labels and overlays and jpegs, "all pictures of the second image")
    assert labels[0].encoding == "mono16"
    assert (labels[0].data.view("<u2").reshape(48, 64)[:, 32:] == 2).all()
    assert (overlays[0].encoding, overlays[0].width) == ("rgb8", 64)
    with Pillow.open(io.BytesIO(bytes(jpegs[0].data))) as picture:
        assert picture.size == (64, 48)
    assert labels[0].header == overlays[0].header == jpegs[0].header == robot.header(2)


def test_nothing_is_computed_while_nobody_listens(
    make_robot: Callable[..., Robot], eventually: Eventually
) -> None:
    robot = make_robot()
    eventually(robot.camera.subscription_count, "the peer listens to the camera")
    robot.camera.publish(robot.image())
    eventually(lambda: robot.counts.dropped == {"nobody subscribed": 1}, "the frame dropped")
    assert robot.worked == 0
    robot.peer.node.look()
    assert "resting, nobody subscribes" in status(robot.peer.node)


def test_jpeg_input_gives_the_same_segments(
    make_robot: Callable[..., Robot], eventually: Eventually
) -> None:
    robot = make_robot(image_transport="compressed")
    assert robot.peer.image_topics == [f"{CAMERA}/compressed"]
    got = robot.listen("segments", eventually)
    pixels = np.full((48, 64, 3), 90, np.uint8)
    jpeg = messages.jpeg_image(robot.node.types, robot.header(), pixels, 90)
    robot.camera.publish(jpeg)
    eventually(lambda: got, "the segments")
    assert messages.parse_segment_array(got[0]).size == (48, 64)
    jpeg.data = jpeg.data[:100]
    robot.camera.publish(jpeg)
    eventually(lambda: robot.counts.rejections == 1, "the cut JPEG rejected")
    assert "is broken" in robot.counts.last_error


def test_under_overload_the_newest_image_wins_and_memory_stays(
    make_robot: Callable[..., Robot], eventually: Eventually
) -> None:
    robot = make_robot()
    got = robot.listen("segments", eventually)
    robot.release.clear()
    robot.camera.publish(robot.image(1))
    eventually(lambda: robot.worked == 1, "the first image in work")
    before = psutil.Process().memory_info().rss
    large = np.zeros((1080, 1920, 3), np.uint8)
    for number in range(2, 42):
        robot.camera.publish(messages.rgb_image(robot.node.types, robot.header(number), large))
        time.sleep(0.01)
    robot.camera.publish(robot.image(99))
    eventually(lambda: robot.counts.received >= 5, "images received")
    seen = -1
    while seen != robot.counts.received:  # until the last one has come
        seen = robot.counts.received
        time.sleep(0.2)
    assert robot.counts.pending == 2
    assert psutil.Process().memory_info().rss - before < 150e6
    robot.release.set()
    eventually(lambda: robot.counts.pending == 0, "both images done")
    counts = robot.counts
    assert counts.received == counts.processed + counts.drops
    assert counts.processed == 2
    eventually(lambda: len(got) == 2, "both results")
    assert got[-1].header == robot.header(99)


def test_500_mixed_images_leave_a_live_node_with_exact_counts(
    make_robot: Callable[..., Robot], eventually: Eventually
) -> None:
    robot = make_robot()
    got = robot.listen("segments", eventually)
    broken = [{"encoding": "rgb9"}, {"step": 5}, {"width": 0}, {"data": np.zeros(9, np.uint8)}]
    for number in range(1, 500):
        changes = {} if number % 2 else broken[number // 2 % len(broken)]
        robot.camera.publish(robot.image(number, **changes))
    eventually(lambda: robot.counts.pending == 0 and robot.counts.received, "all settled")
    robot.camera.publish(
        robot.image(500, **broken[0])
    )  # those before may all have been passed over
    eventually(lambda: robot.counts.rejections, "a broken one is rejected")
    robot.camera.publish(robot.image(1000))
    eventually(lambda: got and got[-1].header == robot.header(1000), "the image behind them")
    counts = robot.counts
    assert counts.received == counts.processed + counts.drops + counts.rejections
    assert counts.rejections > 0
    assert counts.processed > 0
    assert counts.received <= 501


def test_diagnostics_tell_the_state(
    make_robot: Callable[..., Robot], eventually: Eventually
) -> None:
    robot = make_robot()
    got: list[Any] = []
    robot.node.create_subscription(
        "/diagnostics", "diagnostic_msgs/msg/DiagnosticArray", got.append, QosProfile(depth=10)
    )

    def values() -> dict[str, str]:
        robot.peer.node.look()
        time.sleep(0.05)
        return {pair.key: pair.value for pair in got[-1].status[0].values} if got else {}

    eventually(lambda: values().get("image publishers") == "1", "the camera in the diagnostics")
    assert (values()["received"], values()["result subscribers"]) == ("0", "no")
    assert values()["model"] == "halves"
    assert values()["image topic"] == CAMERA
    status = got[-1].status[0]
    assert (status.name, status.level) == ("zgs: stream", diagnostics.WARN)
    assert status.message == "no image received yet"


def test_diagnostics_have_every_number(
    make_robot: Callable[..., Robot], eventually: Eventually
) -> None:
    robot = make_robot()
    robot.listen("segments", eventually)
    got: list[Any] = []
    robot.node.create_subscription(
        "/diagnostics", "diagnostic_msgs/msg/DiagnosticArray", got.append, QosProfile(depth=10)
    )

    encodings = cycle(["rgb8", "rgb565"])

    def values() -> dict[str, str]:
        now = messages.header(robot.node.types, time.time_ns(), "camera")
        robot.camera.publish(robot.image(header=now, encoding=next(encodings)))
        robot.peer.node.look()
        time.sleep(0.05)
        return {pair.key: pair.value for pair in got[-1].status[0].values} if got else {}

    numbers = {"received", "processed", "dropped", "rejected", "pending", "results per second"}
    numbers |= {"latency p50 [ms]", "latency p95 [ms]", "image age [s]", "result age [s]"}
    numbers |= {"stage decode [ms]", "stage publish [ms]", "segments", "memory [MB]"}
    texts = {"device", "model", "profile", "version", "last error"}
    eventually(lambda: values().keys() >= numbers | texts, "all of them")
    seen = values()
    assert all(float(seen[name]) >= 0 for name in numbers)
    assert all(seen[name] for name in texts)
    assert "rgb565" in seen["last error"]
    assert got[-1].status[0].hardware_id == seen["device"] == "cpu"


def test_live_settings_of_a_namespace_and_a_name_of_ones_own(eventually: Eventually) -> None:
    options = PeerOptions(NETWORK, "image", name="eye", namespace="/front")
    peer = Peer(HalvesSegmenter(), make_settings(NodeSettings, {}), options)
    try:
        assert peer.port.full_name == "/front/eye"
        assert peer.image_topics == ["/front/image"]
        assert peer.outputs._cameras[""]["segments"].topic == "/front/eye/segments"
    finally:
        peer.close()


def test_closing_publishes_the_frame_in_work(
    make_robot: Callable[..., Robot], eventually: Eventually
) -> None:
    robot = make_robot()
    got = robot.listen("segments", eventually)
    robot.release.clear()
    robot.camera.publish(robot.image())
    eventually(lambda: robot.worked, "the image in work")
    closing = threading.Thread(target=robot.peer.close)
    closing.start()
    robot.release.set()
    closing.join(10)
    eventually(lambda: got, "its segments")
    assert robot.counts.processed == 1
    assert robot.counts.rejections == 0


def _images(folder: Any, count: int = 3) -> Any:
    for number in range(count):
        pixels = np.full((48, 64, 3), 60 * number, np.uint8)
        Pillow.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def test_camera_node_and_viewer_are_processes_and_the_camera_may_die(
    tmp_path: Any, eventually: Eventually
) -> None:
    camera = cli("camera", _images(tmp_path), "--rate", 20, "--frame-id", "optical")
    results: list[Any] = []
    images: list[Any] = []
    with process(peer(max_rate=50)) as node_process, DdsNode("viewer", network=NETWORK) as viewer:
        viewer.create_subscription("/zgs/segments", KINDS["segments"], results.append)
        viewer.create_subscription(CAMERA, "sensor_msgs/msg/Image", images.append)
        for _ in range(2):
            with process(camera) as camera_process:
                seen = len(results)
                eventually(lambda n=seen: len(results) > n + 3, "results of the camera", 90)
                camera_process.kill()
            results.clear()
            images.clear()
        eventually(lambda: node_process.poll() is None, "the node lives without a camera")
        with process(camera) as camera_process:
            eventually(lambda: len(results) > 10, "results of the last camera", 60)
            text = interrupt(camera_process)
            assert camera_process.returncode == 0, text
        stamps = {(m.header.stamp.sec, m.header.stamp.nanosec) for m in images}
        assert {m.header.frame_id for m in results} == {"optical"}
        shared = [(m.header.stamp.sec, m.header.stamp.nanosec) in stamps for m in results]
        assert sum(shared) >= len(shared) - 2, "results carry the stamps of the camera's images"
        text = interrupt(node_process)
    assert node_process.returncode == 0, text
    assert "node /zgs on domain" in text
    counts = _stopped_counts(text)
    assert counts.received == counts.processed + counts.dropped + counts.rejected
    assert counts.processed >= 10


def test_it_ends_in_time_whatever_is_in_work(eventually: Eventually) -> None:
    seen: list[Any] = []
    with (
        process(peer(delay=600, lazy="false")) as node,
        DdsNode("robot", network=NETWORK) as robot,
    ):
        kind = "diagnostic_msgs/msg/DiagnosticArray"
        robot.create_subscription("/diagnostics", kind, seen.append, QosProfile(depth=10))
        camera = robot.create_publisher(CAMERA, "sensor_msgs/msg/Image")
        eventually(camera.subscription_count, "the node listens to the camera", 60)
        picture = np.zeros((48, 64, 3), np.uint8)

        def is_in_work() -> bool:
            camera.publish(
                messages.rgb_image(robot.types, messages.header(robot.types, 5), picture)
            )
            pairs = {p.key: p.value for m in seen for s in m.status for p in s.values}
            return pairs.get("pending", "0") != "0"

        eventually(is_in_work, "an image is in work", 30)
        began = time.monotonic()
        text = interrupt(node)
        assert time.monotonic() - began < 30.0, "and not ten minutes"
    assert node.returncode == 0, text
    assert "what is still in work after 2 s is given up" in text


def test_the_cameras_topic_can_be_remapped_and_rules_that_fit_nothing_are_known() -> None:
    rules = {"image": "/rear/image_raw", "~/segments": "/labels"}
    options = PeerOptions(NETWORK, remappings=rules)
    robot = Peer(HalvesSegmenter(), make_settings(NodeSettings, {}), options)
    try:
        assert robot.image_topics == ["/rear/image_raw"]
        assert robot.port.has("~/segments")
        assert not robot.port.has("~/segmnts")
    finally:
        robot.close()


def _stopped_counts(text: str) -> SimpleNamespace:
    import re

    names = ("received", "processed", "dropped", "rejected")
    match = re.findall(
        r"stopped: .*\((\d+) images, (\d+) processed, (\d+) dropped, (\d+) rejected\)", text
    )
    assert match, text
    return SimpleNamespace(**dict(zip(names, map(int, match[-1]), strict=True)))
