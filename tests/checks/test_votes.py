"""Votes: which answers say the same, and what most of them say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.checks.votes import agree, agrees, plurality


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("18", "Answer: 18"),
        ("so 3 * 6 = 18\n#### 18", "The answer is 18."),
        ("$1,200", "1200 dollars"),
        ("3.5", "3.50 hours"),
        ("River Elbe", "the Elbe river"),
        ("Tin.", "It took 3 steps to see it.\n#### tin"),
        ("in 1919 and 1920", "1919 and 1920"),
    ],
)
def test_these_say_the_same(one: str, other: str) -> None:
    assert agree(one, other)
    assert agree(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("18", "19"),
        ("in 1919 and 1920", "1920"),
        ("the North Sea", "the Baltic Sea"),
        ("it is allowed", "it is not allowed"),
        ("yes", "no"),
        ("", ""),
        ("...", "..."),
        ("8 sacks", "sacks"),
    ],
)
def test_these_do_not(one: str, other: str) -> None:
    assert not agree(one, other)
    assert not agree(other, one)


def test_the_largest_group_wins_and_the_earlier_of_two() -> None:
    vote = plurality(["4", "8", "8.0", "80", "Answer: 8"])
    assert (vote.members, vote.share) == ((1, 2, 4), 0.6)
    assert plurality(["1", "2", "2", "1"]).scattered  # no plurality
    assert not plurality(["1", "2", "2", "3"]).scattered


def test_all_none_and_nothing() -> None:
    assert plurality(["8", "8 sacks"]).unanimous
    assert plurality(["1", "2", "3"]).scattered
    empty = plurality([])
    assert (empty.members, empty.share) == ((), 0.0)


def test_a_field_is_held_to_another_one() -> None:
    check = agrees("answer", "voted")
    assert check.run({"answer": "8 sacks", "voted": "8"}, {}).passed
    found = check.run({"answer": "80", "voted": "8"}, {})
    assert not found.passed
    assert "8" not in found.evidence.replace("`answer`", ""), "a reviser would copy it"


@given(st.lists(st.text(), max_size=6))
def test_a_plurality_is_a_group_of_answers_that_agree_with_its_first(answers: list[str]) -> None:
    vote = plurality(answers)
    assert vote.total == len(answers)
    first, *others = [answers[place] for place in vote.members] or [""]
    assert all(agree(first, other) for other in others)
