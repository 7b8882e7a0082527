"""What every engine keeps, whichever it is: the contract in `agentloop/engines/__init__.py`."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import agentloop as al
from agentloop.errors import AccessError, StoreError, UnreachableError
from agentloop.records import Event
from agentloop.store import Store
from agentloop.store.files import connect
from agentloop.store.writer import Writer
from tests.builders import agent, calls_of, per_seed, said_by, serving, write_graph
from tests.endpoint import Endpoint
from tests.engines import acting
from tests.engines.acting import SMALL, Gathering, cast, items_of, recipe_in, seeds, silent_after
from tests.models.asking import nobody

ENGINES: dict[str, dict[str, Any]] = {
    "inside": {"workers": 1},
    "processes": {"workers": 2},
    "ray": {"workers": 2, "engine": "ray"},
}
WIDE = 6


@pytest.fixture(params=["inside", "processes", pytest.param("ray", marks=pytest.mark.ray)])
def engine(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The settings that choose an engine."""
    if request.param == "ray":
        request.getfixturevalue("ray_address")
    return ENGINES[request.param]


def play(recipe: Path, url: str, engine: dict[str, Any], **settings: Any) -> al.Run:
    given = {
        "store": recipe.parent / "qa.duckdb",
        "model": "openai/x",
        "base_url": url,
        "client": "direct",
        "concurrency": WIDE,
    }
    return al.run(str(recipe), **{**given, **engine, **settings})


class TestVerdicts:
    def test_items_are_walked_as_in_one_process_and_a_fork_pays_nothing(
        self, tmp_path: Path, engine: dict[str, Any]
    ) -> None:
        """Every way to end, with audits and canaries; nothing is asked twice, nor settled twice."""
        recipe, told = recipe_in(tmp_path), list[Event]()
        settings: dict[str, Any] = {"seeds": seeds(20), "audit": "all", "canaries": "all"}
        with serving(cast()) as server:
            here = play(recipe, server.url, {}, store=tmp_path / "here.duckdb", **settings)
            alone = calls_of(server)
            run = play(recipe, server.url, engine, progress=told.append, **settings)
            asked = Counter(calls_of(server)) - Counter(alone)
            forked = play(recipe, server.url, engine, fork="again", **settings)
            assert len(calls_of(server)) == len(alone) + asked.total()
        assert items_of(run) == items_of(forked) == items_of(here)
        assert asked == Counter(alone)
        assert (run.counts["calls"], forked.counts["requests"]) == (len(alone), 0)
        settled = [event.data["item"] for event in told if event.kind == "settled"]
        assert sorted(settled) == sorted(items_of(here))
        kinds = {(row["verdict"], row["reason"]) for row in run.items("all")}
        assert kinds == {
            ("accepted", None),
            ("rejected", "below_threshold"),
            ("failed", "malformed"),
            ("failed", "error"),
            ("ungradable", "judge_unreadable"),
        }
        assert self.calls_in(run) == asked.total()
        assert evidence(run) == evidence(here) == evidence(forked) == (16, 13)

    def calls_in(self, run: al.Run) -> int:
        with connect(run.store, write=False) as connection:
            ((rows, distinct),) = connection.execute(
                "SELECT count(*), count(DISTINCT (item, key)) FROM calls "
                "WHERE run = ? AND answered",
                [run.name],
            ).fetchall()
        assert rows == distinct
        return int(rows)

    def test_a_bug_in_a_check_costs_its_item_and_says_what_it_was(
        self, tmp_path: Path, engine: dict[str, Any]
    ) -> None:
        with serving(cast(generate=per_seed)) as server:
            run = play(recipe_in(tmp_path), server.url, engine, seeds=seeds(15)[12:])
        rows = {acting.number(row["seed"]["passage"]): row for row in run.items("all")}
        assert (rows[13]["verdict"], rows[13]["reason"]) == ("failed", "error")
        assert rows[13]["detail"] == "RuntimeError: a bug of one's own"
        assert [rows[n]["verdict"] for n in (12, 14)] == ["accepted", "accepted"]


def evidence(run: al.Run) -> tuple[int, int]:
    """Return how many audits and canaries there are."""
    counts = Store(run.store).counts(run.name)
    return counts["audits"], counts["canaries"]


class TestTrouble:
    def test_a_wrong_key_ends_the_run(self, tmp_path: Path, engine: dict[str, Any]) -> None:
        refusing = Endpoint(misbehave=lambda *_: web.json_response({}, status=401))
        with refusing as server, pytest.raises(AccessError, match="401"):
            play(recipe_in(tmp_path), server.url, engine, seeds=seeds(3))
        assert not (tmp_path / "qa.duckdb").exists()

    def test_an_endpoint_where_nobody_is_ends_the_run(
        self, tmp_path: Path, engine: dict[str, Any]
    ) -> None:
        told: list[Event] = []
        with nobody() as url, pytest.raises(UnreachableError, match="nobody answers") as caught:
            play(recipe_in(tmp_path), url, engine, seeds=seeds(9), patience=0, progress=told.append)
        assert caught.value.exit_code == 3
        assert not (tmp_path / "qa.duckdb").exists()
        assert told[-1].data == {"stopped_by": "endpoint"}

    def test_what_is_learnt_of_an_endpoint_is_said_once(
        self, tmp_path: Path, engine: dict[str, Any]
    ) -> None:
        def refuse(body: dict[str, Any], number: int) -> web.Response:
            asked = body.get("response_format", {}).get("type")
            if asked == "json_schema":
                return web.json_response({"error": {"message": "no schemas"}}, status=400)
            return web.json_response(said_by(model, body))

        model, told = agent(), list[Event]()
        with Endpoint(misbehave=refuse) as server:
            recipe = write_graph(tmp_path)
            run = play(recipe, server.url, engine, seeds=seeds(12), progress=told.append)
        assert run.counts["accepted"] == 12
        notes = [event.data["text"] for event in told if event.kind == "note"]
        assert [n for n in notes if "json_schema" in n] == [
            "`openai/x` refuses `json_schema`: asking by `json_object` from here on"
        ]

    def test_requests_that_a_limit_refuses_are_counted(
        self, tmp_path: Path, engine: dict[str, Any]
    ) -> None:
        def refuse(body: dict[str, Any], number: int) -> web.Response:
            if next(left, None) is not None:
                return web.json_response({"error": {"message": "slow down"}}, status=429)
            return web.json_response(said_by(model, body))

        model, told, left = agent(), list[Event](), iter(range(3))
        with Endpoint(misbehave=refuse) as server:
            recipe = write_graph(tmp_path)
            run = play(recipe, server.url, engine, seeds=seeds(8), progress=told.append)
        counts = [event for event in told if event.kind == "counts"][-1].data["counts"]
        assert counts["refusals"] == run.counts["requests"] - run.counts["calls"] == 3
        assert counts["calls"] == run.counts["calls"] == 16
        assert counts["scores"] == [1.0] * 8
        assert counts["calls_per_second"] > 0

    def test_a_run_that_is_cut_off_writes_down_what_it_sent_in_vain(
        self, tmp_path: Path, engine: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Time is up while the endpoint says nothing more: nothing is lost, and it goes on later."""
        monkeypatch.setattr("agentloop.crew.GRACE", 0.0)

        model, recipe = agent(), write_graph(tmp_path)
        with Endpoint(misbehave=silent_after(7, model)) as server:
            settings: dict[str, Any] = {"seeds": seeds(12), "max_seconds": 3.0}
            run = play(recipe, server.url, engine, **settings)
            assert (run.stopped_by, run.exit_code) == ("seconds", 3)
            assert run.counts["requests"] == server.requests == 7 + WIDE
            assert run.counts["calls"] == 7
            server.misbehave = lambda body, _: web.json_response(said_by(model, body))
            run = play(recipe, server.url, engine, seeds=seeds(12))
            assert run.counts["requests"] == server.requests == 24 + WIDE
        assert (run.counts["accepted"], run.counts["calls"]) == (12, 24)

    def test_a_journal_that_cannot_be_written_ends_the_run(
        self, tmp_path: Path, engine: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        append, left = Writer.append, iter(range(9))

        def full(self: Writer, *lines: Any) -> None:
            if next(left, None) is None:
                raise StoreError("the disk is full")
            append(self, *lines)

        monkeypatch.setattr(Writer, "append", full)
        with serving(agent()) as server, pytest.raises(StoreError, match="disk is full"):
            play(write_graph(tmp_path), server.url, engine, seeds=seeds(40))


class TestLimits:
    def test_the_budget_is_kept_to_the_cent(self, tmp_path: Path, engine: dict[str, Any]) -> None:
        """Half of what all items cost, then enough: not a cent is spent twice or stays set aside."""
        recipe = write_graph(tmp_path)
        settings: dict[str, Any] = {
            "seeds": seeds(16),
            "prices": {"openai/x": {"input": 1000, "output": 4000}},
            **SMALL,
        }
        with serving(agent()) as server:
            free = play(recipe, server.url, engine, store=tmp_path / "free.duckdb", **settings)
            price = free.counts["cost_usd"]
            run = play(recipe, server.url, engine, budget_usd=price / 2, **settings)
            assert (run.stopped_by, run.exit_code) == ("budget", 3)
            assert 0 < run.counts["cost_usd"] <= price / 2
            assert 0 < run.counts["accepted"] < 16
            assert run.counts["unsettled_usd"] == 0
            run = play(recipe, server.url, engine, budget_usd=3 * price, **settings)
            assert server.requests == 2 * free.counts["calls"]
        assert (run.stopped_by, run.counts["accepted"]) == ("seeds", 16)
        assert run.counts["cost_usd"] == pytest.approx(price, abs=1e-9)
        assert run.counts["unsettled_usd"] == 0

    def test_requests_a_minute_are_everybodys(self, tmp_path: Path, engine: dict[str, Any]) -> None:
        """A bucket of one second's worth, then evenly; workers with one each would be faster."""
        per_second, at = 20, list[float]()

        def note(body: dict[str, Any], number: int) -> web.Response:
            at.append(time.monotonic())
            return web.json_response(said_by(model, body))

        model = agent()
        with Endpoint(misbehave=note) as server:
            limits = {"openai/x": {"requests_per_minute": 60 * per_second}}
            recipe = write_graph(tmp_path)
            run = play(recipe, server.url, engine, seeds=seeds(30), limits=limits)
        assert run.counts["accepted"] == 30
        assert len(at) == run.counts["requests"] == 60
        assert at[-1] - at[0] >= (60 - per_second) / per_second - 0.2

    @pytest.mark.parametrize("width", [5, 12], ids=["one call an item", "items run ahead"])
    def test_the_width_is_divided_and_never_passed(
        self, tmp_path: Path, engine: dict[str, Any], width: int
    ) -> None:
        with Gathering(agent(), width) as server:
            recipe = write_graph(tmp_path)
            run = play(recipe, server.url, engine, seeds=seeds(30), concurrency=width)
            assert server.peak == width
        assert run.counts["accepted"] == 30


def test_a_target_is_reached_to_the_item(tmp_path: Path, engine: dict[str, Any]) -> None:
    with serving(cast()) as server:
        run = play(recipe_in(tmp_path), server.url, engine, seeds=seeds(40), accept=9)
    assert (run.counts["accepted"], run.stopped_by) == (9, "accept")
