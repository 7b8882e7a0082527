"""Turns by two roles, a drawn person, criteria for each reply, replies rewritten in place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import agentloop as al
from agentloop.recipes import find_recipe
from tests.recipes.playing import act, actor, exported, marks, only

SEED = {"task": "to hang a heavy mirror"}
SAID = ["Mirror, 18 kilos. What fixings?", "Drill size?", "And how high?"]
REPLIES = ["Two toggle bolts.", "13 mm, as a rule.", "The middle at eye level."]
OWN = ("reply_1", "reply_2", "reply_3")
recipe = find_recipe("dialogue").recipe


def play(**more: Any) -> Any:
    given = {"speak": SAID, "reply": REPLIES, "critique": marks("dialogue", OWN)}
    return actor("dialogue", **{**given, **more})


def texts(turns: list[dict[str, str]], name: str = "text") -> list[str]:
    return [turn[name] for turn in turns]


def test_a_dialogue_costs_the_calls_that_the_recipe_names(tmp_path: Path) -> None:
    model = play()
    run = act(tmp_path, "dialogue", model, SEED)
    assert run.counts["accepted"] == 1
    assert model.asked == [*["speak", "reply"] * 3, "critique"]
    assert len(model.asked) == recipe.calls
    (row,) = exported(run)
    assert texts(row["messages"], "role") == ["user", "assistant"] * 3
    assert texts(row["messages"], "content") == [
        text for pair in zip(SAID, REPLIES, strict=True) for text in pair
    ]


def test_each_sees_what_was_said_and_only_the_person_knows_who_it_is(tmp_path: Path) -> None:
    model = play()
    item = only(act(tmp_path, "dialogue", model, SEED))
    person = item.inputs["persona"]
    assert person in recipe.listed("personas.txt")
    for number, prompt in enumerate(model.prompts("speak")):
        assert person in prompt
        assert all((text in prompt) == (n < number) for n, text in enumerate(SAID))
    for number, prompt in enumerate(model.prompts("reply")):
        assert person not in prompt
        assert all((text in prompt) == (n <= number) for n, text in enumerate(SAID))
        assert all((text in prompt) == (n < number) for n, text in enumerate(REPLIES))


def test_the_person_may_have_a_model_of_its_own(tmp_path: Path) -> None:
    person, model = al.ScriptedModel(SAID), play()
    run = act(tmp_path, "dialogue", model, SEED, models={"user": person})
    assert run.counts["accepted"] == 1
    assert len(person.requests) == 3
    assert "speak" not in model.asked


def test_a_seed_s_own_person_is_taken_and_others_differ_from_sample_to_sample() -> None:
    drawn = [recipe.inputs(SEED, sample)["persona"] for sample in range(16)]
    assert sorted(drawn) == sorted(set(recipe.listed("personas.txt")))
    own = recipe.inputs({**SEED, "persona": "a bell-ringer"}, 3)
    assert own["persona"] == "a bell-ringer"


def test_whole_and_replies_are_graded_each_by_a_criterion(tmp_path: Path) -> None:
    model = play(critique=marks("dialogue", OWN, reply_2="no", in_character="no"))
    item = only(act(tmp_path, "dialogue", model, SEED, max_rounds=0))
    grade = item.attempts[0].grade
    assert grade is not None
    assert [m.criterion for m in grade.marks] == ["in_character", "coherent", "moves_on", *OWN]
    assert grade.mark("reply_2").level == "no"
    assert item.verdict is not None
    assert item.verdict.reason == "below_threshold"
    (asked,) = model.prompts("critique")
    assert "assistant's message 2" in asked
    assert "assistant message 2" in asked


def test_replies_at_fault_are_rewritten_and_the_person_s_words_stay(tmp_path: Path) -> None:
    better = ["Two toggle bolts of 20 kg.", "13 mm; the packet says.", "Middle at 160 cm."]
    model = play(
        mend=json.dumps(dict(zip(OWN, better, strict=True))),
        critique=[
            marks("dialogue", OWN, reply_1="no", reply_3="no", coherent="no"),
            marks("dialogue", OWN),
        ],
    )
    item = only(act(tmp_path, "dialogue", model, SEED))
    assert model.asked[7:] == ["mend", "critique"]
    assert "reply_1 is no" in model.prompts("mend")[0]
    assert item.candidate is not None
    assert texts(item.candidate["turns"]) == [
        text for pair in zip(SAID, better, strict=True) for text in pair
    ]
    assert item.candidate["persona"] == item.inputs["persona"]
