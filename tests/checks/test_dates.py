"""Dates in texts: how they are read, and when one stands in a source."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.checks.dates import Day, dates
from agentloop.checks.form import dates_stand
from agentloop.checks.numerals import spaced

FULL = ["%Y-%m-%d", "%d %B %Y", "%B %d, %Y", "%d %b. %Y", "%b %d %Y", "%d. %B, %Y", "%Y/%m/%d"]
FULL += ["the %dth of %B, %Y", "%d day of %B %Y", "%d.%m.%Y", "%m/%d/%Y"]
PARTS = ("%Y", "%B %Y", "%b. %Y", "%Y-%m", "%d %B", "%B %d", "%B the %dth")


def readings(text: str) -> list[tuple[Day, ...]]:
    return [date.readings for date in dates(text)]


def stands(said: str, source: str) -> bool:
    return dates_stand("a", "s").run({"a": said}, {"s": source}).passed


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("on 1824-05-03T10:00", [(1824, 5, 3)]),
        ("in 1824-05", [(1824, 5, None)]),
        ("the 3rd of May, 1824", [(1824, 5, 3)]),
        ("MAY 3 1824", [(1824, 5, 3)]),
        ("Sept. 1824", [(1824, 9, None)]),
        ("13.5.1824 and 5/13/1824", [(1824, 5, 13), (1824, 5, 13)]),
        ("3–5 May 1824", [(1824, 5, 3), (1824, 5, 5)]),
        ("May 3 and 5, 1824", [(1824, 5, 3), (1824, 5, 5)]),
        ("3 May to 7 June 1824", [(1824, 5, 3), (1824, 6, 7)]),
        ("May 3-June 5, 1824", [(1824, 5, 3), (1824, 6, 5)]),
        ("3 May. In 7 June 1824", [(None, 5, 3), (1824, 6, 7)]),
        ("May–June 1824", [(1824, 5, None), (1824, 6, None)]),
        ("1887–1889", [(1887, None, None), (1889, None, None)]),
        ("1887-89", [(1887, None, None), (1889, None, None)]),
        ("2024-05-03/2024-05-07", [(2024, 5, 3), (2024, 5, 7)]),
        ("31 December", [(None, 12, 31)]),
        ("up to 5 may attend", []),
        ("Mayor 19", []),
        ("$1500, 1,500, 1500.5, 1990s, 12000, 1500%", []),
        ("May 45", []),
        ("at May 3:30", []),
        ("99/99/2024", [(2024, None, None)]),
    ],
)
def test_the_dates_that_a_text_gives(text: str, days: list[Day]) -> None:
    assert readings(text) == [(day,) for day in days]


def test_figures_that_may_be_two_days_are_read_as_either() -> None:
    assert readings("5/3/1824") == [((1824, 3, 5), (1824, 5, 3))]
    assert readings("1905-06") == [((1905, 6, None), (1906, None, None))]
    assert stands("on 5/3/1824", "on March 5, 1824")
    assert stands("on March 5, 1824", "on 5/3/1824")
    assert not stands("on 5/3/1824", "on 5 April 1824")


DAYS = st.dates(datetime.date(1000, 1, 1), datetime.date(2099, 12, 31))


@given(DAYS, st.sampled_from(FULL), st.sampled_from(FULL))
def test_a_day_stands_in_every_writing_of_it_and_not_in_the_next_one(
    day: datetime.date, form: str, other: str
) -> None:
    said, source = f"It was on {day.strftime(form)}.", f"So ({day.strftime(other)}) it was"
    assert (day.year, day.month, day.day) in dates(said)[0].readings
    assert stands(said, source)
    if day.day > 14 and day.day < 28:
        assert not stands(said, (day + datetime.timedelta(1)).strftime(other))


@given(DAYS, st.sampled_from(PARTS), st.sampled_from(FULL))
def test_a_partial_date_stands_in_a_fuller_one_and_not_the_other_way(
    day: datetime.date, part: str, form: str
) -> None:
    assert stands(day.strftime(part), day.strftime(form))
    assert not stands(day.strftime(form), day.strftime(part))


@given(st.text())
def test_places_are_those_of_the_spaced_text(text: str) -> None:
    assert all(spaced(text)[d.start : d.end].strip() == d.text for d in dates(text))


def test_evidence_names_the_first_date_and_the_share() -> None:
    found = dates_stand("a", "s").run({"a": "From May 1824 to 7 June 1830"}, {"s": "3 May 1824"})
    assert found.evidence == "`a` gives the date 7 June 1830, which the s does not"
    assert found.fraction == 0.5
    assert stands("no date", "")
    assert not stands("in 1824", "")


@pytest.mark.parametrize(
    "piece", ["a", "1", "@", "1 ", "may ", "may-", "1-", "1824-", "3 may ", "\ud800"]
)
def test_long_hostile_texts_are_read_once(piece: str) -> None:
    text = piece * (100_000 // len(piece))
    assert stands(text, text)
