"""The journal of a run: what was paid is answered again, as it was."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentloop.errors import TransientError
from agentloop.models.base import Call, CallKey, Reply
from agentloop.records import Usage
from agentloop.store import Store
from agentloop.store.files import connect, encoded
from agentloop.store.journal import Page, Pages, RunJournal
from agentloop.store.writer import Writer

T = TypeVar("T")
NUMBERS = itertools.count()
KEY = CallKey("generator")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
COUNT = st.integers(0, 2**40)
REPLIES = st.builds(
    Reply,
    text=TEXT,
    finish_reason=st.sampled_from(["stop", "length", "content_filter", "odd\x1b[1m"]),
    usage=st.builds(
        Usage,
        prompt_tokens=COUNT,
        completion_tokens=COUNT,
        cached_tokens=COUNT,
        reasoning_tokens=COUNT,
    ),
    cost_usd=st.none() | st.floats(0, 1e6),
    logprobs=st.none()
    | st.lists(st.dictionaries(TEXT, st.floats(-100, 0), min_size=1), min_size=1, max_size=3).map(
        tuple
    ),
    tries=st.integers(1, 50),
    latency=st.just(0.25),
    raw=st.dictionaries(TEXT, TEXT, max_size=3),
)


def done(call: Coroutine[Any, Any, T]) -> T:
    """Await what never waits in this process."""
    return asyncio.run(call)


def journal(writer: Writer, run: str = "a") -> RunJournal:
    made = RunJournal(writer, run)
    made.hold(
        ("runs", {"run": run, "recipe": "r", "time": 1.0, "identity": {}, "versions": {}}),
    )
    return made


def call(item: str = "i", key: CallKey = KEY, digest: str = "d") -> Call:
    return Call(item, key, digest, "m")


def item(made: RunJournal, name: str = "i") -> None:
    made.write(("items", {"run": made.run, "item": name, "seed_id": "s", "seed": {}, "inputs": {}}))


def reopened(path: Path, run: str = "a", ancestors: tuple[str, ...] = ()) -> RunJournal:
    """Return the journal as the next session of the run finds it."""
    with Writer(path) as writer:
        made = RunJournal(writer, run)
        with writer.reading() as connection:
            made.load(connection, ["i", "j"], ancestors)
    return made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("journal") / "s.duckdb"


@settings(max_examples=15)
@given(
    reply=REPLIES, key=st.builds(CallKey, st.sampled_from(["critic", "reviser"]), st.integers(0, 9))
)
def test_a_reply_comes_back_exactly_as_it_was(shared: Path, reply: Reply, key: CallKey) -> None:
    run = f"run {next(NUMBERS)}"
    with Writer(shared) as writer:
        done(journal(writer, run).record(call("i", key), reply))
    assert reopened(shared, run).recall(call("i", key)) == reply


@given(reply=REPLIES)
def test_a_row_that_was_written_answers_in_another_process(reply: Reply) -> None:
    """As a worker writes it, and the next one takes it up."""
    written, again = Sent("a"), Sent("a")
    done(written.record(call(), reply))
    again.remember("i", None, written.lines)
    assert again.recall(call()) == dataclasses.replace(reply, latency=round(reply.latency, 4))
    again.forget("i")
    assert again.recall(call()) is None


class Sent(Pages):
    """Pages as a worker sends them."""

    def __init__(self, run: str):
        super().__init__(run)
        self.lines: list[bytes] = []

    async def _keep(self, page: Page) -> None:
        self._note(page)

    def _note(self, page: Page) -> None:
        self.lines.append(encoded([page.line]))


def test_only_the_same_item_key_and_digest_are_answered(tmp_path: Path) -> None:
    path = tmp_path / "s.duckdb"
    with Writer(path) as writer:
        done(journal(writer).record(call(), Reply("hello")))
    assert reopened(path).recall(call()) == Reply("hello")
    assert reopened(path).recall(call("i", KEY, "e")) is None
    assert reopened(path).recall(call("j", KEY, "d")) is None
    assert reopened(path).recall(call("i", KEY._replace(repair=1), "d")) is None
    assert reopened(path, "b").recall(call()) is None


def test_two_calls_of_an_item_never_share_a_key(tmp_path: Path) -> None:
    with Writer(tmp_path / "s.duckdb") as writer:
        made = journal(writer)
        made.recall(call())
        made.recall(call("j", KEY, "d"))
        with pytest.raises(AssertionError, match="share the key"):
            made.recall(call("i", KEY, "e"))


def test_an_ancestors_reply_is_noted_once_and_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "s.duckdb"
    with Writer(path) as writer:
        done(journal(writer).record(call(), Reply("hello", cost_usd=1.0, tries=2)))
        journal(writer, "b")._release()
    for _ in range(2):
        with Writer(path) as writer:
            fork = RunJournal(writer, "b")
            with writer.reading() as connection:
                fork.load(connection, ["i"], ["a"])
            assert fork.recall(call()) == Reply("hello", cost_usd=1.0, tries=2)
    with connect(path, write=False) as connection:
        rows = connection.execute("SELECT tries, raw FROM calls WHERE run = 'b'").fetchall()
    assert rows == [(0, '{"from_run":"a"}')]
    counts = Store(path).counts("b")
    assert (counts["calls"], counts["requests"], counts["cost_usd"]) == (0, 0, 0)


def test_what_a_call_may_cost_is_safe_before_it_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "s.duckdb"
    with Writer(path) as writer:
        made = journal(writer)
        keys = (KEY, CallKey("critic"))
        answered, failed = (done(made.announce(call(key=key), 0.5)) for key in keys)
        done(made.announce(call(key=CallKey("reviser")), 0.25))
        assert not made.silent
        done(made.record(call(), Reply("hello", cost_usd=0.1), answered))
        busy = TransientError("busy")
        done(made.record_failure(call(key=CallKey("critic")), busy, 3, failed))
    counts = Store(path).counts("a")
    assert (counts["cost_usd"], counts["unsettled_usd"]) == (0.1, 0.25)


def test_a_reply_that_does_not_say_its_cost_is_counted_at_what_was_set_aside(
    tmp_path: Path,
) -> None:
    path = tmp_path / "s.duckdb"
    with Writer(path) as writer:
        made = journal(writer)
        done(made.record(call(), Reply("hello"), done(made.announce(call(), 0.5))))
        row = done(made.announce(call("j"), 0.5))
        done(made.record(call("j"), Reply("hello", cost_usd=0.25), row))
    counts = Store(path).counts("a")
    assert (counts["calls"], counts["cost_usd"], counts["unsettled_usd"]) == (2, 0.25, 0.5)
    with Writer(path) as writer:  # without a budget nothing was set aside: nobody knows
        done(RunJournal(writer, "a").record(call("k"), Reply("hello")))
    assert Store(path).counts("a")["cost_usd"] is None


def test_nothing_is_written_before_the_first_reply(tmp_path: Path) -> None:
    path = tmp_path / "s.duckdb"
    with Writer(path) as writer:
        made = journal(writer)
        item(made)
        done(made.record_failure(call(), TransientError("busy"), 3))
        writer.flush()
        assert Store(path).runs() == []
        done(made.record(call("i", KEY._replace(repair=1)), Reply("hello")))
    store = Store(path)
    assert store.runs() == ["a"]
    counts = store.counts()
    assert (counts["calls"], counts["requests"]) == (1, 4)


def test_a_failed_call_counts_its_requests_and_answers_nothing(tmp_path: Path) -> None:
    path = tmp_path / "s.duckdb"
    with Writer(path) as writer:
        made = journal(writer)
        item(made)
        done(made.record(call(), Reply("hello", tries=2)))
        done(made.record_failure(call(key=CallKey("critic")), TransientError("busy\x1b[2J"), 6))
    counts = Store(path).counts()
    assert (counts["calls"], counts["requests"]) == (1, 8)
    assert reopened(path).recall(call("i", CallKey("critic"), "d")) is None
    assert "no reply: busy" in Store(path).item("i").why()


def test_an_unknown_cost_makes_the_sum_unknown(tmp_path: Path) -> None:
    path = tmp_path / "s.duckdb"
    with Writer(path) as writer:
        made = journal(writer)
        done(made.record(call(), Reply("hello", cost_usd=0.5)))
        writer.flush()
        assert Store(path).counts()["cost_usd"] == 0.5
        done(made.record(call("i", CallKey("critic")), Reply("hello")))
    assert Store(path).counts()["cost_usd"] is None
