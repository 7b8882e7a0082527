"""Twenty small problems in the manner of MBPP, written for these tests.

Each has a snippet that stands for the seed, a problem, right and wrong code, right and wrong tests.
"""

from __future__ import annotations

from typing import NamedTuple


class Problem(NamedTuple):
    """One problem with what may be written for it."""

    name: str
    snippet: str
    problem: str
    code: str
    bug: tuple[str, str]
    """What stands in the right code, and what a wrong one has in its place."""
    tests: str
    slip: tuple[str, str]
    """What stands in the right tests, and what wrong ones have in its place."""

    @property
    def wrong_code(self) -> str:
        """The code with its bug."""
        assert self.bug[0] in self.code
        return self.code.replace(*self.bug, 1)

    @property
    def wrong_tests(self) -> str:
        """The tests with a wrong expected value."""
        assert self.slip[0] in self.tests
        return self.tests.replace(*self.slip, 1)


def _of(
    name: str, about: str, body: str, bug: tuple[str, str], cases: str, slip: tuple[str, str]
) -> Problem:
    """Write a problem out; `body` is an expression of `x`, `cases` are `argument -> value`."""
    pairs = [case.split(" -> ") for case in cases.split(" | ")]
    return Problem(
        name=name,
        snippet=f"# part of {name}.py\nresult = {body}",
        problem=f"Write a Python function `{name}(x)` that {about}. It returns the value.",
        code=f"def {name}(x):\n    return {body}",
        bug=bug,
        tests="\n".join(f"assert {name}({given}) == {value}" for given, value in pairs),
        slip=slip,
    )


PROBLEMS = [
    _of("double", "doubles a number", "x * 2", ("* 2", "+ 2"),
        "3 -> 6 | 0 -> 0 | -1 -> -2", ("6", "5")),
    _of("square", "squares a number", "x ** 2", ("** 2", "* 2"),
        "3 -> 9 | 0 -> 0 | -4 -> 16", ("9", "6")),
    _of("last", "gives the last element of a list", "x[-1]", ("-1", "0"),
        "[1, 2] -> 2 | [7] -> 7 | [3, 4, 5] -> 5", ("== 2", "== 1")),
    _of("shout", "puts a text in capitals", "x.upper()", ("upper", "lower"),
        "'ab' -> 'AB' | 'A' -> 'A' | '' -> ''", ("'AB'", "'ab'")),
    _of("mirror", "turns a text around", "x[::-1]", ("::-1", "::1"),
        "'abc' -> 'cba' | 'a' -> 'a' | 'ab' -> 'ba'", ("'cba'", "'abc'")),
    _of("count_words", "counts the words of a text", "len(x.split())", ("x.split()", "x"),
        "'a b' -> 2 | '' -> 0 | 'abc' -> 1", ("== 2", "== 3")),
    _of("is_even", "says whether a number is even", "x % 2 == 0", ("== 0", "== 1"),
        "2 -> True | 3 -> False | 0 -> True", ("True", "False")),
    _of("total", "adds up a list of numbers", "sum(x)", ("sum", "len"),
        "[1, 2, 3] -> 6 | [] -> 0 | [5] -> 5", ("6", "7")),
    _of("largest", "gives the largest number of a list", "max(x)", ("max", "min"),
        "[1, 5, 3] -> 5 | [2] -> 2 | [-1, -7] -> -1", ("== 5", "== 3")),
    _of("ascending", "sorts a list of numbers", "sorted(x)", ("sorted(x)", "list(x)"),
        "[2, 1] -> [1, 2] | [] -> [] | [3, 1, 2] -> [1, 2, 3]", ("[1, 2]", "[2, 1]")),
    _of("distinct", "counts different elements of a list", "len(set(x))", ("set(x)", "x"),
        "[1, 1, 2] -> 2 | [] -> 0 | [4] -> 1", ("== 2", "== 3")),
    _of("absolute", "gives the absolute value of a number", "abs(x)", ("abs(x)", "x"),
        "-3 -> 3 | 3 -> 3 | 0 -> 0", ("== 3", "== -3")),
    _of("first_letter", "gives the first letter of a word", "x[0]", ("[0]", "[-1]"),
        "'ab' -> 'a' | 'c' -> 'c' | 'xyz' -> 'x'", ("== 'a'", "== 'b'")),
    _of("half", "halves a whole number, rounding down", "x // 2", ("//", "/"),
        "4 -> 2 | 5 -> 2 | 1 -> 0", ("5) == 2", "5) == 3")),
    _of("vowels", "counts the vowels of a text", "sum(c in 'aeiou' for c in x)", ("aeiou", "aeio"),
        "'tune' -> 2 | 'rhythm' -> 0 | 'area' -> 3", ("== 3", "== 4")),
    _of("joined", "joins texts with commas", "','.join(x)", ("','", "''"),
        "['a', 'b'] -> 'a,b' | [] -> '' | ['c'] -> 'c'", ("'a,b'", "'a, b'")),
    _of("successor", "adds one to a number", "x + 1", ("+ 1", "- 1"),
        "1 -> 2 | 0 -> 1 | -1 -> 0", ("== 2", "== 3")),
    _of("squeezed", "takes the spaces out of a text", "x.replace(' ', '')", ("''", "' '"),
        "'a b' -> 'ab' | '' -> '' | ' c ' -> 'c'", ("'ab'", "'a b'")),
    _of("middle", "gives the middle of three numbers", "sorted(x)[1]", ("sorted(x)", "x"),
        "[3, 1, 2] -> 2 | [1, 9, 5] -> 5 | [4, 4, 4] -> 4", ("== 5", "== 9")),
    _of("digits", "adds up the digits of a number", "sum(int(c) for c in str(x))", ("int(c)", "1"),
        "12 -> 3 | 0 -> 0 | 99 -> 18", ("== 18", "== 9")),
]  # fmt: skip
