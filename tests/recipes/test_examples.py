"""The example seeds of the recipes, and what every packaged recipe must have."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentloop.recipes import find_recipe, packaged
from agentloop.rubric_lint import lint
from agentloop.seeds import Seeds

EXAMPLES = Path(__file__).parents[2] / "examples"
SEEDS = [
    ("constitution", "questions"),
    ("dialogue", "personas"),
    ("dialogue", "tasks"),
    ("evol_instruct", "instructions"),
    ("self_instruct", "instructions"),
    ("agentinstruct", "passages"),
]


@pytest.mark.parametrize(("recipe", "file"), SEEDS)
def test_a_recipe_can_be_run_on_its_example_seeds(recipe: str, file: str) -> None:
    seeds = Seeds(EXAMPLES / f"{file}.jsonl")
    kit = find_recipe(recipe).recipe.load()
    seeds.check(kit.reads)
    assert len(list(seeds)) >= 12
    assert seeds.duplicates == 0
    for seed in seeds:
        assert "sample" in kit.recipe.inputs(seed.fields, 0)


@pytest.mark.parametrize("name", packaged())
def test_a_packaged_recipe_names_its_source_and_knows_good_from_bad(name: str) -> None:
    found = find_recipe(name)
    kit = found.recipe.load()
    text = found.file.read_text(encoding="utf-8").partition("from __future__")[0]
    assert "After " in text
    assert "What we do differently" in text
    assert sorted(c.kind for c in kit.canaries) == ["bad", "bad", "good", "good"]
    assert not lint(kit.rubric)
    assert not kit.notices
