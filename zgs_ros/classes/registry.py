"""A number for every label that is seen, for good: the same after a restart and in every process."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping

from zgs_ros.classes.file import ClassFile, Content
from zgs_ros.classes.groups import (
    LAST,
    LAST_LOW,
    MAX_NAME,
    OTHER,
    OTHER_NAME,
    ClassError,
    ClassGroup,
    key,
    tidy,
)
from zgs_ros.texts import quoted

OFTEN = 3
"""Images in which a label must have been seen to get a number, once half of the low ones are given."""

MAX_WAITING = 10_000
"""Labels without a number that are remembered at most; captions can be anything."""

PATIENCE_SECONDS = 0.25
"""How long an image waits for numbers of new labels; a disk that takes longer costs it those."""

CLAIM_SECONDS = 5.0
"""How long groups of phrases wait for theirs."""

REFRESH_SECONDS = 5.0
"""Time between two looks at a file that others may have written, and between tries to write it."""

logger = logging.getLogger(__name__)


class ClassRegistry:
    """Gives numbers to labels and remembers them.

    Numbers are given in the order of need, the lowest free one first. Those up to 254 fit into images of
    bytes: once half of them are given, a label must be seen in several images to get a number, and has
    the id `OTHER` until then. What has a number keeps it for good.

    What is new is written by a thread of its own, so that no image waits for a disk for long. Where
    that fails, numbers are given and kept in memory, it is tried again, and `problems` says so. May be
    used by several threads.

    Args:
        file: Where numbers are kept; None for memory only.
        patience: Seconds that an image waits for what is written; None for as long as it takes.

    Raises:
        ClassError: If the file can't be used; the message names it, and says what to do.

    Attributes:
        groups: That the file has, with their ids.
    """

    def __init__(
        self, file: ClassFile | None = None, patience: float | None = PATIENCE_SECONDS
    ) -> None:
        self._file = file
        self._patience = patience
        self._changed = threading.Condition()
        self._ids: dict[str, int] = {}  # by key of the name
        self._names: dict[int, str] = {}  # of all ids that are given, also those that are not used
        self._low = 0  # of these, how many fit into a byte
        self._seen: dict[str, int] = {}  # what is to stand in the file, by name
        self._sightings: Counter[str] = Counter()
        self._waiting: dict[str, int] = {}
        self._asked = self._done = 0
        self._works = False
        self._failure = self._difference = ""
        self._next_try = time.monotonic() + REFRESH_SECONDS
        self.version = 0
        content = self._first_content()
        self._fixed = content.groups
        for group in content.groups:
            if group.id:
                self._give(group.name, group.id)
        self._adopt(content)
        self.groups = self.claim(content.groups)

    @property
    def names(self) -> dict[int, str]:
        """Name of each id that labels have, in rising order, and `OTHER_NAME` for `OTHER`."""
        with self._changed:
            used = {i: name for i, name in self._names.items() if self._ids[key(name)] == i}
        return dict(sorted({**used, OTHER: OTHER_NAME}.items()))

    @property
    def sharing(self) -> int:
        """Labels that have no id of their own in an image of bytes."""
        with self._changed:
            high = sum(number > OTHER for number in self._ids.values())
            return high + len(self._sightings)

    def problems(self) -> list[str]:
        """What is wrong with the file, and what that means."""
        return [text for text in (self._failure, self._difference) if text]

    def number(self, labels: Iterable[str]) -> dict[str, int]:
        """Ids of the labels of one image; new ones are given theirs."""
        keys = {text: key(text) for text in labels}
        with self._changed:
            new = [
                text
                for text, found in keys.items()
                if found and found not in self._ids and self._is_due(found)
            ]
        if new:
            self._add(dict.fromkeys(new, 0), self._patience)
        return {text: self._ids.get(found, OTHER) if found else 0 for text, found in keys.items()}

    def claim(self, groups: Iterable[ClassGroup]) -> tuple[ClassGroup, ...]:
        """Groups with their ids: those that are given, or the numbers of their names.

        Raises:
            ClassError: If an id belongs to something else, a name has another one, or none is left.
        """
        asked = tuple(groups)
        with self._changed:
            for group in asked:
                self._check_claim(group)
            new = {group.name: group.id for group in asked if key(group.name) not in self._ids}
        if new:
            self._add(new, CLAIM_SECONDS)
        ids = {group.name: self._ids.get(key(group.name), 0) for group in asked}
        for group in asked:
            if not ids[group.name] or group.id not in (0, ids[group.name]):
                raise ClassError(
                    f"there is no number for the class {quoted(group.name)}: all are given, another "
                    "process took it, or the file is busy; ask again with id 0"
                )
        return tuple(ClassGroup(ids[g.name], g.name, g.phrases, g.mask_topic) for g in asked)

    def refresh(self) -> None:
        """Looks after the file, which others may have written, now and then; does not wait for it."""
        if self._file is not None and time.monotonic() >= self._next_try:
            self._next_try = time.monotonic() + REFRESH_SECONDS
            self._add({}, 0.0)

    def _first_content(self) -> Content:
        if self._file is None:
            return Content()
        try:
            return self._file.read()
        except (ClassError, OSError) as error:
            raise ClassError(
                f"{self._file.path}: {error}. Put it right, or choose by classes.file another file, or "
                "'' for ids that are forgotten"
            ) from None

    def _check_claim(self, group: ClassGroup) -> None:
        has = self._ids.get(key(group.name), 0)
        if group.id and has not in (0, group.id):
            raise ClassError(
                f"the class {quoted(group.name)} has the id {has}, and ids never change their meaning: "
                f"give it {has} or 0, not {group.id}"
            )
        owner = self._names.get(group.id, "")
        if owner and key(owner) != key(group.name):
            raise ClassError(
                f"the id {group.id} belongs to {quoted(owner)}, and ids never change their meaning: "
                f"give {quoted(group.name)} another one, or 0 for a free one"
            )

    def _is_due(self, label: str) -> bool:
        """Whether a label is to get a number now."""
        if self._low < LAST_LOW // 2:
            return True
        if label in self._sightings or len(self._sightings) < MAX_WAITING:
            self._sightings[label] += 1
        return self._sightings[label] >= OFTEN

    def _add(self, new: Mapping[str, int], patience: float | None) -> None:
        """Has labels numbered, by the id that is asked for or a free one, and waits for that."""
        failing = self._failure and time.monotonic() < self._next_try
        if self._file is None or (failing and new):
            with self._changed:
                self._number(new, Content())
            return
        with self._changed:
            self._waiting.update(itertools.islice(new.items(), MAX_WAITING - len(self._waiting)))
            self._asked += 1
            ticket = self._asked
            if not self._works:
                self._works = True
                threading.Thread(target=self._work, name="zgs-classes", daemon=True).start()
            self._changed.wait_for(lambda: self._done >= ticket, patience)

    def _work(self) -> None:
        """Writes what waits, until nothing does."""
        while True:
            with self._changed:
                if self._done == self._asked:
                    self._works = False
                    return
                ticket, new, self._waiting = self._asked, self._waiting, {}
            self._save(new)
            with self._changed:
                self._done = ticket
                self._changed.notify_all()

    def _save(self, new: Mapping[str, int]) -> None:
        assert self._file is not None

        def choose(content: Content) -> dict[str, int]:
            with self._changed:
                self._adopt(content)
                self._number(new, content)
                return self._unwritten(content)

        try:
            content = self._file.read()
            with self._changed:
                self._adopt(content)
                adds = self._unwritten(content) or any(key(text) not in self._ids for text in new)
            if adds:
                self._file.add(choose)
        except (ClassError, OSError) as error:
            text = f"new class ids are in memory only: {self._file.path}: {error}"
            if text != self._failure:
                logger.warning("%s", text)
            self._failure = text
            self._next_try = time.monotonic() + REFRESH_SECONDS
            with self._changed:
                self._number(new, Content())
        except Exception:  # whatever it is, labels go on
            logger.exception("class ids can't be kept:")
        else:
            self._failure = ""

    def _unwritten(self, content: Content) -> dict[str, int]:
        """What a file lacks, and can have, of what this process knows."""
        written = {key(name) for name in content.seen}
        taken = {*content.seen.values(), *(group.id for group in content.groups)}
        return {
            name: number
            for name, number in self._seen.items()
            if key(name) not in written and number not in taken
        }

    def _number(self, new: Mapping[str, int], content: Content) -> None:
        """Gives numbers that neither this process nor a file has given."""
        taken = {*self._names, *content.seen.values(), *(group.id for group in content.groups)}
        free = (n for n in range(1, LAST + 1) if n != OTHER and n not in taken)
        for text, wanted in new.items():
            name = tidy(text)[:MAX_NAME]
            if key(text) in self._ids or (wanted and wanted in taken):
                continue
            number = wanted or next(free, 0)
            if not number:
                return
            taken.add(number)
            self._give(name, number)
            self._seen[name] = number

    def _adopt(self, content: Content) -> None:
        """Takes in what a file says; what this process knows otherwise stays as it is."""
        self._difference = ""
        if content.groups != self._fixed:
            self._difference = "the classes of the file were changed; they are used once the node is configured again"
        fixed = {key(group.name) for group in self._fixed}
        for name, number in content.seen.items():
            has, owner = self._ids.get(key(name)), self._names.get(number)
            if has is None and owner is None:
                self._give(name, number)
                self._seen[name] = number
            elif has != number and owner is None and key(name) in fixed:
                self._reserve(name, number)  # from before it was a class of its own
            elif has != number and key(name) not in fixed:
                self._difference = (
                    f"the file has {quoted(name)} as {number}, which this node knows otherwise until it "
                    "is configured again"
                )

    def _reserve(self, name: str, number: int) -> None:
        self._names[number] = name
        self._low += number <= LAST_LOW

    def _give(self, name: str, number: int) -> None:
        self._ids[key(name)] = number
        self._reserve(name, number)
        self._sightings.pop(key(name), None)
        self.version += 1
