"""Zero-guidance segmentation for ROS 2: names everything a camera sees, without a vocabulary or a prompt."""

import pkgutil

# The ROS build generates a Python package of the same name for the messages. Both parts are found,
# from the install space (one merged folder) and from a source tree beside it (two folders).
__path__ = pkgutil.extend_path(__path__, __name__)

__version__ = "0.1.0"
