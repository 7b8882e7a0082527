"""Untrusted text in a terminal."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.plain import harmless, plain


@given(st.text())
def test_no_control_character_is_left_and_all_is_one_line(text: str) -> None:
    shown = plain(text)
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
    assert len(shown.splitlines()) <= 1
    shown.encode()


@given(st.text(), st.integers(1, 80))
def test_the_size_is_kept(text: str, size: int) -> None:
    assert len(plain(text, size)) <= size


@given(st.text("abc xyz.,"))
def test_plain_text_is_left_alone(text: str) -> None:
    assert plain(text) == " ".join(text.split())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\r\nb\tc", "a b c"),
        ("a\rb", "a\\rb"),
        ("safe\u202efdp.exe", "safe\\u202efdp.exe"),
        ("bell\a", "bell\\x07"),
        ("half \ud800", "half \\ud800"),
        (None, "None"),
        (12, "12"),
    ],
)
def test_what_could_fool_a_screen_is_written_out(text: object, shown: str) -> None:
    assert plain(text) == shown


def test_a_cut_is_shown() -> None:
    assert plain("abcdef", 4) == "abc…"
    assert plain("abcd", 4) == "abcd"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\ud800 \udfff", r"\ud800 \udfff"),
        ("\x1c \x85\x0b", r"\x1c \x85\x0b"),
        ("a\ud800\nb\t\u200fc\u2029", "a\\ud800\nb\t\\u200fc\\u2029"),
        ("dos\r\nlines", "dos\nlines"),
        ("no-break\xa0space", "no-break\xa0space"),
    ],
)
def test_harmless_text_has_its_controls_written_out(text: str, shown: str) -> None:
    assert harmless(text) == shown


def test_harmless_text_keeps_its_lines_and_spaces() -> None:
    assert harmless("a\n\tb  c\r\x1b[2J\u202e\x00\ud800") == (
        "a\n\tb  c\\r\\x1b[2J\\u202e\\x00\\ud800"
    )
