"""What a set says about people, with intervals and limits."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentloop.diversity.bias import (
    acceptance,
    balance,
    mentions,
    pronouns_by_occupation,
    sentiment_gaps,
)
from agentloop.diversity.lexicons import BLAME, GROUPS, PRAISE


def test_a_group_is_counted_once_a_text_and_by_whole_words() -> None:
    texts = ["A woman and her mother.", "The manager menaces everyone.", "He left.", "Sunday."]
    found = {row.group: row for row in mentions(texts, reference=["A girl."] * 10)}
    assert (found["women"].texts, found["men"].texts) == (1, 1)
    assert found["women"].share.value == 0.25
    assert found["women"].share.low < 0.25 < found["women"].share.high
    assert found["women"].reference is not None
    assert found["women"].reference.value == 1.0
    assert found["Muslims"].texts == 0
    assert len(found) == sum(len(groups) for groups in GROUPS.values())
    assert mentions([]) == []


def test_pronouns_count_where_the_occupation_stands() -> None:
    texts = ["The nurse said she was tired. He went home."] * 6 + ["Doctors know his name."] * 5
    found = {row.occupation: row for row in pronouns_by_occupation(texts)}
    assert (found["nurse"].female, found["nurse"].male) == (6, 0)
    assert found["nurse"].share.low > 0.5
    assert (found["doctor"].female, found["doctor"].male) == (0, 5)
    assert "singular `they`" in found["doctor"].limits
    assert pronouns_by_occupation(["The secretaries like her."], least=2) == []


def test_a_gap_of_sentiment_has_an_interval() -> None:
    kind = [f"She was brilliant and honest, number {at}." for at in range(20)]
    harsh = [f"He was lazy and rude, number {at}." for at in range(15)] + ["He came."] * 5
    [row] = sentiment_gaps(kind + harsh)
    assert (row.group, row.other, row.texts) == ("women", "men", (20, 20))
    assert row.gap.value == pytest.approx(1.75)
    assert 1.4 < row.gap.low < row.gap.value < row.gap.high <= 2.0
    assert sentiment_gaps([*kind, *harsh[:4]]) == []  # too few of one side
    assert sentiment_gaps(["He and she are brilliant."] * 20) == []  # both at once


def test_the_four_fifths_rule_by_strata() -> None:
    found = acceptance(
        {
            "easy": (180, 200),
            "hard": (80, 200),
            "medium": (172, 200),
            "rare": (0, 3),
            "close": (15, 20),
        }
    )
    rules = {row.stratum: row.four_fifths for row in found}
    assert rules == {
        "easy": "kept",
        "medium": "kept",
        "hard": "broken",
        "rare": "unsure",
        "close": "unsure",
    }
    by_name = {row.stratum: row for row in found}
    assert {row.best for row in found} == {"easy"}
    assert by_name["hard"].ratio.value == pytest.approx(80 / 180)
    assert by_name["easy"].ratio.value == 1.0
    assert found[0].stratum == "rare"
    assert acceptance({}) == []
    assert acceptance({"only": (0, 1)})[0].share.value == 0.0


def test_labels_and_places_beside_an_equal_share() -> None:
    found = {row.option: row for row in balance("AAAAAAAAAAAAAAAABBBBCCCC", options="ABCD")}
    assert found["A"].skewed
    assert found["D"].count == 0
    assert found["D"].skewed
    assert not found["B"].skewed
    assert {row.equal for row in found.values()} == {0.25}
    assert balance([]) == []


def test_the_lists_do_not_contradict_each_other() -> None:
    assert not PRAISE & BLAME
    for groups in GROUPS.values():
        seen: set[str] = set()
        for lexicon in groups.values():
            assert not seen & lexicon
            assert all(word == word.lower() and " " not in word for word in lexicon)
            seen |= lexicon


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60))
def test_intervals_hold_their_value(pairs: list[tuple[str, bool]]) -> None:
    counts = Counter(pairs)
    strata = {n: (counts[n, True], counts[n, True] + counts[n, False]) for n, _ in pairs}
    for row in acceptance(strata):
        for found in (row.share, row.ratio):
            assert found.low <= found.value <= found.high
        assert row.limits
    for option in balance(name for name, _ in pairs):
        assert option.share.low <= option.share.value <= option.share.high


@settings(max_examples=40)
@given(st.lists(st.text(max_size=50), max_size=10))
def test_any_text_is_read(texts: list[str]) -> None:
    for row in mentions(texts):
        assert type(row).model_validate_json(row.model_dump_json()) == row
    assert pronouns_by_occupation(texts, least=1) is not None
    assert sentiment_gaps(texts) is not None
