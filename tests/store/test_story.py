"""An item's story: complete, and harmless to look at."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

import agentloop as al
from agentloop.checks import Check
from agentloop.records import CheckResult, Grade, Item, Json, Mark
from agentloop.store import Store
from agentloop.store.story import Story
from tests.builders import SEEDS, agent, draft, marks, play, tiny

EVIL = "\x1b]0;owned\x07\x1b[31mred\u202egnp.exe\u2066\r\b\x9b2J\u200b"


def call(**more: object) -> Json:
    return {
        "key": "generator/0/-/0/0/0",
        "model": "m",
        "answered": True,
        "finish_reason": "stop",
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "cost_usd": 0.25,
        "latency": 0.1,
        "tries": 1,
        "error": None,
        "digest": "0123456789",
        **more,
    }


def story(*calls: Json, verdict: al.Verdict | None = None, fields: Json | None = None) -> Story:
    attempt = al.Attempt(round=0, candidate={"answer": "yes"}, model="m")
    item = Item(
        run="a",
        id="0123456789ab",
        seed=al.Seed.of({"passage": "p", **(fields or {})}),
        inputs={"sample": 1},
        attempts=(attempt,),
        verdict=verdict,
    )
    return Story(item, "tiny", list(calls))


def harmless(text: str) -> bool:
    bad = ("Cc", "Cf", "Cs", "Co")
    return not any(unicodedata.category(c) in bad for c in text if c != "\n")


def test_the_story_tells_seed_attempts_marks_checks_calls_and_cost(tmp_path: Path) -> None:
    never = Check("tone", lambda _c, _s: al.fail("too loud"), veto=False)
    model = agent(critique=[marks("no", "it flows north"), marks()], revise=draft("South"))
    run = play(tmp_path, model, tiny(tmp_path, checks=(never,)))
    (row,) = run.items()
    told = Store(run.store).item(row["item"])
    for part in (
        row["item"],
        "run tiny",
        "accepted · score 1.00",
        "passage: The river Elbe",
        "first draft by scripted/model",
        "check tone: too loud",
        "mark right: no (0.00, written)",
        "reason: it flows north",
        " (kept)",
        "4 calls",
        "reviser/1/-/0/0/0",
    ):
        assert part in told.why(), part
    data = told.as_dict()
    assert json.loads(json.dumps(data))["verdict"]["verdict"] == "accepted"
    assert len(data["calls"]) == 4


def test_an_item_on_its_way_says_so() -> None:
    assert "no verdict yet" in story().why()


def test_cost_is_summed_over_answered_calls_and_unknown_if_one_is() -> None:
    failed = call(answered=False, cost_usd=None, error="busy")
    assert story(call(), call(), failed).cost_usd == 0.5
    assert story(call(), call(cost_usd=None)).cost_usd is None
    assert "cost unknown" in story(call(cost_usd=None)).why()
    assert "no reply: busy" in story(failed).why()


@pytest.mark.parametrize(
    "told",
    [
        story(fields={"passage": EVIL}),
        story(fields={EVIL: "text"}),
        story(verdict=al.Verdict(verdict="failed", reason="malformed", detail=f"it said: {EVIL}")),
        story(call(answered=False, error=EVIL)),
        story(call(finish_reason=EVIL)),
        story(call(model=EVIL)),
    ],
    ids=["seed", "field name", "verdict", "error", "finish reason", "model"],
)
def test_escapes_and_direction_marks_never_reach_the_screen(told: Story) -> None:
    assert harmless(told.why())


@pytest.mark.parametrize(
    "attempt",
    [
        {"candidate": {"answer": EVIL}},
        {"candidate": {EVIL: "x"}},
        {"checks": (CheckResult(name="c", passed=False, evidence=EVIL),)},
        {"detail": EVIL, "reason": "failed_check"},
        {"model": EVIL},
        {
            "grade": Grade(
                marks=(
                    Mark(
                        criterion="right",
                        level="no",
                        value=0,
                        how="written",
                        quote=EVIL,
                        reason=EVIL,
                    ),
                ),
                score=0,
                rubric="r",
                model=EVIL,
                reference=EVIL,
            ),
            "detail": f"weakest `right`: {EVIL}",
        },
    ],
    ids=["answer", "field name", "evidence", "detail", "writer", "grade"],
)
def test_escapes_in_an_attempt_never_reach_the_screen(attempt: Json) -> None:
    plain = story()
    changed = plain.item.attempts[0].model_copy(update=attempt)
    item = plain.item.model_copy(update={"attempts": (changed,)})
    assert harmless(Story(item, "tiny", []).why())


def test_a_line_of_text_cannot_fake_another_line_of_the_story() -> None:
    faked = story(fields={"passage": "x\naccepted · score 1.00"}).why()
    assert "\naccepted" not in faked


@pytest.mark.parametrize("evil", [EVIL, "\x1b[31m", "\u202e"])
def test_what_models_write_is_harmless_from_end_to_end(tmp_path: Path, evil: str) -> None:
    model = agent(
        generate=draft(f"a {evil}"), critique=marks("no", f"r {evil}"), revise=draft(evil)
    )
    run = play(tmp_path, model, seeds=[{**SEEDS[0], "note": evil}])
    (row,) = run.items("all")
    assert harmless(Store(run.store).item(row["item"]).why())
    assert evil in Store(run.store).item(row["item"]).item.attempts[0].candidate["answer"]


def test_long_texts_are_cut_for_people_and_whole_for_programs() -> None:
    told = story(fields={"passage": "y" * 5000})
    assert "y" * 1000 not in told.why()
    assert "y" * 5000 in json.dumps(told.as_dict())
