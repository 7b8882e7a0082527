"""`agentloop status`: how a run stands, asked by another process while it runs, and afterwards."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from agentloop.cli import run_cli
from agentloop.store.files import connect
from tests.builders import SEEDS, agent, command, marks, play, said_by, write_graph, write_seeds
from tests.endpoint import Endpoint
from tests.engines.acting import silent_after

PRICED = '[prices."openai/x"]\ninput = 1000\noutput = 4000\n' + "".join(
    f"[roles.{role}]\nmax_tokens = 40\n" for role in ("generator", "critic", "reviser")
)


def ask(folder: Path, *more: str) -> str:
    """Return what `status` says in a process of its own; empty while there is no store."""
    with command("status", "s.duckdb", *more, cwd=folder) as process:
        out, err = process.communicate()
    assert process.returncode == 0 or "there is no store" in err or "no run yet" in err, err
    return out


def started(folder: Path, url: str, *more: str) -> subprocess.Popen[str]:
    (folder / "agentloop.toml").write_text(PRICED)
    recipe, seeds = write_graph(folder), write_seeds(folder, 30)
    line = ["run", str(recipe), "--seeds", str(seeds), "--store", "s.duckdb", "--model", "openai/x"]
    line += ["--base-url", url, "--client", "direct", "--budget-usd", "90", "--on-collapse", "warn"]
    return command(*line, "--concurrency", "3", *more, cwd=folder)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_another_process_sees_a_run_that_is_held(tmp_path: Path, workers: str) -> None:
    """Eight calls are answered, three hang: what was folded says so, and how fresh it is."""
    with (
        Endpoint(misbehave=silent_after(8, agent())) as server,
        started(tmp_path, server.url, "--items", "30", "--workers", workers) as process,
    ):
        server.wait_for(11)
        told: dict[str, Any] = {"calls": 0}
        while told["calls"] < 8:
            told = json.loads(ask(tmp_path, "--json") or '{"calls": 0}')
        said = ask(tmp_path)
        process.kill()
        process.communicate()
    now = told["now"]
    settled = sum(told[name] for name in ("accepted", "rejected", "ungradable", "failed"))
    assert (now["running"], now["ended"], now["on_the_way"]) == (True, False, 3)
    assert (now["target"], now["target_kind"], now["budget_usd"]) == (30, "items", 90)
    assert (told["calls"], len(now["scores"])) == (8, settled)
    assert 0 <= now["age_seconds"] < 60
    assert now["calls_per_second"] > 0
    for part in (
        r"· running, stored until \d+ s ago$",
        rf"^  {settled} of 30 items",
        rf"scores {'█' * settled} mean 1.00 of the last {settled} items with a score",
        r"attempts · 3 items in flight$",
        r"calls/s in the last minute · 0 refused by limits \(429\) · 0 requests in vain$",
        r"USD of 90 USD \(\d%\) · ",
        r"^  variety ● none yet$",
    ):
        assert re.search(part, said, re.MULTILINE), part


@pytest.mark.parametrize("workers", ["1", "2"])
def test_requests_that_limits_refused_are_told_apart(tmp_path: Path, workers: str) -> None:
    model, statuses = agent(), iter([200, 200, 429, 200, 429, 200, 500])

    def answer(body: dict[str, Any], number: int) -> web.Response:
        status = next(statuses, 200)
        if status != 200:
            return web.Response(status=status)
        return web.json_response(said_by(model, body))

    with (
        Endpoint(misbehave=answer) as server,
        started(tmp_path, server.url, "--items", "4", "--workers", workers) as process,
    ):
        process.communicate()
    told = json.loads(ask(tmp_path, "--json"))
    assert told["requests"] - told["calls"] >= 3  # more where a busy machine gave one up
    assert told["now"]["refused"] == 2


def test_what_a_killed_run_left_is_begun_and_without_a_verdict(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        Endpoint(misbehave=silent_after(8, agent())) as server,
        started(tmp_path, server.url) as process,
    ):
        server.wait_for(11)
        process.kill()
        process.communicate()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("agentloop.store.now.SILENT", 0.0)
    assert run_cli(["status", "s.duckdb"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"· open, and nothing was stored for \d+ s: the same command goes on\n", said)
    assert "3 items begun and without a verdict" in said
    assert "calls/s" not in said


def test_a_finished_run_says_what_ended_it(tmp_path: Path, capsys: Any) -> None:
    run = play(tmp_path, agent(critique=marks("no")), seeds=SEEDS[:3], max_rounds=0)
    assert run_cli(["status", str(run.store)]) == 0
    said = capsys.readouterr().out
    assert re.match(r"run tiny · recipe tiny · stopped by seeds, \d+ s ago\n", said)
    assert "scores ▁▁▁ mean 0.00 of the last 3 items with a score" in said
    assert "3 below_threshold" in said
    assert "variety" not in said
    assert "in flight" not in said
    assert "\x1b" not in said


@pytest.mark.parametrize(
    ("age", "said"), [(9, r"\d+ s"), (330, "5 min"), (9000, "2 h"), (400_000, "4 days")]
)
def test_how_long_ago_it_was_is_told_in_one_unit(
    age: int, said: str, tmp_path: Path, capsys: Any
) -> None:
    store = play(tmp_path, agent()).store
    with connect(store, write=True) as connection:
        connection.execute("UPDATE sessions SET time = time - ?", [age])
        connection.execute("UPDATE calls SET time = 0")
    assert run_cli(["status", str(store)]) == 0
    assert re.search(f"stopped by seeds, {said} ago\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("light", "whole", "said"),
    [
        ("amber", "", "variety ● amber of late · 0 of 1 batches green"),
        ("green", "red", "variety ● red as a whole · 1 of 1 batches green"),
    ],
)
def test_the_light_is_the_last_one_with_its_reason(
    light: str, whole: str, said: str, tmp_path: Path, capsys: Any
) -> None:
    store = play(tmp_path, agent(), on_collapse="warn").store
    reading = json.dumps({"reasons": ["all begin alike \x1b]0;x\x07\u202e"]})
    rows = [("1", "batch", light, reading)] + ([("2", "run", whole, reading)] if whole else [])
    with connect(store, write=True) as connection:
        for rid, view, colour, told in rows:
            connection.execute(
                "INSERT INTO readings VALUES (?, 'tiny', ?, 1, ?, ?, ?)",
                [rid, view, colour, told, int(rid)],
            )
    assert run_cli(["status", str(store)]) == 0
    out = capsys.readouterr().out
    assert f"  {said}\n" in out
    assert "all begin alike \\x1b]0;x\\x07\\u202e" in out
    assert not re.search(r"[\x00-\x08\x0b-\x1f\u202e]", out)
