"""A lifecycle node's transitions beside its executor, because loading models can take minutes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import wraps
from typing import Any, TypeVar

from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.task import Future as RosFuture

from zgs_ros.ros.convert import RCLError

logger = logging.getLogger(__name__)

T = TypeVar("T")
N = TypeVar("N")


class Transitions:
    """Runs transitions one at a time, on threads of their own, while the node answers.

    rclpy runs them in the callback of their service: there, nobody learns the node's state while
    it loads models, and a transition that the state does not have ends the process.

    Args:
        node: A lifecycle node whose lifecycle services are in a reentrant callback group.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._lock = threading.Lock()
        self._works: set[Future[Any]] = set()
        [service] = (s for s in node.services if s.srv_name.endswith("/change_state"))
        self._change = service.callback
        service.callback = self._answer

    @property
    def busy(self) -> bool:
        """Whether a transition is under way."""
        return bool(self._works)

    def run(self, transition: Callable[[], T]) -> Future[T]:
        """Runs a transition, after those that are under way.

        Its thread does not keep the process alive: nothing can stop a model that is being loaded.
        """
        work: Future[T] = Future()
        self._works.add(work)
        work.add_done_callback(self._works.discard)

        def finish() -> None:
            with self._lock:
                try:
                    work.set_result(transition())
                except Exception as error:
                    work.set_exception(error)

        threading.Thread(target=finish, name="zgs-transition", daemon=True).start()
        return work

    async def _answer(self, request: Any, response: Any) -> Any:
        work = self.run(lambda: self._change(request, response))
        await finished(work, self._node)
        try:
            return work.result()
        except RCLError:
            name = request.transition.label or f"with the id {request.transition.id}"
            logger.warning("there is no transition %s from the present state", name)
            response.success = False
            return response


def reported(
    callback: Callable[[N, LifecycleState], TransitionCallbackReturn],
) -> Callable[[N, LifecycleState], TransitionCallbackReturn]:
    """A transition's callback that logs what it raises, which rclpy turns into an error in silence."""

    @wraps(callback)
    def report(node: N, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return callback(node, state)
        except Exception:
            logger.exception("%s failed:", callback.__name__)
            return TransitionCallbackReturn.ERROR

    return report


async def finished(work: Future[Any], node: Node) -> None:
    """Waits in a callback of a node for work on another thread, while the executor goes on."""
    done = RosFuture(executor=node.executor)
    work.add_done_callback(lambda _: done.set_result(None))
    await done
