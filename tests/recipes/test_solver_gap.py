"""solver_gap: a task is kept where a strong solver beats a weak one, by the task's own rubric."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import agentloop as al
from agentloop.recipes import find_recipe
from agentloop.regrade import regrade
from tests.recipes.acting import actor, exported, items, last, marked, played

ROOT = Path(__file__).parents[2]
PASSAGE = "Copper roofs turn green in thirty years, in coal smoke in eight."
TASK = "A town wants its new copper roof green in ten years. Say whether it will be, and why."
ASKS = {f"own_{n}": f"Does the solution name particular thing number {n}?" for n in (1, 2, 3)}
STRONG, WEAK = "It stays brown, for the coal works close.", "Copper is a metal."
ALL = marked(done="yes", own_1="yes", own_2="yes", own_3="yes")
SOME = marked(done="yes", own_1="yes", own_2="no", own_3="yes")
NONE = marked(done="no", own_1="no", own_2="no", own_3="no")


def cast(strong: str = ALL, weak: str = NONE) -> dict[str, Any]:
    """Return models by role: one plays all but the two solvers and the critic."""
    solver = {name: actor("solver_gap", solve=said) for name, said in solutions().items()}
    critic = actor(
        "solver_gap",
        marking=json.dumps(ASKS),
        critique=lambda text, _: strong if STRONG in text else weak,
    )
    generator = actor("solver_gap", pose=TASK)
    return {"generator": generator, "critic": critic, **solver}


def solutions() -> dict[str, str]:
    return {"strong": STRONG, "weak": WEAK}


def play(folder: Path, models: dict[str, Any]) -> al.Run:
    return played(folder, "solver_gap", None, [{"passage": PASSAGE}], models=models)


def test_a_task_that_tells_the_solvers_apart_is_kept_with_the_strong_one_s_response(
    tmp_path: Path,
) -> None:
    models = cast()
    (item,) = items(play(tmp_path, models))
    assert item.verdict
    assert item.verdict.verdict == "accepted"
    assert item.candidate == {"task": TASK, "response": STRONG, "solver": "strong"}
    assert sum(len(m.requests) for m in models.values()) == find_recipe("solver_gap").recipe.calls
    assert len(models["strong"].requests) == len(models["weak"].requests) == 1


def test_both_solutions_are_a_preference_pair(tmp_path: Path) -> None:
    (pair,) = exported(play(tmp_path, cast()), "preference")
    assert pair["prompt"][0]["content"] == TASK
    assert (pair["chosen"][0]["content"], pair["rejected"][0]["content"]) == (STRONG, WEAK)


@pytest.mark.parametrize(
    ("strong", "weak", "reason", "says"),
    [
        (ALL, ALL, "filtered", "strong beats weak by 0.00, less than 0.2"),
        (SOME, ALL, "filtered", "strong beats weak by -0.25, less than 0.2"),
        (NONE, NONE, "below_threshold", "score 0.00"),
    ],
)
def test_a_task_that_is_too_easy_upside_down_or_too_hard_is_dropped(
    tmp_path: Path, strong: str, weak: str, reason: str, says: str
) -> None:
    (item,) = items(play(tmp_path, cast(strong, weak)))
    assert item.verdict
    assert (item.verdict.verdict, item.verdict.reason) == ("rejected", reason)
    assert item.verdict.detail.startswith(says)
    assert len(item.attempts) == 2


def test_a_gap_of_the_margin_is_enough(tmp_path: Path) -> None:
    (item,) = items(play(tmp_path, cast(ALL, SOME)))
    assert item.verdict
    assert item.verdict.verdict == "accepted"


def test_a_weak_solution_that_nobody_could_read_is_no_gap(tmp_path: Path) -> None:
    (item,) = items(play(tmp_path, cast(ALL, "no JSON at all")))
    assert item.verdict
    assert (item.verdict.verdict, item.verdict.reason) == ("ungradable", "judge_unreadable")


def test_the_rubric_is_written_before_anybody_solves_and_judges_both(tmp_path: Path) -> None:
    models = cast()
    (item,) = items(play(tmp_path, models))
    first, *marking = models["critic"].requests
    assert TASK in last(first)
    assert not any(text in last(first) for text in (STRONG, WEAK))
    assert all(ask in last(r) for r in marking for ask in ASKS.values())
    assert all("solver ---" not in last(r) for r in marking)
    assert all(a.grade and len(a.grade.criteria) == 3 for a in item.attempts)


def test_solvers_see_the_task_and_not_the_passage(tmp_path: Path) -> None:
    models = cast()
    play(tmp_path, models)
    for name in ("strong", "weak"):
        assert last(models[name].requests[0]) == TASK


def test_another_grading_looks_at_the_gap_again(tmp_path: Path) -> None:
    run = play(tmp_path, cast())
    kind = actor("solver_gap", "scripted/lenient", critique=ALL)
    rubric = ROOT / "prompts" / "solver_gap" / "rubric.yaml"
    counts = regrade(run.store, rubric=rubric, recipe="solver_gap", model=kind).counts
    assert (counts["accepted"], counts["rejected"]) == (0, 1)
