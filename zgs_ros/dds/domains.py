"""The DDS domains that this process has joined."""

from __future__ import annotations

import threading

from cyclonedds.core import DDSException
from cyclonedds.domain import Domain

from zgs_ros.dds import raw
from zgs_ros.dds.network import Network
from zgs_ros.dds.raw import DdsError

_domains: dict[int, tuple[Domain, str, int]] = {}
"""The domains that this process has joined: handle, configuration, number of nodes in it."""

_lock = threading.Lock()


def join(network: Network) -> None:
    """Creates the domain for the first node in it; a process has one configuration per domain.

    Raises:
        DdsError: If Cyclone DDS refuses the configuration, or another one is in use already.
    """
    config = network.cyclone_config()
    with _lock:
        domain, known_config, nodes = _domains.get(network.domain, (None, config, 0))
        if known_config != config:
            raise DdsError(
                f"domain {network.domain} is in use in this process with another network configuration"
            )
        if domain is None:
            try:
                domain = Domain(network.domain, config)
            except DDSException as error:
                hint = f"; CYCLONEDDS_URI is {network.user_config!r}" if network.user_config else ""
                raise DdsError(f"domain {network.domain} can't be joined: {error}{hint}") from error
        _domains[network.domain] = (domain, config, nodes + 1)


def leave(domain_id: int) -> None:
    """Deletes the domain when the last node has left it."""
    with _lock:
        domain, config, nodes = _domains.pop(domain_id)
        if nodes > 1:
            _domains[domain_id] = (domain, config, nodes - 1)
        else:
            raw.delete(domain)
