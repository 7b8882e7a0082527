"""phi4_reverse: an instruction is kept when the artefact can be made from it, and only from it."""

from __future__ import annotations

from pathlib import Path

import pytest

import agentloop as al
from agentloop.recipes import find_recipe
from tests.recipes.acting import actor, exported, items, last, marked, played

CODE = (
    "def clean(names):\n"
    "    out = {n.strip().lower() for n in names if n.strip()}\n    return sorted(out)"
)
ALIKE = (
    "```python\ndef clean(xs):\n    '''Doc.'''\n    # a note\n"
    "    found = {x.strip().lower() for x in xs if x.strip()}\n    return sorted(found)\n```"
)
OTHER = (
    "def clean(names):\n    counts = {}\n"
    "    for name in names:\n        counts[name] = 1\n    return counts"
)
TEXT = "The hut is open from June to September. It has 24 beds. Dogs sleep in the shed behind it."
RETOLD = (
    "Our hut opens in June and stays open until September; 24 beds, and dogs sleep in the shed."
)
STRAY = (
    "Welcome to the mountains! Fresh air, friendly people and wonderful views await every guest."
)
WRITTEN = (
    "Write a function `clean(names)` that lowers and strips names and sorts the different ones."
)
AGAIN = "Write `clean(names)`: strip and lower each name, drop empty ones, sort the different ones."
GOOD = marked(fits="yes", natural="yes")


def only(folder: Path, model: al.ScriptedModel, artefact: str = CODE) -> al.Item:
    (item,) = items(played(folder, "phi4_reverse", model, [{"artefact": artefact}]))
    return item


def model(*follow: str, describe: str = WRITTEN, again: str = AGAIN) -> al.ScriptedModel:
    made = iter(follow)
    return actor(
        "phi4_reverse",
        describe=describe,
        follow=lambda *_: next(made),
        describe_again=again,
        critique=GOOD,
    )


def outcome(item: al.Item) -> str:
    assert item.verdict
    return item.verdict.verdict


@pytest.mark.parametrize(("artefact", "made"), [(CODE, ALIKE), (TEXT, RETOLD)])
def test_what_can_be_made_anew_is_kept_with_the_original_as_response(
    tmp_path: Path, artefact: str, made: str
) -> None:
    player = model(made)
    run = played(tmp_path, "phi4_reverse", player, [{"artefact": artefact}])
    (item,) = items(run)
    assert outcome(item) == "accepted"
    assert len(player.requests) == find_recipe("phi4_reverse").recipe.calls
    (line,) = exported(run, "messages")
    assert [m["content"] for m in line["messages"]] == [WRITTEN, artefact]


def test_who_follows_the_instruction_does_not_see_the_artefact(tmp_path: Path) -> None:
    player = model(ALIKE)
    only(tmp_path, player)
    assert last(player.requests[1]) == WRITTEN


@pytest.mark.parametrize(("artefact", "made"), [(CODE, OTHER), (TEXT, STRAY), (CODE, "def clean(")])
def test_what_comes_out_otherwise_is_no_fidelity(tmp_path: Path, artefact: str, made: str) -> None:
    player = model(made, made)
    item = only(tmp_path, player, artefact)
    assert outcome(item) == "rejected"
    assert item.attempts[0].reason == "failed_check"
    (found,) = [c for c in item.attempts[0].checks if c.name == "regenerated_alike"]
    assert not found.passed
    assert found.fraction < 0.65


def test_a_vague_instruction_is_written_again_by_what_was_missing(tmp_path: Path) -> None:
    player = model(OTHER, ALIKE)
    item = only(tmp_path, player)
    assert outcome(item) == "accepted"
    assert item.candidate == {"instruction": AGAIN, "regenerated": ALIKE}
    asked = last(player.requests[2])
    assert "% like the artefact" in asked
    assert OTHER in asked


def test_an_instruction_that_holds_the_artefact_is_refused(tmp_path: Path) -> None:
    player = model(CODE, CODE, describe=f"Write this: {CODE}", again=f"Write exactly: {CODE}")
    item = only(tmp_path, player)
    assert outcome(item) == "rejected"
    assert "copies the artefact word for word" in item.attempts[0].detail


def test_the_critic_sees_the_artefact_and_not_what_was_made_anew(tmp_path: Path) -> None:
    player = model(ALIKE)
    only(tmp_path, player)
    judged = last(player.requests[-1])
    assert CODE in judged
    assert "regenerated" not in judged
