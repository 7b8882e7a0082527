"""Likeness: of programs by their shape, of texts by their words; and what was only copied."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.checks.likeness import (
    alike,
    code_likeness,
    is_code,
    likeness_of,
    not_copied,
    text_likeness,
)

CODE = "def area(width, height):\n    return width * height"
TEXT = "The hut on Gray Pass is open from June to September and has 24 beds."


def test_names_notes_and_fences_change_no_likeness() -> None:
    other = "```python\ndef a(x, y):\n    '''Doc.'''\n    # a note\n    return x * y\n```"
    assert code_likeness(other, CODE) == 1.0


@pytest.mark.parametrize(
    "other",
    [
        CODE.replace("*", "+"),
        CODE.replace("width * height", "width * 2"),
        CODE.replace("width * height", "max(width, height)"),
        CODE.replace("width * height", "width.size"),
    ],
)
def test_operators_constants_and_what_is_called_do(other: str) -> None:
    assert 0 < code_likeness(other, CODE) < 1


@pytest.mark.parametrize("other", ["", "def area(", "I cannot write that.", "x" * 50_000])
def test_what_is_no_program_is_like_none(other: str) -> None:
    assert code_likeness(other, CODE) < 0.5


def test_a_program_deeper_than_anybody_writes_ends_no_run() -> None:
    deep = "x = " + "+".join(["1"] * 9000)
    assert code_likeness(deep, deep) in (0.0, 1.0)


def test_texts_are_compared_by_words_that_carry_meaning() -> None:
    assert text_likeness("From June to September the hut on Gray Pass has 24 beds.", TEXT) > 0.8
    assert text_likeness("The cat sat on the mat, and it was open to us all.", TEXT) < 0.3


@pytest.mark.parametrize(
    ("text", "code"),
    [(CODE, True), (f"```python\n{CODE}\n```", True), (TEXT, False), ("hello", False), ("", False)],
)
def test_words_that_happen_to_be_python_are_no_code(text: str, code: bool) -> None:
    assert is_code(text) is code


def test_a_check_measures_each_kind_by_its_own_limit() -> None:
    check = alike("made", "artefact")
    assert check.run({"made": CODE}, {"artefact": CODE}).passed
    found = check.run({"made": "Beds and food"}, {"artefact": TEXT})
    assert not found.passed
    assert "less than 30%" in found.evidence
    assert "september" in found.evidence
    assert alike("made", "artefact", text=0.0).run({"made": ""}, {"artefact": TEXT}).passed


def test_twelve_words_in_a_row_are_a_copy() -> None:
    check = not_copied("instruction", "artefact")
    words = TEXT.split()
    for count, passes in ((11, True), (12, False)):
        said = "Write: " + " ".join(words[:count])
        assert check.run({"instruction": said}, {"artefact": TEXT}).passed is passes


@given(st.text(), st.text())
def test_likeness_is_a_share_and_a_text_is_like_itself(one: str, other: str) -> None:
    assert 0 <= likeness_of(one, other) <= 1
    assert text_likeness(one, one) in (0.0, 1.0)
