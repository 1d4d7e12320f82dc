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

READ = """
import json, sys
import rclpy
from rclpy.node import Node

own = ("use_sim_time", "start_type_description_service", "qos_overrides.")

def show(value):
    return repr(value if isinstance(value, (bool, int, float, str)) else list(value))

def read(file, namespace, name):
    context = rclpy.Context()
    rclpy.init(args=["test", "--ros-args", "--params-file", file], context=context)
    declare = {"automatically_declare_parameters_from_overrides": True}
    node = Node(name, namespace=namespace, context=context, **declare)
    found = node.get_parameters_by_prefix("")
    node.destroy_node()
    context.try_shutdown()
    return {key: show(value.value) for key, value in found.items() if not key.startswith(own)}

print(json.dumps([read(*case) for case in json.loads(sys.argv[1])]))
"""
NODES = [("/", "zgs"), ("/robot1", "zgs"), ("/robot2", "eyes")]
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


Case = tuple[str, tuple[str, str]]


@pytest.fixture(scope="module")
def read_by_rclpy(
    ros: Ros, tmp_path_factory: pytest.TempPathFactory
) -> dict[Case, tuple[Path, dict[str, Any]]]:
    """Each of the files, and what rclpy gives each of the nodes of it."""
    folder = tmp_path_factory.mktemp("params")
    files = {name: folder / f"{name}.yaml" for name in FILES}
    for name, file in files.items():
        file.write_text(FILES[name])
    cases = [(name, node) for name in FILES for node in NODES]
    given = json.dumps([(str(files[name]), *node) for name, node in cases])
    done = ros.run(sys.executable, "-c", READ, given)
    assert done.returncode == 0, done.stdout
    found = json.loads(done.stdout.splitlines()[-1])
    return {case: (files[case[0]], seen) for case, seen in zip(cases, found, strict=True)}


@pytest.mark.one_middleware
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("node", NODES)
def test_files_are_read_as_rclpy_reads_them(
    read_by_rclpy: dict[Case, tuple[Path, dict[str, Any]]], name: str, node: tuple[str, str]
) -> None:
    file, expected = read_by_rclpy[name, node]
    assert {key: repr(value) for key, value in read_parameters(file, node).items()} == expected
