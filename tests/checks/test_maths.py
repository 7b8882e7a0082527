"""Final answers: found, read exactly, compared; and algebra in a process that can be killed."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import threading
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.checks import Finding
from agentloop.checks.answers import Answer, final_answer
from agentloop.checks.maths import maths_equals, number_equals
from agentloop.errors import UserError

SHARED = Path(
    os.environ.get("AGENTLOOP_SHARED") or Path(__file__).resolve().parents[2].parent / "shared"
)
GSM8K = SHARED / "data" / "gsm8k" / "test.jsonl"


def value(text: str) -> Fraction | None:
    found = final_answer(text)
    return found and found.value * found.factor


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("She has 3.\n#### 72", "72"),
        ("#### 70,000", "70000"),
        ("#### $5 per day", "5"),
        ("#### 5 + 3 = 8", "8"),
        (r"so $\boxed{72}$ of 100", "72"),
        (r"\boxed{\frac{3}{4}}", "3/4"),
        (r"\boxed{-\dfrac{3}{4}}", "-3/4"),
        (r"\boxed{- 3}", "-3"),
        (r"\boxed{1{,}234}", "1234"),
        (r"\boxed{1\,234}", "1234"),
        (r"\boxed{72 \text{ clips in 2 days}}", "72"),
        (r"\boxed{x = 5}", "5"),
        (r"\boxed{1.2 \times 10^{5}}", "120000"),
        ("The answer is $1,234.50.", "1234.5"),
        ("The answer is 5 + 3 = 8 apples for 2", "8"),
        ("The answer is 72 clips in 2 days", "72"),
        ("**Answer:** 7\nThat was 3 steps.", "7"),
        ("Answer:\n\n 7 then 8", "7"),
        ("16 - 3 = <<16-3=13>>13\nA: 26", "26"),
        ("16 - 3 = 13", "13"),
        ("between 10-12", "12"),
        ("it is −5", "-5"),
        ("= -$5", "-5"),
        ("$-5", "-5"),
        ("1.2e5", "120000"),
        ("1.2 × 10^5", "120000"),
        ("1e-3", "1/1000"),
        ("25%", "1/4"),
        ("1.5 million", "1500000"),
        ("2½", "5/2"),
        ("2 1/2", "5/2"),
        (".50", "1/2"),
        ("first 3, then #### 4, then #### 5", "5"),
        ("#### 5\nThe answer is clear.", "5"),
    ],
)
def test_the_final_number_of_a_solution(text: str, number: str) -> None:
    assert value(text) == Fraction(number)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "none",
        "It is 5.\n#### unknown",
        r"\boxed{2\sqrt{3}}",
        r"\boxed{3, 4}",
        r"\boxed{2 x}",
        r"\boxed{12",
        "10^2",
        "1/0",
        "x2",
        "9" * 500,
    ],
)
def test_what_is_no_single_number_is_none(text: str) -> None:
    assert value(text) is None


FRACTIONS = st.fractions(-(10**9), 10**9, max_denominator=10**6)
DECIMALS = st.decimals(-(10**12), 10**12, places=4)
FORMS = (
    "#### {}",
    r"so \boxed{{{}}}",
    "The answer is {}.",
    "2 and 3 make {}",
    "A: {}",
    "Answer: **{}**",
)


@given(FRACTIONS, st.sampled_from(FORMS))
def test_a_fraction_comes_back_exactly(number: Fraction, form: str) -> None:
    assert value(form.format(number)) == number


@given(DECIMALS, st.sampled_from(FORMS), st.sampled_from(["{}", "{:,}", "${:,}", "{:e}"]))
def test_a_decimal_comes_back_exactly(number: object, form: str, writing: str) -> None:
    assert value(form.format(writing.format(number))) == Fraction(str(number))


@given(DECIMALS, st.sampled_from(FORMS))
def test_another_number_is_never_the_same(number: object, form: str) -> None:
    given = final_answer(form.format(number))
    assert given is not None
    assert not given.same(Answer(Fraction(str(number)) + Fraction(1, 10**4)))


@given(st.text())
def test_any_text_gets_an_answer_or_none(text: str) -> None:
    final_answer(text)


def test_percent_and_scales_equal_what_they_mean_or_what_was_asked_in_them() -> None:
    percent, quarter, million = (
        Answer(Fraction(25), Fraction(1, 100)),
        Answer(Fraction(1, 4)),
        10**6,
    )
    assert percent.same(quarter)
    assert percent.same(Answer(Fraction(25)))
    assert Answer(Fraction(25)).same(percent)
    assert not percent.same(Answer(Fraction(1, 4), Fraction(1, 100)))
    assert not percent.same(Answer(Fraction(25), Fraction(million)))
    assert Answer(Fraction(3), Fraction(million)).same(Answer(Fraction(3 * million)))


def number(text: str, right: str = "so 9*8\n#### 72") -> Finding:
    return number_equals("solution", "answer").run({"solution": text}, {"answer": right})


def test_number_equals_tells_what_is_wrong_but_not_what_is_right() -> None:
    assert number("It is 72.0").passed
    assert number("It is 70").evidence == ("`solution` comes to 70, which is not the right answer")
    assert number("none").evidence == (
        "`solution` gives no single final number: it must end as in `#### 42`"
    )
    assert number("5", right="five").evidence == (
        "the seed's `answer` gives no final number: nothing can equal it"
    )
    assert not number_equals("solution", "answer").run({}, {}).passed
    assert len(number("7" * 300).evidence) < 120


HOSTILE = (
    "a",
    "1",
    "@",
    "1 ",
    "1/",
    "#### ",
    r"\boxed{",
    "answer is ",
    "1 1/1 ",
    "<<",
    "$-",
    "A:\n",
)


@pytest.mark.parametrize("piece", HOSTILE)
def test_a_million_hostile_characters_are_read_once(piece: str) -> None:
    assert not number(piece * (10**6 // len(piece))).passed


@pytest.mark.skipif(not GSM8K.exists(), reason="no GSM8K in the shared data")
def test_gsm8ks_answers_are_read_exactly_and_in_every_writing() -> None:
    rows = [json.loads(line)["answer"] for line in GSM8K.read_text().splitlines()]
    assert len(rows) == 1319
    for answer in rows:
        right = answer.rpartition("#### ")[2].replace(",", "")
        assert value(answer) == Fraction(right)
        for form in FORMS:
            assert number(form.format(f"{int(right):,}.00"), answer).passed
            assert not number(form.format(int(right) + 1), answer).passed


def test_without_the_extra_the_check_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "math_verify", None)
    with pytest.raises(UserError, match=r"pip install 'agentloop-data\[maths\]'"):
        maths_equals("solution", "answer")


needs_extra = pytest.mark.skipif(
    importlib.util.find_spec("math_verify") is None, reason="the maths extra is not installed"
)


def maths(text: str, right: str, seconds: float = 60.0) -> Finding:
    check = maths_equals("solution", "answer", seconds=seconds)
    return check.run({"solution": text}, {"answer": right})


@needs_extra
@pytest.mark.parametrize(
    ("text", "right", "ok"),
    [
        (r"so \boxed{(x+1)^2}", "$x^2+2x+1$", True),
        ("1+x^2", "x^2+1", True),
        ("1-x^2", "x^2+1", False),
        (r"\frac{1}{\sqrt{3}}", r"\frac{\sqrt{3}}{3}", True),
        ("The answer is 0.5", "1/2", True),
        ("So it is\n#### 72", "9*8\n#### 72", True),
        (r"$(-\infty, 2)$", r"$(-\infty, 2]$", False),
        ("$2 < x$", r"$(2, \infty)$", False),
        (r"$(2, \infty)$", "$2 < x$", True),
    ],
)
def test_expressions_are_compared_by_their_mathematics(text: str, right: str, ok: bool) -> None:
    found = maths(text, right)
    assert found.passed is ok
    assert ok or found.evidence == "the final answer of `solution` does not equal the right one"


@needs_extra
def test_what_holds_no_expression_fails_and_says_whose_it_is() -> None:
    assert "`solution` gives no expression" in maths("it has no answer", "5").evidence
    assert "the seed's `answer` gives no expression" in maths("5", "it has none").evidence


@needs_extra
def test_a_comparison_that_hangs_is_killed_and_the_next_one_works() -> None:
    found = maths("$9^{9^{9^{9}}}$", "5", seconds=0.5)
    assert found.evidence == (
        "`solution` could not be compared with the right answer within 0.5 s: "
        "give the final answer in its simplest form"
    )
    assert maths("5", "5").passed


@needs_extra
def test_threads_may_compare() -> None:
    found: list[Finding] = []
    threads = [
        threading.Thread(target=lambda n=n: found.append(maths(f"{n}/7", f"{2 * n}/14")))
        for n in range(1, 6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.passed for one in found] == [True] * 5
