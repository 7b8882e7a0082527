"""Python code that must pass tests, run in the sandbox.

Enters: the names of the fields that hold code and tests. Leaves: a `Check` whose finding carries the
fraction of the tests that passed and, word for word for the reviser, how the first ones failed.
Refuses to know: how the walls are built, whether the tests are any good.

    checks=[python_tests("code", tests="seed.test_list", setup="seed.test_imports")]

Tests are a list of texts, each a test, as in MBPP; or one text, in which every `assert` at its top
level, every function `test_…` and every method `test_…` of a class is a test. Each runs with the code
anew, so that none depends on what another did, and an endless one fails alone.

A test of values, calls and assertions (`stands_apart`) is decided in another process than the code's:
there nothing but right answers passes. One that catches errors, defines classes, redirects output and
the like must share the code's process, where code that breaks its interpreter can make it pass.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import NamedTuple

from agentloop.checks import Check, Finding, fail, passed
from agentloop.checks.sandbox import USUAL, Limits, Outcome, Part, Program, run
from agentloop.errors import RecipeError
from agentloop.records import Json

MOST_TESTS = 200
MOST_CHARACTERS = 100_000  # of all tests together
FAILURES_SHOWN = 3
TEST_SHOWN = 400  # characters of a test
OUTPUT_SHOWN = 400  # characters of what a program wrote last, to each stream
_PYTHON = ("python", "py", "python3")
_UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)
_INWARD = (
    *(ast.AsyncFor, ast.AsyncFunctionDef, ast.AsyncWith, ast.Await, ast.Yield, ast.YieldFrom),
    *(ast.ClassDef, ast.Delete, ast.Global, ast.Match, ast.Nonlocal, ast.Raise),
    *(ast.Try, ast.TryStar, ast.With),
)
_SHARED = frozenset(
    (
        *("breakpoint", "callable", "compile", "delattr", "dir", "eval", "exec", "exit", "getattr"),
        *("globals", "hasattr", "help", "id", "input", "issubclass", "locals", "memoryview"),
        *("object", "open", "quit", "setattr", "super", "type", "vars"),
    )
)
_PURE = frozenset(
    (
        *("array", "cmath", "collections", "datetime", "decimal", "fractions", "functools"),
        *("heapq", "itertools", "math", "numbers", "operator", "re", "statistics", "string"),
        "typing",
    )
)


class Test(NamedTuple):
    """One test: what to run, what a reader is shown, and what to look at if an assertion fails."""

    source: str
    text: str
    shows: tuple[str, ...] = ()


def python_tests(code: str, *, tests: str, setup: str = "", limits: Limits = USUAL) -> Check:
    """The candidate's field `code`, bare or in a Markdown fence, passes all of the tests.

    `tests` and `setup` name fields: `seed.NAME` or `candidate.NAME`. The setup runs before the code
    and again after it, so that the code can lean on it and not replace it. A seed whose tests are none,
    or not Python, raises ValueError: no revision can mend it.
    """
    tests_from, setup_from = _field(tests), _field(setup) if setup else None

    def run_tests(candidate: Json, seed: Json) -> Finding:
        records = {"candidate": candidate, "seed": seed}
        try:
            listed = read_tests(records[tests_from[0]].get(tests_from[1]))
        except _UNREADABLE as error:
            if tests_from[0] == "seed":
                raise ValueError(f"`{tests}` cannot be used: {error}") from error
            return fail(f"`{tests_from[1]}` cannot be used: {error}")
        before = records[setup_from[0]].get(setup_from[1]) if setup_from else None
        return judge(extract_code(str(candidate.get(code, ""))), listed, _joined(before), limits)

    settings = {"code": code, "tests": tests, "setup": setup, "limits": asdict(limits)}
    return Check(f"tests_{code}", run_tests, settings, slow=True)


def _field(path: str) -> tuple[str, str]:
    where, _, name = path.partition(".")
    if where not in ("seed", "candidate") or not name:
        raise RecipeError(f"`{path}` names no field: write `seed.NAME` or `candidate.NAME`")
    return where, name


def _joined(value: object) -> str:
    """Return statements given as one text or as a list of texts."""
    lines = value if isinstance(value, list | tuple) else [value or ""]
    return "\n".join(str(line) for line in lines)


def judge(code: str, tests: Sequence[Test], setup: str, limits: Limits) -> Finding:
    """Run the code with each of the tests; raises SandboxError where it cannot be run safely."""
    around = (Part("setup", setup),) if setup.strip() else ()
    outcomes = run(
        [_program((*around, Part("code", code), *around), around, test) for test in tests],
        limits,
    )
    failed = [(test, out) for test, out in zip(tests, outcomes, strict=True) if not out.passed]
    if not failed:
        return passed()
    return fail(evidence(failed, len(tests), limits), (len(tests) - len(failed)) / len(tests))


def _program(parts: tuple[Part, ...], around: tuple[Part, ...], test: Test) -> Program:
    """Return the program of one test: decided apart from the code wherever that changes nothing."""
    last = Part("test", test.source)
    if all(stands_apart(part.source) for part in (*around, last)):
        return Program(parts, test.shows, (*around, last))
    return Program((*parts, last), test.shows)


def stands_apart(source: str) -> bool:
    """Whether statements mean the same when the code they call runs in another process.

    That is so for values, calls, assertions, loops, plain functions: not for what catches errors, makes
    classes, compares identities, or reads and changes the interpreter that code and tests share.
    """
    try:
        return all(map(_means_the_same, ast.walk(ast.parse(source))))
    except _UNREADABLE:
        return False


def _means_the_same(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return node.id not in _SHARED and not node.id.startswith("_")
    if isinstance(node, ast.Attribute):
        return not node.attr.startswith("_")
    if isinstance(node, ast.Import):
        return all(name.name in _PURE for name in node.names)
    if isinstance(node, ast.ImportFrom):
        return node.module in _PURE
    if isinstance(node, ast.Compare):
        sides = zip([node.left, *node.comparators], node.ops, node.comparators, strict=False)
        return all(
            not isinstance(op, ast.Is | ast.IsNot)
            or any(isinstance(side, ast.Constant) for side in (left, right))
            for left, op, right in sides
        )
    return not isinstance(node, _INWARD)


def evidence(failed: Sequence[tuple[Test, Outcome]], total: int, limits: Limits) -> str:
    """Return how many tests passed and how the first failed; those that fail alike are told once."""
    alike: dict[str, list[Test]] = {}
    for test, outcome in failed:
        alike.setdefault(describe(test, outcome, limits), []).append(test)
    lines = [f"{total - len(failed)} of {total} tests passed"]
    for why, tests in list(alike.items())[:FAILURES_SHOWN]:
        more = f" (and {len(tests) - 1} more in the same way)" if len(tests) > 1 else ""
        lines += [f"failed: {_end(tests[0].text, TEST_SHOWN)}{more}", textwrap.indent(why, "  ")]
    if unshown := sum(len(tests) for tests in list(alike.values())[FAILURES_SHOWN:]):
        lines.append(f"and {unshown} more failed")
    return "\n".join(lines).replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


def describe(test: Test, outcome: Outcome, limits: Limits) -> str:
    """Return why a test failed: the limit by name, the error and its place, values, last output."""
    lines = [f"stopped by the sandbox: {limits.say(outcome.limit)}"] if outcome.limit else []
    lines += [outcome.error] if outcome.error else []
    if outcome.place and ("\n" in test.text or " of the test" not in outcome.place):
        lines.append(f"at {outcome.place}")
    lines += [f"`{what}` gives {value}" for what, value in zip(test.shows, outcome.shown)]  # noqa: B905
    for name, text in (("stdout", outcome.stdout), ("stderr", outcome.stderr)):
        if text.strip():
            lines.append(f"{name} ends: {_end(text.strip(), OUTPUT_SHOWN, last=True)}")
    return "\n".join(lines)


def _end(text: str, size: int, *, last: bool = False) -> str:
    """Return a text, or as much of its beginning or end as fits."""
    if len(text) <= size:
        return text
    return f"…{text[-size:]}" if last else f"{text[:size]}…"


def read_tests(value: object) -> list[Test]:
    """Return the tests in a list of texts or in one text; raises ValueError or SyntaxError.

    In a text, an `assert` runs after all other statements before it, a function or method after all
    other statements. A text with none of these is one test.
    """
    if isinstance(value, list | tuple):
        tests = [Test(str(one), str(one), _worth_showing(str(one))) for one in _bounded(value)]
    else:
        tests = list(_split(extract_code(_bounded([str(value or "")])[0])))
    if not tests:
        raise ValueError("there are no tests")
    if len(tests) > MOST_TESTS:
        raise ValueError(f"there are {len(tests)} tests; at most {MOST_TESTS} are run")
    return tests


def _bounded(texts: Sequence[object]) -> list[str]:
    listed = [str(text) for text in texts]
    if sum(map(len, listed)) > MOST_CHARACTERS:
        raise ValueError(f"the tests are longer than {MOST_CHARACTERS} characters")
    return listed


def _split(text: str) -> Iterator[Test]:
    """Split a text into its tests."""
    body = ast.parse(text).body
    others = [(at, ast.unparse(node)) for at, node in enumerate(body) if not _is_assert(node)]
    everything = "\n".join(source for _, source in others)
    found = False
    for at, node in enumerate(body):
        shown = ast.unparse(node)
        if _is_assert(node):
            found = True
            before = [source for place, source in others if place < at]
            yield Test("\n".join([*before, shown]), shown, _worth_showing(shown))
        for name, call in _calls(node):
            found = True
            yield Test(f"{everything}\n{call}", f"{name} in\n{shown}")
    if body and not found:
        yield Test(everything, everything)


def _is_assert(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assert)


def _calls(node: ast.stmt) -> Iterator[tuple[str, str]]:
    """Return the tests in a statement that defines some: a name, and the line that runs it."""
    if isinstance(node, ast.AsyncFunctionDef) and node.name.startswith("test"):
        yield node.name, f"import asyncio\nasyncio.run({node.name}())"
    elif isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
        yield node.name, f"{node.name}()"
    elif isinstance(node, ast.ClassDef):
        cases = any(ast.unparse(base).endswith("TestCase") for base in node.bases)
        for method in node.body:
            if isinstance(method, ast.FunctionDef) and method.name.startswith("test"):
                made = f"{node.name}({method.name!r}).debug()"
                yield method.name, made if cases else f"{node.name}().{method.name}()"


def _worth_showing(source: str) -> tuple[str, ...]:
    """Return the calls whose values explain a failed assertion that ends a test: its two sides."""
    try:
        last = ast.parse(source).body[-1:]
        if not (last and isinstance(last[0], ast.Assert)):
            return ()
        claim = last[0].test
        sides = [claim.left, *claim.comparators] if isinstance(claim, ast.Compare) else [claim]
        sides = [s.operand if isinstance(s, ast.UnaryOp) else s for s in sides]
        calling = [s for s in sides if any(isinstance(n, ast.Call) for n in ast.walk(s))]
        return tuple(ast.unparse(side) for side in calling)
    except _UNREADABLE:
        return ()


def extract_code(text: str) -> str:
    """Return the code in a reply: the first fence that says Python, else the first fence, else all.

    A fence that is never closed reaches to the end. Fences inside a text that is Python as it stands,
    say in a docstring, are part of it.
    """
    fences = list(_fences(text.split("\n")))
    if not fences or _is_python(text):
        return text
    return next((body for language, body in fences if language in _PYTHON), fences[0][1])


def _is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except _UNREADABLE:
        return False
    return True


def _fences(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Return each fenced block: its language in small letters, and its lines."""
    mark, language, inside = "", "", list[str]()
    for line in lines:
        found, said = _fence(line)
        if not mark and found:
            mark, language, inside = found, said, []
        elif mark and found.startswith(mark) and not said:
            yield language, textwrap.dedent("\n".join(inside))
            mark = ""
        elif mark:
            inside.append(line)
    if mark:
        yield language, textwrap.dedent("\n".join(inside))


def _fence(line: str) -> tuple[str, str]:
    """Return the mark of a line that opens or closes a fence, and the word after it."""
    bare = line.strip()
    sign = bare[:1]
    rest = bare.lstrip(sign) if sign and sign in "`~" else bare
    length = len(bare) - len(rest)
    if length < 3 or "`" in rest:
        return "", ""
    words = rest.split(maxsplit=1)
    return sign * length, words[0].strip("{.}").lower() if words else ""
