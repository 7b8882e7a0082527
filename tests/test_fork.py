"""Forks and retries: what is asked again, and what is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import agentloop as al
from agentloop.errors import IdentityError, RefusedRequest, SettingsError, StoreError
from agentloop.models.base import Reply
from agentloop.store import Store
from tests.builders import (
    RUBRIC,
    SEEDS,
    agent,
    asked,
    draft,
    marks,
    only,
    play,
    roles,
    tiny,
    verdicts,
    write_prompts,
)

LENIENT = RUBRIC.replace("0.8", "0.5")


def changed(folder: Path, rubric: str = RUBRIC, **prompts: str) -> al.Recipe:
    recipe = tiny(folder)
    write_prompts(Path(recipe.prompts), rubric, **prompts)
    return recipe


def test_a_fork_without_a_change_makes_no_call(tmp_path: Path) -> None:
    play(tmp_path, agent(), seeds=SEEDS[:5])
    model = agent()
    run = play(tmp_path, model, seeds=SEEDS[:5], fork="again")
    assert model.requests == []
    assert (run.name, run.counts["accepted"]) == ("again", 5)
    assert (run.counts["calls"], run.counts["requests"], run.counts["cost_usd"]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("rubric", "prompts", "again"),
    [
        (LENIENT, {}, []),
        (RUBRIC, {"revise": "REVISE anew {{ candidate.answer }}"}, []),
        (RUBRIC, {"critique": "CRITIQUE anew {{ candidate.answer }}"}, ["CRITIQUE"] * 3),
        (RUBRIC, {"generate": "GENERATE anew {{ seed.passage }}"}, ["GENERATE", "CRITIQUE"] * 3),
    ],
)
def test_a_fork_asks_again_exactly_what_a_change_affects(
    tmp_path: Path, rubric: str, prompts: dict[str, str], again: list[str]
) -> None:
    play(tmp_path, agent(), seeds=SEEDS[:3])
    model = agent()
    recipe = changed(tmp_path, rubric, **prompts)
    with pytest.raises(IdentityError, match="--fork NEW"):
        play(tmp_path, model, recipe, seeds=SEEDS[:3])
    run = play(tmp_path, model, recipe, seeds=SEEDS[:3], fork="new")
    assert roles(model) == again
    assert run.counts["accepted"] == 3


def test_another_model_of_one_role_asks_that_role_again(tmp_path: Path) -> None:
    play(tmp_path, agent(), seeds=SEEDS[:3])
    judge, model = agent(), agent()
    judge.identity = {"model": "scripted/judge", "endpoint": None}
    run = play(tmp_path, model, seeds=SEEDS[:3], fork="judged", models={"critic": judge})
    assert model.requests == []
    assert roles(judge) == ["CRITIQUE"] * 3
    story = Store(run.store).item(next(run.items())["item"], "judged")
    assert "generator/0/-/0/0/0 answered from run tiny" in story.why()


def test_a_fork_of_a_fork_knows_its_grandparents_replies(tmp_path: Path) -> None:
    play(tmp_path, agent(), seeds=SEEDS[:2])
    recipe = changed(tmp_path, critique="CRITIQUE two {{ candidate.answer }}")
    play(tmp_path, agent(), recipe, seeds=SEEDS[:2], fork="two")
    recipe = changed(tmp_path, critique="CRITIQUE three {{ candidate.answer }}")
    model = agent()
    run = play(tmp_path, model, recipe, seeds=SEEDS[:2], run="two", fork="three")
    assert roles(model) == ["CRITIQUE"] * 2
    assert run.counts["calls"] == 2


def test_a_fork_that_was_stopped_goes_on_by_its_name(tmp_path: Path) -> None:
    play(tmp_path, agent(), seeds=SEEDS[:4])
    recipe = changed(tmp_path, LENIENT)
    play(tmp_path, agent(), recipe, seeds=SEEDS[:4], fork="new", items=2)
    model = agent()
    run = play(tmp_path, model, recipe, seeds=SEEDS[:4], run="new", items=4)
    assert model.requests == []
    assert run.counts["accepted"] == 4
    assert play(tmp_path, model, recipe, seeds=SEEDS[:4], fork="new", items=4).counts == run.counts


def test_a_fork_takes_over_what_was_drawn(tmp_path: Path) -> None:
    drawn = iter(range(99))
    recipe = tiny(tmp_path, draw=lambda seed, sample, chance: {"n": next(drawn)})
    write_prompts(Path(recipe.prompts), generate="GENERATE {{ seed.passage }} {{ inputs.n }}")
    play(tmp_path, agent(), recipe, seeds=SEEDS[:2])
    model = agent()
    play(tmp_path, model, recipe, seeds=SEEDS[:2], fork="new")
    assert model.requests == []


def test_nothing_to_fork_is_said_before_any_call(tmp_path: Path) -> None:
    model = agent()
    with pytest.raises(StoreError, match="no run `tiny` to fork"):
        play(tmp_path, model, fork="new")
    with pytest.raises(SettingsError, match="a name of its own"):
        play(tmp_path, model, fork="tiny")
    assert model.requests == []
    assert not (tmp_path / "qa.duckdb").exists()


def test_failed_items_are_opened_again_on_demand_only(tmp_path: Path) -> None:
    broken = agent(generate=RefusedRequest("no"))
    assert verdicts(play(tmp_path, broken, seeds=SEEDS[:3]))["failed"] == 3
    model = agent()
    assert verdicts(play(tmp_path, model, seeds=SEEDS[:3]))["failed"] == 3
    assert model.requests == []
    run = play(tmp_path, model, seeds=SEEDS[:3], retry="failed")
    assert verdicts(run) == {"accepted": 3, "rejected": 0, "ungradable": 0, "failed": 0}


def test_a_retry_pays_for_nothing_that_could_be_read(tmp_path: Path) -> None:
    run = play(tmp_path, agent(critique="what?"), seeds=SEEDS[:2])
    assert verdicts(run)["ungradable"] == 2
    model = agent()
    run = play(tmp_path, model, seeds=SEEDS[:2], retry=("ungradable", "failed"))
    assert roles(model) == ["CRITIQUE"] * 2
    assert verdicts(run)["accepted"] == 2
    item = Store(run.store).item(next(run.items())["item"]).item
    assert [a.accepted for a in item.attempts] == [True]


def test_a_malformed_draft_is_drawn_anew_with_another_seed(tmp_path: Path) -> None:
    play(tmp_path, agent(generate="no JSON"))
    model = agent()
    item = only(play(tmp_path, model, retry="failed"))
    assert item.verdict
    assert item.verdict.verdict == "accepted"
    assert len(asked(model, "GENERATE")) == 1


def test_a_retry_that_fails_again_can_be_tried_again(tmp_path: Path) -> None:
    for _ in range(3):
        run = play(tmp_path, agent(generate="no JSON"), retry="failed")
        assert verdicts(run)["failed"] == 1
    assert run.counts["calls"] == 9
    assert play(tmp_path, agent(), retry="failed").counts["accepted"] == 1


def test_logprobs_that_could_not_be_read_are_asked_anew(tmp_path: Path) -> None:
    odd = Reply("Hmm", logprobs=({"Hmm": -0.1},))
    settings: dict[str, Any] = {"roles": {"critic": {"logprobs": "on"}}}
    assert verdicts(play(tmp_path, agent(ask=odd), **settings))["ungradable"] == 1
    model = agent(ask=Reply("Yes", logprobs=({"Yes": -0.1},)))
    assert verdicts(play(tmp_path, model, retry="ungradable", **settings))["accepted"] == 1
    assert roles(model) == ["ASK"]


def test_a_retry_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="`retry"):
        play(tmp_path, agent(), retry="rejected")


def test_what_was_over_the_target_comes_in_when_the_target_rises(tmp_path: Path) -> None:
    run = play(tmp_path, agent(), seeds=SEEDS[:12], accept=2, concurrency=8)
    over = run.counts["rejected"]
    model = agent()
    run = play(tmp_path, model, seeds=SEEDS[:12], accept=2 + over, concurrency=1)
    assert run.counts["accepted"] == 2 + over
    assert run.counts["rejected"] == 0
    assert model.requests == []


def test_drafts_of_a_retry_and_of_the_first_opening_are_both_kept(tmp_path: Path) -> None:
    play(tmp_path, agent(critique=[marks("no"), "what?", "what?", "what?"], revise=draft("South.")))
    run = play(tmp_path, agent(), retry="ungradable")
    assert run.counts["accepted"] == 1
    assert run.counts["attempts"] == 4


def test_a_retry_that_does_not_come_to_an_item_leaves_its_verdict(tmp_path: Path) -> None:
    play(tmp_path, agent(generate=RefusedRequest("no")), seeds=SEEDS[:6])
    run = play(tmp_path, agent(), seeds=SEEDS[:6], retry="failed", accept=2)
    assert (run.counts["accepted"], run.counts["failed"]) == (2, 4)
    assert len(list(run.items("all"))) == 6
