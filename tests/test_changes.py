"""What changed between two texts, and where a quote stands."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz import fuzz

from agentloop.changes import LONGEST, MOST, NEAR, Finder, Piece, changes
from agentloop.checks.quotes import stands

TEXT = st.text(st.sampled_from("ab .,\nÄß\u2028\x00"), max_size=60)


def without(kind: str, pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces if piece.kind != kind)


@given(TEXT, TEXT)
def test_both_texts_can_be_read_from_the_pieces(before: str, after: str) -> None:
    pieces = changes(before, after)
    assert (without("new", pieces), without("gone", pieces)) == (before, after)
    assert all(piece.text for piece in pieces)
    assert all(one.kind != two.kind for one, two in pairwise(pieces))


def test_words_are_compared() -> None:
    assert changes("The cat sat here.", "The dog sat here!") == [
        Piece("same", "The "), Piece("gone", "cat"), Piece("new", "dog"),
        Piece("same", " sat here"), Piece("gone", "."), Piece("new", "!"),
    ]  # fmt: skip


def test_words_that_went_in_a_row_stand_together() -> None:
    assert changes("a little of it melts. ", "a less effective melts. ") == [
        Piece("same", "a "), Piece("gone", "little of it"), Piece("new", "less effective"),
        Piece("same", " melts. "),
    ]  # fmt: skip


def test_long_texts_are_compared_by_lines_and_very_long_ones_not_at_all() -> None:
    lines = [f"line {n} of a text\n" for n in range(MOST // 2)]
    other = [*lines[:100], "another\n", *lines[101:]]
    assert changes("".join(lines), "".join(other))[1:3] == [
        Piece("gone", "line 100 of a text\n"), Piece("new", "another\n"),
    ]  # fmt: skip
    long = "a\n" * (MOST + 1)
    assert [piece.kind for piece in changes(long, long + "b")] == ["gone", "new"]


@pytest.mark.parametrize(
    ("quote", "found"),
    [
        ('flows to the "sea"', "flows  to\nthe “sea”"),
        ("The RIVER", "The river"),
        ("river flows to teh sea", None),
        ("nothing of the kind", None),
        ("", None),
    ],
)
def test_a_quote_is_found_where_it_stands(quote: str, found: str | None) -> None:
    source = "Once more. The river flows  to\nthe “sea”, and ends."
    place = Finder().place(quote, source)
    if found is None:
        assert place is None
    else:
        assert place is not None
        assert source[slice(*place)].rstrip(",") == found


@given(st.text(st.sampled_from("ab .\n“”…¨Ä"), max_size=80), st.integers(0, 70), st.integers(8, 30))
def test_what_is_cut_from_a_source_is_found_in_it(source: str, start: int, length: int) -> None:
    quote = source[start : start + length]
    if not stands(quote, source):
        return
    place = Finder().place(quote, source)
    assert place is None or stands(quote, source[slice(*place)])


NEARLY = "the river flows to the seas"
SOURCE = "Here the river flows to the sea."


def test_a_near_quote_is_found_and_a_far_longer_one_only_word_for_word() -> None:
    finder = Finder()
    place = finder.place(NEARLY, SOURCE)
    assert place is not None
    assert "river flows" in SOURCE[slice(*place)]
    words = " ".join(f"word{n}" for n in range(NEAR))
    assert finder.place(words, f"so {words} it ends") == (3, 3 + len(words))
    assert finder.place(words.replace("word7 ", "wort7 "), words) is None
    assert finder.hurried


def test_quotes_that_overlap_are_about_all_that_they_are_about() -> None:
    quotes = [("the river flows", "a"), ("flows to the", "b"), ("flows to the", "c")]
    assert Finder().quoted(SOURCE, quotes) == [
        Piece("same", "Here "), Piece("quote", "the river flows to the", "a, b, c"),
        Piece("same", " sea."),
    ]  # fmt: skip


class Looks:
    """Counts how far the costly search goes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.cells = 0
        search = fuzz.partial_ratio_alignment
        monkeypatch.setattr("agentloop.changes.fuzz.partial_ratio_alignment", self._count(search))

    def _count(self, search: Any) -> Any:
        def counted(needle: str, hay: str, **more: Any) -> Any:
            self.cells += len(needle) * len(hay)
            return search(needle, hay, **more)

        return counted


def test_the_work_of_one_reading_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    looks, finder = Looks(monkeypatch), Finder(work=50_000_000)
    text = " ".join(f"word{n}" for n in range(3000))
    for number in range(50):
        near = [(text[at : at + 900].replace("word1", "wort1"), "") for at in range(0, 18_000, 900)]
        finder.quoted(f"{number} {text}", [*near, (text[5000:5400], "exact")])
    assert 0 < looks.cells <= 4 * 50_000_000
    assert finder.place("word7 word8", text) is None
    assert finder.hurried


def test_what_stands_there_word_for_word_is_found_before_the_work_is_spent() -> None:
    text = " ".join(f"word{n}" for n in range(3000))
    near = [(text[at : at + 900].replace("word1", "wort1"), "near") for at in range(0, 9000, 30)]
    found = Finder(work=30_000_000).quoted(text, [*near, ("word2990 word2991", "exact")])
    assert Piece("quote", "word2990 word2991", "exact") in found


def test_a_tired_reading_replaces_as_a_whole_and_loses_nothing() -> None:
    before, after = "one two three", "one 2 three"
    assert Finder(work=0).changes(before, after) == [Piece("gone", before), Piece("new", after)]
    assert Finder(work=0).changes(before, before) == [Piece("same", before)]
    long = "a b " * LONGEST
    assert without("gone", Finder().changes("x", long)) == long
