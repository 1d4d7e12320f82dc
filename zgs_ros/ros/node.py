"""The lifecycle node `zgs`: parameters and transitions around the node without a middleware."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNodeMixin, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter

from zgs_ros.classes.groups import ClassError
from zgs_ros.config import SettingsError
from zgs_ros.ros.loading import CannotLoad, choose_decode, load_models
from zgs_ros.ros.parameters import change_settings, declare_settings, kept_types
from zgs_ros.ros.port import RclpyPort, RecentDepth
from zgs_ros.ros.tf import Tf2Store
from zgs_ros.ros.transitions import Transitions, reported
from zgs_ros.streaming.node import PERIOD, SegmentationNode

SUCCESS = TransitionCallbackReturn.SUCCESS
FAILURE = TransitionCallbackReturn.FAILURE

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
        settings = declare_settings(self)
        self._zgs = SegmentationNode(
            RclpyPort(self),
            settings,
            load_models,
            choose_decode=choose_decode,
            recent=RecentDepth,
            transforms=Tf2Store,
            way_out=self._command,
        )
        if hasattr(self, "add_pre_set_parameters_callback"):  # not in Humble
            self.add_pre_set_parameters_callback(kept_types)
        self.add_on_set_parameters_callback(self._set_parameters)
        # On the steady clock: simulated time may stand still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._heartbeat = self.create_timer(PERIOD, self._zgs.look, clock=steady)

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
        return self._try("configure", self._zgs.configure)

    @reported
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribes to the cameras; loads the models where deactivating freed them."""
        return self._try("activate", self._zgs.activate)

    @reported
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribes and drops what waits; the services go on, unless the models are freed."""
        self._zgs.deactivate()
        return SUCCESS

    @reported
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Frees the models."""
        self._zgs.clean_up()
        return SUCCESS

    @reported
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Frees the models, from any state."""
        self._zgs.clean_up()
        self._heartbeat.cancel()
        return SUCCESS

    @reported
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Frees what there is and goes back to unconfigured, from where it can be configured again."""
        self._zgs.clean_up()
        logger.warning("back to unconfigured; to try again: %s", self._command("configure"))
        return SUCCESS

    def free(self) -> None:
        """Stops the stream, frees the models and takes all topics from the graph."""
        self._zgs.close()

    def _try(self, transition: str, make: Callable[[], None]) -> TransitionCallbackReturn:
        """Makes a transition; where that fails, says why and what to do."""
        try:
            make()
        except (CannotLoad, ClassError) as error:
            retry = self._command(transition)
            logger.error("can't %s: %s. Put that right, then: %s", transition, error, retry)
            return FAILURE
        except Exception:
            if (
                self._zgs.loaded
            ):  # it is not the loading: an error, which leads back to unconfigured
                raise
            logger.exception("can't %s:", transition)
            return FAILURE
        return SUCCESS

    def _command(self, transition: str) -> str:
        return f"ros2 lifecycle set {self.get_fully_qualified_name()} {transition}"

    def _set_parameters(self, changes: Sequence[Parameter]) -> SetParametersResult:
        fixed = self.busy or self._zgs.loaded
        try:
            self._zgs.apply(change_settings(self._zgs.settings, changes, fixed))
        except SettingsError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)
