"""Audits and canaries: blind, on a sample, never fed back, not items."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import agentloop as al
from agentloop.canaries import ORDER, PADDING, canary, chosen
from agentloop.errors import TransientError
from agentloop.store import Store
from tests.builders import SEEDS, agent, asked, draft, marks, play, roles, tiny, verdicts


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
        caught = {k.kind: (k.caught, k.shown) for k in run.evidence().canaries}
        assert set(caught) == {"injected", "scrambled", "padded"}
        assert caught["injected"][0] == caught["scrambled"][0] == 0
        assert caught["padded"][0] == caught["padded"][1]
        assert any(
            line.startswith("ALARM: the critic was wrong") for line in run.evidence().lines()
        )

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
