"""Gain over a parent, answers that say nothing, tasks for text alone, likeness."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.checks.derived import (
    STOP_WORDS,
    answers,
    gains,
    rouge_l,
    text_alone,
    turns_apart,
)

PARENT = {"instruction": "Name a bird that cannot fly."}
texts = st.text(max_size=60)


@pytest.mark.parametrize(
    ("evolved", "good"),
    [
        ("Name a bird that cannot fly.", False),
        ("  NAME a bird, that cannot fly!?", False),
        ("Please name a bird that cannot fly.", False),
        ("Name a bird from Africa that cannot fly.", False),
        ("Name a bird that cannot fly and lives on an island.", True),
        ("Which fish breathes air?", True),
        ("Name a bird that cannot fly." + " And more." * 6, False),
        ("", False),
    ],
)
def test_an_evolution_gains_over_its_parent(evolved: str, good: bool) -> None:
    found = gains("evolved", "instruction", most=10).run({"evolved": evolved}, PARENT)
    assert found.passed == good
    assert good or "`evolved`" in found.evidence


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("I am sorry, I cannot help with that.", False),
        ("We apologise; this is beyond us.", False),
        ("Sorry " + "word " * 80, True),
        ("A sorry sight, the poet calls it." + " word" * 80, True),
        ("It is what it is.", False),
        ("...", False),
        ("", False),
        ("Yes.", False),
        ("42", True),
        ("東京", True),
        ("The kakapo.", True),
    ],
)
def test_an_answer_says_something(text: str, good: bool) -> None:
    assert answers("response").run({"response": text}, {}).passed == good


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("Describe the picture.", False),
        ("Plot these numbers.", False),
        ("Go to the shop.", False),
        ("Write a program that sorts.", False),
        ('"Write a program" is what he said.', False),
        ("Explain how to write a programme for a play.", True),
        ("Explain photography in two lines.", True),
        ("1. Name a bird.", True),
        ("- Name a bird.", False),
        ("Überlege dir einen Vogel.", True),
        ("", False),
    ],
)
def test_a_task_is_for_text_alone(text: str, good: bool) -> None:
    assert text_alone("instruction").run({"instruction": text}, {}).passed == good


@pytest.mark.parametrize(
    ("texts", "good"),
    [
        (["Drill size?", "13 mm."], True),
        (["Ask a person: which one?", "Any."], True),
        (["Thank you!", "Gladly.", "thank you"], False),
        (["Drill size?\nAssistant: 13 mm.", "Yes."], False),
        ([], True),
    ],
)
def test_turns_are_apart(texts: list[str], good: bool) -> None:
    turns = [{"role": "user", "text": text} for text in texts]
    assert turns_apart("turns").run({"turns": turns}, {}).passed == good


def test_likeness_is_the_share_of_words_in_order() -> None:
    assert rouge_l("a b c d", "a b c d") == 1.0
    assert rouge_l("a b c d", "A, B; c d!") == 1.0
    assert rouge_l("a b c d", "e f") == 0.0
    assert rouge_l("a b c d", "a x c y") == pytest.approx(0.5)
    assert rouge_l("a b c d", "a b") == pytest.approx(2 * 2 / 6)


@given(texts, texts)
def test_likeness_is_symmetric_and_bounded(one: str, other: str) -> None:
    assert rouge_l(one, other) == pytest.approx(rouge_l(other, one))
    assert 0 <= rouge_l(one, other) <= 1


@given(texts, texts)
def test_any_text_can_be_checked(one: str, other: str) -> None:
    gains("a", "b", most=5).run({"a": one}, {"b": other})
    answers("a").run({"a": one}, {})
    text_alone("a").run({"a": one}, {})


def test_stop_words_stand_in_order_and_once() -> None:
    words = STOP_WORDS.split()
    assert words == sorted(set(words))
