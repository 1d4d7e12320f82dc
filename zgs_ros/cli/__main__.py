"""``python -m zgs_ros.cli``, as ``python -m zgs_ros``."""

from zgs_ros.__main__ import main

main()
