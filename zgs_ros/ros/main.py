"""The executable `zgs_node`: the lifecycle node in a process of its own."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation

from zgs_ros.config import SettingsError
from zgs_ros.ros.convert import InvalidHandle, RCLError
from zgs_ros.ros.logs import forward_logging
from zgs_ros.ros.node import ZgsNode
from zgs_ros.streaming.ending import END_SECONDS, end_within
from zgs_ros.streaming.port import LEASE_SECONDS
from zgs_ros.streaming.throttle import ThrottledLog

logger = logging.getLogger(__name__)

CYCLONE_CONFIG = (
    f"<CycloneDDS><Domain><Discovery><LeaseDuration>{LEASE_SECONDS}s</LeaseDuration></Discovery>"
    "</Domain></CycloneDDS>"
)
"""For Cyclone DDS where the user has none: after a stall the node keeps its place on the network."""


class Interruption(KeyboardInterrupt):
    """Of which Python does not end the process by SIGINT though it was caught, wherever it came."""


def main(args: list[str] | None = None) -> int:
    """Runs the node until it is told to stop; returns the exit code, for `leave`.

    A thread may still be in the middle of loading models, which nothing can stop.

    Args:
        args: Command line without the program: ROS arguments, and those of `read_arguments`; by
            default the process's.
    """
    args = sys.argv[1:] if args is None else args
    try:
        signal.signal(signal.SIGINT, _interrupt)  # which rclpy calls in turn
        autostart = read_arguments(own_arguments(args)).autostart
        os.environ.setdefault("CYCLONEDDS_URI", CYCLONE_CONFIG)
        rclpy.init(args=["zgs_node", *args])
    except SystemExit as end:  # of argparse, which has said why
        return int(end.code or 0)
    except KeyboardInterrupt:
        return 0
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
    except (KeyboardInterrupt, ExternalShutdownException):
        rclpy.try_shutdown()
        return 0
    ros_log.use(node.get_logger())
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        if autostart:
            node.bring_up()
        _spin(executor)
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
    return 0


def _spin(executor: SingleThreadedExecutor) -> None:
    """Spins until the context ends; an exception of a callback costs its message, not the node."""
    log = ThrottledLog(logger)
    while rclpy.ok():
        try:
            executor.spin()
        except (ExternalShutdownException, RCLError):
            raise
        except InvalidHandle:  # of a topic that a transition's thread has taken from the graph
            continue
        except Exception as error:
            log.log(logging.ERROR, "callback", f"a callback failed: {error}", exc_info=True)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise Interruption


def own_arguments(arguments: list[str]) -> list[str]:
    """What is not between ``--ros-args`` and ``--``.

    rclpy would also take rules of ROS 1 (``profile:=mini``) outside of them, as remappings.
    """
    own, is_ros = [], False
    for argument in arguments:
        if argument == "--ros-args":
            is_ros = True
        elif is_ros and argument == "--":
            is_ros = False
        elif not is_ros:
            own.append(argument)
    return own


def read_arguments(arguments: list[str]) -> argparse.Namespace:
    """What a command line without ROS arguments asks for: ``autostart``.

    Raises:
        SystemExit: 0 after ``--help``, 2 for anything unknown.
    """
    parser = argparse.ArgumentParser(
        prog="zgs_node",
        description="Segments and names what cameras see: the lifecycle node 'zgs'. It waits for "
        "'ros2 lifecycle set /zgs configure' and 'activate'.",
        epilog="Parameters, names and topics are given as to every node: --ros-args -p profile:=mini "
        "--params-file FILE -r __ns:=/robot1 -r image:=/camera/image_raw. "
        "'ros2 launch zgs_ros segment.launch.py --show-args' lists what the launch file takes.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--autostart", action="store_true", help="configure and activate the node at once"
    )
    return parser.parse_args(arguments)
