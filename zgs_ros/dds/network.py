"""Which network a node joins: ROS 2's environment variables as a Cyclone DDS configuration."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from xml.sax.saxutils import quoteattr

from zgs_ros.streaming.port import LEASE_SECONDS
from zgs_ros.texts import quoted, whole_number

RANGES = ("SUBNET", "LOCALHOST", "OFF", "SYSTEM_DEFAULT")
"""Values of ROS_AUTOMATIC_DISCOVERY_RANGE."""

MAX_DOMAIN = 232
"""Highest domain whose UDP ports exist."""

MAX_PORT = 65535

SOCKET_BUFFER = 8 * 1024 * 1024
"""Receive buffer [bytes] that is asked for: an image arrives as one burst of packets."""

PARTICIPANTS = 32
"""Participants (about one per process) that find each other on one machine without multicast."""

RESOLVE_SECONDS = 5.0
"""How long the names of peers are looked up: at boot there may be no DNS yet."""


_UDP6 = "<General><Transport>udp6</Transport></General>"


class NetworkError(ValueError):
    """A network setting that is impossible; the message names it and what is allowed."""


@dataclass(frozen=True)
class Network:
    """Which part of the network a node sees.

    Attributes:
        domain: DDS domain, 0 .. 232; nodes of different domains never meet.
        discovery_range: One of `RANGES`.
        loopback_only: Whether only 127.0.0.1 is used, whatever `user_config` says, so that nothing
            can leave the machine.
        peers: Addresses of machines that multicast doesn't reach.
        user_config: Cyclone DDS configuration (XML or URI) that wins over all of these.
    """

    domain: int = 0
    discovery_range: str = "SUBNET"
    loopback_only: bool = False
    peers: tuple[str, ...] = ()
    user_config: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.domain <= MAX_DOMAIN:
            raise NetworkError(f"domain {self.domain} must be in 0 .. {MAX_DOMAIN}")
        if self.discovery_range not in RANGES:
            raise NetworkError(
                f"discovery range {self.discovery_range!r} is not one of {', '.join(RANGES)}"
            )

    @classmethod
    def from_environment(
        cls,
        domain: int | None = None,
        loopback_only: bool = False,
        environment: Mapping[str, str] = os.environ,
    ) -> Network:
        """The network that the ROS 2 environment variables ask for.

        Read are ROS_DOMAIN_ID, ROS_AUTOMATIC_DISCOVERY_RANGE, ROS_STATIC_PEERS, ROS_LOCALHOST_ONLY
        (which wins over both, as in ROS) and CYCLONEDDS_URI.

        Args:
            domain: Wins over ROS_DOMAIN_ID.
            loopback_only: Use only 127.0.0.1.
            environment: Where the variables stand.

        Raises:
            NetworkError: If a variable has an impossible value.
        """
        text = environment.get("ROS_DOMAIN_ID", "").strip() or "0"
        if domain is None:
            number = whole_number(text)
            if number is None:
                raise NetworkError(
                    f"ROS_DOMAIN_ID {quoted(text)} must be a number in 0 .. {MAX_DOMAIN}"
                )
            domain = number
        localhost = environment.get("ROS_LOCALHOST_ONLY", "") == "1"
        reach = environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "").strip().upper() or "SUBNET"
        peers = environment.get("ROS_STATIC_PEERS", "")
        return cls(
            domain=domain,
            discovery_range="LOCALHOST" if localhost else reach,
            loopback_only=loopback_only,
            peers=() if localhost else tuple(p.strip() for p in peers.split(";") if p.strip()),
            user_config=environment.get("CYCLONEDDS_URI", ""),
        )

    @property
    def most_participants(self) -> int:
        """For how many participants of this domain on one machine there are ports at all."""
        first = 7400 + 250 * self.domain + 11  # OMG DDSI-RTPS 2.5, 9.6.2.3
        return min(120, (MAX_PORT - first) // 2)

    def resolved(self) -> tuple[Network, list[str]]:
        """The same with addresses for the names of its peers, and a line for each that has none.

        Cyclone DDS ends the process for a peer that it can't find.
        """
        if self.loopback_only or not self.peers:
            return self, []
        is_ipv6 = _uses_ipv6(self.user_config)
        family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
        found = _look_up(self.peers, family)
        problems = [
            f"ROS_STATIC_PEERS: {quoted(peer)} is left out: {error}"
            for peer, (_, error) in found.items()
            if error
        ]
        addresses = tuple(address for address, error in found.values() if not error)
        return replace(self, peers=addresses), problems

    def cyclone_config(self, participants: int = PARTICIPANTS) -> str:
        """The configuration that a Cyclone DDS domain is created with.

        Args:
            participants: That can find each other on one machine without multicast.
        """
        general = ""
        discovery = f"<LeaseDuration>{LEASE_SECONDS}s</LeaseDuration>"
        local = self.loopback_only or self.discovery_range == "LOCALHOST"
        loopback = "::1" if _uses_ipv6(self.user_config) and not self.loopback_only else "127.0.0.1"
        if local and (self.loopback_only or not _chooses_interfaces(self.user_config)):
            # Cyclone DDS 11 ignores participants that come in over another interface than its own.
            general += _interfaces(loopback, others=bool(self.peers) and not self.loopback_only)
        if local or self.discovery_range == "OFF":
            general += "<AllowMulticast>false</AllowMulticast>"
        if self.discovery_range == "OFF":
            # Nobody else has this tag, so nobody is found.
            discovery += f"<ParticipantIndex>none</ParticipantIndex><Tag>off_{os.getpid()}</Tag>"
        elif local or self.discovery_range == "SUBNET":
            # Loopback interfaces often have no multicast, so this machine is a peer like others.
            peers = (loopback, *(() if self.loopback_only else self.peers))
            discovery += (
                "<ParticipantIndex>auto</ParticipantIndex>"
                f"<MaxAutoParticipantIndex>{participants}</MaxAutoParticipantIndex>"
                f"<Peers>{''.join(f'<Peer address={quoteattr(peer)}/>' for peer in peers)}</Peers>"
            )
        internal = f'<SocketReceiveBufferSize max="{SOCKET_BUFFER}B"/>'
        own = (
            f"<CycloneDDS><Domain><General>{general}</General><Discovery>{discovery}</Discovery>"
            f"<Internal>{internal}</Internal></Domain></CycloneDDS>"
        )
        return f"{own},{self.user_config}" if self.user_config and not self.loopback_only else own


def _interfaces(address: str, others: bool) -> str:
    loopback = f'<NetworkInterface address="{address}"/>'
    if others:
        return f'<Interfaces><NetworkInterface autodetermine="true"/>{loopback}</Interfaces>'
    # Packets as large as UDP allows: no wire can lose a part of one, and fewer cost less.
    return f"<Interfaces>{loopback}</Interfaces><MaxMessageSize>65500B</MaxMessageSize>"


def _chooses_interfaces(config: str) -> bool:
    """Whether a Cyclone DDS configuration (XML, or files) names interfaces: none may occur twice."""
    return any("<NetworkInterface" in text for text in _texts(config))


def _uses_ipv6(config: str) -> bool:
    """Whether a Cyclone DDS configuration (XML, or files) asks for IPv6 instead of IPv4."""
    asks = re.compile(r"<Transport>\s*(udp6|tcp6)|<UseIPv6>\s*true", re.IGNORECASE)
    return any(asks.search(text) for text in _texts(config))


def _texts(config: str) -> list[str]:
    """A Cyclone DDS configuration, and the content of the files that it names."""
    files = [Path(part.strip().removeprefix("file://")) for part in config.split(",")]
    return [config, *(_text(file) for file in files)]


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace") if file.is_file() else ""
    except (OSError, ValueError):  # XML that is no path either
        return ""


def _look_up(peers: tuple[str, ...], family: socket.AddressFamily) -> dict[str, tuple[str, str]]:
    """Address and problem of each peer, one of them "", all looked up at once."""
    found = dict.fromkeys(peers, ("", f"its name was not found within {RESOLVE_SECONDS:g} s"))

    def look_up(peer: str) -> None:
        # name, name:port, address, [address]:port
        parts = re.fullmatch(r"\[(.+)\](?::([0-9]{1,5}))?|([^:]+):([0-9]{1,5})|(.+)", peer, re.S)
        assert parts is not None
        host = parts[1] or parts[3] or parts[5]
        port = parts[2] or parts[4]
        if port and not 0 < int(port) <= MAX_PORT:
            found[peer] = ("", f"its port must be in 1 .. {MAX_PORT}")
            return
        try:
            [address, *_] = {
                str(entry[4][0]): None for entry in socket.getaddrinfo(host, None, family)
            }
        except (OSError, UnicodeError, ValueError) as error:
            is_ipv6 = family == socket.AF_INET6
            hint = "" if is_ipv6 or ":" not in host else f"; IPv6 needs {_UDP6} in CYCLONEDDS_URI"
            kind = "IPv6" if is_ipv6 else "IPv4"
            found[peer] = ("", f"no {kind} address is known for it ({error}){hint}")
            return
        if ipaddress.ip_address(
            address.partition("%")[0]
        ).is_unspecified:  # Cyclone DDS would abort
            found[peer] = ("", f"{address} is the address of no machine")
            return
        shown = f"[{address}]" if ":" in address and port else address
        found[peer] = (f"{shown}:{port}" if port else shown, "")

    threads = [threading.Thread(target=look_up, args=(peer,), daemon=True) for peer in found]
    for thread in threads:
        thread.start()
    end = time.monotonic() + RESOLVE_SECONDS
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return dict(found)


def socket_buffer_warning(limit_file: Path = Path("/proc/sys/net/core/rmem_max")) -> str | None:
    """A hint for the user when the kernel doesn't grant `SOCKET_BUFFER`, None when it does."""
    try:
        limit = int(limit_file.read_text())
    except (OSError, ValueError):
        return None  # not Linux
    if limit >= SOCKET_BUFFER:
        return None
    return (
        f"net.core.rmem_max is {limit} bytes, so large images can arrive late or get lost; "
        f"allow 8 MB: sudo sysctl -w net.core.rmem_max={SOCKET_BUFFER}"
    )
