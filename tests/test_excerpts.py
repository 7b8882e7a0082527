"""Excerpts: what matters of long texts, harmless and with nothing made up."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from agentloop.excerpts import SHOWN, Part, difference, signed, with_quotes
from agentloop.plain import harmless as written_out

EVIL = "\x1b]0;owned\x07\x1b[31mred\u202egnp.exe\x00\ud800\r\x9b2J\u200b"
TEXTS = st.text(st.sampled_from("ab \n.,«»[-]{+}\x1b\u202e\x00"), max_size=400)


def harmless(text: str) -> bool:
    bad = ("Cc", "Cf", "Cs", "Co")
    return not any(unicodedata.category(c) in bad for c in text if c not in "\n\t")


def test_short_texts_stand_whole() -> None:
    assert difference("the old river", "the new river") == [
        Part("same", "the "),
        Part("gone", "old"),
        Part("new", "new"),
        Part("same", " river"),
    ]
    assert signed(difference("the old river", "the new river")) == "the [-old-]{+new+} river"


def test_a_quote_is_marked_where_it_stands_and_left_out_where_it_does_not() -> None:
    source = "The Elbe rises in the mountains. It flows into the sea."
    parts = with_quotes(source, ["flows into the sea", "no such words here", "The Elbe rises"])
    assert signed(parts) == "«The Elbe rises» in the mountains. It «flows into the sea.»"
    assert with_quotes(source, []) == [Part("same", source)]


def test_quotes_that_overlap_are_marked_once() -> None:
    parts = with_quotes("one two three four", ["one two three", "two three four", "two"])
    assert "".join(text for _, text in parts) == "one two three four"
    assert "".join(text for kind, text in parts if kind == "quote") == "one two three four"


def test_of_a_long_text_what_is_beside_a_change_is_shown() -> None:
    before = f"{'far away ' * 500}near the old thing by and by {'off again ' * 500}"
    said = signed(difference(before, before.replace("old", "new")))
    assert "near the [-old-]{+new+} thing by" in said
    assert len(said) < SHOWN
    assert said.count("…") == 2


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
        assert "…" in signed(parts)


def test_many_small_changes_are_not_all_shown() -> None:
    before = " ".join(f"{n} word" for n in range(1500))
    said = signed(difference(before, before.replace("word", "term")))
    assert len(said) < 30 * SHOWN
    assert said.endswith(" …")


def test_nothing_that_acts_on_a_screen_is_left() -> None:
    assert harmless(signed(difference(f"a {EVIL}", f"b {EVIL} {EVIL}")))
    assert harmless(signed(with_quotes(f"{EVIL} the Elbe rises {EVIL}", ["the Elbe rises"])))


@given(TEXTS, TEXTS)
def test_a_short_difference_is_both_texts(before: str, after: str) -> None:
    before, after = before[: SHOWN // 2], after[: SHOWN // 2]
    parts = difference(before, after)
    assert "".join(text for kind, text in parts if kind != "new") == written_out(before)
    assert "".join(text for kind, text in parts if kind != "gone") == written_out(after)


@given(TEXTS, st.lists(TEXTS, max_size=4))
def test_marking_quotes_changes_no_text(source: str, quotes: list[str]) -> None:
    parts = with_quotes(source, quotes)
    shown = "".join(text for _, text in parts)
    assert harmless(shown)
    assert shown == "".join(text for _, text in with_quotes(source, []))
