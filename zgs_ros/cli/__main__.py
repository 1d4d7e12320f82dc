"""``python -m zgs_ros.cli``, for whoever wants the interpreter's own `zgs`."""

from zgs_ros.cli import app

app()
