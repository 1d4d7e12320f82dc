"""Which network a node joins: ROS 2's environment variables as a Cyclone DDS configuration."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

RANGES = ("SUBNET", "LOCALHOST", "OFF", "SYSTEM_DEFAULT")
"""Values of ROS_AUTOMATIC_DISCOVERY_RANGE."""

MAX_DOMAIN = 232
"""Highest domain whose UDP ports exist."""

SOCKET_BUFFER = 8 * 1024 * 1024
"""Receive buffer [bytes] that is asked for: an image arrives as one burst of packets."""

PARTICIPANTS = 32
"""Participants (about one per process) that find each other on one machine without multicast."""


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
            if not text.isdigit():
                raise NetworkError(f"ROS_DOMAIN_ID {text!r} must be a number in 0 .. {MAX_DOMAIN}")
            domain = int(text)
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

    def cyclone_config(self) -> str:
        """The configuration that a Cyclone DDS domain is created with."""
        general = discovery = ""
        local = self.loopback_only or self.discovery_range == "LOCALHOST"
        if local and (self.loopback_only or not _chooses_interfaces(self.user_config)):
            # Cyclone DDS 11 ignores participants that come in over another interface than its own.
            general += _interfaces(others=bool(self.peers) and not self.loopback_only)
        if local or self.discovery_range == "OFF":
            general += "<AllowMulticast>false</AllowMulticast>"
        if self.discovery_range == "OFF":
            # Nobody else has this tag, so nobody is found.
            discovery += f"<ParticipantIndex>none</ParticipantIndex><Tag>off_{os.getpid()}</Tag>"
        elif local or self.discovery_range == "SUBNET":
            # Loopback interfaces often have no multicast, so this machine is a peer like others.
            peers = ("127.0.0.1", *self.peers)
            discovery += (
                "<ParticipantIndex>auto</ParticipantIndex>"
                f"<MaxAutoParticipantIndex>{PARTICIPANTS}</MaxAutoParticipantIndex>"
                f"<Peers>{''.join(f'<Peer address={quoteattr(peer)}/>' for peer in peers)}</Peers>"
            )
        internal = f'<SocketReceiveBufferSize max="{SOCKET_BUFFER}B"/>'
        own = (
            f"<CycloneDDS><Domain><General>{general}</General><Discovery>{discovery}</Discovery>"
            f"<Internal>{internal}</Internal></Domain></CycloneDDS>"
        )
        return f"{own},{self.user_config}" if self.user_config and not self.loopback_only else own


def _interfaces(others: bool) -> str:
    loopback = '<NetworkInterface address="127.0.0.1"/>'
    if others:
        return f'<Interfaces><NetworkInterface autodetermine="true"/>{loopback}</Interfaces>'
    # Packets as large as UDP allows: no wire can lose a part of one, and fewer cost less.
    return f"<Interfaces>{loopback}</Interfaces><MaxMessageSize>65500B</MaxMessageSize>"


def _chooses_interfaces(config: str) -> bool:
    """Whether a Cyclone DDS configuration (XML, or files) names interfaces: none may occur twice."""
    files = [Path(part.strip().removeprefix("file://")) for part in config.split(",")]
    texts = [file.read_text(errors="replace") for file in files if file.is_file()]
    return any("<NetworkInterface" in text for text in [config, *texts])


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
