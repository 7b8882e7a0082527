"""What is done once for a run is not done again for each item: work is counted, not timed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import duckdb
import jinja2
import pydantic
import pytest
from langgraph.graph import StateGraph
from langgraph.pregel._loop import PregelLoop

import agentloop as al
from agentloop.records import digest
from agentloop.store import files
from tests.builders import SEEDS, agent, draft, marks, serving, tiny

ITEMS = 200
FOLDS = 8  # of what 200 items write, at most: some by time, the last at the end

Count = Counter[str]


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Count:
    """Count calls of the libraries' own functions while they do what they do."""
    found: Count = Counter()

    def watch(owner: Any, name: str, called: str) -> None:
        real: Callable[..., Any] = getattr(owner, name)

        def counted(*arguments: Any, **named: Any) -> Any:
            found[called] += 1
            return real(*arguments, **named)

        monkeypatch.setattr(owner, name, counted)

    def by_class(name: str, called: str) -> None:
        real = getattr(pydantic.BaseModel, name).__func__

        def counted(kind: Any, *arguments: Any, **named: Any) -> Any:
            found[called] += 1
            return real(kind, *arguments, **named)

        monkeypatch.setattr(pydantic.BaseModel, name, classmethod(counted))

    watch(StateGraph, "compile", "graphs compiled")
    watch(PregelLoop, "tick", "steps")
    watch(jinja2.Environment, "compile", "templates compiled")
    by_class("model_json_schema", "schemas built")
    watch(aiohttp.ClientSession, "__init__", "sessions opened")
    watch(files, "_insert_lines", "transactions")
    watch(files.Appender, "append", "appends")
    return found


def passage(number: int) -> dict[str, str]:
    return {"passage": f"{SEEDS[0]['passage']} It is told for the {number}th time."}


def spun(prompt: str) -> str:
    """Return words that are alike for no two prompts."""
    return " ".join(digest(f"{prompt} {n}", 3) for n in range(20))


def ran(folder: Path, items: int) -> al.Run:
    """Run so many items of three calls each against a loopback endpoint."""
    folder.mkdir()

    def unfinished(candidate: dict[str, str], seed: dict[str, str]) -> al.Finding:
        return al.fail("a draft") if candidate["answer"].startswith("draft") else al.passed()

    def drafted(prompt: str) -> str:
        return draft(f"draft {spun(prompt)}", spun(prompt + "?"))

    def revised(prompt: str) -> str:
        return draft(spun(prompt), spun(prompt + "?"))

    model = agent(generate=drafted, revise=revised, critique=marks())
    recipe = tiny(folder, checks=(al.Check("finished", unfinished),), max_rounds=1)
    with serving(model) as server:
        return al.run(
            recipe,
            seeds=[passage(n) for n in range(items)],
            store=folder / "qa.duckdb",
            model="openai/x",
            base_url=server.url,
            concurrency=16,
            novelty="near",
        )


def test_200_items_cost_no_more_of_what_is_done_once_than_20(tmp_path: Path, count: Count) -> None:
    assert ran(tmp_path / "few", ITEMS // 10).counts["calls"] == 3 * ITEMS // 10
    few = count.copy()
    count.clear()
    assert ran(tmp_path / "many", ITEMS).counts["calls"] == 3 * ITEMS
    many = count.copy()
    for work in ("graphs compiled", "templates compiled", "schemas built", "sessions opened"):
        assert 0 < many[work] <= few[work], work
    assert many["sessions opened"] == 1
    assert 0 < many["transactions"] <= FOLDS
    assert many["appends"] <= 5 * ITEMS + 10  # begun, three calls, settled
    assert many["steps"] <= 3 * ITEMS  # the seed goes in, the nodes, nothing is left


def test_a_journal_is_opened_once_between_folds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: Count = Counter()
    real = os.open

    def counted(path: Any, *more: Any, **named: Any) -> int:
        opened[Path(os.fsdecode(path)).name] += 1
        return real(path, *more, **named)

    monkeypatch.setattr(os, "open", counted)
    assert ran(tmp_path / "run", ITEMS).counts["accepted"] == ITEMS
    assert sum(n for name, n in opened.items() if "journal" in name) <= 2 * FOLDS


def test_the_store_is_connected_to_a_few_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected: Count = Counter()
    real = duckdb.connect

    def counted(*arguments: Any, **named: Any) -> Any:
        connected["times"] += 1
        return real(*arguments, **named)

    monkeypatch.setattr(duckdb, "connect", counted)
    assert ran(tmp_path / "run", ITEMS).counts["accepted"] == ITEMS
    assert connected["times"] <= 2 * FOLDS
