"""What ROS package, pip package and shipped files say about each other, checked without ROS."""

from __future__ import annotations

import ast
import re
import runpy
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import yaml

import zgs_ros
from zgs_ros.config import PROFILES, NodeSettings, list_settings, load_settings, make_settings
from zgs_ros.streaming.outputs import OUTPUTS
from zgs_ros.streaming.topics import input_topics

ROOT = Path(__file__).parents[1]
PACKAGE = ElementTree.parse(ROOT / "package.xml").getroot()
CMAKE = (ROOT / "CMakeLists.txt").read_text()
PARAMS = (ROOT / "config" / "segment.yaml").read_text()


def dependencies(*kinds: str) -> set[str]:
    return {element.text or "" for kind in kinds for element in PACKAGE.findall(kind)}


def test_package_xml_has_what_ros_requires() -> None:
    maintainer = PACKAGE.find("maintainer")
    assert PACKAGE.get("format") == "3"
    assert PACKAGE.findtext("name") == "zgs_ros"
    assert PACKAGE.findtext("license") == "Apache-2.0"
    assert PACKAGE.findtext("export/build_type") == "ament_cmake"
    assert PACKAGE.findtext("member_of_group") == "rosidl_interface_packages"
    assert maintainer is not None
    assert re.fullmatch(r"[\w.+-]+@[\w-]+(\.[\w-]+)+", maintainer.get("email", ""))


def test_versions_agree() -> None:
    assert PACKAGE.findtext("version") == zgs_ros.__version__
    pyproject = (ROOT / "pyproject.toml").read_text()
    written = re.search(r'^version = "(.*)"', pyproject, re.MULTILINE)
    assert written is None or written[1] == zgs_ros.__version__


def test_cmake_generates_every_interface() -> None:
    files = {str(path.relative_to(ROOT)) for path in [*ROOT.glob("msg/*"), *ROOT.glob("srv/*")]}
    assert set(re.findall(r'"((?:msg|srv)/[^"]+)"', CMAKE)) == files


def test_packages_of_messages_are_declared() -> None:
    fields = [path.read_text() for path in [*ROOT.glob("msg/*.msg"), *ROOT.glob("srv/*.srv")]]
    used = set(re.findall(r"^(\w+)/\w+", "\n".join(fields), re.MULTILINE))
    listed = re.search(r"DEPENDENCIES ([\w\s]+)\)", CMAKE)
    assert listed is not None
    assert used == set(listed[1].split())
    assert used <= dependencies("depend")


def test_ros_packages_that_the_code_imports_are_declared() -> None:
    sources = [*ROOT.glob("zgs_ros/ros/*.py"), *ROOT.glob("launch/*.py")]
    imported = {
        name.split(".")[0]
        for source in sources
        for node in ast.walk(ast.parse(source.read_text()))
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
        )
    }
    named = {"launch", "launch_ros", "rclpy", "cv_bridge"}
    of_ros = {n for n in imported if n in named or n.endswith(("_msgs", "_interfaces"))}
    assert "rclpy" in of_ros
    assert of_ros <= dependencies("depend", "exec_depend")


def test_python_installs_over_the_generated_package() -> None:
    generate = CMAKE.index("rosidl_generate_interfaces(")
    install = CMAKE.index("install(DIRECTORY zgs_ros/")
    assert generate < install
    assert "ament_python_install_package" not in re.sub(r"#.*", "", CMAKE)


def test_executables_run_in_the_interpreter_of_the_build() -> None:
    for name in ("zgs", "zgs_node"):
        script = (ROOT / "scripts" / f"{name}.in").read_text()
        assert script.startswith("#!@Python3_EXECUTABLE@\n")
        compile(script, name, "exec")


def test_params_file_is_written_from_the_settings() -> None:
    writer = runpy.run_path(str(ROOT / "scripts" / "write_params_file.py"))
    assert writer["params_text"]() == PARAMS, "run: python scripts/write_params_file.py"


def test_params_file_names_every_setting_with_its_default() -> None:
    entries = re.sub(r"^( +)# (?=[a-z_]+: \S+$)", r"\1", PARAMS, flags=re.MULTILINE)
    block = yaml.safe_load(entries)["/**"]["ros__parameters"]
    settings = {setting.path: setting.default for setting in list_settings(NodeSettings)}
    given = {
        f"{name}.{key}" if isinstance(value, dict) else name: part
        for name, value in block.items()
        for key, part in (value.items() if isinstance(value, dict) else [("", value)])
    }
    assert {path: tuple(v) if isinstance(v, list) else v for path, v in given.items()} == settings


@pytest.mark.parametrize("profile", PROFILES)
def test_params_file_leaves_the_profile_its_say(profile: str) -> None:
    settings = load_settings(NodeSettings, ROOT / "config" / "segment.yaml", profile=profile)
    assert settings == make_settings(NodeSettings, {"profile": profile})


RVIZ_DISPLAYS = {
    "rviz_default_plugins/Image": "sensor_msgs/msg/Image",
    "rviz_default_plugins/MarkerArray": "visualization_msgs/msg/MarkerArray",
    "rviz_default_plugins/PointCloud2": "sensor_msgs/msg/PointCloud2",
    "rviz_default_plugins/Axes": None,
}
"""Classes of displays that RViz has, with the type of their topic."""

RVIZ_CLASSES = {
    "",  # of the visualization manager itself
    *(f"rviz_common/{panel}" for panel in ("Displays", "Views", "Time")),
    *(
        f"rviz_default_plugins/{tool}"
        for tool in ("MoveCamera", "Select", "FocusCamera", "Measure")
    ),
    *("rviz_default_plugins/TF", "rviz_default_plugins/Orbit"),
}
"""Its other classes that the configuration may use: panels, tools, transformer, view."""


def test_rviz_shows_the_topics_of_the_node() -> None:
    config = yaml.safe_load((ROOT / "rviz" / "zgs.rviz").read_text())
    displays = config["Visualization Manager"]["Displays"]
    shown = {
        display["Topic"]["Value"]: RVIZ_DISPLAYS[display["Class"]]
        for display in displays
        if RVIZ_DISPLAYS[display["Class"]]
    }
    [camera] = input_topics([""]).values()
    offered = {f"/zgs/{row.topic}": row.type_name for row in OUTPUTS}
    assert shown == {
        camera.image: "sensor_msgs/msg/Image",
        **{
            f"/zgs/{name}": offered[f"/zgs/{name}"]
            for name in ("overlay", "markers", "labelled_points")
        },
    }
    assert re.search(r"install\(DIRECTORY [\w ]*\brviz\b", CMAKE)


def test_rviz_knows_every_class_and_every_reliability_fits() -> None:
    found: list[dict[str, Any]] = []

    def look(value: Any) -> None:
        if isinstance(value, dict):
            found.append(value)
        for part in value.values() if isinstance(value, dict) else value:
            if isinstance(part, (dict, list)):
                look(part)

    look(yaml.safe_load((ROOT / "rviz" / "zgs.rviz").read_text()))
    classes = {part["Class"] for part in found if "Class" in part}
    assert classes <= RVIZ_CLASSES | set(RVIZ_DISPLAYS)
    for topic in (part for part in found if "Reliability Policy" in part):
        own = topic["Value"].startswith("/zgs/")
        assert topic["Reliability Policy"] == ("Reliable" if own else "Best Effort")
        assert topic["Durability Policy"] == "Volatile"


def test_launch_file_offers_the_profiles_and_transports_that_exist() -> None:
    choices = {
        argument.args[0].value: ast.unparse(keyword.value)  # type: ignore[attr-defined]
        for argument in ast.walk(ast.parse((ROOT / "launch" / "segment.launch.py").read_text()))
        if isinstance(argument, ast.Call)
        and getattr(argument.func, "id", "") == "DeclareLaunchArgument"
        for keyword in argument.keywords
        if keyword.arg == "choices"
    }
    settings = {setting.path: setting for setting in list_settings(NodeSettings)}
    assert choices["profile"] == "['', *PROFILES, AUTO]"
    transports = ["", *settings["image_transport"].choices]
    assert ast.literal_eval(choices["image_transport"]) == transports
