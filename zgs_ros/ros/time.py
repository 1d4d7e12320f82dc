"""Simulated time that nobody can end the node with."""

from __future__ import annotations

import logging
from typing import Any

from rclpy.node import Node

from zgs_ros.streaming.throttle import ThrottledLog

logger = logging.getLogger(__name__)


def pass_over_impossible_times(node: Node) -> None:
    """Has a node leave out what ``/clock`` tells that is no time, such as one before 1970.

    rclpy raises for it in the callback, which ends the executor.
    """
    source = node._time_source
    take, log = source.clock_callback, ThrottledLog(logger)

    def take_possible(message: Any) -> None:
        try:
            take(message)
        except (ValueError, OverflowError) as error:
            log.log(logging.WARNING, "clock", f"/clock: a time is left out: {error}")

    source.clock_callback = take_possible
    if source.ros_time_is_active:  # it has subscribed with the other one
        source.ros_time_is_active = False
        source.ros_time_is_active = True
