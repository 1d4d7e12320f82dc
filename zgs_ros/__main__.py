"""The program `zgs`: what Ctrl-C does is settled before anything that takes long is imported."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from zgs_ros.threads import wait_without_spinning

LIVE = ("run", "camera", "watch", "view", "demo")
"""Commands that go on until they are interrupted, so that this is how they end well."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main() -> None:
    """Runs the command that the command line names.

    A signal that comes before or after the command itself ends the process without a word. The code
    is then 0 for what lives on the network: `ros2 launch` calls all else "process has died".
    """
    is_live = sys.argv[1:2] and sys.argv[1] in LIVE
    code: object = None

    def interrupt(number: int, _: FrameType | None) -> None:
        end = (0 if is_live else 128 + number) if code is None else code
        os._exit(end if isinstance(end, int) else 1)

    for number in SIGNALS:
        signal.signal(number, interrupt)
    wait_without_spinning()
    try:
        from zgs_ros.cli import app

        app(prog_name="zgs")
    except SystemExit as end:
        code = end.code or 0
        from zgs_ros.streaming.ending import leave

        if not isinstance(code, int):  # a text, which Python shows
            raise
        leave(code)


if __name__ == "__main__":
    main()
