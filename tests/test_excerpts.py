"""Excerpts: what matters of long texts, harmless and with nothing made up."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from agentloop.changes import Finder, Piece
from agentloop.excerpts import FIELDS, PAGE, REPORT, TERMINAL, Room, on_a_terminal, signed, texts
from agentloop.plain import harmless as written_out

EVIL = "\x1b]0;owned\x07\x1b[31mred\u202egnp.exe\x00\ud800\r\x9b2J\u200b"
TEXTS = st.text(st.sampled_from("ab \n.,«»[-]{+}\x1b\u202e\x00"), max_size=400)
SHOWN = TERMINAL.whole


def difference(before: str, after: str) -> list[Piece]:
    return on_a_terminal(Finder().changes(before, after))


def with_quotes(text: str, quotes: list[str]) -> list[Piece]:
    return on_a_terminal(Finder().quoted(text, [(quote, "") for quote in quotes]))


def harmless(text: str) -> bool:
    bad = ("Cc", "Cf", "Cs", "Co")
    return not any(unicodedata.category(c) in bad for c in text if c not in "\n\t")


def test_short_texts_stand_whole() -> None:
    assert difference("the old river", "the new river") == [
        Piece("same", "the "), Piece("gone", "old"), Piece("new", "new"), Piece("same", " river"),
    ]  # fmt: skip
    assert signed(difference("the old river", "the new river")) == "the [-old-]{+new+} river"


def test_a_quote_is_marked_where_it_stands_and_left_out_where_it_does_not() -> None:
    source = "The Elbe rises in the mountains. It flows into the sea."
    parts = with_quotes(source, ["flows into the sea", "no such words here", "The Elbe rises"])
    assert signed(parts) == "«The Elbe rises» in the mountains. It «flows into the sea.»"
    assert with_quotes(source, []) == [Piece("same", source)]


def test_quotes_that_overlap_are_marked_once() -> None:
    parts = with_quotes("one two three four", ["one two three", "two three four", "two"])
    assert parts == [Piece("quote", "one two three four")]


def test_of_a_long_text_what_is_beside_a_change_is_shown() -> None:
    before = f"{'far away ' * 500}near the old thing by and by {'off again ' * 500}"
    said = signed(difference(before, before.replace("old", "new")))
    assert "near the [-old-]{+new+} thing by" in said
    assert len(said) < SHOWN
    assert said.count(" more characters …") == 2


def test_of_a_long_text_what_is_beside_a_quote_is_shown() -> None:
    source = f"{'far away ' * 500}the Elbe rises here {'off again ' * 500}and ends there."
    said = signed(with_quotes(source, ["the Elbe rises here", "and ends there"]))
    assert "far away «the Elbe rises here» off again" in said
    assert "off again «and ends there.»" in said
    assert len(said) < SHOWN


def test_a_megabyte_in_one_line_is_cut() -> None:
    huge = "x" * 1_000_000
    for parts in (
        with_quotes(huge, ["y"]),
        difference(huge, "z" * 1_000_000),
        difference("a b " * 250_000, "b a " * 250_000),
        difference("a\n" * 500_000, "b\n" * 500_000),
        difference(huge, huge),
    ):
        assert len(signed(parts)) <= 4 * SHOWN
        assert "more characters" in signed(parts)


def test_many_small_changes_are_not_all_shown() -> None:
    before = " ".join(f"{n} word" for n in range(1500))
    said = signed(difference(before, before.replace("word", "term")))
    assert len(said) < 30 * SHOWN
    assert said.endswith(" more characters … ")


def test_nothing_that_acts_on_a_screen_is_left() -> None:
    assert harmless(signed(difference(f"a {EVIL}", f"b {EVIL} {EVIL}")))
    assert harmless(signed(with_quotes(f"{EVIL} the Elbe rises {EVIL}", ["the Elbe rises"])))


PIECES = st.lists(
    st.builds(Piece, st.sampled_from(["same", "gone", "new", "quote"]), st.text("ab ", min_size=1)
              .map(lambda text: text * 300)),
    max_size=8,
)  # fmt: skip


@given(PIECES, st.sampled_from([TERMINAL, PAGE, REPORT]), st.integers(0, 30_000))
def test_a_room_holds_no_more_and_says_how_much_is_left_out(
    parts: list[Piece], sizes: object, left: int
) -> None:
    room = Room(left, sizes)  # type: ignore[arg-type]
    shown = room.pieces(parts)
    kept = sum(len(part.text) for part in shown if part.kind != "cut")
    told = [part.text.split()[1].replace(",", "") for part in shown if part.kind == "cut"]
    assert kept <= left
    assert kept + sum(map(int, told)) == sum(len(part.text) for part in parts)
    assert room.text("x" * 99, 50).rstrip("…") == "x" * min(50, left - kept)


def test_of_very_many_fields_the_first_ones_are_told() -> None:
    found = [*texts({f"field {n}": n for n in range(2000)})]
    assert len(found) == FIELDS + 1
    assert found[-1] == ("…", f"{2000 - FIELDS:,} more fields")


@given(TEXTS, TEXTS)
def test_a_short_difference_is_both_texts(before: str, after: str) -> None:
    before, after = before[: SHOWN // 2], after[: SHOWN // 2]
    parts = difference(before, after)
    assert "".join(part.text for part in parts if part.kind != "new") == written_out(before)
    assert "".join(part.text for part in parts if part.kind != "gone") == written_out(after)


@given(TEXTS, st.lists(TEXTS, max_size=4))
def test_marking_quotes_changes_no_text(source: str, quotes: list[str]) -> None:
    shown = "".join(part.text for part in with_quotes(source, quotes))
    assert harmless(shown)
    assert shown == "".join(part.text for part in with_quotes(source, []))
