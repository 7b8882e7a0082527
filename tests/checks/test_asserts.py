"""Asserts that tell something of the code, and tests that were gutted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.checks.asserts import asserts_kept, telling

CODE = "def f(x):\n    return x + 1\n\nLIMIT = 3\n"


@pytest.mark.parametrize(
    ("tests", "count"),
    [
        ("assert f(1) == 2\nassert f(2) == 3", 2),
        ("assert f(1) == 2\nassert f(1) == 2", 1),
        ("assert 2 == f(1)\nassert f(0)\nassert not f(-1)", 3),
        ("got = f(1)\nassert got == 2", 1),
        ("for x, y in [(1, 2), (2, 3)]:\n    assert f(x) == y", 1),
        ("def test_it():\n    assert f(1) == 2", 1),
        ("class TestIt:\n    def test_it(self):\n        assert f(1) == 2", 1),
        ("assert all(f(x) > x for x in range(3))", 1),
        ("assert LIMIT == 3", 1),
        ("```python\nassert f(1) == 2\n```", 1),
        ("assert True\nassert 1 == 1", 0),
        ("assert f(1) == f(1)", 0),
        ("assert f(1) is not None", 0),
        ("assert f(1) == 2 or True", 0),
        ("x = 2\nassert x == 2", 0),
        ("try:\n    assert f(1) == 3\nexcept AssertionError:\n    pass", 0),
        ("if False:\n    assert f(1) == 2", 0),
        ("assert f(1) ==", 0),
        ("", 0),
        ("assert " + "(" * 5000, 0),
    ],
)
def test_only_asserts_that_can_fail_for_a_wrong_value_count(tests: str, count: int) -> None:
    assert telling(tests, CODE) == count


def test_code_that_cannot_be_read_defines_nothing_to_tell_of() -> None:
    assert telling("assert f(1) == 2", "def f(") == 0


@pytest.mark.parametrize(("before", "passes"), [(0, True), (3, True), (4, False)])
def test_no_fewer_than_before_and_never_under_three(before: int, passes: bool) -> None:
    check = asserts_kept("tests", "code", "asserts")
    tests = "assert f(1) == 2\nassert f(2) == 3\nassert f(3) == 4"
    found = check.run({"tests": tests, "code": CODE, "asserts": before}, {})
    assert found.passed is passes
    assert passes or found.fraction == 0.75


def test_two_are_too_few_from_the_start() -> None:
    tests = "assert f(1) == 2\nassert f(2) == 3"
    found = asserts_kept("tests", "code", "asserts").run({"tests": tests, "code": CODE}, {})
    assert not found.passed
    assert "has 2 different asserts" in found.evidence
    assert "it needs 3" in found.evidence


@given(st.text(), st.text())
def test_any_text_is_counted(tests: str, code: str) -> None:
    assert telling(tests, code) >= 0
