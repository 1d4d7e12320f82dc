"""A DDS domain for oneself on this machine."""

from __future__ import annotations

import socket
from collections.abc import Sequence

DOMAIN_PORTS = 250
"""UDP ports of a domain; its participants take them from the first one on (OMG DDSI-RTPS 2.5, 9.6.2.3)."""


def claim_domain(candidates: Sequence[int]) -> tuple[int, socket.socket]:
    """A domain that nobody on this machine uses or has claimed.

    Whoever claims one holds its last port, which participants take after 119 others only.

    Args:
        candidates: Domains to try in turn, each at most 231.

    Returns:
        The domain, and what it is claimed with until that is closed.

    Raises:
        RuntimeError: If all of them are in use.
    """
    for domain in candidates:
        first = 7400 + DOMAIN_PORTS * domain
        ports = range(first, first + DOMAIN_PORTS)
        # From the last one on, so that nobody whose claim it is finds a port taken, even for a moment.
        if all(map(_is_free, reversed(ports))):
            try:
                return domain, _bound(ports[-1])
            except OSError:  # somebody was faster
                continue
    raise RuntimeError(f"all of the DDS domains {sorted(candidates)} are in use on this machine")


def _is_free(port: int) -> bool:
    try:
        _bound(port).close()
    except OSError:
        return False
    return True


def _bound(port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        made.bind(("", port))
    except OSError:
        made.close()
        raise
    return made
