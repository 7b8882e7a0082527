"""What changed between two texts, and where a quote stands."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.changes import LONGEST, MOST, Piece, changes, located
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
    place = located(quote, source)
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
    place = located(quote, source)
    assert place is None or stands(quote, source[slice(*place)])


def test_a_near_quote_is_looked_for_in_texts_of_a_common_length_only() -> None:
    near, source = "the river flows to the seas", "Here the river flows to the sea."
    place = located(near, source)
    assert place is not None
    assert "river flows" in source[slice(*place)]
    assert located(near, source + "x" * LONGEST) is None
