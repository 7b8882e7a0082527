"""phi4_revise: only a question that divides its answers is kept, with the plurality's answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import agentloop as al
from agentloop.recipes import find_recipe
from tests.recipes.acting import actor, exported, items, last, marked, played

PASSAGE = (
    "The mill ground 40 sacks a day; a second wheel doubled that. The miller kept every tenth sack."
)
QUESTION = "How many sacks a day did the miller keep after the second wheel was added?"
GOOD = marked(grounded="yes", follows="yes")
STEPS = "The second wheel doubled 40 sacks to 80, and every tenth of 80 sacks is 8 sacks."


def answer(text: str, steps: str = STEPS) -> str:
    return json.dumps({"reasoning": steps, "answer": text})


def model(*answers: str, critique: list[str] | None = None, improve: str = "") -> al.ScriptedModel:
    said, grades = iter(answers), iter(critique or [GOOD])
    return actor(
        "phi4_revise",
        question=QUESTION,
        answer=lambda *_: answer(next(said)),
        critique=lambda *_: next(grades),
        improve=improve,
    )


def only(folder: Path, player: al.ScriptedModel) -> al.Item:
    (item,) = items(played(folder, "phi4_revise", player, [{"passage": PASSAGE}]))
    return item


def outcome(item: al.Item) -> tuple[str, str | None]:
    assert item.verdict
    return item.verdict.verdict, item.verdict.reason


def test_a_question_that_divides_is_kept_with_the_plurality_s_answer(tmp_path: Path) -> None:
    player = model("4 sacks", "8 sacks", "8", "80", "The answer is 8.")
    item = only(tmp_path, player)
    assert outcome(item) == ("accepted", None)
    assert item.candidate
    assert item.candidate["answer"] == item.candidate["plurality"] == "8 sacks"
    assert item.candidate["agreed"] == 0.6
    assert len(player.requests) == find_recipe("phi4_revise").recipe.calls


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        (["8", "8 sacks", "8", "8.0", "8"], "5 of 5 answers agree"),
        (["1", "2", "3", "4", "5"], "1 of 5 answers agree"),
    ],
)
def test_a_question_on_which_all_or_none_agree_is_dropped_before_it_is_judged(
    tmp_path: Path, answers: list[str], says: str
) -> None:
    player = model(*answers)
    item = only(tmp_path, player)
    assert outcome(item) == ("rejected", "filtered")
    assert item.verdict
    assert item.verdict.detail == says
    assert len(player.requests) == 6
    assert item.attempts == ()


def test_a_criticised_answer_is_improved_and_the_question_stands(tmp_path: Path) -> None:
    better = answer("8 sacks", "Twice 40 sacks is 80 sacks a day, and a tenth of 80 is 8.")
    player = model(
        *("8", "8", "4", "8", "80"),
        critique=[marked(grounded="yes", follows="no"), GOOD],
        improve=better,
    )
    item = only(tmp_path, player)
    assert outcome(item) == ("accepted", None)
    first, second = (a.candidate for a in item.attempts)
    assert first["question"] == second["question"] == QUESTION
    assert second["reasoning"].startswith("Twice 40")
    assert "follows is missing" in last(player.requests[-2])


def test_a_revision_that_leaves_the_plurality_s_answer_is_refused(tmp_path: Path) -> None:
    player = model(
        *("8", "8", "4", "8", "80"),
        critique=[marked(grounded="yes", follows="no"), GOOD],
        improve=answer("80 sacks"),
    )
    item = only(tmp_path, player)
    assert outcome(item)[0] == "rejected"
    assert item.attempts[1].reason == "failed_check"
    assert "another answer than most" in item.attempts[1].detail


def test_the_critic_is_not_shown_how_many_agreed(tmp_path: Path) -> None:
    player = model("8", "8", "4", "8", "80")
    only(tmp_path, player)
    shown = last(player.requests[-1])
    assert "reasoning ---" in shown
    assert "agreed ---" not in shown
    assert "plurality ---" not in shown


def test_a_trainer_reads_passage_question_reasoning_and_answer(tmp_path: Path) -> None:
    run = played(tmp_path, "phi4_revise", model("8", "8", "4", "8", "80"), [{"passage": PASSAGE}])
    (line,) = exported(run, "messages")
    assert [m["content"] for m in line["messages"]] == [
        f"{PASSAGE}\n\n{QUESTION}",
        f"{STEPS}\n\nAnswer: 8",
    ]
