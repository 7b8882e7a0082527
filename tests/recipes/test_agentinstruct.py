"""Transformation, task, suggester and editor, answer; numbers that the passage lacks are caught."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import agentloop as al
from agentloop.recipes import find_recipe
from tests.recipes.playing import act, actor, exported, marks, only

SEED = {"passage": "Linen dries faster than wool, which holds 30 percent of its weight in water."}
TEXT = "A: Take wool on the boat. B: No, linen! Wool holds 30 percent of its weight in water."
FIRST = "Which of the two does B prefer?"
IDEAS = "1. Ask for the reason.\n2. Ask what would change B's mind."
HARDER = "Which of the two does B prefer, and which fact is the reason?"
ANSWER = "Linen, because wool holds 30 percent of its weight in water."
recipe = find_recipe("agentinstruct").recipe


def play(**more: Any) -> Any:
    given = {"transform": TEXT, "instruct": FIRST, "suggest": IDEAS, "edit": HARDER}
    return actor("agentinstruct", **{**given, "answer": ANSWER, **more})


def test_an_exercise_costs_the_calls_that_the_recipe_names(tmp_path: Path) -> None:
    model = play()
    run = act(tmp_path, "agentinstruct", model, SEED)
    assert run.counts["accepted"] == 1
    assert model.asked == ["transform", "instruct", "suggest", "edit", "answer", "critique"]
    assert len(model.asked) == recipe.calls
    (row,) = exported(run)
    assert [m["content"] for m in row["messages"]] == [f"{TEXT}\n\n{HARDER}", ANSWER]


def test_the_editor_sees_task_and_ideas_and_the_answer_is_to_the_edited_one(
    tmp_path: Path,
) -> None:
    model = play()
    act(tmp_path, "agentinstruct", model, SEED)
    (edit,), (answer,) = model.prompts("edit"), model.prompts("answer")
    assert FIRST in edit
    assert IDEAS in edit
    assert HARDER in answer
    assert SEED["passage"] not in answer


def test_suggester_and_editor_may_have_models_of_their_own(tmp_path: Path) -> None:
    models = {"suggester": al.ScriptedModel([IDEAS]), "editor": al.ScriptedModel([HARDER])}
    model = play()
    run = act(tmp_path, "agentinstruct", model, SEED, models=models)
    assert run.counts["accepted"] == 1
    assert [len(own.requests) for own in models.values()] == [1, 1]
    assert not {"suggest", "edit"} & set(model.asked)


def test_kinds_and_tasks_are_drawn_and_none_twice_before_all_were_used(tmp_path: Path) -> None:
    for name, file in [("kind", "transformations.txt"), ("task", "tasks.txt")]:
        listed = recipe.listed(file)
        drawn = [recipe.inputs(SEED, sample)[name] for sample in range(len(listed))]
        assert sorted(drawn) == sorted(set(listed))
    model = play()
    item = only(act(tmp_path, "agentinstruct", model, SEED))
    assert f"Kind: {item.inputs['kind']}" in model.prompts("transform")[0]
    assert f"Type: {item.inputs['task']}" in model.prompts("instruct")[0]


def test_a_number_that_the_passage_lacks_is_repaired(tmp_path: Path) -> None:
    wrong = TEXT.replace("30", "45")
    right = json.dumps({"text": TEXT, "instruction": HARDER, "answer": ANSWER})
    model = play(transform=wrong, revise=right)
    item = only(act(tmp_path, "agentinstruct", model, SEED))
    assert [a.reason for a in item.attempts] == ["failed_check", None]
    assert "gives 45" in model.prompts("revise")[0]
    assert model.asked.count("critique") == 1


def test_a_text_that_leaves_its_passage_is_under_the_floor(tmp_path: Path) -> None:
    model = play(critique=marks("agentinstruct", faithful="no"))
    item = only(act(tmp_path, "agentinstruct", model, SEED, max_rounds=0))
    assert item.verdict is not None
    assert item.verdict.reason == "under_floor"
