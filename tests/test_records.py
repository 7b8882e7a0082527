"""Records: hashes of content, closed and frozen models, the order that keep-best uses."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agentloop.records import (
    Attempt,
    Candidate,
    CheckResult,
    Critique,
    Grade,
    Item,
    Json,
    Mark,
    Seed,
    Usage,
    Verdict,
    canonical,
    digest,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
LEAVES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT
VALUES = st.recursive(LEAVES, lambda v: st.lists(v) | st.dictionaries(TEXT, v), max_leaves=4)
FIELDS = st.dictionaries(TEXT, VALUES, max_size=4)


class QA(Candidate):
    question: str
    answer: str
    quote: str = ""


def shuffled(value: Any) -> Any:
    """Return the value with all its keys in another order."""
    if isinstance(value, dict):
        items = list(value.items())
        random.Random(len(items)).shuffle(items)
        return {key: shuffled(inner) for key, inner in reversed(items)}
    return [shuffled(inner) for inner in value] if isinstance(value, list) else value


def grade(score: float) -> Grade:
    mark = Mark(criterion="good", level="yes", value=score, how="written")
    return Grade(marks=(mark,), score=score, rubric="r", model="m")


@given(FIELDS)
def test_a_seeds_name_depends_on_its_content_alone(fields: Json) -> None:
    assert Seed.of(fields).id == Seed.of(shuffled(fields)).id
    assert len(Seed.of(fields).id) == 16


@given(FIELDS, FIELDS)
def test_different_seeds_have_different_names(one: Json, other: Json) -> None:
    assert (Seed.of(one).id == Seed.of(other).id) == (canonical(one) == canonical(other))


@given(VALUES)
def test_canonical_json_reads_back(value: Any) -> None:
    assert json.loads(canonical(value)) == value


@given(st.integers(1, 64))
def test_a_digest_is_as_long_as_asked(size: int) -> None:
    assert len(digest("text", size)) == 2 * size


@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan"), float("inf")])
def test_a_marks_value_lies_between_0_and_1(value: float) -> None:
    with pytest.raises(ValidationError):
        Mark(criterion="c", level="l", value=value, how="written")


def test_records_are_frozen_and_closed() -> None:
    usage = Usage(prompt_tokens=1)
    with pytest.raises(ValidationError):
        usage.prompt_tokens = 2
    with pytest.raises(ValidationError):
        Usage.model_validate({"promt_tokens": 1})


def test_a_grade_finds_its_mark_by_name() -> None:
    assert grade(1.0).mark("good").level == "yes"
    with pytest.raises(KeyError):
        grade(1.0).mark("bad")


def test_a_candidate_is_a_conversation_of_its_first_two_fields() -> None:
    candidate = QA(question="Why?", answer="So.", quote="ignored")
    assert candidate.conversation({}) == [("user", "Why?"), ("assistant", "So.")]
    assert candidate.messages({})[1] == {"role": "assistant", "content": "So."}


def test_keep_best_puts_acceptance_before_checks_before_the_score() -> None:
    bad = CheckResult(name="length", passed=False)
    good = CheckResult(name="quote", passed=True)
    attempts = [
        Attempt(round=0, candidate={}, checks=(bad, bad)),
        Attempt(round=1, candidate={}, checks=(bad, good)),
        Attempt(round=2, candidate={}),
        Attempt(round=3, candidate={}, grade=grade(0.0)),
        Attempt(round=4, candidate={}, grade=grade(0.9)),
        Attempt(round=5, candidate={}, checks=(bad,), grade=grade(0.1), accepted=True),
    ]
    ranks = [a.rank for a in attempts]
    assert ranks == sorted(set(ranks))


def test_a_critique_without_marks_and_checks_is_empty() -> None:
    assert not Critique().evidence
    assert Critique(checks=({"name": "length", "evidence": "x"},)).evidence == {("length", "x")}


@pytest.mark.parametrize(("round", "kept"), [(1, {"q": "b"}), (0, {"q": "a"}), (None, None)])
def test_an_item_shows_the_attempt_that_its_verdict_names(round: int | None, kept: Json) -> None:
    attempts = (Attempt(round=0, candidate={"q": "a"}), Attempt(round=1, candidate={"q": "b"}))
    verdict = Verdict(verdict="rejected", round=round)
    seed = Seed.of({"passage": "p"})
    item = Item(run="r", id="i", seed=seed, inputs={}, attempts=attempts, verdict=verdict)
    assert item.candidate == kept


def test_an_item_on_its_way_has_no_candidate() -> None:
    item = Item(run="r", id="i", seed=Seed.of({}), inputs={})
    assert item.best is None
    assert item.candidate is None
