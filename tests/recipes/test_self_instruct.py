"""Examples from the pool, the early novelty filter, label-first instances, the word rules."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from agentloop.recipes import find_recipe
from tests.recipes.playing import act, actor, exported, only

SEED = {"instruction": "Suggest a warm supper for two that is ready in half an hour."}
PEOPLE = [
    "Explain to a child of ten why the moon changes its shape.",
    "Write four lines about the first snow of the year.",
]
OWN = "Sort these towns by the length of their names."
NEW = "Correct the punctuation of the sentence below."
recipe = find_recipe("self_instruct").recipe


def draw(seed: dict[str, Any], sample: int, chance: random.Random) -> dict[str, Any]:
    people = [{"fields": {"instruction": text}, "item": "", "depth": 0} for text in PEOPLE]
    own = {"fields": {"instruction": OWN, "input": "", "output": "x"}, "item": "a1", "depth": 1}
    return {"examples": [*people, own]}


def play(instruction: str = NEW, label: str = "No", **more: Any) -> Any:
    given = {
        "instruct": json.dumps({"instruction": instruction}),
        "classify": label,
        "instance": json.dumps({"input": "Come here said Tom", "output": '"Come here," said Tom.'}),
        "label": json.dumps({"output": "Spam", "input": "You won!"}),
    }
    return actor("self_instruct", **{**given, **more})


def test_a_new_task_costs_the_calls_that_the_recipe_names(tmp_path: Path) -> None:
    model = play()
    run = act(tmp_path, "self_instruct", model, SEED, draw=draw)
    assert run.counts["accepted"] == 1
    assert model.asked == ["instruct", "classify", "instance", "critique"]
    assert len(model.asked) == recipe.calls
    (row,) = exported(run)
    assert [m["content"] for m in row["messages"]] == [
        f"{NEW}\n\nCome here said Tom",
        '"Come here," said Tom.',
    ]


def test_examples_by_people_and_of_the_run_are_shown(tmp_path: Path) -> None:
    assert recipe.pool == (6, 2)
    model = play()
    act(tmp_path, "self_instruct", model, SEED, draw=draw)
    (asked,) = model.prompts("instruct")
    assert asked.splitlines() == [f"{n}. {text}" for n, text in enumerate([*PEOPLE, OWN], 1)]


def test_without_a_pool_the_seed_is_the_example(tmp_path: Path) -> None:
    model = play()
    assert act(tmp_path, "self_instruct", model, SEED).counts["accepted"] == 1
    assert model.prompts("instruct") == [f"1. {SEED['instruction']}"]


@pytest.mark.parametrize("example", [*PEOPLE, OWN])
def test_an_instruction_like_an_example_ends_there(tmp_path: Path, example: str) -> None:
    model = play(f"Please {example[0].lower()}{example[1:]}")
    item = only(act(tmp_path, "self_instruct", model, SEED, draw=draw))
    assert model.asked == ["instruct"]
    assert item.verdict is not None
    assert (item.verdict.verdict, item.verdict.reason) == ("rejected", "filtered")
    assert example in item.verdict.detail


def test_a_label_is_written_before_its_input(tmp_path: Path) -> None:
    for label, name, first in [("Yes.", "label", "output"), ("no", "instance", "input")]:
        model = play(label=label)
        run = act(tmp_path, "self_instruct", model, SEED, store=tmp_path / f"{name}.duckdb")
        assert run.counts["accepted"] == 1
        (request,) = [r for r in model.requests if model.name_of(r) == name]
        assert request.schema is not None
        assert next(iter(request.schema["properties"])) == first


def test_no_input_is_none_at_all(tmp_path: Path) -> None:
    model = play(instance=json.dumps({"input": "None.", "output": "Done."}))
    run = act(tmp_path, "self_instruct", model, SEED)
    assert only(run).candidate == {"instruction": NEW, "input": "", "output": "Done."}
    (row,) = exported(run)
    assert row["messages"][0]["content"] == NEW


@pytest.mark.parametrize(
    "instruction",
    [
        "Sort these numbers.",
        "word " * 151,
        "Describe what the picture of the harbour shows.",
        "Write a program that prints the first ten primes.",
        "Go to the next town and ask for its name.",
        "- List three kinds of clouds and their heights.",
    ],
)
def test_word_rules_spare_the_critic_and_are_repaired(tmp_path: Path, instruction: str) -> None:
    mended = json.dumps({"instruction": NEW, "input": "none", "output": "Done."})
    model = play(instruction, revise=mended)
    item = only(act(tmp_path, "self_instruct", model, SEED))
    assert model.asked == ["instruct", "classify", "instance", "revise", "critique"]
    assert [a.reason for a in item.attempts] == ["failed_check", None]
    assert item.candidate is not None
    assert item.candidate["instruction"] == NEW


def test_what_must_be_new_is_the_instruction() -> None:
    task = recipe.candidate(instruction=NEW, input="a", output="b")  # type: ignore[call-arg]
    assert task.novelty(SEED) == NEW


def test_the_judge_is_not_shown_the_seed(tmp_path: Path) -> None:
    model = play()
    act(tmp_path, "self_instruct", model, SEED, draw=draw)
    (asked,) = model.prompts("critique")
    assert NEW in asked
    assert SEED["instruction"] not in asked
