"""Names of nodes, topics and services, as ROS has them."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def full_name(name: str, namespace: str = "") -> str:
    """A node's name with its namespace, ``"/front/zgs"``.

    Raises:
        ValueError: If one of them is not valid.
    """
    tokens = [token for token in namespace.split("/") if token]
    spaces = "".join(f"/{_valid('namespace', token)}" for token in tokens)
    return f"{spaces}/{_valid('node name', name)}"


def absolute(topic: str, node: str) -> str:
    """The full name of a topic or service: ``~/x`` is the node's own, ``x`` its namespace's.

    Args:
        topic: As it is given.
        node: Full name of the node.

    Raises:
        ValueError: If it is not a valid name.
    """
    if topic.startswith("~/"):
        topic = f"{node}/{topic[2:]}"
    elif not topic.startswith("/"):
        topic = f"{node.rpartition('/')[0]}/{topic}"
    for token in topic[1:].split("/"):
        _valid(f"topic {topic!r}:", token)
    return topic


def _valid(what: str, name: str) -> str:
    if not _TOKEN.fullmatch(name):
        raise ValueError(
            f"{what} {name!r} must be letters, digits and underscores, and not begin with a digit"
        )
    return name
