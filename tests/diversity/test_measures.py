"""The figures of a set of texts: by hand on small sets, by their bounds on any."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentloop.diversity.measures import Figures, divergence, measure
from agentloop.diversity.reference import Reference
from agentloop.diversity.words import words
from tests.diversity.writing import prose, templated, with_copies, with_opening

SHARES = [
    *(f"distinct_{n}" for n in (1, 2, 3, 4)),
    *("hapax_share", "self_repetition", "opening_share", "near_copies", "neighbour_similarity"),
    *("tail_coverage", "length_divergence"),
]


def of(*texts: str) -> Figures:
    return measure(texts)


def test_word_figures_by_hand() -> None:
    found = of("a b a c", "A b, d!")
    assert (found.texts, found.tokens) == (2, 7)
    assert found.distinct_1 == pytest.approx(4 / 7)  # a b c d
    assert found.distinct_2 == pytest.approx(4 / 5)  # ab ba ac, ab bd: none across texts
    assert found.distinct_3 == 1.0
    assert found.hapax_share == 0.5  # c, d
    shares = (3 / 7, 2 / 7, 1 / 7, 1 / 7)
    assert found.entropy == pytest.approx(-sum(p * math.log2(p) for p in shares))
    assert found.mean_words == 3.5
    assert found.sd_words == 0.5


def test_a_phrase_repeats_only_across_texts() -> None:
    assert of("a b c d e a b c d e", "f g h i j").self_repetition == 0.0
    assert of("a b c d e", "x a b c d e").self_repetition == pytest.approx(2 / 3)
    assert of("a b c", "a b c").self_repetition is None


def test_openings_are_three_words_and_counted_by_text() -> None:
    found = of("What is the sun?", "what is  THE moon", "Who was she?", "Why?")
    assert found.opening_share == 0.5
    assert next((o.words, o.share) for o in found.openings) == ("what is the", 0.5)
    assert {o.words for o in found.openings} == {"what is the", "who was she", "why"}


def test_vendi_counts_different_texts() -> None:
    apart = ["red green blue", "one two three", "cat dog cow", "north south east"]
    assert of(*apart).vendi == pytest.approx(4.0)
    assert of(*apart, *apart).vendi == pytest.approx(4.0, abs=0.01)
    assert of(*["same words here"] * 5).vendi == pytest.approx(1.0)


def test_near_copies_are_the_later_ones() -> None:
    long = "the old clock on the town hall strikes twelve when everyone has gone to bed at last"
    found = of(long, long.replace("twelve", "one"), "nothing like it at all", "something else")
    assert found.near_copies == 0.25
    assert found.neighbour_similarity is not None
    assert 0.4 < found.neighbour_similarity < 0.6


def test_figures_have_a_budget_and_say_how_much_there_was() -> None:
    texts = prose(400)
    small, whole = measure(texts, budget_tokens=500), measure(texts, budget_tokens=10**6)
    assert small.tokens == 500
    assert whole.tokens == sum(len(words(text)) for text in texts)
    assert small.distinct_1 is not None
    assert whole.distinct_1 is not None
    assert small.distinct_1 > whole.distinct_1
    assert small == measure(texts, budget_tokens=500)
    assert small.mean_words == whole.mean_words


def test_less_text_than_the_budget_is_measured_whole() -> None:
    assert measure(["one two three"], budget_tokens=8000) == measure(["one two three"])
    assert of("one two three").tokens == 3


@pytest.mark.parametrize(
    "poorer",
    [with_copies(prose(200), 0.5), with_opening(prose(200)), templated(prose(200))],
    ids=["copies", "opening", "templated"],
)
def test_every_damage_moves_the_figures_the_way_of_loss(poorer: list[str]) -> None:
    good = measure(prose(200), budget_tokens=2000).model_dump()
    bad = measure(poorer, budget_tokens=2000).model_dump()
    for more in ("compression_ratio", "self_repetition", "neighbour_similarity"):
        assert bad[more] > good[more], more
    for less in ("distinct_2", "entropy", "vendi"):
        assert bad[less] < good[less], less


def test_the_tail_is_of_the_reference() -> None:
    real = prose(300, 1)
    known, other = Reference(real), measure(prose(300, 2), reference=Reference(real))
    itself = measure(real, reference=known)
    poor = measure(real[:10] * 30, reference=known)
    assert itself.tail_coverage is not None
    assert other.tail_coverage is not None
    assert poor.tail_coverage is not None
    assert 1.0 == itself.tail_coverage > other.tail_coverage > poor.tail_coverage
    assert itself.length_divergence == 0.0


def test_strata_beside_a_plan() -> None:
    even = {"easy": 1.0, "hard": 1.0}
    assert measure(["a"], strata={"easy": 5, "hard": 5}, planned=even).strata_divergence == 0.0
    skewed = measure(["a"], strata={"easy": 10}, planned=even).strata_divergence
    assert skewed == pytest.approx(0.3113, abs=1e-4)  # H(3/4, 1/4) − H(1/2, 1/2) / 2
    assert divergence({"a": 1}, {"b": 2}) == pytest.approx(1.0)
    assert divergence({}, even) is None
    assert measure(["a"]).strata_divergence is None


def test_nothing_is_measured_of_nothing() -> None:
    assert measure([]) == Figures(texts=0, tokens=0, sample=0)
    empty = measure(["", " \x00 ", "!?"])
    assert (empty.texts, empty.tokens, empty.entropy, empty.near_copies) == (3, 0, None, 0.0)


def test_other_scripts_and_long_lines_are_read() -> None:
    assert words("最近的车站 is ОК, naïve_été") == [*"最近的车站", "is", "ок", "naïve", "été"]
    found = measure(["x" * 1_000_000, "\ud800 a", "a " * 600_000])
    assert found.tokens <= 8_000
    assert found.mean_words is not None
    assert found.mean_words < 10_000


@settings(max_examples=60)
@given(st.lists(st.text(max_size=60), max_size=12), st.lists(st.text(max_size=60), max_size=6))
def test_any_text_has_figures_within_their_bounds(texts: list[str], real: list[str]) -> None:
    found = measure(texts, budget_tokens=20, reference=Reference(real))
    for name in SHARES:
        value = getattr(found, name)
        assert value is None or -1e-9 <= value <= 1 + 1e-6, name
    assert found.vendi is None or 1 - 1e-6 <= found.vendi <= found.sample + 1e-6
    assert found.tokens <= 20
    assert Figures.model_validate_json(found.model_dump_json()) == found
