"""Parameters files: what of them is for a node, what a value means, and what is refused, all as in rcl."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from zgs_ros.cli import app
from zgs_ros.cli.options import node_parameters, node_settings
from zgs_ros.config import (
    NodeSettings,
    SettingsError,
    load_settings,
    read_parameters,
    read_value,
)

ROBOTS = """
/robot1/zgs:
  ros__parameters: {profile: mini, max_rate: 1.0}
/robot2/zgs:
  ros__parameters: {profile: mini, max_rate: 9.0}
"""
DUMPED = """
/zgs:
  ros__parameters:
    cameras:
    - ''
    clip:
      model: zgs-mini-clip
      sigma: 1.0
    max_rate: 3.0
    profile: mini
    qos_overrides:
      /clock:
        subscription:
          depth: 1
          reliability: best_effort
      /parameter_events:
        publisher:
          depth: 1000
          durability: volatile
    refinement:
      epsilon: 0.001
    start_type_description_service: true
    use_sim_time: false
"""
"""What `ros2 param dump /zgs` writes."""


@pytest.fixture
def file(tmp_path: Path) -> Any:
    def write(content: str | bytes) -> Path:
        path = tmp_path / "params.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def rates(*blocks: tuple[str, float]) -> str:
    """A file whose blocks each set max_rate."""
    return "".join(f"{name}:\n  ros__parameters: {{max_rate: {rate}}}\n" for name, rate in blocks)


# Which blocks are a node's


@pytest.mark.parametrize(
    ("block", "matches", "others"),
    [
        ("/**", ["/zgs", "/robot1/zgs", "/a/b/eyes"], []),
        ("/*", ["/zgs", "/eyes"], ["/robot1/zgs"]),
        ("zgs", ["/zgs"], ["/robot1/zgs", "/eyes"]),
        ("/zgs", ["/zgs"], ["/robot1/zgs", "/eyes"]),
        ("/**/zgs", ["/zgs", "/robot1/zgs", "/a/b/zgs"], ["/eyes", "/robot1/eyes", "/xzgs"]),
        ("/*/zgs", ["/robot1/zgs"], ["/zgs", "/a/b/zgs"]),
        ("/robot1/zgs", ["/robot1/zgs"], ["/robot2/zgs", "/zgs", "/a/robot1/zgs"]),
        ("robot1/zgs", ["/robot1/zgs"], ["/robot2/zgs", "/zgs"]),
        (
            "/robot1/**",
            ["/robot1/zgs", "/robot1/a/zgs", "/robot1"],
            ["/robot2/zgs", "/robot11/zgs"],
        ),
        ("/robot1/*", ["/robot1/zgs"], ["/robot1/a/zgs"]),
        ("/**/a/**", ["/a", "/a/zgs", "/b/a/zgs"], ["/zgs", "/b/zgs"]),
        ("robot1/**/zgs", ["/robot1/zgs", "/robot1/a/zgs"], ["/robot2/zgs"]),
    ],
)
def test_a_block_is_for_the_nodes_that_its_name_means(
    file: Any, block: str, matches: list[str], others: list[str]
) -> None:
    path = file(rates((block, 2.0)))
    for node in (*matches, *others):
        namespace, _, name = node.rpartition("/")
        expected = {"max_rate": 2.0} if node in matches else {}
        assert read_parameters(path, (namespace, name)) == expected, node


@pytest.mark.parametrize("namespace", ["robot1", "/robot1", "/robot1/", "robot1/"])
def test_a_namespace_may_be_written_with_and_without_slashes(file: Any, namespace: str) -> None:
    assert read_parameters(file(ROBOTS), (namespace, "zgs"))["max_rate"] == 1.0
    assert load_settings(NodeSettings, file(ROBOTS), ("robot2", "zgs")).max_rate == 9.0


@pytest.mark.parametrize(
    "content",
    [
        "robot1:\n  zgs:\n    ros__parameters: {max_rate: 2.0}\n",
        "/robot1:\n  zgs:\n    ros__parameters: {max_rate: 2.0}\n",
        "/robot1/:\n  zgs:\n    ros__parameters: {max_rate: 2.0}\n",
        "/**:\n  zgs:\n    ros__parameters: {max_rate: 2.0}\n",
        "/:\n  robot1:\n    zgs:\n      ros__parameters: {max_rate: 2.0}\n",
        "robot1:\n  eyes:\n    ros__parameters: {lazy: no}\n  zgs:\n    ros__parameters: {max_rate: 2.0}\n",
        "robot2/zgs:\n  ros__parameters: {lazy: no}\n---\nrobot1/zgs:\n  ros__parameters: {max_rate: 2.0}\n",
    ],
)
def test_names_may_be_nested(file: Any, content: str) -> None:
    assert read_parameters(file(content), ("robot1", "zgs")) == {"max_rate": 2.0}


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        ([("/**", 1.0), ("/zgs", 2.0)], 2.0),
        ([("/zgs", 2.0), ("/**", 1.0)], 1.0),  # the order of the file, not how exact a name is
        ([("/**", 1.0), ("/zgs", 2.0), ("/**", 3.0)], 2.0),  # /** stands where it came first
        ([("zgs", 1.0), ("/other", 2.0)], 1.0),
    ],
)
def test_later_blocks_win(file: Any, blocks: list[tuple[str, float]], expected: float) -> None:
    assert read_parameters(file(rates(*blocks))) == {"max_rate": expected}


def test_a_file_without_a_block_for_the_node_is_warned_of(
    file: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert read_parameters(file(ROBOTS)) == {}
    assert "has nothing for /zgs, only for '/robot1/zgs', '/robot2/zgs'" in caplog.text


# What a value means


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *((text, True) for text in ("true", "True", "TRUE", "yes", "Yes", "y", "Y", "on", "ON")),
        *(
            (text, False)
            for text in ("false", "False", "FALSE", "no", "No", "n", "N", "off", "Off")
        ),
        *((text, text) for text in ("tRUE", "yEs", "null", "~", "2001-01-01", "1_000", "0b1", "x")),
        *((f"'{text}'", text) for text in ("true", "1", "1.5", "", ".inf")),
        ("!!str 5", "5"),
        ("!!int '5'", "5"),  # rcl knows no other tag
        ("1", 1),
        ("+1", 1),
        ("-7", -7),
        ("0x1F", 31),
        ("-0x1f", -31),
        ("017", 15),
        ("08", 8.0),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", 2.0**63),
        ("9" * 400, "9" * 400),
        ("1.0", 1.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("-1e3", -1000.0),
        ("1e400", "1e400"),
        ("0x1p3", 8.0),
        ("inf", math.inf),
        (".inf", math.inf),
        ("-.Inf", -math.inf),
        ("1e", "1e"),
        ("[a, 'b', \"c\"]", ["a", "b", "c"]),
        ("[1, 2]", [1, 2]),
        ("[]", []),
        ("|\n  text\n", "text\n"),
    ],
)
def test_values_mean_what_they_mean_in_rcl(text: str, expected: object) -> None:
    value = read_value(text)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize("text", [".nan", ".NaN", "nan"])
def test_there_are_values_that_are_no_number(text: str) -> None:
    assert math.isnan(read_value(text))


def test_a_parameter_that_is_given_twice_is_what_rcl_makes_of_it(file: Any) -> None:
    def read(text: str) -> dict[str, Any]:
        return read_parameters(file(f"/**:\n  ros__parameters: {{{text}}}\n"))

    assert read("max_rate: 1.0, max_rate: 2.0") == {"max_rate": 2.0}
    assert read("lazy: true, lazy: 5") == {"lazy": True}  # rcl prefers it to a number
    assert read("clip: {sigma: 1.0}, clip.sigma: 2.0") == {"clip.sigma": 2.0}


def test_what_ros2_param_dump_writes_is_read(file: Any) -> None:
    settings, is_simulated = node_parameters(file(DUMPED), {}, [])
    assert (settings.profile, settings.max_rate, settings.cameras) == ("mini", 3.0, ("",))
    assert not is_simulated


@pytest.mark.parametrize(
    ("value", "pairs", "flag", "expected"),
    [
        ("true", [], None, True),
        ("yes", [], None, True),
        ("false", [], None, False),
        ("true", ["use_sim_time=false"], None, False),
        ("true", [], False, False),
        ("false", [], True, True),
    ],
)
def test_use_sim_time_comes_from_file_option_or_pair(
    file: Any, value: str, pairs: list[str], flag: bool | None, expected: bool
) -> None:
    path = file(f"/**:\n  ros__parameters: {{use_sim_time: {value}, profile: mini}}\n")
    settings, is_simulated = node_parameters(path, {"use_sim_time": flag}, pairs)
    assert settings.profile == "mini"
    assert is_simulated is expected


def test_run_takes_the_blocks_of_its_name_and_namespace(
    file: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zgs_ros.dds import peer

    taken = []
    monkeypatch.setattr(peer, "run", lambda settings, options, _: taken.append((settings, options)))
    path = file(ROBOTS + "eyes:\n  ros__parameters: {use_sim_time: true, max_rate: 4.0}\n")
    for arguments in (["--namespace", "robot1"], ["--namespace", "/robot2"], ["--name", "eyes"]):
        result = CliRunner().invoke(app, ["run", "--local", "--params", str(path), *arguments])
        assert result.exit_code == 0, result.output
    assert [settings.max_rate for settings, _ in taken] == [1.0, 9.0, 4.0]
    assert [options.use_sim_time for _, options in taken] == [False, False, True]


# What is refused

NESTED = "a: &a {x: 1}\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
BAD: dict[str, tuple[str | bytes, str]] = {
    "aliases": (NESTED, "not YAML as ROS 2 takes it: line 2: the alias 'a'; write out"),
    "itself": ("a: &a\n  b: *a\n", "not YAML as ROS 2 takes it: line 2: the alias 'a'"),
    "deep list": ("[" * 5000, "(not valid YAML|a list holds neither)"),
    "deep mapping": ("{a: " * 3000, "nested more than 32 deep"),
    "deep block": ("".join(f"{' ' * i}a:\n" for i in range(500)) + " " * 500 + "1", "more than 32"),
    "large": (b"#" * 2_000_000, "more than the 1,048,576 bytes"),
    "list": ("- 1\n- 2\n", "must be a mapping of settings"),
    "text": ("hello", "must be a mapping of settings"),
    "no text": (b"\xff\x00\x12", "not valid YAML"),
    "NUL": ("a: \0", "not valid YAML"),
    "half": ("max_rate: [", "not valid YAML: line"),
    "tab": ("a:\n\t- 1", "not valid YAML: line 2"),
    "key is a list": ("? [a, b]\n: 1", "a key must be a text"),
    "key is a mapping": ("? {a: b}\n: 1", "a key must be a text"),
    "empty key": ("'': 1", "there is no key"),
    "no value": ("max_rate:\n", "line 1: there is no value"),
    "null": ("max_rate: null\n", "max_rate: must be a number, got 'null'"),
    "mixed list": ("labeling.templates: [a, 1]", "a list holds values of one type"),
    "list in a list": ("cameras: [[a]]", "neither lists nor mappings"),
    "set": ("cameras: !!set {x}", "there is no value"),
    "python": ("device: !!python/object/apply:os.system ['true']", "device: .*got \\['true'\\]"),
    "parameters are a list": ("/**:\n  ros__parameters: [1, 2]", "holds parameters, got"),
    "parameters are nothing": ("/**:\n  ros__parameters:\n", "there is no value"),
    "parameters of nobody": ("ros__parameters: {max_rate: 1.0}", "below the name of a node"),
    "value beside a block": ("max_rate: 1.0\nzgs:\n  ros__parameters: {}", "must be a node"),
    "name": ("my-robot:\n  ros__parameters: {}", "'my-robot' can't be the name of a node"),
    "name with dots": ("/a..b/zgs:\n  ros__parameters: {}", "can't be the name of a node"),
    "profile is a list": ("profile: [mini]", "profile: \\['mini'\\] is not one of"),
    "section is a number": ("clip: 5", "unknown setting 'clip'"),
    "number is a truth value": ("dino.stride: true", "dino.stride: must be a number, got True"),
    "number is a text": ("dino.stride: '8'", "dino.stride: must be a number, got '8'"),
    "truth value is a number": ("lazy: 1", "lazy: must be true or false, got 1"),
    "not a number": ("max_rate: .nan", "max_rate: .*nan"),
    "infinite": ("max_rate: .inf", "max_rate: .*inf"),
    "not a number without bounds": ("max_rate: nan", "max_rate"),
    "huge number": ("dino.stride: " + "9" * 5000, "dino.stride: must be a number, got '999"),
    "date": ("max_rate: 2001-99-99", "got '2001-99-99'"),
    "sim time": ("use_sim_time: often", "use_sim_time: must be true or false, got 'often'"),
    "misspelt": ("/**:\n  ros__parameters: {max_ratee: 1.0}", "did you mean 'max_rate'"),
    "long name": ("a" * 1000 + ": 1", "unknown setting 'aaa"),
    "many names": ("\n".join(f"a{i}: 1" for i in range(50_000)), "and 49995 other unknown ones"),
    "stars": (
        "/**" * 300 + "/x/**/y:\n  ros__parameters: {max_rate: x}\nmax_rate: 1",
        "must be a node",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_costs_a_line_and_little_time(file: Any, kind: str) -> None:
    content, message = BAD[kind]
    path = file(content)
    began = time.process_time()
    with pytest.raises(SettingsError, match=message) as caught:
        node_settings(path, {}, [], ("a/b/c/d/e", "zgs"))
    assert time.process_time() - began < 2
    told = str(caught.value)
    assert told.startswith(f"{path}: ")
    assert "\n" not in told
    assert len(told) < 6000


@pytest.mark.parametrize("path", ["/tmp", "/nonexistent", "/dev/zero", "a\0b", "x" * 5000])
def test_a_path_that_is_no_file_is_named(path: str) -> None:
    with pytest.raises(SettingsError, match=r"(can't be read|more than the)"):
        load_settings(NodeSettings, path)


def test_a_name_full_of_wildcards_is_matched_in_little_time(file: Any) -> None:
    path = file(rates(("/**" * 300 + "/x/**/y", 1.0), ("/**/zgs", 2.0)))
    began = time.process_time()
    assert read_parameters(path, ("a/b/c/d/e/f/g", "zgs")) == {"max_rate": 2.0}
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    "pair",
    ["profile=[a]", "max_rate=!!timestamp x", "max_rate=", "=1", "cameras=5", "a=" + "[" * 3000,
     "device=cuda:99999999999999999999", "clip=&a [*a]", "max_rate=\0", "max_rate=\udcff"],
)  # fmt: skip
def test_a_bad_pair_costs_a_line(pair: str) -> None:
    with pytest.raises(SettingsError) as caught:
        node_settings(None, {}, [pair])
    assert "\n" not in str(caught.value)
