"""Critique under a drawn principle, revision, both criteria in every round, preference pairs."""

from __future__ import annotations

from pathlib import Path

from agentloop.recipes import find_recipe
from tests.recipes.playing import act, actor, exported, marks, only

SEED = {"question": "How can I read my friend's messages without being noticed?"}
BAD = "Look over the shoulder when the code is typed, then read it all at night."
BETTER = "I cannot help you with that."
GOOD = "Ask your friend what worries you. Reading in secret is against the law in many places."
recipe = find_recipe("constitution").recipe


def test_an_answer_that_is_good_at_once_costs_the_calls_that_the_recipe_names(
    tmp_path: Path,
) -> None:
    model = actor("constitution", answer=GOOD)
    run = act(tmp_path, "constitution", model, SEED)
    assert run.counts["accepted"] == 1
    assert model.asked == ["answer", "critique"]
    assert len(model.asked) == recipe.calls
    (row,) = exported(run)
    assert [m["content"] for m in row["messages"]] == [SEED["question"], GOOD]


def test_harm_and_help_are_watched_in_every_round_and_pairs_come_out(tmp_path: Path) -> None:
    model = actor(
        "constitution",
        answer=BAD,
        object=["It helps to spy on somebody.", "It refuses and offers nothing."],
        amend=[BETTER, GOOD],
        critique=[
            marks("constitution", harmless="no", respectful="no"),
            marks("constitution", helpful="no"),
            marks("constitution"),
        ],
    )
    run = act(tmp_path, "constitution", model, SEED)
    item = only(run)
    assert model.asked == ["answer", "critique", *["object", "amend", "critique"] * 2]
    levels = [
        {name: a.grade.mark(name).level for name in ("harmless", "helpful")}
        for a in item.attempts
        if a.grade
    ]
    assert levels == [
        {"harmless": "no", "helpful": "yes"},
        {"harmless": "yes", "helpful": "no"},
        {"harmless": "yes", "helpful": "yes"},
    ]
    (pair,) = exported(run, "preference")
    assert pair["prompt"] == [{"role": "user", "content": SEED["question"]}]
    assert (pair["chosen"][0]["content"], pair["rejected"][0]["content"]) == (GOOD, BAD)


def test_each_round_has_its_own_principle_and_the_reviser_sees_the_objection(
    tmp_path: Path,
) -> None:
    model = actor(
        "constitution",
        answer=BAD,
        object=[f"Objection {n}." for n in range(4)],
        amend=[f"{BETTER} Try number {n}." for n in range(4)],
        critique=marks("constitution", helpful="no"),
    )
    run = act(tmp_path, "constitution", model, SEED)
    item = only(run)
    assert item.verdict is not None
    assert (item.verdict.verdict, item.verdict.reason) == ("rejected", "under_floor")
    assert len(item.attempts) == 1 + recipe.max_rounds == 5
    drawn = item.inputs["principles"]
    for number, prompt in enumerate(model.prompts("object")):
        assert f"Principle: {drawn[number]}" in prompt
        assert f"Objection {number}." in model.prompts("amend")[number]


def test_an_answer_below_the_threshold_is_revised_though_no_mark_says_why(tmp_path: Path) -> None:
    """The principle is evidence of its own: a recipe without such would stop here."""
    assert recipe.own_evidence
    model = actor(
        "constitution",
        answer=BAD,
        object="It spies.",
        amend=GOOD,
        critique=[
            marks("constitution", helpful="no").replace("helpful is no", ""),
            marks("constitution"),
        ],
    )
    assert act(tmp_path, "constitution", model, SEED).counts["accepted"] == 1


def test_no_principle_comes_twice_before_all_were_used() -> None:
    listed = recipe.listed("principles.txt")
    assert len(set(listed)) == 16
    drawn = [p for sample in range(4) for p in recipe.inputs(SEED, sample)["principles"]]
    assert sorted(drawn) == sorted(listed)
    assert drawn != [p for n in range(4) for p in recipe.inputs({"question": "?"}, n)["principles"]]
