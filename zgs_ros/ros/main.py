"""The executable `zgs_node`: the lifecycle node in a process of its own."""

from __future__ import annotations

import logging
import os
import signal
import sys

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.utilities import remove_ros_args

from zgs_ros.config import SettingsError
from zgs_ros.ros.logs import forward_logging
from zgs_ros.ros.node import ZgsNode
from zgs_ros.streaming.ending import END_SECONDS, end_within

RCLError = rclpy_implementation.RCLError

logger = logging.getLogger(__name__)


def main(args: list[str] | None = None) -> int:
    """Runs the node until it is told to stop; returns the exit code.

    Args:
        args: Command line: ROS arguments, and ``--autostart`` to configure and activate the node.
    """
    try:
        rclpy.init(args=args)
    except RCLError as error:  # such as a params file that is no YAML
        print(f"zgs_node: {error}", file=sys.stderr)
        return 2
    except rclpy_implementation.UnknownROSArgsError as error:
        print(f"zgs_node: unknown among --ros-args: {error}", file=sys.stderr)
        return 2
    ros_log = forward_logging(rclpy.logging.get_logger("zgs"))
    try:
        node = ZgsNode()
    except SettingsError as error:
        logger.critical("can't start: %s", error)
        rclpy.try_shutdown()
        return 2
    ros_log.use(node.get_logger())
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        if "--autostart" in remove_ros_args(args):
            node.bring_up()
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except RCLError:
        if rclpy.ok():  # else the context ended under a wait
            raise
    finally:
        # A Ctrl-C in the terminal of `ros2 launch` arrives twice: from the terminal and from launch.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        end_within(END_SECONDS)
        node.free()
        node.destroy_node()
        rclpy.try_shutdown()
        if node.busy:  # in the middle of loading models, which nothing can stop
            os._exit(0)
    return 0
