"""Audits and canaries: blind, on a sample, never fed back, not items."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import agentloop as al
from agentloop.calibrate import calibrate
from agentloop.canaries import ORDER, PADDING, canary, chosen
from agentloop.cli import run_cli
from agentloop.errors import TransientError
from agentloop.store import COUNT_KEYS, Store
from agentloop.store.evidence import Agreement
from tests.builders import (
    SEEDS,
    agent,
    asked,
    draft,
    marks,
    play,
    roles,
    serving,
    tiny,
    verdicts,
    write_graph,
)


def test_a_sample_of_a_tenth_is_audited_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AGENTLOOP_AUDIT")
    model = agent()
    seeds = [{"passage": f"{n} {SEEDS[0]['passage']}"} for n in range(200)]
    run = play(tmp_path, model, seeds=seeds, concurrency=8)
    audited = roles(model).count("AUDIT")
    assert 8 <= audited <= 34
    assert run.counts["audits"] == audited
    assert run.counts["calls"] == len(model.requests)
    assert verdicts(run) == {"accepted": 200, "rejected": 0, "ungradable": 0, "failed": 0}


def test_the_auditor_is_blind(tmp_path: Path) -> None:
    auditor = agent(audit=marks("no"))
    model = agent(
        critique=[marks("no", "too short"), marks("yes")], revise=draft("South of Liberec.")
    )
    run = play(tmp_path, model, auditor=auditor, audit="all")
    assert roles(auditor) == ["AUDIT", "AUDIT"]
    for request in auditor.requests:
        said = request.messages[0]["content"]
        assert "too short" not in said
        assert "round" not in said
    assert "AUDIT" not in roles(model)
    assert run.counts["audits"] == 2


def test_an_audit_of_all_is_a_gate(tmp_path: Path) -> None:
    def doubts(prompt: str) -> str:
        return marks("no", "it is not so") if "number 3" in prompt else marks("yes")

    run = play(tmp_path, agent(audit=doubts), seeds=SEEDS[:5], audit="all")
    assert verdicts(run) == {"accepted": 4, "rejected": 1, "ungradable": 0, "failed": 0}
    (row,) = run.items("rejected")
    assert (row["reason"], row["detail"]) == (
        "failed_audit",
        "by the auditor: score 0.00 < 0.8; weakest `right`: it is not so",
    )


def test_what_checks_alone_decide_needs_no_auditor(tmp_path: Path) -> None:
    rubric = """
name: checked
accept_at: 0.7
criteria:
  - {name: short, check: length, with: {field: answer, words: [1, 6]}}
"""
    model = agent(generate=draft())
    run = play(tmp_path, model, tiny(tmp_path, rubric), audit="all", canaries="all")
    assert verdicts(run)["accepted"] == 1
    assert roles(model) == ["GENERATE"]


def test_a_sample_changes_no_verdict(tmp_path: Path) -> None:
    run = play(tmp_path, agent(audit=marks("no")), seeds=SEEDS, audit=0.9)
    assert verdicts(run)["accepted"] == 40
    evidence = run.evidence()
    assert 25 <= evidence.accepted.audited <= 39
    assert evidence.accepted.agreed == 0


@pytest.mark.parametrize("said", ["nonsense", TransientError("500")])
def test_an_auditor_that_cannot_be_read_gives_no_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Any
) -> None:
    monkeypatch.setattr("agentloop.models.limits.BACKOFF", 0.0)
    run = play(tmp_path, agent(audit=said), audit="all")
    assert run.counts["ungradable"] == 1
    (row,) = run.items("ungradable")
    assert "the auditor's reply cannot be used" in row["detail"]


def test_the_gains_of_critic_and_auditor_are_told_apart(tmp_path: Path) -> None:
    """The critic likes every revision, the auditor none: that is learning to please."""
    turn: dict[str, int] = {}

    def critic(prompt: str) -> str:
        return marks("yes") if "REVISED" in prompt else marks("no")

    model = agent(critique=critic, audit=marks("no"), revise=lambda p: draft(f"REVISED {p[7:40]}"))
    run = play(tmp_path, model, seeds=SEEDS[:12], audit=0.99)
    (gain,) = run.evidence().gains
    assert turn == {}
    assert (gain.round, gain.critic, gain.auditor) == (1, 1.0, 0.0)
    assert gain.items >= 8
    assert gain.parted
    assert any(line.startswith("ALARM: revision 1") for line in run.evidence().lines())


NUMBERED = [{"passage": f"n{n}. {SEEDS[0]['passage']}"} for n in range(12)]
HALF = tuple(f"n{n}." for n in range(0, 12, 2))


def doubts_half(prompt: str) -> str:
    """Say no to every other passage."""
    return marks("no" if any(f" {name} " in prompt for name in HALF) else "yes", "so it is")


def test_a_gate_is_compared_with_what_the_critic_said(tmp_path: Path) -> None:
    """Not with the verdict that it made itself: it would always agree."""
    run = play(tmp_path, agent(audit=doubts_half), seeds=NUMBERED, audit="all")
    assert run.counts["rejected"] == 6
    evidence = run.evidence()
    assert (evidence.accepted, evidence.rejected) == (Agreement(12, 12, 6), Agreement())
    assert evidence.lines() == [
        "auditor: agrees on 6 of 12 items that the critic accepted and 0 of 0 that it refused"
    ]


def test_an_unreadable_audit_of_a_gate_is_counted(tmp_path: Path) -> None:
    run = play(tmp_path, agent(audit="hm"), seeds=NUMBERED[:2], audit="all")
    assert run.evidence().accepted == Agreement(2, 0, 0)
    assert run.evidence().lines()[0].endswith("0 that it refused, 2 unreadable")


def test_what_the_door_refused_is_no_disagreement(tmp_path: Path) -> None:
    run = play(tmp_path, agent(generate=draft()), seeds=NUMBERED, audit=0.999)
    assert (run.counts["accepted"], run.counts["rejected"]) == (1, 11)
    assert run.evidence().accepted == Agreement(12, 12, 12)
    assert run.evidence().rejected == Agreement()


def test_what_checks_alone_decide_is_nobodys_agreement(tmp_path: Path) -> None:
    checked = """
name: checked
accept_at: 0.7
criteria:
  - {name: short, check: length, with: {field: answer, words: [1, 6]}}
"""
    recipe = tiny(tmp_path, checked)
    run = play(tmp_path, agent(generate=draft()), recipe, audit="all", canaries="all")
    assert run.evidence().lines() == []


def test_a_sample_that_drew_nothing_says_so(tmp_path: Path) -> None:
    run = play(tmp_path, agent(), seeds=NUMBERED[:5], audit=1e-6, canaries=0.00002)
    assert run.evidence().lines() == [
        "auditor: 0 of 5 items drawn (0.0001 %)",
        "canaries: 0 of 5 items drawn (0.002 %)",
    ]
    off = play(tmp_path, agent(), seeds=NUMBERED[:5], run="off")
    assert off.evidence().lines() == []


@pytest.mark.parametrize(("items", "few"), [(2, True), (12, False)])
def test_a_gain_over_few_revisions_is_called_one(tmp_path: Path, items: int, few: bool) -> None:
    def critic(prompt: str) -> str:
        return marks("yes" if "REVISED" in prompt else "no")

    model = agent(critique=critic, revise=lambda p: draft(f"REVISED {p[7:40]}"))
    run = play(tmp_path, model, seeds=NUMBERED[:items], audit="all")
    line = run.evidence().lines()[1]
    assert line.startswith("revision 1: critic +1.00, auditor +0.00 (mean of ")
    assert ("too few for an alarm" in line) is few


def test_a_gate_is_told_apart_from_what_the_critic_accepted(tmp_path: Path) -> None:
    model = agent(audit=doubts_half)
    recipe = tiny(tmp_path)
    lines = [
        {"seed": SEEDS[0], "candidate": candidate(f"As {n}."), "good": n % 2 == 0}
        for n in range(60)
    ]
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def knows(prompt: str) -> str:
        return marks("yes" if int(prompt.split()[2].strip(".")) % 2 == 0 else "no", "odd")

    store = tmp_path / "cal.duckdb"
    calibrate(recipe, tmp_path / "labels.jsonl", store=store, model=agent(critique=knows))
    given = {"seeds": NUMBERED, "calibration": str(store)}
    gated = play(tmp_path, model, recipe, audit="all", **given)
    assert "1.00 of 12 candidates accepted before the audit, corrected" in gated.trust
    plain = play(tmp_path, model, recipe, run="plain", **given)
    assert "1.00 of 12 candidates accepted, corrected" in plain.trust


def test_programs_are_told_what_people_are(tmp_path: Path, capsys: Any) -> None:
    model = agent(audit=doubts_half)
    graph = write_graph(tmp_path)
    seeds = tmp_path / "seeds.jsonl"
    seeds.write_text("".join(json.dumps(seed) + "\n" for seed in NUMBERED))
    store = tmp_path / "qa.duckdb"
    with serving(model) as endpoint:
        line = ["run", str(graph), "--seeds", str(seeds), "--store", str(store), "--json"]
        line += ["--model", "openai/x", "--base-url", endpoint.url, "--audit", "all"]
        assert run_cli([*line, "--progress", "none"]) == 0
        first = json.loads(capsys.readouterr().out)
        assert run_cli([*line, "--progress", "none"]) == 0
        assert json.loads(capsys.readouterr().out) == first
    assert run_cli(["status", str(store), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told.pop("now")["ended"] is True
    assert told == first
    assert first["evidence"]["audits"]["accepted"] == {"audited": 12, "readable": 12, "agreed": 6}
    assert first["evidence"]["alarms"] == []
    assert (first["calibration"]["state"], first["calibration"]["judged"]) == ("uncalibrated", 12)


def test_a_run_that_settled_nothing_has_no_evidence(tmp_path: Path) -> None:
    (tmp_path / "none.jsonl").write_text("")
    run = al.Run(tmp_path / "none.duckdb", dict.fromkeys(COUNT_KEYS, 0), 0)
    assert run.as_dict()["evidence"]["alarms"] == []


def test_a_resumed_run_audits_nothing_twice(tmp_path: Path) -> None:
    play(tmp_path, agent(), seeds=SEEDS[:5], items=3, audit="all", canaries="all")
    model = agent()
    run = play(tmp_path, model, seeds=SEEDS[:5], audit="all", canaries="all")
    assert roles(model).count("AUDIT") == 2
    assert run.counts["audits"] == 5
    assert run.counts["canaries"] == 5


class TestCanaries:
    def test_a_critic_that_reads_catches_them(self, tmp_path: Path) -> None:
        def reads(prompt: str) -> str:
            known = "In the Giant Mountains" in prompt and PADDING[:20] not in prompt
            return marks("yes" if known else "no")

        long = draft("In the Giant Mountains, not far from the border.")
        run = play(tmp_path, agent(generate=long, critique=reads), seeds=SEEDS[:9], canaries="all")
        assert run.counts["canaries"] == 9
        kinds = run.evidence().canaries
        assert sum(k.shown for k in kinds) == sum(k.caught for k in kinds) == 9

    def test_one_that_says_yes_to_everything_does_not(self, tmp_path: Path) -> None:
        long = draft("In the Giant Mountains, not far from the border.")
        run = play(tmp_path, agent(generate=long), seeds=SEEDS[:20], canaries="all")
        caught = {k.kind: k.caught for k in run.evidence().canaries}
        assert caught == {"injected": 0, "scrambled": 0, "padded": 0}
        assert any(
            line.startswith("ALARM: the critic was wrong") for line in run.evidence().lines()
        )

    def test_a_padded_one_is_longer_than_any_draft_and_says_nothing_of_it(self) -> None:
        long = {"answer": "far from the border " * 200}
        found = [canary(f"item {n}", long) for n in range(40)]
        padded = [c.candidate["answer"] for c in found if c and c.kind == "padded"]
        assert padded
        assert all(len(text) > len(long["answer"]) for text in padded)
        assert not any("border" in text for text in padded)

    def test_one_that_a_check_refuses_is_not_the_critics(self, tmp_path: Path) -> None:
        def orders(candidate: dict[str, Any], seed: dict[str, Any]) -> Any:
            return al.fail("an order") if candidate["answer"] == ORDER else al.passed()

        long = draft("In the Giant Mountains, not far from the border.")
        recipe = tiny(tmp_path, checks=(al.Check("orders", orders),))
        row = {"good": True, "seed": {"passage": "p"}, "candidate": candidate(ORDER)}
        (tmp_path / "prompts" / "canaries.jsonl").write_text(json.dumps(row))
        model = agent(generate=long)
        run = play(tmp_path, model, recipe, seeds=SEEDS[:20], canaries="all")
        kinds = {kind.kind: kind for kind in run.evidence().canaries}
        for kind in ("injected", "good"):
            assert (kinds[kind].caught, kinds[kind].judged) == (0, 0)
            assert kinds[kind].by_checks == kinds[kind].shown > 0
        refused = kinds["injected"].shown + kinds["good"].shown
        (line,) = (line for line in run.evidence().lines() if line.startswith("canaries"))
        assert line == (
            f"canaries: the critic is right about 0 of {20 - refused} (padded 0/"
            f"{kinds['padded'].shown}, scrambled 0/{kinds['scrambled'].shown}); {refused} refused by "
            f"a check, {kinds['good'].shown} of them good ones"
        )
        told = run.evidence().as_dict()["canaries"]
        assert sum(kind["by_checks"] for kind in told) == refused

    def test_they_are_no_items_and_change_none(self, tmp_path: Path) -> None:
        long = draft("In the Giant Mountains, not far from the border.")
        without = play(tmp_path / "..", agent(generate=long), tiny(tmp_path), store=tmp_path / "a")
        beside = play(tmp_path, agent(generate=long), canaries="all")
        assert verdicts(without) == verdicts(beside)
        assert Store(beside.store).counts()["attempts"] == 1
        assert ORDER not in str(list(beside.items("all")))

    def test_planted_ones_are_judged_by_their_own_seed(self, tmp_path: Path) -> None:
        def refuses(prompt: str) -> str:
            return marks("yes" if "Liberec" in prompt else "no", "it is not so")

        recipe = tiny(tmp_path)
        rows = [(True, "In Liberec."), (False, "On the moon."), (False, "In Liberec, or not.")]
        (tmp_path / "prompts" / "canaries.jsonl").write_text(
            "\n".join(
                json.dumps({"good": good, "seed": {"passage": "p"}, "candidate": candidate(said)})
                for good, said in rows
            )
        )
        long = draft("Not far from Liberec and the border.")
        run = play(
            tmp_path, agent(generate=long, critique=refuses), recipe, seeds=SEEDS, canaries="all"
        )
        kinds = {kind.kind: kind for kind in run.evidence().canaries}
        assert set(kinds) == {"injected", "scrambled", "padded", "good", "bad"}
        assert kinds["good"].caught == kinds["good"].shown > 0
        assert 0 < kinds["bad"].caught < kinds["bad"].shown

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("{", "line 2: not a canary"),
            ('{"good": true, "seed": {}}', "line 2: not a canary (Field required)"),
            ('{"good": true, "seed": {}, "candidate": {"question": 1}}', "line 2"),
        ],
    )
    def test_a_file_that_holds_none_is_refused_before_a_call(
        self, tmp_path: Path, line: str, said: str
    ) -> None:
        recipe, model = tiny(tmp_path), agent()
        (tmp_path / "prompts" / "canaries.jsonl").write_text(f"\n{line}")
        with pytest.raises(al.UserError) as refused:
            play(tmp_path, model, recipe)
        assert said in str(refused.value)
        assert not model.requests


def candidate(answer: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(draft(answer))
    return found


def test_revisions_that_only_grow_are_told(tmp_path: Path) -> None:
    def grows(prompt: str) -> str:
        return draft("In the Giant Mountains, and so on and so forth, as is well known to all.")

    model = agent(generate=draft("By the sea."), critique=marks("no", "too thin"), revise=grows)
    run = play(tmp_path, model, seeds=SEEDS[:9], max_rounds=1)
    (growth,) = run.evidence().growth
    assert (growth.round, growth.items) == (1, 9)
    assert growth.share == pytest.approx(72 / 11 - 1)
    assert any("longer on average" in line for line in run.evidence().alarms)


@given(
    st.text(min_size=1, max_size=12),
    st.dictionaries(st.sampled_from("abc"), st.text(max_size=80) | st.integers(), max_size=3),
)
def test_a_canary_is_the_same_at_every_replay_and_spoils_one_text(
    item: str, given_draft: dict[str, Any]
) -> None:
    found = canary(item, given_draft)
    assert found == canary(item, given_draft)
    if found is not None:
        changed = [k for k in given_draft if found.candidate[k] != given_draft[k]]
        assert len(changed) <= 1
        assert found.candidate.keys() == given_draft.keys()


def test_a_field_that_is_hidden_from_the_critic_is_never_spoilt() -> None:
    words = {
        "answer": "one two three four five",
        "made_from": "a much longer text than that is " * 9,
    }
    found = [canary(f"item {n}", words, hidden=frozenset({"made_from"})) for n in range(30)]
    assert all(c and c.candidate["made_from"] == words["made_from"] for c in found)
    assert any(c and c.candidate["answer"] != words["answer"] for c in found)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_a_sample_is_of_the_share_that_was_asked(share: float) -> None:
    drawn = sum(chosen(share, 0, f"item {n}", "audit") for n in range(4000))
    assert abs(drawn / 4000 - share) < 0.03
    if share in (0.0, 1.0):
        assert drawn == 4000 * share


def test_a_wrong_share_is_one_line(tmp_path: Path) -> None:
    for value in ("some", "150%", -1):
        with pytest.raises(al.UserError, match="`audit`"):
            play(tmp_path, agent(), audit=value)
    assert asked(agent(), "AUDIT") == []
