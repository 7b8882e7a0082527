"""Numbers in texts: how they are read, and when one stands in a source."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.checks.form import dates_stand, numbers_stand
from agentloop.checks.numerals import numerals, spaced

SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
)
TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety"


def spelled(number: int, joint: str = " ") -> str:
    """Say a number below 10^15 in English."""
    if number < 20:
        return SMALL.split()[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return TENS.split()[tens] + (f"-{spelled(ones)}" if ones else "")
    for scale, word in (
        (10**12, "trillion"),
        (10**9, "billion"),
        (10**6, "million"),
        (1000, "thousand"),
        (100, "hundred"),
    ):
        many, rest = divmod(number, scale)
        if many:
            said = f"{spelled(many, joint)} {word}"
            return said + (f"{joint if rest < 100 else ' '}{spelled(rest, joint)}" if rest else "")
    raise AssertionError(number)


def claimed(text: str) -> set[str]:
    return {number.value for number in numerals(text) if number.claimed}


def stands(said: str, source: str) -> bool:
    return numbers_stand("a", "s").run({"a": said}, {"s": source}).passed


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1,000 or 1000", {"1000"}),
        ("2,500,000.75 euros", {"2500000.75"}),
        ("2.500.000,75 Euro", {"2500000.75"}),
        ("3.14, then 2.", {"3.14", "2"}),
        ("3,5 Prozent", {"3.5"}),
        ("0,125", {"0.125"}),
        ("3.50 and 007", {"3.5", "7"}),
        ("from 1887 to 1889", {"1887", "1889"}),
        ("none at all", set()),
        ("x² and 2", {"2"}),
        ("10² and 2½", {"10", "2", "1"}),
        ("10\u202f100 tonnes", {"10100"}),
        ("25%, $1,234.50, €3m", {"25", "1234.5", "3000000"}),
        ("2.5 million of 12 hundred", {"2500000", "1200"}),
        ("330m tall, 5kg", {"330000000", "5"}),
        ("chapter 1.2.3", {"1.2.3"}),
        ("id 3f2a and x86", set()),
        ("the 19th of the 1920s in 3D", set()),
        ("twenty-five of a hundred and five", {"25", "105"}),
        ("nineteen eighty-four", {"1984"}),
        ("nineteen hundred and five", {"1905"}),
        ("one of two, a dozen, one hundred percent", set()),
        ("the twenty-fifth", set()),
        ("１２ full width", {"12"}),
    ],
)
def test_the_figures_that_a_text_gives(text: str, values: set[str]) -> None:
    assert claimed(text) == values


@given(st.integers(0, 10**12))
def test_a_number_reads_the_same_with_and_without_separators(number: int) -> None:
    assert claimed(f"about {number:,} times") == claimed(f"about {number} times") == {str(number)}


@given(st.integers(0, 10**15 - 1), st.sampled_from([" ", " and "]))
def test_a_number_reads_the_same_in_words(number: int, joint: str) -> None:
    assert [found.value for found in numerals(f"so {spelled(number, joint)}.")] == [str(number)]
    assert stands(f"{number:,}", f"There were {spelled(number, joint).upper()} of them.")


@given(st.decimals(0, 10**9, places=3), st.sampled_from(["thousand", "million", "billion"]))
def test_a_scale_moves_the_point(number: object, scale: str) -> None:
    zeros = {"thousand": 3, "million": 6, "billion": 9}[scale]
    digits = str(number).replace(".", "") + "0" * (zeros - 3)
    assert claimed(f"{number} {scale}") == {digits.lstrip("0") or "0"}


@given(st.text())
def test_places_are_those_of_the_spaced_text(text: str) -> None:
    plain = spaced(text)
    assert spaced(plain) == plain
    assert all(plain[n.start : n.end] == n.text for n in numerals(text))


@pytest.mark.parametrize(
    ("said", "source", "ok"),
    [
        ("25 men", "twenty-five men", True),
        ("25 men", "the 25th man", True),
        ("25 percent", "25%", True),
        ("25 men", "twenty men and five boys", False),
        ("twenty-five men", "25 men", True),
        ("twenty-five men", "26 men", False),
        ("one of two men", "some men", True),
        ("330 metres", "330m tall", True),
        ("450m tall", "330m tall", False),
        ("2.5 million", "2,500,000", True),
        ("2,500,000", "2.5 million", True),
        ("2.5 million", "€2.5m", True),
        ("2.5 million", "in millions: 2.5", True),
        ("2.5 million", "2.5 billion", False),
        ("10,100", "10\u00a0100", True),
        ("in the 19th century", "in 1854", True),
        ("on 3 May 1824", "on 1824-05-03", True),
        ("on 1824-05-03", "on the 3rd of May 1824", True),
        ("on 1824-05-04", "on the 3rd of May 1824", False),
        ("in 1889", "from 1887-89", True),
        ("on 1824-05-03 with 5 men, in May", "on 3 May 1824", False),
        ("with 5 men on 1824-05-03", "on 3 May 1824", False),
    ],
)
def test_a_number_stands_however_the_source_writes_it(said: str, source: str, ok: bool) -> None:
    assert stands(said, source) is ok


PIECES = st.sampled_from(
    [
        "3",
        "25",
        "1824",
        " ",
        "-",
        ",",
        ".",
        "%",
        "twenty",
        "five",
        "hundred",
        "million",
        "and",
        "th",
        "s",
    ]
    + ["May", "may ", "to", "/", "½", "m", "$", "\n", "x"]
)


@given(st.lists(PIECES, max_size=30))
def test_every_text_stands_in_itself_and_in_a_longer_one(pieces: list[str]) -> None:
    text = "".join(pieces)
    assert stands(text, text)
    assert dates_stand("a", "s").run({"a": text}, {"s": f"So: {text} (it says)"}).passed


def test_evidence_shows_the_first_number_as_written_and_only_its_beginning() -> None:
    check = numbers_stand("a", "s")
    found = check.run({"a": "2.5 billion of 7,000 in 1900"}, {"s": "1900"})
    assert found.evidence == "`a` gives 2.5 billion, which the s does not"
    assert found.fraction == pytest.approx(1 / 3)
    assert len(check.run({"a": "9" * 10**6}, {"s": "1"}).evidence) < 120


HOSTILE = ("a", "1", "@", "1.", "1,", "1.1x", "one and ", "one ", "\0", "\ud800", "1\u00a0111", "½")


@pytest.mark.parametrize("piece", HOSTILE)
def test_long_hostile_texts_are_read_once(piece: str) -> None:
    text = piece * (100_000 // len(piece))
    assert stands(text, text)


def test_many_strange_numbers_and_dates_are_looked_up_once() -> None:
    text = " ".join(f"{number % 28 + 1} May {1000 + number % 1000}" for number in range(20_000))
    assert not stands(text, "3 June")
    assert not dates_stand("a", "s").run({"a": text}, {"s": "3 June"}).passed
