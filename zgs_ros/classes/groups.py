"""What a class is: a number, a name, and the phrases that mean it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from zgs_ros.texts import quoted

OTHER = 255
"""What is rarest shares this id: in an image of bytes there is none left for it."""

OTHER_NAME = "other"

LAST_LOW = OTHER - 1
"""Ids up to this one fit into an image of bytes."""

LAST = 65534
"""Of all ids; vision_msgs/VisionClass has 65535 for what has no label."""

MAX_GROUPS = 1000
MAX_PHRASES = 10_000
"""Phrases of all groups together: each costs a row of a matrix product per image."""

MAX_NAME = 200
"""Longest name or phrase, in characters; CLIP sees some 70 words of a text."""


class ClassError(ValueError):
    """Classes that can't be used; the message says why and what to do."""


@dataclass(frozen=True)
class ClassGroup:
    """Phrases that are one class.

    Attributes:
        id: Number of the class, 1 .. 254; 0 = a free one is to be taken for its name.
        name: What the class is called.
        phrases: What is of this class; its name is among them.
        mask_topic: Below the node's (and the camera's) name, where masks of it go; "" for none.
    """

    id: int
    name: str
    phrases: tuple[str, ...] = ()
    mask_topic: str = ""


def tidy(text: str) -> str:
    """A text as names and phrases are kept: without control characters and needless blanks."""
    plain = text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
    return " ".join(plain.split())


def key(text: str) -> str:
    """What texts have in common that mean the same: case and blanks don't count."""
    return tidy(text).casefold()


def checked_groups(groups: Iterable[ClassGroup]) -> tuple[ClassGroup, ...]:
    """Groups with tidy texts, and each one's name among its phrases unless it is another one's.

    Raises:
        ClassError: If there are too many, a text is empty or too long, or two groups share an id, a
            name, a phrase or a topic.
    """
    given = tuple(groups)
    if len(given) > MAX_GROUPS:
        raise ClassError(f"there are {len(given)} classes, at most {MAX_GROUPS} are allowed")
    count = sum(len(group.phrases) for group in given)
    if count > MAX_PHRASES:
        raise ClassError(f"there are {count} phrases, at most {MAX_PHRASES} are allowed")
    kept = [_checked(group) for group in given]
    _all_different("id", [(str(group.id), group.name) for group in kept if group.id])
    _all_different("name", [(key(group.name), group.name) for group in kept])
    _all_different("mask_topic", [(g.mask_topic, g.name) for g in kept if g.mask_topic])
    _all_different("phrase", [(key(text), g.name) for g in kept for text in g.phrases])
    taken = {key(text) for group in kept for text in group.phrases}
    return tuple(
        group
        if key(group.name) in taken
        else ClassGroup(group.id, group.name, (group.name, *group.phrases), group.mask_topic)
        for group in kept
    )


def _checked(group: ClassGroup) -> ClassGroup:
    name = checked_text(group.name, "a class's name")
    if key(name) == OTHER_NAME:
        raise ClassError(
            f"a class can't be called {quoted(name)}: that is what all without a number are called"
        )
    if not 0 <= group.id <= LAST_LOW:
        raise ClassError(
            f"id {group.id} of the class {quoted(name)} must be in 1 .. {LAST_LOW}, or 0 for a free one "
            f"({OTHER} is {OTHER_NAME!r}, what shares an id in label_mask)"
        )
    phrases = {
        key(text): text
        for text in (
            checked_text(text, f"a phrase of the class {quoted(name)}") for text in group.phrases
        )
    }
    topic = group.mask_topic
    if topic and not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*(/[A-Za-z][A-Za-z0-9_]*){0,7}", topic):
        raise ClassError(
            f"mask_topic {quoted(topic)} of the class {quoted(name)} is no name of a topic below the "
            "node's: letters, digits and underscores that begin with a letter, such as person_mask"
        )
    return ClassGroup(group.id, name, tuple(phrases.values()), topic)


def checked_text(text: str, what: str) -> str:
    """A tidy name or phrase.

    Raises:
        ClassError: If it is empty or too long; `what` says what it is.
    """
    if len(text) > MAX_NAME:
        raise ClassError(
            f"{what} has {len(text)} characters, at most {MAX_NAME} are allowed: {quoted(text, 40)}"
        )
    if not tidy(text):
        raise ClassError(f"{what} is empty; say what it is, such as 'floor'")
    return tidy(text)


def _all_different(what: str, pairs: Sequence[tuple[str, str]]) -> None:
    """Makes sure that none of these values, each with the name of its class, comes twice."""
    owners: dict[str, str] = {}
    for value, owner in pairs:
        if value in owners:
            raise ClassError(
                f"the {what} {quoted(value)} is of two classes, {quoted(owners[value])} and "
                f"{quoted(owner)}; it can be of one"
            )
        owners[value] = owner
