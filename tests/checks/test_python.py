"""Python code against tests: fences, splitting, fractions, evidence, and MBPP where it is at hand."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentloop.checks import Check, Finding
from agentloop.checks.python import extract_code, python_tests, read_tests, stands_apart
from agentloop.checks.sandbox import Limits
from agentloop.errors import RecipeError
from agentloop.records import Json

ROOT = Path(__file__).resolve().parent.parent.parent
SHARED = Path(os.environ.get("AGENTLOOP_SHARED") or ROOT.parent / "shared")
MBPP = SHARED / "data" / "mbpp" / "sanitized-mbpp.json"
QUICK = Limits(cpu_s=2, wall_s=20.0)
ADD = "def add(a, b):\n    return a + b\n"


def check(limits: Limits = QUICK) -> Check:
    return python_tests("code", tests="seed.tests", setup="seed.setup", limits=limits)


def found(code: str, tests: Any, setup: Any = None, limits: Limits = QUICK) -> Finding:
    return check(limits).run({"code": code}, {"tests": tests, "setup": setup})


def test_code_that_passes_all_tests_passes() -> None:
    finding = found(ADD, ["assert add(1, 2) == 3", "assert add('a', 'b') == 'ab'"])
    assert finding == Finding(True, "", 1.0)


def test_the_fraction_and_the_failures_are_told() -> None:
    tests = ["assert add(1, 2) == 3", "assert add(1, 1) == 3", "assert add(1, None)"]
    finding = found(ADD, tests)
    assert (finding.passed, finding.fraction) == (False, 1 / 3)
    assert finding.evidence == (
        "1 of 3 tests passed\n"
        "failed: assert add(1, 1) == 3\n"
        "  AssertionError\n"
        "  `add(1, 1)` gives 2\n"
        "failed: assert add(1, None)\n"
        "  TypeError: unsupported operand type(s) for +: 'int' and 'NoneType'\n"
        "  at line 2 of the code: `return a + b`"
    )


def test_code_that_is_broken_is_told_once() -> None:
    finding = found(
        "def add(a, b)\n    return a + b", ["assert add(1, 2) == 3", "assert add(2, 2) == 4"]
    )
    assert finding.fraction == 0.0
    assert "failed: assert add(1, 2) == 3 (and 1 more in the same way)" in finding.evidence
    assert "SyntaxError" in finding.evidence
    assert "line 1 of the code: `def add(a, b)`" in finding.evidence


def test_an_endless_test_is_named_and_fails_alone() -> None:
    code = "def f(n):\n    while n: pass\n    return 1"
    finding = found(code, ["assert f(0) == 1", "assert f(1) == 1", "assert f(False) == 1"])
    assert finding.fraction == 2 / 3
    assert "failed: assert f(1) == 1\n  stopped by the sandbox: CPU time (2 s)" in finding.evidence


def test_what_was_printed_last_is_evidence() -> None:
    code = (
        "import sys\ndef f():\n    print('x' * 9999 + 'the end')\n    print('oh', file=sys.stderr)"
    )
    finding = found(code, ["assert f()"])
    assert "x" * 100 + "the end" in finding.evidence
    assert "stderr ends: oh" in finding.evidence
    assert len(finding.evidence) < 1500


def test_evidence_is_short_and_can_be_stored_whatever_the_code_does() -> None:
    code = (
        "import os\n"
        "def f(n):\n"
        "    print('\\0\\x1b')\n"
        "    os.write(2, b'\\xed\\xa0\\x80\\xff')\n"
        "    raise ValueError(str(n) + '\\ud800\\0' * n)\n"
    )
    finding = found(code, [f"assert f({n * 1000})" for n in range(1, 20)])
    assert "and 16 more failed" in finding.evidence
    assert len(finding.evidence) < 10_000
    assert "ValueError: 1000\\ud800" in finding.evidence
    assert "\0" not in finding.evidence
    assert finding.evidence.encode()


def test_setup_is_there_for_the_code_and_cannot_be_replaced_by_it() -> None:
    setup = ["import math", "def close(a, b): return abs(a - b) < 0.01"]
    assert found("def f(): return math.pi", ["assert close(f(), 3.14)"], setup).passed
    fooled = "def f(): return 0\ndef close(a, b): return True"
    assert not found(fooled, ["assert close(f(), 3.14)"], setup).passed
    assert "of the setup" in found(ADD, ["assert add(1, 1)"], "import nowhere").evidence


@pytest.mark.parametrize(
    ("source", "apart"),
    [
        ("assert f(1) == [2] and f(x=1) is None", True),
        ("import math\nassert math.isclose(f(1), 0.5, rel_tol=0.1)", True),
        ("def check(f):\n  for n in range(3): assert f(n)\ncheck(g)", True),
        ("assert f(a) is a", False),
        ("try: f()\nexcept ValueError: pass", False),
        ("import io", False),
        ("assert f.__name__ == 'f'", False),
        ("assert type(f()) == A", False),
        ("assert (", False),
    ],
)
def test_plain_tests_are_decided_apart_from_the_code(source: str, apart: bool) -> None:
    assert stands_apart(source) is apart


def test_an_object_that_equals_everything_passes_no_plain_test() -> None:
    code = "class A:\n    def __eq__(self, other): return True\ndef f(): return A()"
    assert not found(code, ["assert f() == 1", "assert 1 == f()"]).passed


def test_leaving_early_is_not_passing() -> None:
    finding = found("import os\ndef f(): os._exit(0)", ["assert f()"])
    assert "it ended before its last line, with exit code 0" in finding.evidence


TEXT = """
import unittest
from math import isclose

def near(a, b):
    return isclose(a, b)

x = add(1, 1)
assert x == 2
x = add(x, 1)
assert near(x, 3), "three"

def test_zero():
    assert add(0, 0) == 0

async def test_later():
    assert add(1, 0) == 2

class TestPlain:
    def test_it(self):
        assert add(2, 2) == 4

class Case(unittest.TestCase):
    def setUp(self):
        self.one = 1

    def test_one(self):
        self.assertEqual(add(self.one, 0), 1)

    def test_two(self):
        self.assertEqual(add(self.one, 0), 2)

if __name__ == "__main__":
    unittest.main()
"""


def test_a_text_is_split_into_its_tests() -> None:
    tests = read_tests(TEXT)
    assert [t.text.splitlines()[0] for t in tests] == [
        "assert x == 2",
        "assert near(x, 3), 'three'",
        "test_zero in",
        "test_later in",
        "test_it in",
        "test_one in",
        "test_two in",
    ]
    finding = found(ADD, TEXT)
    assert finding.fraction == 5 / 7
    assert "failed: test_later in" in finding.evidence
    assert "AssertionError: 1 != 2" in finding.evidence


def test_a_text_without_asserts_is_one_test() -> None:
    text = "def examine(f):\n    assert f(1, 1) == 2\nexamine(add)"
    assert len(read_tests(text)) == 1
    assert found(ADD, f"```python\n{text}\n```").passed
    assert not found(ADD.replace("+", "-"), text).passed


@pytest.mark.parametrize(
    "tests", [None, "", [], "# nothing", "assert (", ["x" * 200_000], ["assert 1"] * 201]
)
def test_tests_that_cannot_be_used_are_the_seeds_fault(tests: Any) -> None:
    with pytest.raises(ValueError, match=r"`seed\.tests` cannot be used"):
        found(ADD, tests)


def test_tests_that_a_model_wrote_badly_are_its_own_fault() -> None:
    mine = python_tests("code", tests="candidate.tests")
    finding = mine.run({"code": ADD, "tests": "assert ("}, {})
    assert not finding.passed
    assert finding.evidence.startswith("`tests` cannot be used: ")
    assert mine.run({"code": ADD, "tests": "assert add(1, 1) == 2"}, {}).passed


def test_a_missing_field_fails_every_test() -> None:
    finding = check().run({}, {"tests": ["assert add(1, 1)"]})
    assert finding.fraction == 0.0
    assert "NameError" in finding.evidence


@pytest.mark.parametrize("path", ["tests", "seeds.tests", "seed.", ""])
def test_a_field_is_named_with_its_record(path: str) -> None:
    with pytest.raises(RecipeError, match=re.escape("`seed.NAME` or `candidate.NAME`")):
        python_tests("code", tests=path)


def test_the_checks_identity_follows_its_settings() -> None:
    assert check().slow
    assert check().name == "tests_code"
    assert check().hash == check().hash != check(Limits(cpu_s=3)).hash


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("x = 1", "x = 1"),
        ("Here:\n```python\nx = 1\n```\nDone.", "x = 1"),
        ("```\nx = 1\n```", "x = 1"),
        ("```Py\nx = 1", "x = 1"),
        ("~~~ {.python}\nx = '```'\n~~~", "x = '```'"),
        ("````python\nx = '''\n```\n'''\n````", "x = '''\n```\n'''"),
        ("1. Do:\n   ```python\n   if x:\n       y = 1\n   ```", "if x:\n    y = 1"),
        ("```bash\npip\n```\n```python\nx = 1\n```\n```python\ny\n```", "x = 1"),
        ("```text\na\n```\n```text\nb\n```", "a"),
        ('def f():\n    """\n    ```python\n    f()\n    ```\n    """', None),
        ("no code at all", None),
        ("", None),
        ("``` ` ```", None),
    ],
)
def test_code_is_taken_out_of_its_fence(text: str, code: str | None) -> None:
    assert extract_code(text) == (text if code is None else code)


LINES = st.text(st.characters(exclude_characters="\n\r`~", exclude_categories=["Cs"]), max_size=30)


@given(
    st.lists(LINES, max_size=6).map("\n".join),
    st.lists(LINES, min_size=1, max_size=6).map(lambda lines: "\n".join(["x", *lines])),
    st.sampled_from(["```", "````", "~~~"]),
    st.sampled_from(["", "python", "py", " python3"]),
)
def test_whatever_stands_in_a_fence_comes_out_of_it(
    prose: str, code: str, mark: str, word: str
) -> None:
    assert (
        extract_code(f"It is said that:\n{prose}\n{mark}{word}\n{code}\n{mark}\nis right") == code
    )


@given(st.text(st.sampled_from("`~\n xp"), max_size=60))
def test_any_reply_gives_some_code(text: str) -> None:
    code = extract_code(text)
    assert code == text or all(line.strip() in text for line in code.split("\n"))


def test_a_long_line_of_marks_takes_no_time() -> None:
    assert extract_code("`" * 1_000_000 + " " * 1_000_000 + "`x") != ""


def problems() -> list[Json]:
    if not MBPP.is_file():
        pytest.skip(f"there is no MBPP in {SHARED}: set AGENTLOOP_SHARED")
    listed: list[Json] = json.loads(MBPP.read_text(encoding="utf-8"))
    return listed


def test_a_sample_of_mbpp_passes_with_its_own_solutions_and_not_without() -> None:
    mbpp = python_tests("code", tests="seed.test_list", setup="seed.test_imports")
    for problem in problems()[::20]:
        finding = mbpp.run({"code": f"```python\n{problem['code']}\n```"}, problem)
        assert finding.passed, finding.evidence
        assert mbpp.run({"code": "pass"}, problem).fraction == 0.0
