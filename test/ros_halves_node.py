"""The rclpy node with a segmenter that needs no models, and more diagnoses: `zgs_node` in all else."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))

from dds_support import HalvesSegmenter

from zgs_ros.ros import node
from zgs_ros.ros.main import main
from zgs_ros.streaming.ending import leave

if __name__ == "__main__":
    node.load_models = lambda settings: HalvesSegmenter()
    node.PERIOD = 0.2  # so that tests needn't wait for the next one
    leave(main())
