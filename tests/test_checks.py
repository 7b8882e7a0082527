"""Checks: running them, their hashes, form and quotes."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.checks import Check, Finding, fail, passed, run_checks
from agentloop.checks.form import avoids, length, numbers_stand, quote_stands
from agentloop.checks.quotes import MIN_QUOTE, normalise, stands
from agentloop.records import Json

PASSAGE = (
    "The Eiffel Tower was built from 1887 to 1889. It is 330 metres tall, weighs about "
    "10,100 tonnes and is repainted “every seven years” — by hand."
)


def found(check: Check, candidate: Json, seed: Json | None = None) -> Finding:
    return check.run(candidate, seed or {})


def test_every_check_runs_so_that_a_reviser_sees_all_failures() -> None:
    checks = [
        Check("one", lambda *_: fail("first")),
        Check("two", lambda *_: passed(), veto=False),
        Check("three", lambda *_: fail("third", 0.5)),
    ]
    results = asyncio.run(run_checks(checks, {}, {}))
    assert [(r.name, r.passed, r.evidence) for r in results] == [
        ("one", False, "first"),
        ("two", True, ""),
        ("three", False, "third"),
    ]
    assert [r.veto for r in results] == [True, False, True]
    assert results[2].fraction == 0.5


def _one(candidate: Json, seed: Json) -> Finding:
    return passed()


def _other(candidate: Json, seed: Json) -> Finding:
    return fail("x")


def test_a_checks_hash_follows_its_settings_its_veto_and_its_code() -> None:
    base = Check("c", _one, {"n": 1})
    same, more = Check("renamed", _one, {"n": 1}), Check("c", _one, {"n": 2})
    assert base.hash == same.hash
    assert len({base.hash, more.hash, Check("c", _one, {"n": 1}, veto=False).hash}) == 3
    assert base.hash != Check("c", _other, {"n": 1}).hash


def test_code_that_python_cannot_show_still_has_a_hash() -> None:
    class Callable:
        def __call__(self, candidate: Json, seed: Json) -> Finding:
            return passed()

    assert Check("c", Callable()).hash


@pytest.mark.parametrize(("words", "ok"), [(1, False), (2, True), (4, True), (5, False)])
def test_length_counts_words(words: int, ok: bool) -> None:
    finding = found(length("answer", words=(2, 4)), {"answer": " word\n" * words})
    assert finding.passed is ok
    assert ok or finding.evidence == f"`answer` has {words} words; it needs 2 to 4"


def test_length_of_a_missing_field_is_nothing() -> None:
    assert found(length("answer", words=(1, 9)), {}).evidence.startswith("`answer` has 0 words")


def test_quote_stands_looks_into_the_seed() -> None:
    check = quote_stands("quote", "passage")
    assert check.name == "quote_stands"
    assert found(check, {"quote": "330 metres tall"}, {"passage": PASSAGE}).passed
    wrong = found(check, {"quote": "three hundred metres"}, {"passage": PASSAGE})
    assert wrong.evidence == "`quote` is not copied word for word from the passage"
    assert not found(check, {}, {}).passed


def test_numbers_stand_names_the_first_invented_one_and_the_share() -> None:
    check = numbers_stand("answer", "passage")
    right = {"answer": "In 1889 it weighed 10100 tonnes."}
    assert found(check, right, {"passage": PASSAGE}).passed
    wrong = found(check, {"answer": "In 1889 or 1890."}, {"passage": PASSAGE})
    assert wrong.evidence == "`answer` gives 1890, which the passage does not"
    assert wrong.fraction == 0.5


@pytest.mark.parametrize(
    ("phrase", "text", "ok"),
    [
        ("as an AI", "Well, as an ai model", False),
        ("as an AI", "as an aid to memory", True),
        ("the passage", "In “The  Passage” it says", False),
        ("e.g.", "fruit, e.g. apples", False),
        ("c++", "written in C++ mostly", False),
        ("it's", "It’s said", False),
    ],
)
def test_avoids_compares_whole_words_without_case(phrase: str, text: str, ok: bool) -> None:
    finding = found(avoids("answer", phrases=(phrase,), why="no"), {"answer": text})
    assert finding.passed is ok
    assert ok or "`answer` says" in finding.evidence


def test_avoids_nothing_refuses_nothing() -> None:
    assert found(avoids("answer", phrases=(), why="no"), {"answer": "any words"}).passed


@pytest.mark.parametrize(
    ("quote", "ok"),
    [
        ("It is 330 metres tall", True),
        ("it is  330\nmetres TALL.", True),
        ('"every seven years" - by hand', True),
        ("'It is 330 metres tall'", True),
        ("It is 300 feet tall, weighs", False),
        ("tall, weighs nothing at all", False),
        ("", False),
        ("   ", False),
        ('"..."', False),
        ("1887", False),
        (PASSAGE, True),
        (PASSAGE + " And more words.", False),
    ],
)
def test_a_quote_stands_word_for_word(quote: str, ok: bool) -> None:
    assert stands(quote, PASSAGE) is ok


def test_a_short_source_may_be_quoted_whole() -> None:
    assert stands("Paris", " paris. ")
    assert not stands("Par", "Paris")
    assert not stands("", "")


SOURCES = st.text("abcdefg  ,'\n", min_size=MIN_QUOTE, max_size=200)


@given(SOURCES, st.data())
def test_every_piece_of_a_source_stands_in_it(source: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(source)))
    piece = source[start : data.draw(st.integers(start, len(source)))]
    if len(normalise(piece).strip("\"'. ")) >= MIN_QUOTE:
        assert stands(piece, source)
        assert stands(f"“{piece.upper()}”", source)


@given(st.text("abc ", max_size=60), st.text("xyz ", min_size=1, max_size=60))
def test_other_words_never_stand(source: str, quote: str) -> None:
    assert not stands(quote, source)


@given(st.text(), st.text())
def test_stands_always_answers(quote: str, source: str) -> None:
    assert stands(quote, source) in (True, False)


@pytest.mark.parametrize(
    ("quote", "ok"),
    [
        ("The bell of Arvo was cast in 1642 by Jens Brandt, a founder.", True),
        ("the bell of  Arvo was cast in 1642, by Jens Brandt a founder", True),
        ("The bel of Arvo was cast in 1642 by Jens Brandt, a founder", True),
        ("The bell of Arvo was cast in 1643 by Jens Brandt, a founder.", False),
        ("The bell of Arvo was cast in 1642 by Jens Bruhn, a founder.", False),
        ("The bell of Arvo was not cast in 1642 by Jens Brandt, a founder.", False),
    ],
)
def test_a_quote_may_be_spelled_otherwise_but_names_no_other_year_or_person(
    quote: str, ok: bool
) -> None:
    source = (
        "It rang. The bell of Arvo was cast in 1642 by Jens Brandt, a founder. It cracked soon."
    )
    assert stands(quote, source) is ok
