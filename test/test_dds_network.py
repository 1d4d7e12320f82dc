"""ROS 2's network variables, and where message definitions are found."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from dds_support import DOMAIN

from zgs_ros import message_types
from zgs_ros.dds.network import Network, NetworkError, socket_buffer_warning
from zgs_ros.dds.node import DdsNode
from zgs_ros.dds.raw import DdsError
from zgs_ros.dds.types import TypeSupport

VARIABLES = [
    ({}, Network()),
    ({"ROS_DOMAIN_ID": "42"}, Network(domain=42)),
    ({"ROS_DOMAIN_ID": ""}, Network()),
    ({"ROS_LOCALHOST_ONLY": "1"}, Network(discovery_range="LOCALHOST")),
    ({"ROS_LOCALHOST_ONLY": "0"}, Network()),
    ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "localhost"}, Network(discovery_range="LOCALHOST")),
    ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF"}, Network(discovery_range="OFF")),
    ({"ROS_STATIC_PEERS": "192.0.2.1; robot ;"}, Network(peers=("192.0.2.1", "robot"))),
    (
        {
            "ROS_LOCALHOST_ONLY": "1",
            "ROS_STATIC_PEERS": "a",
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF",
        },
        Network(discovery_range="LOCALHOST"),
    ),
    ({"CYCLONEDDS_URI": "file:///robot.xml"}, Network(user_config="file:///robot.xml")),
]


@pytest.mark.parametrize(("variables", "network"), VARIABLES, ids=str)
def test_ros_environment_variables_decide_the_network(
    variables: dict[str, str], network: Network
) -> None:
    assert Network.from_environment(environment=variables) == network


def test_options_win_over_variables() -> None:
    network = Network.from_environment(7, True, {"ROS_DOMAIN_ID": "nonsense"})
    assert (network.domain, network.loopback_only) == (7, True)


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({"ROS_DOMAIN_ID": "home"}, "ROS_DOMAIN_ID 'home' must be a number in 0 .. 232"),
        ({"ROS_DOMAIN_ID": "\u00b2"}, "ROS_DOMAIN_ID '\u00b2' must be a number"),
        ({"ROS_DOMAIN_ID": "9" * 5000}, "(5000 characters)' must be a number"),
        ({"ROS_DOMAIN_ID": "233"}, "domain 233 must be in 0 .. 232"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "WORLD"}, "'WORLD' is not one of SUBNET, LOCALHOST"),
    ],
)
def test_impossible_variables_are_named(variables: dict[str, str], text: str) -> None:
    with pytest.raises(NetworkError) as caught:
        Network.from_environment(environment=variables)
    assert text in str(caught.value)


LOOPBACK = '<Interfaces><NetworkInterface address="127.0.0.1"/></Interfaces>'
ROBOT = '<CycloneDDS><Domain><General><Interfaces><NetworkInterface name="lo"/>...'
CONFIGS = [
    (Network(), ['Peer address="127.0.0.1"', 'SocketReceiveBufferSize max="8388608B"'], ["Interf"]),
    (Network(loopback_only=True), [LOOPBACK, "Multicast>false"], []),
    (Network(loopback_only=True, user_config=ROBOT), [LOOPBACK, "Multicast>false"], ["name="]),
    (Network(discovery_range="LOCALHOST"), [LOOPBACK, "Multicast>false", "Peer"], []),
    (Network(discovery_range="LOCALHOST", user_config=ROBOT), [ROBOT], ["<NetworkInterface addr"]),
    (
        Network(discovery_range="LOCALHOST", peers=("192.0.2.1",)),
        ['<NetworkInterface autodetermine="true"/><NetworkInterface address="127', "192.0.2.1"],
        [],
    ),
    (Network(discovery_range="OFF"), ["<Tag>off_", "Multicast>false"], ["Peer"]),
    (Network(discovery_range="SYSTEM_DEFAULT"), ["SocketReceive"], ["Peer", "Multicast", "Tag"]),
    (Network(peers=('a"b',)), ["Peer address='a\"b'"], []),
]


@pytest.mark.parametrize(("network", "present", "absent"), CONFIGS, ids=str)
def test_the_network_becomes_a_cyclone_configuration(
    network: Network, present: list[str], absent: list[str]
) -> None:
    config = network.cyclone_config()
    assert [text for text in present if text not in config] == []
    assert [text for text in absent if text in config] == []


def test_the_users_configuration_comes_last_and_so_wins() -> None:
    assert Network(user_config="file:///robot.xml").cyclone_config().endswith(",file:///robot.xml")


def test_interfaces_in_a_configuration_file_are_not_named_twice(tmp_path: Path) -> None:
    file = tmp_path / "cyclone.xml"
    file.write_text(ROBOT)
    network = Network(discovery_range="LOCALHOST", user_config=f"file://{file}")
    assert "<NetworkInterface" not in network.cyclone_config()


IPV6 = "<CycloneDDS><Domain><General><Transport>udp6</Transport></General></Domain></CycloneDDS>"
ADDRESSES = [
    ("127.0.0.1", "", "127.0.0.1"),
    ("localhost", "", "127.0.0.1"),
    ("localhost:7410", "", "127.0.0.1:7410"),
    ("nowhere.invalid", "", None),
    ("a b", "", None),
    ("x" * 300, "", None),
    ("::1", "", None),
    ("::1", IPV6, "::1"),
    ("[::1]:7410", IPV6, "[::1]:7410"),
    ("127.0.0.1", IPV6, None),
    ("127.0.0.1:65535", "", "127.0.0.1:65535"),
    ("0.0.0.0", "", None),
    ("0:7400", "", None),
    ("::", IPV6, None),
    ("127.0.0.1:65536", "", None),
    ("127.0.0.1:0", "", None),
    ("[::1]:99999999", IPV6, None),
]


@pytest.mark.parametrize(("peer", "config", "address"), ADDRESSES)
def test_peers_get_addresses_and_those_without_one_are_left_out(
    peer: str, config: str, address: str | None
) -> None:
    network, problems = Network(peers=(peer, peer), user_config=config).resolved()
    if address:
        assert (network.peers, problems) == ((address,), [])
    else:
        assert network.peers == ()
        [problem] = problems
        assert problem.startswith(f"ROS_STATIC_PEERS: '{peer[:200]}")
        assert "is left out: " in problem


def test_a_process_joins_where_many_have_before(caplog: pytest.LogCaptureFixture) -> None:
    network = Network(40, loopback_only=True)  # no other test's
    with ExitStack() as ports:
        for port in range(7410 + 250 * 40, 7410 + 250 * 40 + 2 * 33):
            taken = ports.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            with suppress(OSError):
                taken.bind(("0.0.0.0", port))
        with DdsNode("late", network=network):
            pass
    assert any("32 participants of domain 40 are on this machine" in m for m in caplog.messages)


@pytest.mark.parametrize(
    "network",
    [
        Network(DOMAIN, loopback_only=True),
        Network(DOMAIN, "LOCALHOST"),
        Network(DOMAIN, "LOCALHOST", peers=("127.0.0.1",)),
        Network(DOMAIN, "OFF"),
        Network(DOMAIN, "LOCALHOST", peers=("nowhere.invalid", "fe80::1", 'a"b', "127.0.0.1:7410")),
        Network(DOMAIN, loopback_only=True, peers=("nowhere.invalid",)),
        Network(DOMAIN, user_config=IPV6),
        Network(DOMAIN, "LOCALHOST", peers=("::1", "127.0.0.1"), user_config=IPV6),
        Network(
            DOMAIN,
            "SYSTEM_DEFAULT",
            user_config=f"<CycloneDDS><Domain><General>{LOOPBACK}</General></Domain></CycloneDDS>",
        ),
    ],
)
def test_every_configuration_is_understood(network: Network) -> None:
    with DdsNode("node", network=network):
        pass


def test_a_configuration_that_is_not_understood_is_shown() -> None:
    network = Network(DOMAIN, "LOCALHOST", user_config="<CycloneDDS><Nonsense/></CycloneDDS>")
    with pytest.raises(
        DdsError, match=r"can't be joined.*CYCLONEDDS_URI is '<CycloneDDS><Nonsense/>"
    ):
        DdsNode("node", network=network)
    with DdsNode("node", network=Network(DOMAIN, loopback_only=True)):
        pass


def test_one_process_has_one_configuration_per_domain() -> None:
    with (
        DdsNode("first", network=Network(DOMAIN, loopback_only=True)),
        pytest.raises(DdsError, match="in use in this process with another network configuration"),
    ):
        DdsNode("second", network=Network(DOMAIN, "LOCALHOST", peers=("192.0.2.1",)))


@pytest.mark.parametrize(
    ("content", "warned"), [("212992", True), ("8388607", True), ("8388608", False), ("x", False)]
)
def test_a_small_socket_buffer_is_warned_about(tmp_path: Path, content: str, warned: bool) -> None:
    file = tmp_path / "rmem_max"
    file.write_text(content)
    text = socket_buffer_warning(file)
    assert bool(text) == warned
    if text:
        assert content in text
        assert "sysctl -w net.core.rmem_max=8388608" in text
    assert socket_buffer_warning(tmp_path / "missing") is None


@pytest.mark.parametrize(
    ("distro", "length"), [("humble", 24), ("iron", 16), ("jazzy", 16), ("rolling", 16)]
)
def test_the_distribution_decides_the_length_of_a_gid(distro: str, length: int) -> None:
    assert TypeSupport(distro).array_length("rmw_dds_common/msg/Gid", "data") == length


@pytest.mark.parametrize("distro", sorted(message_types.DISTROS))
def test_a_node_works_with_every_distribution(distro: str) -> None:
    with DdsNode("node", network=Network(DOMAIN, loopback_only=True), distro=distro) as node:
        node.create_publisher("~/segments", "zgs_ros/msg/SegmentArray")


def test_ros_distro_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DISTRO", "humble")
    assert TypeSupport().array_length("rmw_dds_common/msg/Gid", "data") == 24
    with pytest.raises(ValueError, match=r"'noetic' is not known \(allowed: humble, iron, jazzy"):
        TypeSupport("noetic")


@pytest.mark.parametrize(
    ("sourced", "length"),
    [("noetic", 16), ("melodic", 16), ("zebra", 16), ("", 16), ("foxy", 24), ("galactic", 24)],
)
def test_another_ros_that_is_sourced_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, sourced: str, length: int
) -> None:
    monkeypatch.setenv("ROS_DISTRO", sourced)
    assert TypeSupport().array_length("rmw_dds_common/msg/Gid", "data") == length


def test_type_hashes_are_those_of_ros() -> None:
    types = TypeSupport("jazzy")
    known = "RIHS01_d31d41a9a4c4bc8eae9be757b0beed306564f7526c88ea6a4588fb9582527d47"
    assert types.type_hash("sensor_msgs/msg/Image") == known


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from zgs_ros.dds.types import TypeSupport
from zgs_ros.message_types import message_definitions
print(message_definitions()[0].parent)
TypeSupport("jazzy").idl_type("zgs_ros/msg/SegmentArray")
"""


def _located(package: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, str(package)],
        env={**os.environ, "PYTHONPATH": "", "AMENT_PREFIX_PATH": "", **environment},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("package", "definitions", "ament"),
    [
        ("", "msg", ""),
        ("lib/python3.11/site-packages", "share/zgs_ros/msg", ""),
        ("local/lib/python3.10/dist-packages", "local/share/zgs_ros/msg", ""),
        ("target", "target/share/zgs_ros/msg", ""),
        ("elsewhere", "install/zgs_ros/share/zgs_ros/msg", "install/other:install/zgs_ros"),
        ("elsewhere", None, ""),
    ],
    ids=["source tree", "prefix", "Debian", "pip --target", "ROS environment", "nowhere"],
)
def test_message_definitions_are_found(
    tmp_path: Path, package: str, definitions: str | None, ament: str
) -> None:
    root = Path(__file__).parents[1]
    home = tmp_path / package
    home.mkdir(parents=True, exist_ok=True)
    _copy_package(root / "zgs_ros", home / "zgs_ros")
    if definitions:
        place = tmp_path / definitions
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(root / "msg")
    prefixes = ":".join(str(tmp_path / prefix) for prefix in ament.split(":") if prefix)
    result = _located(home, AMENT_PREFIX_PATH=prefixes)
    if definitions:
        assert result.stdout.strip() == str(tmp_path / definitions), result.stderr
    else:
        assert "the message definitions of zgs_ros are missing, looked in " in result.stderr


def _copy_package(source: Path, target: Path) -> None:
    """The part of the package that the test imports, as an install would copy it."""
    for name in ("__init__.py", "message_types.py", "texts.py", "dds/__init__.py", "dds/types.py"):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes((source / name).read_bytes())


@pytest.mark.parametrize("missing", ["cyclonedds", "rosbags"])
def test_without_its_libraries_the_command_says_how_to_get_them(missing: str) -> None:
    script = (
        f"import sys; sys.modules[{missing!r}] = None; from zgs_ros.cli import app; app(['watch'])"
    )
    root = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "zgs: zgs_ros.dds needs the packages cyclonedds and rosbags" in done.stderr
    assert "pip install 'zgs_ros[dds]'" in done.stderr
    assert "no wheel for aarch64; build it against the library of a ROS install" in done.stderr
    assert "Traceback" not in done.stderr
