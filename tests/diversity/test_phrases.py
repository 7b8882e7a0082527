"""What a generator is told to avoid and to serve."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.diversity import phrases
from agentloop.diversity.phrases import Phrases, under_covered
from agentloop.diversity.words import words
from tests.diversity.writing import prose, with_opening


def overused(texts: Iterable[str], known: str = "") -> list[str]:
    counted = Phrases()
    for text in texts:
        counted.add(text, known)
    return counted.overused()


def test_good_text_has_no_overused_phrase() -> None:
    assert overused(prose(300)) == []


def test_a_common_opening_and_phrase_are_named_once_worst_first() -> None:
    texts = with_opening(prose(100), 0.8)
    texts = [f"{t} That is all there is to it." if at % 5 == 0 else t for at, t in enumerate(texts)]
    found = overused(texts)
    assert found[0] in ("sure here is", "sure here is one")
    assert found[1] in ("that is all there is", "is all there is to", "all there is to it")
    assert len(found) == 2  # the shifted 5-grams are the same phrase


def test_a_phrase_of_the_seed_is_not_held_against_the_text() -> None:
    seed = "The lighthouse keeper of Arran counts the ships each night."
    counted = Phrases()
    for text in prose(30):
        counted.add(f"{text} The keeper of Arran counts the ships. Is that not so my friend?", seed)
    found = counted.overused()
    assert "is that not so my" in found or "that not so my friend" in found
    assert not any(phrase in " ".join(words(seed)) for phrase in found)
    assert overused(["we love the old blue boat"] * 5, known="We love the old, blue boat!") == []


def test_few_texts_prove_nothing() -> None:
    assert overused(["the very same words again"] * 2) == []
    assert overused(["the very same words again"] * 3) != []


def test_memory_is_bounded_and_the_frequent_survives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phrases, "ROOM", 1_000)
    counted = Phrases()
    for text in prose(2_000):
        counted.add(f"as everyone can plainly see {text}")
    assert "as everyone can" in counted.overused()[0]
    assert counted.size <= 1_000


def test_under_covered_strata_worst_first() -> None:
    plan = {"easy": 2.0, "medium": 1.0, "hard": 1.0}
    assert under_covered({"easy": 50, "medium": 25, "hard": 25}, plan) == []
    assert under_covered({"easy": 90, "medium": 10}, plan) == ["hard", "medium"]
    assert under_covered({"easy": 2, "medium": 1}, plan) == []  # not one item short
    assert under_covered({"other": 9}, plan) == []
    assert under_covered({}, {}) == []


@given(st.lists(st.text(max_size=80), max_size=20), st.integers(1, 4))
def test_what_is_overused_stands_in_the_texts(texts: list[str], times: int) -> None:
    spoken = [f" {' '.join(words(text))} " for text in texts]
    for phrase in overused(texts * times):
        assert any(f" {phrase} " in text for text in spoken)
