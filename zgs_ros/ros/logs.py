"""Python's logging to the ROS logger, so that it reaches the console, files and /rosout alike."""

from __future__ import annotations

import logging
from typing import Any


class RosLogHandler(logging.Handler):
    """Hands the records of a Python logger to an rclpy logger.

    Args:
        logger: What `rclpy.node.Node.get_logger` returns.
    """

    def __init__(self, logger: Any) -> None:
        super().__init__()
        self._logger = logger
        self.setFormatter(logging.Formatter("%(message)s"))

    def use(self, logger: Any) -> None:
        """Changes the rclpy logger, to that of a node once there is one."""
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Logs with the severity of the record."""
        text = self.format(record)
        # One call per severity: rclpy refuses a place in the code that changes its severity.
        if record.levelno >= logging.CRITICAL:
            self._logger.fatal(text)
        elif record.levelno >= logging.ERROR:
            self._logger.error(text)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(text)
        elif record.levelno >= logging.INFO:
            self._logger.info(text)
        else:
            self._logger.debug(text)


def forward_logging(logger: Any) -> RosLogHandler:
    """Hands all that this package logs to an rclpy logger, and to nothing else."""
    package = logging.getLogger("zgs_ros")
    handler = RosLogHandler(logger)
    package.addHandler(handler)
    package.setLevel(logging.DEBUG)  # the ROS logger has the last say
    package.propagate = False  # libraries that log on their own account give the root a handler
    return handler
