"""Agents: what they send, how they read, how often they ask again."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import agentloop as al
from agentloop.errors import MalformedReply, RefusedRequest
from agentloop.judging import option_shares, options
from agentloop.models.base import Reply
from agentloop.rubric import Criterion
from agentloop.store import Store
from tests.builders import PASSAGE, SEEDS, agent, asked, draft, mark, marks, only, play, roles, tiny

QUOTE = """
name: quoting
accept_at: 0.8
criteria:
  - {name: right, ask: "Is it right?", evidence: quote, quote_from: seed.passage}
"""
LEVELS = """
name: levels
accept_at: 0.6
criteria:
  - {name: right, ask: "Is it right?"}
  - {name: clear, ask: "Is it clear?", levels: [muddy, plain, lucid]}
"""
REFERENCE = "reference: true" + QUOTE.replace(
    "evidence: quote, quote_from: seed.passage", "weight: 2"
)
LOGPROBS: dict[str, Any] = {"roles": {"critic": {"logprobs": "on"}}}


def token(**shares: float) -> Reply:
    """Return a one-token reply with these probabilities."""
    top = {word: math.log(share) for word, share in shares.items()}
    return Reply(max(shares, key=lambda w: shares[w]), logprobs=(top,))


def quoting(quote: str, level: str = "yes") -> str:
    return json.dumps({"right": mark(level, quote=quote)})


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        ("nothing", "one JSON object"),
        ('{"question": "q"}', "answer"),
        ('{"question": "q", "answer": 7}', "answer"),
        ('{"question": "q", "answer": "a", "score": 10}', "score"),
        (Reply('{"question": "q', finish_reason="length"), "cut off"),
        ("", "empty"),
    ],
)
def test_a_malformed_draft_is_asked_again_with_what_was_wrong(
    tmp_path: Path, broken: Any, complaint: str
) -> None:
    model = agent(generate=[broken, draft()])
    run = play(tmp_path, model)
    assert run.counts["accepted"] == 1
    first, second = asked(model, "GENERATE")
    assert len(first.messages) + 2 == len(second.messages)
    assert second.messages[-2]["role"] == "assistant"
    assert complaint in second.messages[-1]["content"]
    assert all(message["content"] for message in second.messages)


def test_two_repairs_are_all(tmp_path: Path) -> None:
    good_too_late = ["bad"] * 3 + [draft()]
    model = agent(generate=good_too_late)
    run = play(tmp_path, model)
    assert len(model.requests) == 3
    assert run.counts["failed"] == 1
    assert run.counts["calls"] == 3


def test_two_repairs_can_be_enough(tmp_path: Path) -> None:
    assert play(tmp_path, agent(generate=["bad", "worse", draft()])).counts["accepted"] == 1


def test_a_quote_is_verified_and_asked_again_if_it_does_not_stand(tmp_path: Path) -> None:
    model = agent(critique=[quoting("The river Rhine"), quoting("The river Elbe rises")])
    item = only(play(tmp_path, model, tiny(tmp_path, QUOTE)))
    assert item.verdict
    assert item.verdict.verdict == "accepted"
    assert item.attempts[0].grade
    assert item.attempts[0].grade.mark("right").quote == "The river Elbe rises"
    assert "word for word" in model.requests[-1].messages[-1]["content"]


@pytest.mark.parametrize("quote", ["", "   ", "e", "The river Rhine rises in the Alps", "\u202e"])
def test_a_made_up_quote_never_accepts(tmp_path: Path, quote: str) -> None:
    item = only(play(tmp_path, agent(critique=quoting(quote)), tiny(tmp_path, QUOTE)))
    assert item.verdict
    assert (item.verdict.verdict, item.verdict.reason) == ("ungradable", "judge_unreadable")


def test_the_lowest_level_needs_no_quote(tmp_path: Path) -> None:
    model = agent(critique=quoting("", "no"), revise=draft())
    item = only(play(tmp_path, model, tiny(tmp_path, QUOTE), max_rounds=0))
    assert item.verdict
    assert item.verdict.verdict == "rejected"


def test_reviser_and_critic_are_told_no_score_and_no_threshold(tmp_path: Path) -> None:
    model = agent(critique=[marks("no"), marks()], revise=draft("Better."))
    play(tmp_path, model)
    for request in [*asked(model, "REVISE"), *asked(model, "CRITIQUE")]:
        text = request.messages[0]["content"]
        assert "0.8" not in text
        assert "score" not in text


def test_calls_have_keys_seeds_and_schemas_of_their_own(tmp_path: Path) -> None:
    model = agent(
        generate=lambda prompt: draft(prompt), critique=["bad", marks("no"), marks()],
        revise=["bad", draft("Better.")],
    )  # fmt: skip
    run = play(tmp_path, model)
    (row,) = run.items()
    keys = [call["key"] for call in Store(run.store).item(row["item"]).calls]
    assert keys == [
        "generator/0/-/0/0/0",
        "critic/0/+all/0/0/0",
        "critic/0/+all/0/0/1",
        "reviser/1/-/0/0/0",
        "reviser/1/-/0/0/1",
        "critic/1/+all/0/0/0",
    ]
    seeds = [request.seed for request in model.requests]
    assert len(set(seeds)) == len(seeds)
    assert all(isinstance(seed, int) and 0 <= seed < 2**31 for seed in seeds)
    assert all(request.schema for request in model.requests)


def seeds_of(folder: Path, seed: int) -> list[int | None]:
    folder.mkdir()
    model = agent()
    play(folder, model, seeds=SEEDS[:4], seed=seed)
    return [request.seed for request in model.requests]


def test_call_seeds_repeat_with_the_runs_seed_and_differ_with_another(tmp_path: Path) -> None:
    first, again, other = (seeds_of(tmp_path / n, s) for n, s in (("a", 1), ("b", 1), ("c", 2)))
    assert first == again
    assert set(first).isdisjoint(other)
    assert len(set(first)) == 8


def test_roles_have_their_own_temperature_and_limits(tmp_path: Path) -> None:
    model = agent(critique=[marks("no"), marks()], revise=draft("Better."))
    settings = {"generator": {"temperature": 0.1, "max_tokens": 77, "extra": {"top_p": 0.5}}}
    play(tmp_path, model, roles=settings)
    generate, critique, revise, _ = model.requests
    assert (generate.temperature, generate.max_tokens, generate.extra) == (0.1, 77, {"top_p": 0.5})
    assert critique.temperature == 0
    assert revise.temperature
    assert revise.extra == {}


def test_each_role_can_be_another_model(tmp_path: Path) -> None:
    critic = agent(critique=[marks("no"), marks()])
    critic.name = "scripted/critic"
    writer, reviser = agent(), agent(revise=draft("Better."))
    run = play(tmp_path, None, models={"generator": writer, "critic": critic, "reviser": reviser})
    assert [roles(m) for m in (writer, critic, reviser)] == [
        ["GENERATE"],
        ["CRITIQUE"] * 2,
        ["REVISE"],
    ]
    item = only(run)
    assert item.attempts[1].grade
    assert item.attempts[1].grade.model == "scripted/critic"


def test_the_critics_own_answer_is_asked_before_it_judges(tmp_path: Path) -> None:
    model = agent(reference="From the Giant Mountains.")
    item = only(play(tmp_path, model, tiny(tmp_path, REFERENCE)))
    assert roles(model) == ["GENERATE", "REFERENCE", "CRITIQUE"]
    assert "reference From the Giant Mountains." in model.requests[-1].messages[0]["content"]
    assert model.requests[1].temperature == 0
    assert item.attempts[0].grade
    assert item.attempts[0].grade.reference == "From the Giant Mountains."
    assert set(item.attempts[0].grade.prompts) >= {"reference", "critique"}


def test_a_cut_off_reference_serves_and_an_empty_one_is_ungradable(tmp_path: Path) -> None:
    recipe = tiny(tmp_path, REFERENCE)
    long = agent(reference=Reply("From the Giant", finish_reason="length"))
    assert play(tmp_path, long, recipe).counts["accepted"] == 1
    empty = play(tmp_path, agent(reference=""), recipe, run="empty")
    assert empty.counts["ungradable"] == 1


# By log-probabilities


def test_logprobs_ask_one_token_for_each_criterion_and_evidence_apart(tmp_path: Path) -> None:
    replies = {"right": token(Yes=0.9, No=0.1), "clear": token(**{"1": 0.2, "2": 0.5, "3": 0.3})}
    model = agent(
        ask=lambda prompt: replies[prompt.split()[1]],
        evidence=json.dumps({"clear": "it could be shorter"}),
    )
    item = only(play(tmp_path, model, tiny(tmp_path, LEVELS), **LOGPROBS))
    assert roles(model) == ["GENERATE", "ASK", "ASK", "EVIDENCE"]
    for request in asked(model, "ASK"):
        assert (request.max_tokens, request.temperature, request.schema) == (1, 0.0, None)
        assert request.top_logprobs > 1
    assert item.attempts[0].grade
    right, clear = item.attempts[0].grade.marks
    assert (right.level, clear.level) == ("yes", "plain")
    assert right.value == pytest.approx(0.9)
    assert clear.value == pytest.approx((0.5 + 2 * 0.3) / 2)
    assert (right.how, clear.how) == ("logprobs", "logprobs")
    assert (right.reason, clear.reason) == ("", "it could be shorter")
    assert item.verdict
    assert item.verdict.score == pytest.approx((0.9 + 0.55) / 2)


def test_no_evidence_is_asked_where_none_is_needed(tmp_path: Path) -> None:
    model = agent(ask=token(Yes=1.0))
    assert play(tmp_path, model, **LOGPROBS).counts["accepted"] == 1
    assert roles(model) == ["GENERATE", "ASK"]


def test_a_quote_asked_apart_is_verified_too(tmp_path: Path) -> None:
    model = agent(ask=token(Yes=1.0), evidence=[json.dumps({"right": "made up words here"})] * 3)
    item = only(play(tmp_path, model, tiny(tmp_path, QUOTE), **LOGPROBS))
    assert roles(model) == ["GENERATE", "ASK", *["EVIDENCE"] * 3]
    assert item.verdict
    assert item.verdict.verdict == "ungradable"


def test_a_quote_asked_apart_that_stands_is_kept(tmp_path: Path) -> None:
    model = agent(ask=token(Yes=1.0), evidence=json.dumps({"right": PASSAGE[:30]}))
    item = only(play(tmp_path, model, tiny(tmp_path, QUOTE), **LOGPROBS))
    assert item.attempts[0].grade
    assert item.attempts[0].grade.marks[0].quote == PASSAGE[:30]


def test_a_reply_without_any_option_is_ungradable(tmp_path: Path) -> None:
    item = only(play(tmp_path, agent(ask=token(Hmm=1.0)), **LOGPROBS))
    assert item.verdict
    assert (item.verdict.verdict, item.verdict.reason) == ("ungradable", "judge_unreadable")


@pytest.mark.parametrize("reply", [Reply("Yes"), RefusedRequest("logprobs are not supported")])
def test_without_logprobs_levels_are_written_for_the_whole_run_and_said_once(
    tmp_path: Path, reply: Any
) -> None:
    notes: list[str] = []
    model = agent(ask=reply)
    run = play(
        tmp_path, model, seeds=SEEDS[:6], concurrency=3, **LOGPROBS,
        progress=lambda event: notes.append(str(event.data)) if event.kind == "note" else None,
    )  # fmt: skip
    assert run.counts["accepted"] == 6
    assert roles(model).count("CRITIQUE") == 6
    assert 1 <= roles(model).count("ASK") <= 3
    assert len(notes) == 1
    assert "written" in notes[0]
    assert "ASK" not in roles(model)[-3:]


def test_logprobs_are_off_unless_asked_for(tmp_path: Path) -> None:
    model = agent(ask=token(Yes=1.0))
    play(tmp_path, model)
    assert "ASK" not in roles(model)
    assert all(request.top_logprobs == 0 for request in model.requests)


def test_options_are_one_token_words() -> None:
    assert options(Criterion(name="a", ask="?")) == ("No", "Yes")
    assert options(Criterion(name="a", ask="?", levels=("x", "y", "z"))) == ("1", "2", "3")
    assert options(Criterion(name="a", ask="?", levels=("bad", "good"))) == ("1", "2")


SPELT = st.sampled_from(["Yes", " yes", "YES\n", "No", "no ", "\u2581No", "maybe", "1"])


@given(st.dictionaries(SPELT, st.floats(-50, 0.001), max_size=8))
def test_shares_are_probabilities_or_an_error(top: dict[str, float]) -> None:
    try:
        shares = option_shares(top, ("No", "Yes"))
    except MalformedReply:
        assert not any(word.strip().casefold() in ("yes", "no") for word in top)
        return
    assert all(0 <= share <= 1 for share in shares)
    assert math.fsum(shares) == pytest.approx(1)


def test_shares_count_spellings_together() -> None:
    top = {"Yes": math.log(0.3), " yes": math.log(0.3), "No": math.log(0.2), "Maybe": math.log(0.2)}
    assert option_shares(top, ("No", "Yes")) == pytest.approx([0.25, 0.75])


def test_a_run_needs_no_network_and_costs_nothing_with_a_script(tmp_path: Path) -> None:
    run = play(tmp_path, al.ScriptedModel([draft(), marks()]))
    assert (run.counts["accepted"], run.counts["cost_usd"]) == (1, 0.0)


def test_once_logprobs_have_come_a_refusal_costs_one_item_and_no_other_scale(
    tmp_path: Path,
) -> None:
    yes = token(Yes=1.0)
    answers: list[Any] = [yes, RefusedRequest("context too long"), yes, yes]
    run = play(tmp_path, agent(ask=answers), seeds=SEEDS[:4], **LOGPROBS)
    assert (run.counts["accepted"], run.counts["failed"]) == (3, 1)
    assert {row["grade"]["marks"][0]["how"] for row in run.items()} == {"logprobs"}


def test_a_middle_level_gets_both_a_quote_and_a_reason(tmp_path: Path) -> None:
    rubric = QUOTE.replace("evidence:", "levels: [wrong, partly, fully], evidence:")
    evidence = json.dumps({"right": PASSAGE[:30], "right_reason": "it names no mountains"})
    model = agent(
        ask=token(**{"2": 1.0}), evidence=evidence, revise=draft("It rises in the mountains.")
    )
    item = only(play(tmp_path, model, tiny(tmp_path, rubric), max_rounds=1, **LOGPROBS))
    assert "right=quote right_reason=reason" in asked(model, "EVIDENCE")[0].messages[0]["content"]
    (mark_,) = item.attempts[0].critique.marks
    assert (mark_["quote"], mark_["reason"]) == (PASSAGE[:30], "it names no mountains")


def test_a_quote_that_the_candidate_brings_is_taken_only_where_the_rubric_says_so(
    tmp_path: Path,
) -> None:
    named = QUOTE.replace("quote_from:", "quoted_by: candidate.answer, quote_from:")
    model = agent(generate=draft(PASSAGE[:40]), ask=token(Yes=1.0))
    item = only(play(tmp_path, model, tiny(tmp_path, named), **LOGPROBS))
    assert roles(model) == ["GENERATE", "ASK"]
    assert item.attempts[0].grade
    assert item.attempts[0].grade.marks[0].quote == PASSAGE[:40]
