"""Grading again: what is paid, what stays, what changes, and whether a revision was worth it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

import agentloop as al
from agentloop.cli import run_cli
from agentloop.errors import (
    AccessError,
    RecipeError,
    RefusedRequest,
    RubricError,
    SettingsError,
    StoreError,
    TransientError,
    UserError,
)
from agentloop.models.base import Reply
from agentloop.models.prices import Price
from agentloop.records import Event, Usage
from agentloop.regrade import aregrade, regrade
from agentloop.regrading import Regrading
from agentloop.store import Store
from agentloop.store.diff import Side, diff, side_of
from agentloop.store.files import connect
from agentloop.store.rounds import rounds
from agentloop.store.writer import Writer
from tests.builders import (
    RUBRIC,
    SEEDS,
    agent,
    asked,
    draft,
    mark,
    marks,
    only,
    play,
    python,
    roles,
    tiny,
    write_graph,
)

GOOD = ("draft 0", "draft 1!")
"""What the run's own critic accepts; a revision adds a `!`."""
OTHER = ("draft 1", "draft 2!!")
"""What another critic accepts."""
BY_CHECKS = """
name: by_checks
accept_at: 0.5
criteria:
  - name: short
    check: length
    with: {field: answer, words: [1, 3]}
    veto: true
  - name: adds
    check: adds_to
    with: {field: answer, other: question}
"""
OWN_CRITERIA = RUBRIC.replace("criteria:", "per_item: 1\ncriteria:")


def reply(text: str) -> Reply:
    """Return a reply of twelve tokens for a cent."""
    return Reply(text, usage=Usage(prompt_tokens=10, completion_tokens=2), cost_usd=0.01)


def answer_in(prompt: str) -> str:
    return prompt.split(maxsplit=1)[1].partition(" |")[0]


def judge(good: tuple[str, ...]) -> Any:
    def says(prompt: str) -> Reply:
        answer = answer_in(prompt)
        return reply(marks() if answer in good else marks("no", f"`{answer}` is wrong"))

    return says


def named(model: al.ScriptedModel, name: str) -> al.ScriptedModel:
    model.name, model.identity = name, {"model": name, "endpoint": None}
    return model


def critic(good: tuple[str, ...] = OTHER, **scripts: Any) -> al.ScriptedModel:
    """Return a critic that the run did not have."""
    return named(agent(**{"critique": judge(good), **scripts}), "scripted/other")


def made(folder: Path, rubric: str = RUBRIC, **settings: Any) -> al.Run:
    """Run three items: good at once, mended by the first revision, never good."""
    model = agent(
        generate=lambda p: reply(draft(f"draft {p.partition('number ')[2][0]}")),
        critique=judge(GOOD),
        revise=lambda p: reply(draft(f"{answer_in(p)}!")),
    )
    given = {"seeds": SEEDS[:3], "recipe": tiny(folder, rubric), **settings}
    return play(folder, model, given.pop("recipe"), **given)


def again(folder: Path, rubric: str = RUBRIC, **settings: Any) -> Regrading:
    file = folder / "new.yaml"
    file.write_text(rubric)
    given = {"recipe": tiny(folder), "rubric": file, "concurrency": 1, **settings}
    return regrade(folder / "qa.duckdb", **given)


def rows(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    Store(folder / "qa.duckdb")
    with connect(folder / "qa.duckdb", write=False) as connection:
        return connection.execute(sql).fetchall()


def ended(folder: Path, grading: int) -> dict[str, tuple[str, str | None, int | None]]:
    """Return verdict, reason and kept round of each item, by its seed's number."""
    found = Store(folder / "qa.duckdb").examples(verdict="all", grading=grading)
    return {
        e["seed"]["passage"].partition("number ")[2].strip("."): (
            e["verdict"],
            e["reason"],
            e["round"],
        )
        for e in found
    }


# What is graded, and what stays


def test_another_critic_grades_every_attempt_and_nothing_is_generated(tmp_path: Path) -> None:
    made(tmp_path)
    model = critic()
    done = again(tmp_path, critic=model)
    assert set(roles(model)) == {"CRITIQUE"}
    answers = [answer_in(r.messages[0]["content"]) for r in model.requests]
    assert sorted(answers) == [
        "draft 0", "draft 1", "draft 1!", "draft 2", "draft 2!", "draft 2!!",
    ]  # fmt: skip
    assert (done.grading, done.exit_code, done.counts["stopped_by"]) == (1, 0, "items")
    assert ended(tmp_path, 0) == {
        "0": ("accepted", None, 0),
        "1": ("accepted", None, 1),
        "2": ("rejected", "below_threshold", 2),
    }
    assert ended(tmp_path, 1) == {
        "0": ("rejected", "below_threshold", 0),
        "1": ("accepted", None, 0),
        "2": ("accepted", None, 2),
    }
    assert str(done).startswith("2 accepted · 1 rejected · 0 ungradable · 0 failed · 0.0600 USD")


def test_the_old_grading_stays_byte_for_byte(tmp_path: Path) -> None:
    made(tmp_path)
    tables = {
        table: f"SELECT * FROM {table} WHERE run = 'tiny' {more} ORDER BY ALL"
        for table, more in {
            "runs": "", "items": "", "attempts": "", "calls": "", "sessions": "",
            "grades": "AND grading = 0", "verdicts": "AND grading = 0",
        }.items()
    }  # fmt: skip
    before = {table: rows(tmp_path, sql) for table, sql in tables.items()}
    counts = Store(tmp_path / "qa.duckdb").counts()
    assert all(before.values())
    again(tmp_path, critic=critic())
    assert {table: rows(tmp_path, sql) for table, sql in tables.items()} == before
    assert Store(tmp_path / "qa.duckdb").counts() == counts


def test_a_grading_says_what_it_was_made_of(tmp_path: Path) -> None:
    made(tmp_path)
    again(tmp_path, RUBRIC.replace("0.8", "0.9"), critic=critic())
    own, new = Store(tmp_path / "qa.duckdb").gradings()
    assert own["grading"] == 0
    assert (new["grading"], new["critic"]) == (1, "scripted/other")
    assert new["rubric"]["accept_at"] == 0.9
    ((grade,),) = rows(tmp_path, "SELECT DISTINCT grade->>'rubric' FROM grades WHERE grading = 1")
    assert grade == new["rubric"]["hash"]


def test_counts_of_a_grading_are_its_own(tmp_path: Path) -> None:
    made(tmp_path)
    again(tmp_path, critic=critic())
    counts = Store(tmp_path / "qa.duckdb").counts(grading=1)
    assert (counts["accepted"], counts["rejected"], counts["attempts"]) == (2, 1, 6)
    assert (counts["calls"], counts["prompt_tokens"]) == (6, 60)
    assert counts["cost_usd"] == pytest.approx(0.06)
    assert Store(tmp_path / "qa.duckdb").reasons(grading=1) == {"below_threshold": 1}


def test_a_rubric_of_checks_needs_no_model(tmp_path: Path) -> None:
    made(tmp_path)
    done = again(tmp_path, BY_CHECKS.replace("[1, 3]", "[2, 2]"))
    assert (done.counts["accepted"], done.counts["calls"], done.counts["cost_usd"]) == (3, 0, 0)
    assert Store(tmp_path / "qa.duckdb").gradings()[1]["critic"] == "checks"


def test_a_failed_veto_spares_the_judge(tmp_path: Path) -> None:
    made(tmp_path)
    veto = BY_CHECKS.partition("  - name: adds")[0].replace("[1, 3]", "[3, 9]")
    model = critic()
    again(tmp_path, f"{veto}  - name: right\n    ask: Is it right?\n", critic=model)
    assert model.requests == []
    assert set(ended(tmp_path, 1).values()) == {("rejected", "failed_check", n) for n in (0, 1, 2)}
    row = next(Store(tmp_path / "qa.duckdb").examples(verdict="all", grading=1))
    assert row["detail"] == "`answer` has 2 words; it needs 3 to 9"


def test_a_revision_that_breaks_what_its_parent_passed_is_not_accepted(tmp_path: Path) -> None:
    made(tmp_path)
    soft = BY_CHECKS.replace("    veto: true\n", "").partition("  - name: adds")[0]
    soft = soft.replace("check: length", "check: avoids").replace(
        "{field: answer, words: [1, 3]}", "{field: answer, phrases: ['1!'], why: it shouts}"
    )
    soft += "    weight: 0.1\n  - name: right\n    ask: Is it right?\n"
    again(tmp_path, soft, critic=critic(("draft 1!", "draft 0")))
    found = {a.round: a for a in story_of(tmp_path, "1", 1).attempts}
    assert found[1].grade is not None
    assert found[1].grade.score > 0.9
    assert (found[1].accepted, found[1].reason) == (False, "failed_check")


def story_of(folder: Path, number: str, grading: int = 0) -> al.Item:
    store = Store(folder / "qa.duckdb")
    where = f"seed->>'passage' LIKE '%number {number}.'"
    (row,) = store.examples(verdict="all", where=where)
    return store.item(row["item"], grading=grading).item


def test_items_own_criteria_are_asked_again_and_not_written_again(tmp_path: Path) -> None:
    both = json.dumps({"right": mark("yes"), "own_1": mark("yes")})
    model = agent(critique=both, criteria=json.dumps({"own_1": "Does it name the sea?"}))
    play(tmp_path, model, tiny(tmp_path, OWN_CRITERIA))
    other = critic(critique=both)
    again(tmp_path, OWN_CRITERIA, critic=other)
    assert roles(other) == ["CRITIQUE"]
    assert "own_1" in other.requests[0].messages[0]["content"]
    again(tmp_path, OWN_CRITERIA.replace("per_item: 1", "per_item: 2"), critic=(
        third := critic(criteria=json.dumps({"own_1": "A?", "own_2": "B?"}),
                        critique=json.dumps({n: mark() for n in ("right", "own_1", "own_2")}))
    ))  # fmt: skip
    assert roles(third) == ["CRITERIA", "CRITIQUE"]


# What ends in no grade


def test_a_judge_that_cannot_be_read_makes_an_item_ungradable(tmp_path: Path) -> None:
    made(tmp_path)

    def mumble(prompt: str) -> str:
        good = answer_in(prompt) in ("draft 0", "draft 1")
        return marks() if good else "hmm"

    again(tmp_path, critic=critic(critique=mumble))
    assert ended(tmp_path, 1) == {
        "0": ("accepted", None, 0),
        "1": ("accepted", None, 0),  # one attempt is accepted, whatever was to say of the other
        "2": ("ungradable", "judge_unreadable", 2),
    }


def test_a_request_that_is_refused_for_good_fails_the_item(tmp_path: Path) -> None:
    made(tmp_path)

    def refuse(prompt: str) -> Any:
        return RefusedRequest("too long") if "draft 2" in prompt else marks()

    done = again(tmp_path, critic=critic(critique=refuse))
    assert ended(tmp_path, 1)["2"] == ("failed", "error", None)
    assert done.exit_code == 0


def test_criteria_that_cannot_be_read_make_an_item_ungradable(tmp_path: Path) -> None:
    made(tmp_path)
    again(tmp_path, OWN_CRITERIA, critic=critic(criteria="none"))
    assert {verdict for verdict, *_ in ended(tmp_path, 1).values()} == {"ungradable"}


def test_an_item_without_an_attempt_keeps_its_verdict(tmp_path: Path) -> None:
    play(tmp_path, agent(generate="no json"))
    model = critic()
    done = again(tmp_path, critic=model)
    assert (model.requests, done.counts["failed"]) == ([], 1)
    assert ended(tmp_path, 1)["0"] == ("failed", "malformed", None)


def test_a_bug_in_a_check_fails_the_item(tmp_path: Path) -> None:
    made(tmp_path)

    def bug(candidate: dict[str, Any], seed: dict[str, Any]) -> Any:
        return candidate["nowhere"]

    again(tmp_path, critic=critic(), recipe=tiny(tmp_path, checks=(al.Check("bug", bug),)))
    assert set(ended(tmp_path, 1).values()) == {("failed", "error", None)}


@pytest.mark.parametrize("reason", ["duplicate", "over_target"])
def test_what_was_refused_at_the_door_stays_refused(tmp_path: Path, reason: str) -> None:
    model = agent(generate=draft("always the same") if reason == "duplicate" else draft("x"))
    run = play(tmp_path, model, seeds=SEEDS[:2], items=2)
    if reason == "over_target":  # one that was good when its run had enough
        (twin,) = run.items("rejected")
        write(tmp_path, "reopened", {"run": "tiny", "item": twin["item"], "opening": 1})
        old = Store(run.store).item(twin["item"]).item.attempts[0]
        at = {"run": "tiny", "item": twin["item"], "opening": 1}
        write(tmp_path, "attempts", {**at, **old.model_dump(mode="json")})
        write(tmp_path, "verdicts", {
            **at, "grading": 0, "verdict": "rejected", "reason": "over_target",
            "detail": "good, but the target was reached", "round": 0, "time": 9e9,
        })  # fmt: skip
    again(tmp_path, critic=critic(("always the same", "x")))
    assert sorted(ended(tmp_path, 1).values(), key=str) == [
        ("accepted", None, 0),
        ("rejected", reason, 0),
    ]
    again(tmp_path, critic=named(agent(critique=marks("no")), "scripted/third"))
    assert {why for _, why, _ in ended(tmp_path, 2).values()} == {"below_threshold"}


@pytest.mark.parametrize("audit", [marks("no", "not so"), "mumble"])
def test_what_the_runs_gate_kept_out_does_not_get_in(tmp_path: Path, audit: str) -> None:
    model = agent(audit=audit)
    play(tmp_path, model, seeds=SEEDS[:2], audit="all")
    before = ended(tmp_path, 0)
    done = again(tmp_path, critic=model)
    assert (done.counts["accepted"], done.counts["calls"]) == (0, 0)
    assert ended(tmp_path, 1) == before
    row = next(Store(tmp_path / "qa.duckdb").examples(verdict="all", grading=1))
    assert "auditor" in row["detail"]
    assert row["detail"].endswith("(the run's gate decided, and no auditor is asked here)")
    again(tmp_path, critic=critic(critique=marks("no")))
    assert {why for _, why, _ in ended(tmp_path, 2).values()} == {"below_threshold"}


@pytest.mark.parametrize("width", [1, 8])
def test_of_twins_that_a_new_critic_likes_one_gets_in(tmp_path: Path, width: int) -> None:
    same = agent(generate=draft("always the same"), critique=marks("no"))
    play(tmp_path, same, seeds=SEEDS[:5], max_rounds=0)
    likes = critic(critique=marks())
    done = again(tmp_path, critic=likes, concurrency=width)
    assert (done.counts["accepted"], done.counts["rejected"]) == (1, 4)
    (kept,) = Store(tmp_path / "qa.duckdb").examples(grading=1)
    for row in Store(tmp_path / "qa.duckdb").examples(verdict="rejected", grading=1):
        assert (row["reason"], row["detail"]) == ("duplicate", f"the same as item {kept['item']}")
    play(tmp_path, same, seeds=SEEDS[:6], max_rounds=0)
    assert again(tmp_path, critic=likes).counts["accepted"] == 1  # also of those settled since


def test_a_twin_of_what_the_run_accepted_stays_out(tmp_path: Path) -> None:
    """The run's critic had said yes once and no once; what it accepted is no twin of itself."""
    model = agent(generate=draft("always the same"), critique=[marks("no"), marks("yes")])
    play(tmp_path, model, seeds=SEEDS[:2], max_rounds=0)
    again(tmp_path, critic=critic(critique=marks()))
    assert ended(tmp_path, 1) == {"0": ("rejected", "duplicate", 0), "1": ("accepted", None, 0)}


def other_judge(name: str, level: str) -> al.ScriptedModel:
    return named(agent(critique=marks(level)), name)


def test_a_panel_and_an_escalation_can_grade_again(tmp_path: Path) -> None:
    made(tmp_path, seeds=SEEDS[:1])
    looks = RUBRIC.replace("criteria:", "looks: {max_spread: 0.1}\ncriteria:")
    notes: list[str] = []
    strong = other_judge("scripted/strong", "yes")
    done = again(
        tmp_path,
        looks,
        critic=other_judge("scripted/a", "yes"),
        panel=(other_judge("scripted/b", "no"),),
        escalate=strong,
        progress=lambda event: notes.append(event.data.get("text", "")),
    )
    assert (done.counts["accepted"], done.counts["calls"], len(strong.requests)) == (1, 3, 1)
    assert "critic scripted/a · critic.2 scripted/b · escalation scripted/strong" in notes[0]
    (row,) = Store(tmp_path / "qa.duckdb").examples(grading=1)
    assert row["grade"]["judges"] == ["scripted/a", "scripted/b", "scripted/strong"]
    assert again(tmp_path, looks, critic=other_judge("scripted/a", "yes")).grading == 2


def test_a_panel_that_is_not_asked_again_is_named(tmp_path: Path, capsys: Any) -> None:
    panel = (other_judge("scripted/b", "no"),)
    made(tmp_path, panel=panel, escalate=other_judge("scripted/c", "no"))
    notes: list[str] = []

    def watch(event: Event) -> None:
        if event.kind == "note":
            notes.append(event.data["text"])

    again(tmp_path, critic=critic(), progress=watch)
    lacking = "a panel with scripted/b and escalation to scripted/c"
    assert notes == [
        f"run tiny was judged by {lacking}; this grading is not: name them to ask them again"
    ]
    out, _ = cli(capsys, "diff", tmp_path / "qa.duckdb", 0, 1)
    assert out.splitlines()[1] == f"tiny was judged by {lacking}, grading 1 of tiny was not"
    again(tmp_path, critic=critic(), panel=panel, escalate=panel[0], progress=watch)
    assert len(notes) == 1
    out, _ = cli(capsys, "diff", tmp_path / "qa.duckdb", 0, 2)
    assert "was not" not in out


def test_a_grading_says_that_nobody_audited_it(tmp_path: Path, capsys: Any) -> None:
    made(tmp_path, audit="all", canaries="all")
    again(tmp_path, critic=critic())
    store = tmp_path / "qa.duckdb"
    own, _ = cli(capsys, "status", store)
    assert "auditor: agrees" in own
    out, _ = cli(capsys, "status", store, "--grading", 1)
    assert out.splitlines()[-1] == "  this grading was not audited or calibrated"
    assert "auditor" not in out
    told = json.loads(cli(capsys, "status", store, "--grading", 1, "--json")[0])
    assert [told[key] for key in ("evidence", "calibration", "audits")] == [None, None, 0]


def test_grades_made_again_are_stamped_too(tmp_path: Path) -> None:
    play(tmp_path, named(agent(), "openai/gpt-5"))
    again(tmp_path, critic=named(agent(), "openai/o3"))
    again(tmp_path, critic=named(agent(), "anthropic/claude-x"))
    found = [
        row["self_graded"]
        for grading in (1, 2)
        for row in Store(tmp_path / "qa.duckdb").examples(grading=grading)
    ]
    assert found == [True, False]


def write(folder: Path, table: str, row: dict[str, Any]) -> None:
    with Writer(folder / "qa.duckdb") as writer:
        writer.append((table, row))


# What is paid


def test_a_rubric_that_moves_only_the_threshold_costs_nothing(tmp_path: Path) -> None:
    right = RUBRIC + "  - name: clear\n    ask: Is it clear?\n"
    half = json.dumps({"right": mark("yes"), "clear": mark("no", "it is not")})
    model = agent(critique=half, revise=draft("another"))
    run = play(tmp_path, model, tiny(tmp_path, right), max_rounds=0)
    assert only(run).verdict is not None
    assert run.counts["rejected"] == 1
    model.requests.clear()
    done = again(tmp_path, right.replace("0.8", "0.5"), critic=model)
    assert model.requests == []
    assert (done.counts["accepted"], done.counts["calls"], done.counts["cost_usd"]) == (1, 0, 0)


def test_a_finished_grading_is_not_done_twice(tmp_path: Path) -> None:
    made(tmp_path)
    again(tmp_path, critic=critic())
    model = critic()
    done = again(tmp_path, critic=model)
    assert (done.grading, done.exit_code, model.requests) == (1, 0, [])
    assert done.counts["accepted"] == 2


def test_items_settled_since_are_graded_by_the_next_start(tmp_path: Path) -> None:
    made(tmp_path, items=1)
    assert again(tmp_path, critic=critic()).counts["attempts"] == 1
    made(tmp_path, items=3)
    done = again(tmp_path, critic=critic())
    assert (done.grading, done.counts["attempts"]) == (1, 6)


@pytest.mark.parametrize(
    "change", [{"rubric": RUBRIC.replace("0.8", "0.7")}, {"seed": 1}, {"critic": "third"}]
)
def test_another_rubric_critic_or_seed_is_another_grading(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    made(tmp_path)
    again(tmp_path, critic=critic())
    given = {"critic": critic(), **change}
    if given["critic"] == "third":
        given["critic"] = named(critic(), "scripted/third")
    assert again(tmp_path, **given).grading == 2


def test_a_grading_that_was_cut_off_goes_on_and_pays_no_call_twice(tmp_path: Path) -> None:
    made(tmp_path)

    def die(prompt: str) -> Any:
        if "draft 1!" in prompt:
            return AccessError("the key was withdrawn")
        return judge(OTHER)(prompt)

    first = critic(critique=die)
    with pytest.raises(AccessError) as raised:
        again(tmp_path, critic=first)
    assert raised.value.counts is not None
    assert (raised.value.counts["rejected"], raised.value.counts["stopped_by"]) == (1, "error")
    second = critic()
    done = again(tmp_path, critic=second)
    answers = [answer_in(r.messages[0]["content"]) for r in second.requests]
    assert answers == ["draft 1!", "draft 2", "draft 2!", "draft 2!!"]
    assert (done.grading, done.counts["accepted"], done.counts["calls"]) == (1, 2, 6)
    assert done.counts["cost_usd"] == pytest.approx(0.06)


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.test_regrade import OTHER, again, answer_in, critic, judge, made

folder = Path(sys.argv[1])

def answer(prompt):
    if answer_in(prompt) == "draft 2":
        os.kill(os.getpid(), signal.SIGKILL)
    with (folder / "asked").open("a") as file:
        file.write(answer_in(prompt) + "\\n")
    return judge(OTHER)(prompt)

made(folder)
again(folder, critic=critic(critique=answer))
"""


def test_a_kill_loses_only_the_call_in_flight(tmp_path: Path) -> None:
    with python(KILLED, tmp_path, cwd=Path(__file__).parent.parent) as process:
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert (tmp_path / "asked").read_text().split("\n") == ["draft 0", "draft 1", "draft 1!", ""]
    model = critic()
    done = again(tmp_path, critic=model)
    answers = [answer_in(r.messages[0]["content"]) for r in model.requests]
    assert answers == ["draft 2", "draft 2!", "draft 2!!"]
    assert (done.grading, done.counts["accepted"], done.counts["calls"]) == (1, 2, 6)


def test_what_an_endpoint_did_not_answer_is_done_by_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentloop.models.limits.BACKOFF", 0.0)
    made(tmp_path)

    def busy(prompt: str) -> Any:
        if "draft 1" in prompt:
            return TransientError("it is late")
        return judge(OTHER)(prompt)

    notes: list[str] = []

    def watch(event: Event) -> None:
        if event.kind == "note":
            notes.append(event.data["text"])

    done = again(tmp_path, critic=critic(critique=busy), progress=watch)
    assert (done.exit_code, done.counts["stopped_by"], done.counts["left"]) == (3, "endpoint", 1)
    assert "1" not in ended(tmp_path, 1)
    assert notes == ["1 items are left for the next start, their endpoint failed: it is late"]
    model = critic()
    assert again(tmp_path, critic=model).exit_code == 0
    assert len(asked(model, "CRITIQUE")) == 2


def test_a_budget_needs_a_price(tmp_path: Path) -> None:
    made(tmp_path)
    unknown = critic()
    unknown.price = None
    with pytest.raises(SettingsError, match="needs the price of `scripted/other`"):
        again(tmp_path, critic=unknown, budget_usd=1.0)


def test_a_budget_holds_over_all_starts(tmp_path: Path) -> None:
    made(tmp_path)

    def dear(prompt: str) -> Reply:
        said: Reply = judge(OTHER)(prompt)
        return dataclasses.replace(said, cost_usd=5.0)

    model = critic(critique=dear)
    model.price = Price(input=0, output=10_000)  # 1,024 tokens of a reply: at most 10.24 USD
    done = again(tmp_path, critic=model, budget_usd=18.0)
    assert (done.exit_code, done.counts["stopped_by"]) == (3, "budget")
    assert (done.counts["calls"], done.counts["cost_usd"], len(ended(tmp_path, 1))) == (2, 10, 1)
    assert again(tmp_path, critic=model, budget_usd=18.0).counts["calls"] == 2
    more = again(tmp_path, critic=model, budget_usd=1000.0)
    assert (more.exit_code, more.grading, len(model.requests)) == (0, 1, 6)


def test_an_interrupt_ends_what_is_in_flight_and_the_next_start_goes_on(tmp_path: Path) -> None:
    made(tmp_path)

    def interrupted(prompt: str) -> Any:
        if answer_in(prompt) == "draft 0":
            os.kill(os.getpid(), signal.SIGINT)
        return judge(OTHER)(prompt)

    done = again(tmp_path, critic=critic(critique=interrupted))
    assert (done.exit_code, done.counts["stopped_by"]) == (130, "interrupt")
    assert len(ended(tmp_path, 1)) < 3
    assert again(tmp_path, critic=critic()).exit_code == 0
    assert len(ended(tmp_path, 1)) == 3


@pytest.mark.parametrize("width", [1, 2, 16])
def test_no_more_than_the_concurrency_is_in_flight(tmp_path: Path, width: int) -> None:
    play(tmp_path, agent(), seeds=SEEDS[:12], concurrency=4)
    most = now = 0

    class Slow(al.ScriptedModel):
        async def complete(self, *given: Any) -> Reply:
            nonlocal most, now
            now += 1
            most = max(most, now)
            for _ in range(100):
                await asyncio.sleep(0)
            now -= 1
            return await super().complete(*given)

    slow = Slow(lambda request: marks(), name="scripted/slow")
    assert again(tmp_path, critic=slow, concurrency=width).counts["accepted"] == 12
    assert most == min(width, 12)


def test_nothing_is_written_before_the_first_reply(tmp_path: Path) -> None:
    made(tmp_path)
    with pytest.raises(AccessError):
        again(tmp_path, critic=critic(critique=AccessError("no")))
    assert len(Store(tmp_path / "qa.duckdb").gradings()) == 1
    assert rows(tmp_path, "SELECT * FROM sessions WHERE run <> 'tiny'") == []


# What it is told


def test_the_critic_of_the_run_is_taken_unless_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = agent(critique=judge(GOOD))
    opened: list[tuple[str, str | None]] = []

    def open_model(choice: Any) -> al.ScriptedModel:
        opened.append((choice.spec, choice.base_url))
        return named(critic(), choice.spec)

    play(tmp_path, named(model, "openai/own"), seeds=SEEDS[:1])
    monkeypatch.setattr("agentloop.roles.open_model", open_model)
    strict = RUBRIC.replace("Is the answer right?", "Is all of it right?")
    monkeypatch.setattr(al.ScriptedModel, "identity", {"model": "x"}, raising=False)
    again(tmp_path, strict)
    again(tmp_path, strict, critic="openai/new", base_url="http://127.0.0.1:9/v1")
    assert opened == [("openai/own", None), ("openai/new", "http://127.0.0.1:9/v1")]


def test_the_recipe_is_found_again_by_its_file(tmp_path: Path) -> None:
    graph = write_graph(tmp_path)
    al.run(str(graph), seeds=SEEDS[:2], store=tmp_path / "qa.duckdb", model=agent())
    done = again(tmp_path, BY_CHECKS.replace("[1, 3]", "[1, 300]"), recipe=None)
    assert done.counts["accepted"] == 2
    graph.unlink()
    with pytest.raises(RecipeError, match=r"the recipe of run `mine`: .*name it: `--recipe FILE`"):
        again(tmp_path, BY_CHECKS, recipe=None)


def test_mistakes_are_named_before_anything_is_written(tmp_path: Path) -> None:
    made(tmp_path)
    with pytest.raises(SettingsError, match="`accept` is no setting of a grading"):
        again(tmp_path, accept=3)
    with pytest.raises(RubricError, match=r"new\.yaml"):
        again(tmp_path, "name: [")
    with pytest.raises(StoreError, match="no run `tniy`"):
        again(tmp_path, run="tniy")
    with pytest.raises(SettingsError, match="no rubric"):
        regrade(tmp_path / "qa.duckdb", rubric="")
    quoting = RUBRIC + "    evidence: quote\n    quote_from: seed.source\n"
    with pytest.raises(StoreError, match="3 items of run `tiny` have seeds without `source`"):
        again(tmp_path, quoting, critic=critic())
    with pytest.raises(StoreError, match="there is no store"):
        regrade(tmp_path / "none.duckdb", rubric=tmp_path / "new.yaml")
    assert len(Store(tmp_path / "qa.duckdb").gradings()) == 1


def test_inside_a_loop_there_is_an_awaitable(tmp_path: Path) -> None:
    made(tmp_path)
    (tmp_path / "new.yaml").write_text(BY_CHECKS)

    async def notebook() -> Regrading:
        with pytest.raises(UserError, match="await aregrade"):
            regrade(tmp_path / "qa.duckdb", rubric=tmp_path / "new.yaml")
        return await aregrade(
            tmp_path / "qa.duckdb", rubric=tmp_path / "new.yaml", recipe=tiny(tmp_path)
        )

    assert asyncio.run(notebook()).grading == 1


# Looking at it


def test_a_diff_counts_moves_and_says_why(tmp_path: Path) -> None:
    made(tmp_path)
    again(tmp_path, critic=critic())
    store = Store(tmp_path / "qa.duckdb")
    found = diff(store, Side("tiny", 0), Side("tiny", 1))
    assert found.transitions == {
        ("accepted", "accepted"): 1,
        ("accepted", "rejected"): 1,
        ("rejected", "accepted"): 1,
    }
    first, last = (story_of(tmp_path, number).id for number in ("0", "2"))
    assert [(c.item, c.before.score, c.after.score, c.marks) for c in found.changed] == [
        (first, 1.0, 0.0, (("right", "yes", "no"),)),
        (last, 0.0, 1.0, (("right", "no", "yes"),)),
    ]
    low = "score 0.00 < 0.8; weakest `right`: `draft 0` is wrong"
    assert [c.why for c in found.changed] == [
        f"`right` yes → no; {low}",
        f"`right` no → yes; before: {low.replace('draft 0', 'draft 2!!')}",
    ]
    assert (found.only_a, found.only_b) == (0, 0)


def test_runs_are_compared_by_their_items(tmp_path: Path) -> None:
    made(tmp_path)
    made(tmp_path, run="second", seeds=SEEDS[:2])
    store = Store(tmp_path / "qa.duckdb")
    found = diff(store, side_of(store, "tiny"), side_of(store, "second"))
    assert found.transitions == {("accepted", "accepted"): 2}
    assert (found.only_a, found.only_b, found.changed) == (1, 0, ())


def test_a_side_is_a_grading_or_a_run(tmp_path: Path) -> None:
    made(tmp_path)
    again(tmp_path, critic=critic())
    made(tmp_path, run="7", seeds=SEEDS[:1])
    store = Store(tmp_path / "qa.duckdb")
    assert side_of(store, "1", "tiny") == Side("tiny", 1)
    assert side_of(store, "7") == Side("7", 0)
    with pytest.raises(StoreError, match=r"run `tiny` has no grading 7 \(known: 0, 1\)"):
        side_of(store, "7", "tiny")
    with pytest.raises(StoreError, match="no run `tinny`"):
        side_of(store, "tinny")
    with pytest.raises(StoreError, match="no grading's number"):
        side_of(store, "tiny", "tiny")


def test_rounds_say_what_each_brought_and_cost(tmp_path: Path) -> None:
    made(tmp_path)
    assert [line.as_dict() for line in rounds(Store(tmp_path / "qa.duckdb"))] == [
        figures(
            round=0, attempts=3, mean_score=pytest.approx(1 / 3), accepted=1, gained=1,
            growth_chars=None, critic_gain=None, calls=6, tokens=72, cost_usd=pytest.approx(0.06),
            accepted_share=pytest.approx(1 / 3), tokens_per_gained=72.0,
            cost_per_gained=pytest.approx(0.06), revisions=0, repaired=0,
            marks={"right": pytest.approx(1 / 3)},
        ),
        figures(
            round=1, attempts=2, mean_score=0.5, accepted=1, gained=1, fixed=1, unchanged_bad=1,
            critic_gain=0.5, calls=4, tokens=48, cost_usd=pytest.approx(0.04), accepted_share=0.5,
            tokens_per_gained=48.0, cost_per_gained=pytest.approx(0.04), revisions=2, repaired=1,
            marks={"right": 0.5},
        ),
        figures(
            round=2, attempts=1, mean_score=0.0, accepted=0, gained=0, unchanged_bad=1,
            critic_gain=0.0, calls=2, tokens=24, cost_usd=pytest.approx(0.02), accepted_share=0.0,
            tokens_per_gained=None, cost_per_gained=None, revisions=1, repaired=0,
            marks={"right": 0.0},
        ),
    ]  # fmt: skip


def figures(**found: Any) -> dict[str, Any]:
    """Return a round's figures; what is not named is nothing, and a revision is one longer."""
    none = dict.fromkeys(("fixed", "broken", "unchanged_good", "unchanged_bad", "audited"), 0)
    return {**none, "growth_chars": 1.0, "auditor_gain": None, "gap": None, **found}


def test_rounds_of_another_grading_show_what_a_revision_broke(tmp_path: Path) -> None:
    made(tmp_path)
    again(tmp_path, critic=critic())
    found = rounds(Store(tmp_path / "qa.duckdb"), grading=1)
    keys = ("accepted", "gained", "fixed", "broken", "unchanged_good", "unchanged_bad")
    assert [[getattr(line, key) for key in keys] for line in found] == [
        [1, 1, 0, 0, 0, 0],
        [0, 0, 0, 1, 0, 1],
        [1, 1, 1, 0, 0, 0],
    ]
    assert [line.critic_gain for line in found] == [None, -0.5, 1.0]
    assert [line.tokens for line in found] == [72, 48, 24]  # what the rounds cost in the run


@pytest.mark.parametrize("alike", [True, False])
def test_rounds_hold_the_auditors_gain_against_the_critics(tmp_path: Path, alike: bool) -> None:
    made(tmp_path)
    item = story_of(tmp_path, "2")
    for attempt, score in zip(item.attempts, (0.6, 0.4, None), strict=True):
        assert attempt.grade is not None
        grade = attempt.grade.model_dump() if alike else {"rubric": "another"}
        place = {"run": "tiny", "item": item.id, "opening": 0, "round": attempt.round}
        write(tmp_path, "audits", {**place, "score": score, "grade": grade, "time": 1.0})
    _, second, third = rounds(Store(tmp_path / "qa.duckdb"))
    assert second.audited == 1
    assert second.auditor_gain == pytest.approx(-0.2)
    assert second.gap == (pytest.approx(0.2) if alike else None)
    assert (third.audited, third.auditor_gain, third.gap) == (0, None, None)


def test_an_unknown_price_is_no_cost_of_nothing(tmp_path: Path) -> None:
    model = agent()
    model.price = None
    play(tmp_path, model)
    (line,) = rounds(Store(tmp_path / "qa.duckdb"))
    assert (line.cost_usd, line.cost_per_gained, line.gained) == (None, None, 1)


# The command line


def cli(capsys: Any, *arguments: object, code: int = 0) -> tuple[str, str]:
    capsys.readouterr()
    assert run_cli([str(a) for a in arguments]) == code
    out, err = capsys.readouterr()
    return out, err


def test_commands_from_regrade_to_export(tmp_path: Path, capsys: Any) -> None:
    graph = write_graph(tmp_path)
    model = agent(generate=lambda p: draft(f"draft {p.partition('number ')[2][0]}"))
    store = tmp_path / "qa.duckdb"
    al.run(str(graph), seeds=SEEDS[:3], store=store, model=model)
    (tmp_path / "new.yaml").write_text(
        BY_CHECKS.replace("check: length", "check: avoids").replace(
            "{field: answer, words: [1, 3]}",
            "{field: answer, phrases: ['draft 1'], why: it shouts}",
        )
    )
    line = ["regrade", store, "--rubric", tmp_path / "new.yaml"]
    out, err = cli(capsys, *line, "--progress", "none")
    assert out == ""
    assert f"what changed: agentloop diff {store} 0 1 --run mine" in err
    out, _ = cli(capsys, *line, "--progress", "none", "--json")
    counts = json.loads(out)
    assert (counts["accepted"], counts["rejected"], counts["grading"]) == (2, 1, 1)
    out, err = cli(capsys, "status", store, "--grading", "1")
    assert "2 accepted" in out
    assert "1 failed_check" in out
    assert err == "grading 1 of run mine (0 is its own; 1 by checks)\n"
    out, _ = cli(capsys, "status", store)
    assert "3 accepted" in out
    out, _ = cli(capsys, "export", store, "--grading", "1")
    answers = [json.loads(line)["messages"][-1]["content"] for line in out.splitlines()]
    assert answers == ["draft 0", "draft 2"]
    out, _ = cli(capsys, "export", store)
    assert len(out.splitlines()) == 3
    (gone,) = Store(store).examples(verdict="rejected", grading=1)
    out, _ = cli(capsys, "why", store, gone["item"], "--grading", "1")
    assert "grading 1" in out
    assert "rejected · failed_check" in out
    for command in ("status", "export", "rounds"):
        _, err = cli(capsys, command, store, "--grading", "5", code=2)
        assert err == "agentloop: run `mine` has no grading 5 (known: 0, 1)\n"


def test_diff_and_rounds_are_told_as_tables(tmp_path: Path, capsys: Any) -> None:
    made(tmp_path)
    again(tmp_path, critic=critic())
    store = tmp_path / "qa.duckdb"
    first, last = (story_of(tmp_path, number).id for number in ("0", "2"))
    out, _ = cli(capsys, "diff", store, 0, 1)
    other = "score 0.00 < 0.8; weakest `right`: `draft 2!!` is wrong"
    low = "score 0.00 < 0.8; weakest `right`: `draft 0` is wrong"
    assert out.splitlines() == [
        "tiny → grading 1 of tiny · 3 items in both, 2 change",
        "         1 accepted → accepted",
        "         1 accepted → rejected",
        "         1 rejected → accepted",
        f"{first}  accepted 1.00 → rejected below_threshold 0.00  `right` yes → no; {low}",
        f"{last}  rejected below_threshold 0.00 → accepted 1.00  `right` no → yes; before: {other}",
    ]
    data = json.loads(cli(capsys, "diff", store, 0, 1, "--json")[0])
    assert data["transitions"][1] == {"before": "accepted", "after": "rejected", "items": 1}
    assert data["changed"][0]["marks"] == [{"criterion": "right", "before": "yes", "after": "no"}]
    out, _ = cli(capsys, "rounds", store)
    assert [row.split() for row in out.splitlines()[1:4]] == [
        ["0", "3", "0.333", "33%", "1", "0", "0", "0", "0", "-", "-", "-", "72", "0.0600"],
        ["1", "2", "0.500", "50%", "1", "1", "0", "0", "1", "+1", "+0.500", "-", "48", "0.0400"],
        ["2", "1", "0.000", "0%", "0", "0", "0", "0", "1", "+1", "+0.000", "-", "24", "0.0200"],
    ]
    assert out.splitlines()[4:] == [
        "revision 1: 1 of 2 items become acceptable, 48 tokens each, 0.0400 USD each",
        "revision 2: 0 of 1 items become acceptable",
        "right: 0.33 → 0.50 → 0.00",
        "repaired: 1 of 2 accepted items were refused at first (50%)",
    ]
    out, _ = cli(capsys, "rounds", store, "--grading", 1)
    assert "1 that were good are not any more" in out
    assert json.loads(cli(capsys, "rounds", store, "--json")[0])[1]["cost_per_gained"] == 0.04


def test_a_preference_pair_of_a_grading_is_by_its_own_grades(tmp_path: Path, capsys: Any) -> None:
    made(tmp_path)
    again(tmp_path, critic=critic())
    store = tmp_path / "qa.duckdb"
    pairs = {}
    for grading in (0, 1):
        out, _ = cli(capsys, "export", store, "--shape", "preference", "--grading", grading)
        for line in out.splitlines():
            pair = json.loads(line)
            chosen, rejected = (pair[k][0]["content"] for k in ("chosen", "rejected"))
            pairs[grading, chosen] = rejected
    assert pairs[0, "draft 1!"] == "draft 1"
    assert pairs[1, "draft 1"] == "draft 1!"
    assert pairs[1, "draft 2!!"] in ("draft 2", "draft 2!")


def test_what_stands_in_a_store_cannot_write_to_a_terminal(tmp_path: Path, capsys: Any) -> None:
    made(tmp_path)
    evil = json.dumps({"right": mark("no", "bad\x1b[2J\nnews")})
    again(tmp_path, critic=critic(critique=evil))
    out, _ = cli(capsys, "diff", tmp_path / "qa.duckdb", 0, 1)
    assert "\x1b" not in out
    assert "bad\\x1b[2J news" in out
