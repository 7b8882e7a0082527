"""Operators drawn in turn, and WizardLM's elimination rules as checks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agentloop.recipes import find_recipe
from tests.recipes.playing import act, actor, exported, only

SEED = {"instruction": "Name a bird that cannot fly."}
HARDER = "Name a bird that cannot fly and lives on an island, and say who threatens it."
RESPONSE = "The kakapo of New Zealand; stoats and rats that people brought threaten its nests."
recipe = find_recipe("evol_instruct").recipe


def write(evolved: str = HARDER) -> str:
    return json.dumps({"evolved": evolved})


def test_a_good_evolution_costs_the_calls_that_the_recipe_names(tmp_path: Path) -> None:
    model = actor("evol_instruct", deepen=write(), broaden=write(), answer=RESPONSE)
    run = act(tmp_path, "evol_instruct", model, SEED)
    assert run.counts["accepted"] == 1
    assert len(model.requests) == recipe.calls == 3
    assert model.prompts("answer") == [HARDER]
    (row,) = exported(run)
    assert [m["content"] for m in row["messages"]] == [HARDER, RESPONSE]


def test_the_samples_of_a_seed_take_every_operator_before_one_comes_again() -> None:
    drawn = [recipe.inputs(SEED, sample)["operator"] for sample in range(12)]
    assert sorted(drawn[:6]) == sorted(set(drawn)) == sorted(drawn[6:])
    assert {"constrain", "deepen", "concretise", "reason", "complicate", "broaden"} == set(drawn)


def test_the_operator_is_told_and_breadth_has_a_prompt_of_its_own(tmp_path: Path) -> None:
    inputs = [recipe.inputs(SEED, sample) for sample in range(6)]
    model = actor("evol_instruct", deepen=write(), broaden=write(), answer=RESPONSE)
    act(tmp_path, "evol_instruct", model, SEED, items=6, per_seed=6)
    assert model.asked.count("broaden") == 1
    told = "\n".join(model.prompts("deepen"))
    for drawn in inputs:
        assert (f"Change: {drawn['ask']}" in told) == (drawn["operator"] != "broaden")


@pytest.mark.parametrize(
    ("evolved", "response", "check"),
    [
        ("Please name a bird that cannot fly!", RESPONSE, "evolved_gains"),
        (f"{HARDER} {'Say more about it. ' * 8}", RESPONSE, "evolved_gains"),
        (f"Rewritten prompt: {HARDER}", RESPONSE, "avoids_evolved"),
        (HARDER, "I'm sorry, I cannot name any bird.", "response_answers"),
        (HARDER, "It is what it is, and so on.", "response_answers"),
    ],
)
def test_what_falls_foul_of_a_rule_is_repaired_or_dropped(
    tmp_path: Path, evolved: str, response: str, check: str
) -> None:
    repaired = json.dumps({"evolved": HARDER, "response": RESPONSE})
    again = json.dumps({"evolved": evolved, "response": f"{response} "})
    for name, revision, verdict in [("a", repaired, "accepted"), ("b", again, "rejected")]:
        model = actor(
            "evol_instruct",
            deepen=write(evolved),
            broaden=write(evolved),
            answer=response,
            revise=revision,
        )
        item = only(act(tmp_path, "evol_instruct", model, SEED, store=tmp_path / f"{name}.duckdb"))
        assert [c.name for c in item.attempts[0].checks if not c.passed] == [check]
        assert item.attempts[0].grade is None
        assert item.verdict is not None
        assert item.verdict.verdict == verdict
        (remark,) = [c.evidence for c in item.attempts[0].checks if not c.passed]
        assert f"Remark: {remark}" in model.prompts("revise")[0]


def test_no_gain_by_the_critic_s_eyes_is_under_the_floor(tmp_path: Path) -> None:
    from tests.recipes.playing import marks

    model = actor(
        "evol_instruct",
        deepen=write(),
        broaden=write(),
        answer=RESPONSE,
        critique=marks("evol_instruct", gains="no"),
    )
    item = only(act(tmp_path, "evol_instruct", model, SEED, max_rounds=0))
    assert item.verdict is not None
    assert item.verdict.reason == "under_floor"


def test_an_accepted_item_can_be_the_seed_of_the_next_step(tmp_path: Path) -> None:
    first = actor("evol_instruct", deepen=write(), broaden=write(), answer=RESPONSE)
    (row,) = exported(act(tmp_path, "evol_instruct", first, SEED), "raw")
    second = actor(
        "evol_instruct",
        deepen=write(f"{HARDER} Give the year of its rarest count."),
        broaden=write("Name a fish that breathes air on land."),
        answer=RESPONSE,
    )
    run = act(
        tmp_path,
        "evol_instruct",
        second,
        row["candidate"],
        store=tmp_path / "next.duckdb",
        map={"instruction": "evolved"},
    )
    assert run.counts["accepted"] == 1
    assert HARDER in (second.prompts("deepen") + second.prompts("broaden"))[0]
