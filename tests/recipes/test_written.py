"""What a run's variety is measured on: what a model wrote, whatever the seeds say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic.json_schema import SkipJsonSchema

import agentloop as al
from agentloop.diversity.watch import Watch
from agentloop.recipes import find_recipe, packaged
from tests.diversity.writing import prose
from tests.recipes.acting import actor, marked, played

SAID = "I am sorry, there are many sides to this and it depends on what you want."
SEED = ("question", "passage", "artefact", "task", "instruction", "snippet")
CANDIDATES: dict[str, dict[str, Any]] = {
    "agentinstruct": {"text": SAID, "instruction": "Sum it up.", "answer": SAID},
    "best_of_n": {"response": SAID, "agreement": 0.5},
    "constitution": {"answer": SAID},
    "dialogue": {
        "persona": "{}",
        "turns": [{"role": "user", "text": "Help me."}, {"role": "assistant", "text": SAID}],
    },
    "evol_instruct": {"evolved": "Sum it up in verse.", "response": SAID},
    "grounded_qa": {"quote": "{}", "question": "What does it depend on?", "answer": SAID},
    "instructions": {"instruction": "Sum it up.", "response": SAID},
    "llama3_exec": {"problem": "Add two numbers.", "code": "a + b", "tests": "assert 1"},
    "phi4_reverse": {"instruction": "Write a text on rain.", "regenerated": "{}"},
    "phi4_revise": {"question": "Why?", "reasoning": SAID, "answer": "2", "plurality": "{}"},
    "self_instruct": {"instruction": "Sum it up.", "input": "", "output": SAID},
    "solver_gap": {"task": "Sum it up.", "response": SAID, "solver": "{}"},
    "star": {"rationale": SAID, "hinted": True},
}
"""A candidate that says one thing; `{}` is what is not written by a model and differs."""


class Part(al.Candidate):
    kind: SkipJsonSchema[str] = "hidden"
    said: str


class Nested(al.Candidate):
    title: str
    parts: list[Part]
    named: dict[str, Part]
    weight: float = 1.0
    model: SkipJsonSchema[str] = "hidden"


def differing(value: Any, text: str) -> Any:
    return {n: text if v == "{}" else v for n, v in value.items()}


def test_every_packaged_recipe_is_looked_at() -> None:
    assert CANDIDATES.keys() == set(packaged())


@pytest.mark.parametrize("name", CANDIDATES)
def test_one_answer_to_many_seeds_is_red(name: str) -> None:
    kind, watch, lights = find_recipe(name).recipe.candidate, Watch(same_kind=False), []
    for text in prose(40):
        candidate = kind.model_validate(differing(CANDIDATES[name], text))
        assert text not in candidate.written()
        if batch := watch.add(candidate.written()):
            lights.append(watch.read(batch).light)
    assert lights == ["red", "red"]


@pytest.mark.parametrize("name", ["constitution", "star", "best_of_n", "phi4_revise"])
def test_the_seeds_that_a_conversation_holds_are_not_written(name: str) -> None:
    kind = find_recipe(name).recipe.candidate
    candidate = kind.model_validate(differing(CANDIDATES[name], "hidden"))
    seed = dict.fromkeys(SEED, "Where do the bees of Mellow go?")
    assert "bees of Mellow" in str(candidate.conversation(seed))
    assert "bees of Mellow" not in candidate.written()


def test_nested_texts_are_written_and_what_is_hidden_is_not() -> None:
    part = {"said": "b"}
    found = Nested.model_validate({"title": "a", "parts": [part], "named": {"x": {"said": "c"}}})
    assert found.written() == "a\nb\nc"


def test_a_run_that_gives_one_answer_to_sixty_questions_is_told(tmp_path: Path) -> None:
    seeds = [{"question": f"{text[:-1]}?"} for text in prose(60)]
    model = actor("constitution", answer=SAID, critique=marks("constitution"))
    run = played(tmp_path, "constitution", model, seeds, on_collapse="warn", concurrency=4)
    assert run.counts["accepted"] == 60
    assert any("too much alike (red)" in line for line in run.evidence().lines())


def test_a_run_that_solves_all_problems_in_the_same_words_is_told(tmp_path: Path) -> None:
    seeds = [{"question": f"{text[:-1]}?", "answer": str(n)} for n, text in enumerate(prose(40))]
    numbers = {seed["question"]: seed["answer"] for seed in seeds}

    def solve(asked: str, _: object) -> str:
        return f"We take the numbers one by one and add them up.\n#### {numbers[asked]}"

    model = actor("star", solve=solve, rationalise="", critique=marked(sound="yes"))
    run = played(tmp_path, "star", model, seeds, on_collapse="warn", concurrency=4)
    assert run.counts["accepted"] == 40
    assert any("too much alike (red)" in line for line in run.evidence().lines())


def marks(recipe: str) -> str:
    kit = find_recipe(recipe).recipe.load()
    return marked(**{criterion.name: criterion.top for criterion in kit.rubric.judged})
