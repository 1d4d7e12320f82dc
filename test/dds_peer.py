"""The node as a process of its own, with a segmenter that needs no models: dds_peer.py KEY=VALUE...

Beside the node's settings there are: delay (seconds of work per batch), domain, range (of discovery).
"""

from __future__ import annotations

import sys
import time

from dds_support import DOMAIN, HalvesSegmenter

from zgs_ros.cli.options import command, node_settings
from zgs_ros.dds import peer
from zgs_ros.dds.network import Network
from zgs_ros.streaming.ending import END_SECONDS

if __name__ == "__main__":
    pairs = dict(pair.split("=", 1) for pair in sys.argv[1:])
    delay = float(pairs.pop("delay", "0"))
    domain = int(pairs.pop("domain", DOMAIN))
    reach = pairs.pop("range", None)
    network = Network(domain, reach) if reach else Network(domain, loopback_only=True)
    with command(END_SECONDS):
        peer.run(
            node_settings(None, {}, [f"{key}={value}" for key, value in pairs.items()]),
            peer.PeerOptions(network),
            lambda settings: HalvesSegmenter(lambda: time.sleep(delay)),
        )
