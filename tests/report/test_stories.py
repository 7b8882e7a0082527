"""The items that are told whole: nothing is lost of short ones, long ones are bounded."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.records import Attempt, Critique, Grade, Item, Mark, Seed, Verdict
from agentloop.report.stories import ATTEMPTS, ITEM, WORK, told
from agentloop.store.figures import Chosen
from tests.test_changes import Looks

WHY = Chosen("1a2b", "threshold", 0.01, None)


def grade(*quotes: str, reason: str = "") -> Grade:
    marks = tuple(
        Mark(criterion=f"c{n}", level="yes", value=1, how="written", quote=quote, reason=reason)
        for n, quote in enumerate(quotes)
    )
    return Grade(marks=marks, score=0.5, rubric="r", model="m")


def item(seed: str, *attempts: Attempt, kept: int = 0) -> Item:
    return Item(
        run="r",
        id="1a2b",
        seed=Seed(id="s", fields={"passage": seed}),
        inputs={},
        attempts=attempts,
        verdict=Verdict(verdict="accepted", round=kept, score=0.5),
    )


def shown(given: Item) -> dict[str, Any]:
    return told(given, WHY, 0.5, {})


words = st.lists(st.text(max_size=9), max_size=30).map(" ".join)


@given(words, st.lists(words, max_size=4))
def test_a_short_source_is_whole_whatever_is_quoted(source: str, quotes: list[str]) -> None:
    found = shown(item(source, Attempt(round=0, candidate={"a": "b"}, grade=grade(*quotes))))
    ((name, pieces),) = found["seed"]
    assert name == "passage"
    assert "".join(piece.text for piece in pieces) == source
    assert {piece.kind for piece in pieces} <= {"same", "quote"}


@given(words, words)
def test_a_short_revision_holds_both_texts(before: str, after: str) -> None:
    attempts = (
        Attempt(round=0, candidate={"answer": before}),
        Attempt(round=1, parent=0, candidate={"answer": after}),
    )
    ((_, pieces),) = shown(item("x", *attempts, kept=1))["attempts"][1]["fields"]
    assert "".join(p.text for p in pieces if p.kind != "new") == before
    assert "".join(p.text for p in pieces if p.kind != "gone") == after


def test_quotes_that_overlap_are_one_place_with_both_names() -> None:
    source = "The river rises in the mountains and flows into the sea."
    quotes = ("river rises in the mountains", "the mountains and flows")
    found = shown(item(source, Attempt(round=0, candidate={}, grade=grade(*quotes))))
    (quote,) = [piece for piece in found["seed"][0][1] if piece.kind == "quote"]
    assert quote.text == "river rises in the mountains and flows"
    assert quote.about == "c0, c1"


def test_an_item_of_any_size_is_bounded() -> None:
    long = "word " * 200_000
    attempts = [
        Attempt(
            round=n,
            parent=n - 1 if n else None,
            candidate={f"field{k}": f"{n} {long}" for k in range(20)},
            grade=grade(*[long] * 20, reason=long),
            critique=Critique(marks=({"name": "c0", "quote": long, "reason": long},)),
            detail=long,
        )
        for n in range(ATTEMPTS + 3)
    ]
    found = shown(item(long, *attempts, kept=7))
    assert len(found["attempts"]) == ATTEMPTS
    assert found["left_out"] == 3
    assert [a["kept"] for a in found["attempts"]].count(True) == 1
    assert len(str(found)) < 4 * ITEM
    assert any(piece.kind == "cut" for piece in found["seed"][0][1])


def test_side_by_side_drafts_are_no_revisions() -> None:
    attempts = (
        Attempt(round=0, candidate={"a": "one"}),
        Attempt(round=1, candidate={"a": "two"}),
    )
    found = shown(item("x", *attempts))["attempts"]
    assert found[1]["title"] == "Draft 2"
    assert [piece.kind for piece in found[1]["fields"][0][1]] == ["same"]


def test_a_megabyte_of_everything_is_told_in_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Looks(monkeypatch)
    words = [f"word{n}" for n in range(3000)]
    near = [" ".join(words[n : n + 120]).replace("word2", "wort2") for n in range(0, 2000, 100)]
    attempt = Attempt(
        round=0,
        candidate={f"f{k}": f"{k} {' '.join(words)}" for k in range(40)},
        grade=grade(*near),
    )
    told(item(" ".join(words), attempt), WHY, 0.5, {})
    assert looks.cells <= 4 * WORK
