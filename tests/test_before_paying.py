"""Settings, prompts and rubrics that could only fail after a paid call are refused before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import agentloop as al
from agentloop.config import load_settings
from agentloop.errors import IdentityError, PromptError, RecipeError, RubricError, SeedError
from agentloop.plan import prepare
from tests.builders import (
    GRAPH,
    PASSAGE,
    RUBRIC,
    SEEDS,
    agent,
    draft,
    only,
    play,
    roles,
    tiny,
    write_graph,
    write_prompts,
)

QUOTING = RUBRIC + "    evidence: quote\n    quote_from: {source}\n"
EXAMPLES = RUBRIC + "    examples:\n      - {candidate: {question: q}, level: 'yes'}\n"


def with_prompts(folder: Path, rubric: str = RUBRIC, **prompts: str) -> al.Recipe:
    recipe = tiny(folder)
    write_prompts(Path(recipe.prompts), rubric, **prompts)
    return recipe


@pytest.mark.parametrize(
    ("prompts", "rubric", "error", "says"),
    [
        ({"critique": "{{ seed.pasage }}"}, RUBRIC, SeedError, "no field `pasage`"),
        ({"revise": "{{ candidate.anser }}"}, RUBRIC, PromptError, "did you mean `answer`"),
        ({"ask": "{{ candidate.answer }}"}, EXAMPLES, PromptError, "answer"),
        ({}, QUOTING.format(source="seed.pasage"), SeedError, "no field `pasage`"),
        ({}, QUOTING.format(source="candidate.anser"), RubricError, "did you mean `answer`"),
    ],
)
def test_a_field_that_is_not_there_is_named_before_any_call(
    tmp_path: Path, prompts: dict[str, str], rubric: str, error: type[Exception], says: str
) -> None:
    model = agent()
    with pytest.raises(error, match=says):
        play(tmp_path, model, with_prompts(tmp_path, rubric, **prompts))
    assert model.requests == []
    assert not (tmp_path / "qa.duckdb").exists()


def test_a_field_that_the_prompt_can_do_without_may_be_missing(tmp_path: Path) -> None:
    text = "GENERATE {% if seed.topic is defined %}{{ seed.topic }}{% endif %}{{ seed.passage }}"
    run = play(tmp_path, agent(generate=draft()), with_prompts(tmp_path, generate=text))
    assert run.counts["accepted"] == 1


def test_grounded_qa_needs_a_passage_and_nothing_else(tmp_path: Path) -> None:
    settings = load_settings(
        {"seeds": [{"passage": PASSAGE}], "store": tmp_path / "s.duckdb", "model": agent()}
    )
    plan = prepare("grounded_qa", settings)
    assert plan.seeds.count == 1
    with pytest.raises(SeedError, match="`passage`"):
        prepare("grounded_qa", settings.model_copy(update={"seeds": [{"text": PASSAGE}]}))


def test_a_prompt_that_one_seed_breaks_costs_one_item(tmp_path: Path) -> None:
    recipe = with_prompts(tmp_path, generate="GENERATE {{ seed.passage.upper() }}")
    run = play(tmp_path, agent(generate=draft()), recipe, seeds=[{"passage": ["a"]}, SEEDS[0]])
    assert (run.counts["failed"], run.counts["accepted"]) == (1, 1)
    assert "generate.md" in next(run.items("failed"))["detail"]


class One(al.Candidate):
    text: str


def test_a_type_with_one_field_must_say_its_conversation(tmp_path: Path) -> None:
    free = {name: f"{name.upper()} ." for name in ("critique", "ask", "evidence", "revise")}
    recipe = with_prompts(tmp_path, **free)
    model = agent(generate='{"text": "a"}')
    with pytest.raises(RecipeError, match="`One` has fewer than two fields"):
        play(tmp_path, model, al.Recipe(name="one", candidate=One, prompts=recipe.prompts))
    assert model.requests == []


@pytest.mark.parametrize(
    "changed",
    [
        {"roles": {"critic": {"logprobs": "on"}}},
        {"roles": {"critic": {"structured": "prompt"}}},
        {"seed": 7},
    ],
)
def test_what_changes_a_grade_or_a_draft_is_another_run(tmp_path: Path, changed: Any) -> None:
    play(tmp_path, agent(), seeds=SEEDS[:2])
    with pytest.raises(IdentityError):
        play(tmp_path, agent(), seeds=SEEDS[:3], **changed)


def test_another_graph_or_conversation_in_the_recipe_file_is_another_run(tmp_path: Path) -> None:
    file = write_graph(tmp_path)
    play(tmp_path, agent(), str(file))
    more = "\n    def conversation(self, seed):\n        return [('user', self.answer)]\n"
    file.write_text(GRAPH.replace("    answer: str\n", "    answer: str\n" + more))
    with pytest.raises(IdentityError, match=r"`recipe\.source`"):
        play(tmp_path, agent(), str(file), seeds=SEEDS[:2])


def test_one_model_is_opened_once_however_its_roles_ask_it(tmp_path: Path) -> None:
    settings = load_settings(
        {
            "seeds": SEEDS[:1],
            "store": tmp_path / "s.duckdb",
            "model": "openai/x",
            "base_url": "http://127.0.0.1:9/v1",
            "roles": {"critic": {"logprobs": "on"}, "reviser": {"structured": "prompt"}},
        }
    )
    plan = prepare(tiny(tmp_path), settings)
    assert len(set(plan.endpoints.values())) == 3
    assert len({id(endpoint.limits.model) for endpoint in plan.endpoints.values()}) == 1


def test_a_scripted_model_of_any_name_asks_litellm_nothing(tmp_path: Path) -> None:
    model = agent()
    model.name = "judge"
    assert only(play(tmp_path, model)).verdict
    assert roles(model) == ["GENERATE", "CRITIQUE"]
