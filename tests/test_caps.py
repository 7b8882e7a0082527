"""Caps: money, time, and the plan that is shown before any of it is spent."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

import agentloop as al
from agentloop import crew
from agentloop.cli import run_cli
from agentloop.errors import BudgetReached, SettingsError, UnreachableError
from agentloop.models.base import Request
from agentloop.models.budget import Budget, worst_case
from agentloop.models.estimate import prompt_tokens
from agentloop.models.prices import Price
from agentloop.store import Store
from tests.builders import (
    SEEDS,
    agent,
    command,
    play,
    said_by,
    serving,
    tiny,
    verdicts,
    write_graph,
    write_seeds,
)
from tests.endpoint import HANG, Endpoint

PRICE = Price(input=1000, output=4000)
SMALL: dict[str, Any] = {"roles": {role: {"max_tokens": 40} for role in ("generator", "critic")}}


def priced(**scripts: Any) -> al.ScriptedModel:
    model = agent(**scripts)
    model.price = PRICE
    return model


@pytest.mark.parametrize("width", [1, 8])
def test_a_budget_is_never_passed_and_a_higher_one_goes_on(tmp_path: Path, width: int) -> None:
    full = play(tmp_path / "..", priced(), tiny(tmp_path), seeds=SEEDS[:30], store=tmp_path / "f")
    price = full.counts["cost_usd"]
    settings: dict[str, Any] = {"seeds": SEEDS[:30], "concurrency": width, **SMALL}
    run = play(tmp_path, priced(), budget_usd=price / 2, **settings)
    assert (run.stopped_by, run.exit_code) == ("budget", 3)
    assert 0 < run.counts["cost_usd"] <= price / 2
    assert 0 < run.counts["accepted"] < 30
    run = play(tmp_path, priced(), budget_usd=price * 3, **settings)
    assert (run.stopped_by, run.exit_code) == ("seeds", 0)
    assert run.counts["accepted"] == 30
    assert run.counts["cost_usd"] == pytest.approx(price)
    assert run.counts["unsettled_usd"] == 0


def test_no_budget_makes_no_call(tmp_path: Path) -> None:
    model = priced()
    run = play(tmp_path, model, budget_usd=0)
    assert (run.stopped_by, model.requests) == ("budget", [])


def test_a_budget_needs_every_price(tmp_path: Path) -> None:
    model = agent()
    model.price = None
    with pytest.raises(SettingsError, match=r'price of `scripted/model`.*\[prices\."scripted'):
        play(tmp_path, model, budget_usd=1)
    with pytest.raises(SettingsError, match="`budget_usd`"):
        play(tmp_path, model, budget_usd=-1)
    assert model.requests == []


AMOUNTS = st.lists(st.tuples(st.floats(0, 5), st.floats(0, 1)), max_size=30)


@given(AMOUNTS, st.floats(0, 20))
def test_whatever_is_asked_the_cap_holds(calls: list[tuple[float, float]], cap: float) -> None:
    budget = Budget(cap)

    async def call(amount: float, share: float) -> None:
        try:
            await budget.reserve(amount)
        except BudgetReached:
            return
        assert budget.spent + budget.reserved <= cap + 1e-9
        await asyncio.sleep(0)
        budget.settle(amount, amount * share)

    async def play_all() -> None:
        await asyncio.gather(*(call(*one) for one in calls))

    asyncio.run(play_all())
    assert budget.spent <= cap + 1e-9
    assert budget.reserved == 0


@given(st.text(max_size=300))
def test_a_prompt_is_not_estimated_below_a_token_for_three_bytes(text: str) -> None:
    request = Request(messages=({"role": "user", "content": text},), max_tokens=10)
    assert prompt_tokens(request) >= len(text.encode()) // 3
    assert worst_case(request, PRICE) >= (len(text) // 3 * 1000 + 10 * 4000) / 1e6


def test_what_a_kill_left_open_is_booked_and_shown(tmp_path: Path) -> None:
    def hang(body: dict[str, Any], number: int) -> None:
        if number == 4:
            server.latency = 3600.0  # the fifth is in flight when the kill comes

    seeds = write_seeds(tmp_path, 6)
    (tmp_path / "agentloop.toml").write_text(
        '[prices."openai/x"]\ninput = 1000\noutput = 4000\n'
        "[roles.generator]\nmax_tokens = 50\n[roles.critic]\nmax_tokens = 50\n"
    )
    server = Endpoint(misbehave=hang)
    with server:
        line = ["run", str(write_graph(tmp_path)), "--seeds", str(seeds), "--store", "s.duckdb"]
        line += ["--model", "openai/x", "--base-url", server.url, "--budget-usd", "90"]
        with command(*line, "--concurrency", "1", cwd=tmp_path) as process:
            server.wait_for(5)
            process.kill()
            process.communicate()
    counts = Store(tmp_path / "s.duckdb").counts()
    assert counts["calls"] == 4
    assert 0.2 < counts["unsettled_usd"] < 0.5


@pytest.mark.parametrize(
    "wrong", ["times out", "breaks off", "says nothing", "says no usage", "refuses"]
)
def test_what_may_have_been_billed_is_booked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    """Only a refusal asks no money; the cap holds over all tries, and a resume knows."""
    monkeypatch.setattr("agentloop.models.limits.BACKOFF", 0.0)
    costly = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}

    def misbehave(body: dict[str, Any], number: int) -> web.Response | None:
        answered = said_by(model, body) | {"usage": costly}
        if number % 2 == 0:
            return web.json_response(answered)
        if wrong == "times out":
            return HANG
        if wrong == "breaks off":
            return web.Response(headers={"content-length": "999"}, body=b"{")
        if wrong == "says no usage":
            return web.json_response({k: v for k, v in answered.items() if k != "usage"})
        return web.Response(status=200 if wrong == "says nothing" else 500, text="oh")

    def priced_calls(counts: dict[str, Any]) -> int:
        return int(counts["calls"] // (2 if wrong == "says no usage" else 1))

    settings: dict[str, Any] = {
        "model": "openai/x",
        "prices": {"openai/x": {"input": 1000, "output": 4000}},
        "roles": {r: {"max_tokens": 40, "timeout": 0.3} for r in ("generator", "critic")},
        "seeds": SEEDS[:6],
    }
    model = agent()
    cap = 0.4 if wrong == "refuses" else 1.5
    with Endpoint(misbehave=misbehave) as server:
        run = play(tmp_path, budget_usd=cap, base_url=server.url, **settings)
        counts = run.counts
        assert (run.stopped_by, counts["stopped_by"]) == ("budget", "budget")
        assert counts["cost_usd"] == pytest.approx(0.06 * priced_calls(counts), abs=1e-9)
        assert counts["cost_usd"] + counts["unsettled_usd"] <= cap
        assert (counts["unsettled_usd"] > 0.4) == (wrong != "refuses")
        run = play(tmp_path, budget_usd=5, base_url=server.url, **settings)
    assert (run.stopped_by, run.counts["accepted"]) == ("seeds", 6)
    assert run.counts["requests"] == server.requests


def test_nobody_at_the_endpoint_costs_nothing(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(UnreachableError):
            play(
                tmp_path,
                "openai/x",
                base_url="http://127.0.0.1:9/v1",
                prices={"openai/x": {"input": 1000, "output": 4000}},
                budget_usd=1.5,
                patience=0.2,
                **SMALL,
            )
    assert Store(tmp_path / "qa.duckdb").counts()["unsettled_usd"] == 0


def test_an_endpoint_that_answers_no_call_at_all_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentloop.models.limits.BACKOFF", 0.0)
    with Endpoint(misbehave=lambda *_: web.Response(status=502, text="bad gateway")) as server:
        run = play(tmp_path, "openai/x", base_url=server.url, seeds=SEEDS[:2])
    assert (run.stopped_by, run.exit_code, run.counts["failed"]) == ("endpoint", 3, 2)


def test_a_dry_run_needs_no_draft_for_prompts_that_compute_with_it(tmp_path: Path) -> None:
    from agentloop.runner import dry_run_of

    recipe = tiny(tmp_path)
    (tmp_path / "prompts" / "critique.md").write_text(
        "CRITIQUE {{ '%.2f' | format(candidate.answer) }}"
    )
    expected = dry_run_of(recipe, seeds=SEEDS[:1], store=tmp_path / "s", model=priced())
    assert "once there is a draft" in expected.told()


def test_time_is_up(tmp_path: Path) -> None:
    with serving(agent()) as server:
        server.latency = 0.05
        run = play(
            tmp_path, "openai/x", base_url=server.url, seeds=SEEDS, items=160, max_seconds=0.3
        )
    assert (run.stopped_by, run.exit_code) == ("seconds", 3)
    assert 0 < sum(verdicts(run).values()) < 160


@pytest.mark.parametrize("as_json", [False, True])
def test_a_dry_run_shows_the_plan_and_touches_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    seeds, store = write_seeds(tmp_path, 3), tmp_path / "s.duckdb"
    with Endpoint() as server:
        line = ["run", str(write_graph(tmp_path)), "--seeds", str(seeds), "--store", str(store)]
        line += ["--model", "openai/x", "--base-url", server.url, "--dry-run", "--accept", "5"]
        assert run_cli([*line, "--json"] if as_json else line) == 0
        assert server.bodies == []
    out = capsys.readouterr().out
    assert not store.exists()
    if as_json:
        data = json.loads(out)
        assert (data["seeds"], data["items"], data["calls"]) == (3, [5, 12], [10, 72])
        assert data["cost_usd"] is None
        first = {name: turns[-1]["content"] for name, turns in data["first_prompts"].items()}
        assert list(first) == ["generate", "critique", "revise"]
        assert first["generate"].startswith("GENERATE The river Elbe")
        assert first["critique"].startswith("CRITIQUE <answer> | right | reference")
        assert first["revise"] == "REVISE <answer> | right: <reason> |"
    else:
        assert "5 to 12 items, 10 to 72 calls" in out
        assert "cost unknown" in out
        assert "GENERATE The river Elbe" in out


def test_a_dry_run_knows_the_cost(tmp_path: Path) -> None:
    from agentloop.runner import dry_run_of

    expected = dry_run_of(
        tiny(tmp_path), seeds=SEEDS[:4], store=tmp_path / "s", model=priced(), **SMALL
    )
    assert expected.cost_usd
    low, high = expected.cost_usd
    actual = play(tmp_path, priced(), seeds=SEEDS[:4], **SMALL).counts["cost_usd"]
    assert low <= actual <= high


@pytest.mark.parametrize(
    ("option", "says"),
    [
        (["--budget-usd", "-1"], "`budget_usd`"),
        (["--budget-usd", "nan"], "`budget_usd`"),
        (["--max-seconds", "0"], "`max_seconds`"),
        (["--patience", "-1"], "`patience`"),
        (["--concurrency", "0"], "`concurrency`"),
        (["--accept", "0"], "`accept`"),
        (["--retry", "rejected"], "`retry"),
        (["--fork", "mine"], "a name of its own"),
        (["--budget-usd", "1"], "price of `openai/x`"),
    ],
)
def test_a_wrong_cap_is_one_line_before_any_call(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: list[str], says: str
) -> None:
    store = tmp_path / "s.duckdb"
    with Endpoint() as server:
        line = ["run", str(write_graph(tmp_path)), "--seeds", str(write_seeds(tmp_path, 2))]
        line += ["--store", str(store), "--model", "openai/x", "--base-url", server.url]
        assert run_cli([*line, *option]) == 2
        assert server.bodies == []
    (error,) = capsys.readouterr().err.splitlines()
    assert says in error
    assert not store.exists()


def test_limits_of_the_settings_reach_the_endpoint(tmp_path: Path) -> None:
    model = agent()
    limits = {"scripted/model": {"concurrency": 2, "requests_per_minute": 6000}}
    run = play(tmp_path, model, seeds=SEEDS[:6], concurrency=None, limits=limits)
    assert run.counts["accepted"] == 6
    with pytest.raises(SettingsError, match="did you mean `requests_per_minute`"):
        play(tmp_path, model, limits={"x": {"request_per_minute": 1}})


def test_an_own_limit_of_tokens_is_what_is_set_aside(tmp_path: Path) -> None:
    messages = ({"role": "user", "content": "x"},)
    asked = Request(messages=messages, max_tokens=10)
    own = Request(messages=messages, max_tokens=10, extra={"max_completion_tokens": 1000, "n": 2})
    assert worst_case(own, PRICE) - worst_case(asked, PRICE) == pytest.approx(1990 * 4000 / 1e6)


def test_time_is_up_for_the_last_items_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "GRACE", 0.1)
    with Endpoint(misbehave=lambda body, number: HANG) as server:
        run = play(tmp_path, "openai/x", base_url=server.url, seeds=SEEDS[:2], concurrency=4,
                   max_seconds=0.1)  # fmt: skip
    assert (run.stopped_by, run.exit_code) == ("seconds", 3)
    assert sum(verdicts(run).values()) == 0


def test_the_target_reached_while_time_runs_out_is_the_target_reached(tmp_path: Path) -> None:
    with serving(agent()) as server:
        server.latency = 0.3
        run = play(
            tmp_path, "openai/x", base_url=server.url, seeds=SEEDS[:3], accept=1, max_seconds=0.2
        )
    assert (run.stopped_by, run.exit_code, run.counts["accepted"]) == ("accept", 0, 1)
