"""Names of nodes, topics and services, as ROS has them."""

from __future__ import annotations

import re
from collections.abc import Mapping

_TOKEN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class NodeNames:
    """A node's own name, and those of its topics and services, remapped where they are.

    Args:
        name: Node name.
        namespace: Such as ``"/front"``; "" or "/" is the root.
        remappings: Other names of topics and services: ``{"~/segments": "/labels"}``.

    Raises:
        ValueError: If a name is not valid.
    """

    def __init__(
        self, name: str, namespace: str = "", remappings: Mapping[str, str] | None = None
    ) -> None:
        self.full_name = full_name(name, namespace)
        self._others = {
            absolute(old, self.full_name): absolute(new, self.full_name)
            for old, new in (remappings or {}).items()
        }
        self._resolved: set[str] = set()

    def resolve(self, topic: str) -> str:
        """The full name of a topic or service: ``~/x`` is the node's own, ``x`` its namespace's.

        Raises:
            ValueError: If it is not a valid name.
        """
        name = absolute(topic, self.full_name)
        self._resolved.add(name)
        return self._others.get(name, name)

    def has(self, name: str) -> bool:
        """Whether something of the node was called so before it was remapped."""
        return absolute(name, self.full_name) in self._resolved


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
