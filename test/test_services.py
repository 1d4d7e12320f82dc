"""What a node answers on demand: one image, and a text about the latest result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from zgs_ros.classes.classifier import Classifier
from zgs_ros.classes.registry import ClassRegistry
from zgs_ros.clouds import POINT, Surface
from zgs_ros.geometry import CameraModel
from zgs_ros.segmentation import Label, Roi, Segment, Segmentation
from zgs_ros.streaming.answers import ServiceError, Services
from zgs_ros.streaming.images import BadImage
from zgs_ros.streaming.services import query_result
from zgs_ros.streaming.stream import Result
from zgs_ros.transforms import Transform

SCENE = {"mug": (1.0, 0.0), "chair": (0.0, 1.0), "stool": (0.6, 0.8)}


class Namespaces:
    """Messages as plain objects."""

    def create(self, type_name: str, **fields: Any) -> Any:
        return SimpleNamespace(type_name=type_name, **fields)

    def octets(self, values: NDArray[np.uint8]) -> bytes:
        return values.tobytes()

    def floats(self, values: NDArray[np.float32]) -> list[float]:
        return [float(value) for value in values]

    def octet(self, value: int) -> bytes:
        return bytes([value])


class SceneSegmenter:
    """Sees `SCENE` in every image, a column each; a text is embedded as what it names."""

    def segment_batch(self, images: Sequence[NDArray[np.uint8]]) -> list[Segmentation]:
        return [self._segment(image.shape[0]) for image in images]

    def embed_text(self, text: str) -> NDArray[np.float32]:
        return np.array(SCENE[text], np.float32)

    def embed_phrases(self, phrases: Sequence[str]) -> NDArray[np.float32]:
        return np.array([SCENE.get(text, (-0.6, -0.8)) for text in phrases], np.float32)

    def _segment(self, height: int) -> Segmentation:
        label_map = np.tile(np.arange(1, len(SCENE) + 1, dtype=np.uint16), (height, 1))
        segments = tuple(
            Segment(
                id=number,
                labels=(Label(text, 0.5), Label("thing", 0.1)),
                roi=Roi(number - 1, 0, 1, height),
                area=height,
                centroid=(number - 1.0, 0.5),
                embedding=np.array(vector, np.float32),
            )
            for number, (text, vector) in enumerate(SCENE.items(), start=1)
        )
        return Segmentation(label_map, segments, "scene")


HEADER = SimpleNamespace(stamp=SimpleNamespace(sec=7, nanosec=8), frame_id="camera")


def image(**changes: Any) -> Any:
    fields = {"encoding": "rgb8", "width": 3, "height": 2, "step": 9, "is_bigendian": 0}
    return SimpleNamespace(**{**fields, "header": HEADER, "data": bytes(18), **changes})


@pytest.fixture
def services() -> Services:
    return Services(SceneSegmenter(), Namespaces())


@pytest.fixture
def with_result(services: Services) -> Services:
    pixels = np.zeros((2, 3, 3), np.uint8)
    [segmentation] = SceneSegmenter().segment_batch([pixels])
    services.remember(Result("front", HEADER, pixels, segmentation, 0.1))
    return services


def test_segment_image_gives_the_segments_with_the_images_header(services: Services) -> None:
    result = services.segment_image(image())
    assert result.header is HEADER
    assert result.model == "scene"
    assert [segment.label for segment in result.segments] == list(SCENE)
    assert (result.label_image.height, result.label_image.width) == (2, 3)


@pytest.mark.parametrize("camera", ["front", "left"])
def test_segment_image_turns_the_image_as_its_camera_is_turned(camera: str) -> None:
    seen: list[tuple[int, ...]] = []

    class Looking(SceneSegmenter):
        def segment_batch(self, images: Any) -> Any:
            seen.extend(image.shape for image in images)
            return super().segment_batch(images)

    services = Services(Looking(), Namespaces(), rotations={"front": 0, "left": 270})
    services.segment_image(image(), camera)
    assert seen == [(2, 3, 3) if camera == "front" else (3, 2, 3)]
    for other, text in (("", "say whose image it is: front, left"), ("rear", "no camera 'rear'")):
        with pytest.raises(ServiceError, match=text):
            services.segment_image(image(), other)


def test_segment_image_names_what_is_wrong_with_an_image(services: Services) -> None:
    with pytest.raises(BadImage, match="encoding 'rgb565'"):
        services.segment_image(image(encoding="rgb565"))


def test_a_giant_query_is_refused_and_not_repeated(with_result: Services) -> None:
    with pytest.raises(ServiceError, match="text has 1000000 characters, at most 500 are allowed"):
        with_result.query("x" * 1_000_000)
    with pytest.raises(ServiceError) as caught:
        with_result.query("mug", camera="y" * 1_000_000)
    assert len(str(caught.value)) < 1000
    query = SimpleNamespace(text="x" * 1_000_000, max_results=0, camera="y" * 1_000_000)
    answer = query_result(Namespaces(), query, {"success": False, "message": str(caught.value)})
    assert not answer.success
    assert len(answer.message) + len(answer.query.text) + len(answer.query.camera) < 2000


@pytest.mark.parametrize(
    ("text", "max_results", "expected"),
    [
        ("mug", 0, [("mug", 1.0), ("stool", 0.6), ("chair", 0.0)]),
        ("chair", 0, [("chair", 1.0), ("stool", 0.8), ("mug", 0.0)]),
        ("stool", 1, [("stool", 1.0)]),
        ("stool", 100, [("stool", 1.0), ("chair", 0.8), ("mug", 0.6)]),
    ],
)
def test_query_ranks_segments_by_their_cosine_with_the_text(
    with_result: Services, text: str, max_results: int, expected: list[tuple[str, float]]
) -> None:
    answer = with_result.query(text, max_results)
    found = answer.segments
    assert (answer.camera, answer.header) == ("front", HEADER)
    assert [segment.label for segment in found] == [label for label, _ in expected]
    assert [segment.score for segment in found] == pytest.approx([score for _, score in expected])
    assert [segment.alternatives[0].text for segment in found] == ["thing"] * len(found)


def test_query_of_a_result_without_segments_finds_nothing(services: Services) -> None:
    pixels = np.zeros((1, 1, 3), np.uint8)
    empty = Segmentation(np.zeros((1, 1), np.uint16), (), "scene")
    services.remember(Result("front", HEADER, pixels, empty, 0.1))
    assert services.query("mug").segments == []


def test_query_before_the_first_result_says_what_to_do(services: Services) -> None:
    with pytest.raises(ServiceError, match="no result yet: activate the node, send images"):
        services.query("mug")


@pytest.mark.parametrize("text", ["", "  \n"])
def test_query_needs_a_text(with_result: Services, text: str) -> None:
    with pytest.raises(ServiceError, match="text is empty"):
        with_result.query(text)


def with_depth(track_id: int = 0, depth: float = 2.0, camera: str = "front") -> Result:
    """A result whose first segment, in the middle of 12 x 16 pixels, is tracked."""
    labels = np.full((12, 16), 2, np.uint16)
    labels[2:10, 3:13] = 1
    nothing = np.empty(0, np.float32)
    segments = tuple(
        Segment(number, (Label(name, 0.5),), Roi(0, 0, 1, 1), 1, (0.0, 0.0), nothing, track)
        for number, name, track in ((1, "mug", track_id), (2, "table", 0))
    )
    camera_model = CameraModel(np.array([[20.0, 0, 7.5], [0, 20, 5.5], [0, 0, 1]]), (12, 16))
    looking = Transform(np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]), np.array([5.0, 0, 1]))
    values = np.full((12, 16), depth, np.float32)
    surface = Surface(values, camera_model, "map", looking, upright=True)
    pixels = np.zeros((12, 16, 3), np.uint8)
    header = SimpleNamespace(stamp=HEADER.stamp, frame_id="camera")
    seen = Segmentation(labels, segments, "scene")
    return Result(camera, header, pixels, seen, 0.1, surface=surface, target_frame="map")


def wanted(track_id: int = 0, segment_id: int = 0, camera: str = "") -> Any:
    return SimpleNamespace(track_id=track_id, segment_id=segment_id, camera=camera)


@pytest.mark.parametrize(
    "request_", [wanted(7), wanted(0, 1, "front"), wanted(7, 0, "front")], ids=str
)
def test_an_object_has_its_points_and_a_box_in_the_frame_of_positions(
    services: Services, request_: Any
) -> None:
    services.remember(remember_nothing("left"))
    services.remember(with_depth(7))
    found = SimpleNamespace(**services.respond_to_object(request_))
    assert (found.camera, found.label, found.track_id, found.segment_id) == ("front", "mug", 7, 1)
    cloud = found.cloud
    assert (cloud.header.frame_id, cloud.header.stamp.sec) == ("map", 7)
    assert (cloud.height, cloud.width, cloud.is_dense) == (1, 8 * 6, True)  # without its border
    points = np.frombuffer(cloud.data, POINT)
    assert set(points["instance"]) == {1}
    assert points["x"] == pytest.approx(7.0)
    place, size = found.pose.position, found.size
    assert (place.x, place.y, place.z) == pytest.approx((7.0, 0.0, 1.0), abs=0.02)
    assert (size.x, size.y, size.z) == pytest.approx((0.7, 0.0, 0.5), abs=0.05)


def remember_nothing(camera: str) -> Result:
    pixels = np.zeros((2, 3, 3), np.uint8)
    [seen] = SceneSegmenter().segment_batch([pixels])
    return Result(camera, HEADER, pixels, replace(seen, segments=()), 0.1)


NO_OBJECT = [
    ([], wanted(7), "there is no result yet"),
    ([with_depth(7)], wanted(8), "the latest result has no segment with track_id 8"),
    ([with_depth(7)], wanted(0, 3), "the latest result has no segment with segment_id 3"),
    ([with_depth(7)], wanted(0, 0), "one of them must be above 0"),
    ([with_depth(7)], wanted(7, 0, "left"), "no result of a camera 'left'"),
    ([replace(with_depth(7), surface=None)], wanted(7), "needs depth.enabled"),
    ([with_depth(7, float("nan"))], wanted(7), "has no pixel with depth"),
    ([with_depth(7), with_depth(8)], wanted(7), "the latest result has no segment with track_id 7"),
]


@pytest.mark.parametrize(("results", "request_", "text"), NO_OBJECT, ids=[n[2] for n in NO_OBJECT])
def test_an_object_that_is_not_there_is_refused_with_the_reason(
    services: Services, results: list[Result], request_: Any, text: str
) -> None:
    for result in results:
        services.remember(result)
    with pytest.raises(ServiceError, match=text):
        services.respond_to_object(request_)


def remember(services: Services, camera: str, *names: str) -> Any:
    """A result of a camera that sees these things; returns its header."""
    pixels = np.zeros((2, 3, 3), np.uint8)
    [seen] = SceneSegmenter().segment_batch([pixels])
    kept = tuple(segment for segment in seen.segments if segment.label in names)
    header = SimpleNamespace(stamp=HEADER.stamp, frame_id=camera)
    services.remember(Result(camera, header, pixels, replace(seen, segments=kept), 0.1))
    return header


@pytest.mark.parametrize(
    ("text", "camera", "expected"),
    [
        ("mug", "", ("front", ["mug"])),
        ("chair", "", ("left", ["chair", "stool"])),
        ("chair", "front", ("front", ["mug"])),
        ("mug", "left", ("left", ["stool", "chair"])),
        ("mug", "back", ("back", [])),
    ],
)
def test_of_several_cameras_the_one_that_sees_it_answers(
    services: Services, text: str, camera: str, expected: tuple[str, list[str]]
) -> None:
    headers = {
        "front": remember(services, "front", "mug"),
        "left": remember(services, "left", "chair", "stool"),
        "back": remember(services, "back"),
    }
    found = services.query(text, camera=camera)
    assert (found.camera, [segment.label for segment in found.segments]) == expected
    assert found.header is headers[found.camera]


def test_a_camera_without_a_result_is_named(with_result: Services) -> None:
    with pytest.raises(ServiceError, match=r"no result of a camera 'left' \(there are: front\)"):
        with_result.query("mug", camera="left")


def ask(text: str, max_results: int = 0, camera: str = "") -> Any:
    return SimpleNamespace(text=text, max_results=max_results, camera=camera)


def test_a_query_message_gets_a_message_as_answer(with_result: Services) -> None:
    query = ask("mug", 2)
    fields = with_result.respond_to_query(query)
    answer = query_result(Namespaces(), query, {"success": True, "message": "", **fields})
    assert (answer.type_name, answer.success) == ("zgs_ros/msg/QueryResult", True)
    assert (answer.query is query, answer.header is HEADER) == (True, True)
    assert [segment.label for segment in answer.segments] == ["mug", "stool"]


def test_segment_image_finds_the_classes_too() -> None:
    classifier = Classifier(ClassRegistry(), SceneSegmenter().embed_phrases)
    services = Services(SceneSegmenter(), Namespaces(), classifier=classifier)
    result = services.segment_image(image())
    assert [segment.class_id for segment in result.segments] == [2, 1, 3], "chair, mug, stool"


def classes(*groups: tuple[int, str, list[str]], is_open: bool = True) -> Any:
    made = [SimpleNamespace(id=i, name=name, phrases=phrases) for i, name, phrases in groups]
    return SimpleNamespace(open=is_open, groups=made)


def test_new_classes_are_used_at_once_and_told() -> None:
    told: list[str] = []
    classifier = Classifier(ClassRegistry(), SceneSegmenter().embed_phrases)
    services = Services(
        SceneSegmenter(), Namespaces(), classifier=classifier, changed=lambda: told.append("now")
    )
    many = ["chair", *(f"phrase {number}" for number in range(8000))]
    fields = services.respond_to_classes(classes((0, "seat", many), is_open=False))
    assert [(group.id, group.name) for group in fields["groups"]] == [(1, "seat")]
    assert told == ["now"]
    result = services.segment_image(image())
    assert [segment.class_id for segment in result.segments] == [0, 1, 1]
    while services.missing:
        services.embed_some()
    assert services.respond_to_classes(classes())["groups"] == []


BAD_CLASSES = {
    "the phrase 'x' is of two classes": classes((0, "a", ["x"]), (0, "b", ["X"])),
    "the id '3' is of two classes": classes((3, "a", []), (3, "b", [])),
    "id 256 of the class 'a' must be in 1 .. 254": classes((256, "a", [])),
    "a class's name is empty": classes((0, " ", ["x"])),
    "has 10000 characters, at most 200": classes((0, "x" * 10_000, [])),
    "there are 10001 phrases, at most 10000": classes((0, "a", ["x"] * 10_001)),
    "there are 1001 classes, at most 1000": classes(*[(0, "a", [])] * 1001),
}


@pytest.mark.parametrize("problem", BAD_CLASSES)
def test_classes_that_make_no_sense_are_refused_and_change_nothing(problem: str) -> None:
    classifier = Classifier(ClassRegistry(), SceneSegmenter().embed_phrases)
    services = Services(SceneSegmenter(), Namespaces(), classifier=classifier)
    services.respond_to_classes(classes((9, "seat", ["chair"])))
    with pytest.raises(ServiceError) as caught:
        services.respond_to_classes(BAD_CLASSES[problem])
    assert problem in str(caught.value)
    assert len(str(caught.value)) < 500
    assert [group.name for group in classifier.groups] == ["seat"]


def test_a_mask_is_the_segments_pixels_with_the_images_header(with_result: Services) -> None:
    found = with_result.respond_to_mask(wanted(0, 2))
    assert (found["camera"], found["segment"].label) == ("front", "chair")
    mask = found["mask"]
    assert (mask.encoding, mask.header is HEADER) == ("mono8", True)
    assert list(mask.data) == [0, 255, 0] * 2


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        (wanted(0), "ask by track_id or by segment_id"),
        (wanted(3, 2), "ask by track_id or by segment_id"),
        (wanted(0, 9), "the latest result has no segment with segment_id 9"),
        (wanted(77), "the latest result has no segment with track_id 77"),
        (wanted(0, 1, camera="x" * 9000), "no result of a camera 'xxx"),
    ],
)
def test_a_mask_of_nothing_is_refused(with_result: Services, request_: Any, problem: str) -> None:
    with pytest.raises(ServiceError) as caught:
        with_result.respond_to_mask(request_)
    assert problem in str(caught.value)
    assert len(str(caught.value)) < 500


def test_of_several_cameras_an_id_needs_to_say_which(services: Services) -> None:
    remember(services, "front", "mug")
    remember(services, "left", "chair")
    with pytest.raises(ServiceError, match=r"say which one \(there are: front, left\)"):
        services.respond_to_mask(wanted(0, 1))
    assert services.respond_to_mask(wanted(0, 2, camera="left"))["camera"] == "left"


def test_what_is_watched_for_is_replaced_as_a_whole(services: Services) -> None:
    def ask(*watches: tuple[str, float, float]) -> list[str]:
        made = [SimpleNamespace(phrase=p, threshold=t, margin=m) for p, t, m in watches]
        fields = services.respond_to_watches(SimpleNamespace(watches=made))
        return [watch.phrase for watch in fields["watches"]]

    assert ask(("mug", 0.5, 0.0), ("chair", 0.5, 0.1)) == ["mug", "chair"]
    assert ask(("stool", 0.5, 0.0)) == ["stool"]
    with pytest.raises(ServiceError, match="the margin of 'mug' must be in 0"):
        ask(("mug", 0.5, -1.0))
    assert [watch.phrase for watch in services.watcher.watches] == ["stool"]
    assert ask() == []
