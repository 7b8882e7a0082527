"""star: a wrong solution is written again with the answer as a hint, and says so."""

from __future__ import annotations

from pathlib import Path

import pytest

import agentloop as al
from agentloop.recipes import find_recipe
from tests.recipes.acting import actor, exported, items, last, marked, played

SEED = {"question": "A pen costs 2 euros and a book 7. What do 3 pens and 2 books cost?"}
SEED = {**SEED, "answer": "3 * 2 = 6 and 2 * 7 = 14, together 20.\n#### 20"}
RIGHT = (
    "3 pens cost 3 * 2 = 6 euros, 2 books cost 2 * 7 = 14 euros.\nTogether 6 + 14 = 20.\n#### 20"
)
WRONG = "A pen and a book cost 2 + 7 = 9 euros, and there are 5 things.\nSo 5 * 9 = 45.\n#### 45"
GOOD = marked(sound="yes")


def star(solve: str = RIGHT, rationalise: str = RIGHT, critique: str = GOOD) -> al.ScriptedModel:
    return actor("star", solve=solve, rationalise=rationalise, critique=critique)


def only(folder: Path, model: al.ScriptedModel) -> al.Item:
    (item,) = items(played(folder, "star", model, [SEED]))
    return item


def outcome(item: al.Item) -> tuple[str, str | None]:
    assert item.verdict
    return item.verdict.verdict, item.verdict.reason


def test_a_right_solution_is_kept_as_it_is_and_marked_as_not_hinted(tmp_path: Path) -> None:
    model = star()
    item = only(tmp_path, model)
    assert outcome(item) == ("accepted", None)
    assert item.candidate == {"rationale": RIGHT, "hinted": False}
    assert len(model.requests) == find_recipe("star").recipe.calls


def test_who_solves_first_is_not_told_the_answer(tmp_path: Path) -> None:
    model = star()
    only(tmp_path, model)
    assert last(model.requests[0]) == SEED["question"]


def test_a_wrong_solution_is_written_again_with_the_answer_and_nothing_more_as_a_hint(
    tmp_path: Path,
) -> None:
    model = star(solve=WRONG)
    item = only(tmp_path, model)
    assert outcome(item) == ("accepted", None)
    assert item.candidate == {"rationale": RIGHT, "hinted": True}
    assert [a.reason for a in item.attempts] == ["failed_check", None]
    hinted = last(model.requests[1])
    assert "(It comes to 20.)" in hinted
    assert "2 * 7 = 14" not in hinted, "the seed's own steps would be copied"


def test_a_solution_that_is_wrong_even_with_the_hint_is_dropped_after_one_try(
    tmp_path: Path,
) -> None:
    model = star(solve=WRONG, rationalise=WRONG.replace("45", "44"))
    item = only(tmp_path, model)
    assert outcome(item) == ("rejected", "failed_check")
    assert len(model.requests) == 2


@pytest.mark.parametrize("words", ["the hint says", "as the correct answer is", "the given answer"])
def test_a_solution_that_speaks_of_its_hint_is_refused(tmp_path: Path, words: str) -> None:
    told = f"We know that {words} 20, and so the pens and the books must cost that.\n#### 20"
    assert outcome(only(tmp_path, star(solve=WRONG, rationalise=told)))[0] == "rejected"


def test_a_right_answer_on_wrong_steps_is_no_solution(tmp_path: Path) -> None:
    lucky = "There are 5 things at 9 euros, which is 45, and so it is 20.\n#### 20"
    item = only(tmp_path, star(lucky, lucky, marked(sound="no")))
    assert outcome(item) == ("rejected", "under_floor")


def test_the_critic_is_not_told_that_there_was_a_hint(tmp_path: Path) -> None:
    model = star(solve=WRONG)
    only(tmp_path, model)
    assert "hinted" not in last(model.requests[-1])


def test_hinted_ones_can_be_left_out_of_an_export(tmp_path: Path) -> None:
    other = {"question": "What is half of 40, and how do you work it out?", "answer": "20"}
    texts = iter([WRONG, "Half of 40 is 40 / 2, which comes to 20 and no more.\n#### 20"])
    model = actor("star", solve=lambda *_: next(texts), rationalise=RIGHT, critique=GOOD)
    run = played(tmp_path, "star", model, [SEED, other])
    assert run.counts["accepted"] == 2
    target = tmp_path / "unhinted.jsonl"
    assert run.export(target, where="candidate->>'hinted' = 'false'") == 1
    for line in exported(run, "messages"):
        assert line["messages"][0]["content"] in (SEED["question"], other["question"])
