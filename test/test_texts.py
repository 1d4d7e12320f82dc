"""Texts from outside: bounded, and nothing in them that a terminal obeys."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from zgs_ros.cli.terminal import plain
from zgs_ros.embedding.clip import MAX_WORDS, _forget_words
from zgs_ros.streaming.throttle import MAX_LINE, ThrottledLog
from zgs_ros.texts import bounded, printable, printable_lines, quoted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a blue mug", "a blue mug"),
        ("Straße 東京", "Straße 東京"),
        ("\x1b]0;gone\x07\x1b[31mred", r"\x1b]0;gone\x07\x1b[31mred"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("a\nb\rc\0", r"a\nb\rc\x00"),
        ("\udc80", r"\udc80"),
        ("x" * 300, "x" * 200 + "... (300 characters)"),
    ],
)
def test_control_characters_are_spelled_and_long_texts_cut(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert quoted(text) == f"'{shown}'"
    assert "\x1b" not in printable_lines(text)


def test_lines_stay_lines() -> None:
    assert printable_lines("one\ntwo\x1b", 10) == "one\ntwo\\x1b"


def test_a_short_text_is_the_same_text() -> None:
    text = "x" * 200
    assert bounded(text) is text


def test_file_names_reach_the_console_without_orders_to_it() -> None:
    assert plain("\x1b]0;x\x07[red].png") == r"\x1b]0;x\x07\[red].png"


def test_a_tokenizer_does_not_remember_words_for_ever() -> None:
    words = {f"word{number}": f"word{number}</w>" for number in range(MAX_WORDS)}
    tokenizer = SimpleNamespace(cache={"<start>": "<start>", **words})
    _forget_words(tokenizer)
    assert tokenizer.cache == {"<start>": "<start>"}


def test_a_giant_line_is_logged_in_part(caplog: pytest.LogCaptureFixture) -> None:
    ThrottledLog(logging.getLogger("zgs_ros.test")).log(logging.WARNING, "big", "x" * 3_000_000)
    [line] = caplog.messages
    assert len(line) < MAX_LINE + 100
