"""Images lost on the way under Fast DDS on one machine: `python benchmarks/fastdds.py`, with ROS 2 sourced.

A camera and a subscriber, plain rclpy processes with rmw_fastrtps_cpp and the QoS of sensor data, on one
machine; each with Fast DDS's defaults and with `config/fastdds.xml`. The subscriber keeps more images than
come, so that what is missing was lost between the processes.
"""

from __future__ import annotations

import argparse
import array
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

PROFILE = Path(__file__).parents[1] / "config" / "fastdds.xml"
VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
TOPIC = "/measured/image_raw"
SILENCE = 3.0
"""Seconds without an image after which no more come."""
PATIENCE = 120.0


def publish(images: int, rate: float, width: int, height: int) -> None:
    """Publishes images once somebody listens."""
    import rclpy
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image

    rclpy.init()
    node = rclpy.create_node("measured_camera")
    publisher = node.create_publisher(Image, TOPIC, qos_profile_sensor_data)
    message = Image(height=height, width=width, encoding="rgb8", step=3 * width)
    message.data = array.array("B", bytes(3 * width * height))
    end = time.monotonic() + PATIENCE
    while not publisher.get_subscription_count():
        if time.monotonic() > end:
            raise SystemExit("nobody subscribed")
        time.sleep(0.1)
    time.sleep(1.0)  # for the subscriber to know of the publisher, too
    due = time.monotonic()
    for number in range(images):
        message.header.stamp.nanosec = number
        publisher.publish(message)
        due += 1.0 / rate
        time.sleep(max(0.0, due - time.monotonic()))
    time.sleep(SILENCE)
    rclpy.try_shutdown()


def listen(images: int) -> None:
    """Prints how many different images came."""
    import rclpy
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image

    rclpy.init()
    node = rclpy.create_node("measured_listener")
    seen: set[int] = set()
    last = [time.monotonic() + PATIENCE]

    def hear(message: Image) -> None:
        seen.add(message.header.stamp.nanosec)
        last[0] = time.monotonic()

    qos = QoSProfile(depth=2 * images, reliability=ReliabilityPolicy.BEST_EFFORT)
    node.create_subscription(Image, TOPIC, hear, qos)
    while len(seen) < images and time.monotonic() - last[0] < SILENCE:
        rclpy.spin_once(node, timeout_sec=0.2)
    print(json.dumps(len(seen)))
    rclpy.try_shutdown()


def measure(
    camera: bool,
    listener: bool,
    images: int,
    rate: float,
    size: tuple[int, int],
    domain: int,
    environment: Mapping[str, str] = os.environ,
) -> int:
    """Images that arrive.

    Args:
        camera: Whether its process has the profile.
        listener: Whether the subscriber's has.
        images: Published.
        rate: Per second.
        size: (width, height) in pixels.
        domain: Of ROS, which nobody else should use.
        environment: Of a shell that sourced ROS 2.

    Raises:
        RuntimeError: If a process fails.
    """
    shape = [str(images), str(rate), *map(str, size)]
    command = [sys.executable, __file__]
    own, others = (_variables(environment, profiled, domain) for profiled in (camera, listener))
    publisher = subprocess.Popen([*command, "--publish", *shape], env=own)
    try:
        heard = subprocess.run(
            [*command, "--listen", str(images)],
            env=others,
            stdout=subprocess.PIPE,
            text=True,
            timeout=PATIENCE + 2 * images / rate,
            check=False,
        )
        if heard.returncode:
            raise RuntimeError(f"the subscriber ended with code {heard.returncode}")
        return int(json.loads(heard.stdout.splitlines()[-1]))
    finally:
        publisher.terminate()
        publisher.wait()


def _variables(environment: Mapping[str, str], profiled: bool, domain: int) -> dict[str, str]:
    kept = {name: value for name, value in environment.items() if name not in VARIABLES}
    profile = dict.fromkeys(VARIABLES, str(PROFILE)) if profiled else {}
    return {
        **kept,
        **profile,
        "RMW_IMPLEMENTATION": "rmw_fastrtps_cpp",
        "ROS_DOMAIN_ID": str(domain),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures all pairs, or is one of the processes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--publish", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--listen", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--rate", type=float, default=30.0)
    parser.add_argument("--size", type=int, nargs=2, default=(640, 480))
    parser.add_argument("--domain", type=int, default=57)
    given = parser.parse_args(arguments)
    if given.publish:
        images, rate, width, height = given.publish
        publish(int(images), float(rate), int(width), int(height))
    elif given.listen:
        listen(given.listen)
    else:
        width, height = given.size
        print(f"{given.images} images of {width} x {height} at {given.rate:g} Hz; lost:")
        print("\n| camera | subscriber | lost |\n|---|---|---:|")
        for camera in (False, True):
            for listener in (False, True):
                asked = (given.images, given.rate, (width, height), given.domain)
                heard = measure(camera, listener, *asked)
                names = ("defaults", "`fastdds.xml`")
                share = 1.0 - heard / given.images
                print(f"| {names[camera]} | {names[listener]} | {100 * share:.0f} % |", flush=True)


if __name__ == "__main__":
    main()
