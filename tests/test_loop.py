"""The walk of one item: what is asked, in which order, and which verdict ends it."""

from __future__ import annotations

import asyncio
import json
import operator
import random
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langgraph.graph import START
from pydantic import create_model

import agentloop as al
from agentloop.agents import Agents
from agentloop.checks import Check
from agentloop.errors import RefusedRequest, TransientError
from agentloop.models.base import NoJournal, Reply, Traits
from agentloop.models.channel import Channel, Endpoint, RoleSettings
from agentloop.models.limits import Limits
from agentloop.records import Attempt, CheckResult, Grade
from agentloop.state import Context
from agentloop.verdicts import settle
from tests.builders import QA, SEEDS, agent, draft, mark, marks, only, play, roles, serving, tiny

TWO = """
name: two
accept_at: 0.8
criteria:
  - {name: right, ask: "Is it right?"}
  - {name: clear, ask: "Is it clear?", levels: [muddy, plain, lucid]}
"""
FLOOR = """
name: floor
accept_at: 0.1
criteria:
  - {name: right, ask: "Is it right?", levels: [wrong, partly, fully], floor: fully}
"""


def grade(right: str, clear: str) -> str:
    return json.dumps({"right": mark(right, "r"), "clear": mark(clear, "c")})


def shorter(limit: int = 30, veto: bool = True) -> Check:
    def run(candidate: dict[str, Any], seed: dict[str, Any]) -> Any:
        size = len(candidate["answer"])
        return al.passed() if size <= limit else al.fail(f"{size} characters", limit / size)

    return Check("short", run, veto=veto)


def test_a_good_draft_is_accepted_after_two_calls(tmp_path: Path) -> None:
    model = agent()
    item = only(play(tmp_path, model))
    assert roles(model) == ["GENERATE", "CRITIQUE"]
    assert item.verdict == al.Verdict(verdict="accepted", round=0, score=1.0)


def test_a_criticised_draft_is_revised_with_the_evidence(tmp_path: Path) -> None:
    model = agent(critique=[marks("no", "it flows north"), marks()], revise=draft("South."))
    item = only(play(tmp_path, model))
    assert roles(model) == ["GENERATE", "CRITIQUE", "REVISE", "CRITIQUE"]
    assert "right: it flows north" in model.requests[2].messages[0]["content"]
    assert item.verdict
    assert (item.verdict.verdict, item.verdict.round) == ("accepted", 1)
    assert item.candidate == {"question": "Where does it rise?", "answer": "South."}


@pytest.mark.parametrize("rounds", [0, 1, 3])
def test_there_are_at_most_max_rounds_revisions(tmp_path: Path, rounds: int) -> None:
    answers = iter(range(99))
    model = agent(
        critique=[marks("no", f"wrong for reason {n}") for n in range(5)],
        revise=lambda _: draft(f"Try {next(answers)}"),
    )
    item = only(play(tmp_path, model, max_rounds=rounds))
    assert roles(model).count("REVISE") == rounds
    assert len(item.attempts) == rounds + 1
    assert item.verdict
    assert (item.verdict.verdict, item.verdict.reason) == ("rejected", "below_threshold")


def test_the_same_criticism_again_is_no_new_evidence(tmp_path: Path) -> None:
    answers = iter(range(99))
    model = agent(critique=marks("no", "dull"), revise=lambda _: draft(f"Try {next(answers)}"))
    item = only(play(tmp_path, model, max_rounds=3))
    assert roles(model) == ["GENERATE", "CRITIQUE", "REVISE", "CRITIQUE"]
    assert item.verdict
    assert item.verdict.verdict == "rejected"


def test_a_mark_without_a_word_against_it_is_no_evidence(tmp_path: Path) -> None:
    model = agent(critique=json.dumps({"right": mark("no")}))
    item = only(play(tmp_path, model, max_rounds=2))
    assert roles(model) == ["GENERATE", "CRITIQUE"]
    assert not item.attempts[0].critique.evidence


def test_a_worse_revision_never_wins_and_ends_the_item(tmp_path: Path) -> None:
    model = agent(
        critique=[grade("no", "lucid"), grade("no", "muddy"), grade("yes", "lucid")],
        revise=draft("Worse."),
    )
    item = only(play(tmp_path, model, tiny(tmp_path, TWO)))
    assert roles(model).count("REVISE") == 1
    assert item.verdict
    assert (item.verdict.round, item.verdict.score) == (0, 0.5)
    assert len(item.attempts) == 2


def test_of_two_equal_attempts_the_later_is_kept(tmp_path: Path) -> None:
    model = agent(critique=grade("no", "lucid"), revise=draft("Other."))
    item = only(play(tmp_path, model, tiny(tmp_path, TWO), max_rounds=1))
    assert item.verdict
    assert item.verdict.round == 1


def test_a_revision_that_changes_nothing_is_not_graded_again(tmp_path: Path) -> None:
    model = agent(generate=draft("Same."), critique=marks("no"), revise=draft("Same."))
    item = only(play(tmp_path, model))
    assert roles(model) == ["GENERATE", "CRITIQUE", "REVISE"]
    assert len(item.attempts) == 1


def test_without_evidence_nothing_is_revised(tmp_path: Path) -> None:
    """All levels at the top, but an expected value below the threshold: there is nothing to say."""
    model = agent(ask=Reply("Yes", logprobs=({"Yes": -0.5, "No": -1.0},)), evidence="{}")
    item = only(play(tmp_path, model, roles={"critic": {"logprobs": "on"}}))
    assert "REVISE" not in roles(model)
    assert item.verdict
    assert (item.verdict.verdict, item.verdict.reason) == ("rejected", "below_threshold")


def test_a_failed_veto_spares_the_judge_and_is_shown_to_the_reviser(tmp_path: Path) -> None:
    model = agent(generate=draft("x" * 40), revise=draft("Short."))
    item = only(play(tmp_path, model, tiny(tmp_path, checks=(shorter(),))))
    assert roles(model) == ["GENERATE", "REVISE", "CRITIQUE"]
    assert "short: 40 characters" in model.requests[1].messages[0]["content"]
    assert item.attempts[0].grade is None
    assert item.verdict
    assert item.verdict.verdict == "accepted"


def test_a_veto_that_stays_failed_is_rejected_without_any_grade(tmp_path: Path) -> None:
    model = agent(generate=draft("x" * 40), revise=draft("y" * 50))
    item = only(play(tmp_path, model, tiny(tmp_path, checks=(shorter(),))))
    assert "CRITIQUE" not in roles(model)
    assert item.verdict
    assert (item.verdict.verdict, item.verdict.reason) == ("rejected", "failed_check")
    assert item.verdict.detail == "50 characters"


def test_a_check_without_veto_does_not_spare_the_judge(tmp_path: Path) -> None:
    model = agent(generate=draft("x" * 40))
    item = only(play(tmp_path, model, tiny(tmp_path, checks=(shorter(veto=False),))))
    assert roles(model) == ["GENERATE", "CRITIQUE"]
    assert item.verdict
    assert item.verdict.verdict == "accepted"
    assert not item.attempts[0].checks[0].passed


def test_a_floor_is_stronger_than_the_score(tmp_path: Path) -> None:
    model = agent(critique=json.dumps({"right": mark("partly", "half of it")}))
    item = only(play(tmp_path, model, tiny(tmp_path, FLOOR), max_rounds=0))
    assert item.verdict
    assert (item.verdict.reason, item.verdict.score) == ("under_floor", 0.5)
    assert "its floor is `fully`: half of it" in item.verdict.detail


def test_an_unreadable_judge_is_ungradable_never_a_low_mark(tmp_path: Path) -> None:
    model = agent(critique="I would say 7 out of 10.")
    item = only(play(tmp_path, model))
    assert roles(model) == ["GENERATE", *["CRITIQUE"] * 3]
    assert item.verdict
    assert (item.verdict.verdict, item.verdict.reason) == ("ungradable", "judge_unreadable")
    assert item.verdict.score is None
    assert "7 out of 10" in item.verdict.detail
    assert item.attempts[0].grade is None


@pytest.mark.parametrize(
    "reply",
    [
        "{}",
        json.dumps({"right": "yes"}),
        json.dumps({"right": mark("Yes")}),
        json.dumps({"right": mark("maybe")}),
        json.dumps({"right": mark("yes"), "extra": mark("yes")}),
        json.dumps({"right": {"level": "yes", "score": 10}}),
        json.dumps([{"right": mark("yes")}, {"right": mark("no")}]),
        '{"right": {"level": "yes"}, "right": {"level": "no"}}',
        '{"right": {"level": NaN}}',
        "",
        "<think>" + json.dumps({"right": mark("yes")}),
    ],
)
def test_no_broken_grade_ever_accepts(tmp_path: Path, reply: str) -> None:
    item = only(play(tmp_path, agent(critique=reply)))
    assert item.verdict
    assert item.verdict.verdict == "ungradable"


def test_a_judge_that_declines_is_ungradable_and_refused(tmp_path: Path) -> None:
    model = agent(critique=Reply("", finish_reason="content_filter"))
    item = only(play(tmp_path, model))
    assert item.verdict
    assert (item.verdict.verdict, item.verdict.reason) == ("ungradable", "refused")


def test_an_unreadable_draft_fails_and_is_shown(tmp_path: Path) -> None:
    model = agent(generate="Sure! Here is one: {")
    item = only(play(tmp_path, model))
    assert roles(model) == ["GENERATE"] * 3
    assert item.verdict
    assert (item.verdict.verdict, item.verdict.reason) == ("failed", "malformed")
    assert "Sure! Here is one" in item.verdict.detail
    assert item.attempts == ()


def test_a_draft_that_a_filter_stops_fails_as_refused(tmp_path: Path) -> None:
    model = agent(generate=Reply("I cannot", finish_reason="content_filter"))
    item = only(play(tmp_path, model))
    assert item.verdict
    assert (item.verdict.verdict, item.verdict.reason) == ("failed", "refused")


@pytest.mark.parametrize(
    "reply", ["no JSON", RefusedRequest("too long"), Reply("", finish_reason="content_filter")]
)
def test_a_failed_revision_keeps_what_there_was(tmp_path: Path, reply: Any) -> None:
    model = agent(critique=marks("no"), revise=reply)
    item = only(play(tmp_path, model))
    assert item.verdict
    assert (item.verdict.verdict, item.verdict.reason) == ("rejected", "below_threshold")
    assert item.verdict.round == 0


def test_a_draft_whose_judge_got_no_answer_is_not_lost(tmp_path: Path) -> None:
    """The endpoint refused the judge's request: the item fails, its draft was paid for."""
    model = agent(critique=RefusedRequest("the prompt is too long"))
    item = only(play(tmp_path, model))
    assert item.verdict
    assert (item.verdict.verdict, item.verdict.reason) == ("failed", "error")
    assert "too long" in item.verdict.detail
    assert len(item.attempts) == 1


@pytest.mark.parametrize(
    "bug",
    [
        lambda c, s: 1 / 0,
        lambda c, s: None,
        lambda c, s: c["no such field"],
        lambda c, s: al.fail("x", fraction=7),
        lambda c, s: al.fail(7),  # type: ignore[arg-type]
    ],
)
def test_a_bug_in_a_check_costs_its_item_only(tmp_path: Path, bug: Callable[..., Any]) -> None:
    def sometimes(candidate: dict[str, Any], seed: dict[str, Any]) -> Any:
        return bug(candidate, seed) if "number 1." in seed["passage"] else al.passed()

    recipe = tiny(tmp_path, checks=(Check("buggy", sometimes),))
    run = play(tmp_path, agent(), recipe, seeds=SEEDS[:3])
    assert (run.counts["accepted"], run.counts["failed"], run.exit_code) == (2, 1, 0)
    (row,) = run.items("failed")
    assert row["reason"] == "error"


def test_a_check_that_changes_the_candidate_changes_nothing(tmp_path: Path) -> None:
    def vandal(candidate: dict[str, Any], seed: dict[str, Any]) -> Any:
        candidate["answer"] = seed["passage"] = "owned"
        return al.passed()

    recipe = tiny(tmp_path, checks=(Check("vandal", vandal),))
    run = play(tmp_path, agent(generate=draft("Mine.")), recipe)
    item = only(run)
    assert item.candidate
    assert item.candidate["answer"] == "Mine."
    assert item.attempts[0].messages[-1]["content"] == "Mine."
    assert item.seed.fields == SEEDS[0]


class Odd(al.Candidate):
    number: int
    answer: str


HUGE = "18446744073709551616"


@pytest.mark.parametrize(
    "number", ["123456789012345678901234567890", "-5", '"7"', f'"{HUGE}"', '"-1e400"']
)
def test_any_number_a_model_writes_gives_a_verdict(tmp_path: Path, number: str) -> None:
    text = f'{{"number": {number}, "answer": "x"}}'
    recipe = tiny(tmp_path, candidate=Odd)
    prompts = tmp_path / "prompts" / "reference.md"
    prompts.write_text("REFERENCE")
    run = play(tmp_path, agent(generate=text), recipe, seeds=SEEDS[:2])
    assert sum(run.counts[v] for v in ("accepted", "rejected", "failed")) == 2


def attempt(round: int, accepted: bool, passed: int, score: float) -> Attempt:
    checks = tuple(CheckResult(name=f"c{i}", passed=i < passed) for i in range(2))
    given = Grade(marks=(), score=score, rubric="r", model="m")
    return Attempt(round=round, candidate={}, checks=checks, grade=given, accepted=accepted)


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 2), st.sampled_from([0.0, 0.4, 0.5, 1.0])),
        min_size=1,
        max_size=5,
    )
)
def test_the_kept_attempt_is_never_beaten_by_another(found: list[tuple[bool, int, float]]) -> None:
    attempts = [attempt(n, *given) for n, given in enumerate(found)]
    shuffled = random.Random(0).sample(attempts, len(attempts))
    verdict = settle(shuffled)
    kept = attempts[verdict["round"]]
    assert all(kept.rank >= other.rank for other in attempts)
    assert (verdict["verdict"] == "accepted") == any(a.accepted for a in attempts)
    assert all(other.round <= kept.round for other in attempts if other.rank == kept.rank)


def test_messages_follow_the_candidates_own_conversation(tmp_path: Path) -> None:
    class Told(QA):
        def conversation(self, seed: dict[str, Any]) -> list[tuple[str, str]]:
            return [("system", seed["passage"]), ("user", "?"), ("assistant", self.answer)]

    item = only(play(tmp_path, agent(), tiny(tmp_path, candidate=Told)))
    assert [m["role"] for m in item.attempts[0].messages] == ["system", "user", "assistant"]


def test_a_busy_judge_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentloop.models.limits.BACKOFF", 0.0)
    model = agent(critique=[TransientError("busy"), TransientError("busy"), marks()])
    run = play(tmp_path, model)
    assert run.counts["accepted"] == 1
    assert (run.counts["calls"], run.counts["requests"]) == (2, 4)


def test_a_bug_in_a_check_keeps_what_was_paid_for(tmp_path: Path) -> None:
    def clumsy(candidate: dict[str, Any], seed: dict[str, Any]) -> Any:
        return al.passed() if "South" not in candidate["answer"] else candidate["nothing"]

    model = agent(critique=marks("no"), revise=draft("South."))
    run = play(tmp_path, model, tiny(tmp_path, checks=(Check("clumsy", clumsy),)))
    item = only(run)
    assert item.verdict
    assert (item.verdict.verdict, item.verdict.reason) == ("failed", "error")
    assert "KeyError" in item.verdict.detail
    assert len(item.attempts) == 1
    assert item.attempts[0].grade


def test_a_judging_that_is_refused_leaves_the_better_grade_before_it(tmp_path: Path) -> None:
    model = agent(critique=[marks("no"), RefusedRequest("too long")], revise=draft("South."))
    item = only(play(tmp_path, model))
    assert item.verdict
    assert (item.verdict.verdict, item.verdict.round) == ("rejected", 0)
    assert [a.reason for a in item.attempts] == ["below_threshold", "error"]


@pytest.mark.parametrize("role", ["revise", "critique"])
def test_an_endpoint_that_fails_leaves_the_item_for_a_retry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    monkeypatch.setattr("agentloop.models.limits.BACKOFF", 0.0)
    broken = [TransientError("500")] * 6
    scripts: dict[str, Any] = {"critique": marks("no"), "revise": draft("South.")}
    scripts[role] = [marks("no"), *broken] if role == "critique" else broken
    item = only(play(tmp_path, agent(**scripts)))
    assert item.verdict
    assert (item.verdict.verdict, item.verdict.reason) == ("failed", "error")
    assert item.attempts[0].grade
    model = agent(critique=marks(), revise=draft("South."))
    assert play(tmp_path, model, retry="failed").counts["accepted"] == 1
    assert "GENERATE" not in roles(model)


def test_a_node_of_ones_own_stands_between_draft_and_check(tmp_path: Path) -> None:
    def loud(state: al.State) -> al.State:
        return {"candidate": {k: v.upper() for k, v in state["candidate"].items()}}

    def build(recipe: al.Recipe) -> Any:
        return al.standard_graph(recipe, drafts_to="loud").add_node(loud).add_edge("loud", "check")

    model = agent(critique=[marks("no"), marks()], revise=draft("South."))
    item = only(play(tmp_path, model, tiny(tmp_path, build=build)))
    assert [a.candidate["answer"].isupper() for a in item.attempts] == [True, True]
    assert roles(model) == ["GENERATE", "CRITIQUE", "REVISE", "CRITIQUE"]


def test_an_edge_of_ones_own_that_leads_from_a_standard_node_is_walked(tmp_path: Path) -> None:
    seen: list[int] = []

    def look(state: al.State) -> al.State:
        seen.append(len(state["checks"]))
        return {}

    def build(recipe: al.Recipe) -> Any:
        return al.standard_graph(recipe).add_node(look).add_edge("check", "look")

    model = agent(critique=[marks("no"), marks()], revise=draft("South."))
    item = only(play(tmp_path, model, tiny(tmp_path, build=build)))
    assert item.verdict
    assert (item.verdict.verdict, item.verdict.round) == ("accepted", 1)
    assert seen == [0, 0]


@pytest.mark.parametrize(("kind", "number"), [(int, HUGE), (float, "nan"), (float, "-inf")])
def test_a_number_that_the_store_cannot_hold_is_malformed(
    tmp_path: Path, kind: type, number: str
) -> None:
    candidate = create_model("Held", __base__=al.Candidate, number=(kind, ...), answer=(str, ...))
    text = json.dumps({"number": number, "answer": "x"})
    for _ in range(2):  # what was paid is read again
        run = play(tmp_path, agent(generate=text), tiny(tmp_path, candidate=candidate))
        (row,) = run.items("failed")
        assert (row["reason"], "JSON cannot hold" in row["detail"]) == ("malformed", True)


def test_a_branch_of_ones_own_beside_the_standard_nodes_settles_an_item(tmp_path: Path) -> None:
    def moderate(state: al.State) -> al.State:
        return {"verdict": {"verdict": "rejected", "reason": "filtered", "detail": "moderated"}}

    def build(recipe: al.Recipe) -> Any:
        return al.standard_graph(recipe).add_node(moderate).add_edge(START, "moderate")

    model = agent()
    verdict = only(play(tmp_path, model, tiny(tmp_path, build=build))).verdict
    assert verdict
    assert (verdict.reason, verdict.detail) == ("filtered", "moderated")
    assert roles(model) == ["GENERATE"]


class Logging(al.State, total=False):
    log: Annotated[list[str], operator.add]


def test_a_channel_of_ones_own_is_reduced_by_its_own_reducer(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    async def plan(agents: Agents, state: al.State) -> Any:
        return {"log": ["plan"]}

    async def write(agents: Agents, state: al.State) -> Any:
        return {"made": json.loads(draft()), "log": ["write"]}

    def loud(state: Logging) -> Any:
        seen.append(state["log"])
        return {}

    def build(recipe: al.Recipe) -> Any:
        return al.standard_graph(recipe, drafts_to="loud").add_node(loud).add_edge("loud", "check")

    recipe = tiny(tmp_path, build=build, steps=(plan, write))
    item = only(play(tmp_path, agent(), recipe))
    assert item.verdict
    assert (item.verdict.verdict, seen) == ("accepted", [["plan", "write"]])


async def steps(recipe: al.Recipe, context: Context) -> list[str]:
    """Return the names of the nodes whose end LangGraph tells of, in order."""
    asked = {"item": "a", "seed": SEEDS[0], "inputs": {"sample": 0}}
    updates = recipe.compile().astream(asked, context=context, stream_mode="updates")
    return [name async for update in updates for name in update]


def test_a_run_walks_an_item_in_one_step_and_studio_shows_each_node(tmp_path: Path) -> None:
    recipe = tiny(tmp_path)
    kit = recipe.load()
    answers = {"critique": [marks("no"), marks()], "revise": draft("South.")}

    def channels(model: al.ScriptedModel) -> dict[str, Channel]:
        endpoint = Endpoint(Limits(model, 1), Traits())
        return {
            role: Channel(role, endpoint, NoJournal(), RoleSettings(), seed=0)
            for role in ("generator", "critic", "reviser")
        }

    agents = Agents("a", channels(agent(**answers)), kit.prompts, kit.rubric, QA)
    assert asyncio.run(steps(recipe, Context(agents=agents))) == ["generate"]
    with serving(agent(**answers)) as server:
        context = Context(model="openai/x", base_url=server.url)
        shown = asyncio.run(steps(recipe, context))
    assert shown == ["generate", "check", "grade", "revise", "check", "grade"]
