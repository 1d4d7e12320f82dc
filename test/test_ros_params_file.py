"""A parameters file means to `zgs run` what it means to a node of rclpy."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from ros_support import Ros

from zgs_ros.config import read_parameters

pytestmark = [pytest.mark.ros, pytest.mark.timeout(1800)]

NODE = """
import json, sys
import rclpy
from rclpy.node import Node

file, namespace, name = sys.argv[1:]
rclpy.init(args=["test", "--ros-args", "--params-file", file])
node = Node(name, namespace=namespace, automatically_declare_parameters_from_overrides=True)
own = ("use_sim_time", "start_type_description_service", "qos_overrides.")
found = node.get_parameters_by_prefix("")

def show(value):
    return repr(value if isinstance(value, (bool, int, float, str)) else list(value))

given = {key: show(value.value) for key, value in found.items() if not key.startswith(own)}
print(json.dumps(given))
"""
FILES = {
    "robots": "/robot1/zgs:\n  ros__parameters: {a: 1}\n/robot2/zgs:\n  ros__parameters: {a: 2}\n",
    "nested": "robot1:\n  zgs:\n    ros__parameters: {a: 1}\n  eyes:\n    ros__parameters: {a: 2}\n",
    "order": "/**/zgs:\n  ros__parameters: {a: 1, b: 1}\n/**:\n  ros__parameters: {a: 2}\n",
    "stars": "/*:\n  ros__parameters: {a: 1}\n/*/zgs:\n  ros__parameters: {b: 1}\n"
    "/robot1/**:\n  ros__parameters: {c: 1}\nzgs:\n  ros__parameters: {d: 1}\n",
    "values": "/**:\n  ros__parameters: {a: yes, b: 'yes', c: 010, d: 08, e: 1e3, f: .inf, g: null, "
    "h: [x, z], i: [1, 2], j: !!str 5, k: 9223372036854775808, l: {m: {n: on}}, o.p: ~}\n",
    "twice": "/**:\n  ros__parameters: {a: 1, a: 2, b: true, b: 5}\n",
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("node", [("/", "zgs"), ("/robot1", "zgs"), ("/robot2", "eyes")])
def test_files_are_read_as_rclpy_reads_them(
    ros: Ros, tmp_path: Path, name: str, node: tuple[str, str]
) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(FILES[name])
    done = ros.run(sys.executable, "-c", NODE, str(file), *node)
    assert done.returncode == 0, done.stdout
    expected: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert {key: repr(value) for key, value in read_parameters(file, node).items()} == expected
