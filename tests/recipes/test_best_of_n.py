"""best_of_n: several answers, graded and voted on; the best is kept, best and worst are a pair."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import agentloop as al
from agentloop.cli import run_cli
from agentloop.models.base import Request
from agentloop.recipes import find_recipe
from agentloop.store.rounds import rounds
from tests.recipes.acting import actor, exported, items, last, marked, played

SEED = {"question": "What do 3 pens at 2 euros and 2 books at 7 euros cost?", "answer": "20"}
ANSWERS = ["6 + 14 = 20\n#### 20", "14 + 6 = 20\n#### 20.0", "5 * 9 = 45\n#### 45", "#### 20"]


def grade(text: str, _: Request) -> str:
    response = text.partition("response ---\n")[2]
    return marked(
        correct="no" if "45" in response else "yes", shown="yes" if "+" in response else "no"
    )


def model(*answers: str) -> al.ScriptedModel:
    said = iter(answers or ANSWERS)
    return actor("best_of_n", answer=lambda *_: next(said), critique=grade)


def test_every_answer_is_graded_and_the_best_kept(tmp_path: Path) -> None:
    player = model()
    (item,) = items(played(tmp_path, "best_of_n", player, [SEED]))
    assert item.verdict
    assert (item.verdict.verdict, item.verdict.round) == ("accepted", 1)
    assert [a.accepted for a in item.attempts] == [True, True, False, True]
    assert [a.parent for a in item.attempts] == [None] * 4
    assert len(player.requests) == find_recipe("best_of_n").recipe.calls


def test_agreement_is_recorded_with_its_fraction_and_vetoes_nothing(tmp_path: Path) -> None:
    (item,) = items(played(tmp_path, "best_of_n", model(), [SEED]))
    checks = [{c.name: c for c in a.checks}["agreement"] for a in item.attempts]
    assert [(c.fraction, c.passed, c.veto) for c in checks] == [
        (0.75, True, False),
        (0.75, True, False),
        (0.25, False, False),
        (0.75, True, False),
    ]
    assert all(a.grade for a in item.attempts)
    assert [a.grade.mark("agreed").value for a in item.attempts if a.grade] == [1, 1, 0.25, 1]


def test_the_best_and_the_worst_are_a_preference_pair(tmp_path: Path) -> None:
    (pair,) = exported(played(tmp_path, "best_of_n", model(), [SEED]), "preference")
    assert pair["prompt"] == [{"role": "user", "content": SEED["question"]}]
    assert pair["chosen"][0]["content"] == ANSWERS[1]
    assert pair["rejected"][0]["content"] == ANSWERS[2]


def test_the_same_answer_twice_is_graded_once_and_counts_twice(tmp_path: Path) -> None:
    player = model(ANSWERS[0], ANSWERS[0], ANSWERS[2], ANSWERS[0])
    (item,) = items(played(tmp_path, "best_of_n", player, [SEED]))
    assert [a.candidate["agreement"] for a in item.attempts] == [0.75, 0.25]
    assert len(player.requests) == 4 + 2


def test_answers_that_are_all_wrong_leave_nothing(tmp_path: Path) -> None:
    wrong = [f"{n} * 9 = 45\n#### 45{n}" for n in range(4)]
    run = played(tmp_path, "best_of_n", model(*wrong), [SEED])
    assert run.counts["rejected"] == 1
    assert exported(run, "preference") == []


def test_neither_answerer_nor_critic_sees_the_seed_s_own_answer(tmp_path: Path) -> None:
    player = model()
    played(tmp_path, "best_of_n", player, [{**SEED, "answer": "GOLD"}])
    assert not any("GOLD" in m["content"] for r in player.requests for m in r.messages)
    assert not any("agreement" in last(r) for r in player.requests)


def test_answers_side_by_side_are_no_revisions(tmp_path: Path, capsys: Any) -> None:
    run = played(tmp_path, "best_of_n", model(), [SEED])
    found = rounds(al.Store(run.store))
    assert len(found) > 1
    assert [line.revisions for line in found] == [0] * len(found)
    assert run_cli(["rounds", str(run.store)]) == 0
    out = capsys.readouterr().out
    assert "revision" not in out
    assert "repaired" not in out
