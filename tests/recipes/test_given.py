"""`grounded_qa` and `instructions`: calls as they are named, wishes that reach the generator."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from agentloop.recipes import find_recipe
from tests.recipes.playing import act, actor, marks

PASSAGE = (
    "Linen dries faster than wool, which holds 30 percent of its weight in water when it is wet."
)
PLAYS: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "grounded_qa": (
        {"passage": PASSAGE},
        {
            "generate": json.dumps(
                {
                    "quote": PASSAGE,
                    "question": "How much water can wet wool hold?",
                    "answer": "Wet wool holds 30 percent of its weight in water.",
                }
            ),
            "reference": "30 percent of its weight.",
            "critique": marks("grounded_qa").replace(
                '"faithful": {', f'"faithful": {{"quote": {json.dumps(PASSAGE)}, '
            ),
        },
    ),
    "instructions": (
        {"task": "know what dries faster"},
        {
            "generate": json.dumps(
                {
                    "instruction": "Does linen dry faster than wool?",
                    "response": "Linen dries faster.",
                }
            )
        },
    ),
}


@pytest.mark.parametrize("name", PLAYS)
def test_an_item_costs_the_calls_that_the_recipe_names(name: str, tmp_path: Path) -> None:
    seed, scripts = PLAYS[name]
    model = actor(name, **scripts)
    assert act(tmp_path, name, model, seed).counts["accepted"] == 1
    assert len(model.requests) == find_recipe(name).recipe.calls


@pytest.mark.parametrize("name", PLAYS)
def test_attributes_and_worn_phrases_reach_the_generator(name: str, tmp_path: Path) -> None:
    seed, scripts = PLAYS[name]
    recipe = find_recipe(name).recipe

    def draw(fields: dict[str, Any], sample: int, chance: random.Random) -> dict[str, Any]:
        own = recipe.draw(fields, sample, chance) if recipe.draw else {}
        return {**own, "attributes": {"difficulty": "hard"}, "avoid": ["delve into"]}

    model = actor(name, **scripts)
    act(tmp_path, name, model, seed, draw=draw)
    (asked,) = model.prompts("generate")
    assert "- difficulty: hard" in asked
    assert '"delve into"' in asked
