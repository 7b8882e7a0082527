"""Tests that were not gutted to pass: how much a text of tests still asks of the code.

Enters: the names of the fields that hold tests and code, and of the one that holds how many asserts
there were at first. Leaves: a `Check`. Refuses to know: whether the tests pass, what is right.

An assert tells something when it calls what the code defines and compares the value with another one,
or takes it for true or false: not `assert True`, not `f(1) == f(1)`, not `f(1) is not None`, not one
that stands in a `try` or behind an `if`. Twice the same counts once.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from agentloop.checks import Check, Finding, fail, passed
from agentloop.checks.python import extract_code
from agentloop.records import Json

_UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def asserts_kept(tests: str, code: str, before: str, *, least: int = 3) -> Check:
    """The candidate's `tests` hold `least` telling asserts, and no fewer than its field `before` says.

    For a loop that may repair tests as well as code: it must not make them pass by asking less.
    """

    def run(candidate: Json, seed: Json) -> Finding:
        count = telling(str(candidate.get(tests, "")), str(candidate.get(code, "")))
        wanted = max(least, int(candidate.get(before) or 0))
        if count >= wanted:
            return passed()
        return fail(
            f"`{tests}` has {count} different asserts that compare a call of the code with a value; "
            f"it needs {wanted}: correct a wrong one, never take one away",
            count / wanted,
        )

    return Check(
        f"kept_{tests}", run, {"tests": tests, "code": code, "before": before, "least": least}
    )


def telling(tests: str, code: str) -> int:
    """Return how many different asserts tell something of what the code defines; 0 if unreadable."""
    try:
        defined = set(_defined(ast.parse(extract_code(code)).body))
        tree = ast.parse(extract_code(tests))
        for node in ast.walk(tree):  # `result = f(1)` and then `assert result == 2`
            if isinstance(node, ast.Assign) and _names(node.value) & defined:
                defined |= {name for target in node.targets for name in _names(target)}
        found = [node.test for node in _asserts(tree.body) if _tells(node.test, defined)]
        return len({ast.dump(test) for test in found})
    except _UNREADABLE:
        return 0


def _defined(body: Sequence[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (name for target in node.targets for name in _names(target))


def _asserts(body: Sequence[ast.stmt]) -> Iterator[ast.Assert]:
    """Return the asserts that run whenever the tests run."""
    for node in body:
        if isinstance(node, ast.Assert):
            yield node
        elif isinstance(node, (ast.With, ast.For, ast.ClassDef, *_FUNCTIONS)):
            yield from _asserts(node.body)


def _tells(test: ast.expr, defined: set[str]) -> bool:
    """Whether an assertion can fail for a wrong value."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        test = test.operand
    if isinstance(test, ast.Call):  # `assert is_prime(3)`, `assert all(…)`
        return bool(_names(test) & defined)
    if not isinstance(test, ast.Compare) or any(isinstance(op, ast.IsNot) for op in test.ops):
        return False
    sides = [test.left, *test.comparators]
    alike = len({ast.dump(side) for side in sides}) < len(sides)
    return not alike and any(_names(side) & defined for side in sides)


def _names(node: ast.expr) -> set[str]:
    return {found.id for found in ast.walk(node) if isinstance(found, ast.Name)}
