"""Words of any script, likeness by its definition, signatures that resemble as the texts do."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, example, given

from agentloop.novelty.sketch import (
    BANDS,
    LONGEST,
    NEAR,
    hashed,
    likeness,
    resemblance,
    shingles,
    signature,
    words,
)
from tests.novelty.texts import ANY, TEXTS, jaccard, rouge_l


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Name 3 RIVERS, please!", "name 3 rivers please"),
        ("don't “stop”—it’s 3.5 %", "don t stop it s 3 5"),
        ("ＦＵＬＬ　width ﬁ ①", "full width fi 1"),
        ("Straße STRASSE", "strasse strasse"),
        ("cafe\u0301 café", "café café"),
        ("東京は big です", "東 京 は big で す"),
        ("한국어 문장", "한국어 문장"),
        ("हिन्दी में", "हिन्दी में"),
        ("ไทย", "ไ ท ย"),
        ("a\0b\ud800c\u200dd\n\te", "a b c d e"),
        ("snake_case x=1", "snake case x 1"),
        ("?! … 🙂 \ud800", ""),
        ("", ""),
    ],
)
def test_words_have_no_case_and_no_punctuation(text: str, found: str) -> None:
    assert words(text) == found.split()


@given(ANY)
def test_words_are_themselves_again(text: str) -> None:
    found = words(text)
    assert words(" ".join(found)) == found
    assert all(word and not set(word) & set(" \t\n!,.\0") for word in found)


@pytest.mark.parametrize(
    ("found", "runs"),
    [
        ("a", {("a",)}),
        ("a b", {("a", "b")}),
        ("a b c", {("a", "b", "c")}),
        ("a b c d", {("a", "b", "c"), ("b", "c", "d")}),
    ],
)
def test_shingles_are_runs_of_three_words(found: str, runs: set[tuple[str, ...]]) -> None:
    assert shingles(found.split()) == runs


@given(TEXTS, TEXTS)
@example("a b c d", "c d a b")
@example("a b c", "a b 3")
def test_likeness_is_the_greater_of_both_measures(one: str, other: str) -> None:
    first, second = words(one), words(other)
    assume(first and second)
    rouge, shared = rouge_l(first, second), jaccard(first, second)
    measure, similarity = likeness(first, second)
    if max(rouge, shared) >= NEAR:
        assert similarity == pytest.approx(max(rouge, shared))
        assert (measure == "rouge_l") == (rouge > shared)
    else:
        assert similarity < NEAR


def test_texts_of_many_words_are_compared_by_their_shingles_alone() -> None:
    one = [str(number) for number in range(LONGEST + 1)]
    other = ["x" if number % 4 == 0 else str(number) for number in range(LONGEST + 1)]
    assert likeness(one, other)[0] == "jaccard"
    assert likeness(one, other)[1] < NEAR
    measure, similarity = likeness(one[1:], other[1:])
    assert measure == "rouge_l"
    assert similarity == pytest.approx(0.75)
    assert likeness(one, one) == ("jaccard", 1.0)


def test_a_signature_is_the_same_in_every_process() -> None:
    code = (
        "from agentloop.novelty.sketch import signature\n"
        "print(signature(['the', 'river', '東']).tolist())"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == str(signature(["the", "river", "東"]).tolist())


@given(TEXTS)
def test_a_signature_has_all_its_bands_and_resembles_itself(text: str) -> None:
    found = words(text)
    assume(found)
    mine = signature(found)
    assert mine.shape == (BANDS,)
    assert resemblance(mine, mine[None, :]).tolist() == [1.0]


def test_resemblance_estimates_the_jaccard_of_the_words() -> None:
    base = [f"w{number}" for number in range(60)]
    for kept in (0, 20, 40, 60):
        estimates = []
        for draw in range(30):
            one = [f"{word}-{draw}" for word in base]
            other = one[:kept] + [f"other{number}-{draw}" for number in range(60 - kept)]
            estimates.append(resemblance(signature(one), signature(other)[None, :])[0])
        assert np.mean(estimates) == pytest.approx(kept / (120 - kept), abs=0.04)


def test_a_long_text_is_sketched_in_pieces_as_in_one() -> None:
    found = [f"w{number % 5000}" for number in range(20_000)]
    once = found[:5000]
    assert (signature(found)[:12] == signature(once)[:12]).all()


def test_words_hash_apart() -> None:
    found = [f"word{number}" for number in range(50_000)]
    assert len(np.unique(hashed(found))) == len(found)
    assert hashed([]).size == 0
