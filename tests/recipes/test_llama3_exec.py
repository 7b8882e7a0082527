"""llama3_exec: a problem from a snippet, run against tests; code or tests repaired by what happened."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

import agentloop as al
from agentloop.models.base import Request
from agentloop.recipes import find_recipe
from agentloop.store.rounds import rounds
from tests.recipes.acting import actor, exported, items, marked, played
from tests.recipes.problems import PROBLEMS, Problem

BY_NAME = {problem.name: problem for problem in PROBLEMS}
SEEDS = [{"snippet": problem.snippet} for problem in PROBLEMS]
GOOD = marked(complete="yes", fair="yes")

RIGHT, CODE, TESTS, BOTH, GUTTED, STUBBORN = 3, 8, 6, 1, 1, 1
KINDS = (
    ["right"] * RIGHT
    + ["code"] * CODE
    + ["tests"] * TESTS
    + ["both"] * BOTH
    + ["gutted, then right"] * GUTTED
    + ["gutted"] * STUBBORN
)
KIND = dict(zip(BY_NAME, KINDS, strict=True))


def about(text: str) -> Problem:
    """Return the problem that a prompt speaks of."""
    (name,) = {n for n in BY_NAME if re.search(rf"`{n}\(x\)`|part of {n}\.py", text)}
    return BY_NAME[name]


def fenced(code: str) -> str:
    return f"Here it is:\n```python\n{code}\n```"


def gutted(problem: Problem) -> str:
    """Tests that pass with any code: one assert is gone, the others say nothing."""
    return f"assert True\nassert {problem.name} is not None\nassert 1 == 1"


class Cast:
    """Writes what KIND says of a problem, and repairs only what the evidence names."""

    def __init__(self) -> None:
        self.repairs: Counter[str] = Counter()

    def code(self, text: str, _: Request) -> str:
        problem = about(text)
        wrong = KIND[problem.name] in ("code", "both", "gutted")
        return fenced(problem.wrong_code if wrong else problem.code)

    def tests(self, text: str, _: Request) -> str:
        problem = about(text)
        wrong = KIND[problem.name] in ("tests", "both", "gutted, then right")
        return problem.wrong_tests if wrong else problem.tests

    def repair(self, text: str, _: Request) -> str:
        problem = about(text)
        kind, self.repairs[problem.name] = KIND[problem.name], self.repairs[problem.name] + 1
        evidence = text.rpartition("What happened:")[2]
        assert "tests passed" in evidence or "it needs 3" in evidence, "no evidence, no repair"
        first = self.repairs[problem.name] == 1
        if kind == "gutted" or (kind == "gutted, then right" and first):
            return said("tests", gutted(problem))
        if kind == "code" or (kind == "both" and first):
            return said("code", problem.code)
        return said("tests", problem.tests)

    def model(self, grade: str = GOOD) -> al.ScriptedModel:
        return actor(
            "llama3_exec",
            pose=lambda text, _: about(text).problem,
            solve=self.code,
            test=self.tests,
            repair=self.repair,
            critique=grade,
        )


def said(wrong: str, mended: str) -> str:
    return f"{wrong}: it fails.\n{fenced(mended)}"


def test_twenty_problems_wrong_first_are_repaired_by_evidence_and_the_counts_match(
    tmp_path: Path,
) -> None:
    cast = Cast()
    run = played(tmp_path, "llama3_exec", cast.model(), SEEDS, max_rounds=2)
    tried = {about(item.seed.fields["snippet"]).name: item for item in items(run)}
    assert len(tried) == len(PROBLEMS) == 20
    accepted = {name for name, item in tried.items() if outcome(item) == "accepted"}
    assert accepted == {name for name, kind in KIND.items() if kind != "gutted"}
    assert run.counts["accepted"] == RIGHT + CODE + TESTS + BOTH + GUTTED == 19
    assert run.counts["rejected"] == STUBBORN == 1
    attempts = {"right": 1, "code": 2, "tests": 2, "both": 3, "gutted, then right": 3, "gutted": 2}
    for name, kind in KIND.items():
        assert len(tried[name].attempts) == attempts[kind], (name, kind)
    by_round = {r.round: r for r in rounds(al.Store(run.store), run.name)}
    assert {n: r.gained for n, r in by_round.items()} == {
        0: RIGHT,
        1: CODE + TESTS,
        2: BOTH + GUTTED,
    }
    repaired = sum(r.gained for n, r in by_round.items() if n)
    assert repaired / run.counts["accepted"] == 16 / 19
    first = [item.attempts[0] for name, item in tried.items() if KIND[name] != "right"]
    assert {a.reason for a in first} == {"failed_check"}
    assert all("tests passed" in a.detail for a in first)
    assert all(a.grade is None for a in first), "a judge is spared where the program decides"


def outcome(item: al.Item) -> str:
    assert item.verdict
    return item.verdict.verdict


def one(folder: Path, name: str, model: al.ScriptedModel, **settings: object) -> al.Item:
    run = played(folder, "llama3_exec", model, [{"snippet": BY_NAME[name].snippet}], **settings)
    (item,) = items(run)
    return item


def name_of(kind: str) -> str:
    return next(name for name, given in KIND.items() if given == kind)


def test_a_good_draft_takes_as_many_calls_as_the_recipe_says(tmp_path: Path) -> None:
    model = Cast().model()
    item = one(tmp_path, name_of("right"), model)
    assert outcome(item) == "accepted"
    assert len(model.requests) == find_recipe("llama3_exec").recipe.calls


def test_who_writes_the_tests_sees_no_solution(tmp_path: Path) -> None:
    model, problem = Cast().model(), BY_NAME[name_of("right")]
    one(tmp_path, problem.name, model)
    (asked,) = [r for r in model.requests if r.messages[0]["content"].startswith("You write tests")]
    assert not any(problem.code in m["content"] for m in asked.messages)


@pytest.mark.parametrize(("kind", "changed"), [("code", "code"), ("tests", "tests")])
def test_a_repair_changes_the_one_that_was_wrong_and_nothing_else(
    tmp_path: Path, kind: str, changed: str
) -> None:
    before, after = (a.candidate for a in one(tmp_path, name_of(kind), Cast().model()).attempts)
    assert {field for field in before if before[field] != after[field]} == {changed}


def test_gutted_tests_are_refused_although_the_code_passes_them(tmp_path: Path) -> None:
    item = one(tmp_path, name_of("gutted"), Cast().model())
    after = {check.name: check for check in item.attempts[1].checks}
    assert after["tests_code"].passed
    assert not after["kept_tests"].passed
    assert "`tests` has 0 different asserts" in item.attempts[1].detail
    assert outcome(item) == "rejected"


def test_one_assert_less_than_before_is_refused_even_when_three_are_left(tmp_path: Path) -> None:
    problem = BY_NAME["double"]
    four = f"{problem.tests}\nassert double(9) == 99"
    model = actor(
        "llama3_exec",
        pose=problem.problem,
        solve=problem.code,
        test=four,
        repair=said("tests", problem.tests),
        critique=GOOD,
    )
    item = one(tmp_path, "double", model)
    assert item.attempts[1].detail.startswith("`tests` has 3 different asserts")
    assert outcome(item) == "rejected"


def test_tests_that_the_critic_finds_unfair_are_repaired_too(tmp_path: Path) -> None:
    problem = BY_NAME["double"]
    grades = iter([marked(complete="yes", fair="no"), GOOD])
    model = actor(
        "llama3_exec",
        pose=problem.problem,
        solve=problem.code,
        test=problem.tests,
        repair=lambda text, _: said("tests", f"{problem.tests}\nassert double(5) == 10"),
        critique=lambda *_: next(grades),
    )
    item = one(tmp_path, "double", model)
    assert [a.accepted for a in item.attempts] == [False, True]


def test_the_critic_is_not_shown_how_many_asserts_there_were(tmp_path: Path) -> None:
    model = Cast().model()
    one(tmp_path, name_of("right"), model)
    judged = model.requests[-1].messages[-1]["content"]
    assert "tests ---" in judged
    assert "asserts ---" not in judged


def test_a_trainer_reads_problem_and_code_and_not_the_tests(tmp_path: Path) -> None:
    problem = BY_NAME[name_of("right")]
    run = played(tmp_path, "llama3_exec", Cast().model(), [{"snippet": problem.snippet}])
    (line,) = exported(run, "messages")
    assert [m["content"] for m in line["messages"]] == [
        problem.problem,
        f"```python\n{problem.code}\n```",
    ]
