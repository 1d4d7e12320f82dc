"""The lifecycle node `zgs`: parameters, topics and services around the stream."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNodeMixin, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter

from zgs_ros import __version__
from zgs_ros.config import SettingsError
from zgs_ros.ros.convert import RclpyMessages
from zgs_ros.ros.inputs import CameraSubscriptions
from zgs_ros.ros.loading import CannotLoad, choose_decode
from zgs_ros.ros.parameters import change_settings, declare_settings
from zgs_ros.ros.pipeline import Pipeline, make_publisher, open_pipeline
from zgs_ros.ros.transitions import Transitions, finished, reported
from zgs_ros.srv import QuerySegments, SegmentImage
from zgs_ros.streaming.diagnostics import Diagnosis, diagnostic_array
from zgs_ros.streaming.memory import memory_facts, trim_memory
from zgs_ros.streaming.services import ServiceError, Services, outcome, submit
from zgs_ros.streaming.statistics import Snapshot

SUCCESS = TransitionCallbackReturn.SUCCESS
FAILURE = TransitionCallbackReturn.FAILURE

DIAGNOSTICS = "diagnostic_msgs/msg/DiagnosticArray"
DIAGNOSTICS_PERIOD = 1.0

logger = logging.getLogger(__name__)


class ZgsNode(LifecycleNodeMixin, Node):  # type: ignore[misc]  # rclpy has no types
    """Segments and names what its cameras see.

    Callbacks run on the executor's thread, transitions on another, and the stream has its own.

    Raises:
        SettingsError: If a parameter is unknown or impossible.
    """

    def __init__(self) -> None:
        Node.__init__(self, "zgs", automatically_declare_parameters_from_overrides=True)
        LifecycleNodeMixin.__init__(self, callback_group=ReentrantCallbackGroup())
        self._transitions = Transitions(self)
        self._changing = threading.Lock()  # held where settings change or begin to be used
        self._settings = declare_settings(self)
        self.add_on_set_parameters_callback(self._set_parameters)
        self._diagnostics = make_publisher(self, "/diagnostics", DIAGNOSTICS)
        self._decode: Callable[..., NDArray[np.uint8]] | None = None
        self._loaded: Pipeline | None = None
        self._loading_transition = "configure"
        self._failure = ""
        self._cameras: tuple[CameraSubscriptions, ...] = ()
        # A group of their own: a request that waits for the stream must not hold up the node, and
        # further requests wait in the middleware's bounded queue.
        group = MutuallyExclusiveCallbackGroup()
        self.create_service(
            SegmentImage, "~/segment_image", self._segment_image, callback_group=group
        )
        self.create_service(QuerySegments, "~/query", self._query, callback_group=group)
        # On the steady clock: simulated time may stand still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._heartbeat = self.create_timer(DIAGNOSTICS_PERIOD, self._diagnose, clock=steady)

    def now_ns(self) -> int:
        """The ROS time, on which the stream counts."""
        return int(self.get_clock().now().nanoseconds)

    @property
    def busy(self) -> bool:
        """Whether a transition is under way."""
        return self._transitions.busy

    def bring_up(self) -> None:
        """Begins to configure the node and, where that works, to activate it."""

        def configure_and_activate() -> None:
            if self.trigger_configure() == SUCCESS:
                self.trigger_activate()

        self._transitions.run(configure_and_activate)

    @reported
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Loads the models and starts the thread that owns them."""
        return self._bring_in()

    @reported
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribes to the cameras; loads the models where deactivating freed them."""
        if self._loaded is None and self._bring_in() != SUCCESS:
            return FAILURE
        assert self._loaded is not None
        for name in self._settings.cameras:
            camera = CameraSubscriptions(self, name, self._loaded.stream, self._settings)
            self._cameras = (*self._cameras, camera)
        logger.info("listens to %s", self._camera_topics())
        return SUCCESS

    @reported
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribes and drops what waits; the services go on, unless the models are freed."""
        if not self._settings.keep_models:
            self.free()
            self._loading_transition = "activate"
            return SUCCESS
        self._unsubscribe()
        if self._loaded:
            self._loaded.stream.stop()
            self._loaded.stream.start()
        return SUCCESS

    @reported
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Frees the models."""
        self.free()
        return SUCCESS

    @reported
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Frees the models, from any state."""
        self.free()
        self._heartbeat.cancel()
        return SUCCESS

    @reported
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Frees what there is and goes back to unconfigured, from where it can be configured again."""
        self.free()
        logger.warning("back to unconfigured; to try again: %s", self._command("configure"))
        return SUCCESS

    def free(self) -> None:
        """Stops the stream and frees the models; does nothing where none are loaded."""
        self._unsubscribe()
        self._loading_transition = "configure"
        loaded, self._loaded = self._loaded, None
        if loaded:
            loaded.close()
            trim_memory()

    def _bring_in(self) -> TransitionCallbackReturn:
        """Loads the models; where that fails, says why and what to do."""
        logger.info("loading the models of profile %r", self._settings.profile)
        transition = self._loading_transition
        try:
            self._decode = self._decode or choose_decode()
            loaded = open_pipeline(self, self._settings, self._decode, self._diagnostics)
        except CannotLoad as error:
            retry = self._command(transition)
            logger.error("can't be %sd: %s. Put that right, then: %s", transition, error, retry)
            self._failure = f"can't be {transition}d: {error}"
            return FAILURE
        except Exception as error:
            logger.exception("can't be %sd:", transition)
            self._failure = f"can't be {transition}d: {error!r}"
            return FAILURE
        self._failure = ""
        with self._changing:
            self._loaded = loaded
            self._apply_settings()
        logger.info("ready with %s on %s", loaded.facts["model"], loaded.facts["device"])
        return SUCCESS

    def _command(self, transition: str) -> str:
        return f"ros2 lifecycle set {self.get_fully_qualified_name()} {transition}"

    def _camera_topics(self) -> str:
        return ", ".join(camera.topic for camera in self._cameras)

    def _unsubscribe(self) -> None:
        cameras, self._cameras = self._cameras, ()
        for camera in cameras:
            camera.close()

    def _set_parameters(self, changes: Sequence[Parameter]) -> SetParametersResult:
        with self._changing:
            fixed = self.busy or self._loaded is not None
            try:
                self._settings = change_settings(self._settings, changes, fixed)
            except SettingsError as error:
                return SetParametersResult(successful=False, reason=str(error))
            self._apply_settings()
        return SetParametersResult(successful=True)

    def _apply_settings(self) -> None:
        settings = self._settings
        if self._loaded:
            self._loaded.stream.update(max_rate=settings.max_rate, lazy=settings.lazy)
            self._loaded.enrichment.settings = settings
            self._loaded.outputs.settings = settings
            for camera in self._cameras:
                camera.set_slop(settings.depth.slop)

    def _diagnose(self) -> None:
        diagnosis = self._active_diagnosis() or self._resting_diagnosis()
        name, thresholds = self.get_fully_qualified_name(), self._settings.diagnostics
        factory = RclpyMessages()
        message = diagnostic_array(factory, self.now_ns(), name, diagnosis, thresholds)
        self._diagnostics.publish(message)

    def _active_diagnosis(self) -> Diagnosis | None:
        loaded = self._loaded
        if loaded is None or not self._cameras:
            return None
        facts = {
            **loaded.facts,
            "image topic": self._camera_topics(),
            **loaded.enrichment.facts(),
            **memory_facts(loaded.facts["device"]),
        }
        return Diagnosis(
            loaded.stream.statistics.snapshot(),
            self._settings.cameras,
            loaded.outputs.wanted(),
            facts,
            loaded.enrichment.problems(),
        )

    def _resting_diagnosis(self) -> Diagnosis:
        loaded = self._loaded
        command = "activate" if loaded else self._loading_transition
        state = "unconfigured" if command == "configure" else "inactive"
        return Diagnosis(
            loaded.stream.statistics.snapshot() if loaded else Snapshot(),
            cameras=(),
            facts={
                "version": __version__,
                "profile": self._settings.profile,
                **(loaded.facts if loaded else {}),
                **memory_facts(loaded.facts["device"] if loaded else ""),
            },
            resting="between two states" if self.busy else f"{state}: {self._command(command)}",
            failure="" if self.busy else self._failure,
        )

    async def _segment_image(self, request: Any, response: Any) -> Any:
        return await self._respond(response, lambda s: s.respond_to_image(request))

    async def _query(self, request: Any, response: Any) -> Any:
        return await self._respond(response, lambda s: s.respond_to_query(request))

    async def _respond(self, response: Any, answer: Callable[[Services], dict[str, Any]]) -> Any:
        """Has a response's fields made on the stream's thread, while the executor goes on."""
        loaded = self._loaded
        if loaded is None:
            response.message = (
                "the models are being loaded; ask again"
                if self.busy
                else f"the models are not loaded: {self._command(self._loading_transition)}"
            )
            return response
        work = submit(loaded.stream, lambda: answer(loaded.services))
        await finished(work, self)
        try:
            for name, value in outcome(work).items():
                setattr(response, name, value)
            response.success = True
        except ServiceError as error:
            response.message = str(error)
        return response
