"""Writes docs/parameters.md and docs/topics.md from the code and the message files."""

from __future__ import annotations

import runpy
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from zgs_ros.classes.groups import ClassGroup
from zgs_ros.config import PROFILES, NodeSettings, Setting, list_settings, make_settings
from zgs_ros.streaming.interface import Endpoint, camera_endpoints, node_endpoints
from zgs_ros.streaming.outputs import mask_outputs

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

WRITTEN = "<!-- written by scripts/write_reference.py -->"

PARAMETERS = f"""\
# Parameters
{WRITTEN}

Every setting of the node, under the one name that it has as a ROS parameter, in a parameters file, and for `--set` of
`zgs run`, `zgs label` and `zgs evaluate`. Defaults are those of the profile `balanced`; what other profiles set instead
stands below. *live*: changes while the node runs (`ros2 param set /zgs max_rate 2.0`); the others are read when the models
are loaded. [Tuning](tuning.md) tells what each one trades.
"""

TOPICS = f"""\
# Topics and services
{WRITTEN}

Of the node `/zgs`, with and without rclpy. Names that begin with `/zgs` follow the node's name and namespace; the others are
in its namespace, to be remapped (`image_topic:=` and so on of the launch file do that). With `cameras: [front, left]` those
of the first table are there for each camera: `front/image`, `/zgs/front/segments`.

Camera topics are read with the reliability of their publishers (`image_reliability`), and of several images that wait the
newest is taken. Depth and camera_info belong to the image whose stamp is nearest, within `depth.slop`, in whatever order they
come; a camera_info that is published once (transient local) is heard too. All that is published is reliable, which best-effort
subscriptions, such as Nav2's, hear too. It is volatile but for `label_info`: what a slow subscriber misses is not kept for it.
"""

INTERFACES = (
    "msg/SegmentArray.msg",
    "msg/Segment.msg",
    "msg/Label.msg",
    "msg/Query.msg",
    "msg/QueryResult.msg",
    "msg/ClassGroup.msg",
    "msg/Classes.msg",
    "msg/ClassesResult.msg",
    "msg/Watch.msg",
    "msg/Watches.msg",
    "msg/WatchesResult.msg",
    "msg/Alert.msg",
    "srv/ObjectCloud.srv",
    "srv/QuerySegments.srv",
    "srv/SegmentImage.srv",
    "srv/SegmentMask.srv",
    "srv/SetClasses.srv",
    "srv/SetWatches.srv",
)


def parameters_text() -> str:
    """The content of docs/parameters.md."""
    describe = runpy.run_path(str(ROOT / "scripts" / "write_params_file.py"))["inline"]
    settings = sorted(list_settings(NodeSettings), key=lambda setting: "." in setting.path)
    parts = [PARAMETERS]
    for section, group in groupby(settings, lambda setting: setting.path.rpartition(".")[0]):
        rows = [
            (
                f"`{setting.path}`",
                kind_name(setting),
                f"`{describe(setting.default)}`",
                allowed(setting),
                setting.description + (" *live*" if setting.live else ""),
            )
            for setting in group
        ]
        parts.append(f"## {section or 'The node'}\n")
        parts.append(table(("parameter", "type", "default", "allowed", ""), rows))
    parts.append("## What profiles set\n")
    names = [name for name, values in PROFILES.items() if values]
    paths = dict.fromkeys(path for values in PROFILES.values() for path in values)
    defaults = {setting.path: setting.default for setting in settings}
    profiles: list[tuple[str, ...]] = [
        (
            f"`{path}`",
            f"`{describe(defaults[path])}`",
            *(f"`{describe(PROFILES[n][path])}`" if path in PROFILES[n] else "" for n in names),
        )
        for path in paths
    ]
    parts.append(table(("parameter", "`balanced`", *(f"`{name}`" for name in names)), profiles))
    return "\n".join(parts)


def topics_text() -> str:
    """The content of docs/topics.md."""
    everything = make_settings(
        NodeSettings, {"depth.enabled": True, "publish_detections": True, "publish_features": True}
    )
    parts = [TOPICS, "## Per camera\n", endpoint_table(camera_endpoints("", everything))]
    masks = mask_outputs([ClassGroup(1, "MASK_TOPIC", mask_topic="MASK_TOPIC")])
    of_classes = [Endpoint(f"~/{m.topic}", m.type_name, "out", m.meaning) for m in masks]
    parts += ["## Per camera and class with mask_topic\n", endpoint_table(of_classes)]
    parts += ["## Of the node\n", endpoint_table(node_endpoints(everything))]
    parts.append(
        "The rclpy node also has what every lifecycle node has (`/zgs/change_state`, ...).\n"
    )
    parts.append("## Types\n")
    for name in INTERFACES:
        kind = f"zgs_ros/{name.removesuffix('.msg').removesuffix('.srv')}"
        parts.append(f"### {kind}\n\n```\n{(ROOT / name).read_text(encoding='utf-8')}```\n")
    return "\n".join(parts)


def endpoint_table(found: Iterable[Endpoint]) -> str:
    """Rows of endpoints."""
    rows = [
        (
            end.direction,
            f"`{end.name.replace('~', '/zgs')}`",
            end.type_name.replace("/msg/", "/").replace("/srv/", "/"),
            end.meaning,
        )
        for end in found
    ]
    return table(("", "name", "type", ""), rows)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""

    def lines() -> Iterator[str]:
        columns = list(head)
        yield f"| {' | '.join(columns)} |"
        yield f"|{'---|' * len(columns)}"
        for row in rows:
            yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"

    return "\n".join(lines()) + "\n"


def kind_name(setting: Setting) -> str:
    """Type as `ros2 param describe` names it."""
    names = {bool: "boolean", int: "integer", float: "double", str: "string"}
    if setting.kind is tuple:
        return f"{names[type(setting.default[0])]} array"
    return names[setting.kind]


def allowed(setting: Setting) -> str:
    """What values are allowed, "" if all of the type are."""
    if setting.choices:
        return ", ".join(f"`{choice}`" for choice in setting.choices)
    bounds = []
    if setting.minimum is not None:
        bounds.append(f"{'>' if setting.exclusive_minimum else '≥'} {setting.minimum:.7g}")
    if setting.maximum is not None:
        bounds.append(f"≤ {setting.maximum:.7g}")
    return ", ".join(bounds)


PAGES = {"parameters.md": parameters_text, "topics.md": topics_text}

if __name__ == "__main__":
    for name, text in PAGES.items():
        (DOCS / name).write_text(text(), encoding="utf-8")
