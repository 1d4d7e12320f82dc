"""The node without a middleware: all that it is and does, on the port that an adapter gives it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zgs_ros import __version__, progress
from zgs_ros.classes.classifier import Classifier, load_classifier
from zgs_ros.config import NodeSettings
from zgs_ros.rotation import rotations
from zgs_ros.segmentation import ImageSegmenter
from zgs_ros.streaming import messages
from zgs_ros.streaming.answers import ServiceError, Services
from zgs_ros.streaming.diagnostics import Diagnosis, diagnostic_array
from zgs_ros.streaming.enrichment import Enrichment
from zgs_ros.streaming.frames import TransformListener
from zgs_ros.streaming.images import decode as decode_any
from zgs_ros.streaming.inputs import CameraInputs, image_topic
from zgs_ros.streaming.interface import (
    ALERTS,
    DIAGNOSTICS,
    Endpoint,
    check_cameras,
    check_mask_topics,
    request_topic,
    result_topic,
)
from zgs_ros.streaming.memory import memory_facts, trim_memory
from zgs_ros.streaming.messages import stamp_ns
from zgs_ros.streaming.pairing import Recent, RecentMessages
from zgs_ros.streaming.port import Port, Publisher, Reply
from zgs_ros.streaming.publishing import Outputs, open_outputs
from zgs_ros.streaming.services import (
    SERVICES,
    Service,
    outcome,
    submit,
)
from zgs_ros.streaming.statistics import Snapshot
from zgs_ros.streaming.stream import Result, SegmentationStream, StreamSettings
from zgs_ros.streaming.throttle import ThrottledLog
from zgs_ros.transforms import TransformBuffer, TransformStore

PERIOD = 1.0
"""Seconds between two calls of `SegmentationNode.look`."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class _Loaded:
    """What there is from `configure` to `clean_up`."""

    facts: dict[str, str]
    stream: SegmentationStream
    enrichment: Enrichment
    outputs: Outputs
    services: Services
    classifier: Classifier
    close: Callable[[], None]
    embedding: threading.Lock = field(default_factory=threading.Lock)  # held while phrases are


class SegmentationNode:
    """Segments and names what its cameras see.

    It goes through the states of a ROS 2 lifecycle node: `configure` loads the models, `activate`
    subscribes to the cameras, `deactivate` unsubscribes, `clean_up` frees the models. Services, queries
    and diagnostics are there in all of them. One transition at a time; everything else may be called
    from any thread.

        node = SegmentationNode(port, settings, load_segmenter)
        node.configure()
        node.activate()
        while True:
            node.look()
            time.sleep(PERIOD)

    Args:
        port: Its place in the graph.
        settings: Of the node.
        load: Makes the segmenter, such as `zgs_ros.segmenter.load_segmenter`.
        choose_decode: Returns what decodes image messages; called when the node is configured.
        recent: Keeps the newest depth images, see `DepthFeed`.
        transforms: Makes what keeps the transforms of /tf.
        way_out: What a user does to have a transition made, such as a command; for messages.

    Raises:
        zgs_ros.config.SettingsError: If a camera is called like a topic of the node.
    """

    def __init__(
        self,
        port: Port,
        settings: NodeSettings,
        load: Callable[[NodeSettings], ImageSegmenter],
        *,
        choose_decode: Callable[[], Callable[..., NDArray[np.uint8]]] = lambda: decode_any,
        recent: Callable[[], RecentMessages] = Recent,
        transforms: Callable[[], TransformStore] = TransformBuffer,
        way_out: Callable[[str], str] = lambda transition: transition,
    ) -> None:
        check_cameras(settings)
        self._port = port
        self._settings = settings
        self._load = load
        self._choose_decode = choose_decode
        self._recent = recent
        self._transforms = transforms
        self._way_out = way_out
        self._lock = threading.Lock()  # held where settings change or begin to be used
        self._configured = False
        self._busy = False
        self._failure = ""
        self._loaded: _Loaded | None = None
        self._cameras: tuple[CameraInputs, ...] = ()
        self._listener: TransformListener | None = None
        self._renewals = self._lost = 0
        self._log = ThrottledLog(logger)
        with ExitStack[bool | None]() as made:
            self._diagnostics = _publisher(port, DIAGNOSTICS)
            made.callback(self._diagnostics.close)
            self._alerts = _publisher(port, ALERTS)
            made.callback(self._alerts.close)
            for service in SERVICES:
                if service.exists is None:
                    made.callback(self._offer(service))
                if service.by_topic:
                    made.enter_context(self._served_by_topic(service))
            self._leave_graph = made.pop_all().close

    @property
    def settings(self) -> NodeSettings:
        """As they are now."""
        return self._settings

    @property
    def loaded(self) -> bool:
        """Whether the models are loaded, so that only live settings can change."""
        return self._loaded is not None

    @property
    def cameras(self) -> tuple[CameraInputs, ...]:
        """What is read from each camera; none while the node is not active."""
        return self._cameras

    @property
    def next_transition(self) -> str:
        """The transition that leads on to where results come: ``configure`` or ``activate``."""
        return "activate" if self._configured else "configure"

    def configure(self) -> None:
        """Loads the models and starts the thread that owns them; the output topics appear.

        Raises:
            Exception: Whatever `load` raises; diagnostics show it until the next try.
        """
        with self._transition("configure"):
            self._bring_in()
            self._configured = True

    def activate(self) -> None:
        """Subscribes to the cameras; loads the models where deactivating freed them.

        Raises:
            Exception: Whatever `load` raises.
        """
        with self._transition("activate"), ExitStack[None]() as undo:
            loaded = self._loaded or self._bring_in()
            undo.callback(self._unsubscribe)
            if self._settings.target_frame and self._settings.depth.enabled:
                self._listener = TransformListener(self._port, self._transforms())
                loaded.enrichment.frames = self._listener.frames
            for name in self._settings.cameras:
                inputs = CameraInputs(
                    self._port,
                    name,
                    loaded.stream,
                    self._settings,
                    self._recent,
                    wants_info=any(group.mask_topic for group in loaded.classifier.registry.groups),
                )
                self._cameras = (*self._cameras, inputs)
            undo.pop_all()
        logger.info("listens to %s", ", ".join(self._image_topics()))

    def deactivate(self) -> None:
        """Unsubscribes and drops what waits; the services go on, unless the models are freed."""
        with self._transition("deactivate"):
            self._unsubscribe()
            if not self._settings.keep_models:
                self._free()
            elif self._loaded:
                self._loaded.stream.stop()
                self._loaded.stream.start()

    def clean_up(self) -> None:
        """Unsubscribes and frees the models, in any state."""
        with self._transition("clean up"):
            self._unsubscribe()
            self._free()
            self._configured = False

    def close(self) -> None:
        """Finishes and publishes the frame in work, frees the models and leaves the graph."""
        try:
            self.clean_up()
        finally:
            self._leave_graph()

    def apply(self, settings: NodeSettings) -> None:
        """Changes settings; those that are not live show when the models are loaded again."""
        with self._lock:
            self._settings = settings
            if self._loaded:
                self._apply_to(self._loaded)

    def look(self) -> None:
        """Looks after the cameras' topics, and publishes the diagnostics; once every `PERIOD`.

        What goes wrong is logged: it must go on, since without it nobody learns how the node is.
        """
        looks = [camera.look for camera in self._cameras]
        if listener := self._listener:
            looks.append(listener.look)
        for work in (*looks, self._look_at_classes, self._tell):
            try:
                work()
            except Exception as error:
                text = f"looking after the node failed: {error}"
                self._log.log(logging.ERROR, "look", text, exc_info=True)

    def diagnose(self) -> Diagnosis:
        """How the node is."""
        loaded, cameras = self._loaded, self._cameras
        snapshot = loaded.stream.statistics.snapshot() if loaded else Snapshot()
        facts = {"version": __version__, "profile": self._settings.profile}
        if loaded:
            facts |= loaded.facts
        if loaded is None or not cameras:
            return Diagnosis(
                snapshot,
                cameras=(),
                facts={**facts, **memory_facts(facts.get("device", ""))},
                resting=self._rest(),
                failure="" if self._busy else self._failure,
            )
        if doing := progress.current():  # such as the rest of the vocabulary
            facts["meanwhile"] = doing
        wanted = loaded.outputs.wanted()
        facts |= {
            "image topic": ", ".join(self._image_topics()),
            "image publishers": str(sum(c.image.publisher_count() for c in cameras)),
            "image reliability": ", ".join(
                "reliable" if c.image.reliable else "best effort" for c in cameras
            ),
            "silent topics subscribed anew": str(
                self._renewals + sum(camera.renewals for camera in cameras)
            ),
            "lost before they came": str(
                self._port.lost + self._lost + sum(camera.lost for camera in cameras)
            ),
            "result subscribers": "yes" if wanted else "no",
            **loaded.enrichment.facts(),
            **loaded.outputs.facts(),
            **_class_facts(loaded),
            **memory_facts(loaded.facts["device"]),
        }
        problems = [problem for camera in cameras for problem in camera.problems()]
        problems += loaded.enrichment.problems()
        problems += loaded.classifier.registry.problems()
        hint = f"disabled: call {self._port.resolve('~/enable')} with data: true"
        resting = "" if loaded.stream.settings.enabled else hint
        return Diagnosis(snapshot, self._settings.cameras, wanted, facts, problems, resting)

    def _look_at_classes(self) -> None:
        if loaded := self._loaded:
            loaded.classifier.registry.refresh()
            self._embed_more(loaded)

    def _embed_more(self, loaded: _Loaded) -> None:
        """Embeds new phrases on the stream's thread, in pieces between which images take their turn."""
        if loaded.embedding.acquire(blocking=False):
            if not loaded.services.missing:
                loaded.embedding.release()
                return

            def go_on(done: Future[None]) -> None:
                loaded.embedding.release()
                if done.cancelled():
                    return
                if error := done.exception():
                    text = f"phrases can't be embedded, it is tried again: {error}"
                    self._log.log(logging.WARNING, "phrases", text)
                else:
                    self._embed_more(loaded)

            submit(loaded.stream, loaded.services.embed_some).add_done_callback(go_on)

    def _tell(self) -> None:
        diagnosis = self.diagnose()
        self._diagnostics.publish(
            diagnostic_array(
                self._port.factory,
                self._port.clock.now_ns(),
                self._port.full_name,
                diagnosis,
                self._settings.diagnostics,
            )
        )

    @contextmanager
    def _transition(self, name: str) -> Iterator[None]:
        self._busy = True
        try:
            yield
        except Exception as error:
            self._failure = f"can't {name}: {error or repr(error)}"
            raise
        else:
            self._failure = ""
        finally:
            self._busy = False

    def _bring_in(self) -> _Loaded:
        """Loads the models, makes the output topics and starts the stream; all or nothing of it."""
        settings, port = self._settings, self._port
        logger.info("loading the models of profile %r", settings.profile)
        if settings.target_frame and not settings.depth.enabled:
            logger.warning(
                "target_frame %r has no effect: without depth.enabled there are no positions",
                settings.target_frame,
            )
        with ExitStack[None]() as undo:
            decode = partial(self._choose_decode(), max_pixels=settings.max_pixels)
            segmenter = self._load(settings)
            undo.callback(segmenter.close)
            classifier = load_classifier(settings.classes, segmenter.embed_phrases)
            check_mask_topics(classifier.groups, settings.cameras)
            outputs = open_outputs(port, settings, classifier, self._camera_info)
            undo.callback(outputs.close)
            for service in SERVICES:
                if service.exists and service.exists(settings):
                    undo.callback(self._offer(service))
            turned = rotations(settings.rotation, settings.cameras)
            topics = {name: image_topic(port, name, settings) for name in settings.cameras}
            enrichment = Enrichment(settings, port.clock, topics, classifier)

            def changed() -> None:  # on the stream's thread, once there is one
                outputs.publish_names(messages.header(port.factory, port.clock.now_ns()))
                self._embed_more(loaded)

            services = Services(
                segmenter,
                port.factory,
                decode,
                turned,
                classifier,
                lambda enabled: stream.update(enabled=enabled),
                changed,
            )

            def publish(result: Result) -> None:
                services.remember(result)
                outputs.publish(result)
                self._alert(services, result)

            def wanted(camera: str) -> bool:
                watches = services.watcher.watches and self._alerts.subscription_count()
                return bool(watches) or outputs.wanted(camera)

            stream = SegmentationStream(
                segmenter,
                publish,
                wanted=wanted,
                clock=port.clock,
                settings=StreamSettings(settings.max_rate, settings.lazy),
                decode=decode,
                enrich=enrichment,
                rotations=turned,
            )
            facts = {"model": segmenter.model, "device": str(segmenter.device)}
            outputs.publish_names(messages.header(port.factory, port.clock.now_ns()))
            stream.start()
            undo.callback(stream.stop)
            close = undo.pop_all().close
            loaded = _Loaded(facts, stream, enrichment, outputs, services, classifier, close)
        with self._lock:
            self._loaded = loaded
            self._apply_to(loaded)  # they may have changed meanwhile
        self._embed_more(loaded)
        logger.info("ready with %s on %s", facts["model"], facts["device"])
        return loaded

    def _apply_to(self, loaded: _Loaded) -> None:
        settings = self._settings
        loaded.stream.update(max_rate=settings.max_rate, lazy=settings.lazy)
        loaded.enrichment.settings = settings
        loaded.outputs.settings = settings
        for camera in self._cameras:
            if camera.feed:
                camera.feed.slop = settings.depth.slop

    def _unsubscribe(self) -> None:
        cameras, self._cameras = self._cameras, ()
        for camera in cameras:
            camera.close()
            self._renewals += camera.renewals
            self._lost += camera.lost
        listener, self._listener = self._listener, None
        if listener:
            listener.close()

    def _free(self) -> None:
        with self._lock:
            loaded, self._loaded = self._loaded, None
        if loaded:
            loaded.close()
            trim_memory()

    def _image_topics(self) -> list[str]:
        return [camera.image.topic for camera in self._cameras]

    def _camera_info(self, name: str) -> Any:
        """The latest camera_info of a camera, None if none came yet."""
        by_name = dict(zip(self._settings.cameras, self._cameras, strict=False))
        return by_name[name].info if name in by_name else None

    def _alert(self, services: Services, result: Result) -> None:
        """Publishes what a result changes about what is watched for."""
        settings, factory = self._settings, self._port.factory
        seconds = (stamp_ns(result.header) or self._port.clock.now_ns()) * 1e-9
        for alert in services.watcher.look(
            result.camera, result.segmentation, seconds, settings.tracking.max_age
        ):
            self._alerts.publish(
                messages.alert(
                    factory, result.header, result.camera, alert, settings.publish_embeddings
                )
            )

    def _rest(self) -> str:
        if self._busy:
            return progress.current() or "between two states"
        state = "inactive" if self._configured else "unconfigured"
        return f"{state}: {self._way_out(self.next_transition)}"

    @contextmanager
    def _served_by_topic(self, service: Service) -> Iterator[None]:
        """A service that is asked by topic, too, for the length of the block."""
        by_topic, asked = service.by_topic, request_topic(service)
        assert by_topic is not None
        make, factory = by_topic.make, self._port.factory
        results = _publisher(self._port, result_topic(service))

        def take(request: Any) -> None:
            def publish(fields: dict[str, Any]) -> None:
                results.publish(make(factory, request, {"success": False, "message": "", **fields}))

            self._serve(service, request, publish)

        requests = self._port.create_subscription(asked.name, asked.type_name, take, asked.qos)
        try:
            yield
        finally:
            requests.close()
            results.close()

    def _offer(self, service: Service) -> Callable[[], None]:
        """Makes a service; returns what takes it from the graph."""
        handler = partial(self._serve, service)
        made = self._port.create_service(f"~/{service.name}", service.type_name, handler)
        return made.close

    def _serve(self, service: Service, request: Any, reply: Reply) -> None:
        """Has a service's request answered; does not wait for it."""

        def finish(done: Future[dict[str, Any]]) -> None:
            try:
                fields: dict[str, Any] = outcome(done)
                reply({**fields, "success": True} if service.explains else fields)
            except ServiceError as error:
                if not service.explains:
                    self._log.log(logging.WARNING, service.name, f"~/{service.name}: {error}")
                reply({"message": str(error)} if service.explains else {})

        self._submit(lambda services: service.respond(services, request)).add_done_callback(finish)

    def _submit(self, work: Callable[[Services], Any]) -> Future[Any]:
        """Has work done on the stream's thread; where there is none, that is the outcome."""
        loaded = self._loaded
        if loaded is not None:
            return submit(loaded.stream, lambda: work(loaded.services))
        refused: Future[Any] = Future()
        hint = self._way_out(self.next_transition)
        refused.set_exception(
            ServiceError(
                "the models are being loaded; ask again"
                if self._busy
                else f"the models are not loaded: {hint}"
            )
        )
        return refused


def _class_facts(loaded: _Loaded) -> dict[str, str]:
    registry = loaded.classifier.registry
    facts = {
        "classes": str(len(registry.names) - 1),
        "labels that share the class other": str(registry.sharing),
    }
    if missing := loaded.services.missing:
        facts["phrases to embed"] = str(missing)
    return facts


def _publisher(port: Port, topic: Endpoint) -> Publisher:
    return port.create_publisher(topic.name, topic.type_name, topic.qos)
